"""Who may import whom: the rules that keep the flow readable, read from the source with `ast`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fer_tf"
STAGES = {"training", "evaluation", "export", "inference"}


def _imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a module imports; those under `if TYPE_CHECKING` left out."""
    tree = ast.parse(path.read_text())
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _ours(module: str) -> set[str]:
    return {name for name in _imports(PACKAGE / f"{module.replace('.', '/')}.py") if name.startswith("fer_tf")}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_import_one_another(stage):
    assert not {f"fer_tf.{other}" for other in STAGES - {stage}} & _ours(stage)


@pytest.mark.parametrize("module", ["labels", "config"])
def test_roots_import_nothing_of_ours_but_the_error(module):
    assert _ours(module) <= {"fer_tf.errors", "fer_tf.errors.InputError"}


@pytest.mark.parametrize("module", ["config", "artifacts", "data.dataset", "model", "training", "evaluation"])
def test_modules_that_need_no_tensorflow_do_not_import_it(module):
    assert not any(name.split(".")[0] == "tensorflow" for name in _imports(PACKAGE / f"{module.replace('.', '/')}.py"))


def test_they_import_with_tensorflow_blocked():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import fer_tf.config, fer_tf.artifacts, fer_tf.data.dataset, fer_tf.model, fer_tf.training, fer_tf.evaluation"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"KERAS_BACKEND": "jax", "PATH": ""}
    )
    assert found.returncode == 0, found.stderr


def test_one_module_imports_the_interpreter():
    users = {path.name for path in PACKAGE.rglob("*.py") if "ai_edge_litert.interpreter" in _imports(path)}
    assert users == {"inference.py"}


def test_library_modules_do_not_import_commands_and_do_not_print():
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "commands" or path.name in ("cli.py", "__main__.py"):
            continue
        assert not any(name.startswith("fer_tf.commands") for name in _imports(path)), path
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "print" not in calls, path


def test_nothing_is_pickled_evaluated_or_given_to_a_shell():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "allow_pickle=True" not in text, path
        assert "shell=True" not in text, path
        tree = ast.parse(text)
        calls = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not {call.id for call in calls if isinstance(call, ast.Name)} & {"eval", "exec"}, path
        assert not _imports(path) & {"pickle", "dill", "joblib", "marshal"}, path
