"""Self-checks of the chapter on changing dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from geobook import planar
from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.dimension import pad, random_projection
from geobook.transport import wasserstein2
from geobook.validation import as_tensor

_TIME_STEPS = 100
_TORN = 0.7  # a jump stays as large on a ray ten times finer, a ramp shrinks to a tenth


def padding(answer: Callable[[Tensor, int], Any]) -> Verdict:
    """Check a function (x, D) that embeds a cloud (n, d) into R^D without changing W2."""
    first, second = _clouds(seed=1, dimension=3), _clouds(seed=2, dimension=3) + 1
    found = [_called(answer, x, 5) for x in (first, second)]
    for cloud in found:
        if isinstance(cloud, Verdict):
            return cloud
        if cloud.shape != (len(first), 5):
            return Verdict(
                False,
                f"12 points of 3 coordinates must become shape (12, 5), not {tuple(cloud.shape)}.",
            )
    before, after = wasserstein2(first, second), wasserstein2(*found)
    if abs(after - before) > 1e-6 * before:
        return Verdict(False, f"W2 of two clouds was {before:.4f} and became {after:.4f}.")
    for cloud, image in zip((first, second), found, strict=True):
        if not torch.allclose(torch.cdist(cloud, cloud), torch.cdist(image, image), atol=1e-6):
            return Verdict(False, "W2 stayed, but distances within a cloud did not.")
    return Verdict(True, f"W2 of two clouds is {before:.4f} before and after.")


def separating_field(answer: Callable[[Tensor], Any]) -> Verdict:
    """Check a velocity field of space, states (n, 3) to (n, 3), whose flow parts the rings.

    The padded rings flow for a unit of time; some plane must then have one on either side. The
    field must be continuous: it may not tear the space between the rings.
    """
    spots, outer = _rings()
    for direction in (0.0, 0.8, 2.5, 4.0):
        increments = [_largest_increment(answer, direction, count) for count in (20_001, 200_001)]
        for increment in increments:
            if isinstance(increment, Verdict):
                return increment
        if increments[1] > 1e-9 and increments[1] > _TORN * increments[0]:
            return Verdict(False, "the field jumps between the rings: such a field has no flow.")
    moved = spots
    for _ in range(_TIME_STEPS):
        moved = _runge_kutta_step(answer, moved, 1 / _TIME_STEPS)
        if isinstance(moved, Verdict):
            return moved
    if float(moved[:, 2].abs().max()) < 1e-9:
        return Verdict(False, "the third coordinate stays zero; in the plane no flow can.")
    if not _separable(moved.numpy(), outer):
        return Verdict(False, "after a unit of time no plane lies between the two rings.")
    return Verdict(True, "after a unit of time a plane lies between the two rings.")


def _largest_increment(answer: Any, direction: float, count: int) -> float | Verdict:
    """Greatest change of the field from one of so many points of a ray to the next."""
    ray = torch.linspace(0, 2, count, dtype=torch.float64)
    angle = torch.tensor([direction], dtype=torch.float64)
    along = ray[:, None] * torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    velocity = _velocity(answer, along)
    if isinstance(velocity, Verdict):
        return velocity
    return float(velocity.diff(dim=0).norm(dim=1).max())


def smallest_dimension(answer: Callable[[Tensor, Tensor, float], int]) -> Verdict:
    """Check for the least number of principal components that keep a share of W2.

    The answer takes two clouds (n, d) and the share; the components are those of both clouds
    together.
    """
    cases = [(*_stretched(seed), share) for seed in (0, 1, 2) for share in (0.5, 0.9, 0.99)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [_least_kept(*case, power=1) for case in cases]
    if agree(found, right):
        return Verdict(
            True, f"right on nine pairs of clouds, from k = {min(right)} to {max(right)}."
        )
    if agree(found, [_least_kept(*case, power=2) for case in cases]):
        return Verdict(False, "you keep that share of the square of W2: take the root.")
    if agree(found, [_least_variance(*case) for case in cases]):
        return Verdict(False, "you keep that share of the variance: the share of W2 was asked for.")
    wrong = next(i for i in range(len(cases)) if abs(found[i] - right[i]) > 1e-4)
    return Verdict(False, f"for the share {cases[wrong][2]} of W2 on one pair of clouds it is "
                          f"{right[wrong]}, your function gives {found[wrong]:g}.")  # fmt: skip


def weights_share(answer: Callable[[int, int, int], float]) -> Verdict:
    """Check the share of the weights that a transition has among itself and the stage behind it.

    The answer takes the widths d before and e after the transition and the blocks L of the stage;
    biases and norms do not count.
    """
    cases = [(64, 32, 3), (32, 16, 3), (10, 10, 1), (5, 20, 4)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found

    def shares(shortcut: int = 1, branch: int = 1, maps: int = 2) -> list[float]:
        counts = [
            (shortcut * d * e + branch * (d * e + e * e), maps * L * e * e) for d, e, L in cases
        ]
        return [own / (own + stage) for own, stage in counts]

    if agree(found, shares()):
        return Verdict(True, "a transition has 2 d e + e^2 weights, the stage 2 L e^2.")
    mistakes = {
        "the transition has a branch too, W2 relu(W1 x).": shares(branch=0),
        "the transition has a shortcut too, a map from d to e coordinates.": shares(shortcut=0),
        "a block has two maps.": shares(maps=1),
        "that is the stage's share.": [1 - share for share in shares()],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"for d = 64, e = 32, L = 3 it is {shares()[0]:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def _called(answer: Any, *arguments: Any) -> Tensor | Verdict:
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    try:
        value = answer(*arguments)
    except Exception as error:
        return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
    if value is None or value is Ellipsis:
        return Verdict(False, "your function returns nothing yet.")
    try:
        return as_tensor(value, "the result").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")


def _velocity(answer: Any, states: Tensor) -> Tensor | Verdict:
    found = _called(answer, states.clone())
    if isinstance(found, Tensor) and found.shape != states.shape:
        return Verdict(
            False, f"states of shape (n, 3) must give velocities (n, 3), not {tuple(found.shape)}."
        )
    return found


def _runge_kutta_step(answer: Any, states: Tensor, step: float) -> Tensor | Verdict:
    slopes: list[Tensor] = []
    for share in (0.0, 0.5, 0.5, 1.0):
        there = states + share * step * slopes[-1] if slopes else states
        slope = _velocity(answer, there)
        if isinstance(slope, Verdict):
            return slope
        slopes.append(slope)
    first, second, third, fourth = slopes
    return states + step / 6 * (first + 2 * second + 2 * third + fourth)


def _rings() -> tuple[Tensor, np.ndarray]:
    """Noisy rings and, between their points, closed circles without noise."""
    noisy = planar.load("rings", points=200)
    clean = planar.load("rings", points=400, noise=0.0)
    spots = torch.cat([noisy.images, clean.images]).double()
    return pad(spots, 3), (torch.cat([noisy.labels, clean.labels]) == 0).numpy()


def _separable(points: np.ndarray, first: np.ndarray) -> bool:
    """Whether a plane has the two classes on its two sides: a linear program says."""
    centred = points - points.mean(0)
    centred = centred / np.abs(centred).max()
    side = np.where(first, 1.0, -1.0)[:, None]
    constraints = -side * np.hstack([centred, np.ones((len(centred), 1))])
    bounds = [(-1e4, 1e4)] * constraints.shape[1]
    found = linprog(np.zeros(constraints.shape[1]), constraints, -np.ones(len(centred)),
                    bounds=bounds)  # fmt: skip
    return found.status == 0


def _clouds(seed: int, dimension: int, points: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(points, dimension, generator=generator, dtype=torch.float64)


def _stretched(seed: int) -> tuple[Tensor, Tensor]:
    """Two clouds of 6 dimensions whose difference is not where their variance is."""
    turn = random_projection(6, 6, seed)
    scale = torch.tensor([6.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    shift = torch.tensor([0.0, 2.0, 0.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    first = _clouds(2 * seed, 6, 30) * scale
    return first @ turn, (_clouds(2 * seed + 1, 6, 30) * scale + shift) @ turn


def _components(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([x, y])
    _, lengths, axes = torch.linalg.svd(both - both.mean(0), full_matrices=False)
    return lengths.square(), axes.T


def _least_kept(x: Tensor, y: Tensor, share: float, power: int) -> int:
    axes = _components(x, y)[1]
    whole = wasserstein2(x, y) ** power
    kept = (wasserstein2(x @ axes[:, :k], y @ axes[:, :k]) ** power for k in range(1, 7))
    return next(k for k, value in enumerate(kept, start=1) if value >= share * whole * (1 - 1e-9))


def _least_variance(x: Tensor, y: Tensor, share: float) -> int:
    variance = _components(x, y)[0].cumsum(0)
    return int((variance < share * variance[-1] * (1 - 1e-9)).sum()) + 1
