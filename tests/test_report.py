"""The report of a small run: what it contains, what it leaves out, and how a browser shows it."""

import base64
import json
import re
import shutil

import numpy as np
import pytest

from fer_tf.artifacts import RunDirectory, write_json, write_text
from fer_tf.commands.report import main
from fer_tf.config import Config
from fer_tf.data.dataset import Dataset
from fer_tf.errors import InputError
from fer_tf.evaluation.calibration import calibration_check
from fer_tf.evaluation.metrics import evaluate
from fer_tf.report.facts import read_facts
from fer_tf.report.figures import draw_run
from fer_tf.report.writing import FACE_FIGURES, write_audit, write_report
from tests.chromium import Chromium, needs_chromium

NAMES = ("sad", "neutral", "disgust")
HISTORY = """\
phase,epoch,image_size,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy
1,1,64,61,0.001,1.2,0.30,1.1,0.40
1,2,64,59,0.001,1.1,0.42,1.0,0.45
2,1,64,100,0.0001,0.9,0.55,0.8,0.60
2,2,64,100,0.0001,0.7,0.70,0.7,0.65
2,3,64,100,0.00005,0.6,0.80,0.9,0.62
"""
SECTIONS = [
    "Conclusion",
    "Results by phase",
    "Confusion matrix and analysis",
    "When to trust an answer",
    "Calibration",
    "Exported models",
    "Limits and intended use",
    "Exploratory analysis",
    "Data audit",
    "Experiment overview",
    "Configuration",
    "How to reproduce",
]


def make_run(path, *, class_names=NAMES, synthetic=False, test_split=True):
    """A run with every file that the report reads, made without training."""
    rng = np.random.default_rng(0)
    splits = ("train", "validation", "test") if test_split else ("train", "validation")
    num_classes = len(class_names)
    labels = np.concatenate([np.arange(12) % num_classes, *(np.arange(40) % num_classes for _ in splits[1:])])
    dataset = Dataset(
        labels=labels,
        split=np.repeat(splits, [12] + [40] * (len(splits) - 1)),
        class_names=tuple(class_names),
        images=rng.integers(0, 256, (len(labels), 48, 48), dtype=np.uint8),
        source="faces.csv",
        synthetic=synthetic,
        sha256="ab" * 32,
    )
    run = RunDirectory.create(path)
    write_json(run.config, {"recipe": "tiny", **Config(image_size=64, frozen_epochs=2, seed=7).to_dict()})
    write_json(run.data, {"path": "/somewhere/faces.csv", "classes": None, "limit": 0, "source": "faces.csv"})
    write_text(run.history, HISTORY)
    write_audit(dataset, run)
    figures, check = {}, {}
    for split in splits[1:]:
        part = dataset.take(split)
        probabilities = rng.dirichlet(np.ones(num_classes), len(part)) * 0.6 + 0.4 * np.eye(num_classes)[part.labels]
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        twin = np.zeros(len(part), bool)
        twin[:4] = True
        figures[split] = evaluate(part.labels, probabilities, class_names, has_duplicate=twin, temperature=1.25)
        if split == "validation":
            check = calibration_check(part.labels, probabilities)
    write_json(
        run.metrics,
        {
            "command": "fer-tf train --data faces.csv",
            "commit": "1234abc",
            "machine": {"cpu": "Example 3000", "cores": 2, "memory_gib": 8.0, "system": "Linux x86_64"},
            "versions": {"python": "3.11.0", "keras": "3.15.1"},
            "data": {"source": "faces.csv", "sha256": "ab" * 32, "synthetic": synthetic},
            "best": {"phase": 2, "epoch": 2, "val_accuracy": 0.65, "val_loss": 0.7},
            "seconds": 420.0,
            "temperature": 1.25,
            "calibration": check,
            "keras": figures,
            "model_evaluate": {"train": {"loss": 0.5, "accuracy": 0.9}},
            "baselines": {"majority class": 0.35},
            "tflite": {"float32": figures},
        },
    )
    return run


def text_of(run):
    """The Markdown without its escapes, which the document's own tests check."""
    return re.sub(r"\\([^\w\s])", r"\1", run.report_md.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full_run(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "full")
    write_report(run)
    return run


@pytest.fixture
def copied_run(full_run, tmp_path):
    """A copy of the run that a test may change, without the report."""
    run = RunDirectory(shutil.copytree(full_run.path, tmp_path / "run"))
    run.report_md.unlink()
    run.report_html.unlink()
    return run


def test_sections_stand_in_their_order_in_both(full_run):
    assert re.findall(r"^## (.*)$", text_of(full_run), re.MULTILINE) == SECTIONS
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", full_run.report_html.read_text(encoding="utf-8")) == SECTIONS
    assert text_of(full_run).startswith("# Training report: full\n")


def test_results_by_phase_word_for_word(full_run):
    text = text_of(full_run)
    assert "| 1 (head alone) | 2 | 2 min | 0.001 | 0.001 | 1.200 to 1.100 | 42.0 % | 45.0 % (epoch 2) | 1.000 |" in text
    assert (
        "| 2 (all layers) | 3 | 5 min | 0.0001 | 5e-05 | 0.900 to 0.600 | 80.0 % | 65.0 % (epoch 2) | 0.700 |" in text
    )
    assert (
        "On validation (selection split) training all layers gained 20.0 points over the frozen backbone. The best "
        "epoch is epoch 2 of phase 2 (number 4 in the curves). Training accuracy was then 5.0 points above that on "
        "validation (selection split)." in text
    )


def test_figures_are_those_of_the_files(full_run):
    text, metrics = text_of(full_run), json.loads(full_run.metrics.read_text())
    for split, title in (("validation", "validation (selection split)"), ("test", "test")):
        found = metrics["keras"][split]
        low, high = found["accuracy_interval"]
        accuracy = f"{100 * found['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        assert f"| {title} | 40 | {accuracy} |" in text
        assert f"| {title}, images without a copy in train | 36 |" in text
        before, after = found["calibration_before"], found["calibration"]
        assert f"| {title} | before temperature scaling | {before['ece']:.4f} |" in text
        assert f"| {title} | as saved | {after['ece']:.4f} |" in text
    assert "| train | 90.0 % | 0.500 |" in text
    assert "| majority class | 35.0 % |" in text
    assert "This section describes the saved Keras model on test." in text
    assert (
        "A temperature of 1.250 was fitted on validation (selection split) and folded into the head's weights, so the "
        "Keras model and every exported file give the same scores. By likelihood, the scores were overconfident "
        "before.\n"
    ) in text
    found = metrics["keras"]["test"]
    low, high = (100 * bound for bound in found["accuracy_interval"])
    assert (
        f"| Accuracy | {100 * found['accuracy']:.1f} % | 95 % interval {low:.1f} to {high:.1f}; test, 40 images |\n"
        f"| Macro-F1 | {found['macro_f1']:.3f} | 95 % interval "
    ) in text.split("## ")[0]
    sides = [(found[key]["ece"], found[key]["nll"]) for key in ("calibration_before", "calibration")]
    (ece, nll), (ece_after, nll_after) = sides
    assert (
        f"On test it {'lowers' if ece_after < ece else 'raises'} the calibration error and "
        f"{'lowers' if nll_after < nll else 'raises'} the negative log-likelihood."
    ) in text
    assert "| seed | 7 |" in text and "| commit | 1234abc |" in text and f"| data, SHA-256 | {'ab' * 32} |" in text
    assert "    fer-tf train --data faces.csv\n" in text
    assert "| Processor | Example 3000 |" in text and "| keras | 3.15.1 |" in text
    assert "| image_size | 64 | side of the network's input" in text
    assert "4 of these images are also in the training data" in text


def test_the_selection_split_is_never_named_alone(full_run):
    """Every line with a figure on validation says that the split selected the model."""
    for line in text_of(full_run).splitlines():
        if re.search(r"\| validation\b", line):
            assert "selection split" in line, line


def test_pictures_are_inside_the_page_and_beside_the_markdown(full_run):
    page, text = full_run.report_html.read_text(encoding="utf-8"), text_of(full_run)
    sources = re.findall(r'<img src="([^"]*)"', page)
    names = re.findall(r"\]\(figures/(\w+)\.png\)", text)
    assert names == [
        "curves",
        "confusion_matrix",
        "class_scores",
        "selective",
        "reliability",
        "class_balance",
    ]
    assert len(sources) == len(names)
    for source, name in zip(sources, names, strict=True):
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == full_run.figure(name).read_bytes()
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == []


def test_faces_are_shown_only_if_asked_for(copied_run):
    run = copied_run
    for name in ("confident_errors", "example_answers"):
        run.figure(name).write_bytes(run.figure("mean_faces").read_bytes())
    write_report(run, faces=True)
    assert all(f"figures/{name}.png" in text_of(run) for name in FACE_FIGURES)
    write_report(run)
    assert not any(f"{name}.png" in text_of(run) for name in FACE_FIGURES)
    assert "figures/curves.png" in text_of(run)
    page = run.report_html.read_text(encoding="utf-8")
    assert base64.b64encode(run.figure("mean_faces").read_bytes()).decode() not in page


def test_exported_files_side_by_side(copied_run):
    """One row shows everything that training, `evaluate` and `export_tflite` measured on a file."""
    run = copied_run
    metrics = json.loads(run.metrics.read_text())
    scores = {"accuracy": 0.5, "macro_f1": 0.4}
    metrics["keras"] = {split: {**found, **scores} for split, found in metrics["keras"].items()}
    metrics["tflite"] = {
        "float32": {"validation": scores, "test": scores},
        "int8": {"test": {"accuracy": 0.45, "macro_f1": 0.375}},
    }
    write_json(run.metrics, metrics)
    run.tflite("float32").write_bytes(bytes(1_500_000))
    paired = {"difference": -0.025, "difference_interval": [-0.075, 0.025], "agreement": 0.9}
    card = {
        "quantization": "int8",
        "size_bytes": 400_000,
        "latency_ms": 0.5,
        "machine": {"cpu": "Example 3000"},
        "validation": {"accuracy": 0.475, "macro_f1": 0.39, "max_probability_difference": 0.08, **paired},
        "tried": [
            {
                "quantization": "int8",
                "size_bytes": 400_000,
                "latency_ms": 0.5,
                "accuracy": 0.475,
                "macro_f1": 0.39,
                **paired,
            },
            {
                "quantization": "dynamic",
                "size_bytes": 450_000,
                "latency_ms": 2,
                "accuracy": 0.2,
                "macro_f1": 0.1,
                **paired,
            },
        ],
    }
    write_json(run.scorecard("int8"), card)
    write_json(
        run.scorecard("float16"), {"validation": {"accuracy": 0.3, "macro_f1": 0.2, "source": "b.npz", "sha256": "cd"}}
    )
    write_report(run)
    text = text_of(run)
    start = text.index("| file | size |")
    assert text[start : text.index("\n\n", start)] == (
        """\
| file | size | accuracy, validation (selection split) | macro-F1 | accuracy, test | macro-F1 | points against Keras \
(95 %) | same class as Keras | largest difference of a score | one image, one thread |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| Keras | - | 50.0 % | 0.400 | 50.0 % | 0.400 | - | - | - | - |
| float32 .tflite | 1.50 MB | 50.0 % | 0.400 | 50.0 % | 0.400 | - | - | - | - |
| int8 .tflite | 0.40 MB | 47.5 % | 0.390 | 45.0 % | 0.375 | -2.50 (-7.50 to +2.50) | 90.0 % | 0.08 | 0.50 ms |
| float16 .tflite on b.npz | - | 30.0 % | 0.200 | - | - | - | - | - | - |
| dynamic, tried and not kept | 0.45 MB | 20.0 % | 0.100 | - | - | -2.50 (-7.50 to +2.50) | 90.0 % | - | 2.00 ms |"""
    )
    assert "Times are medians of one prediction on Example 3000; they differ on other processors." in text
    assert "on the same images; the comparison with Keras is on validation (selection split):\n" in text
    assert (
        "Exported, it keeps its accuracy as float32 .tflite and loses 5.0 points as int8 .tflite on the same images."
    ) in text
    # The headline has a file with a size and a time.
    assert (
        "| File size | 0.40 MB | int8 .tflite |\n| Time for one image | 0.50 ms | one thread of Example 3000 |" in text
    )
    del metrics["keras"]["test"], metrics["tflite"]
    write_json(run.metrics, metrics)
    write_report(run)
    # Files that were scored on other data or not kept are not the run's files.
    assert "Exported, it loses 2.5 points as int8 .tflite on the same images." in text_of(run)


def test_epochs_at_a_smaller_size_do_not_compete(copied_run):
    """Progressive resizing: only weights at the full size are kept, however good a smaller size was."""
    run = copied_run
    history = HISTORY.replace("2,1,64,100,0.0001,0.9,0.55,0.8,0.60", "2,1,48,100,0.0001,0.9,0.55,0.8,0.90")
    write_text(run.history, history.replace("2,3,64,100,0.00005", "2,3,64,100,0.00002"))
    metrics = json.loads(run.metrics.read_text())
    for best in (metrics["best"], {}):
        write_json(run.metrics, {**metrics, "best": best})
        write_report(run)
        assert "80.0 % | 65.0 % (epoch 2) | 0.700 |" in text_of(run)
        assert "The best epoch is epoch 2 of phase 2 (number 4 in the curves)." in text_of(run)


def test_learning_rates_of_a_warm_up(copied_run):
    write_text(copied_run.history, HISTORY.replace("2,1,64,100,0.0001", "2,1,64,100,0.0"))
    write_report(copied_run)
    assert "| 2 (all layers) | 3 | 5 min | 0.0001 | 5e-05 |" in text_of(copied_run)


def test_training_figures_are_explained(copied_run):
    settings = json.loads(copied_run.config.read_text())
    for changes, words in (
        ({"class_weights": "none"}, "with augmentation and dropout."),
        (
            {"label_smoothing": 0.1, "mixup": 0.2},
            "the training loss includes label smoothing, class weights and mixed images, the validation loss does not.",
        ),
    ):
        write_json(copied_run.config, {**settings, **changes})
        write_report(copied_run)
        assert words in text_of(copied_run)


def test_test_time_augmentation_stands_beside_the_single_view(copied_run):
    run = copied_run
    metrics = json.loads(run.metrics.read_text())
    test = metrics["keras"]["test"]
    comparison = {"difference": 0.0125, "difference_interval": [-0.005, 0.03], "p_value": 0.2}
    test["tta"] = {**test, "num_views": 10, "ms_per_image": 12.5, "single_ms_per_image": 1.25, "comparison": comparison}
    test["tta"]["accuracy"] = 0.875
    write_json(run.metrics, metrics)
    write_report(run)
    assert "| test, mean of 10 views | 40 | 87.5 % (" in text_of(run)
    assert (
        "Averaging over 10 views of each image (mirrored, shifted) takes 12.50 ms an image instead of 1.25 ms and "
        "changes the accuracy on test by +1.25 points (95 % -0.50 to +3.00; McNemar's exact test p = 0.2)."
    ) in text_of(run)


def test_when_to_trust_an_answer(copied_run):
    run, metrics = copied_run, json.loads(copied_run.metrics.read_text())
    for split, found in metrics["keras"].items():
        found["selective"] |= (
            {"score_for_90": 0.75, "share_for_90": 0.4, "area": 0.875} if split == "validation" else {}
        )
    write_json(run.metrics, metrics)
    write_report(run)
    section = text_of(run).split("## When to trust an answer")[1].split("## ")[0]
    assert "| validation (selection split) | 0.75 | 40.0 % | 0.875 |" in section
    assert "fer-tf predict --min-score 0.75 answers uncertain below that score." in section
    for found in metrics["keras"].values():  # of version 0.1
        del found["selective"]
    write_json(run.metrics, metrics)
    write_report(run)
    assert "Selective accuracy was not measured" in text_of(run) and "figures/selective.png" not in text_of(run)


def test_prediction_sets_on_test_stand_in_report(copied_run):
    run, metrics = copied_run, json.loads(copied_run.metrics.read_text())
    write_report(run)
    assert "Sets of classes" not in text_of(run)
    of_class = [
        {"name": name, "num_images": count, "coverage": share, "mean_size": size}
        for name, count, share, size in zip(NAMES, (14, 26, 0), (0.5, 0.9, None), (1.5, 2.0, None), strict=True)
    ]
    sets = {"coverage": 0.8875, "coverage_interval": [0.78, 0.97], "mean_size": 1.825, "per_class": of_class}
    metrics["keras"]["test"]["prediction_sets"] = {"0.9": sets}
    write_json(run.metrics, metrics)
    write_report(run)
    section = text_of(run).split("## When to trust an answer")[1].split("## ")[0]
    assert (
        "- Prediction sets for 90 % hold the label of 88.8 % of the images (95 % interval 78.0 to 97.0), with 1.82 "
        "classes on average.\n"
    ) in section
    assert "| sad | 14 | 50.0 % (1.50) |" in section and "| disgust | 0 | - (-) |" in section


def test_calibration_verdict_says_what_failed(copied_run):
    run = copied_run
    write_report(run)
    metrics = json.loads(run.metrics.read_text())
    assert ("Passed: neither" in text_of(run)) == metrics["calibration"]["passed"]
    first, second = metrics["calibration"]["halves"]
    second.update(band=[0.01, 0.02], ece_after=0.03, inside_band=False, nll_before=1.0, nll_after=0.9)
    first.update(band=[0.01, 0.02], ece_after=0.005, inside_band=True, nll_before=1.0, nll_after=0.9)
    metrics["calibration"]["passed"] = False
    write_json(run.metrics, metrics)
    write_report(run)
    text = text_of(run)
    assert (
        "Not passed: the calibration error of half 2 lies above its band. What it means: even on images like these, a "
        "score is not an exact share of right answers. It is off by 3.0 points on average in the worse half"
    ) in text
    assert "| 0.0050 | 0.0100 to 0.0200 | below |" in text and "| 0.0300 | 0.0100 to 0.0200 | above |" in text


def test_a_run_can_be_repeated_whatever_command_ended_it(copied_run):
    run = copied_run
    metrics = json.loads(run.metrics.read_text())
    write_json(run.metrics, {**metrics, "command": "fer-tf train --resume runs/full"})
    write_json(run.data, {**json.loads(run.data.read_text()), "classes": ["sad", "neutral"], "limit": 50})
    write_report(run)
    assert (
        "The run was resumed; its last command was:\n\n    fer-tf train --resume runs/full\n\n"
        "To train the model again from the start with the settings of this folder, run this in the folder that "
        "contains it:\n\n"
        "    fer-tf train --config run/config.json --data faces.csv --classes sad,neutral --limit 50\n"
    ) in text_of(run)
    write_json(run.data, {"path": None, "source": "synthetic faces"})
    write_report(run)
    assert "    fer-tf train --config run/config.json\n" in text_of(run)
    assert "/somewhere" not in text_of(run)


def test_what_a_repetition_needs_besides_the_data_is_named(copied_run):
    run = copied_run
    write_report(run)
    assert "It also needs" not in text_of(run)
    settings = {"weights": "/somewhere/start.keras", "teachers": ["/somewhere/runs/one", "two.tflite"]}
    write_json(run.config, {**json.loads(run.config.read_text()), **settings})
    write_report(run)
    assert (
        "It also needs these files, which are not in this folder: start.keras (initial weights), one (teacher), "
        "two.tflite (teacher). Change their paths in config.json.\n"
    ) in text_of(run)


def test_conclusion_names_the_split_of_each_figure(full_run):
    text = text_of(full_run)
    conclusion = text[text.index("## Conclusion") :]
    assert re.search(
        r"On test the Keras model most often takes \w+ for \w+\. "
        r'It is [\d.]+ points above the baseline "majority class"\. '
        r"Exported, it keeps its accuracy as float32 \.tflite on the same images\. "
        r"On the 36 of them without a copy in the training data it (gains|loses) [\d.]+ points\. "
        r"On validation \(selection split\) it (gains|loses) [\d.]+ points\.\n\n## ",
        conclusion,
    )


def test_synthetic_runs_say_so_in_title_and_figures(tmp_path):
    run = make_run(tmp_path / "demo", synthetic=True)
    write_report(run)
    text = text_of(run)
    assert text.startswith("# Training report on synthetic faces: demo\n")
    assert "<title>Training report on synthetic faces: demo</title>" in run.report_html.read_text(encoding="utf-8")
    assert "; synthetic test, 40 images |" in text
    assert f"figures/{FACE_FIGURES[0]}.png" in text  # a program drew these faces
    assert "synthetic validation (selection split)" in text
    assert not re.search(r"(?<![Ss]ynthetic )validation \(selection split\)", text)
    for caption in re.findall(r"!\[(.*?)\]\(", text):
        assert "synthetic" in caption


def test_a_run_without_a_test_split_says_what_that_means(tmp_path):
    run = make_run(tmp_path / "run", test_split=False)
    write_report(run)
    assert "This section describes the saved Keras model on validation (selection split)." in text_of(run)
    assert "The data had no test split, so this is true of every figure here." in text_of(run)


def test_what_a_run_lacks_is_said_plainly(tmp_path):
    run = RunDirectory.create(tmp_path / "bare")
    write_json(run.config, {"image_size": 64, "seed": 0})
    write_report(run)
    text = text_of(run)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    for sentence in (
        "The run has no metrics: it has not ended, or has not been evaluated.",
        "The run has no audit of its data.",
        "The run has no history: no epoch has ended.",
        "There is no confusion matrix: the model was not evaluated on any split.",
        "No .tflite file of this run was scored.",
        "The command was not recorded",
        "The commit was not recorded.",
        "The run has no evaluated model, so there is nothing to conclude yet.",
    ):
        assert sentence in text
    assert "| Model | EfficientNet-B0, input 64x64 pixels |\n\n" in text  # the only row of the overview
    assert "![" not in text and "<img" not in run.report_html.read_text(encoding="utf-8")


def test_data_audit_in_words(copied_run):
    run = copied_run
    write_report(run)
    assert (
        "- All 92 images are different.\n- No image of one split has an exact or near duplicate in another.\n"
    ) in text_of(run)
    findings = json.loads(run.audit.read_text())
    findings["exact"].update(
        unique=80, groups=5, largest=3, conflicting=2, conflicts=[{"labels": ["sad", "neutral"], "groups": 2}]
    )
    findings["exact"]["across"][0]["images"] = 4
    findings["near"]["across"][1].update(images=3, conflicting=1)
    write_json(run.audit, findings)
    write_report(run)
    assert (
        "- Of 92 images 80 are different; 5 of them occur more than once (the most frequent 3 times).\n"
        "- 2 groups of copies carry different labels (most often sad and neutral: 2): no model can be right about all "
        "of them.\n"
        "- 4 validation images (10.0 %) are also in train.\n"
        "- 3 further test images have a near duplicate in train, 1 of them with another label.\n"
    ) in text_of(run)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"weights": "none"}, "The weights start at random, so there is no frozen phase"),
        ({"weights": "none"}, "All layers are trained for at most 40 epochs (BatchNorm trained too)"),
        ({"frozen_epochs": 1}, "Phase 1 trains the new head alone for 1 epoch at a learning rate of 0.0001"),
        ({"frozen_epochs": 0}, "The backbone starts from the weights imagenet; the frozen phase is left out."),
        ({"early_stopping_patience": 0}, "Phase 2 trains all layers for 40 epochs (BatchNorm trained too)"),
        ({"schedule": "cosine", "warmup_epochs": 2.0}, "falling along a cosine after 2 epochs of warm-up"),
        ({"schedule": "cosine", "warmup_epochs": 1.0}, "falling along a cosine after 1 epoch of warm-up"),
        ({"schedule": "cosine"}, "0.0001, falling along a cosine; it ends"),
        (
            {"initial_image_size": 48, "image_size": 64, "resizing_epochs": 8},
            "The first 8 epochs of these see smaller images, from 48 pixels a side upwards, the others 64 pixels.",
        ),
        ({"initial_image_size": 48, "image_size": 64, "resizing_epochs": 8}, "all phases at the full size is kept."),
        ({"class_weights": "sqrt"}, "The loss weights each class by the root of n / (classes x count)."),
        ({"class_weights": "none"}, "The loss is not weighted by class."),
    ],
)
def test_strategy_follows_the_settings(tmp_path, settings, sentence):
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, Config(**settings).to_dict())
    write_report(run)
    assert sentence in text_of(run)


def test_no_validation_figures_in_the_history(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, {"image_size": 64})
    write_text(
        run.history, "phase,epoch,seconds,learning_rate,loss,accuracy,val_loss,val_accuracy\n2,1,9,0.1,1,0.5,,\n"
    )
    write_report(run)
    assert "| 2 (all layers) | 1 | 9 s | 0.1 | 0.1 | 1.000 | 50.0 % | - | - |" in text_of(run)
    assert "No epoch was scored on a validation split." in text_of(run)


def test_no_epoch_of_the_final_size_yet(tmp_path):
    """After an early stop in progressive resizing, text and curves agree that no epoch can be kept."""
    run = RunDirectory.create(tmp_path / "run")
    write_json(run.config, {"image_size": 64})
    write_text(run.history, "\n".join(HISTORY.replace(",64,", ",48,").splitlines()[:3]) + "\n")
    write_report(run)
    assert "No epoch was scored at the final size of 64 pixels yet." in text_of(run)
    assert "| 1 (head alone) | 2 | 2 min | 0.001 | 0.001 | 1.200 to 1.100 | 42.0 % | - | - |" in text_of(run)
    curves = draw_run(read_facts(run))["curves"]
    assert not any("best epoch" in line.get_label() for ax in curves.axes for line in ax.lines)


def test_class_names_are_text(tmp_path):
    names = ("<script>alert(1)</script>", "sad | [x](http://e.org) *b*", "{z}$x$")
    run = make_run(tmp_path / "run", class_names=names)
    write_report(run)
    page, text = run.report_html.read_text(encoding="utf-8"), run.report_md.read_text(encoding="utf-8")
    assert "<script" not in page and "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "sad | [x](http://e.org) *b*" in page
    assert r"sad \| \[x\](http://e.org) \*b\*" in text


# --- The command ---


def test_command_writes_both_and_says_where(full_run, capsys):
    assert main(["--run", str(full_run.path)]) == 0
    assert capsys.readouterr().out == f"wrote {full_run.report_md}\nwrote {full_run.report_html}\n"


def test_command_without_faces(copied_run):
    for flags, shown in ((["--faces"], True), ([], False), (["--no-faces"], False)):
        assert main(["--run", str(copied_run.path), *flags]) == 0
        assert ("mean_faces" in text_of(copied_run)) == shown


@pytest.mark.parametrize(
    "break_it, words",
    [
        (lambda run: shutil.rmtree(run.path), "no run at"),
        (lambda run: run.config.unlink(), "no run at"),
        (lambda run: run.metrics.write_text("{"), "not JSON"),
        (lambda run: run.metrics.write_text('{"keras": {"test": {"accuracy": 1}}}'), "do not fit together"),
        (lambda run: run.metrics.write_text('{"keras": 5}'), "do not fit together"),
        (lambda run: run.audit.write_text('{"splits": {}}'), "do not fit together"),
        (lambda run: run.history.write_text("phase,epoch,loss\n1,1,0.5\n1,2,x\n"), "history.csv row 3"),
        (lambda run: run.history.write_text("a,b\n1,2\n"), "do not fit together"),
    ],
)
def test_a_broken_run_gets_one_line_and_status_2(copied_run, capsys, break_it, words):
    run = copied_run
    break_it(run)
    assert main(["--run", str(run.path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fer-tf report: error: ") and err.count("\n") == 1 and words in err
    assert not run.report_md.exists() and not run.report_html.exists()


def test_write_report_raises_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        write_report(RunDirectory(tmp_path / "nothing"))


# --- In a real browser ---


@pytest.fixture(scope="module")
def chromium():
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    names = (
        "<script>document.title = 'taken'</script>",
        "a" * 60,
        "sad",
        "neutral",
        *(f"emotion {i}" for i in range(8)),
    )
    run = make_run(tmp_path_factory.mktemp("runs") / ("long-name-" * 12), class_names=names)
    write_report(run)
    return run


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["full_run", "hostile_run"])
def test_page_in_chromium(chromium, request, name, width):
    run = request.getfixturevalue(name)
    chromium.open(run.report_html, width)
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value("innerWidth") == width
    assert chromium.value("document.title") == f"Training report: {run.path.name}"
    pictures = chromium.value("[...document.images].map(image => [image.naturalWidth, image.width])")
    # On a narrow screen, a picture's letters stay legible, and it scrolls in its box.
    assert len(pictures) == 6 and all(natural > 0 and 500 < shown <= max(width, 600) for natural, shown in pictures)
    boxes = chromium.value("[...document.querySelectorAll('.wide')].map(box => box.getBoundingClientRect().right)")
    assert max(boxes) <= width
    assert chromium.messages() == []
    assert all(url.startswith(("file:", "data:")) for url in chromium.requests())
