"""Reads the frames of a video file or camera and writes videos; needs OpenCV (extra `faces`)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.pictures import MAX_IMAGE_PIXELS

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
_DEFAULT_FPS = 25.0  # for a file or camera that names none
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # both are in OpenCV's wheel


class FrameSource:
    """The frames of a video file or a camera, once: iterate over (seconds since the first, RGB image).

    Attributes:
        name: the file's path, or `camera` and its number.
        is_camera: True for a camera.
        fps: frames per second.
        num_frames: number of frames; 0 if not known.
    """

    def __init__(self, source: str | os.PathLike[str] | int) -> None:
        """Open the file or camera.

        Args:
            source: a video file, or the number of a camera.

        Raises:
            InputError: if there is no such file or camera, OpenCV cannot read the video, or OpenCV is not installed.
        """
        self.is_camera = isinstance(source, int)
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        if not isinstance(source, int) and not os.path.isfile(source):
            raise InputError(f"no video file at {source}: give the path of a video, or the number of a camera")
        self._cv2 = opencv()
        try:
            self._capture = self._cv2.VideoCapture(source if isinstance(source, int) else os.fspath(source))
            opened = self._capture.isOpened()
        except self._cv2.error:  # the number of the camera is too large
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
        self.num_frames = max(0, int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[tuple[float, Image.Image]]:
        """Read frames to the end of the file, or from a camera until the caller stops.

        Raises:
            InputError: if not a single frame can be read.
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


def opencv() -> Any:
    """Import OpenCV and silence its own messages; what goes wrong is reported in ours."""
    try:
        import cv2
    except ImportError:
        raise InputError("reading videos and cameras needs OpenCV: pip install 'fer_tf[faces]'") from None
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


class VideoWriter:
    """Writes frames of one size as .mp4 or .avi."""

    def __init__(self, path: Path, *, fps: float, size: tuple[int, int]) -> None:
        """Open the file.

        Args:
            path: the file to write; its suffix decides the format.
            fps: frames per second.
            size: width and height, pixels.

        Raises:
            InputError: if OpenCV cannot write there.
        """
        self._cv2 = opencv()
        codec = self._cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
        self._writer = self._cv2.VideoWriter(str(path), codec, fps, size)
        self._size = size
        if not self._writer.isOpened():
            raise InputError(f"cannot write a video of {size[0]}x{size[1]} pixels to {path.parent}")

    def write(self, frame: Image.Image) -> None:
        """Add a frame; it is scaled to the size of the video."""
        frame = frame if frame.size == self._size else frame.resize(self._size)
        self._writer.write(self._cv2.cvtColor(np.asarray(frame), self._cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()
