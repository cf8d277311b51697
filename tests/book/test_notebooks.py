"""notebooks/ is what today's chapters make, in plain Markdown and code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, load

KEPT = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
RAW_MYST = re.compile(
    r"(?<!`)\{[a-z:-]+\}`"  # a role
    r"|^ *[`:~]{3,}\s*\{"  # a directive
    r"|^\([\w-]+\)=\s*$"  # a label
    r"|^\$\$ *\([\w-]+\)\s*$"  # a labelled display
    r"|^\+\+\+",  # a cell break
    re.MULTILINE,
)


def test_the_notebooks_are_those_of_the_chapters(site: Path):
    made = {path.name: path for path in (site / "notebooks").glob("*.ipynb")}
    kept = {path.name: path for path in KEPT}
    assert kept.keys() == made.keys(), "run `make notebooks`"
    for name, path in made.items():
        assert comparable(kept[name]) == comparable(path), f"{name}: run `make notebooks`"


def comparable(path: Path) -> list[tuple[str, str, list[str]]]:
    return [
        (cell["cell_type"], cell["source"], cell["metadata"].get("tags", []))
        for cell in load(path)["cells"]
    ]


@pytest.mark.parametrize(
    "raw",
    ["see {eq}`a`", "{prf:ref}`a`", "```{note}\n", ":::{tip}", "(a-label)=", "$$ (eq-a)", "+++"],
)
def test_raw_myst_is_recognised(raw: str):
    assert RAW_MYST.search(raw)


@pytest.mark.parametrize("fine", ["`{code}` span", "```python\n{}", "$x_{l}$", "a `f` {b}", "$$"])
def test_plain_markdown_is_not_taken_for_myst(fine: str):
    assert not RAW_MYST.search(fine)


@every_notebook
def test_no_raw_myst_is_left(path: Path):
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "markdown":
            found = RAW_MYST.search(cell["source"])
            assert not found, f"{found.group()!r} in: {cell['source'][:200]}"


@every_notebook
def test_no_picture_and_no_path_is_kept(path: Path):
    text = path.read_text(encoding="utf-8")
    assert "image/png" not in text
    assert "data:image" not in text
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)
    assert len(text) < 300_000


@every_notebook
def test_first_cell(path: Path):
    first = load(path)["cells"][0]
    assert first["cell_type"] == "code"
    assert "archive/refs/heads" in first["source"]
    assert not re.search(r"\b(torch|numpy)[=<>\[\"']", first["source"])
