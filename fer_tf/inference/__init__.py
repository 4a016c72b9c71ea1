"""Predictions of a .tflite or .keras; a .tflite needs no TensorFlow."""

from fer_tf.inference.classifier import EmotionClassifier
from fer_tf.inference.contract import check_tflite
from fer_tf.inference.keras_model import KerasPredictor
from fer_tf.inference.litert import LiteRTPredictor
from fer_tf.inference.opening import open_model
from fer_tf.inference.predictor import Predictor, default_num_threads, rank

__all__ = [
    "EmotionClassifier", "KerasPredictor", "LiteRTPredictor", "Predictor", "check_tflite", "default_num_threads",
    "open_model", "rank",
]  # fmt: skip
