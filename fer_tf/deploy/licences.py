"""Licence texts for models' metadata, model cards, and LICENSE-WEIGHTS."""

from __future__ import annotations

from fer_tf.model.lite0 import LICENSE as LITE0_LICENSE
from fer_tf.model.lite0 import PACKAGE as LITE0_PACKAGE

# Goes into the metadata of every .keras and .tflite.
MODEL_LICENSE = (
    "Weights trained on the data named here; FER-2013 is for research use only, and so are weights trained on it. "
    "The code is Apache-2.0."
)

# The file LICENSE-WEIGHTS in packed folders of models that come from FER-2013.
WEIGHTS_LICENCE = """\
Licence of the weights in this folder (model.keras and the .tflite files)

They were trained, wholly or at first, on FER-2013, whose images were collected from the web and are for research
only. So these weights may be used, copied, changed and passed on for research and teaching, with this text and with a
citation of FER-2013 (Goodfellow et al., "Challenges in Representation Learning: A report on three machine learning
contests", 2013). Any other use needs rights in those images that the authors of fer_tf do not have and cannot give.

Weights that are trained further from these come from the same images: the same holds for them.

There is no warranty of any kind. The code of fer_tf is under the Apache License 2.0.
"""

_OTHER_DATA = "This run's data: see its owner's terms."
_FER2013 = (
    "Trained on FER-2013 (Goodfellow et al., Challenges in Representation Learning, 2013), whose images were collected "
    "from the web and may be used for research only."
)
_FROM_FER2013 = (
    "It started from the backbone that ships with fer_tf, which was trained on FER-2013 (Goodfellow et al., 2013): "
    "research use only."
)
_RESEARCH_ONLY = (
    "The weights are given for research only (LICENSE-WEIGHTS); the code of fer_tf is under the Apache License 2.0."
)
_OWN_MODELS = (
    "This binds every weight file in this folder, .keras and .tflite alike, and every model that is trained further "
    "from them, as the recipes demo and finetune do. It does not bind your own model if you train it on your "
    "own images from --weights imagenet-lite0 or --weights none."
)
_FROM_LITE0 = (
    f"The backbone started from ImageNet weights of EfficientNet-Lite0, from the pip package {LITE0_PACKAGE}. The "
    "package does not state who trained these weights, or on which images beyond their name. Its LICENSE file reads:"
)


def data_terms(weights: str | None, *, fer2013: bool) -> str:
    """Return the terms of a model's training data, as sentences for the model card.

    Args:
        weights: the backbone's starting weights, as in `Config.weights`.
        fer2013: True if the model was trained on images of FER-2013.
    """
    sentences = [_FER2013 if fer2013 else _OTHER_DATA]
    if weights == "fer2013" and not fer2013:
        sentences.append(_FROM_FER2013)
    if needs_weights_licence(weights, fer2013=fer2013):
        sentences += [_RESEARCH_ONLY, _OWN_MODELS]
    return " ".join(sentences)


def needs_weights_licence(weights: str | None, *, fer2013: bool) -> bool:
    """Return True if LICENSE-WEIGHTS binds the model: the model or its starting backbone was trained on FER-2013.

    Args:
        weights: the backbone's starting weights, as in `Config.weights`.
        fer2013: True if the model was trained on images of FER-2013.
    """
    return fer2013 or weights == "fer2013"


def backbone_terms(weights: str | None) -> tuple[str, list[str]] | None:
    """Return a sentence on the origin of the starting weights, and their licence by paragraph; None if not quoted.

    Args:
        weights: the backbone's starting weights, as in `Config.weights`.
    """
    return (_FROM_LITE0, LITE0_LICENSE.split("\n\n")) if weights == "imagenet-lite0" else None
