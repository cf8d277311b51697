"""The build is strict, tells how it goes, and notices what the execution cache does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import missing, small_book

import build_book
import offline
import update_notebooks

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
    format_version: 0.13
    jupytext_version: 1.19.6
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

"""


def cell(code: str) -> str:
    return f"```{{code-cell}} ipython3\n{code}\n```\n"


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (cell('raise ValueError("this cell fails")'), "ValueError: this cell fails"),
        (cell('import sys; print("noise", file=sys.stderr)'), "stderr"),
        ("See {ref}`nowhere`.", "nowhere"),
        ("See {prf:ref}`nowhere`.", "nowhere"),
        ("See {cite}`nobody`.", "nobody"),
        ("See {func}`geobook.nothing`.", "geobook.nothing"),
    ],
)
def test_a_page_with_a_mistake_fails_the_build(page: str, told: str, tmp_path: Path, capfd):
    root = small_book(tmp_path, HEADER + page)
    assert build_book.main(["--root", str(root)]) != 0
    out = capfd.readouterr().out
    assert told in out
    assert "could not be built" in out


def test_progress_and_the_place_to_open(tmp_path: Path, capfd):
    root = small_book(tmp_path, HEADER + cell("print(1)"))
    assert build_book.main(["--root", str(root)]) == 0
    out = capfd.readouterr().out
    assert re.search(r"index +ran in \d+\.\d s", out)
    assert (root / "_build/html/index.html").as_uri() in out


def test_without_npm_the_pages_name_the_network(tmp_path: Path, capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    root = small_book(tmp_path, HEADER + "$x$\n")
    assert build_book.main(["--root", str(root)]) == 0
    assert "left out: MathJax inside the book (npm is missing)" in capfd.readouterr().out
    page = (root / "_build/html/book/index.html").read_text(encoding="utf-8")
    assert re.search(r'<script[^>]+src="https://[^"]*mathjax', page)
    with pytest.raises(FileNotFoundError, match="install npm"):
        offline.pack(root / "_build/html", tmp_path / "offline.zip")


def prepare(root: Path) -> tuple[Path, Path]:
    """Make the folders of a past build; return its execution cache and its read pages."""
    folders = (root / "_build/.jupyter_cache", root / "_build/.doctrees")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


@pytest.fixture
def built(tmp_path: Path) -> Path:
    for name in ("src/geobook/a.py", "results/digits.json", "requirements.txt", "book/_ext/a.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    build_book.drop_stale_caches(tmp_path)
    prepare(tmp_path)
    return tmp_path


def test_nothing_changed_keeps_both_caches(built: Path):
    (built / "src/geobook/__pycache__").mkdir()
    (built / "src/geobook/__pycache__/a.pyc").write_text("noise")
    build_book.drop_stale_caches(built)
    assert all(folder.exists() for folder in prepare(built))
    assert (built / "_build/.jupyter_cache").exists()


@pytest.mark.parametrize(
    ("name", "execution_kept"),
    [
        ("src/geobook/a.py", False),
        ("src/geobook/new.py", False),
        ("results/digits.json", False),
        ("requirements.txt", False),
        ("pyproject.toml", False),
        ("book/_ext/a.py", True),
        ("_config.yml", True),
    ],
)
def test_a_change_drops_what_rests_on_it(built: Path, name: str, execution_kept: bool):
    (built / name).write_text("two")
    build_book.drop_stale_caches(built)
    assert (built / "_build/.jupyter_cache").exists() == execution_kept
    assert not (built / "_build/.doctrees").exists()


def test_another_mode_runs_the_chapters_again(built: Path, monkeypatch):
    monkeypatch.setenv("GEOBOOK_MODE", "full")
    build_book.drop_stale_caches(built)
    assert not (built / "_build/.jupyter_cache").exists()


def test_progress_passes_warnings_on_and_drops_noise():
    noise = "[IPKernelApp] WARNING | Kernel is running over TCP without encryption."
    assert build_book.progress(noise) is None
    assert build_book.progress("reading sources... [ 50%] book/index") is None
    assert build_book.progress("a.md:3: WARNING: broken") == "a.md:3: WARNING: broken"
    assert "unchanged" in build_book.progress("/a/digits.md: Using cached notebook: ID=1 [mystnb]")


def test_a_failure_without_warning_shows_the_end_of_the_log():
    assert build_book.reason([f"line {n}" for n in range(50)]).splitlines()[0] == "line 20"


def test_update_notebooks_writes_and_deletes(tmp_path: Path):
    built, kept = tmp_path / "built", tmp_path / "kept"
    with pytest.raises(FileNotFoundError, match="make book"):
        update_notebooks.update(built, kept)
    built.mkdir()
    kept.mkdir()
    (built / "one.ipynb").write_text("new")
    (built / "two.ipynb").write_text("same")
    (kept / "two.ipynb").write_text("same")
    (kept / "gone.ipynb").write_text("old")
    assert update_notebooks.update(built, kept) == ["deleted gone.ipynb", "wrote one.ipynb"]
    assert update_notebooks.update(built, kept) == []


def test_the_offline_archive_is_the_same_bytes_twice(sample: Path, tmp_path: Path):
    pages = sample / "_build/html"
    if not (pages / offline.MATHJAX).is_file():
        missing("npm is missing, so there is no offline copy")
    offline.pack(pages, tmp_path / "a" / "x.zip")
    offline.pack(pages, tmp_path / "b" / "x.zip")
    assert (tmp_path / "a/x.zip").read_bytes() == (tmp_path / "b/x.zip").read_bytes()
