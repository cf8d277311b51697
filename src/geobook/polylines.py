"""Light figures: polylines on one pair of axes, drawn as SVG in the colours of the page.

An explorer swaps the path data of its lines, a few kilobytes a state, where a picture takes tens.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from geobook.validation import Points, as_tensor, as_track, count, one_of, positive

__all__ = ["Line", "Lines", "Plane", "key", "track_lines"]

_COLOURS = 7
_BAR = 10  # pixels
_STEPS = (1, 2, 2.5, 5, 10)
_ROLES = {"resnet": (0, False), "plain": (1, True)}


@dataclass(frozen=True)
class Line:
    """One polyline of a light figure.

    Parameters
    ----------
    x, y : array (m,)
        Its points in data units. NaN interrupts the line. No point at all hides it.
    colour : int or str
        Place in the book's colours (0 to 6), ``"plain"`` or ``"resnet"`` for the fixed roles, or
        ``"text"`` for the colour of the page's text.
    label : str, optional
        Its name in the key below the figure.
    dashed : bool
        Whether it is dashed; always for the role ``"plain"``.
    dots : bool
        Draw the points alone, not the line.
    width : float
        Width of the line, or diameter of the dots, in pixels. Lines above 10 are bars, with square
        ends.

    Raises
    ------
    ValueError
        If the points are no two equally long sequences or the colour is unknown.
    """

    x: ArrayLike
    y: ArrayLike
    colour: int | str = 0
    label: str | None = None
    dashed: bool = False
    dots: bool = False
    width: float = 2.0

    def __post_init__(self) -> None:
        x, y = np.asarray(self.x, dtype=float), np.asarray(self.y, dtype=float)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(
                f"x and y must be sequences of one length, not of shapes {x.shape} and {y.shape}"
            )
        positive(self.width, "width")
        known = self.colour in _ROLES or self.colour == "text"
        if not known and (isinstance(self.colour, str) or not 0 <= self.colour < _COLOURS):
            raise ValueError(
                f"colour must be 0 to {_COLOURS - 1}, 'plain', 'resnet' or 'text', "
                f"not {self.colour!r}"
            )
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    @property
    def _look(self) -> tuple[Any, ...]:
        """Everything but the points: must be the same in every state."""
        place, dashed = _ROLES.get(self.colour, (self.colour, False))
        paint = "currentColor" if place == "text" else f"var(--geobook-{place})"
        return paint, self.label, dashed or self.dashed, self.dots, self.width


@dataclass(frozen=True)
class Lines:
    """A light figure: polylines on one pair of axes, drawn as SVG in the colours of the page.

    Parameters
    ----------
    lines : sequence of Line
        The lines; every state of an explorer has the same ones, with other points.
    xlabel, ylabel : str
        Axis labels.
    title : str, optional
        Stands above, to tell several panels apart.
    xlim, ylim : tuple of float, optional
        Limits of the axes; those of the points of all states, with a margin, by default.
    equal : bool
        Whether a unit is as long on both axes.
    size : tuple of int, optional
        Width and height in pixels: (480, 320) alone, (340, 270) beside others.

    Raises
    ------
    ValueError
        If there is no line or the limits are not increasing.
    """

    lines: Sequence[Line]
    xlabel: str
    ylabel: str
    title: str | None = None
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    equal: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not len(self.lines) or not all(isinstance(line, Line) for line in self.lines):
            raise ValueError("lines must be a sequence of at least one Line")
        for name in ("xlim", "ylim"):
            limits = getattr(self, name)
            if limits is not None and not (len(limits) == 2 and limits[0] < limits[1]):
                raise ValueError(f"{name} must be two increasing numbers, not {limits!r}")

    @property
    def frame(self) -> tuple[Any, ...]:
        """Everything but the points: must be the same in every state."""
        looks = tuple(line._look for line in self.lines)
        words = (self.xlabel, self.ylabel, self.title)
        return words, self.xlim, self.ylim, self.equal, self.size, looks


def track_lines(
    track: Points, labels: Points | None = None, *, kind: str | None = None
) -> list[Line]:
    """Turn planar tracks into lines: for every class its tracks, and dots where they end.

    Parameters
    ----------
    track : array (L+1, n, 2)
        States of n points through L layers.
    labels : array (n,) of int, optional
        Classes, at most seven: each gets a colour.
    kind : {"plain", "resnet"}, optional
        Draws in that role's colour where there are no labels, and dashes plain tracks.

    Returns
    -------
    list of Line, two for every class

    Raises
    ------
    ValueError
        If the states are not planar, or the labels do not match them.
    """
    states = as_track(track).double().cpu().numpy()
    if states.shape[2] != 2:
        raise ValueError(f"track must have shape (layers, points, 2), not {states.shape}")
    one_of(kind, "kind", (None, *_ROLES))
    points = states.shape[1]
    classes = np.zeros(points) if labels is None else as_tensor(labels, "labels").cpu().numpy()
    if classes.shape != (points,):
        raise ValueError(
            f"labels must hold one class for each of {points} points, not {classes.shape}"
        )
    numbers = np.unique(classes)
    if len(numbers) > _COLOURS:
        raise ValueError(f"labels must hold at most {_COLOURS} classes, not {len(numbers)}")
    found = []
    for place, number in enumerate(numbers):
        mine = states[:, classes == number]
        gaps = np.full((1, *mine.shape[1:]), np.nan)  # lift the pen after every track
        x, y = np.concatenate([mine, gaps]).transpose(2, 1, 0).reshape(2, -1)
        colour = kind if labels is None and kind else place
        found += [
            Line(x, y, colour, dashed=kind == "plain", width=1.2),
            Line(*mine[-1].T, colour, dots=True, width=6),
        ]
    return found


@dataclass(frozen=True)
class Plane:
    """Axes of a light figure, in tenths of a pixel so that whole numbers are precise enough."""

    xlim: tuple[float, float]
    ylim: tuple[float, float]
    width: int
    height: int
    xlabel: str
    ylabel: str
    title: str | None

    LEFT, RIGHT, BOTTOM = 620, 150, 480

    @classmethod
    def of(cls, pictures: Sequence[Lines], usual: tuple[int, int]) -> Plane:
        """Return axes that hold all states of one panel, of the `usual` size where it has none."""
        model = pictures[0]
        width, height = (10 * count(side, "size", 100) for side in model.size or usual)
        every = [line for picture in pictures for line in picture.lines]
        xlim = model.xlim or _limits([line.x for line in every])
        ylim = model.ylim or _limits([line.y for line in every])
        words = (model.xlabel, model.ylabel, model.title)
        plane = cls(xlim, ylim, width, height, *words)
        if not model.equal:
            return plane
        wide, tall = width - cls.LEFT - cls.RIGHT, height - plane.top - cls.BOTTOM
        unit = max((xlim[1] - xlim[0]) / wide, (ylim[1] - ylim[0]) / tall)
        return cls(_widen(xlim, unit * wide), _widen(ylim, unit * tall), width, height, *words)

    @property
    def top(self) -> int:
        """Margin above: room for the title, where there is one."""
        return 110 if self.title is None else 270

    def across(self, x: ArrayLike) -> np.ndarray:
        """Place of `x` from the left."""
        share = (np.asarray(x) - self.xlim[0]) / (self.xlim[1] - self.xlim[0])
        return self.LEFT + share * (self.width - self.LEFT - self.RIGHT)

    def down(self, y: ArrayLike) -> np.ndarray:
        """Place of `y` from the top."""
        share = (np.asarray(y) - self.ylim[0]) / (self.ylim[1] - self.ylim[0])
        return self.height - self.BOTTOM - share * (self.height - self.top - self.BOTTOM)

    def path(self, line: Line) -> str:
        """Path data in relative whole steps from exact positions, so that no error adds up."""
        places = np.stack([self.across(line.x), self.down(line.y)], axis=1)
        known = np.isfinite(places).all(axis=1)
        whole = np.rint(np.where(known[:, None], places.clip(-1e6, 1e6), 0)).astype(int).tolist()
        parts, before = [], None
        for (x, y), here in zip(whole, known, strict=True):
            if not here:
                before = None
            elif line.dots:
                parts.append(f"M{x} {y}h0")
            elif before is None:
                parts.append(f"M{x} {y}l0 0")
                before = (x, y)
            elif (x, y) != before:
                parts.append(f" {x - before[0]} {y - before[1]}")
                before = (x, y)
        return "".join(parts).replace(" -", "-")

    def svg(self, lines: Sequence[tuple[Line, str]]) -> str:
        """Return the panel with each line along its path data."""
        drawn = "".join(f'<path data-line d="{path}" {_paint(line)}/>' for line, path in lines)
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" '
            f'style="max-width:{self.width // 9}px" aria-hidden="true">{self._frame()}{drawn}</svg>'
        )

    def _frame(self) -> str:
        left, right = self.LEFT, self.width - self.RIGHT
        top, bottom = self.top, self.height - self.BOTTOM
        grid, texts = [], []
        for value in MaxNLocator(6, steps=_STEPS).tick_values(*self.xlim):
            if self.xlim[0] <= value <= self.xlim[1]:
                x = round(float(self.across(value)))
                grid.append(f"M{x} {top}V{bottom}")
                texts.append(_svg_text(x, bottom + 165, f"{value:.6g}", "middle"))
        for value in MaxNLocator(5, steps=_STEPS).tick_values(*self.ylim):
            if self.ylim[0] <= value <= self.ylim[1]:
                y = round(float(self.down(value)))
                grid.append(f"M{left} {y}H{right}")
                texts.append(_svg_text(left - 50, y + 45, f"{value:.6g}", "end"))
        middle = (top + bottom) // 2
        texts.append(_svg_text((left + right) // 2, self.height - 90, self.xlabel, "middle"))
        turned = f' transform="rotate(-90 130 {middle})"'
        texts.append(_svg_text(130, middle, self.ylabel, "middle", turned))
        if self.title is not None:
            texts.append(_svg_text(left, 160, self.title, "start", ' font-weight="600"'))
        return (
            f'<path d="{"".join(grid)}" stroke="var(--geobook-muted)" style="stroke-width:8"/>'
            + "".join(texts)
        )


def _svg_text(x: int, y: int, text: str, anchor: str, more: str = "") -> str:
    written = html.escape(text.replace("-", "−") if _is_number(text) else text)
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{written}</text>'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    if not len(known):
        raise ValueError("lines must hold at least one finite point")
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _widen(limits: tuple[float, float], length: float) -> tuple[float, float]:
    middle = (limits[0] + limits[1]) / 2
    return middle - length / 2, middle + length / 2


def _paint(line: Line) -> str:
    colour, _, dashed, _, width = line._look
    dash = ' stroke-dasharray="60 50"' if dashed else ""
    # A wide line is a bar: a round end would reach beyond its value.
    ends = ";stroke-linecap:butt" if width > _BAR and not line.dots else ""
    return f'stroke="{colour}" style="stroke-width:{10 * width:g}{ends}"{dash}'


def key(lines: Sequence[Line]) -> str:
    """Return the HTML that names the labelled lines, each label once."""
    named = {line.label: line for line in reversed(lines) if line.label is not None}
    entries = [
        f'<span><svg viewBox="0 0 300 100" aria-hidden="true"><path d="'
        f'{"M150 50h0" if line.dots else "M10 50h280"}" {_paint(line)}/></svg>'
        f"{html.escape(label)}</span>"
        for label, line in reversed(named.items())
    ]
    return f'<div class="key">{"".join(entries)}</div>' if entries else ""
