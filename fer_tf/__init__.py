"""fer_tf: facial-expression classification with EfficientNet-B0, from FER-2013 to a quantised LiteRT file.

The public names are imported when they are first used (PEP 562), so `import fer_tf` brings no other package.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fer_tf import moved

if TYPE_CHECKING:
    from fer_tf.config import Config
    from fer_tf.data.loading import load_dataset
    from fer_tf.deploy.release import export_onnx, export_tflite
    from fer_tf.experiment import run_experiment
    from fer_tf.inference.classifier import EmotionClassifier
    from fer_tf.recipes import RECIPES
    from fer_tf.recognition import Recognizer, recognize
    from fer_tf.scoring import evaluate

__version__ = "0.2.0"
__all__ = [
    "RECIPES", "Config", "EmotionClassifier", "Recognizer", "__version__", "evaluate", "export_onnx", "export_tflite",
    "load_dataset", "recognize", "run_experiment",
]  # fmt: skip

_HOME = {
    "Config": "fer_tf.config",
    "EmotionClassifier": "fer_tf.inference.classifier",
    "RECIPES": "fer_tf.recipes",
    "Recognizer": "fer_tf.recognition",
    "evaluate": "fer_tf.scoring",
    "export_onnx": "fer_tf.deploy.release",
    "export_tflite": "fer_tf.deploy.release",
    "load_dataset": "fer_tf.data.loading",
    "recognize": "fer_tf.recognition",
    "run_experiment": "fer_tf.experiment",
}

moved.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fer_tf' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
