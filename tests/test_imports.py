"""Which module may import which: rules that keep the structure clear, checked in the source with `ast`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fer_tf"
GROUND = {"artifacts", "config", "errors", "install", "machine", "moved", "recipes", "task", "text"}
# The modules that each stage may import, besides the basic ones and its own.
STAGES = {
    "faces": set(),
    "data": {"faces"},
    "model": {"faces", "data"},
    "training": {"faces", "data", "model"},
    "evaluation": {"faces", "data", "model"},
    "inference": {"faces", "data", "model"},
    "report": {"faces", "data", "model", "evaluation"},
    "deploy": {"faces", "data", "model"},
    "web": {"inference"},
    "benchmark": {"faces", "data", "model", "training", "evaluation", "inference"},
}
# Where the stages meet.
MEETING_PLACES = {
    "deploy.release": {"evaluation", "inference"},
    "deploy.bundle": {"evaluation", "report"},
    "deploy.model_card": {"evaluation", "report"},
}


def _imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Dotted names that a module imports, without the imports under `if TYPE_CHECKING`."""
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


def _name(path: Path) -> str:
    """`data.reading.npz` of fer_tf/data/reading/npz.py, `data` of fer_tf/data/__init__.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _ours(module: str) -> set[str]:
    """Modules of fer_tf that a module imports, without the package's name: `from fer_tf import text` is `text`."""
    found = set()
    for name in _imports(MODULES[module]):
        parts = name.split(".")[1:] if name.startswith("fer_tf.") else []
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        if parts:
            found.add(".".join(parts))
    return found


def _stage(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("module", [module for module in MODULES if _stage(module) in STAGES])
def test_a_stage_imports_only_stages_before_it(module):
    stage = _stage(module)
    allowed = GROUND | {stage} | STAGES[stage] | MEETING_PLACES.get(module, set())
    assert {_stage(other) for other in _ours(module)} <= allowed


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_floor_imports_the_ground_floor_only(module):
    assert {_stage(other) for other in _ours(module)} <= GROUND


def test_the_model_knows_no_file_of_a_run():
    for module in MODULES:
        if _stage(module) == "model":
            assert "artifacts" not in _ours(module), module


@pytest.mark.parametrize("module", [module for module in MODULES if _stage(module) == "commands"])
def test_commands_do_not_import_one_another(module):
    assert {other for other in _ours(module) if _stage(other) == "commands"} <= {"commands", "commands.common", module}


def test_every_module_has_its_place():
    places = {
        *GROUND,
        *STAGES,
        "commands",
        "cli",
        "__init__",
        "__main__",
        "experiment",
        "scoring",
        "recognition",
        "batch",
    }
    assert {_stage(module) for module in MODULES} <= places


NO_TENSORFLOW = [
    "config", "artifacts", "data.dataset", "data.jax_pipeline", *(
        name for name in MODULES if _stage(name) in ("model", "training", "evaluation") and name != "model.fused"
    ),
]  # fmt: skip


@pytest.mark.parametrize("module", NO_TENSORFLOW)
def test_modules_that_need_no_tensorflow_do_not_import_it(module):
    assert not any(name.split(".")[0] == "tensorflow" for name in _imports(MODULES[module]))


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
    users = {module for module, path in MODULES.items() if "ai_edge_litert.interpreter" in _imports(path)}
    assert users == {"inference.litert"}


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
        assert not _imports(path) & {"pickle", "dill", "marshal"}, path
        # joblib.load would unpickle; opening.py uses only its processes.
        assert "joblib" not in _imports(path) or (path.name == "opening.py" and "joblib.load" not in text), path
