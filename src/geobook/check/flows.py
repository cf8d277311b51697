"""Self-checks of the chapter on networks as flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from geobook.check._verdict import Verdict, agree, numbers_of

Array = np.ndarray
Velocity = Callable[[Array], Array]

_RUNAWAY = "the guesses run away where Lip(v) > 1: go only a part of the way from one to the next"


def density_factor(answer: Callable[[float, float, float], float]) -> Verdict:
    """Check rho_t(Phi_t(x)) / rho_0(x) along v(x, y) = (a x, b y), a function of a, b and t."""
    cases = [(0.5, 0.2, 1.0), (1.0, -1.0, 2.0), (-0.3, -0.6, 0.5), (0.4, -1.0, 1.5)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [math.exp(-(a + b) * t) for a, b, t in cases]
    if agree(found, right):
        return Verdict(True, "the density falls where the flow stretches, and stays for a + b = 0.")
    mistakes = {
        "the sign is the other way round: where mass is spread out, its density falls.": [
            1 / value for value in right
        ],
        "both coordinates count: the divergence of the field is a + b.": [
            math.exp(-a * t) for a, _, t in cases
        ],
        "that is the rate d/dt log rho; it acts from time 0 to t.": [-(a + b) for a, b, _ in cases],
        "that is the logarithm of the factor.": [-(a + b) * t for a, b, t in cases],
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"for a = 0.5, b = 0.2, t = 1 the density falls to {right[0]:.4f} of its "
                          f"value, your function gives {found[0]:.4f}.")  # fmt: skip


def second_order_step(answer: Callable[..., Array]) -> Verdict:
    """Check a step (field, t, x, h) -> x whose error falls at least like h^2.

    The fields are rotations, x of shape (n, 2); the second turns faster and faster, so that the
    times at which a step asks for velocities matter.
    """
    start = np.array([[1.0, 0.0], [0.3, -0.8], [-0.5, 0.4]])
    orders = []
    for faster in (0.0, 2.0):
        errors = [_turning_error(answer, start, faster, steps) for steps in (20, 40, 80)]
        failed = next((error for error in errors if isinstance(error, Verdict)), None)
        if failed is not None:
            return failed
        if max(errors) < 1e-10:  # an exact step has no order to measure
            orders.append(math.inf)
            continue
        if errors[2] > 0.1:
            missed = f"80 steps of your method miss the end of a rotation by {errors[2]:.2g}"
            return Verdict(False, f"{missed}: the steps do not follow the field.")
        orders.append(math.log2(errors[1] / max(errors[2], 1e-300)))
    steady = orders[0]
    if min(orders) > 1.8:
        return Verdict(True, f"the error falls like h to the {min(orders):.1f}.")
    if steady > 1.8:
        return Verdict(False, "second order for a steady field, but not for one that changes in "
                              "time: the second velocity is that of a later time.")  # fmt: skip
    order = f"the error falls like h to the {steady:.1f}: half the step must quarter it"
    return Verdict(False, f"{order}. Look at the velocity a second time, farther on.")


def undoes_large_step(answer: Callable[[Velocity, Array], Array]) -> Verdict:
    """Check a function (v, y) -> x with x + v(x) = y, also where Lip(v) is above 1.

    The velocities do not push points together: <v(x) - v(x'), x - x'> >= 0, up to 1/2 |x - x'|^2.
    They and the answer take and return arrays (n, 2).
    """
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    goal = np.random.default_rng(0).normal(size=(20, 2))
    for name, velocity in _monotone_velocities().items():
        with np.errstate(all="ignore"):
            point = _array_of(answer, (velocity, goal), goal.shape, _RUNAWAY)
        if isinstance(point, Verdict):
            return point
        missed = float(np.abs(point + velocity(point) - goal).max())
        if missed < 1e-6:
            continue
        if np.allclose(point, goal - velocity(goal)):
            hint = "y - v(y) takes the velocity at the wrong place: the step started at x."
            return Verdict(False, f"{hint} But it is a guess; go on from it.")
        if np.allclose(point, goal + velocity(goal)):
            return Verdict(False, "that is one more step forward, not back.")
        if missed > 100:
            return Verdict(False, f"{_RUNAWAY}.")
        return Verdict(False, f"for {name} your x + v(x) misses y by {missed:.1g}: "
                              "go on until the guesses stop moving.")  # fmt: skip
    return Verdict(True, "undone to within 0.000001, also the turn with Lip(v) = 2.")


def swap_in_small_steps(matrices: Sequence[Any]) -> Verdict:
    """Check matrices A_1 .. A_L (2, 2), |A_l| < 1, with (Id + A_L) .. (Id + A_1) = -Id."""
    if matrices is None or matrices is Ellipsis:
        return Verdict(False, "there are no matrices yet.")
    try:
        steps = [np.asarray(matrix, dtype=float) for matrix in matrices]
    except (TypeError, ValueError):
        return Verdict(False, "give a list of matrices with two rows and two columns.")
    wrong = next((step.shape for step in steps if step.shape != (2, 2)), None)
    if wrong is not None or not steps:
        return Verdict(False, f"every matrix must have shape (2, 2), not {wrong or 'be missing'}.")
    whole = reduce(lambda done, step: done + step @ done, steps, np.eye(2))
    norms = [float(np.linalg.norm(step, 2)) for step in steps]
    if not np.allclose(whole, -np.eye(2), atol=1e-6):
        if np.allclose(reduce(lambda done, step: step @ done, steps), -np.eye(2)):
            return Verdict(False, "the product of the A is -Id; it must be that of the Id + A.")
        end = np.round(whole @ [1.0, 0.0], 3).tolist()
        return Verdict(False, f"the point (1, 0) ends in {end}, not in (-1, 0).")
    if max(norms) > 1 - 1e-9:
        place = int(np.argmax(norms))
        return Verdict(False, f"step {place + 1} has norm {norms[place]:.3f}: take smaller steps, "
                              "and more of them.")  # fmt: skip
    fewest = " No list is shorter." if len(steps) == 4 else ""
    return Verdict(True, f"{len(steps)} steps of norm at most {max(norms):.3f} exchange every x "
                         f"with -x, and none of them folds anything.{fewest}")  # fmt: skip


def averaged_velocity(answer: Callable[[float, float], float]) -> Verdict:
    """Check v_t(x) = E[Y - X | (1-t) X + t Y = x], X and Y independent and standard normal."""
    cases = [(0.0, 1.0), (0.25, -0.8), (0.5, 2.0), (0.9, 0.3), (1.0, 1.5)]
    found = numbers_of(answer, cases)
    if isinstance(found, Verdict):
        return found
    right = [(2 * t - 1) * x / ((1 - t) ** 2 + t**2) for t, x in cases]
    if agree(found, right):
        return Verdict(True, "towards the middle in the first half of the time, away in the "
                             "second: the cloud contracts and spreads again.")  # fmt: skip
    mistakes = {
        "the sign is the other way round: at t = 0 we stand at X = x and Y has mean 0.": [
            -value for value in right
        ],
        "that is the covariance times x; divide it by the variance of X_t.": [
            (2 * t - 1) * x for t, x in cases
        ],
        "0 is the mean of Y - X over everybody; the field wants it among those at x.": [0.0] * 5,
    }
    for hint, wrong in mistakes.items():
        if agree(found, wrong):
            return Verdict(False, hint)
    return Verdict(False, f"at t = 0 the velocity at x = 1 is E[Y] - 1 = -1, "
                          f"your function gives {found[0]:.4f}.")  # fmt: skip


def _turning_error(
    answer: Callable[..., Array], start: Array, faster: float, steps: int
) -> float | Verdict:
    """Error after unit time in a rotation with angular speed 1 + faster * t."""

    def field(t: float, points: Array) -> Array:
        return (1 + faster * t) * np.stack([-points[:, 1], points[:, 0]], 1)

    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    state = start
    for place in range(steps):
        state = _array_of(answer, (field, place / steps, state, 1 / steps), start.shape)
        if isinstance(state, Verdict):
            return state
    angle = 1 + faster / 2
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return float(np.abs(state - start @ turn.T).max())


def _array_of(
    answer: Callable[..., Any],
    given: tuple[Any, ...],
    shape: tuple[int, ...],
    infinite: str = "your function returns values that are not finite",
) -> Array | Verdict:
    """Call `answer`; a Verdict where it does not return finite points of the shape."""
    try:
        value = answer(*given)
    except Exception as error:
        return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
    if value is None or value is Ellipsis:
        return Verdict(False, "your function returns nothing yet.")
    try:
        points = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return Verdict(False, f"your function must return an array, not {type(value).__name__}.")
    if points.shape != shape:
        return Verdict(False, f"your function must return shape {shape}, not {points.shape}.")
    if not np.isfinite(points).all():
        return Verdict(False, f"{infinite}.")
    return points


def _monotone_velocities() -> dict[str, Velocity]:
    weights = np.random.default_rng(1).normal(size=(6, 2))
    weights *= 1.5 / np.linalg.norm(weights, 2)
    return {
        "a gentle wave": lambda x: 0.3 * np.sin(x[:, ::-1] + 1),
        "the gradient of a convex function": lambda x: np.maximum(x @ weights.T, 0) @ weights,
        "a turn with Lip(v) = 2": lambda x: 2 * np.stack([-x[:, 1], x[:, 0]], 1),
    }
