"""Finds the pictures, videos and cameras that a user means, and names annotated copies of them."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from fer_tf.errors import InputError
from fer_tf.faces.video import VIDEO_SUFFIXES

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a list of texts stands for.

    Attributes:
        pictures: files that are no videos by their names, each once.
        videos: video files, each once.
        cameras: numbers of cameras.
        problems: an error for each text that stands for nothing.
    """

    pictures: list[Path]
    videos: list[Path]
    cameras: list[int]
    problems: list[InputError]

    @property
    def files(self) -> list[Path]:
        return [*self.pictures, *self.videos]


def find_inputs(texts: Sequence[str]) -> Inputs:
    """Find the files and cameras that texts stand for.

    Args:
        texts: each a file, a folder (the pictures and videos in it and below it, hidden ones left out), a glob pattern,
            or the number of a camera.
    """
    paths: dict[Path, None] = {}
    cameras: list[int] = []
    problems: list[InputError] = []
    suffixes = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    for text in texts:
        path = Path(text)
        if os.path.isdir(text):  # Path.is_dir raises for a name that the system refuses
            found = sorted(file for file in path.rglob("*") if _is_meant(file, suffixes))
            problem = f"{text}: no pictures or videos in this folder; expected files ending in {' '.join(suffixes)}"
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
        paths.update(dict.fromkeys(found))
    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [path for path in paths if path.suffix.lower() not in VIDEO_SUFFIXES]
    return Inputs(pictures, videos, cameras, problems)


def _is_meant(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()


def annotated_paths(folder: str | os.PathLike[str], inputs: Inputs) -> dict[Path | int, Path]:
    """Name an annotated copy of each picture, video and camera: no two alike, none that is an input."""
    taken = {path.resolve() for path in inputs.files}
    outputs: dict[Path | int, Path] = {}

    def add(source: Path | int, stem: str, suffix: str) -> None:
        number, path = 1, Path(folder, f"{stem}-faces{suffix}")
        while path.resolve() in taken:
            number += 1
            path = Path(folder, f"{stem}-faces-{number}{suffix}")
        taken.add(path.resolve())
        outputs[source] = path

    for picture in inputs.pictures:
        suffix = picture.suffix.lower()
        add(picture, picture.stem, suffix if suffix in (".jpg", ".jpeg") else ".png")
    for video in inputs.videos:
        add(video, video.stem, ".avi" if video.suffix.lower() == ".avi" else ".mp4")
    for camera in inputs.cameras:
        add(camera, f"camera{camera}", ".mp4")
    return outputs
