"""Section: how to train the same model again."""

from __future__ import annotations

import shlex
from pathlib import Path

from fer_tf.artifacts import RunDirectory
from fer_tf.report.document import Block, Code, Folded, Paragraph, Table
from fer_tf.report.facts import Facts


def reproduction(facts: Facts) -> list[Block]:
    metrics = facts.metrics
    blocks: list[Block] = []
    command = str(metrics.get("command") or "")
    if "--resume" in command:
        blocks.append(Paragraph("The run was resumed; its last command was:"))
    if command:
        blocks.append(Code(command))
    else:
        blocks.append(Paragraph("The command was not recorded; use the settings and the versions below."))
    if facts.data:
        blocks += [
            Paragraph(
                "To train the model again from the start with the settings of this folder, run this in the folder "
                "that contains it:"
            ),
            Code(shlex.join(_command_from_files(facts))),
        ]
        weights = str(facts.config.get("weights", ""))
        files = [f"{Path(weights).name} (initial weights)"] if Path(weights).suffix else []  # else no file
        files += [f"{Path(teacher).name} (teacher)" for teacher in facts.config.get("teachers", ())]
        files += [f"{Path(model).name} (to average with)" for model in facts.config.get("average_with", ())]
        if files:
            blocks.append(
                Paragraph(
                    f"It also needs these files, which are not in this folder: {', '.join(files)}. Change their paths "
                    "in config.json."
                )
            )
    rows = {
        "commit": metrics.get("commit"),
        "data, SHA-256": metrics.get("data", {}).get("sha256") or facts.audit.get("sha256"),
        **metrics.get("versions", {}),
    }
    blocks.append(Folded("Versions and checksum", [Table.from_pairs(rows)]))
    if not metrics.get("commit"):
        blocks.append(Paragraph("The commit was not recorded."))
    return blocks


def _command_from_files(facts: Facts) -> list[str]:
    """Return a command that trains such a run from the start, whatever commands made this one."""
    words = ["fer-tf", "train", "--config", RunDirectory(facts.name).config.as_posix()]
    if facts.data.get("path"):
        words += ["--data", str(facts.data["source"])]
    if source := facts.data.get("label_source"):
        words += ["--labels", source["file"], "--labels-as", source["as"]]
    if facts.data.get("classes"):
        words += ["--classes", ",".join(facts.data["classes"])]
    if facts.data.get("limit"):
        words += ["--limit", str(facts.data["limit"])]
    return words
