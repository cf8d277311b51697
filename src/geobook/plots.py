"""Figures in one style: tracks, scores, segment proportions, images.

Every function takes data, draws on one Axes (its own where none is given) and returns it; none
shows or closes anything. A plain network is always vermilion, dashed and square, a ResNet always
blue, solid and round, so that they are told apart without colour too. The colours are those of
Okabe and Ito (*Color Universal Design*, 2008) and of Paul Tol (*Colour Schemes*, 2021), which
remain distinct for colour-blind readers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from geobook.validation import Points, as_points, as_tensor, as_track, count, one_of

__all__ = [
    "CLASS_COLOURS",
    "COLOURS",
    "KINDS",
    "PAGE_WIDTH",
    "Look",
    "clouds",
    "image_grid",
    "look",
    "panels",
    "project",
    "score_curves",
    "scores_against",
    "segment_bars",
    "shades",
    "style",
    "tracks_2d",
    "tracks_pca",
    "training_curves",
]

PAGE_WIDTH = 7.0
"""Width in inches of a figure that fills the column of text."""

COLOURS = ("#0072B2", "#D55E00", "#008060", "#B8578F", "#555555", "#B07800", "#2B8CC4")
"""Okabe and Ito's hues, darkened where they need it to stand out from white."""

CLASS_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#555555",
)  # fmt: skip
"""Ten colours for ten classes (Tol's muted scheme and a grey)."""

_HATCHES = ("", "//", "..", "xx", "--", "\\\\", "oo")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_LEVEL_LABELS = 4  # more labels below an axis than this stand aslant
_RASTER_ABOVE = 400  # polylines in one figure above which vectors get heavier than pixels


@dataclass(frozen=True)
class Look:
    """How one kind of curve is drawn: the same in every figure.

    Parameters
    ----------
    label : str
        Its name in legends.
    colour : str
        Hex colour.
    dashes : str or tuple
        Matplotlib line style.
    marker : str
        Matplotlib marker.
    """

    label: str
    colour: str
    dashes: Any = "-"
    marker: str = "o"

    def line(self, **changes: Any) -> dict[str, Any]:
        """Return keyword arguments for ``Axes.plot``."""
        own = {"color": self.colour, "linestyle": self.dashes, "label": self.label}
        return {**own, "marker": self.marker, **changes}


KINDS: dict[str, Look] = {
    "resnet": Look("ResNet", COLOURS[0], "-", "o"),
    "plain": Look("plain network", COLOURS[1], "--", "s"),
}
"""The two fixed roles."""


def look(kind: Hashable, position: int = 2) -> Look:
    """Return the look of a kind of network or curve.

    Parameters
    ----------
    kind : str or bool
        ``"plain"`` or False, ``"resnet"``, ``"residual"`` or True: the fixed roles. Anything else
        keeps its own name and takes the colour at `position`.
    position : int
        Place in `COLOURS` for other kinds; the first two belong to the fixed roles.
    """
    lower = kind.lower() if isinstance(kind, str) else kind
    name = {True: "resnet", "residual": "resnet", False: "plain"}.get(lower, lower)
    if name in KINDS:
        return KINDS[name]
    place = count(position, "position", 0) % len(COLOURS)
    return Look(str(kind), COLOURS[place], _DASHES[place], _MARKERS[place])


def shades(number: int) -> list[str]:
    """Return colours for ordered values, dark to light and all legible on white.

    Parameters
    ----------
    number : int
        How many.
    """
    stops = np.linspace(0.0, 0.82, count(number, "number"))
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](stops)]


def style(vector: bool | None = None) -> None:
    """Set the book's style for every figure drawn afterwards.

    In a notebook it also chooses the format of the pictures: SVG, sharp at any size and light for
    line plots, or PNG at twice the resolution.

    Parameters
    ----------
    vector : bool, optional
        SVG or PNG. Without it the environment variable ``GEOBOOK_FIGURES`` (``svg`` or ``png``)
        decides, and without that SVG is taken.

    Raises
    ------
    ValueError
        If ``GEOBOOK_FIGURES`` holds anything else.
    """
    wanted = os.environ.get("GEOBOOK_FIGURES", "svg").strip().lower()
    one_of(wanted, "GEOBOOK_FIGURES", ("svg", "png"))
    mpl.rcParams.update(_RC)
    _choose_notebook_format(wanted == "svg" if vector is None else vector)


_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    # DejaVu comes with matplotlib and sets the layout; the others are drawn where a reader lacks it
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.prop_cycle": mpl.cycler(color=COLOURS, linestyle=_DASHES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "figure.figsize": (4.8, 3.4),
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    # opaque white, so that a dark page shows a white card and not black text on black
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "image.cmap": "gray_r",
    "svg.fonttype": "none",
    "svg.hashsalt": "geobook",
}


def _choose_notebook_format(vector: bool) -> None:
    try:
        from IPython import get_ipython
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return
    from IPython.core.pylabtools import select_figure_formats

    formats = {"svg"} if vector else {"retina"}
    options = {"bbox_inches": "tight", "metadata": {"Date": None} if vector else {"Software": None}}
    backend = InlineBackend.instance(parent=shell)
    # kept on the backend too, which applies them again when pyplot first starts it
    backend.print_figure_kwargs, backend.figure_formats = options, formats
    select_figure_formats(shell, formats, **options)


def panels(
    rows: int = 1, columns: int = 1, *, height: float = 3.2, width: float | None = None, **how: Any
) -> tuple[Figure, Any]:
    """Make a figure of the book's width.

    Parameters
    ----------
    rows, columns : int
        Panels.
    height : float
        Height of a row in inches.
    width : float, optional
        Width in inches: `PAGE_WIDTH`, or two thirds of it for a single column.
    **how
        Handed to `matplotlib.pyplot.subplots`, for example ``sharey=True``.

    Returns
    -------
    Figure, and one Axes or an array of them.
    """
    rows, columns = count(rows, "rows"), count(columns, "columns")
    wide = width or (PAGE_WIDTH if columns > 1 else PAGE_WIDTH * 2 / 3)
    return plt.subplots(rows, columns, figsize=(wide, height * rows), **how)


def _own_axes(ax: Axes | None, height: float = 3.2) -> Axes:
    return panels(height=height)[1] if ax is None else ax


# ---------------------------------------------------------------------------- tracks


def project(track: Points) -> tuple[np.ndarray, np.ndarray]:
    """Project a track on its first two principal components, all layers together.

    One plane for all layers: a straight track stays straight, equal steps stay equal.

    Parameters
    ----------
    track : array (L+1, n, ...)
        States of n points through L layers.

    Returns
    -------
    states : ndarray (L+1, n, 2)
        Coordinates. Each component's sign is chosen so that its largest loading is positive.
    explained : ndarray (2,)
        Share of the variance of all states along each component, 0 for states that are all equal.

    Raises
    ------
    ValueError
        If `track` is no track: fewer than two layers, no point, NaN.
    """
    states = as_track(track).double().cpu().numpy()
    layers, points, dimension = states.shape
    flat = states.reshape(-1, dimension)
    flat = flat - flat.mean(axis=0)
    if dimension == 1:
        flat = np.hstack([flat, np.zeros_like(flat)])
    axes, variances = _principal_axes(flat)
    total = float((flat**2).sum())
    explained = variances / total if total > 0 else np.zeros(2)
    return (flat @ axes).reshape(layers, points, 2), explained


def _principal_axes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two orthonormal directions (d, 2) of largest variance of centred rows, and those variances.

    The smaller Gram matrix decides the cost; a fixed sign makes the answer repeatable.
    """
    rows, dimension = flat.shape
    wide = dimension > rows
    gram = flat @ flat.T if wide else flat.T @ flat
    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=[max(size - 2, 0), size - 1])
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    axes = flat.T @ vectors if wide else vectors
    lengths = np.linalg.norm(axes, axis=0)
    axes = np.divide(axes, lengths, out=np.zeros_like(axes), where=lengths > 0)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return axes * np.where(largest < 0, -1.0, 1.0), values


def tracks_2d(
    track: Points,
    labels: Points | None = None,
    *,
    ax: Axes | None = None,
    kind: Hashable = None,
    class_names: Sequence[str] | None = None,
    straight: bool = False,
    axis_labels: tuple[str, str] = ("first coordinate", "second coordinate"),
    title: str | None = None,
) -> Axes:
    """Draw tracks in the plane: one zigzag line per point, from a hollow to a full mark.

    Parameters
    ----------
    track : array (L+1, n, 2)
        States of n points through L layers.
    labels : array (n,) of int, optional
        Classes: each class gets a colour, and its name at the mean of its end points.
    ax : Axes, optional
        Where to draw.
    kind : str, optional
        ``"plain"`` or ``"resnet"``: draws in that role's colour where there are no labels.
    class_names : sequence of str, optional
        Names of the classes; the numbers by default.
    straight : bool
        Whether to draw also, thin and dotted, the straight way from start to end.
    axis_labels : tuple of str
        Labels of the two axes.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If the states are not two-dimensional, or the labels are not one whole number a point.
    """
    states = as_track(track).double().cpu().numpy()
    if states.shape[2] != 2:
        raise ValueError(
            f"track must have shape (layers, points, 2), not {states.shape}; "
            "tracks_pca draws tracks of more dimensions"
        )
    classes = _class_numbers(labels, states.shape[1])
    ax = _own_axes(ax, 3.6)
    role = look(kind if kind is not None else "track", 4 if kind is None else 2)
    for place, number in enumerate(np.unique(classes)):
        mine = states[:, classes == number]
        colour = role.colour if labels is None else CLASS_COLOURS[place % len(CLASS_COLOURS)]
        _draw_tracks(ax, mine, colour, role, straight, states.shape[1])
        if labels is not None:
            _name_class(ax, mine[-1].mean(axis=0), _class_name(number, class_names))
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.08)
    if title is not None:
        ax.set_title(title)
    return ax


def tracks_pca(
    track: Points,
    labels: Points | None = None,
    *,
    points: int | None = 200,
    ax: Axes | None = None,
    **how: Any,
) -> Axes:
    """Draw high-dimensional tracks on the first two principal components of all their states.

    The axis labels tell how much of the variance each component holds: what little it may be.

    Parameters
    ----------
    track : array (L+1, n, ...)
        States of n points through L layers.
    labels : array (n,) of int, optional
        Classes.
    points : int, optional
        Draw the first `points` only, all with None; the projection uses the drawn ones.
    ax : Axes, optional
        Where to draw.
    **how
        As for `tracks_2d`.

    Raises
    ------
    ValueError
        If `track` is no track, or the labels do not match it.
    """
    states = as_track(track)
    _class_numbers(labels, states.shape[1])
    shown = states.shape[1] if points is None else count(points, "points")
    projected, explained = project(states[:, :shown])
    names = ("1st", "2nd")
    own = tuple(
        f"{name} principal component ({share:.0%} of variance)"
        for name, share in zip(names, explained, strict=True)
    )
    chosen = None if labels is None else as_tensor(labels, "labels")[:shown]
    return tracks_2d(projected, chosen, ax=ax, **{"axis_labels": own, **how})


def _draw_tracks(
    ax: Axes, states: np.ndarray, colour: str, role: Look, straight: bool, total: int
) -> None:
    alpha = float(np.clip(14 / math.sqrt(total) / 4, 0.25, 0.9))
    thin = {"color": colour, "rasterized": total > _RASTER_ABOVE}
    if straight:
        ax.plot(*states[[0, -1]].T.swapaxes(1, 2), ls=":", lw=0.9, alpha=alpha, **thin)
    ax.plot(
        *states.T.swapaxes(1, 2), ls=role.dashes, lw=1.1, marker=".", ms=2.5, alpha=alpha, **thin
    )
    marks = {"ls": "none", "marker": role.marker, "ms": 4, "zorder": 3, **thin}
    ax.plot(*states[0].T, mfc="white", **marks)
    ax.plot(*states[-1].T, **marks)


def _name_class(ax: Axes, place: np.ndarray, name: str) -> None:
    text = ax.annotate(name, place, weight="bold", ha="center", va="center", zorder=5)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _class_numbers(labels: Points | None, points: int) -> np.ndarray:
    if labels is None:
        return np.zeros(points, dtype=int)
    classes = as_tensor(labels, "labels").cpu().numpy()
    if classes.shape != (points,):
        raise ValueError(
            f"labels must hold one class for each of {points} points, not {classes.shape}"
        )
    return classes.astype(int)


def _class_name(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else str(names[number])


def clouds(
    x: Points,
    y: Points,
    partners: Points | None = None,
    *,
    ax: Axes | None = None,
    names: tuple[str, str] = ("start", "end"),
    axis_labels: tuple[str, str] = ("first coordinate", "second coordinate"),
    title: str | None = None,
) -> Axes:
    """Draw two clouds in the plane and, as thin lines, who goes where.

    Parameters
    ----------
    x, y : array (n, 2)
        The clouds.
    partners : array (n,) of int, optional
        partners[i] is the index in y of the partner of x_i, as in `Assignment.permutation`.
    ax : Axes, optional
        Where to draw.
    names : tuple of str
        Names of the clouds in the legend.
    axis_labels : tuple of str
        Labels of the two axes.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If the clouds are not planar, or a partner is out of range.
    """
    start, end = (as_points(a, n, 1).cpu().numpy() for a, n in ((x, "x"), (y, "y")))
    for cloud, name in ((start, "x"), (end, "y")):
        if cloud.shape[1] != 2:
            raise ValueError(f"{name} must have shape (points, 2), not {cloud.shape}")
    ax = _own_axes(ax, 3.6)
    if partners is not None:
        index = as_tensor(partners, "partners").cpu().numpy().astype(int)
        if index.shape != (len(start),) or index.min() < 0 or index.max() >= len(end):
            raise ValueError(
                f"partners must hold {len(start)} indices below {len(end)}, "
                f"not {index.shape} in {index.min()}..{index.max()}"
            )
        ways = np.stack([start, end[index]])
        ax.plot(*ways.T.swapaxes(1, 2), color="#888888", ls="-", lw=0.8, zorder=1)
    ax.plot(*start.T, "o", color=COLOURS[0], mfc="white", ls="none", label=names[0])
    ax.plot(*end.T, "s", color=COLOURS[1], ls="none", label=names[1])
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1])
    ax.set_aspect("equal", adjustable="datalim")
    ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax


# ---------------------------------------------------------------------------- scores


def score_curves(
    epochs: ArrayLike,
    curves: Mapping[Any, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "epoch",
    kind: Hashable = None,
    name: str = "λ",
    best: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw scores during training, in the manner of the paper's Fig. 2.

    Parameters
    ----------
    epochs : array (m,)
        Horizontal axis.
    curves : mapping to array (m,) or (seeds, m)
        One entry per curve. Several seeds are drawn as thin lines with their mean and the band
        from least to greatest. Keys that are numbers are values of `name` and get ordered shades;
        other keys are kinds (see `look`). NaN leaves a gap.
    ylabel, xlabel : str
        Axis labels.
    kind : str, optional
        Kind of network, ``"plain"`` or ``"resnet"``, whose dashes and marks numbered curves take.
    name : str
        What numbered keys are values of.
    best : float, optional
        Draws a dotted line there: the best possible score, or the value that chance gives.
    log : bool
        Whether the vertical axis is logarithmic.
    ax : Axes, optional
        Where to draw.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If there is no curve, or one has another length than `epochs`.
    """
    across = _numbers(epochs, "epochs", 1)
    ax = _own_axes(ax)
    for role, values in _by_seed(across, curves, "curves", _looks(curves, kind, name)):
        _draw_seeds(ax, across, values, role, every=max(1, len(across) // 8))
    if bool((across == across.round()).all()):
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    _finish_scores(ax, xlabel, ylabel, best, log, title)
    return ax


def scores_against(
    values: ArrayLike,
    scores: Mapping[Any, ArrayLike],
    *,
    ylabel: str,
    xlabel: str = "weight decay λ",
    scale: Literal["auto", "linear", "log"] = "auto",
    best: float | None = None,
    log: bool = False,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw scores of trained networks against weight decay or depth, in the manner of Fig. 4.

    Parameters
    ----------
    values : array (m,)
        Horizontal axis, increasing.
    scores : mapping to array (m,) or (seeds, m)
        One entry per kind (see `look`). Every seed is a small mark, the line is their mean and the
        band goes from least to greatest. NaN (a score that is not defined) is left out.
    ylabel, xlabel : str
        Axis labels.
    scale : {"auto", "linear", "log"}
        Logarithmic horizontal axes place 0, where there is one, a step before the least positive
        value. "auto" is logarithmic where the positive values span a factor of 20 or more.
    best : float, optional
        Draws a dotted line there.
    log : bool
        Whether the vertical axis is logarithmic.
    ax : Axes, optional
        Where to draw.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If the values do not increase, or the scores do not match them.
    """
    across = _numbers(values, "values", 1)
    one_of(scale, "scale", ("auto", "linear", "log"))
    if len(across) > 1 and not bool((np.diff(across) > 0).all()):
        raise ValueError(f"values must increase, not {across.tolist()}")
    ax = _own_axes(ax)
    for role, seeds in _by_seed(across, scores, "scores", _looks(scores, None, "")):
        _draw_seeds(ax, across, seeds, role, every=1, points=True)
    positive = across[across > 0]
    spread = len(positive) > 1 and positive[-1] / positive[0] >= 20
    if scale == "log" or (scale == "auto" and spread and across[0] >= 0):
        _logarithmic_with_zero(ax, across)
    _finish_scores(ax, xlabel, ylabel, best, log, title)
    return ax


def segment_bars(
    proportions: Mapping[Any, ArrayLike],
    *,
    ax: Axes | None = None,
    xlabel: str = "layer l",
    ylabel: str = "share of the track's length",
    title: str | None = None,
) -> Axes:
    """Draw which share of a track's length each layer takes, in the manner of Fig. 3.

    Parameters
    ----------
    proportions : mapping to array (L,) or (seeds, L)
        One entry per kind (see `look`): shares that add up to one. With several seeds the bar is
        their mean, and each is a dot. The dotted line is 1/L: equal steps, as on a geodesic.
    ax : Axes, optional
        Where to draw.
    xlabel, ylabel : str
        Axis labels.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If there is nothing to draw or the entries have unequal numbers of layers.
    """
    if not proportions:
        raise ValueError("proportions must hold at least one entry, not none")
    layers = np.atleast_2d(np.asarray(next(iter(proportions.values())), dtype=float)).shape[-1]
    across = np.arange(1, layers + 1)
    ax = _own_axes(ax)
    width = 0.8 / len(proportions)
    drawn = _by_seed(across, proportions, "proportions", _looks(proportions, None, ""))
    for place, (role, seeds) in enumerate(drawn):
        middle = across + (place - (len(proportions) - 1) / 2) * width
        hatch = "//" if role is KINDS["plain"] else None
        face = "white" if hatch else role.colour
        ax.bar(middle, seeds.mean(axis=0), 0.9 * width, color=face, edgecolor=role.colour,
               hatch=hatch, linewidth=1.2, label=role.label)  # fmt: skip
        if len(seeds) > 1:
            ax.plot(np.tile(middle, len(seeds)), seeds.ravel(), ".", color="black", ms=3, ls="none")
    ax.axhline(1 / layers, color="black", ls=":", lw=1.2, label="equal steps, 1/L")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ax.grid(axis="x", visible=False)
    ax.legend()
    if title is not None:
        ax.set_title(title)
    return ax


def share_bars(
    values: Sequence[Any],
    shares: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    xlabel: str,
    legend: bool = True,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Draw what a whole consists of, as one stacked bar for every value.

    Parameters
    ----------
    values : sequence of m
        What stands below the bars.
    shares : mapping of str to array (m,)
        Parts from the bottom up, at most seven, by name; NaN for a value leaves its bar out.
    ylabel, xlabel : str
        Axis labels.
    legend : bool
        Whether to name the parts, below the axes: once is enough for several panels.
    ax : Axes, optional
        Where to draw.
    title : str, optional
        Title of the panel.

    Raises
    ------
    ValueError
        If there is no part, too many, or one of another length than `values`.
    """
    if not 0 < len(shares) <= len(_HATCHES):
        raise ValueError(f"shares must hold 1 to {len(_HATCHES)} parts, not {len(shares)}")
    ax = _own_axes(ax, 3.4)
    below = np.zeros(len(values))
    for place, (name, share) in enumerate(shares.items()):
        heights = _numbers(share, f"shares[{name!r}]", 1)
        if len(heights) != len(values):
            raise ValueError(
                f"shares[{name!r}] must hold {len(values)} numbers, one a value, not {len(heights)}"
            )
        ax.bar(range(len(values)), heights, 0.8, below, color=COLOURS[place], label=name,
               hatch=_HATCHES[place], edgecolor="white", linewidth=0.6)  # fmt: skip
        below = below + heights
    slanted = {"rotation": 45} if len(values) > _LEVEL_LABELS else {}
    ax.set_xticks(range(len(values)), [str(value) for value in values], **slanted)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    if legend:
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if title is not None:
        ax.set_title(title)
    return ax


def training_curves(
    histories: Mapping[Any, Mapping[str, Sequence[Any]]],
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draw loss, accuracy and line-shape score during training, side by side.

    Parameters
    ----------
    histories : mapping of kind to history
        Histories of `geobook.train`: keys epoch, loss, accuracy and test_accuracy (both in %, the
        test's where it was measured) and lss (a list with one value per stage, of which the mean
        is drawn). None, where an epoch was not scored, is left out.
    figure : Figure or SubFigure, optional
        Where to draw the three panels; a new figure by default.

    Raises
    ------
    ValueError
        If there is no history or one lacks a key.
    """
    if not histories:
        raise ValueError("histories must hold at least one entry, not none")
    for kind, history in histories.items():
        missing = [key for key in ("epoch", "loss", "accuracy", "lss") if key not in history]
        if missing:
            raise ValueError(f"histories[{kind!r}] must have the key {missing[0]!r}")
    if figure is None:
        figure = panels(1, 3, height=2.6)[0]
    else:
        figure.subplots(1, 3)
    loss, accuracy, straight = figure.axes
    tested = all(
        any(value is not None for value in history.get("test_accuracy", ()))
        for history in histories.values()
    )
    for place, (kind, history) in enumerate(histories.items()):
        role, epochs = look(kind, 2 + place), np.asarray(history["epoch"], dtype=float)
        every = max(1, len(epochs) // 6)
        loss.plot(epochs, history["loss"], **role.line(markevery=every))
        known = history["test_accuracy" if tested else "accuracy"]
        for ax, values in ((accuracy, known), (straight, history["lss"])):
            scored = np.array([value is not None for value in values])
            means = [np.mean(value) for value in values if value is not None]
            ax.plot(epochs[scored], means, **role.line(markevery=every))
    loss.set(ylabel="training loss")
    accuracy.set(ylabel="test accuracy in %" if tested else "training accuracy in %")
    straight.set(ylabel="line-shape score LSS")
    for ax in (loss, accuracy, straight):
        ax.set(xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    straight.axhline(1, color="black", ls=":", lw=1.2)
    loss.legend()
    return figure


def _numbers(values: ArrayLike, name: str, dimensions: int) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers, not {values!r}") from error
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(
            f"{name} must be a non-empty array of {dimensions} dimension(s), not {array.shape}"
        )
    return array


def _looks(entries: Mapping[Any, Any], kind: Hashable, name: str) -> dict[Any, Look]:
    """One look for every key: ordered shades for numbers, roles for kinds."""
    numbers = [k for k in entries if isinstance(k, int | float) and not isinstance(k, bool)]
    role = look(kind, 0)
    found = {
        key: Look(f"{name} = {key:g}", shade, role.dashes, role.marker)
        for key, shade in zip(sorted(numbers), shades(max(1, len(numbers))), strict=False)
    }
    others = [key for key in entries if key not in numbers]
    return found | {key: look(key, 2 + place) for place, key in enumerate(others)}


def _by_seed(
    across: np.ndarray, entries: Mapping[Any, ArrayLike], name: str, looks: Mapping[Any, Look]
) -> list[tuple[Look, np.ndarray]]:
    if not entries:
        raise ValueError(f"{name} must hold at least one entry, not none")
    found = []
    for key, values in entries.items():
        array = np.atleast_2d(np.asarray(values, dtype=float))
        if array.ndim != 2 or array.shape[1] != len(across) or not len(array):
            raise ValueError(
                f"{name}[{key!r}] must have shape ({len(across)},) or (seeds, {len(across)}), "
                f"not {np.shape(values)}"
            )
        found.append((looks[key], array))
    return found


def _draw_seeds(
    ax: Axes, across: np.ndarray, seeds: np.ndarray, role: Look, every: int, points: bool = False
) -> None:
    defined = np.isfinite(seeds)
    known = defined.any(axis=0)
    mean = np.full(len(across), np.nan)
    mean[known] = np.where(defined, seeds, 0.0).sum(axis=0)[known] / defined.sum(axis=0)[known]
    if len(seeds) > 1:
        low = np.where(known, np.where(defined, seeds, np.inf).min(axis=0), np.nan)
        high = np.where(known, np.where(defined, seeds, -np.inf).max(axis=0), np.nan)
        ax.fill_between(across, low, high, color=role.colour, alpha=0.15, lw=0)
        if points:
            ax.plot(np.tile(across, len(seeds)), seeds.ravel(), ls="none", marker=role.marker,
                    ms=3, mfc="none", mew=0.8, color=role.colour, alpha=0.8)  # fmt: skip
        else:
            ax.plot(across, seeds.T, color=role.colour, ls=role.dashes, lw=0.6, alpha=0.5)
    ax.plot(across, mean, **role.line(markevery=every))


def _finish_scores(
    ax: Axes, xlabel: str, ylabel: str, best: float | None, log: bool, title: str | None
) -> None:
    if best is not None:
        ax.axhline(best, color="black", ls=":", lw=1.2)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    if title is not None:
        ax.set_title(title)


def _logarithmic_with_zero(ax: Axes, across: np.ndarray) -> None:
    positive = across[across > 0]
    if across[0] < 0 or not len(positive):
        raise ValueError(f"values must not be negative on a log scale, not {across.tolist()}")
    if across[0] == 0:
        # linear only below the least positive value, where nothing but 0 lies
        ax.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
    else:
        ax.set_xscale("log")
    exponents = np.log10(positive)
    whole = positive[np.isclose(exponents, np.round(exponents))]
    named = whole if len(whole) > 1 else positive
    ax.xaxis.set_major_locator(FixedLocator([*across[across == 0], *named]))
    ax.xaxis.set_minor_locator(FixedLocator([v for v in positive if v not in named]))
    write = _power if min(named) < 0.01 else "{:g}".format
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    if value == 0 or 1 <= value < 100:
        return f"{value:g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10**exponent
    times = "" if math.isclose(factor, 1) else rf"{factor:g}\cdot "
    return rf"${times}10^{{{exponent}}}$"


# ---------------------------------------------------------------------------- images


def image_grid(
    images: Points,
    titles: Sequence[Any] | None = None,
    *,
    columns: int = 8,
    size: float = 0.8,
) -> Figure:
    """Draw small images side by side, all on one scale of grey.

    Parameters
    ----------
    images : array (n, h, w), (n, 1, h, w) or (n, 3, h, w)
        The images; normalised ones are stretched together to the range from least to greatest.
    titles : sequence, optional
        What stands above each, for example its label.
    columns : int
        Images in a row.
    size : float
        Width of one image in inches.

    Raises
    ------
    ValueError
        If the images have another shape, or the titles another number.
    """
    pixels = as_tensor(images, "images").cpu().numpy()
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        pixels = pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, -1)
    elif pixels.ndim != 3:
        raise ValueError(
            f"images must have shape (n, h, w), (n, 1, h, w) or (n, 3, h, w), not {pixels.shape}"
        )
    if not len(pixels):
        raise ValueError("images must hold at least one image, not none")
    if hasattr(titles, "tolist"):
        titles = titles.tolist()
    if titles is not None and len(titles) != len(pixels):
        raise ValueError(f"titles must hold {len(pixels)} entries, not {len(titles)}")
    low, high = float(pixels.min()), float(pixels.max())
    pixels = (pixels - low) / (high - low or 1.0)
    columns = min(count(columns, "columns"), len(pixels))
    rows = -(-len(pixels) // columns)
    tall = size * pixels.shape[1] / pixels.shape[2] + (0.0 if titles is None else 0.25)
    figure, axes = panels(rows, columns, height=tall, width=size * columns, squeeze=False)
    for place, ax in enumerate(axes.flat):
        ax.axis("off")
        if place < len(pixels):
            ax.imshow(pixels[place], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            if titles is not None:
                ax.set_title(str(titles[place]), fontsize=9, loc="center")
    return figure
