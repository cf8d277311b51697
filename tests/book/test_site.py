"""The built pages: their links, what they fetch, how they describe themselves."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from conftest import ROOT, missing

REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


@cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(site: Path) -> list[Path]:
    return sorted(site.glob("book/*.html"))


def tracked_notebooks() -> set[str]:
    """Return what git tracks under notebooks/, or what is there where git is not used."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "notebooks"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        return {path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")}
    return set(answer.stdout.split())


def test_every_colab_link_names_a_tracked_notebook(site: Path):
    owner_and_name = urlsplit(REPOSITORY).path.strip("/")
    start = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/"
    links = {
        a["href"]
        for page in pages(site)
        for a in parsed(page).find_all("a", href=True)
        if "colab.research" in a["href"]
    }
    assert links
    assert all(link.startswith(start) for link in links)
    assert {link.removeprefix(start) for link in links} == tracked_notebooks()


def test_every_page_with_code_offers_its_notebook(site: Path):
    names = {path.stem for path in (site / "notebooks").glob("*.ipynb")}
    for page in pages(site):
        hrefs = [a["href"] for a in parsed(page).find_all("a", href=True)]
        offered = {Path(href).stem for href in hrefs if href.endswith(".ipynb")}
        assert offered == ({page.stem} if page.stem in names else set()), page.name


def test_links_inside_the_book_lead_somewhere(site: Path):
    broken = []
    for page in [*pages(site), site / "search.html", site / "genindex.html"]:
        for tag in parsed(page).find_all(["a", "img", "script", "link"]):
            target = tag.get("href") or tag.get("src") or ""
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not file.exists() or not has_target(file, unquote(parts.fragment)):
                broken.append(f"{page.name}: {target}")
    assert not broken, broken


def has_target(file: Path, fragment: str) -> bool:
    return not fragment or file.suffix != ".html" or parsed(file).find(id=fragment) is not None


def test_nothing_is_fetched_from_outside(site: Path):
    if not (site / "_static/vendor/tex-svg-full.js").is_file():
        missing("npm is missing, so the pages take MathJax from the network")
    outside = [
        f"{page.name}: {tag}"
        for page in pages(site)
        for tag in parsed(page).find_all(["script", "img", "link", "iframe", "source"])
        if urlsplit(tag.get("src") or tag.get("href") or "").netloc
    ]
    assert not outside, outside


def test_every_page_is_described_and_titled(site: Path):
    seen = set()
    for page in pages(site):
        tag = parsed(page).find("meta", attrs={"name": "description"})
        assert tag, f"{page.name} has no first paragraph under its title to describe it by"
        assert len(tag["content"]) >= 20, page.name
        assert parsed(page).title.text.strip()
        seen.add(tag["content"])
    assert len(seen) == len(pages(site))


def test_the_api_page_names_every_public_module(site: Path):
    modules = {
        f"module-geobook.{path.stem}"
        for path in (ROOT / "src/geobook").glob("*.py")
        if not path.stem.startswith("_")
    }
    page = parsed(site / "book/api.html")
    assert {name for name in modules if page.find(id=name) is None} == set()


def test_the_repository_address_is_in_one_place():
    files = [ROOT / name for name in ("pyproject.toml", "Makefile", "README.md", "CITATION.cff")]
    files += [*ROOT.glob("book/*.md"), *ROOT.glob("book/_ext/*.py"), *ROOT.glob("scripts/*.py")]
    files += [*ROOT.glob("src/geobook/*.py")]
    naming = [path.name for path in files if REPOSITORY in path.read_text(encoding="utf-8")]
    assert naming == []
