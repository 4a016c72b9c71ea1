"""Coverage-guided fuzzing of what reads untrusted input, by atheris (pip install atheris; not part of the suite).

    python tests/fuzz.py csv CORPUS_DIR -max_total_time=600 -seed=1 -timeout=20 -rss_limit_mb=2048

Targets: csv, npz, folder, config, image. Anything but an InputError of one short line ends the session with the input.
CORPUS_DIR is filled with a few good files first; what libFuzzer finds is kept there.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["fer_tf"]):
    from fer_tf import artifacts, config, faces, recipes
    from fer_tf.data.loading import load_dataset
    from fer_tf.errors import InputError
    from fer_tf.faces import kinds, pictures

import numpy as np
from PIL import Image

_FOLDER = Path(tempfile.mkdtemp(prefix="fer-fuzz-"))
_USAGES = (b"Training", b"PublicTest", b"PrivateTest")
_LONGEST_LINE = 2000  # characters of a message


def _may_refuse(work, *arguments, **settings) -> None:
    try:
        work(*arguments, **settings)
    except InputError as error:
        assert len(str(error)) <= _LONGEST_LINE, f"a message of {len(str(error))} characters"


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def csv(data: bytes) -> None:
    _may_refuse(load_dataset, _file("fer2013.csv", data), training=bool(len(data) % 2))


def npz(data: bytes) -> None:
    """Half of the inputs are the file itself, half its members: a random change rarely passes a zip's checksums."""
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


def settings(data: bytes) -> None:
    path = _file("config.json", data)

    def read() -> None:
        values = artifacts.read_json(path)
        values.pop("recipe", None)
        found = config.config_from_dict(values, recipes.RECIPES["report"])
        assert config.config_from_dict(json.loads(json.dumps(found.to_dict()))) == found

    _may_refuse(read)


def image(data: bytes) -> None:
    """A JPEG is decoded whole and at a part of its size."""

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


TARGETS = {"csv": csv, "npz": npz, "folder": folder, "config": settings, "image": image}


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
