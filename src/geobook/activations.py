"""Activated matrices: the linear map that a rectifier network is at a point (eqs. (18) to (24)).

At any one input a rectifier network is an affine map: every rectifier either lets its input pass or
sets it to zero. Which of them pass is the input's *pattern*; all inputs of one pattern share the
map. `activated_matrices` writes down the paper's matrices (20) to (22) for the chain (18);
`activated_map` and `hold_pattern` do it for a `Network`, with its biases and norms.
`equation_rank` and `fit_random_labels` count how many equations f(x_i) = y_i (19) a chain can
satisfy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from geobook.networks import Block, Network
from geobook.validation import Points, as_points, as_tensor, count

_ACCEPT, _REFUSE = 0.3, 4.0  # factors on the damping after a step that helps, or does not
_LEAST_DAMPING, _MOST_DAMPING = 1e-12, 1e8


def draw_chain(depth: int, width: int, seed: int = 0) -> list[Tensor]:
    """Draw the matrices W_1 .. W_L of a chain (18), all square, He-normal.

    Parameters
    ----------
    depth, width : int
        L and d.
    seed : int
        Seed of the draw.

    Returns
    -------
    list of L tensors of float64, shape (d, d)
    """
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    d, matrices = count(width, "width"), count(depth, "depth")
    scale = (2 / d) ** 0.5
    return [
        scale * torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(matrices)
    ]


def run_chain(weights: Sequence[Points], x: Points) -> Tensor:
    """Compute f(x) = W_L relu(W_{L-1} ... relu(W_1 x)), eq. (18).

    Parameters
    ----------
    weights : sequence of arrays, each of shape (out, in)
        W_1 .. W_L.
    x : array or tensor, shape (n, d) or (d,)

    Returns
    -------
    tensor, shape (n, out) or (out,)

    Raises
    ------
    ValueError
        If there is no matrix, or the shapes do not fit.
    """
    matrices = _chain(weights)
    state = as_tensor(x, "x").to(matrices[0].dtype)
    if state.ndim not in (1, 2) or state.shape[-1] != matrices[0].shape[1]:
        raise ValueError(f"x must have shape (n, {matrices[0].shape[1]}), not {tuple(state.shape)}")
    for place, matrix in enumerate(matrices):
        state = (torch.relu(state) if place else state) @ matrix.T
    return state


def activated_matrices(weights: Sequence[Points], x: Points) -> list[Tensor]:
    """Give the activated matrices of a chain at one point, eqs. (20) to (22).

    Of every matrix the rows of rectifiers that do not pass at `x` are set to zero, and the columns
    that read from such a rectifier; their product is the linear map that the chain is at `x`.

    Parameters
    ----------
    weights : sequence of arrays, each of shape (out, in)
        W_1 .. W_L.
    x : array or tensor, shape (d,)
        One point.

    Returns
    -------
    list of L tensors, of the shapes of `weights`

    Raises
    ------
    ValueError
        If `x` is not one point, or the shapes do not fit.

    Examples
    --------
    >>> first, second = activated_matrices([[[1.0, 0], [0, 1]], [[2.0, 3]]], [5.0, -1.0])
    >>> (second @ first).tolist()
    [[2.0, 0.0]]
    """
    matrices = _chain(weights)
    state = as_tensor(x, "x").to(matrices[0].dtype)
    if state.ndim != 1:
        raise ValueError(f"x must be one point of shape (d,), not {tuple(state.shape)}")
    run_chain(matrices, state)
    found, passing = [], torch.ones_like(state)
    for matrix in matrices[:-1]:
        before, passing = passing, (matrix @ state > 0).to(state)
        found.append(passing[:, None] * matrix * before)
        state = torch.relu(matrix @ state)
    return [*found, matrices[-1] * passing]


@dataclass(frozen=True, eq=False)
class ActivatedMap:
    """The affine map ``x -> matrix @ x + offset`` that a network is at one point.

    Attributes
    ----------
    matrix : tensor, shape (classes, d)
    offset : tensor, shape (classes,)
    pattern : tensor of bool, shape (L, hidden)
        Which rectifiers of which block let their input pass.
    """

    matrix: Tensor
    offset: Tensor
    pattern: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) that the map gives for inputs (n, ...)."""
        return x.flatten(1).to(self.matrix) @ self.matrix.T + self.offset


@torch.no_grad()
def activation_pattern(network: Network, x: Points) -> Tensor:
    """Which rectifiers pass at which points.

    Parameters
    ----------
    network : Network
        Fully connected, of one stage, without a stem. It is run in evaluation mode.
    x : array or tensor, shape (n, ...)
        Inputs.

    Returns
    -------
    tensor of bool, shape (L, n, hidden)

    Raises
    ------
    ValueError
        If the network is of another kind.
    """
    with _evaluated(network) as blocks:
        state = as_points(x, "x", 1).to(blocks[0].first.weight)
        patterns = []
        for block in blocks:
            patterns.append(block.first_norm(block.first(state)) > 0)
            state = block(state)
    return torch.stack(patterns)


@torch.no_grad()
def hold_pattern(network: Network, pattern: Tensor, x: Points) -> Tensor:
    """Run a network with its rectifiers held: those of `pattern` pass, the others give zero.

    Parameters
    ----------
    network : Network
        As for `activation_pattern`.
    pattern : tensor of bool, shape (L, hidden)
        The pattern of one point.
    x : array or tensor, shape (n, ...)
        Inputs, of any pattern.

    Returns
    -------
    tensor, shape (n, classes)
        Logits: an affine function of `x`.

    Raises
    ------
    ValueError
        If the network is of another kind, or the pattern does not fit it.
    """
    with _evaluated(network) as blocks:
        wanted = len(blocks), blocks[0].first.out_features
        if tuple(pattern.shape) != wanted:
            raise ValueError(f"pattern must have shape {wanted}, not {tuple(pattern.shape)}")
        state = as_points(x, "x", 1).to(blocks[0].first.weight)
        for block, passing in zip(blocks, pattern, strict=True):
            hidden = block.first_norm(block.first(state)) * passing
            step = block.second_norm(block.second(hidden))
            state = state + step if block.residual else step
        return network.head(state)


def activated_map(network: Network, point: Points) -> ActivatedMap:
    """Give the affine map that a network is at one point, the product (24) of a real network.

    Parameters
    ----------
    network : Network
        As for `activation_pattern`.
    point : array or tensor, shape (...)
        One input, without an axis of points.

    Returns
    -------
    ActivatedMap

    Raises
    ------
    ValueError
        If the network is of another kind.
    """
    flat = as_tensor(point, "point").flatten()[None]
    pattern = activation_pattern(network, flat)[:, 0]
    corners = torch.cat([torch.zeros_like(flat), torch.eye(flat.shape[1]).to(flat)])
    images = hold_pattern(network, pattern, corners)
    return ActivatedMap((images[1:] - images[0]).T, images[0], pattern)


def equation_rank(weights: Sequence[Points], x: Points, tolerance: float = 1e-9) -> int:
    """Count the independent directions in which a chain can change its values at given points.

    It is the rank of the derivative of all values f(x_1), ..., f(x_n), n * out numbers, with
    respect to all weights. Where it is n * out, all labels near these values can be met at once.

    Parameters
    ----------
    weights : sequence of arrays, each of shape (out, in)
        W_1 .. W_L.
    x : array or tensor, shape (n, d)
        The points.
    tolerance : float
        Singular values below this share of the largest count as zero.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    matrices = [matrix.double()[None] for matrix in _chain(weights)]
    points = as_points(x, "x", 1).double()
    run_chain([matrix[0] for matrix in matrices], points)
    _, slope = _values_and_slope(matrices, points[None])
    return int(torch.linalg.matrix_rank(slope[0], rtol=tolerance))


def equation_bound(depth: int, width: int) -> int:
    """Largest number n of points in R^d for which n labels in R^d can generally be met.

    A chain of L square matrices has L d^2 weights; (L-1) d of them are idle, as unit k of a layer
    can be scaled up and its readers down. More than L d^2 - (L-1) d equations are not solvable but
    for a null set of labels. Hence n <= L (d-1) + 1.

    Parameters
    ----------
    depth, width : int
        L and d.
    """
    return count(depth, "depth") * (count(width, "width") - 1) + 1


def fit_random_labels(
    depth: int,
    width: int,
    points: int,
    *,
    hidden: int | None = None,
    sets: int = 10,
    restarts: int = 4,
    iterations: int = 200,
    seed: int = 0,
) -> Tensor:
    """Try to solve f(x_i) = y_i, eq. (19), for normal random points and labels in R^d.

    Levenberg and Marquardt's method from several He-normal starts. What it does not find may exist
    nevertheless, so the share of sets that it fits is a lower bound.

    Parameters
    ----------
    depth, width, points : int
        L, d and n.
    hidden : int, optional
        Width of the layers between input and output; d by default.
    sets : int
        How many sets of points and labels.
    restarts : int
        Starts for each set.
    iterations : int
        Most steps of the method.
    seed : int
        Seed of points, labels and starts.

    Returns
    -------
    tensor of float64, shape (sets,)
        Least relative error |f(x) - y| / |y| over the starts; about 1e-8 or less where it is
        solved.
    """
    many, tries = count(sets, "sets"), count(restarts, "restarts")
    n, d = count(points, "points"), count(width, "width")
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    draw = {"generator": generator, "dtype": torch.float64}
    x, y = torch.randn(2, many, n, d, **draw).repeat_interleave(tries, dim=1)
    between = d if hidden is None else count(hidden, "hidden")
    widths = [d, *[between] * (count(depth, "depth") - 1), d]
    weights = [
        (2 / before) ** 0.5 * torch.randn(many * tries, after, before, **draw)
        for before, after in pairwise(widths)
    ]
    errors = _solve(weights, x, y, count(iterations, "iterations"))
    return (errors / y.flatten(1).norm(dim=1)).view(many, tries).amin(1)


def _chain(weights: Sequence[Points]) -> list[Tensor]:
    matrices = [as_tensor(matrix, f"weights[{place}]") for place, matrix in enumerate(weights)]
    if not matrices:
        raise ValueError("weights must hold at least one matrix, not none")
    for place, matrix in enumerate(matrices):
        if matrix.ndim != 2:
            raise ValueError(f"weights[{place}] must be a matrix, not {tuple(matrix.shape)}")
        if place and matrix.shape[1] != matrices[place - 1].shape[0]:
            raise ValueError(
                f"weights[{place}] must have {matrices[place - 1].shape[0]} columns, "
                f"not {matrix.shape[1]}"
            )
    return matrices


@contextmanager
def _evaluated(network: Network) -> Iterator[list[Block]]:
    """Give the blocks of a network of the right kind, in evaluation mode for the while."""
    if network.architecture.convolutional or len(network.stages) > 1:
        raise ValueError("network must be fully connected and of one stage")
    if not isinstance(network.transitions[0], torch.nn.Identity):
        raise ValueError("network must have no stem: its input must be as wide as its stage")
    was_training = network.training
    try:
        network.eval()
        yield list(network.stages[0])
    finally:
        network.train(was_training)


def _values_and_slope(weights: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Values (S, n, out) of S chains, and their derivative (S, n * out, weights)."""
    states, masks = [x], []
    for matrix in weights[:-1]:
        raw = states[-1] @ matrix.transpose(1, 2)
        masks.append((raw > 0).to(raw))
        states.append(raw * masks[-1])
    values = states[-1] @ weights[-1].transpose(1, 2)
    out = values.shape[-1]
    back = torch.eye(out).to(x).expand(*x.shape[:2], out, out)
    slopes = []
    for place in reversed(range(len(weights))):
        slope = back[..., None] * states[place][:, :, None, None, :]
        slopes.append(slope.flatten(3).flatten(1, 2))
        if place:
            back = (back @ weights[place][:, None]) * masks[place - 1][:, :, None, :]
    return values, torch.cat(slopes[::-1], dim=2)


def _solve(weights: list[Tensor], x: Tensor, y: Tensor, iterations: int) -> Tensor:
    """Fit S chains side by side; the norms (S,) of their errors."""
    damping = torch.ones(len(x), dtype=torch.float64)
    values, slope = _values_and_slope(weights, x)
    error = (values - y).flatten(1)
    size = error.norm(dim=1)
    aim = 1e-9 * y.flatten(1).norm(dim=1)
    for _ in range(iterations):
        if bool(((size < aim) | (damping >= _MOST_DAMPING)).all()):
            break
        move = _damped_step(slope, error, damping)
        parts = move.split([w[0].numel() for w in weights], dim=1)
        tried = [w - part.view_as(w) for w, part in zip(weights, parts, strict=True)]
        values, new_slope = _values_and_slope(tried, x)
        new_error = (values - y).flatten(1)
        better = new_error.norm(dim=1) < size
        weights = [
            torch.where(better[:, None, None], t, w) for t, w in zip(tried, weights, strict=True)
        ]
        error = torch.where(better[:, None], new_error, error)
        slope = torch.where(better[:, None, None], new_slope, slope)
        size = error.norm(dim=1)
        damping = torch.where(better, damping * _ACCEPT, damping * _REFUSE)
        damping = damping.clamp(_LEAST_DAMPING, _MOST_DAMPING)
    return size


def _damped_step(slope: Tensor, error: Tensor, damping: Tensor) -> Tensor:
    """Return (J^T J + mu)^-1 J^T e, by way of the smaller of J^T J and J J^T."""
    rows, columns = slope.shape[1:]
    turned = slope.transpose(1, 2)
    gram = slope @ turned if rows <= columns else turned @ slope
    gram.diagonal(dim1=1, dim2=2).add_(damping[:, None])
    if rows <= columns:
        return (turned @ torch.linalg.solve(gram, error[..., None]))[..., 0]
    return torch.linalg.solve(gram, turned @ error[..., None])[..., 0]
