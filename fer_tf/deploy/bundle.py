"""Packs a run into a folder to publish: everything to use, check and judge the model, without paths and faces."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_tf.artifacts import RunDirectory, read_json, shipped_train_hashes, write_json, write_text
from fer_tf.deploy.licences import WEIGHTS_LICENCE, needs_weights_licence
from fer_tf.deploy.model_card import model_card
from fer_tf.deploy.release import sample_answers
from fer_tf.errors import InputError
from fer_tf.report.document import to_markdown
from fer_tf.report.facts import Facts, read_facts
from fer_tf.report.writing import write_report

_NUM_FER2013_TRAINING = 28_709


def ship(run: RunDirectory, output: Path, *, with_keras: bool = True) -> list[Path]:
    """Write a packed folder, whole or not at all.

    Args:
        run: a finished run that `export_tflite --quantization auto` has exported.
        output: the folder to make.
        with_keras: False to leave model.keras out.

    Returns:
        The paths of the folder's files.

    Raises:
        InputError: if the run lacks a file for the folder, or `output` exists or cannot be made.
    """
    quantization = _chosen(run)
    copied = [
        *([run.model] if with_keras else []),
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
        bundle = RunDirectory(Path(temporary) / output.name)  # the report's title is the folder's name
        bundle.path.mkdir()
        for path in copied:
            shutil.copyfile(path, bundle.path / path.name)
        write_json(bundle.config, _without_paths(read_json(run.config)))
        data = _without_paths(read_json(run.data))
        write_json(bundle.data, {**data, "command": _public_command(data.get("command"))})
        metrics = read_json(run.metrics)
        write_json(bundle.metrics, {**metrics, "command": _public_command(metrics.get("command"))})
        write_report(bundle, faces=False)
        facts = read_facts(bundle)
        fer2013 = _holds_fer2013(run, facts)
        card = model_card(facts, quantization, fer2013=fer2013, with_keras=with_keras)
        write_text(bundle.model_card, to_markdown(f"Model card: {output.name}", card, {}))
        if needs_weights_licence(facts.config.get("weights"), fer2013=fer2013):
            write_text(bundle.weights_licence, WEIGHTS_LICENCE)
        write_text(bundle.sample, json.dumps(sample_answers(bundle.tflite(quantization))) + "\n")
        write_text(bundle.checksums, checksums(bundle))
        try:
            bundle.path.rename(output)
        except OSError as error:
            raise InputError(f"cannot write {output}: {error.strerror}") from error
    return RunDirectory(output).files()


def checksums(folder: RunDirectory) -> str:
    """Return the text of SHA256SUMS for `sha256sum -c`: a line for each other file of the folder."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder.path).as_posix()}"
        for path in folder.files()
        if path != folder.checksums
    ]
    return "\n".join(lines) + "\n"


def read_checksums(folder: RunDirectory) -> dict[str, str]:
    """Read file name -> SHA-256 from a folder's list of checksums."""
    lines = folder.checksums.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _chosen(run: RunDirectory) -> str:
    """Return the quantization that `auto` chose: the one whose scorecard has the list `tried`."""
    for path in sorted(run.path.glob(run.scorecard("*").name)):
        card = read_json(path)
        if card.get("tried"):
            return str(card["quantization"])
    raise InputError(f"{run.path} has no .tflite that auto chose: first run fer-tf export_tflite --run {run.path}")


def _holds_fer2013(run: RunDirectory, facts: Facts) -> bool:
    """Return True if the run was trained on images of FER-2013.

    The published count identifies the whole training split; the shipped hashes identify parts of it. The class names
    identify nothing: other faces with the same seven classes have other terms.
    """
    if sum(facts.metrics["data"]["counts"].get("train", [])) == _NUM_FER2013_TRAINING:
        return True
    return not shipped_train_hashes().isdisjoint(run.read_train_hashes() or ())


def _without_paths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with file names in place of paths."""
    clean = dict(values)
    for key in ("path", "weights"):
        if clean.get(key):
            clean[key] = Path(clean[key]).name
    for key in ("teachers", "average_with"):
        if clean.get(key):
            clean[key] = [Path(model).name for model in clean[key]]
    return clean


def _public_command(command: str | None) -> str | None:
    """Return the command with file names in place of paths; the k/K of --fold is not a path."""
    return command and shlex.join(
        Path(word).name if "/" in word and not re.fullmatch(r"(--fold=)?\d+/\d+", word) else word
        for word in shlex.split(command)
    )
