"""Self-checks of the chapter on why depth degrades."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geobook import activations
from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.validation import as_points, as_tensor, as_track


def activated_product(answer: Callable[[list[Tensor], Tensor], Tensor]) -> Verdict:
    """Check a function of (weights, x) that gives the matrix of the linear map that f is at x."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for depth in (1, 2, 4):
        weights = activations.draw_chain(depth, 5, seed=depth)
        x = _draw(depth, 5)
        try:
            found = answer([w.clone() for w in weights], x.clone())
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        verdict = _product_verdict(found, weights, x)
        if not verdict:
            return verdict
    return Verdict(True, "the same linear map as the chain, for one, two and four layers.")


def solvable_points(answer: Callable[[int, int], float]) -> Verdict:
    """Check a function of (L, d): most points whose labels in R^d the parameters can meet."""
    cases = [(1, 4), (2, 4), (3, 6), (5, 2), (10, 64)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [float(activations.equation_bound(depth, width)) for depth, width in cases]
    if agree(found, right):
        return Verdict(True, "L (d - 1) + 1: the weights, less one idle scale for every unit.")
    hints = {
        "take off the idle scales: one for every unit between two layers.": [
            float(depth * width) for depth, width in cases
        ],
        "that is the paper's count; count weights and equations instead.": [
            float(width * max(1, depth - 1)) for depth, width in cases
        ],
        "count points, not numbers: every point brings d equations.": [
            float(depth * width**2 - (depth - 1) * width) for depth, width in cases
        ],
        "only units between two layers have an idle scale: L - 1 layers of them.": [
            float(depth * (width - 1)) for depth, width in cases
        ],
    }
    for hint, wrong in hints.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"for one layer it is d: 4 for d = 4, your function gives {found[0]:g}.")


def beats_linear(answer: Any) -> Verdict:
    """Check for (x, W1, W2): a two-layer chain on d + 1 points that no linear map imitates."""
    if answer is None or answer is Ellipsis:
        return Verdict(False, "there is no chain yet.")
    try:
        points, first, second = answer
        x, matrices = as_points(points, "x").double(), [as_tensor(w, "W") for w in (first, second)]
        d = x.shape[1]
        if any(tuple(w.shape) != (d, d) for w in matrices):
            return Verdict(False, f"both matrices must have shape ({d}, {d}).")
        y = activations.run_chain([w.double() for w in matrices], x)
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if len(x) != d + 1:
        return Verdict(False, f"take d + 1 = {d + 1} points, not {len(x)}.")
    missed = y - x @ torch.linalg.lstsq(x, y, driver="gelsd").solution
    share = float(missed.norm() / y.norm()) if float(y.norm()) else 0.0
    if share < 0.01:
        return Verdict(False, "a linear map gives the same values: let a rectifier close "
                              "for some of the points and not for others.")  # fmt: skip
    return Verdict(True, f"the best linear map misses {100 * share:.0f} % of the values' size.")


def step_change(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
    """Check a function of (x, g) that gives eq. (28) for a linear map, per unit of rate."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    x, g = _draw(3, 5, 4), _draw(4, 5, 3)
    try:
        found = answer(x.clone(), g.clone())
    except Exception as error:
        return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
    if found is None or found is Ellipsis:
        return Verdict(False, "your function returns nothing yet.")
    try:
        change = as_tensor(found, "your answer").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if change.shape != g.shape:
        return Verdict(
            False,
            f"a change for every point has shape {tuple(g.shape)}, not {tuple(change.shape)}.",
        )
    right = -(x @ x.T) @ g
    if torch.allclose(change, right, atol=1e-6):
        return Verdict(True, "the change of all points, own term and cross-talk.")
    own = -x.square().sum(1, keepdim=True) * g
    hints = {
        "the sign: a gradient step goes against the gradient.": -right,
        "that is the own term alone; every other point's gradient moves the weights too.": own,
        "that is the cross-talk alone; the point's own gradient counts as well.": right - own,
        "sum over the points, do not average: the gradients hold the 1/n already.": right / len(x),
    }
    for hint, wrong in hints.items():
        if torch.allclose(change, wrong, atol=1e-6):
            return Verdict(False, hint)
    return Verdict(False, "point i moves by minus the sum over j of <x_j, x_i> g_j.")


def wrong_way(answer: Any) -> Verdict:
    """Check for (x, g): a gradient step that moves some point against what that point wants."""
    if answer is None or answer is Ellipsis:
        return Verdict(False, "there are no points yet.")
    try:
        inputs, gradients = answer
        x, g = (as_points(a, n).double() for a, n in ((inputs, "x"), (gradients, "g")))
        if len(x) != len(g):
            return Verdict(False, f"{len(x)} points need as many gradients, not {len(g)}.")
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if not bool((g.norm(dim=1) > 0).all()):
        return Verdict(False, "let every point want something: no gradient may be zero.")
    change = -(x @ x.T) @ g
    cosines = torch.nn.functional.cosine_similarity(change, -g, dim=1)
    worst, fall = float(cosines.min()), float((change * -g).sum())
    if worst > -0.9:
        return Verdict(False, f"the worst cosine is {worst:.2f}: let a near neighbour with a "
                              "longer gradient want the opposite.")  # fmt: skip
    return Verdict(True, f"a point with cosine {worst:.2f}, and still the loss of all falls, "
                         f"at the rate {fall:.3g}.")  # fmt: skip


def priced_track(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Verdict:
    """Check a function of (start, end, prices): the track of least sum of prices * |step|^2."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for number in (1, 2, 5):
        start, end = _draw(number, 3, 2), _draw(number + 9, 3, 2)
        prices = 0.2 + _draw(number, number).abs()
        try:
            found = answer(start.clone(), end.clone(), prices.clone())
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        verdict = _priced(found, start, end, prices)
        if not verdict:
            return verdict
    return Verdict(True, "straight, and each step as long as its price allows: 1 over the price.")


def _product_verdict(found: Any, weights: list[Tensor], x: Tensor) -> Verdict:
    try:
        matrix = as_tensor(found, "your answer").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    if matrix.shape != (5, 5):
        return Verdict(False, f"return one matrix of shape (5, 5), not {tuple(matrix.shape)}.")
    right = torch.eye(5, dtype=torch.float64)
    for activated in activations.activated_matrices(weights, x):
        right = activated @ right
    if torch.allclose(matrix, right, atol=1e-8):
        return Verdict(True, "")
    if torch.allclose(matrix, right.T, atol=1e-8):
        return Verdict(False, "that is the transpose: the last matrix stands leftmost.")
    plain = torch.eye(5, dtype=torch.float64)
    for weight in weights:
        plain = weight @ plain
    if torch.allclose(matrix, plain, atol=1e-8):
        return Verdict(False, "that is the product of all weights: rectifiers that are closed at "
                              "x must drop out.")  # fmt: skip
    if torch.allclose(matrix @ x, right @ x, atol=1e-8):
        return Verdict(False, "it gives f(x), but it is not the linear map of the pattern: its "
                              "derivative at x is another.")  # fmt: skip
    return Verdict(False, f"the matrix times x must be f(x); for {len(weights)} layers it is not.")


def _priced(found: Any, start: Tensor, end: Tensor, prices: Tensor) -> Verdict:
    try:
        track = as_track(found, "your track").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    wanted = len(prices) + 1, *start.shape
    if tuple(track.shape) != wanted:
        return Verdict(False, f"the track must have shape {wanted}, not {tuple(track.shape)}.")
    for state, right, name in ((track[0], start, "start"), (track[-1], end, "end")):
        if not torch.allclose(state, right, atol=1e-5):
            return Verdict(False, f"the track must {name} where it is told to.")
    cost = float((prices[:, None] * track.diff(dim=0).square().sum(2)).sum())
    least = float((end - start).square().sum() / (1 / prices).sum())
    if cost < least * (1 + 1e-5):
        return Verdict(True, "")
    if torch.allclose(track.diff(dim=0), ((end - start) / len(prices)).expand_as(track[1:])):
        return Verdict(False, "equal steps are right only for equal prices.")
    return Verdict(False, f"your track costs {cost:.4f}, {least:.4f} is possible.")


def _draw(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
