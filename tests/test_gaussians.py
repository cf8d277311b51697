"""Closed-form transport: against samples, linear programs and known answers."""

from __future__ import annotations

import math

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from geobook.gaussians import (
    AffineMap,
    Gaussian,
    density_interpolation,
    density_wasserstein2,
    fit_gaussian,
    gaussian_interpolation,
    gaussian_optimal_map,
    gaussian_wasserstein2,
    quantile_coupling,
    quantile_interpolation,
    quantile_wasserstein2,
)
from geobook.transport import optimal_assignment, wasserstein2


def draw(dimension: int, seed: int) -> Gaussian:
    random = np.random.default_rng(seed)
    factor = random.standard_normal((dimension, dimension))
    return Gaussian(random.standard_normal(dimension), factor @ factor.T + 0.1 * np.eye(dimension))


PAIRS = settings(derandomize=True, deadline=None, max_examples=25)
DIMENSIONS, SEEDS = st.integers(1, 6), st.integers(0, 10**6)


@PAIRS
@given(DIMENSIONS, SEEDS)
def test_the_optimal_map_is_a_convex_gradient_onto_the_end(dimension, seed):
    start, end = draw(dimension, seed), draw(dimension, seed + 1)
    found = gaussian_optimal_map(start, end)
    pushed = found.push(start)
    assert_allclose(pushed.mean, end.mean, atol=1e-8)
    assert_allclose(pushed.covariance, end.covariance, atol=1e-8 * np.abs(end.covariance).max())
    assert_allclose(found.matrix, found.matrix.T)
    assert np.linalg.eigvalsh(found.matrix)[0] > 0


@PAIRS
@given(DIMENSIONS, SEEDS)
def test_the_distance_is_the_cost_of_the_map_and_symmetric(dimension, seed):
    start, end = draw(dimension, seed), draw(dimension, seed + 1)
    found = gaussian_optimal_map(start, end)
    move = found.matrix - np.eye(dimension)
    cost = np.trace(move @ start.covariance @ move.T) + ((start.mean - end.mean) ** 2).sum()
    distance = gaussian_wasserstein2(start, end)
    assert distance == pytest.approx(math.sqrt(cost), rel=1e-8)
    assert gaussian_wasserstein2(end, start) == pytest.approx(distance, rel=1e-12)


@PAIRS
@given(DIMENSIONS, SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_speed_is_constant(dimension, seed, s, t):
    start, end = draw(dimension, seed), draw(dimension, seed + 1)
    between = [gaussian_interpolation(start, end, time) for time in (s, t)]
    whole = gaussian_wasserstein2(start, end)
    assert gaussian_wasserstein2(*between) == pytest.approx(abs(s - t) * whole, abs=1e-6 * whole)


def test_commuting_covariances_interpolate_their_standard_deviations():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    before, after = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.2, 0.5])
    start = Gaussian(np.zeros(3), turn @ np.diag(before**2) @ turn.T)
    end = Gaussian(np.ones(3), turn @ np.diag(after**2) @ turn.T)
    assert gaussian_wasserstein2(start, end) == pytest.approx(
        math.sqrt(3 + ((before - after) ** 2).sum()), rel=1e-12
    )
    middle = gaussian_interpolation(start, end, 0.25)
    assert_allclose(middle.mean, 0.25)
    deviations = 0.75 * before + 0.25 * after
    assert_allclose(middle.covariance, turn @ np.diag(deviations**2) @ turn.T, atol=1e-12)


def test_agrees_with_pot():
    start, end = draw(4, 7), draw(4, 8)
    by_pot = ot.gaussian.bures_wasserstein_distance(
        start.mean, end.mean, start.covariance, end.covariance
    )
    assert gaussian_wasserstein2(start, end) == pytest.approx(float(by_pot), rel=1e-9)


def test_the_map_is_the_optimal_pairing_of_a_sample():
    start, end = draw(2, 3), draw(2, 4)
    x = start.sample(400, seed=1)
    assert optimal_assignment(x, gaussian_optimal_map(start, end)(x)).certified_identity


def test_the_distance_is_what_samples_show():
    start, end = Gaussian([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]]), Gaussian([3.0, 1.0], 2.0)
    sampled = wasserstein2(start.sample(800, seed=0), end.sample(800, seed=1))
    assert sampled == pytest.approx(gaussian_wasserstein2(start, end), rel=0.05)


def test_the_interpolation_is_that_of_the_points():
    start, end, t = draw(2, 3), draw(2, 4), 0.3
    x = start.sample(5000, seed=2)
    moved = (1 - t) * x + t * gaussian_optimal_map(start, end)(x)
    middle, fitted = gaussian_interpolation(start, end, t), fit_gaussian(moved)
    exact = gaussian_optimal_map(start, end).partial(t).push(fit_gaussian(x))
    assert_allclose(fitted.covariance, exact.covariance, rtol=1e-10)
    assert gaussian_wasserstein2(fitted, middle) < 0.05 * gaussian_wasserstein2(start, end)


def test_a_point_mass_has_a_distance_but_no_map():
    point, wide = Gaussian([1.0, 0.0], 0.0), Gaussian([0.0, 0.0], 1.0)
    assert gaussian_wasserstein2(point, wide) == pytest.approx(math.sqrt(3))
    assert gaussian_wasserstein2(point, point) == 0
    assert_allclose(gaussian_optimal_map(wide, point)([[5.0, 5.0]]), [[1.0, 0.0]])
    with pytest.raises(ValueError, match="covariance of start must be positive definite"):
        gaussian_optimal_map(point, wide)
    with pytest.raises(ValueError, match="positive definite for a density"):
        point.density([[0.0, 0.0]])


def test_the_density_integrates_to_one():
    axis = np.linspace(-8, 8, 161)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    gaussian = Gaussian([0.5, -1.0], [[1.0, 0.4], [0.4, 0.6]])
    density = gaussian.density(grid)
    assert density.shape == (161, 161)
    assert density.sum() * 0.01 == pytest.approx(1, rel=1e-10)
    mean = (density[..., None] * grid).sum((0, 1)) * 0.01
    assert_allclose(mean, gaussian.mean, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0]], 1.0), "mean must have shape"),
        (([0.0, 0.0], [[1.0]]), "covariance must have shape"),
        (([0.0, 0.0], [[1.0, 1.0], [0.0, 1.0]]), "covariance must be symmetric"),
        (([0.0, 0.0], [[1.0, 0.0], [0.0, -1.0]]), "no negative eigenvalue"),
        (([math.nan], 1.0), "mean must be finite"),
    ],
)
def test_bad_gaussians_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(*arguments)


def test_bad_arguments_are_refused():
    line, plane = Gaussian([0.0], 1.0), Gaussian([0.0, 0.0], 1.0)
    for function in (gaussian_wasserstein2, gaussian_optimal_map):
        with pytest.raises(ValueError, match="same dimension, not 1 and 2"):
            function(line, plane)
    with pytest.raises(ValueError, match=r"t must be a time in \[0, 1\], not 1.5"):
        gaussian_interpolation(line, line, 1.5)
    with pytest.raises(ValueError, match="points must have shape"):
        plane.density([[0.0]])
    with pytest.raises(ValueError, match="shift must have shape"):
        AffineMap([[1.0]], 0.0)
    with pytest.raises(ValueError, match="matrix must have shape"):
        AffineMap([[1.0]], [0.0, 1.0])


@PAIRS
@given(st.integers(1, 8), st.integers(1, 8), SEEDS, st.booleans())
def test_quantiles_cost_what_the_linear_program_costs(n, m, seed, weighted):
    random = np.random.default_rng(seed)
    # Few values, so that they repeat.
    x, y = random.integers(0, 5, n) * 1.0, random.integers(-2, 9, m) * 1.0
    a, b = random.uniform(0.1, 1, n), random.uniform(0.1, 1, m)
    if not weighted:
        a, b = np.ones(n), np.ones(m)
    weights = (a, b) if weighted else (None, None)
    costs = (x[:, None] - y) ** 2
    exact = ot.emd2(a / a.sum(), b / b.sum(), costs)
    assert quantile_wasserstein2(x, y, *weights) ** 2 == pytest.approx(exact, abs=1e-9)
    from_x, to_y, mass = quantile_coupling(x, y, *weights)
    for value in np.unique(x):
        expected = a[x == value].sum() / a.sum()
        assert mass[from_x == value].sum() == pytest.approx(expected, abs=1e-9)
    for value in np.unique(y):
        expected = b[y == value].sum() / b.sum()
        assert mass[to_y == value].sum() == pytest.approx(expected, abs=1e-9)


def test_quantiles_agree_with_the_assignment():
    random = np.random.default_rng(5)
    x, y = random.standard_normal(200), random.exponential(size=200)
    assert quantile_wasserstein2(x, y) == pytest.approx(
        wasserstein2(x[:, None], y[:, None]), rel=1e-9
    )


@pytest.mark.parametrize(("s", "t"), [(0.0, 0.4), (0.2, 0.9), (1.0, 0.5)])
def test_speed_is_constant_on_the_line(s, t):
    random = np.random.default_rng(6)
    x, y = random.standard_normal(40), 3 + random.exponential(size=70)
    (p, a), (q, b) = (quantile_interpolation(x, y, time) for time in (s, t))
    whole = quantile_wasserstein2(x, y)
    assert quantile_wasserstein2(p, q, a, b) == pytest.approx(abs(s - t) * whole, rel=1e-9)


def normal_cells(edges: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    middles = (edges[1:] + edges[:-1]) / 2
    return Gaussian([mean], deviation**2).density(middles[:, None])


def test_densities_of_gaussians_follow_the_closed_form():
    edges = np.linspace(-6, 9, 1501)
    start, end = normal_cells(edges, 0, 1), normal_cells(edges, 3, 0.5)
    assert density_wasserstein2(edges, start, end) == pytest.approx(math.sqrt(9.25), rel=1e-4)
    middle = density_interpolation(edges, start, end, 0.5)
    assert middle @ np.diff(edges) == pytest.approx(1, abs=1e-12)
    assert np.abs(middle - normal_cells(edges, 1.5, 0.75)).max() < 1e-3


def test_densities_with_gaps_and_uneven_cells():
    edges = np.array([0.0, 1.0, 3.0, 4.0, 6.0])
    start, end = [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]
    # [0,1] and [3,4] of mass 1/2 each are stretched onto [1,3] and [4,6].
    exact = 0.5 * sum(np.polyval(np.polyint([1, 2, 1]), 1) for _ in range(2))
    assert density_wasserstein2(edges, start, end) == pytest.approx(math.sqrt(exact), rel=1e-12)
    assert_allclose(density_interpolation(edges, start, end, 0.0), [0.5, 0, 0.5, 0], atol=1e-12)
    assert_allclose(density_interpolation(edges, start, end, 1.0), [0, 0.25, 0, 0.25], atol=1e-12)
    # Half way: [0.5, 2] and [3.5, 5], of density 1/3.
    assert_allclose(
        density_interpolation(edges, start, end, 0.5), [1 / 6, 1 / 6, 1 / 6, 1 / 6], atol=1e-12
    )


@PAIRS
@given(st.integers(1, 12), SEEDS)
def test_densities_cost_what_fine_samples_cost(cells, seed):
    random = np.random.default_rng(seed)
    edges = np.append(0.0, random.uniform(0.1, 1, cells).cumsum())
    start, end = (np.maximum(random.uniform(-0.5, 1, cells), 0) for _ in range(2))
    start[0], end[-1] = 0.5, 0.5
    mass = [density * np.diff(edges) for density in (start, end)]
    parts = (np.arange(200) + 0.5) / 200
    points = (edges[:-1, None] + parts * np.diff(edges)[:, None]).ravel()
    weights = [np.repeat(m, 200) for m in mass]
    # The sample's points are within half a part of what they stand for.
    sampled = quantile_wasserstein2(
        points[weights[0] > 0],
        points[weights[1] > 0],
        weights[0][weights[0] > 0],
        weights[1][weights[1] > 0],
    )
    assert density_wasserstein2(edges, start, end) == pytest.approx(sampled, abs=0.01)
    for t in (0.0, 0.3, 1.0):
        middle = density_interpolation(edges, start, end, t)
        assert middle.min() >= 0
        assert middle @ np.diff(edges) == pytest.approx(1, abs=1e-12)
    assert_allclose(density_interpolation(edges, start, end, 0.0), start / mass[0].sum(), atol=1e-9)


def test_bad_samples_and_densities_are_refused():
    with pytest.raises(ValueError, match="x must have shape"):
        quantile_wasserstein2([], [1.0])
    with pytest.raises(ValueError, match="y_weights must be 1 numbers above 0"):
        quantile_wasserstein2([1.0], [1.0], None, [0.0])
    with pytest.raises(ValueError, match="t must be a time"):
        quantile_interpolation([1.0], [1.0], -0.1)
    with pytest.raises(ValueError, match="edges must be at least two growing numbers"):
        density_wasserstein2([0.0, 0.0], [1.0], [1.0])
    with pytest.raises(ValueError, match="start must have shape"):
        density_wasserstein2([0.0, 1.0], [1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="end must be non-negative"):
        density_wasserstein2([0.0, 1.0], [1.0], [0.0])
