"""Finds the parts of the page that are not ours: LiteRT.js with its WASM, and the BlazeFace models."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fer_tf.errors import InputError

FOLDER = Path(__file__).parent
_LOCK = FOLDER / "package-lock.json"
_LITERT, _FACES = "@litertjs/core", "@mediapipe/face_detection"
LICENCES = {
    "LiteRT.js (npm: @litertjs/core)": "Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0), Google",
    "BlazeFace, full and short range (npm: @mediapipe/face_detection)": "the same, Google",
}
# Place in the page -> place in node_modules, SHA-256. The WASM for browsers with relaxed SIMD, and that for the others.
PARTS = {
    "litert/index.js": (f"{_LITERT}/dist/index.js", "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3"),
    "litert/wasm-utils.js": (
        "@litertjs/wasm-utils/dist/index.js",
        "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
    ),
    "litert/wasm/litert_wasm_internal.js": (
        f"{_LITERT}/wasm/litert_wasm_internal.js",
        "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
    ),
    "litert/wasm/litert_wasm_internal.wasm": (
        f"{_LITERT}/wasm/litert_wasm_internal.wasm",
        "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
    ),
    "litert/wasm/litert_wasm_compat_internal.js": (
        f"{_LITERT}/wasm/litert_wasm_compat_internal.js",
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
    ),
    "litert/wasm/litert_wasm_compat_internal.wasm": (
        f"{_LITERT}/wasm/litert_wasm_compat_internal.wasm",
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
    ),
    "faces/full_range.tflite": (
        f"{_FACES}/face_detection_full_range_sparse.tflite",
        "671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce",
    ),
    "faces/short_range.tflite": (
        f"{_FACES}/face_detection_short_range.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    ),
}


def read_parts() -> dict[str, bytes]:
    """Return the parts by their place in the page.

    They come from the installed package `fer_tf_web`, else from a cache folder that `npm ci` fills once.

    Raises:
        InputError: if neither the package nor npm is there, npm fails, or a part is not the one that is pinned.
    """
    modules = _find_modules()
    parts = {}
    for place, (source, digest) in PARTS.items():
        path = modules / source
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise InputError(f"{path} is not the file that {_LOCK.name} pins: remove {modules.parent}, and try again")
        parts[place] = content
    # Browsers resolve no npm names without an import map.
    name = b'"@litertjs/wasm-utils"'
    parts["litert/index.js"] = parts["litert/index.js"].replace(name, b'"./wasm-utils.js"')
    return parts


def _find_modules() -> Path:
    """Return the folder node_modules that holds the parts."""
    spec = importlib.util.find_spec("fer_tf_web")
    if spec is not None and spec.origin:
        return Path(spec.origin).parent / "node_modules"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fer_tf"
    kept = cache / f"web-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]}"
    if not kept.is_dir():
        install(kept)
    return kept / "node_modules"


def install(folder: Path) -> None:
    """Install the pinned npm packages into a new folder.

    Raises:
        InputError: if npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise InputError(
            "the page needs LiteRT.js: install npm (Debian: apt install npm), or the wheel fer_tf_web (docs/web.md)"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for name in ("package.json", _LOCK.name):
            shutil.copy(FOLDER / name, temporary)
        command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
            raise InputError(f"npm ci failed ({lines[0].strip()}): check the network, and try again")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():  # another process was faster otherwise
                raise
        Path(temporary).mkdir(exist_ok=True)  # TemporaryDirectory removes it
