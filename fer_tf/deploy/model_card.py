"""The model card: use of the model, its results, its training data and licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_tf.deploy.licences import backbone_terms, data_terms
from fer_tf.evaluation.calibration import calibration_verdict
from fer_tf.evaluation.conformal import sets_in_words
from fer_tf.evaluation.selective import selective_in_words
from fer_tf.report.document import Block, Code, Heading, Items, Paragraph, Table
from fer_tf.report.facts import Facts
from fer_tf.report.sections.limits import limits
from fer_tf.task import SELECTION_SPLIT, SPLITS, split_title
from fer_tf.text import megabytes, network_name, percent, points, votes_text, with_interval

_HASHES = (
    "No image of the data is in this folder: train_hashes.txt holds a SHA-256 of each training image's pixels, which "
    "finds a copy in other data."
)


def model_card(facts: Facts, quantization: str, *, fer2013: bool, with_keras: bool = True) -> list[Block]:
    """Write the model card of a packed run.

    Args:
        facts: the facts of the run.
        quantization: quantization of the .tflite in the folder.
        fer2013: True if the run was trained on images of FER-2013.
        with_keras: False if the folder has no model.keras.
    """
    card = facts.scorecards[quantization]
    config, data = facts.config, facts.metrics["data"]
    votes = data.get("label_source")
    names = ", ".join(data["class_names"])
    size = config["image_size"]
    backbone = backbone_terms(config.get("weights"))
    return [
        Paragraph(
            f"{network_name(config.get('width'))} for {size}x{size} pixels, which names the expression of one face as "
            f"{names}. Input: the grey pixels of a cropped face, uint8, 48x48. Output: a probability for each class, "
            f"calibrated by temperature scaling (T = {facts.metrics['temperature']:.3f}, folded into the last layer)."
        ),
        Table(
            ("file", "what it is"),
            [
                *(
                    [("model.keras", "the network, float32, without optimiser state; keras.models.load_model opens it")]
                    if with_keras
                    else []
                ),
                (
                    f"model-{quantization}.tflite",
                    f"the LiteRT file that ships ({megabytes(card['size_bytes'])}): preprocessing, labels and "
                    "temperature inside, built-in operators only",
                ),
                (f"model-{quantization}.json", "its scorecard, with all quantizations that were tried"),
                ("metrics.json, report.md, report.html", "every figure, and the training report"),
                ("config.json, history.csv", "the recipe's settings and its epochs"),
                ("train_hashes.txt", "hashes of the training images"),
                ("sample.json", "ten drawn faces and the .tflite's answers, to check a port to another runtime"),
                ("SHA256SUMS", "sha256sum -c SHA256SUMS"),
            ],
            "ll",
        ),
        Heading("Results"),
        *_results(facts, card, fer2013=fer2013),
        Heading("Training data and licence"),
        Paragraph(f"{data_terms(config.get('weights'), fer2013=fer2013)} {_HASHES}"),
        *(
            (Paragraph(f"The labels are {votes_text(votes)}, which differ from the labels of the data itself."),)
            if votes
            else ()
        ),
        *((Paragraph(backbone[0]), Items(backbone[1])) if backbone else ()),
        Paragraph(
            f"Recipe {config.get('recipe', 'custom')}, {_counts(data)}. Gradients came from train alone. If you have "
            "the data, run this beside this folder; it computes the figures again and compares them with metrics.json:"
        ),
        Code(
            f"fer-tf evaluate --run {facts.name} --data {data['source']}"
            + ("" if with_keras else f" --quantization {quantization}")
            + (f" --labels {votes['file']} --labels-as {votes['as']}" if votes else "")
        ),
        Heading("Limits and intended use"),
        *limits(facts),
        Heading("What the labels cannot say"),
        Paragraph(
            "A label of FER-2013 is one reading of one web image. People who label the images again agree with it "
            "on 65 +/- 5 % (Goodfellow et al., 2013), and a second crowd (FER+; Barsoum et al., 2016) chose the same "
            "class by majority for about 61 % of them. A face shows what muscles do, posed "
            "or not, and people in the same state show different faces. So a score says how much the picture resembles "
            "labelled pictures; it says nothing of a feeling, an intention, a character or a state of health."
        )
        if fer2013
        else Paragraph("A class is the label that similar pictures were given, not a fact about a person."),
    ]


def _counts(data: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{split} {sum(data['counts'][split]):,}" for split in SPLITS if split in data["counts"]) + " images"
    )


def _results(facts: Facts, card: Mapping[str, Any], *, fer2013: bool) -> list[Block]:
    blocks: list[Block] = []
    for split, found in facts.keras.items():
        calibration, before = found["calibration"], found.get("calibration_before")
        unscaled = f" ({before['ece']:.3f} before temperature scaling)" if before else ""
        blocks += [
            Paragraph(
                f"Keras model, {split_title(split)}, {found['num_images']:,} images, one view: accuracy "
                f"{with_interval(found, 'accuracy', '95 % interval ')}, macro-F1 {with_interval(found, 'macro_f1')}, "
                "balanced accuracy "
                f"{percent(found['balanced_accuracy'])}, expected calibration error "
                f"{calibration['ece']:.3f}{unscaled}, negative log-likelihood {calibration['nll']:.3f}."
            ),
            *([Paragraph(selective_in_words(found["selective"]))] if "selective" in found else ()),
            *(Paragraph(sets_in_words(name, sets)) for name, sets in found.get("prediction_sets", {}).items()),
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
    low, high = map(points, scores["difference_interval"])
    blocks.append(
        Paragraph(
            f"The {card['quantization']} .tflite on the selection split: accuracy {percent(scores['accuracy'])}, "
            f"{points(scores['difference'])} points against Keras (95 % {low} to {high}), the "
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
