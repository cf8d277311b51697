"""From a resolved Sphinx doctree to the plain Markdown that every notebook renderer knows.

The tree holds what the book shows: numbers, resolved references, citations. So a notebook cannot
show another number than the page, and no role or directive can be left over in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urljoin

from docutils import nodes
from sphinx import addnodes

# Multi-line environments that a numbered display can hold, and their form inside ``$$``.
_INNER_ENVIRONMENT = {
    "align": "aligned",
    "alignat": "alignedat",
    "gather": "gathered",
    "multline": "gathered",
    "eqnarray": "aligned",
}
_SKIPPED = (
    nodes.comment,
    nodes.target,
    nodes.substitution_definition,
    nodes.pending,
    nodes.docinfo,
    addnodes.toctree,
    addnodes.index,
)
_TRANSPARENT = (nodes.container, nodes.compound, nodes.legend, nodes.topic, nodes.line_block)


class UnknownNodeError(ValueError):
    """A kind of content that has no Markdown form yet."""


@dataclass(frozen=True)
class Page:
    """What a node's number and links depend on.

    Parameters
    ----------
    url : str
        Address of the page on the web.
    root_url : str
        Address of the book's start, ending in a slash.
    numbers : dict
        ``{kind: {id: (1, 2)}}``: Sphinx's numbers of the page's figures, equations, theorems.
    sections : dict
        ``{"#id": (1, 2)}``: Sphinx's numbers of the page's sections, ``""`` being the page's own.
    images : dict
        From an image's name in the tree to its path under the book's start.
    """

    url: str
    root_url: str
    numbers: dict[str, dict[str, tuple[int, ...]]]
    sections: dict[str, tuple[int, ...] | None]
    images: dict[str, str]

    def number(self, kind: str, node: nodes.Element) -> str:
        """Return the number of a node as the book prints it, or an empty text."""
        known = self.numbers.get(kind, {})
        found = next((known[name] for name in node.get("ids", []) if name in known), ())
        return ".".join(map(str, found))


# A code cell's place is handed to this function, which answers with Markdown (or nothing).
CellHandler = Callable[[nodes.Element], str]


class MarkdownWriter:
    """Write block nodes as Markdown.

    Parameters
    ----------
    page : Page
        Numbers and addresses.
    on_cell : callable
        Called with each code cell's container; what it returns stands in the cell's place.
    """

    def __init__(self, page: Page, on_cell: CellHandler) -> None:
        self.page = page
        self.on_cell = on_cell
        self._depth = 0

    # -- blocks ---------------------------------------------------------------------------

    def blocks(self, children: Iterable[nodes.Node]) -> str:
        """Return the Markdown of block nodes, separated by empty lines."""
        return "\n\n".join(text for text in map(self.block, children) if text.strip())

    def block(self, node: nodes.Node) -> str:
        """Return the Markdown of one block node.

        Raises
        ------
        UnknownNodeError
            If the node's kind has no Markdown form here.
        """
        if isinstance(node, _SKIPPED):
            return ""
        if isinstance(node, nodes.container) and node.get("nb_element") == "cell_code":
            return self.on_cell(node)
        for kind in type(node).__mro__:
            method = getattr(self, f"_block_{kind.__name__}", None)
            if method is not None:
                return method(node)
        if isinstance(node, _TRANSPARENT):
            return self.blocks(node.children)
        if isinstance(node, nodes.TextElement | nodes.Text | nodes.Inline):
            return self.inline([node])
        raise UnknownNodeError(
            f"{self.page.url}: no Markdown form for <{node.tagname}> in a notebook"
        )

    def _block_section(self, node: nodes.section) -> str:
        self._depth += 1
        text = self.blocks(node.children)
        self._depth -= 1
        return text

    def _block_title(self, node: nodes.title) -> str:
        ids = node.parent.get("ids", [])
        names = [""] if self._depth == 1 else [f"#{name}" for name in ids]
        number = next((self.page.sections[n] for n in names if self.page.sections.get(n)), ())
        prefix = "".join(f"{part}." for part in number or ())
        return f"{'#' * self._depth} {prefix} ".replace("  ", " ") + self.inline(node.children)

    def _block_paragraph(self, node: nodes.paragraph) -> str:
        return _guard_line_start(self.inline(node.children).strip())

    def _block_rubric(self, node: nodes.rubric) -> str:
        return f"**{self.inline(node.children)}**"

    def _block_transition(self, node: nodes.transition) -> str:
        return "" if "footnotes" in node.get("classes", []) else "---"

    def _block_literal_block(self, node: nodes.literal_block) -> str:
        language = {"ipython3": "python", "myst-ansi": "text"}.get(
            node.get("language", ""), node.get("language", "")
        )
        return fenced(node.astext(), "" if language == "default" else language)

    def _block_math_block(self, node: nodes.math_block) -> str:
        number = self.page.number("displaymath", node)
        return display_math(node.astext(), number)

    def _block_block_quote(self, node: nodes.block_quote) -> str:
        return quoted(self.blocks(node.children))

    def _block_attribution(self, node: nodes.attribution) -> str:
        return f"— {self.inline(node.children)}"

    def _block_bullet_list(self, node: nodes.bullet_list) -> str:
        return self._list(node, lambda index: "- ")

    def _block_enumerated_list(self, node: nodes.enumerated_list) -> str:
        start = int(node.get("start", 1))
        return self._list(node, lambda index: f"{start + index}. ")

    def _list(self, node: nodes.Element, marker: Callable[[int], str]) -> str:
        items = []
        loose = False
        for index, item in enumerate(node.children):
            text = self.blocks(item.children)
            simple = all(
                isinstance(child, nodes.bullet_list | nodes.enumerated_list)
                for child in item.children[1:]
            )
            loose |= not simple
            if simple:
                text = re.sub(r"\n\n(?=(?:- |\d+\. ))", "\n", text)
            mark = marker(index)
            items.append(mark + text.replace("\n", "\n" + " " * len(mark)))
        joined = ("\n\n" if loose else "\n").join(items)
        return re.sub(r"(?m)^[ ]+$", "", joined)

    def _block_definition_list(self, node: nodes.definition_list) -> str:
        items = []
        for item in node.children:
            terms = [child for child in item.children if isinstance(child, nodes.term)]
            bodies = [child for child in item.children if isinstance(child, nodes.definition)]
            names = ", ".join(self.inline(term.children).strip() for term in terms)
            body = "\n\n".join(self.blocks(part.children) for part in bodies)
            items.append(f"- **{names}**: " + body.replace("\n", "\n  "))
        return re.sub(r"(?m)^[ ]+$", "", "\n".join(items))

    def _block_field_list(self, node: nodes.field_list) -> str:
        items = []
        for item in node.children:
            name, body = item.children
            items.append(f"- **{self.inline(name.children)}**: {self.blocks(body.children)}")
        return "\n".join(items)

    def _block_line(self, node: nodes.line) -> str:
        return self.inline(node.children)

    def _block_table(self, node: nodes.table) -> str:
        title = next((c for c in node.children if isinstance(c, nodes.title)), None)
        rows = [[self._table_entry(entry) for entry in row] for row in node.findall(nodes.row)]
        if not rows:
            return ""
        width = max(map(len, rows))
        rows = [row + [""] * (width - len(row)) for row in rows]
        if next(node.findall(nodes.thead), None) is None:
            rows.insert(0, [""] * width)
        rows.insert(1, ["---"] * width)
        text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        if title is None:
            return text
        return self._caption("table", "Table", node, title) + "\n\n" + text

    def _table_entry(self, entry: nodes.entry) -> str:
        text = self.blocks(entry.children)
        return re.sub(r"\s*\n\s*", "<br>", text).replace("|", r"\|")

    def _block_figure(self, node: nodes.figure) -> str:
        images = "\n\n".join(self._image(image) for image in node.findall(nodes.image))
        return "\n\n".join(part for part in (images, self.figure_caption(node)) if part)

    def figure_caption(self, node: nodes.figure) -> str:
        """Return a figure's number and caption, without its picture."""
        caption = next((c for c in node.children if isinstance(c, nodes.caption)), None)
        legend = self.blocks([c for c in node.children if isinstance(c, nodes.legend)])
        text = "" if caption is None else self._caption("figure", "Fig.", node, caption)
        return "\n\n".join(part for part in (text, legend) if part)

    def _caption(self, kind: str, word: str, node: nodes.Element, caption: nodes.Element) -> str:
        number = self.page.number(kind, node)
        head = f"**{word} {number}** " if number else ""
        return head + self.inline(caption.children).strip()

    def _block_image(self, node: nodes.image) -> str:
        return self._image(node)

    def _image(self, node: nodes.image) -> str:
        source = node["uri"]
        if "://" not in source and not source.startswith("data:"):
            source = self.page.root_url + self.page.images.get(source, source)
        return f"![{node.get('alt', '')}]({source})"

    def _block_raw(self, node: nodes.raw) -> str:
        text = node.astext()
        keep = "html" in node.get("format", "").split() and "<script" not in text
        return text.strip() if keep else ""

    def _statement(self, node: nodes.Element) -> str:
        number = self.page.number(node.get("countertype", ""), node)
        head = f"{node['realtype'].title()} {number}".strip()
        return self._titled(head, node)

    def _block_proof_node(self, node: nodes.Element) -> str:
        body = self.blocks(child for part in node.children for child in part.children)
        body = re.sub(r"^Proof\.", "*Proof.*", body)
        ends_in_words = isinstance(node.children[-1].children[-1], nodes.paragraph)
        return f"{body} ∎" if ends_in_words else f"{body}\n\n∎"

    def _titled(self, head: str, node: nodes.Element) -> str:
        """Return a head with what the node's own title adds in brackets, then its content."""
        title, *rest = node.children
        content = self.blocks(
            child
            for part in rest
            for child in (part.children if isinstance(part, nodes.section) else [part])
        )
        added = self.inline(title.children).strip() if isinstance(title, nodes.title) else ""
        return quoted(f"**{' '.join([head, added]).strip()}**\n\n{content}".strip())

    def _block_exercise_node(self, node: nodes.Element) -> str:
        return self._titled("", node)

    def _block_exercise_enumerable_node(self, node: nodes.Element) -> str:
        return self._titled(f"Exercise {self.page.number('exercise', node)}".strip(), node)

    def _block_solution_node(self, node: nodes.Element) -> str:
        title, *rest = node.children
        content = self.blocks(
            child
            for part in rest
            for child in (part.children if isinstance(part, nodes.section) else [part])
        )
        summary = re.sub(r"\s+", " ", title.astext().replace("Solution to", "Solution to "))
        return folded(_escape(summary.strip()), content)

    def _block_Admonition(self, node: nodes.Element) -> str:  # noqa: N802 (docutils' own name)
        if "realtype" in node:  # definitions, theorems and their kin
            return self._statement(node)
        classes = node.get("classes", [])
        title = next((c for c in node.children if isinstance(c, nodes.title)), None)
        name = node.tagname.capitalize() if title is None else self.inline(title.children)
        content = self.blocks(child for child in node.children if child is not title)
        if "dropdown" in classes:
            return folded(name, content)
        return quoted(f"**{name}**\n\n{content}")

    def _block_sidebar(self, node: nodes.sidebar) -> str:
        title = next((c for c in node.children if isinstance(c, nodes.title)), None)
        content = self.blocks(child for child in node.children if child is not title)
        head = "" if title is None else f"**{self.inline(title.children)}**\n\n"
        return quoted(head + content)

    def _block_dropdown_main(self, node: nodes.Element) -> str:
        title, *rest = node.children
        words = [c for c in title.children if "sd-summary-state-marker" not in c.get("classes", [])]
        return folded(self.inline(words).strip() or "Details", self.blocks(rest))

    def _block_sd_tab_input(self, node: nodes.Element) -> str:
        return ""

    def _block_sd_tab_label(self, node: nodes.Element) -> str:
        return f"**{self.inline(node.children)}**"

    def _block_footnote(self, node: nodes.footnote) -> str:
        label, *rest = node.children
        return f"<sup>{label.astext()}</sup> {self.blocks(rest)}"

    def _block_citation(self, node: nodes.citation) -> str:
        # Resolving a tree twice in one build repeats label and text: the first pair is the entry.
        label = next(c for c in node.children if isinstance(c, nodes.label))
        body = next(c for c in node.children if isinstance(c, nodes.paragraph))
        return f"- **[{label.astext()}]** {self.inline(body.children).strip()}"

    # -- inline ---------------------------------------------------------------------------

    def inline(self, children: Iterable[nodes.Node]) -> str:
        """Return the Markdown of inline nodes."""
        return "".join(map(self._inline, children))

    def _inline(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return _escape(str(node))
        if isinstance(node, nodes.math):
            return f"${node.astext().strip()}$"
        if isinstance(node, nodes.literal):
            return self._literal(node)
        if isinstance(node, nodes.reference):
            return self._reference(node)
        if isinstance(node, nodes.raw):
            return self._block_raw(node)
        if isinstance(node, nodes.image):
            return self._image(node)
        if isinstance(node, nodes.footnote_reference):
            return f"<sup>{node.astext()}</sup>"
        if isinstance(node, _SKIPPED):
            return ""
        if isinstance(node, nodes.Element):
            before, after = _marks(node)
            text = self.inline(node.children)
            return f"{before}{text}{after}" if text.strip() else text
        raise UnknownNodeError(f"{self.page.url}: no Markdown form for {node!r} in a notebook")

    def _literal(self, node: nodes.literal) -> str:
        text = node.astext()
        if any(isinstance(child, nodes.math | nodes.emphasis) for child in node.children):
            return self.inline(node.children)
        ticks = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
        pad = " " if text.startswith("`") or text.endswith("`") else ""
        return f"{ticks}{pad}{text}{pad}{ticks}"

    def _reference(self, node: nodes.reference) -> str:
        text = self.inline(node.children)
        target = node.get("refuri", "")
        # Inside a notebook no renderer agrees on anchors, so a reference to the page is its text.
        if not target or target.startswith("#"):
            return text
        # Sphinx counts some anchors through; one more citation would change them all.
        target = re.sub(r"#id\d+$", "", target)
        return f"[{text}]({urljoin(self.page.url, target)})"


def fenced(text: str, language: str = "") -> str:
    """Return a code block, fenced by more backticks than `text` holds in a row."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    body = text.rstrip("\n")
    return f"{ticks}{language}\n{body}\n{ticks}"


def quoted(text: str) -> str:
    """Return `text` as a quotation, unless it holds what renderers lose inside one."""
    if "$$" in text or "```" in text or "<details>" in text:
        return text
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def folded(summary: str, content: str) -> str:
    """Return content that a click unfolds."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def display_math(text: str, number: str = "") -> str:
    r"""Return a display between ``$$``, with the book's number as its ``\tag``.

    Parameters
    ----------
    text : str
        TeX, with or without an amsmath environment around it.
    number : str
        The number, or an empty text.
    """
    body = re.sub(r"\\label\{[^}]*\}", "", text).strip()
    found = re.fullmatch(r"\\begin\{(\w+)(\*?)\}(.*)\\end\{\1\2\}", body, flags=re.DOTALL)
    if found:
        environment, star, inside = found.groups()
        number = "" if star else number
        inner = _INNER_ENVIRONMENT.get(environment)
        if inner:
            body = f"\\begin{{{inner}}}{inside}\\end{{{inner}}}"
        elif environment == "equation":
            body = inside.strip()
    elif re.search(r"(?<!\\)\\\\", body) and r"\begin" not in body:
        body = f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"  # Sphinx splits such lines too
    tag = f" \\tag{{{number}}}" if number else ""
    return f"$$\n{body}{tag}\n$$"


def _marks(node: nodes.Element) -> tuple[str, str]:
    if isinstance(node, nodes.emphasis):
        return "*", "*"
    if isinstance(node, nodes.strong):
        return "**", "**"
    if isinstance(node, nodes.superscript):
        return "<sup>", "</sup>"
    if isinstance(node, nodes.subscript):
        return "<sub>", "</sub>"
    return "", ""


def _escape(text: str) -> str:
    text = re.sub(r"([\\`*_$<])", r"\\\1", text)
    return text.replace("](", r"]\(")


def _guard_line_start(text: str) -> str:
    """Keep the lines of a paragraph from turning into lists, headings or quotations."""
    text = re.sub(r"(?m)^(\s*)([-+>]|#{1,6})(?=\s)", r"\1\\\2", text)
    return re.sub(r"(?m)^(\s*\d+)([.)])(?=\s)", r"\1\\\2", text)
