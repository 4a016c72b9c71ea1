"""From a picture or the frames of a video to its faces with their emotions."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fer_tf import faces
from fer_tf.artifacts import atomic_path
from fer_tf.errors import InputError
from fer_tf.faces.crops import Box
from fer_tf.inference.classifier import EmotionClassifier
from fer_tf.inference.predictor import rank
from fer_tf.task import IMAGE_SIZE
from fer_tf.text import printable


@dataclasses.dataclass(frozen=True)
class RecognizedFace:
    """One face of a picture or frame.

    Attributes:
        file: path of the picture or video, or the camera's name.
        face: number from 1; in a video the same face keeps its number.
        box: left, top, width and height in pixels of the upright picture.
        emotions: (class name, score) pairs, the most likely first.
        frame: number of the frame, from 1; None for a picture.
        seconds: time of the frame since the first; None for a picture.
    """

    file: str
    face: int
    box: Box
    emotions: list[tuple[str, float]]
    frame: int | None = None
    seconds: float | None = None


def recognize_picture(
    path: Path, classifier: EmotionClassifier, *, detect: bool = True, annotated: Path | None = None
) -> list[RecognizedFace]:
    """Rank the emotions of every face in a picture.

    Args:
        path: an image file.
        classifier: the opened model.
        detect: False to take the whole picture as one face.
        annotated: where to write a copy with boxes and labels; it is written if there is a face.

    Returns:
        The faces, the largest first.

    Raises:
        InputError: if the picture cannot be read, the copy cannot be written, or OpenCV is needed and not installed.
    """
    image = faces.open_image(path)
    crops = faces.find_faces(image, detect=detect)
    ranked = classifier.classify(_stacked(crops)) if crops else []
    pairs = enumerate(zip(crops, ranked, strict=True), 1)
    found = [RecognizedFace(str(path), number, face.box, emotions) for number, (face, emotions) in pairs]
    if annotated and found:
        with atomic_path(annotated) as temporary:
            _annotate(image, found).save(temporary, quality=90)
    return found


def recognize_pictures(
    paths: Sequence[Path],
    classifier: EmotionClassifier,
    *,
    detect: bool = True,
    annotated: dict[Path | int, Path] | None = None,
    num_threads: int = 1,
) -> Iterator[list[RecognizedFace] | InputError]:
    """Call `recognize_picture` for many pictures.

    Args:
        paths: image files.
        classifier: the opened model.
        detect: as for `recognize_picture`.
        annotated: the copy to write for each path; none for a path that is missing.
        num_threads: number of pictures at a time.

    Yields:
        For each picture in order its faces, or the error that it raised.
    """

    def recognize(path: Path) -> list[RecognizedFace] | InputError:
        try:
            return recognize_picture(path, classifier, detect=detect, annotated=(annotated or {}).get(path))
        except InputError as error:
            return error

    if len(paths) < 2 or num_threads < 2:
        yield from map(recognize, paths)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(num_threads)
    pending: deque[Future[list[RecognizedFace] | InputError]] = deque()
    try:
        for path in paths:
            pending.append(pool.submit(recognize, path))
            if len(pending) > 2 * num_threads:  # bounds the memory for results that wait to be read
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def recognize_frames(
    frames: faces.FrameSource, classifier: EmotionClassifier, *, detect: bool = True, annotated: Path | None = None
) -> Generator[list[RecognizedFace], None, None]:
    """Rank the emotions of every face in each frame, with scores averaged over time by `faces.Smoother`.

    A camera has no last frame: Ctrl-C ends the iteration, and so does `close()`; both finish the annotated video.

    Args:
        frames: the opened video or camera.
        classifier: the opened model.
        detect: False to take each whole frame as one face.
        annotated: where to write a video with boxes and labels, .mp4 or .avi; put in place after the last frame.

    Yields:
        The faces of each frame, the largest first.

    Raises:
        InputError: if no frame can be read, or the video cannot be written.
    """
    smoother = faces.Smoother()
    writer: faces.VideoWriter | None = None
    num_written = 0
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(atomic_path(annotated)) if annotated else None
        try:
            for frame, (seconds, image) in enumerate(frames, 1):
                crops = faces.find_faces(image, detect=detect)
                probabilities = classifier.predict(_stacked(crops))
                smoothed = smoother.update(seconds, [face.box for face in crops], probabilities)
                found = [
                    RecognizedFace(frames.name, number, face.box, rank(scores, classifier.class_names), frame, seconds)
                    for face, (number, scores) in zip(crops, smoothed, strict=True)
                ]
                yield found
                if target:
                    if writer is None:
                        writer = faces.VideoWriter(target, fps=frames.fps, size=image.size)
                        stack.callback(writer.close)
                    # A camera's frames arrive as fast as we read them: repeat each so that the video keeps real time.
                    repeats = max(1, round(seconds * frames.fps) + 1 - num_written) if frames.is_camera else 1
                    picture = _annotate(image, found)
                    for _ in range(repeats):
                        writer.write(picture)
                    num_written += repeats
        except (KeyboardInterrupt, GeneratorExit):
            if not frames.is_camera:
                raise


def _stacked(crops: Sequence[faces.Face]) -> np.ndarray:
    """The crops as one array: uint8 (n, 48, 48)."""
    return np.stack([face.crop for face in crops]) if crops else np.empty((0, IMAGE_SIZE, IMAGE_SIZE), np.uint8)


def _annotate(image: Image.Image, found: Sequence[RecognizedFace]) -> Image.Image:
    labels = [f"{printable(face.emotions[0][0])} {face.emotions[0][1]:.0%}" for face in found]
    return faces.draw_faces(image, [(face.box, label) for face, label in zip(found, labels, strict=True)])
