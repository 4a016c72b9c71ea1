"""Run the code blocks of a page, from a fresh clone in a fresh environment, and compare what they print with the page.

`python .ci/readme.py [PAGE ...]` runs the blocks of README.md, or of the named pages, in their order. The commands of
sh, bash and console blocks share a working directory and environment variables; the activated virtual environment has
pip alone. A ```text block that follows a block, before the next heading, shows the block's standard output.

Words must be equal. Percentages and scores may differ by half a point; other numbers must be equal. Times and rates are
not compared. A line `...` stands for any number of lines. HTML comments before a block change this:

    <!-- not run: REASON -->      skip the block; the reason is printed
    <!-- before: COMMAND -->      run COMMAND first, for the files that a reader has already
    <!-- tolerance: 2 -->         numbers that are neither percentages nor scores may differ by 2
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNNABLE = ("sh", "bash", "console", "python", "pycon")
POINTS = 0.5
TIMEOUT_S = 3600
# .ci/run runs this line of README.md before everything else.
TEST_COMMAND = re.compile(r"python3 -m venv .*pytest")

_NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
_TIME = r"\s?(?:s|ms|min|h|seconds|minutes|hours|(?:images|rows|crops|faces|pictures|frames)/s)(?![\w/])"
_TOKEN = re.compile(rf"(?<![\w.])({_NUMBER})({_TIME}|\s?%)?|[^\W\d]\w*|\S", re.UNICODE)


@dataclasses.dataclass
class Block:
    """A code block of a page, and what the page says about it."""

    line: int
    language: str
    text: str
    before: list[str] = dataclasses.field(default_factory=list)
    not_run: str | None = None
    tolerance: float = 0.0
    expected: str | None = None

    @property
    def title(self) -> str:
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "(empty)")[:80]


def parse(page: str) -> list[Block]:
    """Return the blocks that can be run, each with its comments and its output."""
    blocks: list[Block] = []
    comments: list[tuple[str, str]] = []
    awaits_output = False
    lines = page.splitlines()
    at = 0
    while at < len(lines):
        fence = re.match(r"(`{3,})\s*([\w+-]*)", lines[at])
        if not fence:
            if comment := re.fullmatch(r"\s*<!--\s*(not run|before|tolerance):\s*(.*?)\s*-->\s*", lines[at]):
                comments.append((comment[1], comment[2]))
            elif lines[at].startswith("#"):
                awaits_output = False
            at += 1
            continue
        start = at
        at += 1
        while at < len(lines) and not lines[at].startswith(fence[1]):
            at += 1
        text = "\n".join(lines[start + 1 : at])
        at += 1
        if fence[2] in RUNNABLE:
            block = Block(start + 1, fence[2], text)
            for key, value in comments:
                if key == "not run":
                    block.not_run = value
                elif key == "before":
                    block.before.append(value)
                else:
                    block.tolerance = float(value)
            if block.language == "console":
                _split_console(block)
            blocks.append(block)
            awaits_output = True
        elif fence[2] == "text" and awaits_output:
            blocks[-1].expected = text
            awaits_output = False
        comments = []
    return blocks


def _split_console(block: Block) -> None:
    """Split a console block into the commands, which follow `$ `, and the lines that they print."""
    lines = block.text.splitlines()
    block.text = "\n".join(line[2:] for line in lines if line.startswith("$ "))
    block.expected = "\n".join(line for line in lines if not line.startswith("$ ")) or None


def compare(expected: str, found: str, tolerance: float = 0.0) -> str:
    """Return the difference of two outputs as a diff; empty if they agree."""
    wanted = [line.rstrip() for line in expected.strip("\n").splitlines()]
    printed = [line.rstrip() for line in found.strip("\n").splitlines()]
    if _match(wanted, printed, tolerance):
        return ""
    return "\n".join(difflib.unified_diff(wanted, printed, "page", "printed", lineterm="", n=1))


def _match(wanted: list[str], printed: list[str], tolerance: float) -> bool:
    if not wanted:
        return not printed
    if wanted[0].strip() == "...":
        return any(_match(wanted[1:], printed[skipped:], tolerance) for skipped in range(len(printed) + 1))
    return bool(printed) and _same_line(wanted[0], printed[0], tolerance) and _match(wanted[1:], printed[1:], tolerance)


def _same_line(wanted: str, printed: str, tolerance: float) -> bool:
    ours, theirs = list(_TOKEN.finditer(wanted)), list(_TOKEN.finditer(printed))
    return len(ours) == len(theirs) and all(_same(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))


def _same(a: re.Match[str], b: re.Match[str], tolerance: float) -> bool:
    if a[1] is None or b[1] is None:
        return a[0] == b[0]
    units = [(match[2] or "").strip() for match in (a, b)]
    if any(units) and "%" not in units:
        return all(units)  # a time may be given in another unit
    first, second = (float(match[1].replace(",", "")) for match in (a, b))
    is_score = all("." in match[1] and abs(value) <= 1 for match, value in ((a, first), (b, second)))
    allowed = POINTS if units[0] == "%" else POINTS / 100 if is_score else tolerance
    return units[0] == units[1] and abs(first - second) <= allowed + 1e-9


class Runner:
    """Runs blocks one after another in a clone; working directory and environment variables carry over."""

    def __init__(self, folder: Path, clone: Path) -> None:
        self._state = folder / "state.sh"
        # Python puts a script's folder first on its path; beside the clone, `import fer_tf` finds the clone's root.
        self._blocks = folder / "blocks"
        self._blocks.mkdir()
        self._pycon = self._blocks / "pycon.py"
        self._pycon.write_text(
            "import doctest, sys\n"
            "names = {'__name__': '__main__'}\n"
            "for example in doctest.DocTestParser().get_examples(open(sys.argv[1]).read()):\n"
            "    exec(compile(example.source, 'page', 'single'), names)\n"
        )
        environment = folder / "venv"
        venv.create(environment, with_pip=True)
        self._state.write_text(f"cd {shlex.quote(str(clone))}\n")
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        self._variables = {key: value for key, value in os.environ.items() if key not in hidden} | {
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(environment),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_QUIET": "1",  # the list of installed packages differs from day to day
            "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
            "COLUMNS": "120",
        }

    def run(self, block: Block) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error of a block."""
        if block.language in ("python", "pycon"):
            source = self._blocks / "block.py"
            source.write_text(block.text + "\n")
            is_session = block.text.lstrip().startswith(">>> ")
            script = f"python {self._pycon if is_session else ''} {shlex.quote(str(source))}"
        else:
            script = block.text
        state = shlex.quote(str(self._state))
        script = "\n".join(
            [
                f". {state}",
                f'trap \'(export -p; printf "cd %q\\n" "$PWD") > {state}\' EXIT',
                "set -eo pipefail",
                *[f"{{ {command}; }} > /dev/null" for command in block.before],
                script,
            ]
        )
        command = [
            "timeout",
            "--kill-after=10",
            str(TIMEOUT_S),
            "bash",
            "-c",
            script,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=self._variables, check=False)
        return done.returncode, done.stdout, done.stderr


def without_test_command(block: Block) -> None:
    """Drop the line that .ci/run has already run; a block without another line is skipped."""
    kept = [line for line in block.text.splitlines() if not TEST_COMMAND.match(line)]
    if len(kept) == len(block.text.splitlines()):
        return
    if any(line.strip() and not line.lstrip().startswith("#") for line in kept):
        block.text = "\n".join(kept)
    else:
        block.not_run = ".ci/run has run this line already"


def check(page: str, runner: Runner) -> int:
    """Run the blocks of a page, print a line for each, and return how many failed."""
    failed = 0
    for block in parse(page):
        without_test_command(block)
        where = f"line {block.line}: {block.title}"
        if block.not_run is not None:
            print(f"{'':9} skip  {where} ({block.not_run})", flush=True)
            continue
        started = time.monotonic()
        status, output, errors = runner.run(block)
        seconds = time.monotonic() - started
        difference = "" if block.expected is None else compare(block.expected, output, block.tolerance)
        is_ok = status == 0 and not difference
        failed += not is_ok
        print(f"{seconds:7.1f} s {'ok  ' if is_ok else 'FAIL'}  {where}", flush=True)
        if status:
            print(f"exit status {status}\n{output[-2000:]}{errors[-2000:]}", flush=True)
        elif difference:
            print(difference, flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the code blocks of pages and compare what they print.")
    parser.add_argument("pages", nargs="*", default=["README.md"], metavar="PAGE", help="path in the clone (README.md)")
    pages = parser.parse_args().pages
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fer-tf-readme-") as temporary:
        for number, page in enumerate(pages):
            folder = Path(temporary) / str(number)
            clone = folder / "fer_tf"
            folder.mkdir()
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            text = (clone / page).read_text()
            # Redirect the address that a page clones to this clone, so that this version is checked, not the published
            # one.
            addresses = set(re.findall(r"git clone (?:-\S+ )*(\S+://\S+)", text))
            (folder / "gitconfig").write_text("".join(f'[url "{clone}"]\n\tinsteadOf = {url}\n' for url in addresses))
            # A page that clones starts in the folder beside the clone; other pages start in the clone.
            start = folder / "start" if addresses else clone
            start.mkdir(exist_ok=True)
            print(f"{page}:", flush=True)
            failed += check(text, Runner(folder, start))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
