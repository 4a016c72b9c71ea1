"""Each figure of README and docs has an id that the script knows; the script recomputes, detects and mends them."""

import fnmatch
import re
import shutil
from pathlib import Path

import pytest

from tests.scripts import load_script

pytestmark = pytest.mark.light


@pytest.fixture
def script():
    return load_script(".ci/figures.py")


def test_every_figure_has_an_id_and_every_id_a_source(script):
    ids, loose = [], []
    for page in script.pages():
        figures, without_id = script.read_figures(page)
        ids += [figure.id for figure in figures]
        loose += without_id
    assert loose == [], "give each an id, or name it in SETTINGS"
    assert len(ids) == len(set(ids)) > 100
    assert [id for id in ids if script.recipe_of(id) is None and script.reason_of(id) is None] == []
    patterns = [*script.STATED_ONLY, *(pattern for recipe in script.RECIPES for pattern in recipe.gives)]
    assert [pattern for pattern in patterns if not fnmatch.filter(ids, pattern)] == []


PAGE = """Text of 4.7 MB<!-- fig: size --> and 80 % of 1,234 images.

<!-- table: results -->

| data | accuracy | lost | lost |
|---|---|---|---|
| [PublicTest](x.md), all | **66.6 %** (65.0 to 68.2) | 1.5 | 2 |
| PublicTest, all | not measured | 3-fold | |

Another 7.5 ms has none, nor has the table below.

| a | b |
|---|---|
| c | 5 |
```text
9.9 ms of code
```
"""


def test_a_page_is_read(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    figures, loose = script.read_figures(page)
    assert {figure.id: figure.text for figure in figures} == {
        "size": "4.7",
        "results/publictest-all/accuracy": "66.6",
        "results/publictest-all/accuracy/low": "65.0",
        "results/publictest-all/accuracy/high": "68.2",
        "results/publictest-all/lost": "1.5",
        "results/publictest-all/lost-2": "2",
    }
    assert loose == ["page.md:10: 7.5 ms"]


@pytest.fixture
def copies(script, tmp_path, monkeypatch):
    """The pages, where a test may change them."""
    pages = [Path(shutil.copy(page, tmp_path / page.name)) for page in script.pages()]
    monkeypatch.setattr(script, "pages", lambda: pages)
    return pages


def test_the_size_of_the_shipped_file_is_recomputed(script, copies, capsys):
    assert script.main(["--only", "readme.size"]) == 0
    row = capsys.readouterr().out.split()
    assert row[0] == "readme.size" and row[1] == row[2]
    assert float(row[2]) == pytest.approx(script.FILE.stat().st_size / 1e6, abs=0.05)


def test_a_wrong_figure_is_detected_and_mended(script, copies, capsys, monkeypatch):
    id = "results.files/dynamic-which-ships/accuracy"
    recipe = script.Recipe((id,), lambda given: {id: 71.26})
    monkeypatch.setattr(script, "RECIPES", (recipe,))
    assert script.main(["--only", id]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert script.main(["--only", id, "--write"]) == 1
    assert script.main(["--only", id]) == 0
    (row,) = (line for page in copies for line in page.read_text().splitlines() if re.match(r"\| dynamic, which", line))
    assert row.split("|")[2].strip().startswith("71.3 %")


def test_what_a_recipe_needs_is_said(script, copies, capsys):
    assert script.main(["--only", "trust.sets/80/lac"]) == 0
    assert "needs --data" in capsys.readouterr().out
