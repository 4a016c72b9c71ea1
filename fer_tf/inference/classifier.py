"""The Python call for face crops: opens a model once, then ranks emotions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_tf import artifacts
from fer_tf.errors import InputError
from fer_tf.inference.opening import open_model
from fer_tf.inference.predictor import rank
from fer_tf.task import IMAGE_SIZE, MAX_CROP_SIDE

if TYPE_CHECKING:
    from PIL import Image

    ImageLike = np.ndarray | Image.Image | str | os.PathLike[str]


class EmotionClassifier:
    """Ranks the emotions of face crops, not of photographs; opens its model once and may be used from any thread.

    A crop shows one face and little else; a picture of another shape is cut to its centre square and resized to 48x48.
    The first picture of more than 64 pixels gives a warning, because `fer_tf.recognize` is the call for photographs.

    Example:
        >>> import fer_tf
        >>> classifier = fer_tf.EmotionClassifier()  # the model that ships, or the path of a .tflite or .keras
        >>> crops = fer_tf.load_dataset(limit=7).take("test").decoded().images
        >>> classifier.predict(crops).shape == (len(crops), 7)
        True
        >>> name, score = classifier.classify(crops[0])[0][0]  # the likeliest emotion of the first crop
        >>> name in classifier.class_names and 0 < score <= 1
        True
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, num_threads: int | None = None) -> None:
        """Open the model.

        Args:
            path: a .tflite or .keras that fer_tf wrote; `fast` for the small model that ships; the model that ships if
                None.
            num_threads: number of images that a .tflite works on at the same time.

        Raises:
            InputError: if there is no such model, or the model breaks fer_tf's contract.
        """
        self._predictor = open_model(artifacts.find_model(path), num_threads=num_threads)
        self._has_warned = False

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._predictor.class_names

    @property
    def metadata(self) -> dict[str, Any]:
        return self._predictor.metadata

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Probabilities of one face crop or of many.

        Args:
            images: one crop or an iterable of crops, each a path, a PIL image, or a uint8 array (height, width),
                (height, width, 1) or RGB (height, width, 3), values in [0, 255]; or one uint8 array of n such crops.
                An array with three axes is one crop if the last axis has length 1 or 3; length 4 (RGBA) is refused.

        Returns:
            float32 (n, classes); n is 1 for a single crop. Each row sums to 1.

        Raises:
            InputError: if a file cannot be read as a picture or an array has another type or shape.
        """
        return self._predictor.predict(self._as_crops(images))

    def classify(self, images: ImageLike | Iterable[ImageLike]) -> list[list[tuple[str, float]]]:
        """Rank the emotions of one face crop or of many: `predict` with names, the most likely first.

        Args:
            images: as for `predict`.

        Returns:
            For each crop a list of (class name, score) pairs; a single crop gives one list in a list.
        """
        probabilities = self._predictor.predict(self._as_crops(images))
        return [rank(row, self.class_names) for row in probabilities]

    def _as_crops(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        if isinstance(images, np.ndarray):
            one = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (1, 3))
            if not one and (
                images.ndim not in (3, 4) or images.shape[-1] == 4
            ):  # no crop is 4 pixels wide: this is RGBA
                raise InputError(f"array of shape {images.shape}: expected (height, width[, 1 or 3]), or n of these")
            crops = images.shape[1:3] == (IMAGE_SIZE, IMAGE_SIZE) and images.shape[3:] in ((), (1,))
            if crops and not one and images.dtype == np.uint8:
                return images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
            images = [images] if one else images
        elif isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable):  # one path or PIL image
            images = [images]
        found = []
        for image in images:  # no comprehension: before Python 3.12 it is a stack frame, and the warning counts these
            found.append(self._as_crop(image))
        return np.stack(found) if found else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8)

    def _as_crop(self, image: ImageLike) -> np.ndarray:
        from fer_tf import faces

        picture = faces.open_image(image) if isinstance(image, (str, os.PathLike)) else image
        crop = faces.to_grey48(picture)
        width, height = picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size
        if max(height, width) > MAX_CROP_SIDE and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"EmotionClassifier takes face crops and was given a picture of {width}x{height} pixels: its centre "
                "square was taken as a face; for a photograph call fer_tf.recognize",
                stacklevel=4,
            )
        return crop
