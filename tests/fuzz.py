"""Coverage-guided fuzzing of the readers of untrusted input with atheris (pip install atheris; not in the suite).

    python tests/fuzz.py csv CORPUS_DIR -max_total_time=600 -seed=1 -timeout=20 -rss_limit_mb=2048

Targets: csv, npz, folder, layout, table, paths, parquet, config, image. Anything but an InputError of one short line
ends the session with the input. CORPUS_DIR is filled with a few good files first; what libFuzzer finds is kept there.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["fer_tf"]):
    from fer_tf import artifacts, config, faces, recipes
    from fer_tf.data.loading import load_dataset
    from fer_tf.data.names import merge_names, split_of
    from fer_tf.data.reading import parquet as _  # noqa: F401  # `read` imports it only when it is needed
    from fer_tf.data.reading.folders import arrange
    from fer_tf.data.reading.parquet_pages import page_sizes
    from fer_tf.errors import InputError
    from fer_tf.faces import kinds, pictures

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_FOLDER = Path(tempfile.mkdtemp(prefix="fer-fuzz-"))
_CACHE = _FOLDER / "cache"  # for lists of broken files
os.environ["XDG_CACHE_HOME"] = str(_CACHE)
logging.getLogger("fer_tf").addHandler(logging.NullHandler())
_USAGES = (b"Training", b"PublicTest", b"PrivateTest")
_LONGEST_LINE = 2000  # characters of a message


def _may_refuse(work, *arguments, **settings) -> None:
    try:
        work(*arguments, **settings)
    except InputError as error:
        assert len(str(error)) <= _LONGEST_LINE, f"a message of {len(str(error))} characters"
        assert str(error).isprintable(), f"a message with control characters: {error!r}"
        shutil.rmtree(_CACHE, ignore_errors=True)


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def csv(data: bytes) -> None:
    _may_refuse(load_dataset, _file("fer2013.csv", data), training=bool(len(data) % 2))


def npz(data: bytes) -> None:
    """Half of the inputs are the file itself, half are its members, because checksums reject most changes of a zip."""
    give = atheris.FuzzedDataProvider(data)
    if give.ConsumeBool():
        archive = give.ConsumeBytes(1 << 20)
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as out:
            for name in ("images", "labels", "split", "class_names"):
                if give.ConsumeIntInRange(0, 15):
                    out.writestr(f"{name}.npy", _member(give, name))
            for _ in range(give.ConsumeIntInRange(0, 2)):
                name = give.ConsumeUnicodeNoSurrogates(40).partition("\0")[0] or "x"  # what zipfile can write
                out.writestr(name, give.ConsumeBytes(64))
        archive = buffer.getvalue()
    _may_refuse(load_dataset, _file("faces.npz", archive), training=False)


def _member(give: atheris.FuzzedDataProvider, name: str) -> bytes:
    rows = give.ConsumeIntInRange(0, 4)
    good = {
        "images": np.zeros((rows, 48, 48), np.uint8),
        "labels": np.arange(rows) % 2,
        "split": np.array(["train", "test", "validation", "train"][:rows], "<U10"),
        "class_names": np.array(["a", "b"]),
    }[name]
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, good)
    member = bytearray(buffer.getvalue())
    for _ in range(give.ConsumeIntInRange(0, 4)):
        at = give.ConsumeIntInRange(0, min(len(member), 200) - 1)
        new = give.ConsumeBytes(give.ConsumeIntInRange(0, 12))
        member[at : at + (len(new) if give.ConsumeBool() else 0)] = new
    return bytes(member)


def folder(data: bytes) -> None:
    give = atheris.FuzzedDataProvider(data)
    root = _FOLDER / "folder"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    splits = ("train", "test", "Training", "validation", "PublicTest", "x", "", "x/eval", "7", "train/happy/s1")
    for number in range(give.ConsumeIntInRange(0, 6)):
        split = splits[give.ConsumeIntInRange(0, len(splits) - 1)]
        name = give.ConsumeUnicodeNoSurrogates(12).replace("/", "_").replace("\0", "_").strip(".") or "happy"
        name = ("sad", "1", "Anger", name)[give.ConsumeIntInRange(0, 3)]
        suffix = (".png", ".jpg", ".txt", "")[give.ConsumeIntInRange(0, 3)]
        content = _SOUND[give.ConsumeIntInRange(0, 3)] if give.ConsumeBool() else give.ConsumeBytes(300)
        path = root / split / name / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if give.ConsumeIntInRange(0, 7):
            path.write_bytes(content)
        else:
            path.symlink_to(("nowhere", path.name, "..", "/dev/zero", "0.png")[give.ConsumeIntInRange(0, 4)])
    _may_refuse(
        load_dataset,
        root,
        training=give.ConsumeBool(),
        skip_broken=give.ConsumeBool(),
        class_names=(None, ["fer2013"], ["rafdb"], ["a", "b"])[give.ConsumeIntInRange(0, 3)],
        subjects=(None, r"(\d)", give.ConsumeUnicodeNoSurrogates(6))[give.ConsumeIntInRange(0, 2)],
    )


def layout(data: bytes) -> None:
    """Only names of folders and files: whatever the names, each picture is read or left out once."""
    give = atheris.FuzzedDataProvider(data)
    words = ("train", "Val", "test_set", "happy", "Anger", "3", "", "PublicTest1.png")
    names = [give.ConsumeUnicodeNoSurrogates(8).replace("/", "") or "x" for _ in range(give.ConsumeIntInRange(1, 4))]
    names += [word or "s1" for word in words]
    pictures = set()
    for _ in range(give.ConsumeIntInRange(1, 12)):
        depth = give.ConsumeIntInRange(1, 6)
        pictures.add(tuple(names[give.ConsumeIntInRange(0, len(names) - 1)] for _ in range(depth)))
    found = arrange(sorted(pictures))
    seen = [path for path, _, _ in found.rows] + [path for paths in found.left_out.values() for path in paths]
    assert sorted(seen) == sorted("/".join(parts) for parts in pictures)
    class_names, class_of = merge_names([folder for _, _, folder in found.rows])
    assert set(class_of.values()) == set(class_names) and len(set(class_names)) == len(class_names)
    for name in names:
        assert split_of(name) == split_of(name.upper().lower()) or not name.isascii()
        assert merge_names([name, *class_names])[1][name] in merge_names([name, *class_names])[0]


def _choose(give: atheris.FuzzedDataProvider, choices):
    """One of the choices, or a few bytes from the fuzzer."""
    place = give.ConsumeIntInRange(0, len(choices))
    return choices[place] if place < len(choices) else give.ConsumeBytes(12)


def _table(give: atheris.FuzzedDataProvider, header, columns) -> bytes:
    """A table in one of many encodings; each field is one of the column's choices, or bytes from the fuzzer."""
    separator = _choose(give, (b",", b";", b"\t"))
    end = _choose(give, (b"\n", b"\r\n", b"\r"))
    rows = [[_choose(give, names) for names in header]] if give.ConsumeIntInRange(0, 7) else []
    rows += [[_choose(give, column) for column in columns] for _ in range(give.ConsumeIntInRange(0, 6))]
    quote = give.ConsumeIntInRange(0, 3) == 3
    text = end.join(separator.join(b'"%s"' % field if quote else field for field in row) for row in rows)
    form = give.ConsumeIntInRange(0, 7)
    if form == 6:
        text = text.decode("utf-8", "replace").encode("utf-16")
    return b"\xef\xbb\xbf" + text if form == 7 else text


_PIXELS = tuple(b" ".join([b"%d" % (7 * side % 256)] * side * side) for side in (8, 9, 48))
_LABELS = (b"3", b"7", b"0.0", b"Happiness", b"sad", b"+4", b"08")
_SPLIT_NAMES = (*_USAGES, b"train", b"VAL", b"test")


def table(data: bytes) -> None:
    """A table of pixels in any encoding, plain or inside an archive."""
    give = atheris.FuzzedDataProvider(data)
    lists = (*_PIXELS, b"[" + _PIXELS[0].replace(b" ", b", ") + b"]", _PIXELS[1].replace(b" ", b".0 "), _PIXELS[0][:-9])
    header = ((b"emotion", b"Label"), (b"pixels", b"image"), (b"Usage", b" split "), (b"subject", b"x", b"path"))
    text = _table(give, header, (_LABELS, lists, _SPLIT_NAMES, (b"p1", b"p2", b"")))
    packing = give.ConsumeIntInRange(0, 4)
    if packing in (2, 3):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=("w:", "w:gz")[packing - 2]) as archive:
            for name, content in (("fer2013/README", b"x"), ("fer2013/fer2013.csv", text)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        text = bytearray(buffer.getvalue())
        for _ in range(give.ConsumeIntInRange(0, 3)):
            text[give.ConsumeIntInRange(0, min(len(text), 2048) - 1)] = give.ConsumeIntInRange(0, 255)
    elif packing == 4:
        text = gzip.compress(text)
    _may_refuse(load_dataset, _file("table.csv", bytes(text)), **_options(give))


def _options(give: atheris.FuzzedDataProvider) -> dict:
    return {
        "training": give.ConsumeBool(),
        "skip_broken": give.ConsumeBool(),
        "class_names": (None, ["fer2013"], ["rafdb"], ["a", "b"])[give.ConsumeIntInRange(0, 3)],
        "subjects": (None, "subject", r"(\d)", give.ConsumeUnicodeNoSurrogates(6))[give.ConsumeIntInRange(0, 3)],
    }


_LISTED = (b"img/0.png", b"img\\1.png", b"./img/2.png", b"img/../img/3.png", b"/dev/zero", b"fifo", b"loop", b"no.png")


def paths(data: bytes) -> None:
    """A table of paths beside pictures, links and a FIFO; only the pictures in `img` may be read."""
    give = atheris.FuzzedDataProvider(data)
    root = _FOLDER / "paths"
    if not root.exists():
        (root / "img").mkdir(parents=True)
        for number, content in enumerate(_SOUND):
            (root / f"img/{number}.png").write_bytes(content)
        os.mkfifo(root / "fifo")
        (root / "loop").symlink_to("loop")
    if give.ConsumeBool():
        header = ((b"path", b"image", b"File Name"), (b"label", b"emotion"), (b"split", b"Usage"), (b"subject", b"x"))
        text = _table(give, header, (_LISTED, (b"happy", b"sad", b"1", b"Bored"), _SPLIT_NAMES, (b"p1", b"p2", b"")))
    else:
        text = b"path,label\nimg/0.png,happy\nimg/1.png,sad\n" + give.ConsumeBytes(400)
    options = _options(give)
    (root / "table.csv").write_bytes(text)

    def read() -> None:
        dataset = load_dataset(root / "table.csv", **options)
        if dataset.files is not None:
            read_from = {os.path.realpath(root / file) for file in dataset.files}
            assert all(os.path.dirname(file) == os.path.realpath(root / "img") for file in read_from), read_from

    _may_refuse(read)


def parquet(data: bytes) -> None:
    """A file of any kind of columns, then changed in places: the footer, the headers of pages, the pages."""
    give = atheris.FuzzedDataProvider(data)
    kind = give.ConsumeIntInRange(0, 7)
    if kind == 0:
        with contextlib.suppress(ValueError):
            page_sizes(io.BytesIO(data), 1, give.ConsumeIntInRange(0, 1 << 40))
        return
    root = _FOLDER / "parquet"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for number in range(give.ConsumeIntInRange(1, 2)):
        name = ("train", "test-00000-of-00001", "x", "train/0000", "0")[give.ConsumeIntInRange(0, 4)]
        content = give.ConsumeBytes(1 << 16) if kind == 1 else _parquet_file(give)
        path = root / f"{name}{number or ''}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    _may_refuse(
        load_dataset,
        root if give.ConsumeBool() else path,
        training=give.ConsumeBool(),
        skip_broken=give.ConsumeBool(),
        class_names=(None, ["fer2013"], ["rafdb"], ["a", "b"])[give.ConsumeIntInRange(0, 3)],
        subjects=(None, r"(\d)", "label")[give.ConsumeIntInRange(0, 2)],
    )


def _parquet_file(give: atheris.FuzzedDataProvider) -> bytes:
    rows = give.ConsumeIntInRange(0, 6)

    def one_of(values):
        return values[give.ConsumeIntInRange(0, len(values) - 1)]

    def text() -> str:
        return one_of(("happy", "sad", "1", "-1", "train", "7", give.ConsumeUnicodeNoSurrogates(8)))

    def picture() -> bytes | None:
        return one_of((*_SOUND, None, give.ConsumeBytes(40)))

    def column(first: int = 0, last: int = 7):
        binary = one_of((pa.binary(), pa.large_binary(), pa.binary_view()))
        string = one_of((pa.string(), pa.large_string(), pa.string_view(), pa.binary()))
        struct = pa.struct([("bytes", binary), ("path", string)])
        kinds = (
            lambda: pa.array([picture() for _ in range(rows)], binary),
            lambda: pa.array([{"bytes": picture(), "path": text()} for _ in range(rows)], struct),
            lambda: pa.array([one_of((0, 1, 2, None, -1)) for _ in range(rows)], pa.int64()),
            lambda: pa.array([text() for _ in range(rows)], string),
            lambda: pa.array([text() for _ in range(rows)]).dictionary_encode(),
            lambda: pa.array([give.ConsumeFloat() for _ in range(rows)]),
            lambda: pa.array([[1]] * rows),
            lambda: pa.nulls(rows),
        )
        return kinds[give.ConsumeIntInRange(first, last)]()

    sound = give.ConsumeIntInRange(0, 3)  # most have the expected columns
    names = ["image", "label"] if sound else []
    columns = [column(0, 1), column(2, 4)] if sound else []
    for _ in range(give.ConsumeIntInRange(not sound, 2)):
        names.append(one_of(("image", "label", "split", "subject", "x", "image.bytes", text())))
        columns.append(column())
    features = {
        names[0]: {"_type": "Image"},
        names[-1]: {"_type": "ClassLabel", "names": [text() for _ in range(give.ConsumeIntInRange(0, 3))]},
    }
    metadata = json.dumps({"info": {"features": one_of((features, [], {names[-1]: 3}))}})
    if not give.ConsumeIntInRange(0, 7):
        metadata = give.ConsumeUnicodeNoSurrogates(40)
    table = pa.table(columns, names).replace_schema_metadata({"huggingface": metadata})
    buffer = io.BytesIO()
    dictionary = give.ConsumeBool()
    delta = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) and table.schema.names.count(field.name) == 1
    ]
    with contextlib.suppress(pa.ArrowException):  # if writing fails, a part of a file remains
        pq.write_table(
            table,
            buffer,
            row_group_size=one_of((1, 2, 100)),
            use_dictionary=dictionary,
            compression=one_of(("none", "snappy", "zstd", "gzip")),
            data_page_version=one_of(("1.0", "2.0")),
            column_encoding=None if dictionary else dict.fromkeys(delta, "DELTA_BYTE_ARRAY") or None,
            store_schema=give.ConsumeBool(),
        )
    file = bytearray(buffer.getvalue())
    for _ in range(give.ConsumeIntInRange(0, 4)):
        place = give.ConsumeIntInRange(0, max(len(file) - 1, 0))
        at = place if give.ConsumeBool() else max(len(file) - 1 - place % 600, 0)  # often in the footer
        new = give.ConsumeBytes(give.ConsumeIntInRange(0, 8))
        file[at : at + (len(new) if give.ConsumeIntInRange(0, 3) else 0)] = new
    return bytes(file)


def settings(data: bytes) -> None:
    path = _file("config.json", data)

    def read() -> None:
        values = artifacts.read_json(path)
        values.pop("recipe", None)
        found = config.config_from_dict(values, recipes.RECIPES["report"])
        assert config.config_from_dict(json.loads(json.dumps(found.to_dict()))) == found

    _may_refuse(read)


def image(data: bytes) -> None:
    """Decode a JPEG at its full size and at a part of it."""

    def read(min_side: int) -> None:
        picture = pictures.decode_picture(data, "face", min_side=min_side)
        crop = faces.to_grey48(picture.image)
        assert crop.shape == (48, 48) and crop.dtype == np.uint8
        assert picture.image.mode in ("L", "RGB") and picture.image.info == {}
        assert all(part <= whole for part, whole in zip(picture.image.size, picture.size, strict=True))

    _may_refuse(read, pictures.MIN_SIDE)
    if kinds.kind_of(data[:256]) == "JPEG":
        _may_refuse(read, 1)


def _picture(kind: str, size: tuple[int, int] = (9, 7), mode: str = "RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


_PNG = _picture("PNG", (48, 48), "L")
_SOUND = (_PNG, *(_picture(format, (48, 48), "L") for format in ("JPEG", "GIF", "TIFF")))


def _seeds(target: str) -> list[bytes]:
    row = b"3," + b" ".join([b"7"] * 2304)
    table = b"emotion,pixels,Usage\n" + b"".join(row + b"," + use + b"\n" for use in _USAGES)
    if target == "csv":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("fer2013.csv", table)
        return [table, gzip.compress(table), packed.getvalue(), b"emotion,pixels\n" + row + b"\n"]
    if target == "config":
        return [json.dumps(chosen.to_dict()).encode() for chosen in recipes.RECIPES.values()] + [b'{"epochs": 3}']
    if target == "parquet":
        return [bytes([kind, *range(seed, seed + 200)]) for kind in range(8) for seed in range(0, 50, 7)]
    if target == "image":
        exif = Image.Exif()
        exif[0x0112] = 6
        formats = ("PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF", "JPEG", "MPO")
        found = [_picture(format, mode=mode) for format in formats for mode in ("L", "RGB")]
        found += [_picture(format, exif=exif) for format in ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF")]
        more = [Image.effect_noise((9, 7), 80)]
        found += [_picture(x, save_all=True, append_images=more) for x in ("GIF", "WEBP", "TIFF", "AVIF", "PNG", "MPO")]
        found += [_picture("TIFF", compression=x) for x in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")]
        found += [_picture("TIFF", mode="1", compression="group4"), _picture("JPEG", (90, 70), progressive=True)]
        found += [
            _picture("PNG", mode="RGBA"),
            _picture("WEBP", mode="RGBA", lossless=True),
            _picture("TIFF", mode="CMYK"),
        ]
        if importlib.util.find_spec("pillow_heif"):
            import pillow_heif

            pillow_heif.register_heif_opener()  # so that Pillow writes HEIC
            found += [_picture("HEIF", (64, 64)), _picture("HEIF", (64, 64), exif=exif.tobytes())]
        return found
    return [bytes(64), bytes(range(256)), b"\0" * 4 + _PNG]


TARGETS = {
    "csv": csv,
    "npz": npz,
    "folder": folder,
    "layout": layout,
    "table": table,
    "paths": paths,
    "parquet": parquet,
    "config": settings,
    "image": image,
}


def main() -> None:
    target, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], TARGETS[target])
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(_FOLDER, ignore_errors=True)


if __name__ == "__main__":
    main()
