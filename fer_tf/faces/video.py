"""Reads the frames of a video file, stream or camera and writes videos; needs OpenCV (extra `faces`)."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fer_tf.errors import InputError
from fer_tf.faces.containers import Container, read_container
from fer_tf.faces.pictures import MAX_IMAGE_PIXELS
from fer_tf.install import install_hint

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv",
)  # fmt: skip
URL_SCHEMES = ("rtsp://", "rtsps://", "http://", "https://")
_DEFAULT_FPS = 25.0  # for a file or camera that states no rate
_MOST_FPS = 240.0  # a higher rate is a clock rate: browsers' recordings have 1000
# An annotated copy shows each frame within half a period of its time: 50 ms at 10 frames a second.
_COPY_FPS, _LEAST_COPY_FPS, _MOST_COPY_FPS = 30.0, 10.0, 120.0
# A header's duration may exceed the last frame's time: the sound is longer, or a browser rounded the duration.
_DURATION_SLACK = 0.5  # seconds
_LONGEST_PAUSE = 3600.0  # seconds between two frames; more means a damaged time
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # both are in OpenCV's wheel
_SILENT = 0  # OpenCV's log level


class FrameSource:
    """The frames of a video file, stream or camera, for one iteration over (seconds since the first, RGB image).

    The file gives each frame's time. If it gives none, or the time does not rise, the frame follows the last one after
    a period of the frame rate. A camera's frame has the time of reading it.

    Attributes:
        name: the file's path, the stream's address without user and password, or `camera` and its number.
        is_camera: True for a camera or a live stream, which has no last frame.
        fps: frames per second, as the file states it.
        num_frames: number of frames; 0 if not known.
        every: seconds between the yielded frames; 0 for every frame.
        num_read: number of frames read so far; during the iteration, the number of the current frame, from 1.
        seconds: time of the last frame that was read.
        duration: seconds, as the file states them; 0 if not known.
        problem: after the iteration, one line about the missing part if the file ended early; else None.

    Example:
        >>> frames = FrameSource("clip.mp4")
        >>> times = [seconds for seconds, image in frames]
        >>> frames.problem
    """

    def __init__(self, source: str | os.PathLike[str] | int, *, every: float = 0.0) -> None:
        """Open the file, stream or camera.

        Args:
            source: a video file, an address (rtsp://, http:// or https://), a device such as /dev/video0, or the number
                of a camera.
            every: yield one frame per this many seconds; 0 yields all.

        Raises:
            InputError: if there is no such file or camera, OpenCV cannot read the video, or OpenCV is not installed.
        """
        if not 0 <= every < math.inf:
            raise InputError(f"every {every:g}: expected seconds, or 0 for every frame")
        text = "" if isinstance(source, int) else os.fspath(source)
        address = text.lower().startswith(URL_SCHEMES)
        device = isinstance(source, int) or text.startswith("/dev/")
        self.name = f"camera {source}" if isinstance(source, int) else without_password(text)
        if not address and not device and not os.path.isfile(source):
            raise InputError(f"no video file at {source}: give the path of a video, or the number of a camera")
        self._cv2 = opencv()
        try:
            # Open files with FFmpeg only: OpenCV would also try `frame07.jpg` as a sequence of pictures.
            backend = () if device else (self._cv2.CAP_FFMPEG,)
            self._capture = self._cv2.VideoCapture(source if isinstance(source, int) else text, *backend)
            opened = self._capture.isOpened()
        except self._cv2.error:  # raised if the number of the camera is too large
            opened = False
        if not opened:
            if isinstance(source, int):
                raise InputError(f"no {self.name}: no camera can be opened under this number; 0 is usually the first")
            if address or device:
                raise InputError(f"{self.name}: OpenCV cannot open it; check the address and that it can be reached")
            neither = "" if self.name.lower().endswith(VIDEO_SUFFIXES) else "a picture or "
            raise InputError(f"{self.name}: not {neither}a video that OpenCV can read; convert it to .mp4 (H.264)")
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
        count = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)  # hugely negative if there is no duration
        count = int(count) if 0 < count < 1e12 else 0
        self.is_camera = device or (address and (text.lower().startswith("rtsp") or not count))
        self._uses_clock = device
        self._container = Container() if address or device else read_container(text)
        self.duration = count / self.fps  # if a file stores no count, OpenCV multiplies the duration by the rate
        self.num_frames = count if self._container.counts_frames else 0
        if 0 < self._container.shown_seconds < self.duration - 1.5 / self.fps:
            self.duration = self._container.shown_seconds
            self.num_frames = 0  # cutting a video on a phone hides frames without removing them
        self.every = every
        self.num_read, self.seconds = 0, 0.0
        self.problem: str | None = None
        self._period = 1 / self.fps if self.fps <= _MOST_FPS else 1 / _DEFAULT_FPS

    @property
    def length(self) -> float:
        """Seconds from the first frame to the end of the last one; known after the iteration."""
        end = self.seconds + self._period
        stated = self.duration
        return stated if self.problem is None and self.seconds < stated <= end + _DURATION_SLACK else end

    def __iter__(self) -> Iterator[tuple[float, Image.Image]]:
        """Read frames to the end of the file, or from a camera until the caller stops.

        Raises:
            InputError: if not a single frame can be read.
        """
        start, first, longest, due = time.monotonic(), 0.0, 0.0, 0.0
        try:
            while self._capture.grab():
                if self._uses_clock:
                    seconds = time.monotonic() - start
                else:
                    seconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
                    if self.num_read == 0:
                        first = seconds if math.isfinite(seconds) else 0.0
                    seconds -= first
                if self.num_read:
                    if 0 < seconds - self.seconds < _LONGEST_PAUSE:  # also False if the time is NaN
                        self._period = seconds - self.seconds
                        longest = max(longest, self._period)
                    else:
                        seconds = self.seconds + self._period
                else:
                    seconds = 0.0
                wanted = seconds >= due - 1e-6
                if wanted:
                    read, frame = self._capture.retrieve()
                    if not read:
                        break
                self.num_read, self.seconds = self.num_read + 1, seconds
                if wanted:
                    if self.every:
                        due = (math.floor(seconds / self.every + 1e-6) + 1) * self.every
                    yield seconds, Image.fromarray(self._cv2.cvtColor(frame, self._cv2.COLOR_BGR2RGB))
            if self.num_read and not self.is_camera:
                self.problem = self._missing(longest)
        finally:
            self._capture.release()
        if self.num_read == 0:
            raise InputError(f"{self.name}: no frame in it could be read; check that it plays, or convert it to .mp4")

    def _missing(self, longest: float) -> str | None:
        """Return one line if the file has fewer frames than it states, else None.

        Args:
            longest: the longest time between two frames, seconds.
        """
        read, until = f"{self.num_read:,} frames could be read", f"up to {self.seconds:.2f} s"
        advice = "the file is damaged or incomplete"
        if self.num_frames:
            if self.num_read >= self.num_frames:
                return None
            if self._container.is_avi:
                advice += "; if frames in the middle are missing, the times after the gap are too early"
            read = f"{self.num_read:,} of {self.num_frames:,} frames could be read"
        elif self.seconds + longest + _DURATION_SLACK < self.duration:
            until = f"{until} of {self.duration:.2f} s"
        elif not self._container.ends_early:
            return None
        return f"{self.name}: {read}, {until}; {advice}"


def without_password(name: str) -> str:
    """Return an address without the user and password before its host."""
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", name)


def opencv() -> Any:
    """Import OpenCV and silence its own messages; our errors report what goes wrong."""
    try:
        import cv2
    except ImportError:
        raise InputError(f"reading videos and cameras needs OpenCV: {install_hint('faces')}") from None
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # moved in 4.13
    set_level(_SILENT)
    return cv2


class VideoWriter:
    """Writes frames of one size as .mp4 or .avi, without sound, at a constant rate."""

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
        self._fps, self._size = fps, size
        self._waiting: np.ndarray | None = None  # the last frame, repeated until the next frame's time
        self._num_written = 0
        if not self._writer.isOpened():
            raise InputError(f"cannot write a video of {size[0]}x{size[1]} pixels to {path.parent}")

    def write(self, frame: Image.Image) -> None:
        """Add a frame; it is scaled to the size of the video."""
        self._write(self._pixels(frame))

    def write_at(self, seconds: float, frame: Image.Image) -> None:
        """Show a frame from a time on, exact to half a period; the frame before it is repeated until then, or dropped.

        Args:
            seconds: time since the first frame, not before the last frame's time.
            frame: the frame; it is scaled to the size of the video.
        """
        self._repeat_until(seconds)
        self._waiting = self._pixels(frame)

    def end_at(self, seconds: float) -> None:
        """Show the last frame until a time, at least once."""
        self._repeat_until(max(seconds, (self._num_written + 1) / self._fps))
        self._waiting = None

    def close(self) -> None:
        """Finish the file."""
        if self._waiting is not None:
            self.end_at(0)
        self._writer.release()

    def _repeat_until(self, seconds: float) -> None:
        while self._waiting is not None and self._num_written < round(seconds * self._fps):
            self._write(self._waiting)

    def _pixels(self, frame: Image.Image) -> np.ndarray:
        frame = frame if frame.size == self._size else frame.resize(self._size)
        return self._cv2.cvtColor(np.asarray(frame), self._cv2.COLOR_RGB2BGR)

    def _write(self, pixels: np.ndarray) -> None:
        self._writer.write(pixels)
        self._num_written += 1


def copy_fps(fps: float) -> float:
    """Return the rate of an annotated copy: the original's rate, unless it is too low or not the rate of a video."""
    return fps if _LEAST_COPY_FPS <= fps <= _MOST_COPY_FPS else _COPY_FPS
