"""A small book that uses everything a chapter may use, built once; and the real book's pages."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

import build_book

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).parent / "sample"
SITE = ROOT / "_build" / "html"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.book)


def small_book(folder: Path, index: str | None = None) -> Path:
    """Make a book's folder with the real settings, of the sample chapters or of one page."""
    for name in ("_ext", "_static"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "book" / name, folder / "book" / name, ignore=ignored)
    shutil.copyfile(ROOT / "_config.yml", folder / "_config.yml")
    if index is None:
        shutil.copytree(SAMPLE, folder, dirs_exist_ok=True)
        return folder
    (folder / "book" / "references.bib").write_text("")
    (folder / "book" / "index.md").write_text(index)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    return folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the sample book, built."""
    folder = small_book(tmp_path_factory.mktemp("sample"))
    _share_downloads(folder)
    assert build_book.main(["--root", str(folder)]) == 0
    return folder


def _share_downloads(folder: Path) -> None:
    """Let the small book use what npm fetched for the real one."""
    if (ROOT / "_build" / ".npm").is_dir():
        shutil.copytree(ROOT / "_build" / ".npm", folder / "_build" / ".npm")


def missing(what: str) -> NoReturn:
    """Skip for want of something outside; fail where everything was promised, as in CI."""
    if os.environ.get("GEOBOOK_REQUIRE_BROWSER") == "1":
        pytest.fail(what)
    pytest.skip(what)


def load(path: Path) -> dict[str, Any]:
    """Read a notebook, its sources joined."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    return content


@pytest.fixture(scope="session")
def site() -> Path:
    """Folder of the real book's pages, which must be those of today's sources."""
    stamp = ROOT / "_build" / ".pages.sha256"
    if not (SITE / "index.html").is_file() or not stamp.is_file():
        pytest.fail(f"no pages in {SITE}: run `make book` first")
    built = (SITE / "searchindex.js").stat().st_mtime
    newer = [p.name for p in (ROOT / "book").glob("*.md") if p.stat().st_mtime > built]
    if newer or stamp.read_text() != build_book.pages_digest(ROOT):
        pytest.fail(f"the pages are older than their sources {newer}: run `make book` first")
    return SITE
