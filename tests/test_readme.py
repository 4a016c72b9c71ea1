"""The check of README: how it reads and runs blocks, and compares the output with the page."""

import sys

import pytest

from tests.scripts import load_script

pytestmark = pytest.mark.light


@pytest.fixture(scope="module")
def readme():
    return load_script(".ci/readme.py")


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("happy 94.7%", "happy  95.1%"),
        ("accuracy 66.6 % (65.0 to 68.2)", "accuracy 66.4 % (65.0 to 68.2)"),
        ("macro-F1 0.639", "macro-F1 0.643"),
        ("training took 2.5 min, 4 images/s", "training took 48 s, 9.5 images/s"),
        ("first\n...\nlast 3", "first\nany\nlines 9\nlast 3"),
        ("fer-0.2.0.tflite", "fer-0.2.0.tflite"),
    ],
)
def test_same(readme, page, printed):
    assert readme.compare(page, printed) == ""


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("happy 94.7%", "happy 95.3%"),
        ("happy 94.7%", "sad 94.7%"),
        ("macro-F1 0.639", "macro-F1 0.645"),
        ("3 faces", "4 faces"),
        ("took 2.5 s", "took 2.5 %"),
        ("one\ntwo", "one"),
        ("one", "one\ntwo"),
        ("first\n...\nlast 3", "first\nlast 4"),
        ("model-0.1.tflite", "model-0.2.tflite"),
    ],
)
def test_different(readme, page, printed):
    assert readme.compare(page, printed) != ""


def test_a_stated_tolerance_holds_for_counts_not_for_figures(readme):
    assert readme.compare("box 178,63 90 x 113", "box 179,62 91 x 113", tolerance=1) == ""
    assert readme.compare("box 178,63", "box 180,63", tolerance=1) != ""
    assert readme.compare("happy 94.7%", "happy 95.7%", tolerance=1) != ""


PAGE = """
<!-- before: echo hidden > given.txt -->
<!-- tolerance: 2 -->
```sh
mkdir inner && cd inner
export GREETING=hello
cat ../given.txt
```

prints

```text
hidden
```

```python
print("no output block follows before the heading")
```

# Another section

```text
not an output
```

<!-- not run: needs a camera -->
```sh
exit 3
```

```console
$ pwd | grep -o inner$
$ echo $GREETING
inner
hello
```

```python
>>> 1 + 1
>>> print("two")
```

```text
2
two
```
"""


def test_a_page_is_read_with_its_comments_and_outputs(readme):
    first, second, third, fourth, fifth = readme.parse(PAGE)
    assert (first.before, first.tolerance, first.expected) == (["echo hidden > given.txt"], 2.0, "hidden")
    assert second.expected is None
    assert third.not_run == "needs a camera"
    assert fourth.expected == "inner\nhello"
    assert fifth.expected == "2\ntwo"


@pytest.fixture
def runner(readme, tmp_path, monkeypatch):
    """A runner without a real environment, which would take seconds to make."""
    monkeypatch.setattr(readme.venv, "create", lambda *args, **kwargs: None)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "clone").mkdir()
    return readme.Runner(tmp_path, tmp_path / "clone")


def test_blocks_share_folder_and_variables(readme, runner, capsys):
    assert readme.check(PAGE, runner) == 0
    printed = capsys.readouterr().out
    assert printed.count(" ok ") == 4
    assert "needs a camera" in printed


def test_a_wrong_figure_and_a_failing_command_are_counted(readme, runner, capsys):
    page = "```sh\necho accuracy 60.0 %\n```\n```text\naccuracy 66.6 %\n```\n```sh\nfalse\necho on\n```\n"
    assert readme.check(page, runner) == 2
    printed = capsys.readouterr().out
    assert "+accuracy 60.0 %" in printed
    assert "exit status 1" in printed


def test_a_python_block_does_not_see_the_folder_beside_the_clone(readme, runner, tmp_path, capsys):
    (tmp_path / "neighbour").mkdir()
    assert readme.check("```python\nimport neighbour\n```\n", runner) == 1
    assert "No module named 'neighbour'" in capsys.readouterr().out


def test_the_line_that_ci_runs_is_not_run_again(readme):
    (alone,) = readme.parse("```sh\npython3 -m venv .venv && .venv/bin/python -m pytest\n```")
    readme.without_test_command(alone)
    assert alone.not_run
    (beside,) = readme.parse("```sh\npython3 -m venv .venv && .venv/bin/python -m pytest\nls\n```")
    readme.without_test_command(beside)
    assert (beside.text, beside.not_run) == ("ls", None)
