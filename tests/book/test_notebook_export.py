"""The sample book's notebooks show what its pages show, in plain Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import load

import notebook_export
from markdown_writer import display_math, fenced, quoted

ONLINE = "https://geobook.github.io/geobook/book/"


@pytest.fixture(scope="module")
def chapter(sample: Path):
    return load(sample / "_build/html/notebooks/sample.ipynb")


@pytest.fixture(scope="module")
def second(sample: Path):
    return load(sample / "_build/html/notebooks/second.ipynb")


def prose(notebook) -> str:
    cells = notebook["cells"]
    return "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize(
    "expected",
    [
        "# 1. Measuring straightness\n",
        "## 1.1. The ratio",
        "**Definition 1.1 (Line-shape ratio)**",
        r"\tag{1.1}",
        "> **Theorem 1.1 (Straight)**\n>\n> Equality in (1.1) holds only on a line",
        "see Definition 1.1.",
        "*Proof.* By the triangle inequality.",
        "  1. nested\n  2. again",
        "\\begin{aligned}\na &= b  \\\\\nc &= d\n\\end{aligned} \\tag{1.2}",
        "**Fig. 1.1** A line, drawn by First and Second [2001] with $x^2$, as Theorem 1.1 says.",
        "See Fig. 1.1, Figure 1.1, The ratio, its section, Exercise 1.1.",
        "How straight is a track? See First and Second [2001]",
        f"the [Notation and glossary]({ONLINE}notation.html)",
        f"the [track]({ONLINE}notation.html#term-track)",
        f"[another page]({ONLINE}second.html)",
        "A `{code}` span and `{cite}` in code; $x_{l}$ math; and $y^2$.",
        "> **A remark**\n>\n> In the margin, with $x^2$.",
        "> **Note**\n>\n> A note with **bold**, *emphasis*, and a [link](https://example.org)",
        "> **In the paper**\n>\n> Section 5.1.",
        "> **Exercise 1.1 (Find it)**\n>\n> Compute $x$.",
        "<details>\n<summary>Solution to Exercise 1.1 (Find it)</summary>\n\nDo this, says (1.1):",
        '```python\nanswer = 2\nprint("the answer", answer)\n```\n\n```text\nthe answer 2\n```',
        "<summary>Solution to Exercise 1.2</summary>",
        "| $x$ | (1.1) |",
        "**Table 1.1** A table\n\n| head | two |\n| --- | --- |\n| one | *two* |",
        "**One**\n\nFirst.",
        "- **Term**: Definition of it.",
        "> A quotation.",
        "<summary>Details</summary>\n\nHidden text.",
        "A footnote<sup>1</sup>.",
        "<sup>1</sup> The foot.",
        "*Journal of Samples*, 2001.",
        r"snake\_case\_words, 2 \* 3 \* 4, a price of \$5, x \< y, and",
        "\\- no list.",
    ],
)
def test_prose(chapter, expected: str):
    assert expected in prose(chapter)


@pytest.mark.parametrize(
    "expected",
    [
        f"Back to [(1.1)]({ONLINE}sample.html#equation-eq-lsr)",
        f"[Definition 1.1]({ONLINE}sample.html#def-lsr)",
        f"[Fig. 1.1]({ONLINE}sample.html#fig-line)",
        f"[Exercise 1.1]({ONLINE}sample.html#exercise-one)",
        f"[LSR]({ONLINE}notation.html#term-LSR)",
        "# 2. The second",
        "**Lemma 2.1**",
    ],
)
def test_references_to_another_page_lead_to_the_page(second, expected: str):
    assert expected in prose(second)


def test_numbers_are_those_of_the_page(sample: Path, chapter):
    page = (sample / "_build/html/book/sample.html").read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]+>", "", page)
    for number in ("Definition 1.1", "Theorem 1.1", "Fig. 1.1", "Exercise 1.2", "(1.2)"):
        assert number in shown
        assert number.strip("()") in prose(chapter)


def test_first_cell_is_the_set_up(chapter):
    first = chapter["cells"][0]
    assert first["cell_type"] == "code"
    assert "https://github.com/geobook/geobook/archive/refs/heads/main.zip" in first["source"]
    assert '"--no-deps"' in first["source"]
    assert first["metadata"]["tags"] == [notebook_export.IGNORE_OUTPUT]
    compile(first["source"], "first cell", "exec")


def test_cells_keep_their_order_tags_and_text_outputs(chapter):
    code = [cell for cell in chapter["cells"] if cell["cell_type"] == "code"]
    sources = [cell["source"].splitlines()[0] for cell in code[1:]]
    assert sources == [
        "import numpy as np",
        "plt.plot([0, 1], [0, 1])",
        "print(np.round(np.pi, 3))",
        "from IPython.display import HTML",
        "hidden_value = 3",
        "print(hidden_value, answerless := 4)",
    ]
    printed, result = code[3]["outputs"]
    assert printed["text"] == ["3.142\n"]
    assert result["data"] == {"text/plain": ["array([0, 1, 2])"]}
    assert code[2]["outputs"][0]["data"].keys() == {"text/plain"}
    assert code[4]["outputs"] == []
    assert code[5]["metadata"] == {"jupyter": {"source_hidden": True}, "tags": ["remove-cell"]}


def test_metadata_and_ids(chapter):
    assert chapter["metadata"]["kernelspec"]["name"] == "python3"
    assert "accelerator" not in chapter["metadata"]
    ids = [cell["id"] for cell in chapter["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{12}-\d+", name) for name in ids)


def test_a_notebook_is_valid_and_the_same_bytes_twice(sample: Path, chapter):
    import nbformat

    import build_book

    path = sample / "_build/html/notebooks/sample.ipynb"
    nbformat.validate(nbformat.read(path, as_version=4))
    before = path.read_bytes()
    assert build_book.main(["--root", str(sample)]) == 0
    assert path.read_bytes() == before


def test_a_gpu_is_asked_for_where_it_helps():
    source = notebook_export.setup_source("https://example.org/archive.zip", gpu=True)
    assert "GPU_HELPS = True" in source
    assert 'ARCHIVE = "https://example.org/archive.zip"' in source


def test_outputs_that_a_comparison_would_miss_are_reported():
    shown = {"output_type": "display_data", "metadata": {}}
    plot = shown | {"data": {"image/png": "iVBOR", "text/plain": "<Figure size 1x1>"}}
    vector = shown | {"data": {"image/svg+xml": "<svg/>", "text/plain": "<Figure size 1x1>"}}
    table = shown | {"data": {"text/html": "<table></table>"}}
    picture = shown | {"data": {"text/html": '<img src="data:image/png;base64,x">'}}
    failed = {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["/secret/path"]}
    assert notebook_export.kept_outputs([plot])[1] is False
    assert notebook_export.kept_outputs([vector])[1] is True
    assert notebook_export.kept_outputs([table])[0][0]["data"] == {"text/html": ["<table></table>"]}
    assert notebook_export.kept_outputs([picture]) == ([], True)
    assert notebook_export.kept_outputs([failed])[0][0]["traceback"] == ["E: v"]


def test_a_stream_is_one_however_it_was_cut():
    parts = [
        {"output_type": "stream", "name": "stdout", "text": text} for text in ("a", " b\nc", "\n")
    ]
    assert notebook_export.kept_outputs(parts)[0] == [
        {"output_type": "stream", "name": "stdout", "text": ["a b\n", "c\n"]}
    ]


@pytest.mark.parametrize(
    ("tex", "number", "expected"),
    [
        ("x^2", "", "$$\nx^2\n$$"),
        ("x^2", "3.4", "$$\nx^2 \\tag{3.4}\n$$"),
        (r"\begin{equation}\label{a} x \end{equation}", "1", "$$\nx \\tag{1}\n$$"),
        (r"\begin{align*}a\\b\end{align*}", "1", "$$\n\\begin{aligned}a\\\\b\\end{aligned}\n$$"),
        ("a \\\\\nb", "", "$$\n\\begin{aligned}\na \\\\\nb\n\\end{aligned}\n$$"),
        (r"\begin{cases}a\\b\end{cases}", "", "$$\n\\begin{cases}a\\\\b\\end{cases}\n$$"),
    ],
)
def test_displays(tex: str, number: str, expected: str):
    assert display_math(tex, number) == expected


def test_fences_outgrow_what_they_hold():
    assert fenced("a ```` b", "python") == "`````python\na ```` b\n`````"


def test_displays_are_never_quoted():
    assert quoted("a\n\nb") == "> a\n>\n> b"
    assert quoted("a\n\n$$\nx\n$$") == "a\n\n$$\nx\n$$"
