"""Self-checks of the chapter on the shortest way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.transport import optimal_assignment, wasserstein2
from geobook.validation import as_point_pair, as_tensor

Array = np.ndarray

# Costs that agree to this share of the clouds' size are taken to be equal.
_EQUAL = 1e-6
_MOST_POINTS = 7


def line_distance(answer: Callable[[Array, Array], float]) -> Verdict:
    """Check a function of two samples on the line, equally many numbers, that gives their W2."""
    random = np.random.default_rng(0)
    cases = [(random.normal(size=n), 3 + random.exponential(size=n)) for n in (3, 10, 25)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    gaps = [np.sort(x) - np.sort(y) for x, y in cases]
    if agree(found, [math.sqrt((gap**2).mean()) for gap in gaps]):
        return Verdict(True, "the same distance as by assignment on three pairs of samples.")
    mistakes = {
        "that is the square of the distance.": [(gap**2).mean() for gap in gaps],
        "every point weighs 1 / n: take the mean, not the sum.": [
            math.sqrt((gap**2).sum()) for gap in gaps
        ],
        "the samples come in any order: sort both.": [
            math.sqrt(((x - y) ** 2).mean()) for x, y in cases
        ],
        "that is the mean distance, W1: square before you average.": [
            abs(gap).mean() for gap in gaps
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    right = math.sqrt((gaps[0] ** 2).mean())
    return Verdict(False, f"for two random samples of three numbers W2 is {right:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def diagonal_gaussians(answer: Callable[[Array, Array, Array, Array], float]) -> Verdict:
    """Check W2 of Gaussians with independent coordinates, from means and standard deviations.

    The answer takes (mean, deviation, mean, deviation), each an array (d,).
    """
    random = np.random.default_rng(1)
    cases = [
        tuple(np.abs(random.normal(size=d)) + 0.2 * (k % 2) for k in range(4)) for d in (1, 3, 6)
    ]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    means = [((m0 - m1) ** 2).sum() for m0, _, m1, _ in cases]
    spreads = [((s0 - s1) ** 2).sum() for _, s0, _, s1 in cases]
    right = [math.sqrt(m + s) for m, s in zip(means, spreads, strict=True)]
    if agree(found, right):
        return Verdict(True, "the Euclidean distance of means and deviations, taken together.")
    variances = [((s0**2 - s1**2) ** 2).sum() for _, s0, _, s1 in cases]
    traces = [(s0**2 + s1**2).sum() for _, s0, _, s1 in cases]
    mistakes = {
        "that is the square of the distance.": [value**2 for value in right],
        "the means are right, but the covariances differ too.": [math.sqrt(m) for m in means],
        "the covariances are right, but the means are missing.": [math.sqrt(s) for s in spreads],
        "compare standard deviations, not variances: (S0 S1)^1/2 has the entries s0 s1.": [
            math.sqrt(m + v) for m, v in zip(means, variances, strict=True)
        ],
        "the last term of the formula, -2 tr (S0 S1)^1/2, is missing.": [
            math.sqrt(m + t) for m, t in zip(means, traces, strict=True)
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"for two random Gaussians on the line W2 is {right[0]:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def displaced_points(answer: Callable[[Tensor, Tensor, Tensor, float], Any]) -> Verdict:
    """Check a function (x, y, permutation, t) that gives the cloud at time t of the geodesic."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for seed, t in enumerate((0.0, 0.3, 0.5, 1.0)):
        x, y = _cloud(seed, 7), _cloud(seed + 10, 7) + 3
        partner = optimal_assignment(x, y).permutation
        verdict = _displaced(answer, x, y, partner, t)
        if not verdict:
            return verdict
    return Verdict(True, "every point on the segment to its partner, at four times.")


def two_pairings(pair: Any) -> Verdict:
    """Check for clouds (x, y) of 3 to 7 points in the plane with two optimal pairings.

    The pairings must differ in what they do: their clouds halfway must not be the same.
    """
    clouds = _planar_pair(pair)
    if isinstance(clouds, Verdict):
        return clouds
    x, y = clouds
    if not 3 <= len(x) <= _MOST_POINTS:
        return Verdict(False, f"take 3 to {_MOST_POINTS} points a cloud, not {len(x)}.")
    costs = ((x[:, None] - y[None]) ** 2).sum(-1)
    rows = np.arange(len(x))
    every = np.array(list(permutations(range(len(x)))))
    total = costs[rows, every].mean(1)
    slack = _EQUAL * (costs.mean() + 1e-300)
    best = every[total <= total.min() + slack]
    halfway = [(x + y[partner]) / 2 for partner in best]
    least = 1e-3 * math.sqrt(costs.mean())
    if any(wasserstein2(halfway[0], cloud) > least for cloud in halfway[1:]):
        return Verdict(True, f"{len(best)} optimal pairings, all of cost {total.min():.4g}.")
    if len(best) > 1:
        return Verdict(False, "several pairings are optimal, but they lead to the same cloud "
                              "halfway: let the points of a cloud be different.")  # fmt: skip
    second = np.sort(total)[1] / total.min() if total.min() > 0 else math.inf
    return Verdict(False, f"the best pairing is unique: the next one costs {second:.4g} times "
                          "as much.")  # fmt: skip


def crossing_routes(pair: Any) -> Verdict:
    """Check for two points and their optimal partners whose straight routes cross."""
    clouds = _planar_pair(pair)
    if isinstance(clouds, Verdict):
        return clouds
    x, y = clouds
    if len(x) != 2:
        return Verdict(False, f"take two points, not {len(x)}.")
    inner = float((x[0] - x[1]) @ (y[0] - y[1]))
    if inner < -1e-9 * float(np.abs(x).max() * np.abs(y).max() + 1):
        return Verdict(False, f"<x1 - x2, y1 - y2> is {inner:.3g}: exchanging the two partners "
                              "would be cheaper.")  # fmt: skip
    times = _crossing_times(x, y)
    if times is None:
        return Verdict(False, "the two routes are parallel, or a point stays where it is.")
    if not all(1e-9 < t < 1 - 1e-9 for t in times):
        return Verdict(False, f"the lines cross where t = {times[0]:.2f} and {times[1]:.2f}: both "
                              "times must lie between 0 and 1.")  # fmt: skip
    return Verdict(True, f"the first passes the crossing at t = {times[0]:.2f}, the second at "
                         f"t = {times[1]:.2f}: they do not meet.")  # fmt: skip


def _displaced(
    answer: Callable[..., Any], x: Tensor, y: Tensor, partner: Tensor, t: float
) -> Verdict:
    try:
        value = answer(x.clone(), y.clone(), partner.clone(), t)
    except Exception as error:
        return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
    if value is None or value is Ellipsis:
        return Verdict(False, "your function returns nothing yet.")
    try:
        found = as_tensor(value, "the cloud").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if found.shape != x.shape:
        return Verdict(False, f"the cloud must have shape {tuple(x.shape)} like x, "
                              f"not {tuple(found.shape)}.")  # fmt: skip
    # A cloud has no order: the answer may come in that of y.
    if wasserstein2(found, (1 - t) * x + t * y[partner]) < 1e-5:
        return Verdict(True, "")
    mistakes = {
        "the time runs backwards: at t = 0 the cloud is x.": t * x + (1 - t) * y[partner],
        "the partner of x_i is y[permutation[i]]; you used the inverse permutation.": (1 - t) * x
        + t * y[partner.argsort()],
        "you paired x_i with y_i: use the permutation.": (1 - t) * x + t * y,
    }
    for hint, wrong in mistakes.items():
        if wasserstein2(found, wrong) < 1e-5:
            return Verdict(False, hint)
    return Verdict(False, f"at t = {t:g} the points are not where they should be.")


def _planar_pair(pair: Any) -> tuple[Array, Array] | Verdict:
    if pair is None or pair is Ellipsis:
        return Verdict(False, "there are no clouds yet.")
    try:
        x, y = as_point_pair(*pair)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if x.shape[1] != 2:
        return Verdict(False, f"the points must lie in the plane, not in dimension {x.shape[1]}.")
    return x.double().cpu().numpy(), y.double().cpu().numpy()


def _crossing_times(x: Array, y: Array) -> tuple[float, float] | None:
    """Return the times at which each point passes the crossing of the two lines."""
    first, second = y - x
    if abs(np.linalg.det([first, second])) <= 1e-12 * np.linalg.norm(first) * np.linalg.norm(
        second
    ):
        return None
    one, other = np.linalg.solve(np.stack([first, -second], 1), x[1] - x[0])
    return float(one), float(other)


def _cloud(seed: int, points: int) -> Tensor:
    return torch.randn(
        points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
