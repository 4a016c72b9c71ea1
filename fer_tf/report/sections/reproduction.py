"""Section: how to train the same again."""

from __future__ import annotations

import shlex
from pathlib import Path

from fer_tf.artifacts import RunDirectory
from fer_tf.report.document import Block, Code, Heading, Paragraph, Table
from fer_tf.report.facts import Facts


def reproduction(facts: Facts) -> list[Block]:
    metrics, data = facts.metrics, facts.metrics.get("data", {})
    blocks: list[Block] = [Heading("How to reproduce")]
    command = str(metrics.get("command") or "")
    if "--resume" in command:
        blocks.append(Paragraph("The run was resumed; its last command was:"))
    if command:
        blocks.append(Code(command))
    else:
        blocks.append(Paragraph("The command was not recorded; the settings above and this table take its place."))
    if facts.data:
        blocks += [
            Paragraph("The same from the start, with the settings of this folder, called beside it:"),
            Code(shlex.join(_command_from_files(facts))),
        ]
        weights = str(facts.config.get("weights", ""))
        files = [weights] if Path(weights).suffix else []  # the others are names that fer_tf knows
        needed = [Path(name).name for name in (*files, *facts.config.get("teachers", ()))]
        if needed:
            blocks.append(
                Paragraph(
                    f"It also needs {', '.join(needed)}, from which it starts or which teach it and which are not in "
                    "this folder: change their paths in config.json."
                )
            )
    checksum = data.get("sha256") or facts.audit.get("sha256")
    rows = [
        ("seed", str(facts.config["seed"])) if "seed" in facts.config else None,
        ("commit", str(metrics["commit"])) if metrics.get("commit") else None,
        ("data, SHA-256", checksum) if checksum else None,
        *((name, str(version)) for name, version in metrics.get("versions", {}).items()),
    ]
    blocks.append(Table(("", ""), [row for row in rows if row], "ll"))
    if not metrics.get("commit"):
        blocks.append(Paragraph("The commit was not recorded."))
    return blocks


def _command_from_files(facts: Facts) -> list[str]:
    """What trains such a run again, whatever commands led to it."""
    words = ["fer-tf", "train", "--config", RunDirectory(facts.name).config.as_posix()]
    if facts.data.get("path"):
        words += ["--data", str(facts.data["source"])]
    if facts.data.get("classes"):
        words += ["--classes", ",".join(facts.data["classes"])]
    if facts.data.get("limit"):
        words += ["--limit", str(facts.data["limit"])]
    return words
