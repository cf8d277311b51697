"""Null models: tracks and maps whose scores are known, to hold measured scores against.

A score means little without the value that chance gives. The functions here make tracks that no
training produced, and displacements that are as long as a network's but point anywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geobook.validation import Points, as_point_pair, count, non_negative


def zigzag(segments: int, amplitude: float = 1.0) -> Tensor:
    """Track of one point that advances by 1 a segment while it jumps up and down.

    Parameters
    ----------
    segments : int
        Number of segments L.
    amplitude : float
        Height of the jumps; 0 gives a straight track in equal steps.

    Returns
    -------
    Tensor, shape (segments + 1, 1, 2)
    """
    steps = torch.arange(count(segments, "segments") + 1, dtype=torch.float64)
    height = non_negative(amplitude, "amplitude") * (steps % 2)
    return torch.stack([steps, height], dim=1).unsqueeze(1)


def arc(segments: int, angle: float) -> Tensor:
    """Track of one point along an arc of the unit circle, in equal steps.

    Parameters
    ----------
    segments : int
        Number of segments L.
    angle : float
        Angle of the whole arc in radians. Its line-shape ratio is
        ``segments * sin(angle / (2 * segments)) / sin(angle / 2)``.

    Returns
    -------
    Tensor, shape (segments + 1, 1, 2)
    """
    if not math.isfinite(angle):
        raise ValueError(f"angle must be a finite number, not {angle!r}")
    turn = torch.linspace(0.0, float(angle), count(segments, "segments") + 1, dtype=torch.float64)
    return torch.stack([turn.cos(), turn.sin()], dim=1).unsqueeze(1)


def independent_states(segments: int, points: int, dimension: int, seed: int = 0) -> Tensor:
    """Track whose states are independent normal vectors: the null model of a plain network.

    Every state forgets the one before, so consecutive steps are anticorrelated (cosine -1/2) and
    the line-shape score is about `segments`.

    Returns
    -------
    Tensor, shape (segments + 1, points, dimension)
    """
    return _normal(count(segments, "segments") + 1, points, dimension, seed)


def independent_steps(segments: int, points: int, dimension: int, seed: int = 0) -> Tensor:
    """Track whose steps are independent normal vectors: the null model of a residual network.

    The steps are nearly orthogonal in high dimension, so the line-shape score is about the square
    root of `segments`.

    Returns
    -------
    Tensor, shape (segments + 1, points, dimension)
    """
    return _normal(count(segments, "segments") + 1, points, dimension, seed).cumsum(0)


def chance_line_shape_score(segments: int, residual: bool) -> float:
    """Line-shape score that a track without any order has in high dimension.

    Parameters
    ----------
    segments : int
        Number of segments L.
    residual : bool
        Whether the steps are independent (score sqrt(L), `independent_steps`) or the states
        (score L, `independent_states`).
    """
    return (
        math.sqrt(count(segments, "segments")) if residual else float(count(segments, "segments"))
    )


def random_displacement(x: Points, y: Points, seed: int = 0) -> Tensor:
    """Move every point as far as the map does, in a direction drawn at random.

    Parameters
    ----------
    x, y : array or tensor, shape (n, ...)
        Points and their images.
    seed : int
        Seed of the directions.

    Returns
    -------
    Tensor, shape (n, d)
        Images of `x` under the random map.

    Raises
    ------
    ValueError
        If `x` and `y` do not hold equally many points of one dimension.
    """
    start, end = as_point_pair(x, y)
    direction = _normal(1, *start.shape, seed)[0].to(start)
    length = (end - start).norm(dim=1, keepdim=True)
    return start + length * direction / direction.norm(dim=1, keepdim=True)


def shuffled_displacement(x: Points, y: Points, seed: int = 0) -> Tensor:
    """Move the points by the map's own displacements, dealt out in random order.

    A stricter control than `random_displacement`: the displacements keep their lengths and the few
    directions they share, and lose only the tie to the point that they moved.

    Returns
    -------
    Tensor, shape (n, d)

    Raises
    ------
    ValueError
        If `x` and `y` do not hold equally many points of one dimension.
    """
    start, end = as_point_pair(x, y)
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    order = torch.randperm(len(start), generator=generator).to(start.device)
    return start + (end - start)[order]


def _normal(layers: int, points: int, dimension: int, seed: int) -> Tensor:
    shape = layers, count(points, "points"), count(dimension, "dimension")
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
