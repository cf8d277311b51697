"""The house style of the chapters: short cells, described pictures, no copied code."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from myst_nb.core.read import read_myst_markdown_notebook

LONGEST_CELL = 15
COPIED_LINES = 6
CHAPTERS = [
    path
    for path in sorted((ROOT / "book").glob("*.md"))
    if "kernelspec:" in path.read_text(encoding="utf-8")[:600]
]
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


class Cell(NamedTuple):
    chapter: str
    source: str
    tags: list[str]

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.source.splitlines() if line.strip()]


def code_cells(path: Path) -> list[Cell]:
    notebook: nbformat.NotebookNode = read_myst_markdown_notebook(path.read_text(encoding="utf-8"))
    return [
        Cell(path.stem, cell.source, list(cell.metadata.get("tags", [])))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@every_chapter
def test_code_cells_are_short(path: Path):
    long = [cell.source for cell in code_cells(path) if len(cell.lines) > LONGEST_CELL]
    assert not long, f"more than {LONGEST_CELL} lines:\n" + "\n---\n".join(long)


@every_chapter
def test_explorers_are_left_out_of_the_comparison_of_outputs(path: Path):
    drawing = [cell for cell in code_cells(path) if "explore(" in cell.source]
    assert all("nbval-ignore-output" in cell.tags for cell in drawing)


@every_chapter
def test_no_cell_hides_its_last_value_by_a_semicolon(path: Path):
    assert not [cell.source for cell in code_cells(path) if cell.source.rstrip().endswith(";")]


def test_no_code_is_copied_between_cells():
    places = defaultdict(set)
    for path in CHAPTERS:
        for number, cell in enumerate(code_cells(path)):
            for start in range(len(cell.lines) - COPIED_LINES + 1):
                window = tuple(cell.lines[start : start + COPIED_LINES])
                places[window].add((path.stem, number))
    copied = {"\n".join(window): found for window, found in places.items() if len(found) > 1}
    assert not copied, f"{COPIED_LINES} equal lines in two cells: {copied}"


@every_chapter
def test_pictures_have_a_caption_and_a_description(path: Path, site: Path):
    text = (site / f"book/{path.stem}.html").read_text(encoding="utf-8")
    page = BeautifulSoup(text, "html.parser")
    for picture in page.select("div.cell_output img"):
        if picture.find_parent(class_="geobook-explorer"):
            continue
        figure = picture.find_parent("figure")
        assert figure is not None, f"a picture without a caption: {picture.get('src')}"
        assert figure.find("figcaption").get_text(strip=True)
        assert len(picture.get("alt", "")) >= 20, f"no description: {figure.get_text()[:80]}"
