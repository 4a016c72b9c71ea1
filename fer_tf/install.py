"""The pip command that adds a missing package. fer_tf is not on PyPI, so its extras are installed from a clone."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE_OF_MODULE = {"cv2": "opencv-python-headless", "sklearn": "scikit-learn", "PIL": "pillow"}


def package_of(module: str) -> str:
    """Return the name under which pip knows a module."""
    return _PACKAGE_OF_MODULE.get(module, module.replace("_", "-"))


def install_hint(extra: str, *packages: str) -> str:
    """Return the command that installs the missing packages.

    Args:
        extra: one of setup.cfg's extras.
        packages: pip's names of the packages that the caller needs; if none is given, all missing ones of the extra.

    Returns:
        In a clone, `pip install -e` of the clone with the extra; without -e, pip would not install the .keras file.
        Elsewhere, `pip install` of the packages, each with the versions that work with fer_tf.

    Example:
        >>> from fer_tf.install import install_hint
        >>> install_hint("plots", "matplotlib").startswith("pip install ")
        True
    """
    if (_ROOT / "setup.cfg").is_file() and (_ROOT / "pyproject.toml").is_file():
        folder = "." if Path.cwd() == _ROOT else str(_ROOT)
        return f"pip install -e {shlex.quote(f'{folder}[{extra}]')}"
    declared = _declared(extra)
    names = packages or [name for name in declared if not _is_installed(name)] or list(declared)
    return "pip install " + " ".join(shlex.quote(name + declared.get(name, "")) for name in names)


def _declared(extra: str) -> dict[str, str]:
    """Return the packages of an extra with their version ranges, from the installed metadata."""
    try:
        lines = importlib.metadata.requires("fer_tf") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        requirement, _, condition = line.partition(";")
        if not re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", condition):
            continue
        name, inner, versions = re.match(r"([\w.-]+)\s*(?:\[([\w,-]+)\])?\s*(.*)", requirement.strip()).groups()  # type: ignore[union-attr]
        if inner and re.sub("[-_.]+", "_", name).lower() == "fer_tf":
            for other in inner.split(","):
                found |= _declared(other)
        else:
            found[name] = versions.strip(" ()")
    return found


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
