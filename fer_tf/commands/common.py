"""Flags that several commands share."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from fer_tf.config import GROUPS, Config


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag for each field of Config, in groups; without the flag, the recipe's value holds."""
    title_of = {first: title for title, first in GROUPS.items()}
    note: str | None = "Each setting overrides the recipe's value. Shown: the recipe `report`."
    group: argparse._ArgumentGroup
    for field in dataclasses.fields(Config):
        if field.name in title_of:
            group = parser.add_argument_group(f"settings: {title_of[field.name]}", note)
            note = None
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        kind = type(field.default)
        if kind is bool:
            group.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=f"{text} ({field.default})"
            )
        elif kind is tuple:
            group.add_argument(flag, nargs="+", default=argparse.SUPPRESS, metavar="PATH", help=text)
        elif field.metadata["choices"]:
            group.add_argument(
                flag, choices=field.metadata["choices"], default=argparse.SUPPRESS, help=f"{text} ({field.default})"
            )
        else:
            group.add_argument(
                flag,
                type=kind,
                default=argparse.SUPPRESS,
                metavar={int: "N", float: "X", str: "NAME"}[kind],
                help=f"{text} ({field.default})",
            )


def config_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings on the command line, by field name."""
    return {field.name: getattr(args, field.name) for field in dataclasses.fields(Config) if hasattr(args, field.name)}


def parse_classes(text: str) -> list[str]:
    """Parse names with commas between them, as `happy,sad`."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between them, as happy,sad,neutral")
    return names


def add_reading_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the flags that say how a data set is read."""
    parser.add_argument(
        "--faces",
        choices=("auto", "detect", "whole"),
        default="auto",
        help="for pictures in a folder or a table of paths: whole: each is a crop of one face; detect: take the "
        "largest, most central face of each; auto: choose one of the two for all pictures (%(default)s)",
    )
    parser.add_argument(
        "--class-names",
        type=parse_classes,
        metavar="NAMES",
        help="names for classes that are only numbers: fer2013, rafdb, or a,b,... in the numbers' order",
    )
    parser.add_argument(
        "--subjects",
        metavar="PATTERN|COLUMN",
        help="where to find the person, so that nobody is in two of the splits that are cut: a regular expression "
        "whose first group is the person in a picture's path, or a column of a table",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="votes of FER+ (fer2013new.csv) that replace fer2013.csv's own labels: another target, with contempt as "
        "an eighth class",
    )
    parser.add_argument(
        "--labels-as",
        choices=("majority", "distribution"),
        help="majority: the label is what more than half voted for; distribution: train on the shares of the votes "
        "(majority)",
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave out and count what cannot be read")


def reading_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `load_dataset` that `add_reading_arguments` parsed."""
    names = ("faces", "class_names", "subjects", "skip_broken", "labels", "labels_as")
    return {name: getattr(args, name) for name in names}
