"""Writes a page that runs a model in the browser: a folder of files that any web host serves.

The page finds faces in photographs and in the camera's picture, and ranks their emotions. No picture leaves the
visitor's device.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fer_tf.cli import run_command
from fer_tf.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", metavar="DIR", help="the folder to write")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="FILE|fast", help="a .tflite, or fast (default: the full-size shipped model)")
    model.add_argument("--run", metavar="RUN", help="a run that train made: its .tflite, or the smallest of several")
    parser.add_argument("--serve", action="store_true", help="then serve the page on this machine until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """Write the page; serve it if asked."""
    from fer_tf import web
    from fer_tf.artifacts import find_model

    model = _model_of(args.run) if args.run else find_model(args.model)
    folder = web.build(args.folder, model)
    print(f"Wrote the page into {folder}: put this folder on any web host")
    if args.serve:
        with web.Server(folder) as server:
            print(f"Serving at {server.address} until Ctrl-C", flush=True)
            server.serve_forever()
    return 0


def _model_of(run: str) -> Path:
    from fer_tf.artifacts import RunDirectory

    found = sorted(RunDirectory.open(run).path.glob("model-*.tflite"), key=lambda path: path.stat().st_size)
    if not found:
        raise InputError(f"run {run} has no .tflite: write one with fer-tf export_tflite --run {run}")
    return found[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("web", __doc__ or "", add_arguments, run, argv)
