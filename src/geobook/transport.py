"""Exact optimal transport between two clouds of equally many points.

For clouds x_1 .. x_n and y_1 .. y_n of equal weights the optimal plan is a permutation pi (the
paper's eqs. (45)-(46)):

    W2^2 = min over pi of (1/n) sum_i |x_i - y_pi(i)|^2.

What decides pi are the inner products of the centred clouds alone. So the matrix that is solved is

    S_ij = (<x_i, y_i> + <x_j, y_j>) / 2 - <x_i, y_j>,

which differs from |x_i - y_j|^2 / 2 by terms that depend on i or on j only. Its diagonal is zero,
and where y = A x with a symmetric positive definite A (the gradient of a quadratic convex
function) it is nowhere negative, so that the identity is seen to be optimal at a glance.

**Ties.** Costs that agree within rounding are equal for us, and among equally cheap permutations
the one with more points kept at their own image is wanted: each kept point counts cheaper by a few
units in the last place of the costs. A tie means that the identity there is optimal too, so it is
not to the discredit of a map.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geobook import assignment, memory
from geobook.validation import Points, as_point_pair, as_tensor

# Rounding errors of a dot product, in units in the last place of |x| |y|.
_ROUNDING = 4.0


@dataclass(frozen=True)
class Assignment:
    """The optimal pairing of two clouds.

    Attributes
    ----------
    permutation : Tensor of int64, shape (n,)
        ``permutation[i]`` is the index in y of the partner of x_i; on the device of the clouds.
    cost : float
        Mean squared distance of the partners, W2^2, computed in float64.
    duality_gap : float
        Proof of optimality: no pairing has a mean squared distance below ``cost - duality_gap``.
        Zero up to rounding (of either sign), or nothing would have been returned.
    certified_identity : bool
        Whether the identity was proved optimal outright, without a search.
    method : str
        How it was found: see `geobook.assignment.Solution`.
    """

    permutation: Tensor
    cost: float
    duality_gap: float
    certified_identity: bool
    method: str

    @property
    def kept(self) -> float:
        """Share of the points whose partner is their own image, in [0, 1]."""
        own = torch.arange(len(self.permutation), device=self.permutation.device)
        return float((self.permutation == own).double().mean())


def assignment_memory(points: int, dtype: torch.dtype = torch.float32) -> int:
    """Memory that `optimal_assignment` takes on the device of the clouds.

    Parameters
    ----------
    points : int
        n.
    dtype : torch.dtype
        Of the clouds: float32 or float64.

    Returns
    -------
    int
        Bytes: n^2 numbers, 2 kB for each point, and working space; copies of the clouds come on
        top.
        Where many points coincide SciPy may have to finish, which takes 16 n^2 bytes of main
        memory more, if they are free.

    Examples
    --------
    >>> round(assignment_memory(10_000) / 10**9, 2)
    0.49
    """
    bytes_each = torch.finfo(dtype).bits // 8
    return points**2 * bytes_each + points * assignment.CANDIDATES * 32 + 2**26


class PairCosts:
    """The cost matrix of two clouds, ready to be solved once or several times.

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Clouds; float32 is solved in float32 and certified in float64. CPU or CUDA.

    Attributes
    ----------
    own_cost : float
        Mean squared distance of x_i and y_i after both clouds were centred.

    Raises
    ------
    MemoryError
        If the matrix would not fit; nothing has been allocated then.
    """

    def __init__(self, x: Points, y: Points) -> None:
        self._x, self._y = (_solvable(cloud) for cloud in as_point_pair(x, y))
        n, dtype = len(self._x), self._x.dtype
        memory.require(
            assignment_memory(n, dtype) + 24 * self._x.numel(),
            self._x.device,
            f"the cost matrix of n = {n} points",
            "take a subsample of the points" + _largest_advice(self._x),
        )
        (left, right), (unit_x, unit_y) = zip(
            _centred_unit(self._x), _centred_unit(self._y), strict=True
        )
        self._left, self._right, self._unit = left, right, unit_x * unit_y
        self._rounding = self._rounding_of_points(unit_x, unit_y)
        self._matrix = _pair_matrix(left, right)
        difference = unit_x * left.double() - unit_y * right.double()
        self.own_cost = float((difference**2).sum(1).mean())

    def solve(self, favour: float = 0.0) -> Assignment:
        """Find the optimal pairing.

        Parameters
        ----------
        favour : float
            Discount, in squared distance, on every point paired with its own image; negative for
            a surcharge. With it the pairing minimises ``cost - favour * kept`` (both are means
            over the points), and the duality gap refers to this. Ties are favoured in any case.

        Returns
        -------
        Assignment

        Raises
        ------
        ArithmeticError
            If optimality could not be proved to rounding.
        """
        discount = self._rounding + favour / (2 * self._unit)
        self._matrix.diagonal().copy_(-discount)
        scale = float(self._rounding.mean())
        found = assignment.solve(self._matrix, tolerance=16 * scale)
        permutation = torch.from_numpy(found.permutation).to(self._x.device)
        return Assignment(
            permutation=permutation,
            cost=_mean_squared_distance(self._x, self._y, permutation),
            duality_gap=2 * self._unit * self._gap(found, permutation, discount) / len(self._x),
            certified_identity=found.method == "identity",
            method=found.method,
        )

    def saving(self, permutation: Tensor) -> float:
        """Mean squared distance that a pairing saves against x_i with y_i, in float64."""
        return -2 * self._unit * self._exact_cost(permutation) / len(self._x)

    def _exact_cost(self, permutation: Tensor) -> float:
        """Sum of S_i,pi(i) from the clouds in float64: only moved points contribute."""
        own = torch.arange(len(permutation), device=permutation.device)
        moved = torch.nonzero(permutation != own)[:, 0]
        total = 0.0
        for rows in moved.split(1024):
            change = self._right[rows].double() - self._right[permutation[rows]].double()
            total += float((self._left[rows].double() * change).sum())
        return total

    def _gap(self, found: assignment.Solution, permutation: Tensor, discount: Tensor) -> float:
        """Duality gap with the matrix's own rounding errors in the matched pairs taken out."""
        own = torch.arange(len(permutation), device=permutation.device)
        kept = permutation == own
        in_matrix = self._matrix.gather(1, permutation[:, None]).double()
        rounded = float(in_matrix[~kept].sum())
        return found.gap + self._exact_cost(permutation) - rounded

    def _rounding_of_points(self, unit_x: float, unit_y: float) -> Tensor:
        """Return what counts as a tie, per point: rounding of products, and of the inputs."""
        left, right = (cloud.double().norm(dim=1) for cloud in (self._left, self._right))
        raw_x, raw_y = self._x.double().norm(dim=1) / unit_x, self._y.double().norm(dim=1) / unit_y
        inputs = (left * raw_y + raw_x * right) / math.sqrt(self._x.shape[1])
        return torch.finfo(self._x.dtype).eps * (_ROUNDING * left * right + inputs)


def optimal_assignment(x: Points, y: Points) -> Assignment:
    """Pair two clouds at least total squared distance, exactly (the paper's eqs. (45)-(46)).

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Clouds of equally many points, at least two; trailing dimensions are flattened. On a CUDA
        device the matrix lives there.

    Returns
    -------
    Assignment
        With the duality gap as certificate. On ties the permutation keeps points at their own
        image (see the module's introduction).

    Raises
    ------
    ValueError
        If the clouds differ in number or dimension, hold fewer than two points, or NaN.
    MemoryError
        If the n^2 matrix would not fit (see `assignment_memory`); take a subsample then.
    ArithmeticError
        If no certified answer was found.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0], [5.0]])
    >>> optimal_assignment(x, x.flip(0)).permutation
    tensor([2, 1, 0])
    """
    return PairCosts(x, y).solve()


def wasserstein2(x: Points, y: Points) -> float:
    """Wasserstein distance W2 of two clouds (the square root of the paper's eq. (45)).

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Clouds of equally many points.

    Returns
    -------
    float
        In the unit of the points.

    Raises
    ------
    ValueError, MemoryError, ArithmeticError
        As `optimal_assignment`.
    """
    return math.sqrt(optimal_assignment(x, y).cost)


def displacement_interpolation(
    x: Points, y: Points, t: float | Sequence[float] | Tensor, pairing: Assignment | None = None
) -> Tensor:
    """Points on the Wasserstein geodesic from x to y (McCann; the paper's eq. (5)).

    Parameters
    ----------
    x, y : array or Tensor, shape (n, ...)
        Clouds of equally many points.
    t : float or sequence of float
        Times in [0, 1].
    pairing : Assignment, optional
        The optimal pairing if it is known already.

    Returns
    -------
    Tensor, shape (n, ...) or (times, n, ...)
        ``(1 - t) x_i + t y_pi(i)``, in the order of x. Its speed is constant (eq. (4)):
        W2 between times s and t is |s - t| W2(x, y).

    Raises
    ------
    ValueError
        If a time lies outside [0, 1]; and as `optimal_assignment`.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [2.0]])
    >>> displacement_interpolation(x, x + 4, 0.5)
    tensor([[2.],
            [4.]])
    """
    start, end = as_point_pair(x, y)
    shape = tuple(np.shape(x))
    times = as_tensor(t, "t").to(start)
    if times.ndim > 1 or bool(((times < 0) | (times > 1)).any()):
        raise ValueError(f"t must be one time in [0, 1] or a sequence of them, not {t!r}")
    if pairing is None:
        pairing = optimal_assignment(start, end)
    elif len(pairing.permutation) != len(start):
        raise ValueError(f"pairing must be of {len(start)} points, not {len(pairing.permutation)}")
    partner = end[pairing.permutation.to(end.device)]
    return torch.lerp(start, partner, times.reshape(-1, 1, 1)).reshape(*times.shape, *shape)


def _solvable(cloud: Tensor) -> Tensor:
    """Move a cloud to the processor where its device lacks float64."""
    return cloud.cpu() if cloud.device.type == "mps" else cloud


def _largest_advice(cloud: Tensor) -> str:
    free = memory.available(cloud.device)
    if free is None:
        return ""
    largest = math.isqrt(max(0, free - 2**26) // (cloud.element_size() + 1))
    return f", at most about {largest // 100 * 100} of them"


def _centred_unit(cloud: Tensor) -> tuple[Tensor, float]:
    """Centre a cloud and divide it by its root mean square distance from the centre.

    The division keeps products of very large or very small numbers within float32; it does not
    change which pairing is optimal.
    """
    centred = cloud.double() - cloud.mean(0, dtype=torch.float64)
    largest = float(centred.abs().amax())
    if largest == 0:
        return centred.to(cloud.dtype), 1.0
    unit = largest * math.sqrt(float(((centred / largest) ** 2).sum(1).mean()))
    return (centred / unit).to(cloud.dtype), unit


def _pair_matrix(left: Tensor, right: Tensor) -> Tensor:
    with _full_precision(left.device):
        matrix = left @ right.T
    half = matrix.diagonal() / 2
    return matrix.neg_().add_(half[:, None]).add_(half)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply in true float32, whatever shortcuts were switched on for training."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _mean_squared_distance(x: Tensor, y: Tensor, permutation: Tensor) -> float:
    total = 0.0
    for rows in torch.arange(len(x), device=x.device).split(1024):
        difference = x[rows].double() - y[permutation[rows]].double()
        total += float((difference**2).sum())
    return total / len(x)
