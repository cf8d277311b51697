"""Self-checks of the chapter on layers as ridge regressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geobook import ridge
from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.validation import as_tensor


def ridge_solution(answer: Callable[[Tensor, Tensor, float], Tensor]) -> Verdict:
    """Check a function of X (n, d), Y (n, m) and lambda that returns the ridge solution (m, d)."""
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for seed, (n, d, m, decay) in enumerate(((20, 4, 3, 0.5), (30, 5, 5, 10.0), (4, 6, 2, 1.0))):
        x, y = _normal(seed, n, d), _normal(seed + 50, n, m)
        found = _called(answer, x, y, decay)
        if isinstance(found, Verdict):
            return found
        verdict = _solution(found, x, y, decay)
        if not verdict:
            return verdict
    return Verdict(True, "the ridge solution, with many points and with few.")


def decay_for_condition(answer: Callable[[Tensor, float], float]) -> Verdict:
    """Check a function of X (n, d) and kappa: the lambda at which X^T X + lambda I has it."""
    cases = [(_normal(seed, 20, 4), wanted) for seed, wanted in enumerate((1.5, 1.2, 2.0))]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = []
    for x, wanted in cases:
        squares = torch.linalg.svdvals(x).square()
        right.append(float((squares[0] - wanted * squares[-1]) / (wanted - 1)))
    if agree(found, right):
        return Verdict(True, "the condition number comes out as wanted.")
    roots = []
    for x, wanted in cases:
        s = torch.linalg.svdvals(x)
        roots.append(float((s[0] - wanted * s[-1]) / (wanted - 1)))
    if agree(found, roots):
        return Verdict(False, "the eigenvalues of X^T X are the squares of the singular values.")
    x, wanted = cases[0]
    got = ridge.ridge_layer(x, x, max(found[0], 0.0)).condition
    return Verdict(False, f"with your lambda the condition number is {got:.3f} instead of "
                          f"{wanted:g}.")  # fmt: skip


def descent_filter(answer: Callable[[float, float, int], float]) -> Verdict:
    """Check a function of (s, eta, t): the share of a direction's solution after t steps from 0."""
    cases = [(1.0, 0.1, 1), (2.0, 0.1, 3), (0.3, 0.5, 20), (1.5, 0.2, 100)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [1 - (1 - rate * s**2) ** steps for s, rate, steps in cases]
    if agree(found, right):
        return Verdict(True, "one factor 1 - eta s^2 for each step.")
    if agree(found, [1 - value for value in right]):
        return Verdict(False, "that is the share that is still missing.")
    if agree(found, [1 - (1 - rate * s) ** steps for s, rate, steps in cases]):
        return Verdict(False, "the gradient holds X^T X: its eigenvalue is s^2, not s.")
    return Verdict(False, f"after one step with s = 1 and eta = 0.1 the share is {right[0]:.3f}, "
                          f"your function gives {found[0]:.3f}.")  # fmt: skip


def worst_change(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
    """Check a function of X (n, d), lambda: the change of targets (n,) of norm 1 that moves W most.

    Any sign will do.
    """
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    for seed, decay in enumerate((0.1, 30.0, 400.0)):
        x = _normal(seed, 30, 4) * torch.tensor([8.0, 4.0, 1.0, 0.3]).double()
        found = _called(answer, x, decay)
        if isinstance(found, Verdict):
            return found
        try:
            change = as_tensor(found, "change").double().flatten()
        except (TypeError, ValueError) as error:
            return Verdict(False, f"{error}.")
        if len(change) != len(x):
            return Verdict(False, f"there must be one number for each of the {len(x)} points, "
                                  f"not {len(change)}.")  # fmt: skip
        if abs(float(change.norm()) - 1) > 1e-6:
            return Verdict(False, f"its norm must be 1, not {float(change.norm()):.3f}.")
        moved = float(ridge.ridge_layer(x, change[:, None], decay).weight.norm())
        most = ridge.ridge_layer(x, change[:, None], decay).sensitivity
        if moved < (1 - 1e-6) * most:
            return Verdict(False, f"at lambda = {decay:g} yours moves W by {moved:.4f}, and "
                                  f"{most:.4f} is possible: which s makes s / (s^2 + lambda) "
                                  "largest?")  # fmt: skip
    return Verdict(True, "the left singular vector whose s lies best beside the root of lambda.")


def _solution(found: Any, x: Tensor, y: Tensor, decay: float) -> Verdict:
    try:
        weight = as_tensor(found, "W").double()
    except (TypeError, ValueError) as error:
        return Verdict(False, f"{error}.")
    right = ridge.ridge_layer(x, y, decay).weight
    if weight.shape == right.T.shape != right.shape:
        return Verdict(False, "W must have shape (m, d): it is multiplied from the left.")
    if weight.shape != right.shape:
        return Verdict(False, f"W must have shape {tuple(right.shape)}, "
                              f"not {tuple(weight.shape)}.")  # fmt: skip
    if torch.allclose(weight, right, atol=1e-6):
        return Verdict(True, "")
    hints = {
        "that is least squares: lambda is missing.": ridge.ridge_layer(x, y, 0.0).weight,
        "lambda stands before the sum over all points, not before the mean.": ridge.ridge_layer(
            x, y, decay * len(x)
        ).weight,
    }
    for hint, wrong in hints.items():
        if torch.allclose(weight, wrong, atol=1e-6):
            return Verdict(False, hint)
    return Verdict(False, "the gradient of the objective is not zero at your W.")


def _called(answer: Callable[..., Any], *given: Any) -> Any:
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
