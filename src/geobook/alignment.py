"""The freedom to choose coordinates between the blocks of a network, and how to remove it.

Turning the states behind a block and turning them back before the next one changes neither what a
plain network computes nor what weight decay charges for it, but it changes the shape of its tracks.
How much of this freedom there is depends on the norms: without a norm behind a block's second map
every orthogonal turn is free, with one (which acts feature by feature) permutations and signs.
`turned` uses the freedom, `align_tracks` takes it away: it chooses, among all coordinates, those in
which the kinetic energy of the tracks is least.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from geobook.networks import Block, Network
from geobook.validation import Points, as_point_pair, as_tensor, as_track, count, one_of, switch

Group = Literal["orthogonal", "signed", "permutations"]
GROUPS = ("orthogonal", "signed", "permutations")
"""Groups of turns, each within the one before: orthogonal matrices, permutations with signs,
permutations."""


class Turn(nn.Module):
    """Turn states by a fixed orthogonal matrix; it has no parameters.

    Parameters
    ----------
    matrix : tensor, shape (d, d)
        The turn: a state x becomes ``matrix @ x``.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Return the turned states (n, d)."""
        return x @ self.matrix.T.to(x)


def symmetry_group(network: Network) -> Group:
    """Return the turns between blocks that training with weight decay does not notice.

    Parameters
    ----------
    network : Network
        Fully connected.

    Returns
    -------
    {"orthogonal", "signed"}
        "orthogonal" where no norm follows a block's second linear map, "signed" where one does.
        A plain network may turn every state but the first by a member of its own, a residual one
        only all states at once.
    """
    return "signed" if network.architecture.norm == "both" else "orthogonal"


def random_turn(dimension: int, seed: int = 0, group: Group = "orthogonal") -> Tensor:
    """Draw a turn uniformly from a group.

    Parameters
    ----------
    dimension : int
        Dimension d of the states.
    seed : int
        Seed of the draw.
    group : {"orthogonal", "signed", "permutations"}
        The group.

    Returns
    -------
    tensor of float64, shape (d, d)
        An orthogonal matrix.
    """
    d = count(dimension, "dimension")
    draw = torch.Generator().manual_seed(count(seed, "seed", 0))
    if one_of(group, "group", GROUPS) == "orthogonal":
        q, r = torch.linalg.qr(torch.randn(d, d, generator=draw, dtype=torch.float64))
        return q * r.diagonal().sign()
    matrix = torch.eye(d, dtype=torch.float64)[torch.randperm(d, generator=draw)]
    if group == "signed":
        matrix *= 2.0 * torch.randint(0, 2, (d, 1), generator=draw) - 1.0
    return matrix


def turned(network: Network, seed: int = 0, group: Group | None = None) -> Network:
    """Return a copy of a network in other coordinates: the same function, the same weight norms.

    In a plain network every state behind a block is turned by a matrix of its own; the first one,
    which comes from the input, stays. In a residual network one matrix turns all states, the first
    one too: a `Turn` without parameters behind the first transition takes care of that.

    Parameters
    ----------
    network : Network
        Fully connected, of one stage.
    seed : int
        Seed of the turns.
    group : {"orthogonal", "signed", "permutations"}, optional
        Where the turns come from; by default the whole `symmetry_group`.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the network is convolutional or has several stages, or the group is larger than its
        `symmetry_group`.
    """
    _check_simple(network)
    largest = symmetry_group(network)
    group = one_of(largest if group is None else group, "group", GROUPS)
    if GROUPS.index(group) < GROUPS.index(largest):
        raise ValueError(
            f"group must be {largest!r} or smaller, not {group!r}: the norm behind the second map "
            "acts feature by feature"
        )
    blocks = network.stages[0]
    d, first = network.architecture.stages[0].width, count(seed, "seed", 0) * (len(blocks) + 1)
    turns = [random_turn(d, first + layer, group) for layer in range(len(blocks) + 1)]
    turns = [turns[0]] * len(turns) if network.residual else [torch.eye(d).double(), *turns[1:]]
    return _in_coordinates(network, turns)


def turned_track(
    track: Points, seed: int = 0, group: Group = "orthogonal", *, together: bool = False
) -> Tensor:
    """Turn the states of a track as `turned` does with a network.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    seed : int
        Seed of the turns.
    group : {"orthogonal", "signed", "permutations"}
        Where the turns come from.
    together : bool
        Turn all states by one matrix (what a residual network allows), instead of every state
        but the first by its own (a plain one).

    Returns
    -------
    tensor of float64, shape (L+1, n, d)
    """
    states = as_track(track).double()
    first = count(seed, "seed", 0) * len(states)
    turns = [random_turn(states.shape[2], first + layer, group) for layer in range(len(states))]
    if switch(together, "together"):
        return states @ turns[0].T.to(states)
    rest = [x @ q.T.to(x) for x, q in zip(states[1:], turns[1:], strict=True)]
    return torch.stack([states[0], *rest])


def procrustes(
    x: Points, y: Points, group: Group = "orthogonal", *, centred: bool = False
) -> Tensor:
    """Find the turn that brings the points y nearest to the points x.

    Minimises sum_i ||x_i - Q y_i||^2 over the group: for orthogonal Q by the singular value
    decomposition of sum_i x_i y_i^T = U S V^T, as Q = U V^T; for permutations as a linear
    assignment of features.

    Parameters
    ----------
    x, y : array or tensor, shape (n, ...)
        Points and partners, row by row.
    group : {"orthogonal", "signed", "permutations"}
        Where Q comes from. Orthogonal matrices include reflections.
    centred : bool
        Whether the means of both clouds are taken off before Q is found.

    Returns
    -------
    tensor of float64, shape (d, d)
        ``y @ Q.T`` lies nearest to ``x``. Directions in which the points do not extend are turned
        arbitrarily.

    Raises
    ------
    ValueError
        If `x` and `y` do not hold equally many points of one dimension.

    Notes
    -----
    Schönemann (1966), A generalized solution of the orthogonal Procrustes problem.
    """
    start, end = (side.double() for side in as_point_pair(x, y, 1))
    if switch(centred, "centred"):
        start, end = start - start.mean(0), end - end.mean(0)
    product = start.T @ end
    if one_of(group, "group", GROUPS) == "orthogonal":
        u, _, vh = torch.linalg.svd(product)
        return u @ vh
    gain = product if group == "permutations" else product.abs()
    rows, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    matrix = torch.zeros_like(product)
    signs = product[rows, columns].sign()
    ones = torch.ones_like(signs)
    matrix[rows, columns] = torch.where(signs == 0, ones, signs) if group == "signed" else ones
    return matrix


def align_tracks(
    track: Points,
    *,
    group: Group = "orthogonal",
    centred: bool = False,
    fit: Points | Sequence[int] | None = None,
) -> Tensor:
    """Choose the coordinates of every state so that the tracks move as little as possible.

    Layer by layer, x^l is turned by the `procrustes` turn towards the turned x^{l-1}. Because only
    the turn between neighbours matters for a step, this minimises every step's mean squared
    length, and with it the kinetic energy of the tracks, over all choices of coordinates at once.
    The first state stays.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    group : {"orthogonal", "signed", "permutations"}
        The turns to choose from; for a network see `symmetry_group`.
    centred : bool
        Whether the turns are found from clouds whose means were taken off. The means themselves
        are turned along. Uncentred turns make the energy least; centred ones cannot be decided by
        a mean that dwarfs what tells the points apart.
    fit : sequence of int, optional
        Points that decide the turns; all by default. With as many points as dimensions or fewer
        the turns fit anything: find them on some points and score the others.

    Returns
    -------
    tensor of float64, shape (L+1, n, d)

    Raises
    ------
    ValueError
        If the track is not as described, or `fit` names no point or one that is not there.

    Examples
    --------
    >>> from geobook import controls, line_shape_score
    >>> straight = controls.arc(4, 1e-6).repeat(1, 3, 1) * torch.tensor([[1.0], [2.0], [3.0]])
    >>> zigzag = turned_track(straight, seed=3)
    >>> round(line_shape_score(align_tracks(zigzag)[1:]), 3)
    1.0
    """
    states = as_track(track).double()
    chosen = _chosen(fit, states.shape[1])
    aligned = [states[0]]
    for state in states[1:]:
        turn = procrustes(aligned[-1][chosen], state[chosen], group, centred=centred)
        aligned.append(state @ turn.T)
    return torch.stack(aligned)


def strangers_score(track: Points) -> float:
    """Line-shape score that states of these lengths have if they are orthogonal across layers.

    With r_l = ||x^l|| and s_l^2 = r_{l-1}^2 + r_l^2 it is the mean over the points of
    L / sqrt(L - 2 sum_{l=1}^{L-1} r_l^2 / (s_l s_{l+1})), never below sqrt(L).

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Only the lengths of its states matter. Steps between two states at the origin are left out,
        as in `geobook.line_shape_score`.

    Returns
    -------
    float
    """
    squares = as_track(track).double().square().sum(2)
    steps = (squares[1:] + squares[:-1]).sqrt()
    moves = steps > 0
    products = (steps[1:] * steps[:-1]).where(moves[1:] & moves[:-1], torch.inf)
    number = moves.sum(0)
    resultant = (number - 2 * (squares[1:-1] / products).sum(0)).clamp(min=0).sqrt()
    return float((number / resultant).where(number > 0, 1.0).mean())


def state_cosines(track: Points) -> Tensor:
    """Mean cosine between the states of every two layers, at the same point.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.

    Returns
    -------
    tensor of float64, shape (L+1, L+1)
        Symmetric, 1 on the diagonal (0 in layers where all states are the origin).
    """
    states = as_track(track).double()
    sizes = states.norm(dim=2, keepdim=True)
    directions = (states / sizes).where(sizes > 0, 0.0)
    return torch.einsum("knd,lnd->kl", directions, directions) / states.shape[1]


def shuffled_states(track: Points, labels: Points | None = None, seed: int = 0) -> Tensor:
    """Deal out the states of every layer among the points: the null model of an alignment.

    The clouds stay what they are, layer by layer; who is who is forgotten. How straight the
    alignment makes these tracks is what it owes to the shapes of the clouds and to its freedom.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    labels : array or tensor, shape (n,), optional
        Classes; if given, states are dealt out within each class only.
    seed : int
        Seed of the order.

    Returns
    -------
    tensor of float64, shape (L+1, n, d)

    Raises
    ------
    ValueError
        If there is not one label for each point.
    """
    states = as_track(track).double()
    points = states.shape[1]
    classes = torch.zeros(points) if labels is None else as_tensor(labels, "labels").cpu()
    if classes.shape != (points,):
        raise ValueError(f"labels must hold one class for each of {points} points, "
                         f"not {tuple(classes.shape)}")  # fmt: skip
    draw = torch.Generator().manual_seed(count(seed, "seed", 0))
    groups = [torch.nonzero(classes == c).squeeze(1) for c in classes.unique()]
    dealt = states.clone()
    for layer, state in enumerate(states):
        for own in groups:
            dealt[layer, own] = state[own[torch.randperm(len(own), generator=draw)]]
    return dealt


# --- inside ---------------------------------------------------------------------------------------


def _check_simple(network: Network) -> None:
    if not isinstance(network, Network):
        raise TypeError(f"network must be a geobook Network, not {type(network).__name__}")
    if network.architecture.convolutional or len(network.stages) > 1:
        raise ValueError("network must be fully connected and have one stage")


@torch.no_grad()
def _in_coordinates(network: Network, turns: list[Tensor]) -> Network:
    """Copy the network with state l turned by turns[l]."""
    new = copy.deepcopy(network)
    if new.residual:
        new.transitions[0] = nn.Sequential(new.transitions[0], Turn(turns[0].float()))
    for block, (before, after) in zip(new.stages[0], pairwise(turns), strict=True):
        _turn_back(block.first, before)
        _turn_block(block, after)
    _turn_back(new.head[-1], turns[-1])
    return new


def _turn_block(block: Block, turn: Tensor) -> None:
    block.second.weight.copy_(turn @ block.second.weight.double())
    norm = block.second_norm
    signed = [block.second.bias]
    if not isinstance(norm, nn.Identity):
        signed = [norm.bias, norm.running_mean]
        for value in (norm.weight, norm.running_var):
            value.copy_(turn.abs() @ value.double())
    for value in signed:
        if value is not None:
            value.copy_(turn @ value.double())


def _turn_back(linear: nn.Linear, turn: Tensor) -> None:
    linear.weight.copy_(linear.weight.double() @ turn.T)


def _chosen(fit: Points | Sequence[int] | None, points: int) -> Tensor:
    if fit is None:
        return torch.arange(points)
    chosen = np.atleast_1d(np.asarray(fit))
    whole = chosen.ndim == 1 and len(chosen) and np.issubdtype(chosen.dtype, np.integer)
    if not whole or chosen.min() < 0 or chosen.max() >= points:
        raise ValueError(f"fit must name points, numbers from 0 to {points - 1}, not {fit!r}")
    return torch.as_tensor(chosen.copy())
