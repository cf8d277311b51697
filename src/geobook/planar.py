"""Small data sets in the plane, where a network's every map can be drawn.

The points are made, not loaded: the same seed gives the same points anywhere. Each set is centred
and divided by one number, so that the noise-free shape has mean 0 and variance 1 per coordinate on
average, whatever the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from geobook import runtime
from geobook.data import Dataset
from geobook.validation import count, non_negative, one_of

Array = np.ndarray
Shape = Callable[[int], tuple[Array, Array]]

_REFERENCE = 2000  # points of the noise-free shape that decide centre and scale


def _moons(points: int) -> tuple[Array, Array]:
    from sklearn.datasets import make_moons

    return make_moons(points, shuffle=False, noise=None)


def _rings(points: int) -> tuple[Array, Array]:
    from sklearn.datasets import make_circles

    return make_circles(points, shuffle=False, noise=None, factor=0.4)


def _spirals(points: int, turns: float = 1.0) -> tuple[Array, Array]:
    first = points // 2
    arms = [np.linspace(0.2, 1.0, size) for size in (first, points - first)]
    spots = []
    for arm, radius in enumerate(arms):
        angle = 2 * math.pi * turns * radius + math.pi * arm
        spots.append(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
    return np.concatenate(spots), np.repeat([0, 1], [first, points - first])


SHAPES: dict[str, Shape] = {"moons": _moons, "rings": _rings, "spirals": _spirals}
"""The shapes by name, each a function of the number of points."""

CLASSES = {
    "moons": ("upper moon", "lower moon"),
    "rings": ("outer ring", "inner ring"),
    "spirals": ("first arm", "second arm"),
}


def load(
    name: str = "moons",
    split: str = "train",
    *,
    points: int = 400,
    noise: float = 0.05,
    seed: int = 0,
    device: torch.device | str | None = "cpu",
) -> Dataset:
    """Make a data set of points in the plane.

    Parameters
    ----------
    name : {"moons", "rings", "spirals"}
        Two interleaved half circles; a ring around a ring; two arms of a spiral, one turn each.
    split : {"train", "test"}
        The test points are drawn independently, under a seed of their own.
    points : int
        How many, at least 4, half of them of each class.
    noise : float
        Standard deviation of the normal noise, in units of the set's own scale.
    seed : int
        Seed of the noise; the order of the points is by class.
    device : torch.device or str, optional
        Where the points go; None for `geobook.device`.

    Returns
    -------
    Dataset
        Its images are points (n, 2), its labels 0 and 1.

    Raises
    ------
    ValueError
        If the name or split is unknown or a number is out of range.

    Examples
    --------
    >>> load("rings", points=6).images.shape
    torch.Size([6, 2])
    """
    one_of(name, "name", SHAPES)
    one_of(split, "split", ("train", "test"))
    spots, labels = SHAPES[name](count(points, "points", 4))
    reference, _ = SHAPES[name](_REFERENCE)
    centre = reference.mean(0)
    scale = math.sqrt(((reference - centre) ** 2).mean())
    draw = np.random.default_rng([count(seed, "seed", 0), split == "test"])
    spread = non_negative(noise, "noise") * draw.standard_normal(spots.shape)
    where = runtime.device(device)
    return Dataset(
        name,
        split,
        torch.as_tensor((spots - centre) / scale + spread, dtype=torch.float32, device=where),
        torch.as_tensor(labels, dtype=torch.int64, device=where),
        CLASSES[name],
    )
