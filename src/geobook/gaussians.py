"""Optimal transport in closed form: between Gaussians, and on the line.

Between Gaussians N(m0, S0) and N(m1, S1) the optimal map is affine, and the distance splits into
that of the means and the Bures distance of the covariances:

    W2^2 = |m0 - m1|^2 + tr S0 + tr S1 - 2 tr (S0^1/2 S1 S0^1/2)^1/2,
    T(x) = m1 + A (x - m0),   A = S0^-1/2 (S0^1/2 S1 S0^1/2)^1/2 S0^-1/2.

On the line the optimal coupling is the monotone one: it pairs the quantiles. Sources: Dowson and
Landau (1982) and Olkin and Pukelsheim (1982) for the Gaussians; Santambrogio, Optimal Transport
for Applied Mathematicians (2015), chapter 2, for the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from geobook.validation import Points, as_points, as_tensor, count

Array = np.ndarray

# Asymmetry and negative eigenvalues below this, relative to the largest entry, are rounding.
_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution on R^d.

    Parameters
    ----------
    mean : array, shape (d,)
    covariance : array, shape (d, d)
        Symmetric and positive semidefinite; a number stands for that multiple of the identity.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the covariance is not symmetric or not positive semidefinite.

    Examples
    --------
    >>> Gaussian([0.0, 1.0], 4.0).covariance
    array([[4., 0.],
           [0., 4.]])
    """

    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        mean, covariance = _numbers(self.mean, "mean"), _numbers(self.covariance, "covariance")
        if mean.ndim != 1 or not mean.size:
            raise ValueError(f"mean must have shape (dimension,), not {mean.shape}")
        if covariance.ndim == 0:
            covariance = covariance * np.eye(mean.size)
        _check_square(covariance, "covariance", mean.size)
        _check_semidefinite(covariance, "covariance")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def dimension(self) -> int:
        """Dimension d of the space."""
        return self.mean.size

    def density(self, points: Points) -> Array:
        """Return the density at points (..., d), shape (...).

        Raises
        ------
        ValueError
            If the points have another dimension, or the covariance is singular.
        """
        at = _numbers(points, "points")
        if at.ndim < 1 or at.shape[-1] != self.dimension:
            raise ValueError(f"points must have shape (..., {self.dimension}), not {at.shape}")
        values, vectors = np.linalg.eigh(self.covariance)
        if values[0] <= _ROUNDING * values[-1]:
            raise ValueError("covariance must be positive definite for a density, not singular")
        whitened = (at - self.mean) @ (vectors / np.sqrt(values))
        # exp of less than this is denormal, which is slow to reckon with and means zero
        exponent = np.maximum(-0.5 * (whitened**2).sum(-1), -700.0)
        return np.exp(exponent) / np.sqrt((2 * math.pi) ** self.dimension * values.prod())

    def sample(self, points: int, seed: int = 0) -> Array:
        """Draw points, shape (points, d)."""
        random = np.random.default_rng(count(seed, "seed", 0))
        normal = random.standard_normal((count(points, "points"), self.dimension))
        return self.mean + normal @ _root(self.covariance)


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The map x -> matrix x + shift.

    Parameters
    ----------
    matrix : array, shape (d, d)
    shift : array, shape (d,)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """

    matrix: Array
    shift: Array

    def __post_init__(self) -> None:
        matrix, shift = _numbers(self.matrix, "matrix"), _numbers(self.shift, "shift")
        if shift.ndim != 1:
            raise ValueError(f"shift must have shape (dimension,), not {shift.shape}")
        _check_square(matrix, "matrix", shift.size)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "shift", shift)

    def __call__(self, points: Array) -> Array:
        """Return the images of points (..., d)."""
        return np.asarray(points) @ self.matrix.T + self.shift

    def partial(self, t: float) -> AffineMap:
        """Return the map (1 - t) Id + t T of displacement interpolation (eq. (5))."""
        rest = (1 - t) * np.eye(self.shift.size)
        return AffineMap(rest + t * self.matrix, t * self.shift)

    def push(self, gaussian: Gaussian) -> Gaussian:
        """Return the push-forward of a Gaussian."""
        return Gaussian(self(gaussian.mean), self.matrix @ gaussian.covariance @ self.matrix.T)


def fit_gaussian(points: Points) -> Gaussian:
    """Gaussian with the mean and covariance (divided by n) of a cloud (n, ...).

    Raises
    ------
    ValueError
        If there are fewer than two points.
    """
    cloud = as_points(points, "points").double().cpu().numpy()
    centred = cloud - cloud.mean(0)
    return Gaussian(cloud.mean(0), centred.T @ centred / len(cloud))


def gaussian_wasserstein2(start: Gaussian, end: Gaussian) -> float:
    """Wasserstein distance W2 of two Gaussians, singular ones included.

    Parameters
    ----------
    start, end : Gaussian
        Of one dimension.

    Returns
    -------
    float
        In the unit of the space.

    Raises
    ------
    ValueError
        If the dimensions differ.

    Examples
    --------
    >>> round(gaussian_wasserstein2(Gaussian([0.0], 1.0), Gaussian([3.0], 25.0)), 6)
    5.0
    """
    _check_dimensions(start, end)
    # The nuclear norm of S0^1/2 S1^1/2 is tr (S0^1/2 S1 S0^1/2)^1/2, without a root of rounding.
    first, second = _root(start.covariance), _root(end.covariance)
    overlap = np.linalg.svd(first @ second, compute_uv=False).sum()
    bures = np.trace(start.covariance) + np.trace(end.covariance) - 2 * overlap
    return math.sqrt(((start.mean - end.mean) ** 2).sum() + max(0.0, float(bures)))


def gaussian_optimal_map(start: Gaussian, end: Gaussian) -> AffineMap:
    """Optimal map from one Gaussian to another: the gradient of a convex quadratic function.

    Parameters
    ----------
    start, end : Gaussian
        Of one dimension; the covariance of `start` must be invertible.

    Returns
    -------
    AffineMap
        With a symmetric, positive semidefinite matrix.

    Raises
    ------
    ValueError
        If the dimensions differ, or no map exists because `start` is degenerate.
    """
    _check_dimensions(start, end)
    values, vectors = np.linalg.eigh(start.covariance)
    if values[0] <= _ROUNDING * values[-1]:
        raise ValueError(
            "the covariance of start must be positive definite for a map to exist, "
            f"not singular (eigenvalues {values[0]:.3g} to {values[-1]:.3g})"
        )
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    matrix = inverse @ _root(root @ end.covariance @ root) @ inverse
    matrix = (matrix + matrix.T) / 2
    return AffineMap(matrix, end.mean - matrix @ start.mean)


def gaussian_interpolation(start: Gaussian, end: Gaussian, t: float) -> Gaussian:
    """Gaussian at time t of the Wasserstein geodesic (McCann; the paper's eq. (5)).

    Mean and covariance are ``(1 - t) m0 + t m1`` and ``M S0 M`` with ``M = (1 - t) Id + t A``.
    The speed is constant (eq. (4)).

    Parameters
    ----------
    start, end : Gaussian
        Of one dimension; the covariance of `start` must be invertible.
    t : float
        Time in [0, 1].

    Raises
    ------
    ValueError
        If t lies outside [0, 1]; and as `gaussian_optimal_map`.
    """
    return gaussian_optimal_map(start, end).partial(_time(t)).push(start)


def quantile_coupling(
    x: ArrayLike,
    y: ArrayLike,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> tuple[Array, Array, Array]:
    """Pair two samples on the line by their quantiles: the optimal plan in one dimension.

    Parameters
    ----------
    x, y : array, shape (n,) and (m,)
        Samples, in any order, of any two sizes.
    x_weights, y_weights : array, optional
        Their weights, positive; equal by default. Each are divided by their sum.

    Returns
    -------
    from_x, to_y, weights : array, shape (pieces,)
        Masses of the plan, in the order of growing x and y; at most n + m - 1 pieces.

    Raises
    ------
    ValueError
        If a sample is empty or not one-dimensional, or a weight is not positive.

    Examples
    --------
    >>> quantile_coupling([2.0, 0.0], [5.0])
    (array([0., 2.]), array([5., 5.]), array([0.5, 0.5]))
    """
    x_sorted, x_levels = _sorted_levels(x, x_weights, "x")
    y_sorted, y_levels = _sorted_levels(y, y_weights, "y")
    levels, middles = _merged_levels(x_levels, y_levels)
    from_x = x_sorted[np.searchsorted(x_levels[1:-1], middles)]
    return from_x, y_sorted[np.searchsorted(y_levels[1:-1], middles)], np.diff(levels)


def quantile_wasserstein2(
    x: ArrayLike,
    y: ArrayLike,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> float:
    """Wasserstein distance W2 of two samples on the line, by sorting.

    Parameters and errors are those of `quantile_coupling`.

    Examples
    --------
    >>> quantile_wasserstein2([0.0, 1.0], [4.0, 3.0])
    3.0
    """
    from_x, to_y, weights = quantile_coupling(x, y, x_weights, y_weights)
    return math.sqrt(float(weights @ (to_y - from_x) ** 2))


def quantile_interpolation(
    x: ArrayLike,
    y: ArrayLike,
    t: float,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Weighted sample at time t of the Wasserstein geodesic on the line (eq. (5)).

    Parameters
    ----------
    x, y, x_weights, y_weights
        As `quantile_coupling`.
    t : float
        Time in [0, 1].

    Returns
    -------
    positions, weights : array, shape (pieces,)
        In growing order.

    Raises
    ------
    ValueError
        If t lies outside [0, 1]; and as `quantile_coupling`.
    """
    time = _time(t)
    from_x, to_y, weights = quantile_coupling(x, y, x_weights, y_weights)
    return (1 - time) * from_x + time * to_y, weights


def density_wasserstein2(edges: ArrayLike, start: ArrayLike, end: ArrayLike) -> float:
    """Wasserstein distance W2 of two densities on the line, exact for piecewise constant ones.

    Parameters
    ----------
    edges : array, shape (cells + 1,)
        Growing ends of the cells on which the densities are constant.
    start, end : array, shape (cells,)
        Non-negative densities; each is divided by its integral.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes do not fit, the edges do not grow, or a density is negative somewhere or
        zero throughout.

    Examples
    --------
    >>> density_wasserstein2([0.0, 1.0, 2.0], [1.0, 0.0], [0.0, 1.0])
    1.0
    """
    pieces = _density_pieces(edges, start, end)
    low = pieces.end_low - pieces.start_low
    high = pieces.end_high - pieces.start_high
    return math.sqrt(float(pieces.mass @ (low**2 + low * high + high**2)) / 3)


def density_interpolation(edges: ArrayLike, start: ArrayLike, end: ArrayLike, t: float) -> Array:
    """Density at time t of the Wasserstein geodesic on the line (eq. (5)), on the same cells.

    Parameters
    ----------
    edges, start, end
        As `density_wasserstein2`.
    t : float
        Time in [0, 1].

    Returns
    -------
    array, shape (cells,)
        Exact means over the cells, of integral 1.

    Raises
    ------
    ValueError
        If t lies outside [0, 1]; and as `density_wasserstein2`.
    """
    time, pieces = _time(t), _density_pieces(edges, start, end)
    low = (1 - time) * pieces.start_low + time * pieces.end_low
    high = (1 - time) * pieces.start_high + time * pieces.end_high
    levels = np.append(0.0, pieces.mass.cumsum())
    places = np.stack([low, high], 1).ravel()
    masses = np.stack([levels[:-1], levels[1:]], 1).ravel()
    ends = _numbers(edges, "edges")
    # Rounding may put two ends of neighbouring pieces in the wrong order.
    below = np.interp(ends, np.maximum.accumulate(places), masses, left=0.0, right=levels[-1])
    # All mass lies within the edges, whatever rounding says of the outermost places.
    below[0], below[-1] = 0.0, levels[-1]
    return np.diff(below) / np.diff(ends) / levels[-1]


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Pieces of mass over which both quantile functions are linear, and their ends."""

    mass: Array
    start_low: Array
    start_high: Array
    end_low: Array
    end_high: Array


def _density_pieces(edges: ArrayLike, start: ArrayLike, end: ArrayLike) -> _Pieces:
    ends = _numbers(edges, "edges")
    if ends.ndim != 1 or ends.size < 2 or not (np.diff(ends) > 0).all():
        raise ValueError("edges must be at least two growing numbers")
    first = _cumulative(ends, start, "start")
    second = _cumulative(ends, end, "end")
    levels, middles = _merged_levels(first, second)
    quantiles = [
        _linear_quantile(ends, cumulative, middles, level)
        for cumulative in (first, second)
        for level in (levels[:-1], levels[1:])
    ]
    return _Pieces(np.diff(levels), *quantiles)


def _cumulative(edges: Array, density: ArrayLike, name: str) -> Array:
    values = _numbers(density, name)
    if values.shape != (edges.size - 1,):
        raise ValueError(f"{name} must have shape ({edges.size - 1},), not {values.shape}")
    if (values < 0).any() or not values.any():
        raise ValueError(f"{name} must be non-negative and not zero throughout")
    cumulative = np.append(0.0, (values * np.diff(edges)).cumsum())
    return cumulative / cumulative[-1]


def _merged_levels(first: Array, second: Array) -> tuple[Array, Array]:
    """Return all levels of two cumulative distributions, and the middles between them."""
    levels = np.union1d(first, second)
    # Levels that differ by rounding alone would make a sliver of mass.
    levels = levels[np.append(True, np.diff(levels) > 4 * np.finfo(float).eps)]
    levels[-1] = 1.0
    return levels, (levels[:-1] + levels[1:]) / 2


def _linear_quantile(edges: Array, cumulative: Array, middles: Array, levels: Array) -> Array:
    """Quantiles at levels, by the line that the quantile function follows at the middles."""
    cell = np.searchsorted(cumulative[1:-1], middles)
    low, high = cumulative[cell], cumulative[cell + 1]
    share = np.clip((levels - low) / (high - low), 0.0, 1.0)
    return edges[cell] + share * (edges[cell + 1] - edges[cell])


def _sorted_levels(sample: ArrayLike, weights: ArrayLike | None, name: str) -> tuple[Array, Array]:
    values = _numbers(sample, name)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"{name} must have shape (points,) with a point, not {values.shape}")
    if weights is None:
        return np.sort(values), np.arange(values.size + 1) / values.size
    masses = _numbers(weights, f"{name}_weights")
    if masses.shape != values.shape or not (masses > 0).all():
        raise ValueError(f"{name}_weights must be {values.size} numbers above 0")
    order = np.argsort(values, kind="stable")
    levels = np.append(0.0, masses[order].cumsum())
    return values[order], levels / levels[-1]


def _root(matrix: Array) -> Array:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _time(t: float) -> float:
    if not 0 <= t <= 1:
        raise ValueError(f"t must be a time in [0, 1], not {t!r}")
    return float(t)


def _numbers(value: Points, name: str) -> Array:
    return as_tensor(value, name).double().cpu().numpy().copy()


def _check_dimensions(start: Gaussian, end: Gaussian) -> None:
    if start.dimension != end.dimension:
        raise ValueError(
            f"start and end must have the same dimension, not {start.dimension} and {end.dimension}"
        )


def _check_square(matrix: Array, name: str, size: int) -> None:
    if matrix.shape != (size, size):
        raise ValueError(f"{name} must have shape ({size}, {size}), not {matrix.shape}")


def _check_semidefinite(matrix: Array, name: str) -> None:
    scale = float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > _ROUNDING * scale:
        raise ValueError(f"{name} must be symmetric")
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < -_ROUNDING * scale:
        raise ValueError(f"{name} must have no negative eigenvalue, not {least:.3g}")
