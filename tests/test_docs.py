"""README and docs say each thing once."""

import re
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.light

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 7  # words of a sentence that may occur twice


def sentences(text):
    """The sentences of a page outside code, tables and comments, as plain words."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n(?=[^\n#|*-])", " ", text)  # a paragraph is one line
    found = [sentence for line in text.splitlines() for sentence in re.split(r"(?<=[.!?:])\s+", line)]
    plain = [re.sub(r"\W+", " ", sentence.lower()).strip() for sentence in found]
    return [sentence for sentence in plain if len(sentence.split()) > MOST_WORDS]


def test_no_sentence_stands_twice():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    count = Counter(sentence for page in pages for sentence in sentences(page.read_text()))
    assert len(count) > 200
    assert [sentence for sentence, times in count.items() if times > 1] == []


def test_a_repeated_sentence_is_found_over_line_ends():
    page = "A model needs one face and a square of it.\n\n- Also: a model needs one face\n  and a square of it.\n"
    assert sentences(page) == ["a model needs one face and a square of it"] * 2
