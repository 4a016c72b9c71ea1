"""Finds the faces in photographs and video frames and ranks the emotions of each face."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_tf import faces
from fer_tf.artifacts import atomic_path
from fer_tf.errors import InputError
from fer_tf.evaluation.conformal import prediction_set, read_threshold
from fer_tf.faces.crops import Box, scaled
from fer_tf.faces.detection import DETECT_SIDE, FACE_MODES, MIN_FACE_SCORE, MIN_FACE_SIZE
from fer_tf.faces.drawing import save_annotated
from fer_tf.faces.pictures import MIN_SIDE, as_picture, read_picture, say_first_frames
from fer_tf.inference.classifier import EmotionClassifier
from fer_tf.inference.predictor import rank
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import listed, printable

UNCERTAIN = "uncertain"  # the answer where the highest score is too low
CLOSE_SCORES = 0.15  # labels name the second emotion too if its score is less than this below the first
SURE_SCORE = 0.5  # labels with a lower score are pale and end in "?"
Photo = str | os.PathLike[str] | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Face:
    """One face of a photograph or frame.

    Attributes:
        box: left, top, width and height in pixels of the upright picture.
        score: how sure the detector is that this is a face, in [0, 1]; None if the whole picture is the face.
        landmarks: (x, y) in pixels of five points: the eye on the left of the picture, the other eye, the tip of the
            nose, the corner of the mouth on the left of the picture, the other corner; empty if the whole picture is
            the face.
        emotions: (class name, score) pairs, the most likely first; the scores sum to 1.
        number: from 1, the largest face first; in a video a face keeps its number.
        prediction_set: the classes that the requested coverage needs, the most likely first; None if no coverage was
            requested.
        is_uncertain: True if the highest score is below the requested `min_score`.
    """

    box: Box
    score: float | None
    landmarks: tuple[tuple[float, float], ...]
    emotions: list[tuple[str, float]]
    number: int = 1
    prediction_set: tuple[str, ...] | None = None
    is_uncertain: bool = False

    @property
    def answer(self) -> str:
        """The most likely class, the classes of the prediction set (`sad or neutral`), or `uncertain`."""
        if self.is_uncertain:
            return UNCERTAIN
        return listed(self.prediction_set or [self.emotions[0][0]], "or")


class Recognizer:
    """Finds the faces in photographs and ranks their emotions; opens its model once.

    Example:
        >>> import skimage.data
        >>> recognizer = fer_tf.Recognizer()
        >>> (face,) = recognizer.recognize(skimage.data.astronaut())
        >>> face.emotions[0][0]
        'happy'
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        faces: str = "auto",
        detect_side: int = DETECT_SIDE,
        min_face_score: float = MIN_FACE_SCORE,
        min_face_size: int = MIN_FACE_SIZE,
        coverage: float | None = None,
        min_score: float | None = None,
        num_threads: int | None = None,
    ) -> None:
        """Open the model.

        Args:
            model: as for `EmotionClassifier`: a path, `fast`, or the model that ships if None.
            faces: `auto` takes a picture of at most 64x64 pixels as a face crop and looks for faces in larger ones;
                `detect` looks for faces in every picture; `whole` takes every picture as a crop.
            detect_side: for the detector, larger pictures are reduced to this longer side, 64 to 8192 pixels. A smaller
                side is faster and misses smaller faces.
            min_face_score: faces with a lower detector score are left out, in [0, 1].
            min_face_size: faces with a shorter side than this are left out, in pixels of the picture.
            coverage: 0.8, 0.9 or 0.95: each face gets enough classes to contain the label in this share of cases, on
                data like the model's validation images. On other data the share may be lower.
            min_score: faces whose highest score is lower are `uncertain`, in [0, 1].
            num_threads: number of crops that a .tflite works on at the same time.

        Raises:
            InputError: if there is no such model, a setting is out of range, or `coverage` is given and the model has
                no thresholds.
        """
        if faces not in FACE_MODES:
            raise InputError(f"faces {faces!r}: expected one of {', '.join(FACE_MODES)}")
        if not 64 <= detect_side <= 8192:
            raise InputError(f"detect_side {detect_side}: expected pixels from 64 to 8192")
        if not 0 <= min_face_score <= 1:
            raise InputError(f"min_face_score {min_face_score:g}: expected a number from 0 to 1")
        if min_face_size < 0:
            raise InputError(f"min_face_size {min_face_size}: expected pixels, or 0 for any")
        if min_score is not None and not 0 <= min_score <= 1:
            raise InputError(f"min_score {min_score:g}: expected a number from 0 to 1")
        self.classifier = EmotionClassifier(model, num_threads=num_threads)
        self._threshold = None if coverage is None else read_threshold(self.metadata, coverage)
        self._min_score = min_score
        self._find: dict[str, Any] = {
            "mode": faces,
            "detect_side": detect_side,
            "min_score": min_face_score,
            "min_size": min_face_size,
        }
        self.min_side = detect_side  # a JPEG is not decoded smaller than this

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classifier.class_names

    @property
    def metadata(self) -> dict[str, Any]:
        return self.classifier.metadata

    def recognize(self, photos: Photo | Iterable[Photo]) -> list[Face] | list[list[Face]]:
        """Find the faces of one photograph or of many.

        Args:
            photos: a path, a PIL image, or a uint8 array (height, width) or RGB (height, width, 3) with values in
                [0, 255]; or an iterable of these.

        Returns:
            The faces of the photograph, the largest first; for an iterable, one such list for each photograph.

        Raises:
            InputError: if a photograph cannot be read, or it needs the detector, which is not installed.
        """
        several: list[str] = []

        def recognize(photo: Photo) -> list[Face]:
            picture = as_picture(photo, min_side=self.min_side)
            if picture.is_first_of_several:
                several.append(str(photo))
            return self._recognize(picture)

        is_one = isinstance(photos, (str, os.PathLike, Image.Image, np.ndarray))
        found = recognize(photos) if is_one else [recognize(photo) for photo in photos]  # type: ignore[arg-type, union-attr]
        say_first_frames(several)
        return found

    def find_faces(self, picture: faces.Picture) -> list[faces.Face]:
        """Find and crop the faces of a picture with this recogniser's settings, without classifying them."""
        return faces.find_faces(picture, **self._find)

    def _recognize(self, picture: faces.Picture) -> list[Face]:
        found = self.find_faces(picture)
        ranked = self.classifier.classify(_crops(found)) if found else []
        return [
            self.as_face(face, emotions, number)
            for number, (face, emotions) in enumerate(zip(found, ranked, strict=True), 1)
        ]

    def as_face(self, found: faces.Face, emotions: list[tuple[str, float]], number: int) -> Face:
        """Join a face of `find_faces` with its emotions and its answer, with this recogniser's settings.

        Args:
            found: the face.
            emotions: (class name, score) pairs, the most likely first.
            number: the face's number in the picture or video, from 1.
        """
        return Face(
            found.box,
            found.score,
            found.landmarks,
            emotions,
            number,
            None if self._threshold is None else prediction_set(emotions, self._threshold),
            self._min_score is not None and emotions[0][1] < self._min_score,
        )

    def recognize_file(self, path: Path, annotated: Path | None = None) -> list[Face]:
        """Find the faces of a picture file, and write a copy with boxes and labels.

        Args:
            path: an image file.
            annotated: where to write the copy, without EXIF or other metadata; no face, no copy. A JPEG with more than
                7,000 pixels a side is copied at a half or a quarter of its size.

        Raises:
            InputError: if the picture cannot be read, the copy cannot be written, or the detector is needed but not
                installed.
        """
        found, is_first_of_several = self._recognize_file(path, annotated)
        say_first_frames([str(path)] * is_first_of_several)
        return found

    def _recognize_file(self, path: Path, annotated: Path | None) -> tuple[list[Face], bool]:
        picture = read_picture(path, min_side=self.min_side)
        found = self._recognize(picture)
        if annotated and found:
            image = picture.detailed(MIN_SIDE)
            here = [dataclasses.replace(face, box=scaled(face.box, picture.size, image.size)) for face in found]
            with atomic_path(annotated) as temporary:
                save_annotated(_annotate(image, here), temporary)
        return found, picture.is_first_of_several

    def recognize_files(
        self, paths: Sequence[Path], *, annotated: Mapping[Any, Path] | None = None, num_threads: int = 1
    ) -> Iterator[list[Face] | InputError]:
        """Call `recognize_file` for many files.

        Args:
            paths: image files.
            annotated: path -> the copy to write; a path that is missing here gets no copy.
            num_threads: number of pictures at a time.

        Yields:
            For each picture, in order, its faces, or the error that it raised.
        """

        several: list[str] = []

        def recognize(path: Path) -> list[Face] | InputError:
            try:
                found, is_first_of_several = self._recognize_file(path, (annotated or {}).get(path))
            except InputError as error:
                return error
            if is_first_of_several:
                several.append(str(path))
            return found

        if len(paths) < 2 or num_threads < 2:
            yield from map(recognize, paths)
            say_first_frames(several)
            return
        from concurrent.futures import Future, ThreadPoolExecutor

        pool = ThreadPoolExecutor(num_threads)
        pending: deque[Future[list[Face] | InputError]] = deque()
        try:
            for path in paths:
                pending.append(pool.submit(recognize, path))
                if len(pending) > 2 * num_threads:  # limits the memory for results that the caller has not read yet
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
        say_first_frames(sorted(several))

    def stream(
        self,
        source: str | os.PathLike[str] | int | faces.FrameSource,
        *,
        annotated: Path | None = None,
        every: float = 0.0,
    ) -> Generator[tuple[float, Image.Image, list[Face]], None]:
        """Yield the frames of a video or camera with their faces; each face's scores are averaged over time.

        A camera has no last frame: Ctrl-C or `close()` ends the iteration and finishes the annotated video. If a file
        ends early, the frames before the break are given, and a UserWarning says how much was read. If the caller
        passes a `faces.FrameSource`, its `problem` says this instead.

        Args:
            source: a video file, an address (rtsp://, http:// or https://), the number of a camera, or an opened
                `faces.FrameSource`.
            annotated: where to write a video with boxes and labels, without sound, .mp4 or .avi. The file appears
                after the last frame. Its frame rate is constant; each frame is shown within 50 ms of its time.
            every: yield one frame per this many seconds; 0 yields all. An opened source keeps its own period.

        Yields:
            Seconds since the first frame, the frame (RGB), and its faces.

        Raises:
            InputError: if no frame can be read, or the video cannot be written.
        """
        is_opened = not isinstance(source, (str, os.PathLike, int))
        frames = faces.FrameSource(source, every=every) if isinstance(source, (str, os.PathLike, int)) else source
        smoother = faces.Smoother(every=frames.every)
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(atomic_path(annotated)) if annotated else None
            writer: faces.VideoWriter | None = None
            try:
                for seconds, picture in frames:
                    crops = faces.find_faces(picture, **self._find)
                    probabilities = self.classifier.predict(_crops(crops))
                    smoothed = smoother.update(seconds, [face.box for face in crops], probabilities, picture)
                    found = [
                        self.as_face(face, rank(scores, self.class_names), number)
                        for face, (number, scores) in zip(crops, smoothed, strict=True)
                    ]
                    yield seconds, picture, found
                    if target:
                        if writer is None:
                            writer = faces.VideoWriter(target, fps=faces.copy_fps(frames.fps), size=picture.size)
                            stack.callback(writer.close)
                        writer.write_at(seconds, _annotate(picture, found))
                if writer:
                    writer.end_at(frames.length)
            except (KeyboardInterrupt, GeneratorExit):
                if not frames.is_camera:
                    raise
        if frames.problem and not is_opened:
            warnings.warn(frames.problem, stacklevel=2)


def recognize(
    photos: Photo | Iterable[Photo], model: str | os.PathLike[str] | None = None, **settings: Any
) -> list[Face] | list[list[Face]]:
    """Find the faces in a photograph and rank their emotions.

    The model is opened at the first call and kept.

    Args:
        photos: as for `Recognizer.recognize`.
        model: as for `EmotionClassifier`: a path, `fast`, or the model that ships if None.
        settings: further arguments of `Recognizer`, such as `faces="whole"` or `min_face_score=0.8`.

    Returns:
        The faces, the largest first; for an iterable of photographs, one such list for each.

    Raises:
        InputError: as `Recognizer` and `Recognizer.recognize`.

    Example:
        >>> import fer_tf, skimage.data
        >>> (face,) = fer_tf.recognize(skimage.data.astronaut())
        >>> face.box
        (178, 63, 90, 113)
        >>> face.emotions[0][0]
        'happy'
    """
    return _recognizer(None if model is None else os.fspath(model), **settings).recognize(photos)


@functools.lru_cache(maxsize=4)
def _recognizer(model: str | None, **settings: Any) -> Recognizer:
    return Recognizer(model, **settings)


def _crops(found: Sequence[faces.Face]) -> np.ndarray:
    """Return the crops as one array: uint8 (n, 48, 48)."""
    return np.stack([face.crop for face in found]) if found else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def label_text(emotions: Sequence[tuple[str, float]]) -> str:
    """Return the likeliest emotion with its score; name the two likeliest if they are close; add "?" below one half.

    Args:
        emotions: (class name, score) pairs, the most likely first.

    Example:
        >>> label_text([("sad", 0.44), ("neutral", 0.31), ("fear", 0.25)])
        'sad 44% / neutral 31%?'
    """
    best = emotions[0][1]
    close = [pair for pair in emotions[:2] if best - pair[1] < CLOSE_SCORES]
    text = " / ".join(f"{printable(name)} {score:.0%}" for name, score in close)
    return text if best >= SURE_SCORE else f"{text}?"


def _annotate(picture: Image.Image, found: Sequence[Face]) -> Image.Image:
    return faces.draw_faces(picture, [_mark(face) for face in found])


def _mark(face: Face) -> faces.Mark:
    """Return how to draw a face: its answer, in the colour of the likeliest emotion, pale if the score is low."""
    name, score = face.emotions[0]
    text = printable(face.answer)
    if face.answer == name:
        text = label_text(face.emotions if face.prediction_set is None else face.emotions[:1])
    return faces.Mark(face.box, text, name, face.is_uncertain or score < SURE_SCORE)
