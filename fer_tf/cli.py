"""The `fer-tf` program: finds the command, and turns the command's errors into one line and an exit status."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fer_tf import __version__, machine
from fer_tf.commands.examples import EXAMPLES
from fer_tf.errors import InputError, os_error_text
from fer_tf.install import install_hint, package_of

COMMANDS = {
    "train": "train a classifier, evaluate it and export it",
    "evaluate": "score a model on a split",
    "export_tflite": "write a quantised .tflite of a trained model",
    "export_onnx": "write a float32 .onnx of a trained model",
    "predict": "rank the emotions of the faces in pictures and videos",
    "classify": "classify millions of pictures into Parquet",
    "web": "write a page that runs a model in the browser",
    "explain": "show which parts of a face an answer depends on",
    "explore": "audit a data set: balance, duplicates, blanks",
    "prepare": "write any readable data set as one .npz file",
    "report": "write the training report of a run",
    "ship": "pack a run's model to be given away",
    "compare": "put runs side by side",
    "benchmark": "time decoding, training and inference on this machine",
}
# Any other missing module is part of `train`.
_EXTRA_OF_MODULE = {
    "cv2": "faces",
    "fsspec": "batch",
    "pyarrow": "batch",
    "ray": "ray",
    "jax": "jax",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "pillow_heif": "heif",
    "tf2onnx": "onnx",
    "tensorboard": "tensorboard",
}


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line; only --help prints the long usage."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        # Report a mistyped flag before a missing one: the flag may be missing because it is mistyped.
        if unknown := self._unknown_flags():
            message = f"no flag {', '.join(unknown)}"
            near = [flag for name in unknown for flag in difflib.get_close_matches(name, self._flags(), 1, 0.7)]
            if near:
                self.exit(2, f"{self.prog}: error: {message}: did you mean {', '.join(dict.fromkeys(near))}?\n")
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the flags)\n")

    def _flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _unknown_flags(self) -> list[str]:
        """Return the arguments that look like flags but match no flag and no beginning of a flag."""
        given = list(self._given)
        given = given[: given.index("--")] if "--" in given else given
        names = [text.split("=")[0] for text in given if re.match("--?[A-Za-z]", text)]
        return [
            name
            for name in dict.fromkeys(names)
            if name[:2] not in self._option_string_actions and not any(flag.startswith(name) for flag in self._flags())
        ]


class _QuietTensorFlow:
    """A finder for `sys.meta_path` that keeps TensorFlow's start-up notices off stderr, whoever imports it first.

    The notices come from native code, before TensorFlow reads its log level.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # TensorFlow was looked up, not imported: stay in place
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_quietly(module: Any) -> None:
            sys.meta_path.remove(self)
            with machine.silent_stderr():
                load(module)
                if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
                    module.config.list_physical_devices()  # the search for GPUs prints notices too
            module.get_logger().setLevel("ERROR")

        spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


def _quieten() -> None:
    """Let only our own lines and errors reach the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "tensorflow" not in sys.modules and not any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietTensorFlow())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def run_command(
    name: str,
    description: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the arguments, run the command, and report errors that the user can mend in one line on stderr.

    Args:
        name: the command's name, as the user types it.
        description: its help text.
        add_arguments: adds the command's own arguments to a parser.
        run: does the work and returns the exit status.
        argv: the arguments; those of the process if None.

    Returns:
        The exit status: that of `run`; 2 for bad input; 130 when interrupted.
    """
    parser = _Parser(
        prog=f"fer-tf {name}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[name]) if name in EXAMPLES else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="also show details and the notices of other packages")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fer_tf").setLevel(logging.DEBUG if args.verbose else logging.INFO)
    logging.raiseExceptions = False  # no traceback beside our line if the disk of the log file is full
    try:
        with warnings.catch_warnings():
            if not args.verbose:
                _quieten()
            return run(args)
    except InputError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module == "fer_tf" or not module:
            raise
        extra = _EXTRA_OF_MODULE.get(module, "train")
        message = f"this command needs the package {package_of(module)}: {install_hint(extra)}"
    except MemoryError:
        message = "out of memory: use a smaller --batch-size or --image-size"
    except BrokenPipeError:  # the pipe was closed (head, less): exit quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        message = os_error_text(error)
    except KeyboardInterrupt:
        print(f"fer-tf {name}: interrupted", file=sys.stderr)
        return 130
    print(f"fer-tf {name}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fer-tf COMMAND ...` and return the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="fer-tf",
        description="Facial expressions with EfficientNet-B0: train, evaluate, export, predict.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
        + "\n\nexamples:\n"
        + "\n".join(f"  {EXAMPLES[name][0]}" for name in ("predict", "train", "evaluate")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fer_tf {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="see below; COMMAND --help lists its flags")
    if not argv:
        parser.print_help()
        return 2
    name = parser.parse_args(argv[:1]).command
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("-", "_"), COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "fer-tf --help lists the commands"
        if os.path.exists(name):
            hint = f"to rank its emotions: fer-tf predict {shlex.quote(name)}"
        parser.exit(2, f"fer-tf: error: no command {name}: {hint}\n")
    return importlib.import_module(f"fer_tf.commands.{name}").main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
