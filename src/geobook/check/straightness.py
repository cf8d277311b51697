"""Self-checks of the chapter on measuring straightness."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobook import controls, tracks
from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.transport import optimal_assignment
from geobook.validation import as_point_pair, as_track


def line_shape_score(answer: Callable[[Tensor], float]) -> Verdict:
    """Check a function of a track (L+1, n, d) that computes its mean LSS, eq. (44)."""
    samples = [controls.independent_steps(segments, 6, 5, seed=segments) for segments in (2, 4, 9)]
    found = numbers_of(answer, [(sample,) for sample in samples])
    if isinstance(found, Verdict):
        return found
    right = [float(tracks.line_shape_score(sample)) for sample in samples]
    if agree(found, right):
        return Verdict(True, "the same score as geobook.line_shape_score on three random tracks.")
    mistakes = {
        "that is the line-shape ratio: every step must first be divided by its length.": [
            float(tracks.line_shape_ratio(sample)) for sample in samples
        ],
        "count the steps, not the states: L is one less than the length of the track.": [
            score * len(sample) / (len(sample) - 1)
            for score, sample in zip(right, samples, strict=True)
        ],
        "average over the points only after dividing, point by point.": [
            1 / float((1 / tracks.line_shape_score(sample, reduction="none")).mean())
            for sample in samples
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"on a random track of two steps the score is {right[0]:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def score_of_mean_cosine(answer: Callable[[int, float], float]) -> Verdict:
    """Check the formula that gives the LSS of L steps whose mean pairwise cosine is c."""
    cases = [(2, 0.0), (5, 0.3), (10, -1 / 10), (20, 1.0)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [math.sqrt(L / (1 + (L - 1) * c)) for L, c in cases]
    if agree(found, right):
        return Verdict(True, "sqrt(L) at c = 0, L at c = -1/L, and 1 at c = 1.")
    if agree(found, [value**2 for value in right]):
        return Verdict(False, "that is the square of the score.")
    return Verdict(False, f"two orthogonal steps have score sqrt(2) = {right[0]:.4f}, "
                          f"your formula gives {found[0]:.4f}.")  # fmt: skip


def fools_ratio(track: Any) -> Verdict:
    """Check for a track that LSR calls straight (below 1.05) and LSS does not (above 3)."""
    if track is None or track is Ellipsis:
        return Verdict(False, "there is no track yet.")
    try:
        checked = as_track(track)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    ratio = float(tracks.line_shape_ratio(checked))
    score = float(tracks.line_shape_score(checked))
    values = f"LSR {ratio:.3f}, LSS {score:.2f}"
    if ratio >= 1.05:
        return Verdict(False, f"{values}: let one step be much longer than all the others.")
    if score <= 3:
        return Verdict(False, f"{values}: let the short steps point away from the long one.")
    return Verdict(True, f"{values}: one long step hides all the others from the ratio.")


def best_swap(answer: Callable[[Tensor, Tensor], float]) -> Verdict:
    """Check a function that gives the most that exchanging two partners saves of the cost.

    The saving of the pair i, j is |x_i - y_i|^2 + |x_j - y_j|^2 - |x_i - y_j|^2 - |x_j - y_i|^2.
    """
    cases = [(_cloud(seed, 7), _cloud(seed + 50, 7)) for seed in range(4)]
    found = numbers_of(answer, [*cases, (_cloud(9, 7), 3 * _cloud(9, 7))])
    if isinstance(found, Verdict):
        return found
    right = [_best_swap(x, y) for x, y in [*cases, (_cloud(9, 7), 3 * _cloud(9, 7))]]
    if agree(found, right):
        return Verdict(True, "positive where a swap helps, and never positive for x -> 3 x.")
    if agree(found, [-value for value in right]):
        return Verdict(False, "the sign is the other way round: a saving is positive.")
    if agree(found, [value / 2 for value in right]):
        return Verdict(False, "a factor 2 is missing: |a - b|^2 holds the inner product twice.")
    return Verdict(False, f"on a random pair of clouds the best saving is {right[0]:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def harmless_zero(pair: Any) -> Verdict:
    """Check for clouds (x, y), at least 20 points, with OTS 0 at an excess cost below 1 %."""
    if pair is None or pair is Ellipsis:
        return Verdict(False, "there are no clouds yet.")
    try:
        x, y = as_point_pair(*pair)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if len(x) < 20:
        return Verdict(False, f"take at least 20 points, not {len(x)}.")
    best = optimal_assignment(x, y)
    kept = float(
        (best.permutation == torch.arange(len(x), device=best.permutation.device)).float().mean()
    )
    start, end = x - x.mean(0), y - y.mean(0)
    own = float((start - end).square().sum(1).double().mean())
    centred = float((start - end[best.permutation]).square().sum(1).double().mean())
    excess = (own - centred) / own if own > 0 else 0.0
    values = f"OTS {kept:.2f}, excess cost {100 * excess:.3f} %"
    if kept > 0:
        return Verdict(False, f"{values}: some points keep their own partner.")
    if excess >= 0.01:
        return Verdict(False, f"{values}: exchange only partners that nearly coincide.")
    return Verdict(True, f"{values}: not one partner is right, and nearly nothing is lost.")


def relative_score(answer: Callable[[float, int, bool], float]) -> Verdict:
    """Check a score of straightness that is 0 at the value of chance and 1 at a straight line.

    The answer takes (LSS, L, residual). Any function that is 1 at LSS = 1, 0 at the chance value
    and decreasing between them is right.
    """
    grid = [(L, residual) for L in (2, 5, 20) for residual in (False, True)]
    chance = {pair: controls.chance_line_shape_score(*pair) for pair in grid}
    between = [1 + share * (chance[p] - 1) for p in grid for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    cases = [(value, *grid[i // 5]) for i, value in enumerate(between)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    for (segments, residual), values in zip(grid, np.reshape(found, (-1, 5)), strict=True):
        kind = "residual" if residual else "plain"
        if abs(values[0] - 1) > 1e-6:
            return Verdict(False, f"a straight track (LSS 1) must give 1, not {values[0]:.3f}.")
        if abs(values[-1]) > 1e-6:
            where = f"the chance value of a {kind} network with L = {segments}"
            return Verdict(False, f"{where} must give 0, not {values[-1]:.3f}.")
        if not (np.diff(values) < 0).all():
            return Verdict(False, "a larger LSS must always give a smaller value.")
    return Verdict(True, "1 for a straight line, 0 for chance, whatever the depth and the kind.")


def _cloud(seed: int, points: int) -> Tensor:
    return torch.randn(
        points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def _best_swap(x: Tensor, y: Tensor) -> float:
    savings = (2 * float((x[i] - x[j]) @ (y[j] - y[i])) for i, j in combinations(range(len(x)), 2))
    return max(savings)
