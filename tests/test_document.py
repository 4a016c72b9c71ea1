"""Both renderings of a document: the exact text, and no text can break out of its element."""

import html.parser

import pytest

from fer_tf.report.document import (
    Code,
    Figures,
    Folded,
    Heading,
    Items,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)

pytestmark = pytest.mark.light

BLOCKS = [
    Figures([("66.6 %", "Accuracy", "of 9 images"), ("5 MB", "Size", "")]),
    Heading("First & last"),
    Paragraph("One line\nof text, 5 < 6."),
    Items(["a", "1. b"]),
    Table(("name", "n"), [("x|y", "1.5 %"), ("z", "-")], "lr"),
    Folded("All <settings>", [Code("fer-tf train --data a_b.csv")]),
    Picture("curves", "Loss [nats]"),
]


def test_markdown():
    assert to_markdown("A *title*", BLOCKS, {"curves": "figures/curves.png"}) == (
        """\
# A \\*title\\*

|  |  |  |
| --- | --- | --- |
| Accuracy | 66.6 % | of 9 images |
| Size | 5 MB |  |

## First &amp; last

One line of text, 5 &lt; 6.

- a
- 1\\. b

| name | n |
| --- | ---: |
| x\\|y | 1.5 % |
| z | - |

<details><summary>All &lt;settings&gt;</summary>

    fer-tf train --data a_b.csv

</details>

![Loss \\[nats\\]](figures/curves.png)
"""
    )


def test_html_body():
    page = to_html("A <title>", BLOCKS, {"curves": "data:image/png;base64,AAAA"})
    body = page[page.index("<body>") : page.index("</body>")]
    assert body == (
        """\
<body>
<h1>A &lt;title&gt;</h1>
<dl class="figures"><div><dt>Accuracy</dt><dd><b>66.6\N{NO-BREAK SPACE}%</b> of 9 images</dd></div>\
<div><dt>Size</dt><dd><b>5 MB</b> </dd></div></dl>
<nav aria-label="Sections"><ol><li><a href="#first-last">First &amp; last</a></li></ol></nav>
<h2 id="first-last">First &amp; last</h2>
<p>One line of text, 5 &lt; 6.</p>
<ul><li>a</li><li>1. b</li></ul>
<div class="wide" tabindex="0"><table><thead><tr><th>name</th><th class="r">n</th></tr></thead>\
<tbody><tr><td>x|y</td><td class="r">1.5\N{NO-BREAK SPACE}%</td></tr>\
<tr><td>z</td><td class="r">-</td></tr></tbody></table></div>
<details><summary>All &lt;settings&gt;</summary>
<pre>fer-tf train --data a_b.csv</pre>
</details>
<figure><div class="wide" tabindex="0"><img src="data:image/png;base64,AAAA" alt="Loss [nats]"></div>\
<figcaption>Loss [nats]</figcaption></figure>
"""
    )
    assert "<title>A &lt;title&gt;</title>" in page


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- comment",
    "[link](http://example.org)",
    "![picture](http://example.org/x.png)",
    "**bold** _italic_ `code` ~~struck~~ $x$",
    "# heading",
    "a | b",
    "back\\slash \\| \\<",
    "&lt;already&gt;",
    "line\nbreak\r\n\u2028and\x00control\x1b[31m",
    "{title} {0} %s",
    "- item",
    "12) item",
    "---",
    "- - -",
    "===",
    "### heading",
    "+",
    "___",
    "1.5",
]
PLAIN = [
    Figures([("x", "x", "x")]),
    Folded("x", [Paragraph("x")]),
    Heading("x"),
    Paragraph("x"),
    Items(["x"]),
    Table(("x", "b"), [("x", "x")], "lr"),
    Code("x"),
    Picture("p", "x"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_text_in_both(name):
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(name.split())
    )
    blocks = [
        Figures([(name, name, name)]),
        Folded(name, [Paragraph(name)]),
        Heading(name),
        Paragraph(name),
        Items([name]),
        Table((name, "b"), [(name, name)], "lr"),
        Code(name),
        Picture("p", name),
    ]

    found = _Texts()
    found.feed(to_html(name, blocks, {"p": "data:image/png;base64,AAAA"}))
    plain = _Texts()
    plain.feed(to_html("x", PLAIN, {"p": "data:image/png;base64,AAAA"}))
    assert found.tags == plain.tags  # the text has added no element
    assert found.texts.count(shown) == 16

    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    found = _Texts()
    found.feed(parser.render(to_markdown(name, blocks, {"p": "p.png"})))
    plain = _Texts()
    plain.feed(parser.render(to_markdown("x", PLAIN, {"p": "p.png"})))
    assert found.tags == plain.tags
    assert found.texts.count(shown) == 13  # all but the picture's text, which is an attribute


class _Texts(html.parser.HTMLParser):
    """The elements of a page in order, and the texts between them."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, sorted(name for name, _ in attributes)))

    def handle_comment(self, data):
        self.tags.append(("comment", []))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())
