"""Least kinetic energy: closed forms, POT, constraints to rounding, operators, refusals."""

from __future__ import annotations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize

from geobook import dynamic as module
from geobook import memory
from geobook.dynamic import (
    NotConverged,
    Staggered,
    StaggeredGrid,
    benamou_brenier,
    kinetic_prox,
)


def centres(cells: int) -> np.ndarray:
    return (np.arange(cells) + 0.5) / cells


def gaussian(shape: tuple[int, int], mean: tuple[float, float], width: float) -> np.ndarray:
    x, y = (centres(cells) for cells in shape)
    squares = (x[:, None] - mean[0]) ** 2 + (y - mean[1]) ** 2
    density = np.exp(-squares / (2 * width**2))
    return density / density.sum()


def smooth(shape: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    wavy = gaussian_filter(noise, [cells / 6 for cells in shape], mode="reflect")
    density = np.exp(wavy / wavy.std())
    return density / density.sum()


def exact_cost(mu0: np.ndarray, mu1: np.ndarray) -> float:
    x, y = np.meshgrid(*(centres(cells) for cells in mu0.shape), indexing="ij")
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    return float(ot.emd2(mu0.ravel(), mu1.ravel(), ot.dist(places, places)))


def random_flow(grid: StaggeredGrid, seed: int) -> Staggered:
    random = np.random.default_rng(seed)
    return Staggered(*(random.standard_normal(part.shape) for part in grid.zeros()))


def inner(left, right) -> float:
    return sum(float((a * b).sum()) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def translated():
    pair = gaussian((64, 64), (0.3, 0.35), 0.08), gaussian((64, 64), (0.65, 0.6), 0.08)
    return benamou_brenier(*pair, time_steps=32)


@pytest.mark.parametrize("shape", [(32, 32), (24, 36)])
def test_a_translation_costs_its_squared_length(shape):
    flow = benamou_brenier(
        gaussian(shape, (0.35, 0.4), 0.08), gaussian(shape, (0.65, 0.6), 0.08), time_steps=12
    )
    assert flow.energy == pytest.approx(0.3**2 + 0.2**2, rel=0.01)


def test_a_translation_at_full_size(translated):
    assert translated.energy == pytest.approx(0.35**2 + 0.25**2, rel=0.01)
    assert translated.wasserstein2 == pytest.approx(np.hypot(0.35, 0.25), rel=0.005)


def test_a_scaling_at_full_size():
    flow = benamou_brenier(
        gaussian((64, 64), (0.5, 0.5), 0.06), gaussian((64, 64), (0.5, 0.5), 0.11), time_steps=32
    )
    assert flow.energy == pytest.approx(2 * 0.05**2, rel=0.01)  # Bures: (s1 - s0)^2 per axis


def test_the_velocity_of_a_translation_is_constant(translated):
    velocity = translated.velocity(floor=0.5)
    moving = np.broadcast_to(np.any(velocity != 0, axis=1, keepdims=True), velocity.shape)
    along_x, along_y = (velocity[:, axis][moving[:, axis]] for axis in (0, 1))
    assert len(along_x) > 1000
    assert np.abs(along_x - 0.35).mean() < 0.02
    assert np.abs(along_y - 0.25).mean() < 0.02


def test_the_middle_of_a_translation_is_half_way(translated):
    times, path = translated.path()
    x = centres(64)
    mean_x = (path * x[:, None]).sum((1, 2)) / path.sum((1, 2))
    assert times[0] == 0
    assert times[-1] == 1
    assert np.all(np.diff(times) > 0)
    np.testing.assert_allclose(mean_x, 0.3 + 0.35 * times, atol=2e-3)


def test_energy_is_that_of_the_returned_fields(translated):
    speed = (translated.velocity() ** 2).sum(1)
    cell = translated.spacing[0] * translated.spacing[1]
    energy = (speed * translated.density).sum() * cell / len(translated.times)
    assert energy == pytest.approx(translated.energy, rel=1e-12)
    assert translated.history.energy[-1] == pytest.approx(translated.energy, rel=1e-12)


def test_mass_and_continuity_hold_to_rounding(translated):
    cell = translated.spacing[0] * translated.spacing[1]
    staggered = translated.staggered
    np.testing.assert_allclose(staggered.density.sum((1, 2)) * cell, 1, atol=1e-12)
    assert translated.continuity_residual < 1e-9
    grid = StaggeredGrid(translated.density.shape, translated.spacing)
    assert np.abs(grid.divergence(staggered)).max() < 1e-9
    assert np.all(staggered.momentum_x[:, [0, -1]] == 0)
    assert np.all(staggered.momentum_y[:, :, [0, -1]] == 0)
    np.testing.assert_array_equal(staggered.density[0], translated.start)
    np.testing.assert_array_equal(staggered.density[-1], translated.end)


def test_the_density_is_never_negative_and_near_mass_one(translated):
    assert translated.density.min() == 0  # the corners stay empty
    mass = translated.density.sum((1, 2)) / 64**2
    np.testing.assert_allclose(mass, 1, atol=3e-3)
    assert np.all(translated.momentum[:, 0][translated.density == 0] == 0)


def test_the_history_tells_why_it_stopped(translated):
    history = translated.history
    assert translated.converged
    assert history.iteration[-1] == translated.iterations
    assert max(history.distance[-1], history.step[-1], 10 * history.energy_change[-1]) <= 1e-3
    unfinished = np.max([history.distance, history.step, 10 * history.energy_change], axis=0)
    assert np.all(unfinished[:-1] > 1e-3)
    assert np.all(np.diff(history.seconds) > 0)


def grid_error(cells: int, seed: int) -> float:
    mu0, mu1 = smooth((cells, cells), seed), smooth((cells, cells), seed + 100)
    flow = benamou_brenier(mu0, mu1, time_steps=cells, tolerance=1e-4, max_iterations=5000)
    return abs(flow.energy / exact_cost(mu0, mu1) - 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_pot_within_the_error_of_the_grid(seed):
    assert grid_error(12, seed) < 0.12
    assert grid_error(16, seed) < 0.08


def spots(cells: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (cells, cells)
    mu0 = gaussian(shape, (0.3, 0.3), 0.1) + gaussian(shape, (0.7, 0.4), 0.12)
    return mu0 / 2, gaussian(shape, (0.5, 0.65), 0.12)


def test_the_error_of_the_grid_shrinks():
    errors = []
    for cells in (8, 16, 24):
        mu0, mu1 = spots(cells)
        flow = benamou_brenier(mu0, mu1, time_steps=cells, tolerance=1e-4, max_iterations=5000)
        errors.append(abs(flow.energy / exact_cost(mu0, mu1) - 1))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_exchanging_the_ends_runs_the_flow_backwards():
    mu0, mu1 = smooth((14, 10), 3), smooth((14, 10), 4)
    there, back = (benamou_brenier(*pair, time_steps=8) for pair in ((mu0, mu1), (mu1, mu0)))
    assert there.energy == pytest.approx(back.energy, rel=1e-8)
    np.testing.assert_allclose(there.density, back.density[::-1], atol=1e-7)
    np.testing.assert_allclose(there.momentum, -back.momentum[::-1], atol=1e-7)


def test_transposing_the_densities_transposes_the_flow():
    mu0, mu1 = smooth((14, 10), 3), smooth((14, 10), 4)
    flow = benamou_brenier(mu0, mu1, time_steps=8, spacing=(0.1, 0.05))
    other = benamou_brenier(mu0.T, mu1.T, time_steps=8, spacing=(0.05, 0.1))
    np.testing.assert_allclose(other.density, flow.density.transpose(0, 2, 1), atol=1e-6)
    np.testing.assert_allclose(
        other.momentum, flow.momentum[:, ::-1].transpose(0, 1, 3, 2), atol=1e-6
    )


def test_lengths_and_masses_scale():
    mu0, mu1 = smooth((12, 12), 5), smooth((12, 12), 6)
    unit = benamou_brenier(mu0, mu1, time_steps=6)
    wide = benamou_brenier(7 * mu0, 7 * mu1, time_steps=6, spacing=10 / 12)
    assert wide.energy == pytest.approx(100 * unit.energy, rel=1e-9)
    assert wide.start.sum() * (10 / 12) ** 2 == pytest.approx(1)
    np.testing.assert_allclose(wide.velocity(), 10 * unit.velocity(), atol=1e-6)


def test_nothing_moves_between_equal_densities():
    density = smooth((10, 12), 7)
    flow = benamou_brenier(density, density, time_steps=4)
    assert flow.converged
    assert flow.energy < 1e-20
    np.testing.assert_allclose(flow.density, np.broadcast_to(flow.start, (4, 10, 12)), rtol=1e-9)


def test_sigma_does_not_change_where_it_ends():
    mu0, mu1 = smooth((12, 12), 8), smooth((12, 12), 9)
    runs = [
        benamou_brenier(
            mu0, mu1, time_steps=8, sigma=s, relaxation=r, tolerance=1e-5, max_iterations=9000
        )
        for s, r in ((0.3, 1.0), (1.0, 1.8), (None, 1.5))
    ]
    for flow in runs[1:]:
        assert flow.energy == pytest.approx(runs[0].energy, rel=1e-4)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(-8, 8), st.sampled_from([0.05, 0.3, 1.0, 4.0]))
def test_prox_is_that_of_scipy(density, momentum_x, momentum_y, weight):
    given_point = np.array([density, momentum_x, momentum_y])

    def objective(point):
        f, u, w = point
        return weight * (u * u + w * w) / (2 * f) + ((point - given_point) ** 2).sum() / 2

    found = kinetic_prox(given_point[:, None], weight)[:, 0]
    at_zero = (given_point**2).sum() / 2
    ours = objective(found) if found[0] > 0 else at_zero
    starts = [(1.0, 0.1, 0.1), (abs(density) + 0.5, momentum_x, momentum_y)]
    bounds = [(1e-10, 60), (-60, 60), (-60, 60)]
    theirs = min(
        minimize(objective, s, bounds=bounds, method="L-BFGS-B", tol=1e-14).fun for s in starts
    )
    assert ours <= min(theirs, at_zero) + 1e-9 * (1 + at_zero)
    assert found[0] >= 0


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1e-3, 0.1, 2.5, 40.0]))
def test_prox_solves_its_cubic(seed, weight):
    # Large negative densities included: there the cubic has three real roots.
    centred = np.random.default_rng(seed).standard_normal((3, 500)) * [[10], [20], [20]]
    density, momentum_x, momentum_y = kinetic_prox(centred, weight)
    half = (centred[1] ** 2 + centred[2] ** 2) / 2
    empty = centred[0] * weight <= -half
    assert np.all(density[empty] == 0)
    root = density + weight
    residual = root**2 * (density - centred[0]) - weight * half
    size = root**2 * (density + np.abs(centred[0])) + weight * half
    assert np.all(np.abs(residual[~empty]) <= 1e-12 * size[~empty])
    np.testing.assert_allclose(momentum_x, centred[1] * density / root, atol=1e-12)
    np.testing.assert_allclose(momentum_y, centred[2] * density / root, atol=1e-12)


def test_prox_does_not_depend_on_its_pieces(monkeypatch):
    centred = np.random.default_rng(0).standard_normal((3, 4, 5, 6))
    whole = kinetic_prox(centred, 0.7)
    monkeypatch.setattr(module, "_PIECE", 7)
    np.testing.assert_allclose(kinetic_prox(centred, 0.7), whole, rtol=1e-14, atol=1e-15)


SHAPES = pytest.mark.parametrize("shape", [(4, 6, 5), (7, 3, 8), (2, 2, 2)])


@SHAPES
def test_interpolation_and_its_adjoint(shape):
    grid = StaggeredGrid(shape, (0.3, 0.2))
    flow, result = random_flow(grid, 0), grid.zeros()
    centred = np.random.default_rng(1).standard_normal((3, *shape))
    grid.subtract_adjoint(centred, result)
    left = float((grid.interpolate(flow) * centred).sum())
    assert left == pytest.approx(-inner(flow, result), rel=1e-12)


@SHAPES
def test_projection(shape):
    grid = StaggeredGrid(shape, (0.3, 0.2))
    start, end = smooth(shape[1:], 0), smooth(shape[1:], 1)
    flow = random_flow(grid, 2)
    given_flow = Staggered(*(part.copy() for part in flow))
    grid.project(flow, start, end)
    assert np.abs(grid.divergence(flow)).max() < 1e-11
    once = Staggered(*(part.copy() for part in flow))
    grid.project(flow, start, end)
    for first, second in zip(once, flow, strict=True):
        np.testing.assert_allclose(second, first, atol=1e-12)
    # Nearest: the way there is orthogonal to all that stays within the constraints.
    other = random_flow(grid, 3)
    grid.project(other, start, end)
    within = [a - b for a, b in zip(other, once, strict=True)]
    way = [a - b for a, b in zip(given_flow, once, strict=True)]
    assert inner(within, way) == pytest.approx(0, abs=1e-10)


def test_poisson_inverts_the_negative_laplacian():
    grid = StaggeredGrid((4, 5, 6), (0.3, 0.2))
    source = np.random.default_rng(0).standard_normal((4, 5, 6))
    source -= source.mean()
    potential = grid.poisson(source.copy()).copy()
    gradient = grid.zeros()
    gradient.density[1:-1] = np.diff(potential, axis=0) * 4
    gradient.momentum_x[:, 1:-1] = np.diff(potential, axis=1) / 0.3
    gradient.momentum_y[:, :, 1:-1] = np.diff(potential, axis=2) / 0.2
    np.testing.assert_allclose(-grid.divergence(gradient), source, atol=1e-11)
    assert potential.mean() == pytest.approx(0, abs=1e-14)


def test_giving_up_is_not_silent():
    pair = smooth((8, 8), 0), smooth((8, 8), 1)
    with pytest.raises(NotConverged, match=r"no convergence to tolerance 0\.001 in 7") as caught:
        benamou_brenier(*pair, time_steps=4, max_iterations=7)
    assert not caught.value.result.converged
    assert caught.value.result.iterations == 7
    with pytest.warns(UserWarning, match="no convergence"):
        flow = benamou_brenier(*pair, time_steps=4, max_iterations=7, unconverged="warn")
    assert not flow.converged
    np.testing.assert_array_equal(flow.history.iteration, [5, 7])


def test_progress_is_shown(capsys):
    pair = smooth((8, 8), 0), smooth((8, 8), 1)
    benamou_brenier(*pair, time_steps=4, tolerance=1e-2, progress=True)
    assert "least energy" in capsys.readouterr().err


def test_one_axis_alone_is_transport_on_a_line():
    shape = (48, 2)
    mu0, mu1 = gaussian(shape, (0.35, 0.5), 0.08), gaussian(shape, (0.6, 0.5), 0.08)
    flow = benamou_brenier(mu0, mu1, time_steps=12)
    assert flow.energy == pytest.approx(0.25**2, rel=0.01)
    assert np.abs(flow.momentum[:, 1]).max() < 1e-9


def test_results_convert_from_other_number_types():
    mu0, mu1 = np.arange(16).reshape(4, 4), np.arange(16)[::-1].reshape(4, 4)
    whole = benamou_brenier(mu0, mu1, time_steps=3)
    single = benamou_brenier(mu0.astype(np.float32), mu1.tolist(), time_steps=3)
    assert single.energy == pytest.approx(whole.energy, rel=1e-6)
    assert single.density.dtype == np.float64


GOOD = np.ones((4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mu0": np.ones(4)}, r"mu0 must have shape \(nx, ny\).*not \(4,\)"),
        ({"mu1": np.ones((1, 4))}, "mu1 must have shape"),
        ({"mu1": np.ones((4, 5))}, r"same shape, not \(4, 4\), \(4, 5\)"),
        ({"mu0": -GOOD}, "mu0 must not be negative, but its least value is -1"),
        ({"mu1": 0 * GOOD}, "mu1 must hold some mass"),
        ({"mu0": np.nan * GOOD}, "mu0 must be finite"),
        ({"mu1": 2 * GOOD}, "same mass, but their sums are 16 and 32"),
        ({"time_steps": 1}, "time_steps must be a whole number of at least 2"),
        ({"spacing": (1, 2, 3)}, "spacing must be one width or a pair"),
        ({"spacing": 0}, "spacing must be a finite number above 0"),
        ({"tolerance": 0}, "tolerance must be"),
        ({"max_iterations": 0}, "max_iterations must be"),
        ({"check_every": 0}, "check_every must be"),
        ({"sigma": -1}, "sigma must be"),
        ({"relaxation": 2}, "relaxation must be above 0 and below 2"),
        ({"unconverged": "ignore"}, "unconverged must be one of 'raise', 'warn'"),
    ],
)
def test_bad_input_is_refused(changes, message):
    arguments = {"mu0": GOOD, "mu1": GOOD, **changes}
    with pytest.raises(ValueError, match=message):
        benamou_brenier(arguments.pop("mu0"), arguments.pop("mu1"), **arguments)


def test_a_negative_floor_is_refused():
    flow = benamou_brenier(GOOD, GOOD, time_steps=2)
    with pytest.raises(ValueError, match="floor must be"):
        flow.velocity(floor=-1)


def test_too_large_a_grid_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    with pytest.raises(MemoryError, match="a grid of 32 x 4 x 4 cells"):
        benamou_brenier(GOOD, GOOD)
