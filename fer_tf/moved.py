"""New names of the modules of version 0.1. The old names can still be imported, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NEW_NAMES = {
    "fer_tf.labels": "fer_tf.task",
    "fer_tf.video": "fer_tf.faces",
    "fer_tf.fused": "fer_tf.model.fused",
    "fer_tf.muon": "fer_tf.training.muon",
    "fer_tf.confusions": "fer_tf.report.confusions",
    "fer_tf.plots": "fer_tf.report.plots",
    "fer_tf.document": "fer_tf.report.document",
    "fer_tf.export": "fer_tf.deploy.conversion",
    "fer_tf.quantization": "fer_tf.deploy.quantization",
    "fer_tf.tflite_format": "fer_tf.deploy.tflite_format",
    "fer_tf.release": "fer_tf.deploy.release",
    "fer_tf.shipping": "fer_tf.deploy.bundle",
    "fer_tf.data.fer2013": "fer_tf.data.loading",
    "fer_tf.data.pipeline": "fer_tf.data.tf_pipeline",
    "fer_tf.data.in_step": "fer_tf.data.jax_pipeline",
}


class _Finder:
    """Finds and loads the new module under the old name; importlib.abc's base classes would double the import time."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _NEW_NAMES else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = _NEW_NAMES[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec; the module was already executed under its new name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make Python look here for modules of fer_tf that it does not find in the package's folder."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
