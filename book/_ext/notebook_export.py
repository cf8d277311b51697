"""From the built book to its notebooks: one way, deterministic, with the book's own numbers.

Text outputs come from the build's execution cache, so that a chapter is executed once; pictures
are left out, because the reader's run draws them again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes

from markdown_writer import MarkdownWriter, Page, fenced

IGNORE_OUTPUT = "nbval-ignore-output"
_SETUP_SOURCE = Path(__file__).with_name("setup_cell.py")
# What the strict comparison of notebooks passes over by itself; anything else left out needs a tag.
_NOT_COMPARED = ("image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json")
_HEAVY_HTML = re.compile(r"<(img|svg|script|style|input|canvas|video)\b|data:image/", re.I)


@dataclass(frozen=True)
class Chapter:
    """One page with code, as the build left it.

    Parameters
    ----------
    tree : docutils.nodes.document
        The page's resolved doctree.
    page : Page
        Its numbers and addresses.
    cells : sequence of mapping
        The executed notebook's cells.
    gpu : bool
        Whether a GPU helps.
    archive_url : str
        Where the first cell gets the package from.
    """

    tree: nodes.document
    page: Page
    cells: list[Mapping[str, Any]]
    gpu: bool
    archive_url: str


@dataclass
class _Cells:
    """Cells of the notebook to be, with ids that follow from their content."""

    done: list[dict[str, Any]] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    counted: int = 0

    def markdown(self, source: str) -> None:
        if source.strip():
            source = re.sub(r"\n{3,}", "\n\n", source.strip())
            self._add({"cell_type": "markdown", "metadata": {}, "source": source})

    def code(self, source: str, tags: Iterable[str], outputs: list[dict[str, Any]]) -> None:
        tags = list(tags)
        metadata: dict[str, Any] = {"tags": tags} if tags else {}
        if {"remove-cell", "remove-input", "hide-input", "hide-cell"} & set(tags):
            metadata["jupyter"] = {"source_hidden": True}
        # Counted here, since a comparison takes a cell with outputs but no count for a mistake.
        self.counted += 1
        outputs = [
            o | {"execution_count": self.counted} if "execution_count" in o else o for o in outputs
        ]
        cell = {"cell_type": "code", "execution_count": self.counted, "metadata": metadata}
        self._add({**cell, "outputs": outputs, "source": source.rstrip("\n")})

    def _add(self, cell: dict[str, Any]) -> None:
        digest = hashlib.sha256(f"{cell['cell_type']}\n{cell['source']}".encode()).hexdigest()[:12]
        self.seen[digest] = self.seen.get(digest, 0) + 1
        self.done.append({**cell, "id": f"{digest}-{self.seen[digest]}"})


def notebook(chapter: Chapter) -> dict[str, Any]:
    """Return the notebook of a chapter as nbformat's JSON structure.

    Parameters
    ----------
    chapter : Chapter
        A page of the built book.
    """
    cells = _Cells()
    cells.code(setup_source(chapter.archive_url, chapter.gpu), [IGNORE_OUTPUT], [])
    marker = "\0cell {}\0"
    writer = MarkdownWriter(chapter.page, lambda node: _place(node, chapter.cells, marker))
    body = [c for c in chapter.tree.children if not isinstance(c, nodes.raw)]
    text = writer.blocks(body)
    captions = {
        node["cell_index"]: "\n\n".join(map(writer.figure_caption, node.findall(nodes.figure)))
        for node in chapter.tree.findall(_is_code_cell)
    }
    folded_cells = _indices_inside_solutions(chapter.tree)
    _fill(cells, _with_origin(text, chapter.page.url), chapter.cells, captions, folded_cells)
    metadata: dict[str, Any] = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if chapter.gpu:
        metadata["accelerator"] = "GPU"
        metadata["colab"]["gpuType"] = "T4"
    return {"cells": cells.done, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def setup_source(archive_url: str, gpu: bool) -> str:
    """Return the source of a notebook's first cell.

    Parameters
    ----------
    archive_url : str
        Address of an archive of the repository.
    gpu : bool
        Whether a GPU helps.
    """
    source = _SETUP_SOURCE.read_text(encoding="utf-8").strip()
    source = source.replace('"set when the notebook is made"', json.dumps(archive_url))
    return source.replace("GPU_HELPS = False", f"GPU_HELPS = {gpu}")


def write(content: dict[str, Any], path: Path) -> None:
    """Write a notebook, the same bytes for the same content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{**cell, "source": _lines(cell["source"])} for cell in content["cells"]]
    text = json.dumps({**content, "cells": cells}, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def kept_outputs(outputs: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    """Return a cell's outputs without pictures, and whether a comparison would miss some.

    Parameters
    ----------
    outputs : iterable of mapping
        Outputs in nbformat's structure.

    Returns
    -------
    list of dict, bool
        The outputs kept, and True where one was left out that nbval compares.
    """
    kept: list[dict[str, Any]] = []
    missed = False
    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            text = _lines(output["text"])
            if kept and kept[-1].get("name") == output["name"]:
                # Where a kernel cuts its stream into messages is chance.
                text = _lines([*kept.pop()["text"], *text])
            kept.append({"name": output["name"], "output_type": kind, "text": text})
        elif kind == "error":
            line = f"{output['ename']}: {output['evalue']}"
            kept.append({**output, "traceback": [line]})
        else:
            data = {mime: value for mime, value in output["data"].items() if _is_text(mime, value)}
            missed |= any(m not in data and m not in _NOT_COMPARED for m in output["data"])
            if data:
                data = {mime: _lines(value) for mime, value in data.items()}
                record = {"data": data, "metadata": {}, "output_type": kind}
                kept.append(record | ({"execution_count": None} if "execute" in kind else {}))
    return kept, missed


def _is_text(mime: str, value: Any) -> bool:
    if mime == "text/html":
        return not _HEAVY_HTML.search("".join(value))
    return mime in ("text/plain", "text/markdown", "text/latex")


def _lines(text: str | list[str]) -> list[str]:
    return "".join(text).splitlines(keepends=True)


def _is_code_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def _indices_inside_solutions(tree: nodes.document) -> set[int]:
    solutions = tree.findall(lambda node: node.tagname == "solution_node")
    return {cell["cell_index"] for found in solutions for cell in found.findall(_is_code_cell)}


def _place(node: nodes.Element, cells: list[Mapping[str, Any]], marker: str) -> str:
    """Stand in for a cell: a marker, or the code itself inside a folded solution."""
    parent = node.parent
    while parent is not None:
        if parent.tagname == "solution_node":
            return _as_text(cells[node["cell_index"]])
        parent = parent.parent
    return marker.format(node["cell_index"])


def _as_text(cell: Mapping[str, Any]) -> str:
    """Return a cell of a solution as Markdown, since no renderer folds a real cell away."""
    printed = "".join(
        "".join(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
        for output in kept_outputs(cell["outputs"])[0]
    )
    printed = re.sub(r"<Figure size .*>\n?", "", printed)
    blocks = [fenced(cell["source"], "python")]
    return "\n\n".join([*blocks, fenced(printed, "text")] if printed.strip() else blocks)


def _with_origin(text: str, url: str) -> str:
    """Say under the title where the page is."""
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\nThis notebook is made from [a page of the book]({url}).\n\n{rest}"


def _fill(
    out: _Cells,
    text: str,
    cells: list[Mapping[str, Any]],
    captions: dict[int, str],
    folded_cells: set[int],
) -> None:
    """Cut the text at its markers and put the code cells there, the page's hidden ones too."""
    written = -1
    caption = ""
    for index, part in enumerate(re.split(r"\0cell (\d+)\0", text)):
        if index % 2 == 0:
            _markdown_by_section(out, f"{caption}\n\n{part}")
            continue
        place = int(part)
        for hidden in range(written + 1, place):
            if hidden not in folded_cells:
                _code(out, cells[hidden])
        _code(out, cells[place])
        written, caption = place, captions.get(place, "")
    for hidden in range(written + 1, len(cells)):
        if hidden not in folded_cells:
            _code(out, cells[hidden])


def _markdown_by_section(out: _Cells, text: str) -> None:
    """One cell a section, so that a notebook's outline folds where the page's does."""
    fence = ""
    part: list[str] = []
    for line in text.split("\n"):
        found = re.match(r"`{3,}", line)
        if found and not fence:
            fence = found.group()
        elif fence and line.startswith(fence):
            fence = ""
        elif not fence and re.match(r"#{1,6} ", line):
            out.markdown("\n".join(part))
            part = []
        part.append(line)
    out.markdown("\n".join(part))


def _code(out: _Cells, cell: Mapping[str, Any]) -> None:
    if cell["cell_type"] != "code":
        return
    outputs, missed = kept_outputs(cell["outputs"])
    tags = list(cell["metadata"].get("tags", []))
    if missed and IGNORE_OUTPUT not in tags:
        tags.append(IGNORE_OUTPUT)
    if IGNORE_OUTPUT in tags:
        outputs = [o for o in outputs if not _is_bare_repr(o)]
    out.code(cell["source"], tags, outputs)


def _is_bare_repr(output: dict[str, Any]) -> bool:
    text = "".join(output.get("data", {}).get("text/plain", ""))
    return set(output.get("data", {})) == {"text/plain"} and text.startswith("<")
