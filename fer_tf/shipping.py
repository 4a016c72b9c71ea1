"""Packs a run's model to be given away: what others need to use, check and judge it; no paths, no faces."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_tf.artifacts import RunDirectory, read_json, shipped_model, write_json, write_text
from fer_tf.confusions import percent
from fer_tf.data.dataset import SPLITS
from fer_tf.document import Block, Code, Heading, Items, Paragraph, Table, to_markdown
from fer_tf.errors import InputError
from fer_tf.evaluation import SELECTION_SPLIT, calibration_verdict, split_title
from fer_tf.lite0 import LICENSE as LITE0_LICENSE
from fer_tf.lite0 import PACKAGE as LITE0_PACKAGE
from fer_tf.report import Facts, limits, read_facts, write_report

_NUM_FER2013_TRAINING = 28_709
_OTHER = "This run's data: see its owner's terms."
_FER2013 = (
    "Trained on FER-2013 (Goodfellow et al., Challenges in Representation Learning, 2013), whose images were collected "
    "from the web and may be used for research only."
)
_FROM_FER2013 = (
    "It started from the backbone that ships with fer_tf, which was trained on FER-2013 (Goodfellow et al., 2013): "
    "research use only."
)
_WEIGHTS = (
    "The weights are given for research only (LICENSE-WEIGHTS); the code of fer_tf is under the Apache License 2.0."
)
_WEIGHTS_LICENCE = """\
Licence of the weights in this folder (model.keras and the .tflite files)

They were trained, wholly or at first, on FER-2013, whose images were collected from the web and are for research
only. So these weights may be used, copied, changed and passed on for research and teaching, with this text and with a
citation of FER-2013 (Goodfellow et al., "Challenges in Representation Learning: A report on three machine learning
contests", 2013). Any other use needs rights in those images that the authors of fer_tf do not have and cannot give.

Weights that are trained further from these come from the same images: the same holds for them.

There is no warranty of any kind. The code of fer_tf is under the Apache License 2.0.
"""
_FROM_LITE0 = (
    f"The backbone started from ImageNet weights of EfficientNet-Lite0, from the pip package {LITE0_PACKAGE}. The "
    "package does not state who trained these weights, or on which images beyond their name. Its LICENSE file reads:"
)
_HASHES = (
    "No image of the data is in this folder: train_hashes.txt holds a SHA-256 of each training image's pixels, by "
    "which a copy in other data is found."
)


def ship(run: RunDirectory, output: Path) -> list[Path]:
    """Writes the folder, whole or not at all.

    Args:
        run: trained, evaluated, and exported by `export_tflite --quantization auto`.
        output: the folder to make.

    Returns:
        Its files.

    Raises:
        InputError: if the run lacks one of the files, or `output` exists or cannot be made.
    """
    quantization = _chosen(run)
    copied = [
        run.model,
        run.tflite(quantization),
        run.scorecard(quantization),
        run.history,
        run.audit,
        run.train_hashes,
        run.report_text,
    ]
    missing = [path.name for path in (*copied, run.data, run.metrics) if not path.is_file()]
    if missing:
        raise InputError(f"{run.path} has no {', '.join(missing)}: let train end, then pack it")
    if output.exists():
        raise InputError(f"{output} exists already: choose another --output, or move it away")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        whole = tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}; choose a folder that can be written to") from error
    with whole as temporary:
        packed = RunDirectory(Path(temporary) / output.name)  # the report is headed by the folder's name
        packed.path.mkdir()
        for path in copied:
            shutil.copyfile(path, packed.path / path.name)
        write_json(packed.config, _without_paths(read_json(run.config)))
        data = _without_paths(read_json(run.data))
        write_json(packed.data, {**data, "command": _public_command(data.get("command"))})
        metrics = read_json(run.metrics)
        write_json(packed.metrics, {**metrics, "command": _public_command(metrics.get("command"))})
        write_report(packed, faces=False)
        facts = read_facts(packed)
        fer2013 = _holds_fer2013(run, facts)
        card = _card(facts, quantization, fer2013=fer2013)
        write_text(packed.model_card, to_markdown(f"Model card: {output.name}", card, {}))
        if fer2013 or _starts_from_fer2013(facts):
            write_text(packed.weights_licence, _WEIGHTS_LICENCE)
        write_text(packed.checksums, checksums(packed))
        try:
            packed.path.rename(output)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error
    return RunDirectory(output).files()


def checksums(folder: RunDirectory) -> str:
    """What `sha256sum -c SHA256SUMS` reads: a line a file of the folder, but for the list itself."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder.path).as_posix()}"
        for path in folder.files()
        if path != folder.checksums
    ]
    return "\n".join(lines) + "\n"


def _chosen(run: RunDirectory) -> str:
    """The quantization that `auto` chose: its scorecard lists what else was tried."""
    for path in sorted(run.path.glob(run.scorecard("*").name)):
        card = read_json(path)
        if card.get("tried"):
            return str(card["quantization"])
    raise InputError(f"{run.path} has no .tflite that auto chose: first fer-tf export_tflite --run {run.path}")


def _holds_fer2013(run: RunDirectory, facts: Facts) -> bool:
    """Whether images of FER-2013 trained the run.

    Its training split is known by its published count, a part of it by the hashes that ship with fer_tf: seven classes
    of somebody's own faces have terms of their own.
    """
    if sum(facts.metrics["data"]["counts"].get("train", [])) == _NUM_FER2013_TRAINING:
        return True
    try:
        shipped = RunDirectory(shipped_model(".keras").parent)
    except InputError:  # an installation without the model
        return False
    return not set(shipped.read_train_hashes() or ()).isdisjoint(run.read_train_hashes() or ())


def _starts_from_fer2013(facts: Facts) -> bool:
    """Whether the run's backbone came from the model that ships with fer_tf."""
    return facts.config.get("weights") == "fer2013"


def _without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the folders of this machine taken off."""
    clean = dict(values)
    for key in ("path", "weights"):
        if clean.get(key):
            clean[key] = Path(clean[key]).name
    if clean.get("teachers"):
        clean["teachers"] = [Path(teacher).name for teacher in clean["teachers"]]
    return clean


def _public_command(command: str | None) -> str | None:
    return command and shlex.join(Path(word).name if "/" in word else word for word in shlex.split(command))


def _card(facts: Facts, quantization: str, *, fer2013: bool) -> list[Block]:
    card = facts.scorecards[quantization]
    config, data = facts.config, facts.metrics["data"]
    names = ", ".join(data["class_names"])
    size = config["image_size"]
    licence = [_FER2013 if fer2013 else _OTHER]
    derived = _starts_from_fer2013(facts)
    if derived and not fer2013:
        licence.append(_FROM_FER2013)
    if derived or fer2013:
        licence.append(_WEIGHTS)
    return [
        Paragraph(
            f"EfficientNet-B0 for {size}x{size} pixels, which names the expression of one face as {names}. Input: the "
            "grey pixels of a cropped face, uint8, 48x48. Output: a probability for each class, calibrated by "
            f"temperature scaling (T = {facts.metrics['temperature']:.3f}, folded into the last layer)."
        ),
        Table(
            ("file", "what it is"),
            [
                ("model.keras", "the network, float32, without optimiser state; keras.models.load_model opens it"),
                (
                    f"model-{quantization}.tflite",
                    f"the LiteRT file that ships ({card['size_bytes'] / 1e6:.2f} MB): preprocessing, labels and "
                    "temperature inside, built-in operators only",
                ),
                (f"model-{quantization}.json", "its scorecard, with all quantizations that were tried"),
                ("metrics.json, report.md, report.html", "every figure, and the training report"),
                ("config.json, history.csv", "the recipe's settings and its epochs"),
                ("train_hashes.txt", "hashes of the training images"),
                ("SHA256SUMS", "sha256sum -c SHA256SUMS"),
            ],
            "ll",
        ),
        Heading("Results"),
        *_results(facts, card, fer2013=fer2013),
        Heading("Training data and licence"),
        Paragraph(" ".join([*licence, _HASHES])),
        *(_from_lite0() if config.get("weights") == "imagenet-lite0" else ()),
        Paragraph(
            f"Recipe {config.get('recipe', 'custom')}, {_counts(data)}. Gradients came from train alone. With the data "
            "at hand, the figures are computed again and compared with metrics.json by, beside this folder:"
        ),
        Code(f"fer-tf evaluate --run {facts.name} --data {data['source']}"),
        *limits(facts),
        Heading("What the labels cannot say"),
        Paragraph(
            "A label of FER-2013 is one reading of one web image. People who label the images again agree with it "
            "on 65 +/- 5 % (Goodfellow et al., 2013), and a second crowd (FER+; Barsoum et al., 2016) chose the same "
            "class by majority for about 61 % of them. A face shows what muscles do, posed "
            "or not, and people in the same state show different faces. So a score is a statement on the picture's "
            "likeness to labelled pictures, never on a feeling, an intention, a character or a state of health."
        )
        if fer2013
        else Paragraph("A class is the label that similar pictures were given, not a fact about a person."),
    ]


def _from_lite0() -> list[Block]:
    return [Paragraph(_FROM_LITE0), Items(LITE0_LICENSE.split("\n\n"))]


def _counts(data: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{split} {sum(data['counts'][split]):,}" for split in SPLITS if split in data["counts"]) + " images"
    )


def _results(facts: Facts, card: Mapping[str, Any], *, fer2013: bool) -> list[Block]:
    blocks: list[Block] = []
    for split, found in facts.keras.items():
        low, high = found["accuracy_interval"]
        f1_low, f1_high = found["macro_f1_interval"]
        calibration, before = found["calibration"], found.get("calibration_before")
        unscaled = f" ({before['ece']:.3f} before temperature scaling)" if before else ""
        blocks += [
            Paragraph(
                f"Keras model, {split_title(split)}, {found['num_images']:,} images, one view: accuracy "
                f"{percent(found['accuracy'])} (95 % interval {percent(low)} to {percent(high)}), macro-F1 "
                f"{found['macro_f1']:.3f} ({f1_low:.3f} to {f1_high:.3f}), balanced accuracy "
                f"{percent(found['balanced_accuracy'])}, expected calibration error "
                f"{calibration['ece']:.3f}{unscaled}, negative log-likelihood {calibration['nll']:.3f}."
            ),
            Table(
                ("class", "images", "precision", "recall", "F1"),
                [
                    (
                        row["name"],
                        f"{row['support']:,}",
                        *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
                    )
                    for row in found["per_class"]
                ],
                "lrrrr",
            ),
        ]
    scores = card["validation"]
    low, high = scores["difference_interval"]
    blocks.append(
        Paragraph(
            f"The {card['quantization']} .tflite on the selection split: accuracy {percent(scores['accuracy'])}, "
            f"{100 * scores['difference']:+.2f} points against Keras (95 % {100 * low:+.2f} to {100 * high:+.2f}), the "
            f"same class for {percent(scores['agreement'])} of the images; one image in {card['latency_ms']:.2f} ms on "
            f"one thread ({card['machine']['cpu']})."
        )
    )
    check = facts.keras.get(SELECTION_SPLIT, {}).get("calibration_check")
    if check:
        blocks.append(
            Paragraph(
                f"Temperature fitted on one half of that split, measured on the other: {calibration_verdict(check)}"
            )
        )
    if fer2013 and "test" not in facts.keras:
        blocks.append(Paragraph("Test split (PrivateTest): scored separately; it chose nothing."))
    return blocks


def read_checksums(folder: RunDirectory) -> dict[str, str]:
    """File name -> SHA-256, as `checksums` wrote them."""
    lines = folder.checksums.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
