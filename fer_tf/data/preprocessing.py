"""48x48 grey faces -> model input: one function for training, evaluation, calibration, export and inference."""

from __future__ import annotations

from typing import Any

import keras


def preprocess(images: Any, image_size: int) -> Any:
    """Enlarge grey faces to the network's input size and repeat them as three equal channels.

    EfficientNet rescales the values itself. Resizing one channel and then repeating it gives the same values for a
    third of the work. `keras.ops` runs eagerly, in `Dataset.map`, in a jitted step and in an exported graph.

    Args:
        images: (batch, 48, 48) or (batch, 48, 48, 1), uint8 or float, grey values in [0, 255].
        image_size: side of the result, pixels.

    Returns:
        float32 (batch, image_size, image_size, 3), values in [0, 255].
    """
    x = keras.ops.cast(images, "float32")
    if len(x.shape) == 3:
        x = keras.ops.expand_dims(x, -1)
    if x.shape[1] != image_size or x.shape[2] != image_size:
        x = keras.ops.image.resize(
            x, (image_size, image_size), interpolation="bilinear", antialias=False, data_format="channels_last"
        )
    return keras.ops.concatenate([x, x, x], axis=-1)
