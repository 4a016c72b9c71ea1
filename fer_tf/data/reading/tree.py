"""Lists the files below a folder by kind; follows links to regular files, never to folders or devices."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
from pathlib import Path

from fer_tf.data.reading.checks import MAX_ROWS
from fer_tf.errors import InputError
from fer_tf.faces.kinds import PICTURE_SUFFIXES, is_hidden, is_meant_as_picture
from fer_tf.text import shown

# Folders that systems and programs leave behind, in addition to names that begin with a dot; case is ignored.
_SYSTEM_FOLDERS = (
    "@eadir", "#recycle", "$recycle.bin", "__macosx", "__pycache__", "lost+found", "system volume information",
)  # fmt: skip
PARQUET_SUFFIXES = (".parquet", ".pq")
_NEVER_READ = ("/proc", "/sys", "/dev")  # files there may be endless, or devices
_MAX_DEPTH = 20  # levels of folders
_MAX_ENTRIES = 4 * MAX_ROWS  # files and folders of a tree

Parts = tuple[str, ...]  # names of the folders down to a file, and the file's name


@dataclasses.dataclass
class Found:
    """The contents of a folder, without hidden and system names.

    Attributes:
        pictures: parts of the path of each file that claims to be a picture.
        parquet: parts of the path of each file with a name of a Parquet file.
        folders: parts of the path of each folder.
        others: relative paths of other files inside sub-folders; files at the top are not counted.
        broken: relative path -> reason, for everything that is not a regular file.
    """

    pictures: list[Parts] = dataclasses.field(default_factory=list)
    parquet: list[Parts] = dataclasses.field(default_factory=list)
    folders: list[Parts] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)


def walk(root: Path, name: str) -> Found:
    """List the files below a folder. Links are followed to regular files, never to folders or devices."""
    found = Found()
    waiting: list[Parts] = [()]
    num_entries = 0
    while waiting:
        parts = waiting.pop()
        try:
            with os.scandir(root.joinpath(*parts)) as scanned:
                entries = sorted((entry for entry in scanned if not _is_left_behind(entry)), key=lambda e: e.name)
        except OSError as error:
            if not parts:
                raise
            found.broken["/".join(parts)] = f"a folder that cannot be read ({error.strerror}); make it readable"
            continue
        num_entries += len(entries)
        if num_entries > _MAX_ENTRIES:
            raise InputError(f"{name}: more than {_MAX_ENTRIES:,} files; give a smaller folder")
        for entry in entries:
            path = (*parts, entry.name)
            if entry.is_dir(follow_symlinks=False):
                found.folders.append(path)
                if len(path) > _MAX_DEPTH:
                    raise InputError(f"{name}: more than {_MAX_DEPTH} levels of folders, at {shown(path[0])}")
                waiting.append(path)
            elif not entry.is_file(follow_symlinks=False) and (problem := file_problem(entry.path)):
                found.broken["/".join(path)] = problem
            elif entry.name.lower().endswith(PARQUET_SUFFIXES):
                found.parquet.append(path)
            elif entry.name.lower().endswith(PICTURE_SUFFIXES) or is_meant_as_picture(entry):
                found.pictures.append(path)
            elif parts:
                found.others.append("/".join(path))
        if len(found.pictures) > MAX_ROWS:
            raise InputError(f"{name}: more than {MAX_ROWS:,} images; give a smaller folder")
    found.pictures.sort()
    found.others.sort()
    return found


def _is_left_behind(entry: os.DirEntry[str]) -> bool:
    """Return True for hidden names and system folders, which are never data."""
    return is_hidden(entry.name) or entry.name.casefold() in _SYSTEM_FOLDERS


def file_problem(path: str | os.PathLike[str]) -> str | None:
    """Say why a path cannot be read as a file; None for a regular file or a link to one."""
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode):
            return _kind_problem(mode)
        first = os.path.join(os.path.dirname(path), os.readlink(path))
        target = os.path.realpath(path, strict=True)
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        is_link = os.path.islink(path)
        return (
            "a symbolic link to nothing; fetch its target, or remove it"
            if is_link
            else "no such file; mend its path, or add it"
        )
    except OSError as error:
        looped = "that leads to itself" if error.errno == errno.ELOOP else f"({error.strerror})"
        return f"a symbolic link {looped}; remove it" if os.path.islink(path) else _unreadable(error)
    if any(map(_is_never_read, (os.path.normpath(os.path.abspath(first)), target))):
        return "a symbolic link into /proc, /sys or /dev; remove it"
    if stat.S_ISDIR(mode):
        return "a symbolic link to a folder; put the folder itself in its place"
    problem = _kind_problem(mode)
    return f"a symbolic link to {problem}" if problem else None


def listed_file_problem(root: Path, relative: str) -> str | None:
    """Say why a path in a table cannot be read as a file; None for a regular file or a link to one.

    Args:
        root: the folder of the table, from which relative paths start.
        relative: the path in the table; it may be absolute, or lead out of the folder.
    """
    if problem := file_problem(root / relative):
        return problem
    real_root = os.path.realpath(root)
    lexical = os.path.normpath(os.path.join(real_root, relative))
    for path in (lexical, os.path.realpath(root / relative)):  # folders in the path may be links
        if _is_never_read(path) and not path.startswith(real_root + os.sep):  # the table itself may be in /dev/shm
            return "a path into /proc, /sys or /dev; remove it"
    return None


def _unreadable(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error}); make it readable, or remove it"


def _is_never_read(path: str) -> bool:
    return any(path == root or path.startswith(root + "/") for root in _NEVER_READ)


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return f"{kinds.get(stat.S_IFMT(mode), 'no regular file')}, not a file; remove it"
