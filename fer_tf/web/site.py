"""Puts the page together: our files, the parts that are not ours, and the model with what the page says of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_tf.errors import InputError
from fer_tf.inference.litert import LiteRTPredictor, read_tflite
from fer_tf.web import parts

_PAGE = Path(__file__).parent / "page"
_VERSION = b"@VERSION@"  # in the service worker: another page must not be answered from an old cache


def build(folder: str | os.PathLike[str], model: str | os.PathLike[str]) -> Path:
    """Write the page into a new folder.

    Args:
        folder: to write; it must not exist, or be empty.
        model: a .tflite that fer_tf wrote.

    Returns:
        The folder.

    Raises:
        InputError: if the folder holds something, the model is none, or the parts cannot be had.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists already and is no empty folder: choose another, or remove it")
    model = Path(model)
    if model.suffix.lower() != ".tflite":
        raise InputError(f"{model} is no .tflite file: the browser runs LiteRT; write one by fer-tf export_tflite")
    content = read_tflite(model)
    metadata = LiteRTPredictor(content, name=str(model), num_threads=1).metadata
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir())} | parts.read_parts()
    files["model.tflite"] = content
    files["model.json"] = json.dumps(describe(metadata), indent=2).encode()
    files["LICENSES.txt"] = "".join(f"{name}: {terms}\n" for name, terms in parts.LICENCES.items()).encode()
    digest = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in sorted(files))).hexdigest()
    files["service-worker.js"] = files["service-worker.js"].replace(_VERSION, digest[:16].encode())
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".web-", dir=folder.parent))
    try:
        for name, data in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)
        temporary.chmod(0o755)  # mkdtemp's folder is closed to the user under whom a web server runs
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def describe(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs to know of a model: its metadata without what only Python reads."""
    sets = metadata.get("prediction_sets") or {}
    return {
        "file": "model.tflite",
        "class_names": list(metadata["class_names"]),
        "channels": 3 if metadata.get("input") == "rgb" else 1,
        "thresholds": dict(sets.get("thresholds") or {}),
        "license": str(metadata.get("license") or ""),
        "synthetic": bool(metadata.get("synthetic")),
    }
