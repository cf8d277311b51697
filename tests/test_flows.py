"""Flows: what fields promise, particles against closed forms, the density against particles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from geobook.flows import (
    LARGEST_COURANT,
    Combination,
    Displacement,
    DoubleGyre,
    Grid,
    Rotation,
    Saddle,
    Shear,
    SourceSink,
    advect,
    density_of_particles,
    displacement_field,
    field_curl,
    field_divergence,
    field_jacobian,
    forward_euler,
    network_field,
    solve_continuity,
)
from geobook.gaussians import AffineMap, Gaussian, gaussian_interpolation, gaussian_optimal_map
from geobook.networks import Architecture, Network, Stage, build
from geobook.tracks import record_tracks

SQUARE = (-1.0, -1.0), (1.0, 1.0)


def cloud(points: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (points, 2))


def plane_network(residual: bool = True, norm: str = "none") -> Network:
    shape = Architecture("plane", (2,), (Stage((2,), 3, hidden=16),), 2, norm=norm, branch_gain=0.5)
    return build(shape, residual=residual, seed=1)


# --- fields -------------------------------------------------------------------------------------


def softened(x: np.ndarray, field: SourceSink) -> np.ndarray:
    parts = [
        2 * field.strength * field.radius**2 / (((x - c) ** 2).sum(1) + field.radius**2) ** 2
        for c in (field.source, field.sink)
    ]
    return parts[0] - parts[1]


SPRING = SourceSink(strength=0.7, radius=0.3)
GEODESIC = displacement_field(Gaussian([0.0, 1.0], [[1.0, 0.3], [0.3, 0.5]]), Gaussian([1, 0], 2.0))


@pytest.mark.parametrize(
    ("field", "divergence", "curl"),
    [
        (Rotation(1.5, (0.2, 0.1)), 0.0, 3.0),
        (Saddle(2.0, (0.1, 0.0)), 0.0, 0.0),
        (Shear(0.5), 0.0, -0.5),
        (SPRING, lambda x: softened(x, SPRING), 0.0),
        (DoubleGyre(0.3, 0.4, 2.0), 0.0, None),
        (GEODESIC, None, 0.0),
        (Combination((Rotation(), Saddle()), (0.5, 2.0)), 0.0, 1.0),
        (Combination((Rotation(), Shear())), 0.0, 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fields_have_the_divergence_and_curl_they_state(field, divergence, curl):
    x = cloud()
    for expected, measured in ((divergence, field_divergence), (curl, field_curl)):
        if expected is not None:
            exact = expected(x) if callable(expected) else expected
            assert_allclose(measured(field, 0.3, x), exact, atol=1e-8)


def test_jacobians_hold_divergence_and_curl():
    x, field = cloud(), DoubleGyre(0.3, 0.4, 2.0)
    jacobian = field_jacobian(field, 0.3, x)
    assert jacobian.shape == (50, 2, 2)
    assert_allclose(np.trace(jacobian, axis1=1, axis2=2), field_divergence(field, 0.3, x))
    assert_allclose(jacobian[:, 1, 0] - jacobian[:, 0, 1], field_curl(field, 0.3, x))
    assert_allclose(field_jacobian(Shear(0.5), 0.0, x)[7], [[0.0, 0.5], [0.0, 0.0]], atol=1e-9)


def test_the_jacobian_of_a_flow_map_is_an_exponential():
    def carried(t, x):
        return advect(Saddle(0.5), x, [0, t])[-1]

    found = field_jacobian(carried, 2.0, cloud(5), step=1e-3)
    assert_allclose(found, np.tile(np.diag([math.e, 1 / math.e]), (5, 1, 1)), atol=1e-5)


def test_the_double_gyre_stays_in_its_box():
    along = np.linspace(0, 2, 21)
    for t in (0.0, 1.3):
        field = DoubleGyre()
        bottom, top = (field(t, np.stack([along, 0 * along + y], 1)) for y in (0.0, 1.0))
        left, right = (field(t, np.stack([0 * along + x, along / 2], 1)) for x in (0.0, 2.0))
        assert np.abs([bottom[:, 1], top[:, 1]]).max() < 1e-15
        assert np.abs([left[:, 0], right[:, 0]]).max() < 1e-15


def test_particles_of_a_geodesic_keep_their_velocity():
    start, end = Gaussian([0.0, 1.0], [[1.0, 0.3], [0.3, 0.5]]), Gaussian([1.0, 0.0], 2.0)
    x, optimal = cloud(), gaussian_optimal_map(start, end)
    field = displacement_field(start, end)
    times = np.linspace(0, 1, 5)
    straight = (1 - times)[:, None, None] * x + times[:, None, None] * optimal(x)
    assert_allclose(advect(field, x, times), straight, atol=1e-8)
    for t, place in zip(times, straight, strict=True):
        assert_allclose(field(t, place), optimal(x) - x, atol=1e-12)


def test_a_map_that_is_not_optimal_has_no_displacement_field():
    with pytest.raises(ValueError, match="symmetric, positive semidefinite"):
        Displacement(AffineMap([[0.0, -1.0], [1.0, 0.0]], [0.0, 0.0]))
    with pytest.raises(ValueError, match="in the plane, not in dimension 1"):
        Displacement(AffineMap([[1.0]], [0.0]))
    collapse = Displacement(AffineMap(np.zeros((2, 2)), [0.0, 0.0]))
    assert_allclose(collapse(0.5, np.array([[0.5, 0.0]])), [[-1.0, 0.0]])
    with pytest.raises(ValueError, match="invertible, which t = 1"):
        collapse(1.0, np.zeros((1, 2)))


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match="radius"):
        SourceSink(radius=0.0)
    with pytest.raises(ValueError, match="at least one field"):
        Combination(())
    with pytest.raises(ValueError, match="weights must be 1 numbers"):
        Combination((Shear(),), (1.0, 2.0))
    with pytest.raises(ValueError, match=r"field must return shape \(50, 2\), not \(2,\)"):
        advect(lambda t, x: x[0], cloud(), [0, 1])
    with pytest.raises(ValueError, match="field must be finite, but it is not at t = 0"):
        forward_euler(lambda t, x: x * math.nan, cloud(), [0, 1])


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["none", "both"])
def test_forward_euler_on_a_network_is_the_network(residual, norm):
    network = plane_network(residual, norm)
    x = torch.from_numpy(cloud()).float()
    network(x)  # in training mode: gives the batch norms statistics of their own
    track = record_tracks(network, x)[0]
    field = network_field(network)
    assert_allclose(forward_euler(field, x, [0, 1, 2, 3]), track, atol=1e-5)
    assert network.training
    assert next(network.parameters()).dtype == torch.float32


def test_the_field_is_the_branch_of_the_block_of_the_time():
    network, x = plane_network(), cloud()
    field = network_field(network)
    inputs = torch.from_numpy(x).float()
    for t, layer in ((0.0, 0), (0.99, 0), (1.0, 1), (2.5, 2), (3.0, 2)):
        branch = network.stages[0][layer].branch(inputs).detach()
        assert_allclose(field(t, x), branch, atol=1e-6)
    before = field(0.5, x)
    with torch.no_grad():
        network.stages[0][0].second.weight.zero_()
    assert_allclose(field(0.5, x), before)


def test_advection_meets_the_changes_of_blocks():
    field, x = network_field(plane_network()), cloud()
    slow, slower = (
        forward_euler(field, x, np.linspace(0, 3, 3 * steps + 1))[-1] for steps in (1000, 500)
    )
    whole = advect(field, x, [0, 3])[-1]
    # What remains when the error of first order is taken out.
    assert np.abs(whole - (2 * slow - slower)).max() < 1e-4
    assert_allclose(advect(field, x, [0, 0.5, 1, 2.2, 3])[-1], whole, atol=1e-6)
    assert_allclose(advect(field, whole, [3, 1.5, 0])[-1], x, atol=1e-6)
    half = advect(field, x, [0, 1.5])[-1]
    assert_allclose(advect(field, whole, [3, 1.5, 0])[1], half, atol=1e-6)
    assert Combination((field, Shear())).breaks == (0.0, 1.0, 2.0, 3.0)


def test_network_fields_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="t must lie between 0 and 3"):
        network_field(plane_network())(3.5, cloud())
    with pytest.raises(ValueError, match="stage must be below 1, not 1"):
        network_field(plane_network(), stage=1)
    with pytest.raises(ValueError, match=r"shape \(2,\), not \(64,\)"):
        network_field(build("digits"))


# --- particles ----------------------------------------------------------------------------------


def test_advection_follows_closed_forms_forward_and_back():
    x, times = cloud(), np.linspace(0, 3, 7)
    turned = advect(Rotation(2.0), x, times)
    for t, place in zip(times, turned, strict=True):
        c, s = math.cos(2 * t), math.sin(2 * t)
        assert_allclose(place, x @ np.array([[c, s], [-s, c]]), atol=1e-7)
    assert_allclose(advect(Rotation(2.0), turned[-1], times[::-1]), turned[::-1], atol=1e-7)
    stretched = advect(Saddle(), torch.from_numpy(x), [0, 1])[-1]
    assert_allclose(stretched, x * [math.e, 1 / math.e], rtol=1e-7)


def test_every_particle_has_its_error_controlled():
    # One particle in fast motion among many at rest: a mean over all would overlook it.
    x = np.zeros((4000, 2))
    x[0] = 1.0
    turned = advect(Rotation(20.0), x, [0, 2 * math.pi], rtol=1e-6, atol=1e-9)[-1]
    assert np.abs(turned[0] - 1.0).max() < 1e-3
    assert not turned[1:].any()


def test_forward_euler_is_of_first_order():
    x, field = cloud(), DoubleGyre(0.5)
    exact = advect(field, x, [0, 1])[-1]
    errors = [
        np.abs(forward_euler(field, x, np.linspace(0, 1, steps + 1))[-1] - exact).max()
        for steps in (50, 100, 200)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(1, abs=0.05)


def test_an_advection_that_cannot_go_on_says_so():
    # x' = x^2 leaves the plane at t = 1.
    with (
        pytest.raises((ArithmeticError, ValueError), match=r"stopped before t = 2|be finite"),
        np.errstate(over="ignore"),
    ):
        advect(lambda t, x: x**2, np.ones((1, 2)), [0, 2])


@pytest.mark.parametrize(
    ("points", "times", "message"),
    [
        (np.zeros((3, 3)), [0, 1], r"points must have shape \(points, 2\)"),
        (np.zeros((3, 2)), [0], "times must be at least two numbers"),
        (np.zeros((3, 2)), [0, 1, 1], "times must grow, or fall"),
        (np.full((3, 2), np.nan), [0, 1], "points must be finite"),
    ],
)
def test_bad_points_and_times_are_refused(points, times, message):
    for carry in (advect, forward_euler):
        with pytest.raises(ValueError, match=message):
            carry(Rotation(), points, times)


# --- the continuity equation --------------------------------------------------------------------


def turning_error(cells: int, limiter: str) -> float:
    """L1 error of a Gaussian bump after a quarter turn."""
    grid = Grid((cells, cells), *SQUARE)
    start, end = Gaussian([0.4, 0.0], 0.12**2), Gaussian([0.0, 0.4], 0.12**2)
    found = solve_continuity(
        start.density(grid.centres), Rotation(), grid, [0, math.pi / 2], limiter=limiter
    )
    return grid.mass(np.abs(found.density[-1] - end.density(grid.centres)))


def test_the_scheme_is_of_second_order():
    coarse, fine = turning_error(64, "van-leer"), turning_error(128, "van-leer")
    assert fine < 0.015
    assert np.log2(coarse / fine) > 1.9


def test_slopes_are_worth_their_price():
    errors = {limiter: turning_error(48, limiter) for limiter in ("van-leer", "minmod")}
    assert errors["van-leer"] < errors["minmod"] < 0.3 * turning_error(48, "first-order")


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.integers(2, 12),
    st.integers(2, 12),
    st.sampled_from(["no-flux", "periodic"]),
    st.sampled_from(["van-leer", "minmod", "first-order"]),
    st.integers(0, 10**6),
    st.sampled_from([0.2, 0.5]),
)
def test_mass_is_kept_and_nothing_becomes_negative(nx, ny, boundary, limiter, seed, cfl):
    random = np.random.default_rng(seed)
    grid = Grid((nx, ny), (0.0, -1.0), (2.0, 0.5))
    density = random.exponential(size=(nx, ny)) * (random.random((nx, ny)) < 0.4)
    speeds = random.standard_normal((2, 3))

    def field(t, x):
        phase = x @ random_waves + t
        return np.stack([np.sin(phase) @ speeds[0], np.cos(phase) @ speeds[1]], 1)

    random_waves = 4 * random.standard_normal((2, 3))
    found = solve_continuity(
        density, field, grid, [0, 0.5, 2], boundary=boundary, limiter=limiter, cfl=cfl
    )
    assert found.density.min() >= 0
    assert_allclose(found.mass, grid.mass(density), rtol=1e-12, atol=1e-15)
    assert 0 < found.courant <= LARGEST_COURANT
    assert found.density.shape == (3, nx, ny)


def test_a_periodic_box_carries_a_bump_round():
    def wind(t, points):
        return np.tile([2.0, -1.0], (len(points), 1))

    errors = []
    for cells in (32, 64):
        grid = Grid((2 * cells, cells), (0.0, 0.0), (2.0, 1.0))
        x, y = np.moveaxis(grid.centres, -1, 0)
        start = 1 + 0.5 * np.sin(math.pi * x) * np.cos(2 * math.pi * y)
        found = solve_continuity(start, wind, grid, [0, 1], boundary="periodic")
        errors.append(np.abs(found.density[-1] - start).mean())
    assert errors[1] < 0.005
    assert np.log2(errors[0] / errors[1]) > 1.6


def test_a_wall_stops_the_mass():
    grid = Grid((20, 4))
    start = np.ones(grid.shape)
    found = solve_continuity(start, lambda t, x: x * 0 + [1.0, 0.0], grid, [0, 3])
    assert found.density[-1][-1] == pytest.approx(np.full(4, 20.0), rel=1e-3)


def test_a_growing_speed_keeps_the_courant_number():
    grid = Grid((16, 16), *SQUARE)
    bump = Gaussian([0.3, 0.0], 0.05).density(grid.centres)

    def gust(t, x):
        return Rotation(0.01 if t < 0.5 else 50.0)(t, x)

    found = solve_continuity(bump, gust, grid, [0, 1])
    assert found.courant <= LARGEST_COURANT
    assert found.density.min() >= 0
    assert found.mass[-1] == pytest.approx(found.mass[0], rel=1e-12)


def test_too_few_steps_are_refused_with_the_number_needed():
    grid = Grid((32, 32), *SQUARE)
    bump = Gaussian([0.3, 0.0], 0.02).density(grid.centres)
    with pytest.raises(ValueError, match="steps must be at least 60 between t = 0 and t = 1") as no:
        solve_continuity(bump, Rotation(), grid, [0, 1], steps=10)
    assert "Courant number would be 3," in str(no.value)
    found = solve_continuity(bump, Rotation(), grid, [0, 1], steps=60)
    assert found.steps == 60
    assert found.courant == pytest.approx(0.5)


def test_the_density_is_that_of_the_particles():
    field, times = DoubleGyre(0.25), [0, 1, 2]
    grid, coarse = (Grid((2 * n, n), (0.0, 0.0), (2.0, 1.0)) for n in (64, 8))
    start = Gaussian([0.9, 0.5], 0.12**2)
    found = solve_continuity(start.density(grid.centres), field, grid, times)
    particles = advect(field, start.sample(40_000, seed=3), times, rtol=1e-5, atol=1e-6)
    for density, points in zip(found.density, particles, strict=True):
        blocks = density.reshape(16, 8, 8, 8).mean((1, 3))
        share = coarse.mass(np.abs(density_of_particles(points, coarse) - blocks))
        # What independent draws differ by: the sum over cells of sqrt(2 p / (pi n)).
        noise = np.sqrt(2 * blocks / 64 / (math.pi * 40_000)).sum()
        assert share < 2 * noise + 0.005


def test_the_density_follows_the_geodesic():
    start, end = Gaussian([-0.8, -0.5], 0.09), Gaussian([0.7, 0.6], [[0.2, 0.08], [0.08, 0.08]])
    errors = []
    for cells in (48, 96):
        grid = Grid((cells, cells), (-3.0, -3.0), (3.0, 3.0))
        found = solve_continuity(
            start.density(grid.centres), displacement_field(start, end), grid, [0, 0.5, 1]
        )
        exact = [gaussian_interpolation(start, end, t).density(grid.centres) for t in found.times]
        errors.append(grid.mass(np.abs(found.density - exact)))
    assert errors[1][0] == 0
    assert errors[1].max() < 0.06
    assert np.log2(errors[0][1:] / errors[1][1:]).min() > 1.6


def test_the_density_of_a_network_ends_its_steps_at_the_blocks():
    field, x = network_field(plane_network()), 0.3 * cloud(20_000, seed=4)
    grid = Grid((24, 24), (-3.0, -3.0), (3.0, 3.0))
    start = density_of_particles(x, grid)
    found = solve_continuity(start, field, grid, [0.5, 2.5], steps=80)
    assert found.steps == 3 * 80
    centre = np.tensordot(found.density[-1], grid.centres, 2) * math.prod(grid.spacing)
    exact = advect(field, x, [0.5, 2.5], rtol=1e-5)[-1].mean(0)
    assert_allclose(centre, exact, atol=0.05)


# --- grids --------------------------------------------------------------------------------------


def test_a_grid_knows_its_places():
    grid = Grid((4, 2), (0.0, 1.0), (2.0, 2.0))
    assert grid.spacing == (0.5, 0.5)
    assert grid.centres[0, 0].tolist() == [0.25, 1.25]
    assert [f.shape for f in grid.faces] == [(5, 2, 2), (4, 3, 2)]
    u, v = grid.on_faces(Rotation())
    assert u[0].tolist() == [-1.25, -1.75]
    assert v[:, 0].tolist() == [0.25, 0.75, 1.25, 1.75]
    assert grid.at_centres(Rotation())[:, 3, 1].tolist() == [-1.75, 1.75]
    assert grid.mass(np.ones((3, 4, 2))).tolist() == [2.0, 2.0, 2.0]


def test_a_histogram_counts_every_particle_once():
    grid = Grid((2, 2))
    points = np.array([[0.1, 0.1], [0.9, 0.1], [1.6, 0.2], [-0.9, 0.9]])
    assert density_of_particles(points, grid).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    wrapped = density_of_particles(points, grid, boundary="periodic")
    assert wrapped.tolist() == [[1.0, 1.0], [2.0, 0.0]]
    assert grid.mass(wrapped) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"density": np.ones((3, 3))},
            r"density must have the grid's shape \(4, 4\), not \(3, 3\)",
        ),
        ({"density": -np.ones((4, 4))}, "density must be nowhere negative, but falls to -1"),
        ({"times": [1, 0]}, "times must grow"),
        ({"boundary": "open"}, "boundary must be one of"),
        ({"limiter": "superbee"}, "limiter must be one of"),
        ({"cfl": 0.6}, "cfl must be at most 0.5, not 0.6"),
        ({"steps": 0}, "steps must be a whole number"),
    ],
)
def test_bad_arguments_of_the_solver_are_refused(changes, message):
    arguments = {"density": np.ones((4, 4)), "field": Shear(), "grid": Grid((4, 4))}
    with pytest.raises(ValueError, match=message):
        solve_continuity(**(arguments | {"times": [0, 1]} | changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 4),), "shape must be a whole number of at least 2"),
        ((4,), "shape must be two numbers"),
        (((4, 4), (0.0, 0.0), (1.0, 0.0)), "upper must lie above lower"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)
