"""Finds the pictures, videos and cameras that a user names, and names their annotated copies."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_tf.errors import InputError
from fer_tf.faces.drawing import is_annotated
from fer_tf.faces.kinds import file_kind, is_animation, is_hidden, is_meant_as_picture, skipped_kinds
from fer_tf.faces.video import URL_SCHEMES, VIDEO_SUFFIXES, without_password

_JPEG_COPIES = ("JPEG", "AVIF", "HEIF")  # photographs: a copy as PNG would take ten times the space


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The inputs that a user's texts name.

    Attributes:
        pictures: files that are not videos, each once.
        videos: video files and animated GIFs, each once.
        cameras: numbers of cameras, addresses of streams, and devices.
        skipped: files in the folders that are neither pictures nor videos, each once.
        annotated: number of annotated copies in the folders; they are left out.
        problems: an error for each text that names nothing.
    """

    pictures: list[Path]
    videos: list[Path]
    cameras: list[int | str]
    problems: list[InputError]
    skipped: list[Path] = dataclasses.field(default_factory=list)
    annotated: int = 0

    @property
    def files(self) -> list[Path]:
        return [*self.pictures, *self.videos]


def find_inputs(texts: Sequence[str]) -> Inputs:
    """Find the files and cameras that texts name.

    Args:
        texts: each a file, a folder (for all pictures and videos below it, known by their contents; hidden files are
            left out), a glob pattern, the number of a camera, an address (rtsp://, http:// or https://), or a device
            such as /dev/video0. A file that is not a picture is tried as a video.
    """
    paths: dict[Path, str | None] = {}  # the kind of each file
    skipped: dict[Path, None] = {}
    annotated: set[Path] = set()
    cameras: list[int | str] = []
    problems: list[InputError] = []
    for text in texts:
        path = Path(text)
        if text.lower().startswith(URL_SCHEMES) or text.startswith("/dev/"):
            cameras.append(text)
            continue
        if os.path.isdir(text):  # Path.is_dir would raise for a name that the system refuses
            files = sorted(file for file in path.rglob("*") if _is_shown(file, path) and file.is_file())
            kinds = {file: _kind(file) for file in files}
            copies = {file for file, kind in kinds.items() if kind and _is_copy(file, kind, kinds)}
            annotated |= copies
            found = [file for file, kind in kinds.items() if kind and file not in copies]
            skipped.update(dict.fromkeys(file for file, kind in kinds.items() if not kind))
            only = f" ({skipped_kinds(files)})" if files else ""
            only = " but annotated copies" if copies and not skipped else only
            problem = f"{text}: no pictures or videos in this folder{only}; give a folder with JPEG, PNG or other files"
        elif os.path.exists(text) or not glob.has_magic(text):
            if text.isdecimal() and not os.path.exists(text):
                cameras.append(int(text))
                continue
            found, problem = [path], ""
        else:
            found = sorted(file for name in glob.glob(text, recursive=True) if (file := Path(name)).is_file())
            problem = f"{text}: no file matches this pattern"
        if not found:
            problems.append(InputError(problem))
        paths.update({file: paths.get(file) or _kind(file) or _named_kind(file) for file in found})
    videos = [path for path, kind in paths.items() if kind == "video"]
    pictures = [path for path, kind in paths.items() if kind == "picture"]
    return Inputs(pictures, videos, cameras, problems, [path for path in skipped if path not in paths], len(annotated))


def _is_shown(file: Path, folder: Path) -> bool:
    return not any(is_hidden(name) for name in file.relative_to(folder).parts)


def _is_copy(file: Path, kind: str, kinds: Mapping[Path, str | None]) -> bool:
    """Return True for an annotated copy in a folder: the mark tells a picture, the names beside it tell a video."""
    if kind == "picture":
        return is_annotated(file)
    original = re.sub(r"-faces(-\d+)?$", "", file.stem)
    return original != file.stem and any(other.stem == original and kinds[other] == "video" for other in kinds)


def _kind(file: Path) -> str | None:
    """Return `picture` or `video` by a file's contents, or by its name if the contents do not tell."""
    kind = file_kind(file)
    is_animated = kind == "GIF" and is_animation(file)
    if kind == "video" or is_animated or (kind is None and file.suffix.lower() in VIDEO_SUFFIXES):
        return "video"
    return "picture" if kind or is_meant_as_picture(file) else None


def _named_kind(file: Path) -> str:
    """Return the kind to try for a named file of unknown kind: a video, if the file exists."""
    return "video" if os.path.isfile(file) else "picture"


def _stream_stem(address: str) -> str:
    """Return a name for files of a stream: letters and digits of the last part of its address."""
    last = without_password(address).partition("?")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w-]+", "-", last).strip("-") or "stream"


def annotated_paths(folder: str | os.PathLike[str], inputs: Inputs) -> dict[Path | int | str, Path]:
    """Name an annotated copy of each picture, video and camera: all names differ, and none is an input."""
    taken = {path.resolve() for path in inputs.files}
    outputs: dict[Path | int | str, Path] = {}

    def add(source: Path | int | str, stem: str, suffix: str) -> None:
        number, path = 1, Path(folder, f"{stem}-faces{suffix}")
        while path.resolve() in taken:
            number += 1
            path = Path(folder, f"{stem}-faces-{number}{suffix}")
        taken.add(path.resolve())
        outputs[source] = path

    for picture in inputs.pictures:
        suffix = picture.suffix.lower()
        other = ".jpg" if file_kind(picture) in _JPEG_COPIES else ".png"
        add(picture, picture.stem, suffix if suffix in (".jpg", ".jpeg") else other)
    for video in inputs.videos:
        add(video, video.stem, ".avi" if video.suffix.lower() == ".avi" else ".mp4")
    for camera in inputs.cameras:
        add(camera, f"camera{camera}" if isinstance(camera, int) else _stream_stem(camera), ".mp4")
    return outputs
