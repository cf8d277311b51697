"""Kinetic energy of tracks: what it consists of, and how weights bound it from above.

A bundle of tracks run in unit time, each of its L steps in time 1/L, has the kinetic energy

    E = L sum_l (1/n) sum_i |x_i^l - x_i^{l-1}|^2,

the integral over time of the mean squared speed. The paper's eq. (9) is this without the factor L.
Along the chain W2^2 <= mean |x^L - x^0|^2 <= mean (length)^2 <= E every inequality has a meaning,
and `energy_ladder` takes E apart accordingly. `weight_bounds` measures eqs. (10) and (12).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from geobook.networks import Block, Network
from geobook.tracks import record_tracks
from geobook.transport import optimal_assignment
from geobook.validation import Points, as_tensor, as_track, count

PARTS = (
    "translation", "deformation", "between_classes", "within_classes", "detour", "pace",
)  # fmt: skip
"""What a kinetic energy is taken apart into, see `EnergyLadder`."""


@dataclass(frozen=True)
class EnergyLadder:
    """The kinetic energy of a bundle of tracks, taken apart; no part is negative.

    All numbers are means over the points of squared distances, in squared units of the track.

    Attributes
    ----------
    translation : float
        Squared distance of the means of first and last cloud.
    deformation : float
        W2^2 of the two clouds, each moved to mean 0. Together with `translation` it is W2^2.
    between_classes : float
        What labels cost: W2^2 when every point must end at an end point of its own class, minus
        W2^2. Zero where no labels were given.
    within_classes : float
        What the pairing inside the classes costs: mean squared displacement minus that. Without
        labels it is all that the pairing costs.
    detour : float
        Mean squared length of the tracks minus mean squared displacement: zero exactly if every
        track is straight.
    pace : float
        Kinetic energy minus mean squared length: zero exactly if every track takes equally long
        steps.
    points, blocks : int
        n and L.
    """

    translation: float
    deformation: float
    between_classes: float
    within_classes: float
    detour: float
    pace: float
    points: int
    blocks: int

    @property
    def wasserstein2_squared(self) -> float:
        """W2^2 of first and last cloud: what no flow between them can go below (eq. (8))."""
        return self.translation + self.deformation

    @property
    def pairing(self) -> float:
        """Mean squared displacement minus W2^2: zero exactly if the pairing is optimal."""
        return self.between_classes + self.within_classes

    @property
    def displacement(self) -> float:
        """Mean squared displacement: the least energy of any curves with these end points."""
        return self.wasserstein2_squared + self.pairing

    @property
    def kinetic_energy(self) -> float:
        """The sum of all parts."""
        return self.displacement + self.detour + self.pace

    def shares(self) -> dict[str, float]:
        """Parts as shares of the kinetic energy, summing to 1; all 0 where nothing moves."""
        total = self.kinetic_energy
        return {name: getattr(self, name) / total if total else 0.0 for name in PARTS}


def kinetic_energy(track: Points) -> float:
    """Kinetic energy of tracks run in unit time, ``L sum_l mean_i |x_i^l - x_i^{l-1}|^2``.

    The paper's eq. (9) times L: the factor makes it the energy of a curve over a unit of time,
    which is at least W2^2 of the first and last cloud (eq. (8)), whatever the depth.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.

    Returns
    -------
    float
        In squared units of the track.

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite.

    Examples
    --------
    >>> kinetic_energy([[[0.0]], [[1.0]], [[2.0]]]), kinetic_energy([[[0.0]], [[2.0]], [[2.0]]])
    (4.0, 8.0)
    """
    squares = step_energies(track)
    return float(len(squares) * squares.sum())


def step_energies(track: Points) -> Tensor:
    """Mean squared length of each step, ``mean_i |x_i^l - x_i^{l-1}|^2``: the terms of eq. (9).

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)

    Returns
    -------
    tensor of float64, shape (L,)

    Raises
    ------
    ValueError
        As `kinetic_energy`.
    """
    states = as_track(track)
    means = (step.square().sum(1).mean() for step in _steps(states))
    return torch.stack(list(means)).cpu()


def energy_ladder(track: Points, labels: Points | None = None) -> EnergyLadder:
    """Take the kinetic energy of tracks apart: transport, labels, pairing, detour, pace.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    labels : array or tensor of int, shape (n,), optional
        Classes of the points.

    Returns
    -------
    EnergyLadder

    Raises
    ------
    ValueError
        If the track is not as described, or there is not one label a point.
    MemoryError, ArithmeticError
        As `geobook.optimal_assignment`.

    Examples
    --------
    Two points exchange their places by way of a common detour:

    >>> ladder = energy_ladder([[[0.0, 0], [1, 0]], [[0.5, 1], [0.5, 1]], [[1, 0], [0, 0]]])
    >>> ladder.wasserstein2_squared, ladder.pairing, ladder.detour, ladder.pace
    (0.0, 1.0, 4.0, 0.0)
    """
    states = as_track(track)
    start, end = states[0], states[-1]
    least = _transport_cost(start, end)
    shift = float((end.double().mean(0) - start.double().mean(0)).square().sum())
    displaced = float((end.double() - start.double()).square().sum(1).mean())
    by_class = displaced if labels is None else _cost_by_class(start, end, labels)
    energy, squared_length = _energy_and_squared_length(states)
    # Differences of nearly equal numbers: rounding may take them below zero.
    return EnergyLadder(
        translation=shift,
        deformation=max(0.0, least - shift),
        between_classes=max(0.0, by_class - least) if labels is not None else 0.0,
        within_classes=max(0.0, displaced - (by_class if labels is not None else least)),
        detour=max(0.0, squared_length - displaced),
        pace=max(0.0, energy - squared_length),
        points=states.shape[1],
        blocks=len(states) - 1,
    )


@dataclass(frozen=True, eq=False)
class WeightBounds:
    """Kinetic energy of every block and its bounds by the weights, eqs. (10) and (12).

    Attributes
    ----------
    energy : tensor of float64, shape (L,)
        mean_i |v_l(x_i^{l-1})|^2, measured.
    spectral : tensor of float64, shape (L,)
        The bound with the largest singular values of the two matrices.
    frobenius : tensor of float64, shape (L,)
        The paper's bound, with Frobenius norms; never below `spectral`.
    weights : tensor of float64, shape (L,)
        ||W1||_F^2 + ||W2||_F^2 of the matrices that are trained: what weight decay charges.
    first, second : tensor of float64, shape (L,)
        ||W1||_F and ||W2||_F of the same.
    """

    energy: Tensor
    spectral: Tensor
    frobenius: Tensor
    weights: Tensor
    first: Tensor
    second: Tensor

    @property
    def looseness(self) -> Tensor:
        """Frobenius bound over measured energy, shape (L,): 1 would be tight."""
        return self.frobenius / self.energy

    @property
    def total_looseness(self) -> float:
        """Sum of the Frobenius bounds over the sum of the energies."""
        return float(self.frobenius.sum() / self.energy.sum())


def weight_bounds(network: Network, x: Points, stage: int = 0) -> WeightBounds:
    """Bound the kinetic energy of every block by its weights, at given inputs.

    With a = ||W2|| (||W1|| |x| + |b1|) + |b2| a residual block moves the point x by at most a
    (eq. (10), with biases), a plain one by at most a + |x| (eq. (12)): the second term does not
    vanish with the weights. The bounds here are the means of their squares over the points.

    Batch norms are taken as what they are in evaluation mode, a scale and a shift for each
    feature, and multiplied into the matrices. The bounds then hold as well; but what decays in
    training are the matrices before that, see `WeightBounds.weights`, and behind a norm their
    size is without effect.

    Parameters
    ----------
    network : Network
        Fully connected. It is run in evaluation mode.
    x : array or tensor, shape (n, ...)
        Inputs of the network.
    stage : int
        Which stage.

    Returns
    -------
    WeightBounds

    Raises
    ------
    ValueError
        If there is no such stage or the network is convolutional.
    """
    if network.architecture.convolutional:
        raise ValueError("network must be fully connected: a convolution's kernel is not its norm")
    if count(stage, "stage", 0) >= len(network.stages):
        raise ValueError(f"stage must be below {len(network.stages)}, not {stage!r}")
    track = record_tracks(network, x)[stage]
    rows = [
        _block_bounds(block, state.flatten(1).double())
        for block, state in zip(network.stages[stage], track[:-1], strict=True)
    ]
    columns = torch.tensor(rows, dtype=torch.float64).T
    return WeightBounds(step_energies(track), *columns)


def relative_length(track: Points) -> float:
    """Mean over the points of ``sum_l |x^l - x^{l-1}| / |x^{l-1}|``: length relative to the origin.

    For residual blocks without biases and norms it is at most half of sum_l (||W1_l||_F^2 +
    ||W2_l||_F^2): a bound by the weight decay itself, without unknown constants.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)

    Raises
    ------
    ValueError
        If the track is not as described, or a state before the last is the origin.
    """
    states = as_track(track).double()
    sizes = states[:-1].norm(dim=2)
    if not bool((sizes > 0).all()):
        raise ValueError("track must stay away from the origin, where relative length is infinite")
    return float((states.diff(dim=0).norm(dim=2) / sizes).sum(0).mean())


def _steps(states: Tensor) -> Iterator[Tensor]:
    for before, after in pairwise(states):
        yield after.double() - before.double()


def _energy_and_squared_length(states: Tensor) -> tuple[float, float]:
    length = torch.zeros(states.shape[1], dtype=torch.float64, device=states.device)
    squares = torch.zeros_like(length)
    for step in _steps(states):
        square = step.square().sum(1)
        squares += square
        length += square.sqrt()
    return float((len(states) - 1) * squares.mean()), float(length.square().mean())


def _transport_cost(start: Tensor, end: Tensor) -> float:
    if len(start) < 2:
        return float((end.double() - start.double()).square().sum(1).mean())
    partner = optimal_assignment(start, end).permutation
    return float((end[partner].double() - start.double()).square().sum(1).mean())


def _cost_by_class(start: Tensor, end: Tensor, labels: Points) -> float:
    classes = as_tensor(labels, "labels").to(start.device)
    if classes.shape != start.shape[:1]:
        raise ValueError(
            f"labels must hold one class for each of {len(start)} points, "
            f"not {tuple(classes.shape)}"
        )
    total = 0.0
    for number in classes.unique():
        mine = classes == number
        total += float(mine.double().mean()) * _transport_cost(start[mine], end[mine])
    return total


def _block_bounds(block: Block, x: Tensor) -> tuple[float, ...]:
    sizes = x.norm(dim=1)
    matrices = [
        _folded(linear, norm)
        for linear, norm in ((block.first, block.first_norm), (block.second, block.second_norm))
    ]
    bounds = []
    for order in (2, "fro"):
        (first, first_bias), (second, second_bias) = (
            (float(torch.linalg.matrix_norm(w, order)), float(b.norm())) for w, b in matrices
        )
        reach = second * (first * sizes.cpu() + first_bias) + second_bias
        bounds.append(float((reach if block.residual else reach + sizes.cpu()).square().mean()))
    trained = [
        float(linear.weight.detach().double().norm()) for linear in (block.first, block.second)
    ]
    return (*bounds, trained[0] ** 2 + trained[1] ** 2, *trained)


@torch.no_grad()
def _folded(linear: nn.Linear, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix and bias of a linear map together with the batch norm behind it."""
    weight = linear.weight.double().cpu()
    bias = torch.zeros(len(weight), dtype=torch.float64)
    if linear.bias is not None:
        bias = linear.bias.double().cpu()
    if isinstance(norm, nn.Identity):
        return weight, bias
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).double().cpu()
    shift = norm.bias.double().cpu() - scale * norm.running_mean.double().cpu()
    return scale[:, None] * weight, scale * bias + shift
