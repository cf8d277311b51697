"""Self-checks of the chapter on least kinetic energy and weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geobook import controls, energy
from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.validation import as_tensor, as_track


def energy_of_tracks(answer: Callable[[Tensor], float]) -> Verdict:
    """Check a function of a track (L+1, n, d) that computes its kinetic energy over unit time."""
    samples = [controls.independent_steps(segments, 6, 5, seed=segments) for segments in (2, 4, 9)]
    found = numbers_of(answer, [(sample,) for sample in samples])
    if isinstance(found, Verdict):
        return found
    right = [energy.kinetic_energy(sample) for sample in samples]
    if agree(found, right):
        return Verdict(True, "the same energy as geobook.kinetic_energy on three random tracks.")
    steps = [len(sample) - 1 for sample in samples]
    mistakes = {
        "that is the paper's eq. (9): in unit time a step of length s has the speed L s.": [
            value / number for value, number in zip(right, steps, strict=True)
        ],
        "take the mean over the points, not their sum.": [value * 6 for value in right],
        "square the length of every step, not of the whole track.": [
            float(sample.diff(dim=0).norm(dim=2).sum(0).square().mean()) for sample in samples
        ],
        "count the steps, not the states: L is one less than the length of the track.": [
            value * (number + 1) / number for value, number in zip(right, steps, strict=True)
        ],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"on a random track of two steps the energy is {right[0]:.4f}, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def least_energy_track(answer: Callable[[Tensor, Tensor, int], Tensor]) -> Verdict:
    """Check a function of (x, y, L) that returns the track of least energy from x_i to y_i."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    draw = torch.Generator().manual_seed(1)
    for steps in (1, 3, 8):
        x, y = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
        try:
            track = answer(x, y, steps)
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if track is None or track is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        verdict = _least(track, x, y, steps)
        if not verdict:
            return verdict
    return Verdict(True, "straight, even, and as cheap as the displacement allows.")


def only_pace(track: Any) -> Verdict:
    """Check for a track whose energy is at least twice W2^2, all of the excess being pace."""
    if track is None or track is Ellipsis:
        return Verdict(False, "there is no track yet.")
    try:
        states = as_track(track)
        parts = energy.energy_ladder(states)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if states.shape[1] < 2:
        return Verdict(False, "take two points or more: one alone has no pairing.")
    least = parts.wasserstein2_squared
    if least <= 0:
        return Verdict(False, "the two clouds are the same: let the points go somewhere.")
    small = 1e-6 * least
    if parts.pairing > small:
        return Verdict(False, "another pairing of the two clouds is cheaper than yours.")
    if parts.detour > small:
        return Verdict(False, "some track is not straight: all its states must lie on one segment.")
    times = f"the energy is {parts.kinetic_energy / least:.2f} times W2 squared"
    if parts.kinetic_energy < 2 * least:
        return Verdict(False, f"{times}: make the steps more unequal.")
    return Verdict(True, f"{times}, all of it for the pace.")


def standing_still(weights: Any) -> Verdict:
    """Check for (W1, W2) with W2 relu(W1 x) = x everywhere, at the least sum of squares."""
    if weights is None or weights is Ellipsis:
        return Verdict(False, "there are no weights yet.")
    try:
        first, second = (
            as_tensor(w, n).double() for w, n in zip(weights, ("W1", "W2"), strict=True)
        )
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if first.ndim != 2 or second.shape != first.shape[::-1]:
        return Verdict(False, "W1 must have shape (units, d) and W2 shape (d, units).")
    d = first.shape[1]
    if d < 2:
        return Verdict(False, "take at least two dimensions.")
    x = torch.randn(200, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if not torch.allclose(torch.relu(x @ first.T) @ second.T, x, atol=1e-5):
        positive = x.abs()
        if torch.allclose(torch.relu(positive @ first.T) @ second.T, positive, atol=1e-5):
            return Verdict(False, "points with negative coordinates do not come through.")
        return Verdict(False, "the block is not the identity: W2 relu(W1 x) differs from x.")
    price = float(first.square().sum() + second.square().sum())
    if price > 4 * d + 1e-4:
        return Verdict(False, f"the price is {price:.2f}, and 4 d = {4 * d} is possible: "
                              "balance the two matrices, and let no unit be idle.")  # fmt: skip
    return Verdict(True, f"the identity everywhere, at the least price 4 d = {4 * d}.")


def balanced_weights(answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Verdict:
    """Check a function of (W1, W2) that rescales the units so that the sum of squares is least."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    draw = torch.Generator().manual_seed(3)
    for units, d in ((4, 3), (7, 2)):
        first = torch.randn(units, d, generator=draw, dtype=torch.float64) * 3
        second = torch.randn(d, units, generator=draw, dtype=torch.float64)
        try:
            found = answer(first.clone(), second.clone())
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        verdict = _balanced(found, first, second)
        if not verdict:
            return verdict
    return Verdict(True, "the same block at the least weight decay: every unit is balanced.")


def _least(track: Any, x: Tensor, y: Tensor, steps: int) -> Verdict:
    try:
        states = as_track(track).double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if states.shape != (steps + 1, *x.shape):
        return Verdict(False, f"for {steps} steps the track must have shape "
                              f"{(steps + 1, *x.shape)}, not {tuple(states.shape)}.")  # fmt: skip
    if not (torch.allclose(states[0], x) and torch.allclose(states[-1], y)):
        return Verdict(False, "the track must begin in x and end in y.")
    parts = energy.energy_ladder(states)
    if parts.detour > 1e-6 * parts.displacement:
        return Verdict(False, "the tracks are not straight.")
    if parts.pace > 1e-6 * parts.displacement:
        return Verdict(False, "the steps are not equally long.")
    return Verdict(True, "")


def _matrices(weights: Any) -> tuple[Tensor, Tensor]:
    first, second = weights
    return as_tensor(first, "W1").double(), as_tensor(second, "W2").double()


def _balanced(found: Any, first: Tensor, second: Tensor) -> Verdict:
    try:
        new = _matrices(found)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if new[0].shape != first.shape or new[1].shape != second.shape:
        return Verdict(False, "keep the shapes of the two matrices.")
    x = torch.randn(50, first.shape[1], generator=torch.Generator().manual_seed(0)).double()
    before, after = (torch.relu(x @ a.T) @ b.T for a, b in ((first, second), new))
    if not torch.allclose(before, after, atol=1e-6):
        return Verdict(False, "the block computes something else now: what multiplies a row of W1 "
                              "must divide the column of W2, and be positive.")  # fmt: skip
    price = sum(float(w.square().sum()) for w in new)
    least = 2 * float((first.norm(dim=1) * second.norm(dim=0)).sum())
    if price > least * (1 + 1e-6):
        return Verdict(False, f"the sum of squares is {price:.3f}, and {least:.3f} is possible: "
                              "every unit has a factor of its own.")  # fmt: skip
    return Verdict(True, "")
