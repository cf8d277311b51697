"""Self-checks of the chapter on the choice of coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geobook import alignment, tracks
from geobook.check._verdict import Verdict
from geobook.validation import as_tensor, as_track


def best_turn(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Check a function of (x, y), shape (n, d), that returns the orthogonal Q bringing Q y to x."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for seed, (n, d) in enumerate(((20, 3), (50, 5), (9, 2))):
        x, y = _normal(seed, 2, n, d)
        found = _called(answer, x, y)
        if isinstance(found, Verdict):
            return found
        verdict = _best(found, x, y)
        if not verdict:
            return verdict
    return Verdict(True, "orthogonal, and no turn brings the points nearer.")


def lengths_near_floor(lengths: Any) -> Verdict:
    """Check for lengths of orthogonal states whose score is within 1 % of sqrt(L), L at least 4."""
    if lengths is None or lengths is Ellipsis:
        return Verdict(False, "there are no lengths yet.")
    try:
        sizes = as_tensor(lengths, "lengths").double().flatten()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    steps = len(sizes) - 1
    if steps < 4:
        return Verdict(False, f"take at least 5 states, not {len(sizes)}.")
    if not bool((sizes > 0).all()):
        return Verdict(False, "all lengths must be positive.")
    score = alignment.strangers_score(torch.diag(sizes)[:, None, :])
    values = f"LSS {score:.3f}, root of L {math.sqrt(steps):.3f}"
    if score > 1.01 * math.sqrt(steps):
        return Verdict(False, f"{values}: neighbouring steps still turn back; where is "
                              "r_l^2 / (s_l s_(l+1)) not small?")  # fmt: skip
    return Verdict(True, f"{values}: every step forgets the one before.")


def flipped_feature(answer: Callable[..., tuple[Tensor, ...]]) -> Verdict:
    """Check a function that changes the sign of feature 0 behind a batch norm, and undoes it.

    It takes (W2, gamma, beta, W1_next) and returns the four changed ones.
    """
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    second, following = _normal(1, 4, 6), _normal(2, 5, 4)
    gamma, beta = _normal(3, 2, 4)
    given = (second, gamma, beta, following)
    found = _called(answer, *(value.clone() for value in given))
    if isinstance(found, Verdict):
        return found
    try:
        new = [as_tensor(value, "answer").double() for value in found]
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if [value.shape for value in new] != [value.shape for value in given]:
        return Verdict(False, "return W2, gamma, beta and the next W1, in the shapes they had.")
    return _flipped(new, given)


def stubborn_zigzag(track: Any) -> Verdict:
    """Check for a track, more points than dimensions, of score above 2 that no turns straighten."""
    if track is None or track is Ellipsis:
        return Verdict(False, "there is no track yet.")
    try:
        states = as_track(track).double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    points, dimension = states.shape[1:]
    if dimension < 2 or points <= dimension:
        return Verdict(False, f"take at least two dimensions and more points than dimensions, "
                              f"not {points} points in {dimension}.")  # fmt: skip
    if any(int(torch.linalg.matrix_rank(state)) < dimension for state in states):
        return Verdict(False, "the points of every layer must extend in all directions.")
    own = tracks.line_shape_score(states)
    aligned = tracks.line_shape_score(alignment.align_tracks(states))
    values = f"LSS {own:.2f}, aligned {aligned:.2f}"
    if own <= 2:
        return Verdict(False, f"{values}: the tracks are not crooked enough.")
    if aligned <= 2:
        return Verdict(False, f"{values}: turns straighten it. What can a turn not do to a cloud?")
    return Verdict(True, f"{values}: the clouds themselves go to and fro.")


def _best(found: Any, x: Tensor, y: Tensor) -> Verdict:
    try:
        turn = as_tensor(found, "Q").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    d = x.shape[1]
    if turn.shape != (d, d):
        return Verdict(False, f"Q must have shape {(d, d)}, not {tuple(turn.shape)}.")
    if not torch.allclose(turn @ turn.T, torch.eye(d).double(), atol=1e-6):
        return Verdict(False, "Q is not orthogonal: leave the singular values out.")
    right = alignment.procrustes(x, y)
    if torch.allclose(turn, right, atol=1e-6):
        return Verdict(True, "")
    if torch.allclose(turn, right.T, atol=1e-6):
        return Verdict(False, "that is the inverse: it brings x to y.")
    cost, least = (float((x - y @ q.T).square().sum()) for q in (turn, right))
    return Verdict(False, f"the sum of squares is {cost:.3f}, and {least:.3f} is possible.")


def _flipped(new: list[Tensor], given: tuple[Tensor, ...]) -> Verdict:
    hidden = _normal(4, 30, given[0].shape[1])
    sign = torch.ones(len(given[1])).double()
    sign[0] = -1
    states = [_normalised(hidden @ w.T) * g + b for w, g, b, _ in (given, new)]
    if torch.allclose(states[1], states[0]):
        return Verdict(False, "the state is the same as before: its feature 0 must change sign.")
    if not torch.allclose(states[1], states[0] * sign):
        if torch.allclose(states[1][:, 1:], states[0][:, 1:]):
            return Verdict(False, "feature 0 is not the negative of what it was: did you think of "
                                  "both the scaled feature and its shift?")  # fmt: skip
        return Verdict(False, "other features than feature 0 have changed.")
    if not torch.allclose(states[1] @ new[3].T, states[0] @ given[3].T):
        return Verdict(False, "the next map must undo the change: which of its entries read "
                              "feature 0?")  # fmt: skip
    if any(abs(float(a.norm() - b.norm())) > 1e-6 for a, b in zip(new, given, strict=True)):
        return Verdict(False, "the function is right, but the norm of a parameter has changed.")
    return Verdict(True, "the state is reflected, the next block sees what it saw.")


def _normalised(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / z.std(0, unbiased=False)


def _called(answer: Callable[..., Any], *given: Tensor) -> Any:
    try:
        found = answer(*given)
    except Exception as error:
        return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
    if found is None or found is Ellipsis:
        return Verdict(False, "your function returns nothing yet.")
    return found


def _normal(seed: int, *shape: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)
