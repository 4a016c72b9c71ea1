import argparse
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fer_tf.cli import COMMANDS, main, run_command
from fer_tf.commands.common import add_config_arguments
from fer_tf.commands.examples import EXAMPLES
from fer_tf.config import GROUPS, Config
from fer_tf.errors import InputError
from fer_tf.install import install_hint, package_of

pytestmark = pytest.mark.light

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("tensorflow", "keras", "jax", "sklearn", "matplotlib", "scipy")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_light_and_the_script_is_the_same_program(name):
    """Help imports nothing heavy, so that it takes less than a second."""
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


@pytest.mark.parametrize("module", ["fer_tf", "fer_tf.cli"])
def test_both_modules_run_the_commands(module):
    done = subprocess.run([sys.executable, "-m", module, "trian"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "fer-tf: error: no command trian: did you mean train?\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trian"], "fer-tf: error: no command trian: did you mean train?"),
        (["export-tflite"], "fer-tf: error: no command export-tflite: did you mean export_tflite?"),
        (["qqq"], "fer-tf: error: no command qqq: fer-tf --help lists the commands"),
        (["--verson"], "fer-tf: error: no flag --verson: did you mean --version?"),
        (
            ["train", "--learing-rate", "0.1"],
            "fer-tf train: error: no flag --learing-rate: did you mean --learning-rate?",
        ),
        (["train", "--learing-rate=0.1"], "fer-tf train: error: no flag --learing-rate: did you mean --learning-rate?"),
        (["predict", "-annotate", "d", "x"], "fer-tf predict: error: no flag -annotate: did you mean --annotate?"),
        (["predict", "--qqq", "x"], "fer-tf predict: error: no flag --qqq (fer-tf predict --help lists the flags)"),
        (["ship", "--rnu", "x"], "fer-tf ship: error: no flag --rnu: did you mean --run?"),
    ],
)
def test_mistyped_command_or_flag_is_one_line_that_names_the_nearest(arguments, line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_a_file_in_the_commands_place_leads_to_predict(tmp_path, capsys):
    photo = tmp_path / "my photo.jpg"
    photo.touch()
    with pytest.raises(SystemExit):
        main([str(photo)])
    assert capsys.readouterr().err.endswith(f"to rank its emotions: fer-tf predict '{photo}'\n")


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_are_commands_that_parse(name, monkeypatch):
    assert name in EXAMPLES, "add examples of this command to fer_tf/commands/examples.py"
    module = importlib.import_module(f"fer_tf.commands.{name}")
    for example in EXAMPLES[name]:
        program, command, *arguments = shlex.split(example, comments=True)
        assert (program, command) == ("fer-tf", name)
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        parser.parse_args(arguments)


def test_settings_are_grouped_as_in_the_source_of_config():
    """Each comment in Config's body is the title of the fields that follow it."""
    groups = {}
    title = None
    for line in inspect.getsource(Config).splitlines():
        if line.startswith("    # "):
            title = line.removeprefix("    # ").lower()
        elif title and (field := re.match(r"    (\w+): ", line)):
            groups.setdefault(title, field.group(1))
    assert groups == GROUPS
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    text = parser.format_help()
    places = [text.index(f"settings: {title}") for title in GROUPS]
    assert places == sorted(places)
    assert text.index("settings: loss") < text.index("\n  --label-smoothing") < text.index("settings: augmentation")


NOISY = """import os, warnings
os.write(2, b"I0000 oneDNN custom operations are on\\n")
warnings.warn("deprecated")
class config:
    list_physical_devices = staticmethod(lambda: os.write(2, b"E0000 cuInit\\n"))
class get_logger:
    def setLevel(self, level): pass
"""


@pytest.mark.parametrize("flags", [[], ["--verbose"]])
def test_notices_of_other_packages_need_verbose(flags, tmp_path):
    """A package replaces TensorFlow and writes to the file descriptor, as native code does."""
    (tmp_path / "tensorflow.py").write_text(NOISY)
    code = (
        "import importlib.util, logging, sys\n"
        "from fer_tf.cli import run_command\n"
        "def run(args):\n"
        "    assert importlib.util.find_spec('tensorflow')\n"  # commands check this before the import
        "    import tensorflow\n"
        "    logging.getLogger('other').warning('falling back')\n"
        "    logging.getLogger('fer_tf.x').debug('detail')\n"
        "    logging.getLogger('fer_tf.x').info('a stage')\n"
        "    print('an error', file=sys.stderr)\n"
        "    return 0\n"
        "run_command('thing', '', lambda parser: None, run, sys.argv[1:])\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    found = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert found.returncode == 0
    if flags:
        for text in ("oneDNN", "deprecated", "falling back", "detail", "a stage", "an error"):
            assert text in found.stderr
    else:
        assert found.stderr == "a stage\nan error\n"


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
    ("module", "extra"), [("tensorflow", "train"), ("sklearn", "train"), ("cv2", "faces"), ("jax", "jax")]
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
