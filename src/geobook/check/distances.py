"""Self-checks of the chapter on tracks that keep their distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.distances import compare_tracks
from geobook.tracks import line_shape_ratio
from geobook.validation import as_tensor, as_track

# Lengths that agree to this share of a track's size are taken to be equal.
_EQUAL = 1e-4
_NEAR = 0.01


def straight_distance(answer: Callable[[float, float, float], float]) -> Verdict:
    """Check a function (a, b, cosine): least distance of two straight tracks, run in equal steps.

    The differences at the start and at the end have the lengths a and b; cosine is that of the
    angle between them.
    """
    cases = [(1.0, 1.0, 0.0), (3.0, 4.0, 0.0), (1.0, 2.0, -0.6), (2.0, 0.5, -0.9), (1.5, 1.0, 0.3),
             (1.0, 2.0, 0.8), (3.0, 1.0, 0.9), (1.0, 1.0, -1.0), (1.0, 3.0, 0.4)]  # fmt: skip
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [_least(*case) for case in cases]
    if agree(found, right):
        return Verdict(True, "the least distance in nine cases, with sharp and with blunt angles.")
    height = [_height(*case) for case in cases]
    mistakes = {
        "that is the bound of the theorem, which is reached at a right angle only.": [
            a * b / math.hypot(a, b) for a, b, _ in cases
        ],
        "right where the height of the triangle falls inside; at sharp angles an end is closest.": (
            height
        ),
        "that is the square of the distance.": [value**2 for value in right],
        "that is the distance halfway; the tracks may be closer at another time.": [
            math.sqrt(a * a + b * b + 2 * a * b * c) / 2 for a, b, c in cases
        ],
        "that is the least of the two ends; in between the tracks may be closer.": [
            min(a, b) for a, b, _ in cases
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    wrong_at = next(k for k, value in enumerate(found) if not agree([value], right[k : k + 1]))
    a, b, c = cases[wrong_at]
    return Verdict(False, f"for a = {a:g}, b = {b:g}, cosine {c:g} the least distance is "
                          f"{right[wrong_at]:.4f}, yours is {found[wrong_at]:.4f}.")  # fmt: skip


def meeting_tracks(answer: Any) -> Verdict:
    """Check for two straight tracks with a monotone pair of ends that meet in one layer.

    The answer is a tensor (L+1, 2, d).
    """
    if answer is None or answer is Ellipsis:
        return Verdict(False, "there is no track yet.")
    try:
        track = as_track(answer, "the track").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if track.shape[1] != 2:
        return Verdict(False, f"take two points, not {track.shape[1]}.")
    pair = compare_tracks(track, [[0, 1]])
    first, last = float(pair.first), float(pair.last)
    size = max(first, last)
    if min(first, last) <= 0.1 * size or size == 0:
        return Verdict(False, f"the starts are {first:.3g} apart and the ends {last:.3g}: keep "
                              "both well apart.")  # fmt: skip
    if float(pair.inner) < -_EQUAL * first * last:
        return Verdict(False, f"<x1 - x2, y1 - y2> is {float(pair.inner):.3g}: swapping the ends "
                              "would be cheaper.")  # fmt: skip
    ratio = line_shape_ratio(track)
    if ratio > 1 + _EQUAL:
        return Verdict(False, f"the tracks must be straight, but their LSR is {ratio:.3f}.")
    if float(pair.distance) > _NEAR * size:
        return Verdict(False, f"at their closest, in layer {int(pair.nearest)}, the tracks are "
                              f"{float(pair.distance):.3g} apart.")  # fmt: skip
    return Verdict(True, f"they meet in layer {int(pair.nearest)}, although a swap would not pay.")


def harmless_approach(answer: Sequence[Any]) -> Verdict:
    """Check for matrices of a linear plain network that draws all tracks together and undoes it.

    Within, all distances shrink to a hundredth of the bound or less; at the end every point is
    back where it started.
    """
    if answer is None or answer is Ellipsis:
        return Verdict(False, "there are no matrices yet.")
    try:
        matrices = [as_tensor(matrix, "a matrix").double() for matrix in answer]
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if len(matrices) < 2:
        return Verdict(False, "take at least two matrices.")
    size = matrices[0].shape[0] if matrices[0].ndim == 2 else 0
    if size < 1 or any(matrix.shape != (size, size) for matrix in matrices):
        return Verdict(False, "all matrices must be square and of one size.")
    product, least = torch.eye(size, dtype=torch.float64), math.inf
    for matrix in matrices[:-1]:
        product = matrix @ product
        least = min(least, float(torch.linalg.matrix_norm(product, 2)))
    whole = matrices[-1] @ product
    off = float((whole - torch.eye(size)).abs().max())
    if off > _EQUAL:
        return Verdict(False, f"the product of the matrices differs from the identity by {off:.3g}"
                              " (the first in the list acts first).")  # fmt: skip
    if least > _NEAR / math.sqrt(2) * (1 + _EQUAL):
        return Verdict(False, f"at the narrowest layer some pair still keeps {least:.3g} of its "
                              "distance: the bound is 0.707 of it.")  # fmt: skip
    return Verdict(True, f"all distances shrink to {least:.2g} of what they were, and come back.")


def steep_optimal_map(answer: Callable[[float], float]) -> Verdict:
    """Check for an optimal map on the line that fixes 0 and 1 and throws 0.01 beyond 0.9."""
    grid = np.linspace(-0.5, 1.5, 2001).round(3) + 0.0  # exactly 0, 0.01 and 1
    found = numbers_of(answer, [(float(x),) for x in grid])
    if isinstance(found, Verdict):
        return found
    fixed = [found[int(np.abs(grid - x).argmin())] for x in (0.0, 1.0, 0.01)]
    if not agree(fixed[:2], [0.0, 1.0], 1e-6):
        return Verdict(False, f"T(0) must be 0 and T(1) must be 1, not {fixed[0]:.4g} and "
                              f"{fixed[1]:.4g}.")  # fmt: skip
    falls = np.diff(found)
    if falls.min() < -1e-9:
        place = grid[int(falls.argmin())]
        return Verdict(False, f"T falls near x = {place:.3f}: on the line the optimal maps are the "
                              "ones that never fall.")  # fmt: skip
    if fixed[2] <= 0.9:
        return Verdict(False, f"T(0.01) is {fixed[2]:.3g}: let the push of 0.01 grow beyond 0.9.")
    return Verdict(True, f"optimal, 0 and 1 keep their distance, and 0.01 becomes {fixed[2]:.2f}.")


def _height(a: float, b: float, cosine: float) -> float:
    """Distance of the origin from the line through two points at the ends of a and b."""
    base = math.sqrt(max(0.0, a * a + b * b - 2 * a * b * cosine))
    return a * b * math.sqrt(max(0.0, 1 - cosine**2)) / base if base > 0 else a


def _least(a: float, b: float, cosine: float) -> float:
    sharp = cosine >= min(a / b, b / a)
    return min(a, b) if sharp else _height(a, b, cosine)
