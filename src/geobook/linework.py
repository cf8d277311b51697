"""Lines to draw over the plane: nets that a flow carries along, level lines, arrows of fields.

Most functions return coordinates for `geobook.Line` or ``Axes.plot``, several lines in one with NaN
between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from geobook.decomposition import to_centres
from geobook.flows import Grid
from geobook.polylines import Line, Lines
from geobook.validation import Points, as_points, as_tensor, count, non_negative, positive

Array = np.ndarray


def mesh(
    lower: tuple[float, float], upper: tuple[float, float], lines: int = 9, points: int = 41
) -> Array:
    """Lines of a square net over a rectangle, to be carried along and drawn.

    Parameters
    ----------
    lower, upper : (float, float)
        Corners of the rectangle.
    lines : int
        Lines in each direction, at least 2.
    points : int
        Points of every line, at least 2.

    Returns
    -------
    array, shape (2 lines, points, 2)
        First the lines along y, then those along x.
    """
    at, along = (
        np.linspace(lower, upper, count(number, name, 2)).T
        for number, name in ((lines, "lines"), (points, "points"))
    )
    upright = np.stack(np.meshgrid(at[0], along[1], indexing="ij"), -1)
    level = np.stack(np.meshgrid(along[0], at[1], indexing="xy"), -1)
    return np.concatenate([upright, level])


def joined(lines: Iterable[ArrayLike]) -> tuple[Array, Array]:
    """Coordinates of several lines, each followed by NaN, so that one call draws them all.

    Parameters
    ----------
    lines : arrays, each of shape (points, 2)

    Returns
    -------
    x, y : arrays, shape (m,)
        Empty where there is no line.
    """
    gap = np.full((1, 2), np.nan)
    parts = [part for line in lines for part in (np.asarray(line, dtype=float), gap)]
    x, y = np.concatenate(parts or [gap[:0]]).T
    return x, y


def level_lines(density: ArrayLike, grid: Grid, level: float) -> tuple[Array, Array]:
    """Lines along which a density takes a value, interpolated between the centres of the cells.

    Parameters
    ----------
    density : array, shape (nx, ny)
    grid : Grid
    level : float

    Returns
    -------
    x, y : arrays, shape (m,)
        All pieces of the line as `joined`; no point at all where the density never takes the value.

    Raises
    ------
    ValueError
        If the density does not have the grid's shape.
    """
    from contourpy import contour_generator

    values = as_tensor(density, "density").cpu().double().numpy()
    if values.shape != grid.shape:
        raise ValueError(f"density must have the grid's shape {grid.shape}, not {values.shape}")
    x, y = ((edges[1:] + edges[:-1]) / 2 for edges in grid.edges)
    return joined(contour_generator(x, y, values.T).lines(float(level)))


def arrow_lines(
    points: Points, velocities: Points, *, length: float = 1.0, head: float = 0.25
) -> tuple[Array, Array]:
    """Arrows as one interrupted polyline, for `geobook.Line` or ``Axes.plot``.

    Parameters
    ----------
    points, velocities : array, shape (n, 2)
        Where the arrows start, and the velocities.
    length : float
        Length of an arrow of speed 1.
    head : float
        Length of the two strokes of the head, as a share of the arrow's.

    Returns
    -------
    x, y : arrays, shape (6 n,)
        NaN after every arrow, so that one call draws all of them.

    Raises
    ------
    ValueError
        If points and velocities are not equally many points of the plane.
    """
    start, moved = (
        as_points(value, name, 1).double().cpu().numpy()
        for value, name in ((points, "points"), (velocities, "velocities"))
    )
    if start.shape[1] != 2 or start.shape != moved.shape:
        raise ValueError(
            f"points and velocities must both have shape (n, 2), not {start.shape}, {moved.shape}"
        )
    shaft = positive(length, "length") * moved
    tip, side = start + shaft, np.stack([-shaft[:, 1], shaft[:, 0]], 1)
    strokes = [tip - non_negative(head, "head") * (shaft + turn * side / 2) for turn in (1, -1)]
    gap = np.full_like(start, np.nan)
    path = np.stack([start, tip, strokes[0], tip, strokes[1], gap], 1).reshape(-1, 2)
    return path[:, 0], path[:, 1]


def arrow_panel(
    field: Sequence[ArrayLike],
    colour: int | str,
    grid: Grid,
    title: str | None = None,
    *,
    length: float = 1.0,
    every: int = 5,
    size: tuple[int, int] | None = None,
) -> Lines:
    """Draw a field on the faces of a grid as arrows at every so many centres, a light figure.

    Parameters
    ----------
    field : pair of arrays (nx + 1, ny), (nx, ny + 1)
        Velocities across the faces.
    colour : int or str
        As for `geobook.Line`.
    grid : Grid
    title : str, optional
    length : float
        Length of an arrow of speed 1.
    every : int
        Cells from one arrow to the next.
    size : tuple of int, optional
        Width and height in pixels.

    Raises
    ------
    ValueError
        If the field does not lie on the faces of the grid.
    """
    velocities = np.moveaxis(to_centres(field), 0, 2)
    if velocities.shape[:2] != grid.shape:
        raise ValueError(
            f"field must lie on the faces of the grid of shape {grid.shape}, "
            f"not {velocities.shape[:2]}"
        )
    places = (slice(count(every, "every") // 2, None, every),) * 2
    path = arrow_lines(
        grid.centres[places].reshape(-1, 2), velocities[places].reshape(-1, 2), length=length
    )
    sides = [(low, high) for low, high in zip(grid.lower, grid.upper, strict=True)]
    line = Line(*path, colour, width=1.2)
    return Lines([line], "position x", "position y", title, *sides, equal=True, size=size)
