"""What the book adds to Jupyter Book: notebooks, their links, offline mathematics, descriptions."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from jupyter_cache import get_cache
from myst_nb.core.config import NbParserConfig
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.ext.mathjax import MATHJAX_URL
from sphinx.util import logging

from markdown_writer import Page
from notebook_export import Chapter, notebook, write
from npm_package import MATHJAX, NpmUnavailableError, fetch

LOGGER = logging.getLogger(__name__)
AFTER_THE_THEME = 900
DESCRIPTION_LENGTH = 200
# What would tell a screen reader something else than the page shows, or show nothing at all
# where no font has the sign.
_MISLEADING = {
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    '<summary aria-label="Toggle hidden content">': "<summary>",
    "<p>✅</p>": "<p>passed</p>",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks."""
    app.add_css_file("geobook.css")
    app.connect("config-inited", put_templates_first)
    app.connect("config-inited", choose_mathjax)
    app.connect("builder-inited", vendor_mathjax)
    app.connect("autodoc-process-docstring", keep_absolute_values)
    app.connect("doctree-resolved", drop_thebe_settings, priority=AFTER_THE_THEME)
    app.connect("html-page-context", adjust_page, priority=AFTER_THE_THEME)
    app.connect("build-finished", export_notebooks)
    app.connect("build-finished", drop_old_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def put_templates_first(app: Sphinx, config: Config) -> None:
    """Let our templates stand before the theme's."""
    config.templates_path.insert(0, str(Path(__file__).with_name("templates")))


# -- mathematics without a network --------------------------------------------------------


def choose_mathjax(app: Sphinx, config: Config) -> None:
    """Take MathJax from npm into the book, or from its network where npm is missing."""
    try:
        fetch(*MATHJAX, _npm_folder(app))
    except NpmUnavailableError as error:
        config.mathjax_path = MATHJAX_URL
        LOGGER.info(
            "geobook: left out: MathJax inside the book (%s); pages take it from the network", error
        )


def vendor_mathjax(app: Sphinx) -> None:
    """Copy MathJax beside the pages."""
    # Not through html_static_path: Jupyter Book loads every script there a second time.
    if app.config.mathjax_path == MATHJAX_URL or app.builder.format != "html":
        return
    source = fetch(*MATHJAX, _npm_folder(app))
    target = Path(app.outdir) / "_static" / app.config.mathjax_path
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _npm_folder(app: Sphinx) -> Path:
    return Path(app.outdir).parent / ".npm"


# -- pages --------------------------------------------------------------------------------


def drop_thebe_settings(app: Sphinx, tree: nodes.document, docname: str) -> None:
    """Take out the settings of a live-code service that the book doesn't use."""
    for node in list(tree.findall(nodes.raw)):
        if "thebe" in node.astext() or "kernelName" in node.astext():
            node.parent.remove(node)


def adjust_page(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], tree: nodes.document | None
) -> None:
    """Point a page's buttons at its notebook, and say in its head what it is about."""
    context["script_files"] = [s for s in context.get("script_files", []) if not _is_thebe(s)]
    context["css_files"] = [s for s in context.get("css_files", []) if not _is_thebe(s)]
    if tree is not None and (text := description(tree)):
        context["metatags"] += f'\n<meta name="description" content="{text}" />'
    for wrong, right in _MISLEADING.items():
        context["body"] = context.get("body", "").replace(wrong, right)
    if _is_notebook(app, pagename):
        name = f"notebooks/{Path(pagename).name}.ipynb"
        for group in context.get("header_buttons", []):
            for button in group.get("buttons", []):
                _redirect(button, pagename, name, context["pathto"](name, resource=True))


def description(tree: nodes.document) -> str:
    """Return the page's first paragraph, cut at a word, safe inside an attribute."""
    section = next(tree.findall(nodes.section), None)
    if section is None:
        return ""
    first = next(section.findall(nodes.paragraph), None)
    text = re.sub(r"\s+", " ", first.astext()).strip() if first is not None else ""
    if len(text) > DESCRIPTION_LENGTH:
        text = text[:DESCRIPTION_LENGTH].rsplit(" ", 1)[0] + "…"
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _redirect(button: dict[str, Any], pagename: str, name: str, local: str) -> None:
    url = button.get("url", "")
    if "colab" in url:
        button["url"] = url.replace(f"{pagename}.md", name)
    elif url.endswith(".ipynb"):
        button["url"] = local


def _is_thebe(asset: Any) -> bool:
    attributes = getattr(asset, "attributes", {}) or {}
    return "thebe" in f"{getattr(asset, 'filename', asset)} {attributes.get('body', '')}".lower()


def _is_notebook(app: Sphinx, pagename: str) -> bool:
    return "kernelspec" in app.env.metadata.get(pagename, {})


def keep_absolute_values(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Let a docstring write absolute values as |x|, which Sphinx would take for substitutions."""
    for number, line in enumerate(lines):
        if "|" in line and not line.lstrip().startswith((">>>", "+", "|")):
            parts = re.split(r"(``.*?``|`[^`]*`)", line)
            parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
            lines[number] = "".join(parts)


def drop_old_pages(app: Sphinx, error: Exception | None) -> None:
    """Delete the pages of chapters that are gone, which Sphinx leaves behind."""
    if error is None and app.builder.name == "html":
        current = {Path(app.builder.get_outfilename(name)) for name in app.env.found_docs}
        for folder in {page.parent for page in current} - {Path(app.outdir)}:
            for page in set(folder.glob("*.html")) - current:
                page.unlink()


# -- notebooks ----------------------------------------------------------------------------


def export_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Write every chapter's notebook beside the pages, where the download button finds it."""
    if error is not None or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    for docname in sorted(filter(lambda name: _is_notebook(app, name), app.env.found_docs)):
        write(notebook(_chapter(app, docname)), folder / f"{Path(docname).name}.ipynb")
        # The theme's own copy, which nothing links to any more, was never executed.
        (Path(app.outdir) / "_sources" / f"{docname}.ipynb").unlink(missing_ok=True)


def _chapter(app: Sphinx, docname: str) -> Chapter:
    repository = app.config.html_theme_options["repository_url"].rstrip("/")
    branch = app.config.html_theme_options.get("repository_branch") or "main"
    root_url = site_url(app.config.html_baseurl, repository)
    page = Page(
        url=root_url + app.builder.get_target_uri(docname),
        root_url=root_url,
        numbers=app.env.toc_fignumbers.get(docname, {}),
        sections=app.env.toc_secnumbers.get(docname, {}),
        images={uri: f"_images/{name}" for uri, (_, name) in app.env.images.items()},
    )
    tree = app.env.get_and_resolve_doctree(docname, app.builder)
    return Chapter(
        tree=tree,
        page=page,
        cells=_executed_cells(app, docname),
        gpu=str(app.env.metadata[docname].get("accelerator", "")).upper() == "GPU",
        archive_url=f"{repository}/archive/refs/heads/{branch}.zip",
    )


def site_url(base: str, repository: str) -> str:
    """Return the book's address: the configured one, else that of the repository's pages."""
    if base:
        return base.rstrip("/") + "/"
    owner, name = urlsplit(repository).path.strip("/").split("/")[:2]
    return f"https://{owner}.github.io/{name}/"


def _executed_cells(app: Sphinx, docname: str) -> list[dict[str, Any]]:
    path = Path(app.env.doc2path(docname))
    content = read_myst_markdown_notebook(
        path.read_text(encoding="utf-8"),
        config=app.env.myst_config,
        path=path,
    )
    cache = get_cache(_cache_folder(app))
    _, merged = cache.merge_match_into_notebook(content)
    return merged.cells


def _cache_folder(app: Sphinx) -> str:
    config: NbParserConfig = app.env.mystnb_config
    return config.execution_cache_path or str(Path(app.outdir).parent / ".jupyter_cache")
