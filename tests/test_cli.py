import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_tf.cli import COMMANDS, main, run_command
from fer_tf.errors import InputError
from fer_tf.install import install_hint, package_of

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "keras", "jax", "pandas", "sklearn", "matplotlib", "scipy")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_light_and_the_script_is_the_same_program(name):
    """Help imports nothing heavy, which is what keeps it within a second."""
    code = (
        "import sys, contextlib\n"
        "from fer_tf.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        f"    main([{name!r}, '--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    installed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert installed.stderr == "[]\n"
    assert installed.stdout.startswith(f"usage: fer-tf {name}")
    script = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", "--help"], capture_output=True, text=True, cwd="/"
    )
    assert script.stdout == installed.stdout


def test_unknown_command_exits_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    assert "trian" in capsys.readouterr().err


def _run(raised: BaseException) -> int:
    def run(args):
        raise raised

    return run_command("thing", "", lambda parser: None, run, [])


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (InputError("got this\nexpected that"), 2, "fer-tf thing: error: got this expected that\n"),
        (OSError(28, "No space left on device"), 2, "fer-tf thing: error: No space left on device\n"),
        (PermissionError(13, "Permission denied", "x.npz"), 2, "fer-tf thing: error: Permission denied x.npz\n"),
        (KeyboardInterrupt(), 130, "fer-tf thing: interrupted\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line(raised, status, line, capsys):
    assert _run(raised) == status
    assert capsys.readouterr().err == line


def test_wrong_flag_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--optimizer", "adam"])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("fer-tf train: error: argument --optimizer: invalid choice: 'adam'")
    assert line.count("\n") == 1


def test_our_own_faults_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        _run(ZeroDivisionError())


@pytest.mark.parametrize(
    ("module", "extra"), [("tensorflow", "train"), ("pandas", "train"), ("cv2", "faces"), ("jax", "jax")]
)
def test_missing_package_names_the_install(module, extra, capsys):
    assert _run(ModuleNotFoundError(f"No module named {module!r}", name=module)) == 2
    assert capsys.readouterr().err == (
        f"fer-tf thing: error: this command needs the package {package_of(module)}: {install_hint(extra)}\n"
    )


def test_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m fer_tf train --help | head -1"
    found = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert found.stdout.startswith("usage")
    assert "Traceback" not in found.stderr
