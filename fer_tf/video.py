"""Frames of a video file or camera, scores smoothed over time, and videos written frame by frame (extra `faces`)."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces import MAX_IMAGE_PIXELS

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
SMOOTHING_SECONDS = 0.5  # time constant of the exponential average over a face's scores
_FORGET_SECONDS = 1.0  # a face unseen for this long is a new one when it comes back
_SAME_FACE_OVERLAP = 0.3  # intersection over union of the boxes of one face in two frames that follow each other
_DEFAULT_FPS = 25.0  # where the file or camera names none
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # both are in OpenCV's wheel


class FrameSource:
    """A video file or a camera: iterate over its frames, as (seconds since the first, RGB image)."""

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        """Opens it.

        Args:
            source: a video file, or the number of a camera.

        Raises:
            InputError: if there is no such file or camera, it is no video, or OpenCV is not installed.
        """
        self.is_camera = isinstance(source, int)
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        if not isinstance(source, int) and not os.path.isfile(source):
            raise InputError(f"no video file at {source}: give the path of a video, or the number of a camera")
        self._cv2 = _opencv()
        try:
            self._capture = self._cv2.VideoCapture(source if isinstance(source, int) else os.fspath(source))
            opened = self._capture.isOpened()
        except self._cv2.error:  # a number that OpenCV cannot hold
            opened = False
        if not opened:
            if self.is_camera:
                raise InputError(f"no {self.name}: none can be opened under this number; 0 is usually the first")
            raise InputError(f"{self.name}: not a video that OpenCV can read; convert it to .mp4 (H.264)")
        width, height = (
            self._capture.get(x) for x in (self._cv2.CAP_PROP_FRAME_WIDTH, self._cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > MAX_IMAGE_PIXELS:
            self._capture.release()
            raise InputError(
                f"{self.name}: frames of more than {MAX_IMAGE_PIXELS // 10**6} million pixels; scale it down"
            )
        fps = self._capture.get(self._cv2.CAP_PROP_FPS)
        self.fps = fps if 0.1 <= fps <= 1000 else _DEFAULT_FPS
        self.num_frames = max(0, int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))  # 0: not known

    def __iter__(self) -> Iterator[tuple[float, Image.Image]]:
        """The frames from here to the end; a camera has none.

        Raises:
            InputError: if there is no frame at all.
        """
        number, start = 0, time.monotonic()
        try:
            while True:
                read, frame = self._capture.read()
                if not read:
                    break
                seconds = time.monotonic() - start if self.is_camera else number / self.fps
                yield seconds, Image.fromarray(self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB))
                number += 1
        finally:
            self._capture.release()
        if number == 0:
            raise InputError(f"{self.name}: no frame in it could be read; check that it plays, or convert it to .mp4")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError("reading videos and cameras needs OpenCV: pip install 'fer_tf[faces]'") from None
    # What goes wrong is said in our own words; these two write to stderr by themselves.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class VideoWriter:
    """Writes frames of one size as .mp4 or .avi."""

    def __init__(self, path: Path, *, fps: float, size: tuple[int, int]) -> None:
        """Opens the file.

        Args:
            path: to write; its suffix decides the format.
            fps: frames per second.
            size: width and height, pixels.

        Raises:
            InputError: if OpenCV cannot write there.
        """
        self._cv2 = _opencv()
        codec = self._cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
        self._writer = self._cv2.VideoWriter(str(path), codec, fps, size)
        self._size = size
        if not self._writer.isOpened():
            raise InputError(f"cannot write a video of {size[0]}x{size[1]} pixels to {path.parent}")

    def write(self, frame: Image.Image) -> None:
        """Adds a frame; one of another size than the first is scaled to it."""
        frame = frame if frame.size == self._size else frame.resize(self._size)
        self._writer.write(self._cv2.cvtColor(np.asarray(frame), self._cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


@dataclasses.dataclass
class _Track:
    number: int
    box: tuple[int, int, int, int]
    probabilities: np.ndarray
    seconds: float


class Smoother:
    """Follows faces from frame to frame and averages each one's scores, older frames counting exponentially less.

    A score of t seconds ago has exp(-t / SMOOTHING_SECONDS) of the weight of a present one, whatever the frame rate.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._count = 0

    def update(
        self, seconds: float, boxes: list[tuple[int, int, int, int]], probabilities: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        """Takes in a frame.

        Args:
            seconds: time of the frame; not before the last one's.
            boxes: (left, top, width, height) of each face.
            probabilities: float (faces, classes).

        Returns:
            For each face its number, which it keeps from frame to frame (from 1), and its smoothed probabilities.
        """
        known = [track for track in self._tracks if seconds - track.seconds <= _FORGET_SECONDS]
        pairs = [(_overlap(track.box, box), t, b) for t, track in enumerate(known) for b, box in enumerate(boxes)]
        track_of: dict[int, _Track] = {}
        taken: set[int] = set()
        for overlap, t, b in sorted(pairs, reverse=True):  # the best match first
            if overlap >= _SAME_FACE_OVERLAP and t not in taken and b not in track_of:
                track_of[b] = known[t]
                taken.add(t)
        smoothed = []
        for b, (box, new) in enumerate(zip(boxes, probabilities, strict=True)):
            track = track_of.get(b)
            if track is None:
                self._count += 1
                track = _Track(self._count, box, new, seconds)
                known.append(track)
            weight = 1 - math.exp(-(seconds - track.seconds) / SMOOTHING_SECONDS)
            track.probabilities = track.probabilities + weight * (new - track.probabilities)
            track.box, track.seconds = box, seconds
            smoothed.append((track.number, track.probabilities))
        self._tracks = known
        return smoothed


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
