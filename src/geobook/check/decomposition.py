"""Self-checks of the chapter on what is not transport."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobook.check._verdict import Verdict, agree, numbers_of
from geobook.decomposition import linear_polar_factorization, polar_factorization

Array = np.ndarray

# Both factors of an answer may be computed by iteration.
_TOLERANCE = 1e-6


def polar_factors(answer: Callable[[Array], tuple[Array, Array]]) -> Verdict:
    """Check a function of an invertible matrix B (d, d) that returns P, R with B = P R.

    P must be symmetric and positive definite, R orthogonal.
    """
    random = np.random.default_rng(0)
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])
    cases = [turn, np.diag([1.0, -3.0]), *(random.standard_normal((d, d)) for d in (2, 3, 5))]
    for matrix in cases:
        found = _matrices(answer, matrix, 2)
        if isinstance(found, Verdict):
            return found
        stretch, rotation = found
        hint = _not_polar(matrix, stretch, rotation)
        if hint:
            return Verdict(False, hint)
    return Verdict(True, "a stretch after a rotation or reflection, for matrices up to 5 x 5.")


def tells_gradients(answer: Callable[[Callable[[Array], Array], Array], bool]) -> Verdict:
    """Check a function (field, points) that says whether a field is a gradient near the points.

    The field takes points (n, 2) to velocities (n, 2).
    """
    points = np.random.default_rng(1).uniform(-1, 1, (40, 2))
    cases = [(name, field, wanted) for name, (field, wanted) in _FIELDS.items()]

    def plain(field: Callable[[Array], Array], at: Array) -> Any:
        value = answer(field, at)
        return bool(value) if isinstance(value, np.bool_) else value

    told = plain if callable(answer) else answer
    found = numbers_of(told, [(field, points) for _, field, _ in cases])
    if isinstance(found, Verdict):
        return found
    for (name, _, wanted), value in zip(cases, found, strict=True):
        if bool(value) != wanted:
            is_one = "is a gradient" if wanted else "is not a gradient"
            return Verdict(False, f"{name} {is_one}, and your function says otherwise.")
    return Verdict(True, "saddle, source and a curved gradient told from turn, shear and gyre.")


def hidden_turn(pair: Any) -> Verdict:
    """Check for two symmetric positive definite 2 x 2 matrices whose product turns by over 20°."""
    if pair is None or pair is Ellipsis:
        return Verdict(False, "there are no matrices yet.")
    found = _matrices(lambda: pair, None, 2)
    if isinstance(found, Verdict):
        return found
    for place, matrix in zip(("first", "second"), found, strict=True):
        if matrix.shape != (2, 2):
            return Verdict(False, f"the {place} matrix must be 2 x 2, not {matrix.shape}.")
        if not np.allclose(matrix, matrix.T, rtol=1e-9, atol=1e-12):
            return Verdict(False, f"the {place} matrix is not symmetric.")
        if np.linalg.eigvalsh(matrix)[0] <= 0:
            return Verdict(False, f"the {place} matrix is not positive definite.")
    rotation = linear_polar_factorization(found[0] @ found[1])[1]
    angle = math.degrees(abs(math.atan2(rotation[1, 0], rotation[0, 0])))
    if angle <= 20:
        return Verdict(False, f"the product turns by {angle:.1f}°: stretch more, and along axes "
                              "that are neither the same nor at right angles.")  # fmt: skip
    return Verdict(True, f"two gradient maps, and their product turns by {angle:.1f}°.")


def expected_asymmetry(answer: Callable[[int], float]) -> Verdict:
    """Check the formula for E|A|^2 / E|J|^2 of a matrix J (d, d) of i.i.d. entries of mean 0."""
    dimensions = (1, 2, 3, 64)
    found = numbers_of(answer, [(d,) for d in dimensions])
    if isinstance(found, Verdict):
        return found
    if agree(found, [(1 - 1 / d) / 2 for d in dimensions]):
        return Verdict(True, "0 on the line, 1/4 in the plane, and 1/2 in the limit.")
    if agree(found, [0.5] * 4):
        return Verdict(False, "that is the limit for large d; the diagonal is symmetric.")
    if agree(found, [1 - 1 / d for d in dimensions]):
        return Verdict(False, "that is the share off the diagonal; half of it is symmetric.")
    if agree(found, [(1 + 1 / d) / 2 for d in dimensions]):
        return Verdict(False, "that is the share of the symmetric part.")
    return Verdict(False, f"a 1 x 1 matrix is symmetric, so d = 1 must give 0; and in the plane "
                          f"the share is 0.25, your formula gives {found[1]:.4f}.")  # fmt: skip


def rearrangement_of(answer: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Verdict:
    """Check a function of a map x_i -> y_i (n, d) that returns (r, z): s(x_i) = x[r_i], T* = z.

    z_i is the image of x_i under the optimal map, and z[r] must be y.
    """
    for seed in range(3):
        x, y = _cloud(seed), _cloud(seed + 50)
        try:
            given = answer(x, y)
            if given is None or given is Ellipsis:
                return Verdict(False, "your function returns nothing yet.")
            index, images = given
            order = torch.as_tensor(index).long().flatten()
            optimal = torch.as_tensor(images).double()
        except Exception as error:
            return Verdict(False, f"your function raised {type(error).__name__}: {error}.")
        hint = _not_rearranged(x, y, order, optimal)
        if hint:
            return Verdict(False, hint)
    return Verdict(True, "a permutation, then the optimal map, and together the map itself.")


def _not_rearranged(x: Tensor, y: Tensor, order: Tensor, optimal: Tensor) -> str | None:
    if order.shape != (len(x),) or optimal.shape != x.shape:
        return (f"return n places and points of shape {tuple(x.shape)}, "
                f"not {tuple(order.shape)} and {tuple(optimal.shape)}.")  # fmt: skip
    if not torch.equal(order.sort().values, torch.arange(len(x))):
        return "the places are not a permutation: each must occur once."
    right = polar_factorization(x, y)
    if torch.allclose(optimal, y) and torch.equal(order, torch.arange(len(x))):
        return "that is the map itself: T* must pair the clouds at least cost."
    if torch.equal(order, right.rearrangement.argsort()) and not torch.equal(
        order, right.rearrangement
    ):
        return "you return the inverse of the permutation: z[r] must be y."
    if not torch.allclose(optimal[order], y):
        return "T*(s(x_i)), that is z[r], is not y."
    cost = float(((optimal - x) ** 2).sum(1).mean())
    if cost > right.optimal_energy * (1 + 1e-9):
        return f"T* costs {cost:.4f} a point, the best pairing {right.optimal_energy:.4f}."
    return None


def _not_polar(matrix: Array, stretch: Array, rotation: Array) -> str | None:
    identity, shape = np.eye(len(matrix)), matrix.shape
    if stretch.shape != shape or rotation.shape != shape:
        return f"both factors must have shape {shape}, not {stretch.shape} and {rotation.shape}."
    if not _same(rotation @ rotation.T, identity):
        if _same(stretch @ stretch.T, identity) and _same(rotation, rotation.T):
            return "return the stretch P first, the rotation R second."
        return "the second factor is not orthogonal: R R^T must be the identity."
    if not _same(stretch, stretch.T):
        return "the first factor is not symmetric."
    if np.linalg.eigvalsh(stretch)[0] <= 0:
        return "the first factor is not positive definite: take the positive root of B B^T."
    if _same(stretch @ rotation, matrix):
        return None
    if _same(rotation @ stretch, matrix):
        return "that is B = R P, with the rotation last; asked is B = P R."
    return "the product P R is not B."


def _same(first: Array, second: Array) -> bool:
    return bool(np.allclose(first, second, atol=_TOLERANCE))


def _matrices(answer: Any, matrix: Array | None, number: int) -> list[Array] | Verdict:
    if not callable(answer):
        return Verdict(False, f"the answer must be a function, not {type(answer).__name__}.")
    try:
        found = answer() if matrix is None else answer(matrix.copy())
        if found is None or found is Ellipsis:
            return Verdict(False, "your function returns nothing yet.")
        parts = [np.asarray(part, dtype=float) for part in found]
    except Exception as error:
        return Verdict(False, f"that raised {type(error).__name__}: {error}.")
    if len(parts) != number or any(part.ndim != 2 for part in parts):
        return Verdict(False, f"the answer must be {number} matrices.")
    return parts


def _cloud(seed: int) -> Tensor:
    return torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _field(u: Callable[..., Array], v: Callable[..., Array]) -> Callable[[Array], Array]:
    def velocities(points: Array) -> Array:
        x, y = np.asarray(points, dtype=float).T
        return np.stack([u(x, y) + 0 * x, v(x, y) + 0 * x], 1)

    return velocities


_FIELDS: dict[str, tuple[Callable[[Array], Array], bool]] = {
    "the saddle (x, -y)": (_field(lambda x, y: x, lambda x, y: -y), True),
    "the rotation (-y, x)": (_field(lambda x, y: -y, lambda x, y: x), False),
    "the shear (y, 0)": (_field(lambda x, y: y, lambda x, y: 0 * x), False),
    "the source (x, y)": (_field(lambda x, y: x, lambda x, y: y), True),
    "(2 x y, x^2), which is the gradient of x^2 y,": (
        _field(lambda x, y: 2 * x * y, lambda x, y: x**2),
        True,
    ),
    "the gyre (sin x cos y, -cos x sin y)": (
        _field(lambda x, y: np.sin(x) * np.cos(y), lambda x, y: -np.cos(x) * np.sin(y)),
        False,
    ),
}
