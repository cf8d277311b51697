"""Explorers: figures with sliders that need no kernel.

`explore` draws a picture for every combination of parameter values beforehand and puts them all
into one piece of HTML, which works on a static page, in JupyterLab and in Colab alike, with no
library. The bytes are the same in every process. A picture is a matplotlib figure (reduced to 64
colours) or, lighter and sharp at any size, `Lines`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import inspect
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from geobook.polylines import Line, Lines, Plane, key, track_lines
from geobook.validation import count

__all__ = ["Axis", "Explorer", "Line", "Lines", "explore", "track_lines"]

DPI = 96
"""Resolution at which figures are drawn."""

PALETTE = 64
"""Colours of a picture."""

MOST_STATES = 1000
"""More pictures than this are refused before any is drawn."""

_seen: Counter[str] = Counter()


@dataclass(frozen=True)
class Axis:
    """One slider: name, label, values, their texts, and the place where it starts."""

    name: str
    label: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    start: int


class Explorer:
    """A figure with sliders; make one with `explore`.

    Attributes
    ----------
    axes : tuple of Axis
        The sliders.
    alts : tuple of str
        Text alternative of every state, the last axis running fastest.
    html : str
        The whole figure, self-contained.
    """

    def __init__(self, axes: tuple[Axis, ...], alts: tuple[str, ...], html: str) -> None:
        self.axes, self.alts, self.html = axes, alts, html

    @property
    def size(self) -> int:
        """Bytes of the HTML."""
        return len(self.html.encode())

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        over = " x ".join(f"{axis.label} ({len(axis.values)})" for axis in self.axes)
        return f"Explorer over {over}: a figure with sliders, for a browser"


def explore(
    draw: Callable[..., Any],
    *,
    alt: Callable[..., str],
    caption: str | None = None,
    labels: Mapping[str, str] | None = None,
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    start: Mapping[str, Any] | None = None,
    max_bytes: int = 400_000,
    **axes: Sequence[Any],
) -> Explorer:
    """Make a figure with one slider for every axis, which needs no kernel.

    Parameters
    ----------
    draw : callable
        ``draw(**values)`` returns the picture of one state: a matplotlib Figure or Axes, all of
        one size (it is closed afterwards), or, much lighter, `Lines`, or a list of them for
        panels side by side.
    alt : callable
        ``alt(**values)`` returns the text alternative of that picture: what a reader who does not
        see it should learn from it.
    caption : str, optional
        Stands below the figure.
    labels : mapping of str to str, optional
        Label of each slider, for example ``{"decay": "weight decay λ"}``; the name by default.
    formats : mapping, optional
        How each slider's values are written: a format such as ``".0e"`` or ``"{:.0e}"``, or a
        callable. Numbers are written with ``"g"`` by default.
    start : mapping, optional
        Values shown first; the first of each axis by default.
    max_bytes : int
        Budget for the whole HTML.
    **axes
        Name and values of every slider: numbers or strings, without repetition.

    Returns
    -------
    Explorer

    Raises
    ------
    TypeError
        If draw or alt cannot be called with the axes, or return something else.
    ValueError
        If there is no axis, one is empty or repeats a value, a name is unknown, the pictures are
        not of one size, or the HTML is over its budget.

    Examples
    --------
    >>> import numpy as np
    >>> def draw(power):
    ...     x = np.linspace(0, 1, 20)
    ...     return Lines([Line(x, x**power)], xlabel="x", ylabel="y")
    >>> explore(draw, alt=lambda power: f"The curve y = x to the {power}", power=[1, 2, 3])
    Explorer over power (3): a figure with sliders, for a browser
    """
    sliders = _axes(axes, labels or {}, formats or {}, start or {})
    for function, name in ((draw, "draw"), (alt, "alt")):
        _check_callable(function, name, tuple(axes))
    count(max_bytes, "max_bytes")
    states = [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*(axis.values for axis in sliders))
    ]
    alts = tuple(_alt_text(alt, state) for state in states)
    pictures = [_picture(draw(**state)) for state in states]
    first = _mixed_radix(sliders)
    fill = _lines if isinstance(pictures[0], list) else _images
    content = fill(pictures, first, html.escape(alts[first]))
    page = _page(sliders, alts, content, caption)
    explorer = Explorer(sliders, alts, page)
    _check_budget(explorer, max_bytes)
    return explorer


# ---------------------------------------------------------------------------- input


def _axes(
    axes: Mapping[str, Sequence[Any]],
    labels: Mapping[str, str],
    formats: Mapping[str, Any],
    start: Mapping[str, Any],
) -> tuple[Axis, ...]:
    if not axes:
        raise ValueError("explore needs at least one axis, for example depth=[1, 5, 10]")
    for given, name in ((labels, "labels"), (formats, "formats"), (start, "start")):
        unknown = [key for key in given if key not in axes]
        if unknown:
            raise ValueError(
                f"{name} must name axes ({', '.join(axes)}), not {', '.join(map(repr, unknown))}"
            )
    found = tuple(
        _axis(name, values, labels.get(name, name.replace("_", " ")), formats.get(name), start)
        for name, values in axes.items()
    )
    states = math.prod(len(axis.values) for axis in found)
    if states > MOST_STATES:
        longest = max(found, key=lambda axis: len(axis.values))
        raise ValueError(
            f"the axes must give at most {MOST_STATES} states, not {states}: "
            f"thin the axis {longest.name!r}, which has {len(longest.values)} values"
        )
    return found


def _axis(name: str, values: Any, label: str, form: Any, start: Mapping[str, Any]) -> Axis:
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
        raise TypeError(f"{name} must be a sequence of values, not {values!r}")
    plain = tuple(v.item() if hasattr(v, "item") else v for v in values)
    if not plain:
        raise ValueError(f"{name} must have at least one value, not none")
    repeated = [value for place, value in enumerate(plain) if value in plain[:place]]
    if repeated:
        raise ValueError(f"{name} must not repeat a value, but {repeated[0]!r} comes twice")
    first = start.get(name, plain[0])
    if first not in plain:
        raise ValueError(f"start[{name!r}] must be one of {list(plain)}, not {first!r}")
    texts = tuple(_text(value, form, name) for value in plain)
    return Axis(name, label, plain, texts, plain.index(first))


def _text(value: Any, form: Any, name: str) -> str:
    try:
        if callable(form):
            return str(form(value))
        if form is None:
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            return f"{value:g}" if numeric else str(value)
        return form.format(value) if "{" in form else format(value, form)
    except (ValueError, TypeError) as error:
        raise ValueError(f"formats[{name!r}] cannot write {value!r}: {error}") from error


def _check_callable(function: Any, name: str, axes: tuple[str, ...]) -> None:
    if not callable(function):
        raise TypeError(f"{name} must be callable with the axes' values, not {function!r}")
    try:
        inspect.signature(function).bind(**dict.fromkeys(axes))
    except TypeError as error:
        raise TypeError(f"{name} must accept the axes {', '.join(axes)}: {error}") from error
    except ValueError:  # a built-in without a signature: calling it will tell
        return


def _alt_text(alt: Callable[..., str], state: Mapping[str, Any]) -> str:
    text = alt(**state)
    if not isinstance(text, str) or not text.strip():
        raise TypeError(f"alt must return a text for every state, not {text!r} for {state}")
    return " ".join(text.split())


def _mixed_radix(axes: Sequence[Axis]) -> int:
    """Return the number of the starting state, the last axis running fastest."""
    state = 0
    for axis in axes:
        state = state * len(axis.values) + axis.start
    return state


def _check_budget(explorer: Explorer, budget: int) -> None:
    if explorer.size <= budget:
        return
    states = len(explorer.alts)
    fixed = min(len(_code()) + 2000, budget // 2)
    each = max(1, (explorer.size - fixed) // states)
    longest = max(explorer.axes, key=lambda axis: len(axis.values))
    room = (budget - fixed) // each * len(longest.values) // states
    advice = (
        f"thin the longest axis, {longest.name!r}, from {len(longest.values)} to {room} values"
        if 0 < room < len(longest.values)
        else "draw smaller or simpler pictures"
    )
    raise ValueError(
        f"the explorer must stay within {budget:,} bytes, but has {explorer.size:,}: {states} "
        f"states of about {each:,} bytes; {advice}, or raise max_bytes"
    )


# ---------------------------------------------------------------------------- pictures


@dataclass(frozen=True)
class _Content:
    """The picture of the starting state as HTML, and the data of all states."""

    picture: str
    data: dict[str, Any]


def _picture(drawn: Any) -> list[Lines] | tuple[int, int, str]:
    """Lines as a list of panels; a figure as width, height and the base64 of its PNG."""
    if isinstance(drawn, Lines):
        return [drawn]
    if isinstance(drawn, list | tuple) and drawn and all(isinstance(p, Lines) for p in drawn):
        return list(drawn)
    from matplotlib.figure import Figure

    figure = getattr(drawn, "figure", None)
    if not isinstance(figure, Figure):
        raise TypeError(f"draw must return a matplotlib Figure or Lines, not {drawn!r}")
    from matplotlib import pyplot as plt
    from PIL import Image

    buffer = io.BytesIO()
    try:
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", bbox_inches=None,
                       pil_kwargs={"compress_level": 1})  # fmt: skip
    finally:
        plt.close(figure)
    image = (
        Image.open(buffer)
        .convert("RGB")
        .quantize(PALETTE, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    packed = io.BytesIO()
    image.save(packed, format="png", optimize=True)
    return *image.size, base64.b64encode(packed.getvalue()).decode()


def _images(pictures: Sequence[Any], first: int, alt: str) -> _Content:
    if any(isinstance(picture, list) for picture in pictures):
        raise TypeError("draw must return figures for every state or Lines for every state")
    sizes = {picture[:2] for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"draw must return figures of one size, not of {sorted(sizes)} pixels")
    width, height = sizes.pop()
    uris = [f"data:image/png;base64,{picture[2]}" for picture in pictures]
    place = {uri: number for number, uri in enumerate(dict.fromkeys(uris))}
    frames = [place[uri] for uri in uris]
    shown = uris[first]
    # the starting picture is in the page already
    kept = [None if uri == shown else uri for uri in place]
    return _Content(
        f'<img class="picture" src="{shown}" width="{width}" height="{height}" alt="{alt}">',
        {"pictures": kept, "inline": frames[first], "frames": frames},
    )


def _lines(pictures: Sequence[Any], first: int, alt: str) -> _Content:
    if not all(isinstance(picture, list) for picture in pictures):
        raise TypeError("draw must return figures for every state or Lines for every state")
    model = pictures[0]
    frame = [panel.frame for panel in model]
    if any([panel.frame for panel in picture] != frame for picture in pictures):
        raise ValueError("draw must return the same lines, labels and limits in every state")
    usual = (480, 320) if len(model) == 1 else (340, 270)
    planes = [Plane.of(panel, usual) for panel in zip(*pictures, strict=True)]
    drawn = [
        [plane.path(line) for plane, panel in zip(planes, picture, strict=True)
         for line in panel.lines]
        for picture in pictures
    ]  # fmt: skip
    place = {path: n for n, path in enumerate(dict.fromkeys(itertools.chain(*drawn)))}
    started = iter(drawn[first])
    panels = "".join(
        plane.svg([(line, next(started)) for line in panel.lines])
        for plane, panel in zip(planes, model, strict=True)
    )
    picture = f'<div class="picture" role="img" aria-label="{alt}">{panels}</div>'
    lines = [line for panel in model for line in panel.lines]
    frames = [[place[path] for path in state] for state in drawn]
    return _Content(picture + key(lines), {"paths": list(place), "frames": frames})


# ---------------------------------------------------------------------------- page


@cache
def _asset(name: str) -> str:
    """Return the text of a file of this package, without indentation and comments."""
    text = files("geobook").joinpath("assets", name).read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _code() -> str:
    return _asset("explorer.css") + _asset("explorer.js")


def _page(axes: Sequence[Axis], alts: Sequence[str], content: _Content, caption: str | None) -> str:
    data = {"labels": [axis.label for axis in axes], "texts": [axis.texts for axis in axes]}
    packed = json.dumps({**data, "alts": alts, **content.data}, ensure_ascii=False,
                        separators=(",", ":"))  # fmt: skip
    packed = packed.replace("<", "\\u003c")  # no "</script>" inside the data
    below = "" if caption is None else f"<figcaption>{html.escape(caption)}</figcaption>"
    identity = _identity(_code() + packed + content.picture + below)
    controls = "".join(_control(axis, f"{identity}-{n}") for n, axis in enumerate(axes))
    return (
        f'<figure class="geobook-explorer" data-explorer="{identity}">'
        f"<style>{_asset('explorer.css')}</style>"
        f"{content.picture}{_shown(axes, len(alts))}"
        f'<div class="controls">{controls}{_button(axes[0])}</div>{below}'
        f'<script type="application/json">{packed}</script>'
        f'<script>{_asset("explorer.js")}("{identity}");</script></figure>'
    )


def _identity(content: str) -> str:
    """Hash of the content, and a number that tells equal explorers of one process apart."""
    digest = "explorer-" + hashlib.sha256(content.encode()).hexdigest()[:10]
    _seen[digest] += 1
    return f"{digest}-{_seen[digest]}"


def _control(axis: Axis, identity: str) -> str:
    text = html.escape(axis.texts[axis.start])
    width = max(map(len, axis.texts))
    return (
        f'<div class="axis"><label for="{identity}">{html.escape(axis.label)}</label>'
        f'<input type="range" id="{identity}" min="0" max="{len(axis.values) - 1}" step="1" '
        f'value="{axis.start}" autocomplete="off" aria-valuetext="{text}">'
        f'<output for="{identity}" aria-live="polite" style="min-width:{width}ch">{text}</output>'
        "</div>"
    )


def _button(axis: Axis) -> str:
    if len(axis.values) < 3:
        return ""
    name = html.escape(f"Play: step through {axis.label}")
    return f'<button type="button" aria-pressed="false" aria-label="{name}">Play</button>'


def _shown(axes: Sequence[Axis], states: int) -> str:
    """Say which state is shown, where the sliders are not: in print and without JavaScript."""
    state = ", ".join(f"{axis.label} = {axis.texts[axis.start]}" for axis in axes)
    return (
        f'<p class="shown">Shown: <b>{html.escape(state)}</b>, one of {states} pictures.'
        '<span class="hint"> Sliders that show the others appear where JavaScript runs: '
        "in the online book, or in a trusted notebook.</span></p>"
    )
