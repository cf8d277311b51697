"""What of the fields of a trained network is gradient, and what only stirs (the paper's eq. (15)).

Two measures of the velocities v_l(x) = F_l(x) - x of a network's blocks F_l, plain or residual:
on a box of the plane the Helmholtz parts of every block; in any dimension the antisymmetric share
of the blocks' Jacobians at the points that pass through them.

For the whole map of a network see `geobook.decomposition.stirring`. Beside these shares the share
of the energy that a map wastes says little across networks: it falls as the image grows, whatever
the pairing (see `geobook.decomposition.PolarFactorization.wasted`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import jacrev, vmap

from geobook.decomposition import (
    HelmholtzParts,
    WeightedParts,
    helmholtz,
    weighted_helmholtz,
)
from geobook.flows import Grid, network_field
from geobook.networks import Network
from geobook.tracks import record_tracks
from geobook.training import probe_points
from geobook.validation import Points, as_tensor, count

Array = np.ndarray

# Numbers of Jacobians that are held at once: 64 MiB in single precision.
_JACOBIAN_ENTRIES = 2**24


@dataclass(frozen=True, eq=False)
class BlockParts:
    """The velocity field of one block on a box, taken apart.

    Attributes
    ----------
    curl_free, divergence_free : float
        Shares of the energy of the two parts; they add up to 1, or are both 0 where the block does
        not move anything.
    mean_square_speed : float
        Mean of |v|^2 over the box, in its units of length squared per block: how much the shares
        are shares of. With a density the mean is weighted with it.
    parts : HelmholtzParts, or WeightedParts if there are densities
        The parts themselves, as velocities across the faces of the grid.
    """

    curl_free: float
    divergence_free: float
    mean_square_speed: float
    parts: HelmholtzParts | WeightedParts


def block_helmholtz(
    network: Network,
    grid: Grid,
    stage: int = 0,
    densities: ArrayLike | Sequence[ArrayLike] | None = None,
) -> list[BlockParts]:
    """Take the velocity fields of the blocks of a 2-D network apart on a box (eq. (15)).

    Every v_l is evaluated on the faces of the grid and split by `geobook.helmholtz` with
    ``boundary="bounded"``: w.n = 0 on the boundary, and the gradient carries all that crosses it.
    So the shares depend on the box; choose the one that the data fill. Every point of the box
    counts the same, also where no data are, unless the densities say otherwise.

    Parameters
    ----------
    network : Network
        Residual, or plain with v_l = F_l - Id. It is used in evaluation mode and float64.
    grid : Grid
    stage : int
        Which of its stages; must be of shape (2,).
    densities : array (nx, ny), or L of them, optional
        Density of the data on the grid, above 0, the same for all blocks or one for each, such as
        that of the states x^{l-1} where block l acts. Then `geobook.weighted_helmholtz` splits the
        fields: gradients are orthogonal to what has div(density w) = 0.

    Returns
    -------
    list of BlockParts
        One for every block.

    Raises
    ------
    ValueError
        If there is no such stage, it is not two-dimensional, or the densities do not fit.
    """
    field = network_field(network, stage)
    fields = [grid.on_faces(field, float(layer)) for layer in range(field.blocks)]
    if densities is None:
        cells = math.prod(grid.shape)
        return [_summary(helmholtz(v, grid.spacing, "bounded"), cells) for v in fields]
    weights = as_tensor(densities, "densities").double().numpy()
    if weights.shape not in (grid.shape, (len(fields), *grid.shape)):
        raise ValueError(
            f"densities must have shape {grid.shape} or {(len(fields), *grid.shape)}, "
            f"not {weights.shape}"
        )
    each = [weights] * len(fields) if weights.ndim == 2 else weights
    return [
        _summary(weighted_helmholtz(v, density, grid.spacing), density.sum())
        for v, density in zip(fields, each, strict=True)
    ]


def jacobian_asymmetry(
    model: Network, x: Points, stage: int = 0, points: int | None = 200
) -> Tensor:
    """Share of the antisymmetric part of the Jacobians of a network's blocks, 0 for gradients.

    With J_i = Dv_l(x_i^{l-1}) the Jacobian of v_l = F_l - Id (for a residual block, of its branch)
    at the state that reaches block l, and A_i = (J_i - J_i^T) / 2, the value of block l is

        sum_i |A_i|_F^2 / sum_i |J_i|_F^2,    between 0 and 1.

    The sums run over the points before the division, so that a point at which the block does
    nothing (J_i = 0, all its rectifiers closed) counts for nothing. A block that does nothing at
    any of the points has 0/0: its value is NaN.

    0 means that all J_i are symmetric: near each of the points v_l is the gradient of a function.
    1 means that all are antisymmetric: rotations. The expectation is (1 - 1/d) / 2 for a matrix of
    independent, identically distributed entries of mean 0 (that share of |J|_F^2 which lies off
    the diagonal is halved), so nearly 1/2 in high dimension, but 1/4 in the plane. In the Jacobian
    of a plain network's v = F - Id the identity adds to the symmetric part.

    Parameters
    ----------
    model : Network
        Residual or plain, of any width; it is used in evaluation mode and its own precision, on
        its own device, and keeps its mode and gradients.
    x : array or Tensor, shape (n, ...)
        Inputs of the network.
    stage : int
        Which of its stages. Convolutional states are flattened: a Jacobian has
        (channels * height * width)^2 entries.
    points : int, optional
        On how many of the inputs, drawn with a fixed seed as for `geobook.evaluate`; on all if
        None, or if there are no more.

    Returns
    -------
    Tensor, shape (L,), float64, on the CPU

    Raises
    ------
    ValueError
        If there is no such stage, or the points do not fit the network.

    Examples
    --------
    >>> from geobook.networks import build
    >>> x = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> jacobian_asymmetry(build("digits", blocks=2, norm="none"), x).round(decimals=1)
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    if count(stage, "stage", 0) >= len(model.stages):
        raise ValueError(f"stage must be below {len(model.stages)}, not {stage!r}")
    example = next(model.parameters())
    inputs = as_tensor(x, "x")
    chosen = inputs if points is None else probe_points(inputs, count(points, "points"))
    track = record_tracks(model, chosen, store=example.device)[stage].to(example.dtype)
    blocks = copy.deepcopy(model.stages[stage]).eval()
    with torch.no_grad():
        shares = [
            _asymmetry(block, states, model.residual)
            for block, states in zip(blocks, track[:-1], strict=True)
        ]
    return torch.tensor(shares, dtype=torch.float64)


def _summary(parts: HelmholtzParts | WeightedParts, mass: float) -> BlockParts:
    shares = parts.shares
    return BlockParts(shares["curl_free"], shares["divergence_free"], parts.energy / mass, parts)


def _asymmetry(block: nn.Module, states: Tensor, residual: bool) -> float:
    skew, total = 0.0, 0.0
    for jacobian in _jacobians(block, states, residual):
        skew += float(((jacobian - jacobian.mT) / 2).square().sum())
        total += float(jacobian.square().sum())
    return skew / total if total else float("nan")


def _jacobians(block: nn.Module, states: Tensor, residual: bool) -> Iterator[Tensor]:
    """Yield the Jacobians (m, d, d) of the velocity at the states, a few at a time, as float64."""
    dimension = states[0].numel()
    derive = vmap(jacrev(partial(_velocity, block, states.shape[1:], residual)))
    at_once = max(1, _JACOBIAN_ENTRIES // dimension**2)
    for few in states.flatten(1).split(at_once):
        yield derive(few).double()


def _velocity(block: nn.Module, shape: torch.Size, residual: bool, point: Tensor) -> Tensor:
    state = point.reshape(1, *shape)
    moved = block.branch(state) if residual else block(state) - state
    return moved.flatten()
