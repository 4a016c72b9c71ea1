"""File names and files: run directories, atomic writes, JSON, and the metadata inside models.

No other module knows the name of a file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_tf.errors import InputError
from fer_tf.install import install_hint

METADATA_NAME = "fer_tf.json"  # member of our .keras and .tflite files, which are zip archives too
LABELS_NAME = "labels.txt"
SHIPPED_MODEL_FOLDER = "saved_models/fer2013-efficientnet-b0"
FAST = "fast"  # stands for the small shipped model wherever a model's path is taken
FAST_MODEL_FOLDER = "saved_models/fer2013-fast"
# Version of the keys in a model's metadata, metrics.json and data.json. Version 1 wrote `format: 1` or nothing. Version
# 2 adds `prediction_sets` (thresholds by coverage) and `crop` (how faces are cut from pictures); None: not decided.
SCHEMA_VERSION = 2
_MAX_JSON_BYTES = 16 << 20  # far more than our files need; a huge crafted file is refused before it is read


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename the file to `path` if the block succeeds, else remove it.

    Raises:
        InputError: if the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a folder that can be written to") from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:  # a rename may reach the disk before the contents do
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # impossible if the folder has become read-only
            temporary.unlink(missing_ok=True)
        # Reword errors of these two files only; errors of files that the block reads pass unchanged.
        if isinstance(error, OSError) and error.filename in (None, name, str(path)):
            raise InputError(
                f"cannot write {path}: {error.strerror or error}: free space or make the folder writable (the "
                "previous file is unchanged)"
            ) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and need not sync it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: str | Path) -> None:
    """Check that a file can be written, before its contents are computed.

    Raises:
        InputError: if the path is a folder, or the file's folder cannot be made or written to.
    """
    path = Path(path)
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"cannot write {path}: choose a file in a folder that can be written to")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically: if it fails, the previous file stays."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file atomically: if it fails, the previous file stays."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, indented by two blanks: if it fails, the previous file stays."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        InputError: if the file is missing, too large, not JSON, or holds no object.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise InputError(f"{path} has {size:,} bytes: a settings file has at most {_MAX_JSON_BYTES:,}")
        return _parse_object(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _parse_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} holds a JSON {type(value).__name__}: expected an object with named fields")
    return value


def check_schema_version(values: dict[str, Any], name: str) -> None:
    """Refuse values that a newer fer_tf wrote.

    Args:
        values: a model's metadata, or the contents of metrics.json or data.json.
        name: the name of the values in the error message.

    Raises:
        InputError: if the version is above `SCHEMA_VERSION` or not a whole number.
    """
    version = values.get("schema_version", values.get("format", 1))
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise InputError(
            f"{name} has schema_version {version!r}: this fer_tf reads versions 1 to {SCHEMA_VERSION}; install a newer "
            "fer_tf"
        )


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata inside a .keras or .tflite of fer_tf: classes, image size, recipe, data, versions.

    Raises:
        InputError: if the file is missing or was not written by fer_tf.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no model file at {path}: give the path of a .keras or .tflite that fer_tf wrote")
    return _metadata(path, str(path))


def parse_metadata(content: bytes, name: str) -> dict[str, Any]:
    """Return the metadata of a .keras or .tflite whose bytes are in memory.

    Args:
        content: the whole file.
        name: the model's name in the error message.

    Raises:
        InputError: if fer_tf did not write the model.
    """
    return _metadata(io.BytesIO(content), name)


def _metadata(file: Path | io.BytesIO, name: str) -> dict[str, Any]:
    foreign = (
        f"{name} is not a model of fer_tf, or is cut short (no {METADATA_NAME} inside): give a .keras or .tflite that "
        "fer_tf wrote"
    )
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.getinfo(METADATA_NAME).file_size > _MAX_JSON_BYTES:
                raise InputError(foreign)
            data = archive.read(METADATA_NAME)
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(foreign) from error
    return check_metadata(data, name)


def check_metadata(data: bytes, name: str) -> dict[str, Any]:
    """Parse and check a model's metadata.

    Args:
        data: JSON.
        name: the model's name in error messages.

    Raises:
        InputError: if the metadata is damaged or of a newer version.
    """
    metadata = _parse_object(data, f"{name}:{METADATA_NAME}")
    names = metadata.get("class_names")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise InputError(f"{name}: its {METADATA_NAME} has no list of class_names; export the model again")
    check_schema_version(metadata, name)
    return metadata


def save_keras(model: Any, path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a Keras model as .keras with its metadata inside; plain `keras.models.load_model` opens it."""
    with atomic_path(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA_NAME, json.dumps(metadata, indent=2))


def shipped_model(suffix: str, folder: str = SHIPPED_MODEL_FOLDER) -> Path:
    """Path of a model that ships with fer_tf: inside the installed package, or in saved_models/ of a clone.

    Args:
        suffix: `.tflite`, or `.keras`, which only a clone has.
        folder: `SHIPPED_MODEL_FOLDER` or `FAST_MODEL_FOLDER`.

    Raises:
        InputError: if this installation has no such model.
    """
    found = _shipped(f"*{suffix}", folder)
    if found:
        return found[0]
    if folder == FAST_MODEL_FOLDER:
        raise InputError(
            f"this installation of fer_tf ships no model {FAST!r}: leave the model out to use the full-size model, or "
            "give the path of a model that fer_tf wrote"
        )
    if suffix == ".keras":
        raise InputError(
            "this installation of fer_tf has no .keras model, because pip copied it without -e: run "
            "`pip install -e '.[train]'` in the clone, start from ImageNet weights with --weights imagenet-lite0, or "
            "give a model with --weights FILE.keras"
        )
    raise InputError(
        f"this installation of fer_tf ships no {suffix} model: give one with --model FILE (EmotionClassifier(FILE) in "
        f"Python), or train one: {install_hint('train')} && fer-tf train --recipe scratch"
    )


def _shipped(pattern: str, folder: str) -> list[Path]:
    package = Path(__file__).parent
    for parent in (package, package.parent):
        found = sorted((parent / folder).glob(pattern))
        if found:
            return found
    return []


def find_model(model: str | os.PathLike[str] | None) -> Path:
    """Path of the model that a user names.

    Args:
        model: a path; `fast` for the small model that ships; None for the model that ships.

    Raises:
        InputError: if this installation does not ship the model.
    """
    if model is None:
        return shipped_model(".tflite")
    return shipped_model(".tflite", FAST_MODEL_FOLDER) if os.fspath(model) == FAST else Path(model)


def shipped_train_hashes() -> set[str]:
    """SHA-256 of the pixels of each training image of the shipped models; empty if this installation has no model."""
    found = [
        path for folder in (SHIPPED_MODEL_FOLDER, FAST_MODEL_FOLDER) for path in _shipped("train_hashes.txt", folder)
    ]
    return {line for path in found for line in RunDirectory(path.parent).read_train_hashes() or ()}


def cached_crops(key: str) -> Path:
    """Return the file that keeps the crops of a data set, under $XDG_CACHE_HOME or ~/.cache.

    Args:
        key: identifies the data and how it is cropped.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fer_tf" / f"crops-{key[:32]}.npz"


def left_out_list(key: str) -> Path:
    """Return the file that lists the broken files of a data set, in the same folder as `cached_crops`.

    Args:
        key: identifies the data and its broken files.
    """
    return cached_crops("").with_name(f"broken-{key[:32]}.txt")


class RunDirectory:
    """The files of one training run, by name."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.data = self.path / "data.json"
        self.history = self.path / "history.csv"
        self.log = self.path / "log.txt"
        self.state = self.path / "state.npz"
        self.previous_state = self.path / "state-previous.npz"
        self.model = self.path / "model.keras"
        self.metrics = self.path / "metrics.json"
        self.report_text = self.path / "report.txt"
        self.report_md = self.path / "report.md"
        self.report_html = self.path / "report.html"
        self.audit = self.path / "audit.json"
        self.train_hashes = self.path / "train_hashes.txt"
        self.model_card = self.path / "MODEL_CARD.md"
        self.weights_licence = self.path / "LICENSE-WEIGHTS"
        self.sample = self.path / "sample.json"
        self.checksums = self.path / "SHA256SUMS"
        self.tensorboard = self.path / "tensorboard"
        self.seeds = self.path / "seeds.json"  # only in a folder that holds the runs of several seeds

    def of_seed(self, seed: int) -> RunDirectory:
        """Return the run of one seed inside this folder."""
        return RunDirectory(self.path / f"seed-{seed}")

    def has_state(self) -> bool:
        """Return True if the run has finished an epoch."""
        return self.state.exists() or self.previous_state.exists()

    def best_weights(self, phase: int, epoch: int) -> Path:
        return self.path / f"best-{phase}-{epoch}.npz"

    def keep_best_weights(self, kept: list[tuple[int, int]]) -> None:
        """Remove the best weights of all epochs but the (phase, epoch) pairs in `kept`."""
        names = {self.best_weights(*epoch).name for epoch in kept}
        for path in self.path.glob("best-*.npz"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def read_train_hashes(self) -> list[str] | None:
        """Read the SHA-256 of each training image's pixels; None if the run has no such list."""
        return self.train_hashes.read_text(errors="replace").split() if self.train_hashes.is_file() else None

    def tflite(self, quantization: str) -> Path:
        return self.path / f"model-{quantization}.tflite"

    def scorecard(self, quantization: str) -> Path:
        return self.path / f"model-{quantization}.json"

    @property
    def onnx(self) -> Path:
        return self.path / "model.onnx"

    def figure(self, name: str) -> Path:
        return self.path / "figures" / f"{name}.png"

    def example(self, name: str) -> Path:
        return self.path / "examples" / f"{name}.png"

    def files(self) -> list[Path]:
        """List the run's files, sorted, without hidden and temporary ones."""
        return sorted(
            path
            for path in self.path.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(self.path).parts)
        )

    @classmethod
    def create(cls, path: str | Path) -> RunDirectory:
        """Make the folder of a new run.

        Raises:
            InputError: if it exists already or cannot be made.
        """
        run = cls(path)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            raise InputError(
                f"run directory {path} exists already: choose another --run, or continue it with --resume {path}"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot make run directory {path}: {error.strerror}; choose a folder that can be written to"
            ) from error
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open a run that exists.

        Raises:
            InputError: if there is no run at `path`.
        """
        run = cls(path)
        if not run.config.is_file():
            raise InputError(f"no run at {path}: expected a folder that `train` made, with a {run.config.name} in it")
        return run

    @property
    def is_bundle(self) -> bool:
        """True if `ship` made the run; its files must keep their checksums."""
        return self.checksums.is_file()

    def check_open(self) -> None:
        """Call before modifying the run's files.

        Raises:
            InputError: if the run is packed.
        """
        if self.is_bundle:
            raise InputError(
                f"{self.path} is packed and must keep the files that {self.checksums.name} lists: write into a copy "
                f"without {self.checksums.name}, or to another place with --output if the command has it"
            )

    def check_there(self) -> None:
        """Call before writing into the run: a write would recreate a folder that was removed.

        Raises:
            InputError: if the run's folder has been removed or renamed.
        """
        if not self.path.is_dir():
            raise InputError(
                f"run directory {self.path} was removed or renamed during the run: nothing more is written; if it was "
                "renamed, continue with --resume and the new name"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process; the system frees the lock when the process ends or is killed.

        Raises:
            InputError: if another process holds the lock.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no fcntl: run without a lock
            yield
            return
        try:
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"cannot write into {self.path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is training in {self.path}: wait for it or choose another --run"
                ) from None
            for temporary in self.path.glob(".*-*"):
                # Remove temporary files of an interrupted write; we hold the lock.
                temporary.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)


def new_run_path(parent: str | Path, name: str) -> Path:
    """Return the first free path of parent/name, parent/name-2, parent/name-3, ..."""
    taken = {entry.name for entry in Path(parent).iterdir()} if Path(parent).is_dir() else set()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "run"
    number = 1
    while (candidate := safe if number == 1 else f"{safe}-{number}") in taken:
        number += 1
    return Path(parent) / candidate
