"""Helmholtz and polar factorisation: known parts, exact identities, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from geobook.decomposition import (
    HelmholtzParts,
    curl,
    divergence,
    helmholtz,
    linear_polar_factorization,
    linearised_polar,
    polar_factorization,
    stirring,
    to_centres,
    to_faces,
    weighted_helmholtz,
)
from geobook.flows import Grid, Rotation, network_field
from geobook.gaussians import Gaussian
from geobook.networks import Architecture, Stage, build

SIDES = 2.0, 3.0
NAMES = ("curl_free", "divergence_free", "harmonic")


def flat(field: np.ndarray | tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in field])


def flat_parts(parts: HelmholtzParts) -> list[np.ndarray]:
    return [flat(getattr(parts, name)) for name in NAMES]


def check_identities(field, spacing, boundary: str) -> HelmholtzParts:
    """Complete, orthogonal, and of the kinds that the names say, all to rounding."""
    parts = helmholtz(field, spacing, boundary)
    whole, pieces = flat(field), flat_parts(parts)
    size = np.linalg.norm(whole)
    cells = math.prod(parts.potential.shape)
    rounding = 1e-14 * size * math.log2(4 + cells)
    assert_allclose(sum(pieces), whole, atol=rounding)
    for one in range(3):
        for other in range(one):
            assert abs(pieces[one] @ pieces[other]) <= rounding * size
    least = np.min(spacing)
    steep = math.pi * rounding / least * max(parts.potential.shape)
    assert np.abs(divergence(parts.divergence_free, spacing, boundary)).max() <= steep
    assert np.abs(divergence(parts.harmonic, spacing, boundary)).max() <= steep
    for part in (parts.curl_free, parts.harmonic):
        assert not curl(part, spacing, boundary).size or (
            np.abs(curl(part, spacing, boundary)).max() <= steep
        )
    assert sum(parts.shares.values()) == pytest.approx(1, rel=1e-12)
    return parts


# --- the periodic box ---------------------------------------------------------------------------


def torus(nx: int, ny: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    spacing = SIDES[0] / nx, SIDES[1] / ny
    x, y = np.meshgrid(np.arange(nx) * spacing[0], np.arange(ny) * spacing[1], indexing="ij")
    return 2 * math.pi * x / SIDES[0], 2 * math.pi * y / SIDES[1], spacing


def known_parts(nx: int, ny: int):
    """A potential, a stream function, the field of each, and the spacing."""
    x, y, spacing = torus(nx, ny)
    a, b = 2 * math.pi / SIDES[0], 2 * math.pi / SIDES[1]
    phi = np.sin(x) * np.cos(2 * y)
    psi = np.cos(2 * x + y)
    gradient = np.stack([a * np.cos(x) * np.cos(2 * y), -2 * b * np.sin(x) * np.sin(2 * y)])
    turning = np.stack([-b * np.sin(2 * x + y), 2 * a * np.sin(2 * x + y)])
    return phi, psi, gradient, turning, spacing


@pytest.mark.parametrize("shape", [(16, 16), (12, 20), (15, 9), (8, 13)])
def test_known_parts_are_found_on_the_periodic_box(shape):
    phi, psi, gradient, turning, spacing = known_parts(*shape)
    mean = np.broadcast_to(np.array([0.7, -0.2])[:, None, None], gradient.shape)
    parts = helmholtz(gradient + turning + mean, spacing)
    assert_allclose(parts.curl_free, gradient, atol=1e-13)
    assert_allclose(parts.divergence_free, turning, atol=1e-13)
    assert_allclose(parts.harmonic, mean, atol=1e-13)
    assert_allclose(parts.potential, phi, atol=1e-13)
    assert_allclose(parts.stream, psi, atol=1e-13)


def test_a_gradient_has_nothing_else_on_the_periodic_box():
    _, _, gradient, turning, spacing = known_parts(24, 16)
    assert helmholtz(gradient, spacing).shares["curl_free"] == pytest.approx(1, abs=1e-14)
    assert np.abs(helmholtz(gradient, spacing).divergence_free).max() < 1e-13
    assert np.abs(helmholtz(turning, spacing).curl_free).max() < 1e-13


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 10**6), st.floats(0.1, 10))
def test_white_noise_falls_apart_exactly_on_the_periodic_box(nx, ny, seed, ratio):
    noise = np.random.default_rng(seed).standard_normal((2, nx, ny))
    check_identities(noise, (0.1, 0.1 * ratio), "periodic")


def test_modes_that_no_derivative_sees_are_harmonic():
    checkers = (-1.0) ** np.add.outer(np.arange(8), np.arange(8))
    parts = helmholtz(np.stack([checkers, 1 + 0 * checkers]), 0.1)
    assert parts.shares["harmonic"] == pytest.approx(1)
    # With an odd number of points there is no Nyquist mode, and all but the mean is seen.
    noise = np.random.default_rng(0).standard_normal((2, 9, 7))
    exact = np.broadcast_to(noise.mean((1, 2))[:, None, None], noise.shape)
    assert_allclose(helmholtz(noise, 1.0).harmonic, exact, atol=1e-14)


def test_parts_do_not_fall_apart_again():
    noise = np.random.default_rng(1).standard_normal((2, 16, 10))
    for name in NAMES:
        part = getattr(helmholtz(noise, 0.2), name)
        assert helmholtz(part, 0.2).shares[name] == pytest.approx(1, abs=1e-13)


# --- the bounded box ----------------------------------------------------------------------------


def box(nx: int, ny: int) -> Grid:
    return Grid((nx, ny), (0.0, 0.0), SIDES)


def gyre(t: float, points: np.ndarray) -> np.ndarray:
    """Divergence-free and tangential on the box; stream function sin sin."""
    a, b = math.pi / SIDES[0], math.pi / SIDES[1]
    x, y = a * points[:, 0], b * points[:, 1]
    return np.stack([b * np.sin(x) * np.cos(y), -a * np.cos(x) * np.sin(y)], 1)


def hill(t: float, points: np.ndarray) -> np.ndarray:
    """Gradient of x^2 y + cos(x): it crosses the boundary."""
    x, y = points.T
    return np.stack([2 * x * y - np.sin(x), x**2], 1)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 10**6), st.floats(0.1, 10))
def test_white_noise_falls_apart_exactly_on_the_bounded_box(nx, ny, seed, ratio):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((nx + 1, ny)), random.standard_normal((nx, ny + 1))
    parts = check_identities(noise, (0.1, 0.1 * ratio), "bounded")
    u, v = parts.divergence_free
    assert not u[[0, -1]].any()
    assert not v[:, [0, -1]].any()
    assert not flat(parts.harmonic).any()
    # The stream function gives the divergence-free part back and vanishes on the boundary.
    assert_allclose(np.diff(parts.stream, axis=1) / (0.1 * ratio), u, atol=1e-12)
    assert_allclose(-np.diff(parts.stream, axis=0) / 0.1, v, atol=1e-10)
    assert not np.any(parts.stream[[0, -1]].round(12))


def test_discrete_gradients_and_tangential_turns_are_found_exactly():
    grid, random = box(12, 17), np.random.default_rng(2)
    dx, dy = grid.spacing
    phi = random.standard_normal((14, 19))
    # A gradient from values beyond the boundary too, so that it crosses it.
    gradient = np.diff(phi[:, 1:-1], axis=0) / dx, np.diff(phi[1:-1], axis=1) / dy
    parts = helmholtz(gradient, grid.spacing, "bounded")
    assert np.abs(flat(parts.divergence_free)).max() < 1e-12
    inside = phi[1:-1, 1:-1]
    assert_allclose(parts.potential, inside - inside.mean(), atol=1e-12)
    psi = np.zeros((13, 18))
    psi[1:-1, 1:-1] = random.standard_normal((11, 16))
    turn = np.diff(psi, axis=1) / dy, -np.diff(psi, axis=0) / dx
    parts = helmholtz(turn, grid.spacing, "bounded")
    assert np.abs(flat(parts.curl_free)).max() < 1e-12
    assert_allclose(parts.stream, psi, atol=1e-12)


def test_smooth_parts_are_found_at_second_order():
    errors = []
    for cells in (16, 32, 64):
        grid = box(cells, cells + 4)
        gradient, turn = grid.on_faces(hill), grid.on_faces(gyre)
        field = tuple(g + w for g, w in zip(gradient, turn, strict=True))
        parts = helmholtz(field, grid.spacing, "bounded")
        errors.append(np.abs(flat(parts.curl_free) - flat(gradient)).max())
    assert errors[-1] < 2e-3
    assert np.log2(errors[0] / errors[1]) > 1.7
    assert np.log2(errors[1] / errors[2]) > 1.7


def test_a_rigid_rotation_of_a_box_is_not_tangential():
    # The corners are swept through the walls: a gradient must carry that. What is left is Prandtl's
    # stress function of a twisted bar: its energy is the torsion constant 0.140577 (side)^4, out
    # of the 8 / 3 of the whole rotation.
    grid = Grid((128, 128), (-1.0, -1.0), (1.0, 1.0))
    shares = helmholtz(grid.on_faces(Rotation()), grid.spacing, "bounded").shares
    assert shares["divergence_free"] == pytest.approx(0.140577 * 16 / (8 / 3), abs=0.0005)


def test_interpolation_keeps_linear_fields():
    grid = box(6, 5)
    centres, faces = grid.at_centres(Rotation()), grid.on_faces(Rotation())
    for found, exact in zip(to_faces(centres), faces, strict=True):
        assert_allclose(found, exact, atol=1e-14)
    assert_allclose(to_centres(faces), centres, atol=1e-14)


def test_the_fields_of_a_network_fall_apart():
    plane = Architecture("plane", (2,), (Stage((2,), 2, hidden=16),), 2, norm="none")
    grid = Grid((32, 32), (-2.0, -2.0), (2.0, 2.0))
    field = grid.on_faces(network_field(build(plane)), 1.5)
    shares = check_identities(field, grid.spacing, "bounded").shares
    assert min(shares["divergence_free"], shares["curl_free"]) > 0.01


# --- a density that is not constant ---------------------------------------------------------------


def random_faces(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    nx, ny = shape
    return random.standard_normal((nx + 1, ny)), random.standard_normal((nx, ny + 1))


def weighted_product(first, second, weights) -> float:
    """Inner product over the inner faces."""
    u, v = (a * b * w for a, b, w in zip(first, second, weights, strict=True))
    return float(u[1:-1].sum() + v[:, 1:-1].sum())


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 10**6), st.floats(0.1, 10))
def test_white_noise_falls_apart_for_any_density(nx, ny, seed, ratio):
    field, spacing = random_faces((nx, ny), seed), (0.1, 0.1 * ratio)
    density = np.exp(3 * np.random.default_rng(seed + 1).standard_normal((nx, ny)))
    parts = weighted_helmholtz(field, density, spacing)
    for whole, gradient, rest in zip(field, parts.curl_free, parts.divergence_free, strict=True):
        assert_allclose(gradient + rest, whole, atol=1e-12)
    flux = tuple(w * rho for w, rho in zip(parts.divergence_free, parts.face_density, strict=True))
    scale = max(np.abs(part).max() for part in flux) / min(spacing) + 1e-30
    assert np.abs(divergence(flux, spacing, "bounded")).max() < 1e-10 * scale + 1e-12
    assert not flux[0][[0, -1]].any()
    assert not flux[1][:, [0, -1]].any()
    assert weighted_product(parts.curl_free, parts.divergence_free, parts.face_density) == (
        pytest.approx(0, abs=1e-9 * parts.energy)
    )
    dx, dy = spacing
    assert_allclose(np.diff(parts.potential, axis=0) / dx, parts.curl_free[0][1:-1])
    assert_allclose(np.diff(parts.potential, axis=1) / dy, parts.curl_free[1][:, 1:-1])
    assert sum(parts.shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("factor", [1.0, 1e-6])
def test_a_constant_density_is_the_usual_decomposition(factor):
    grid, field = box(11, 8), random_faces((11, 8), 3)
    usual = helmholtz(field, grid.spacing, "bounded")
    found = weighted_helmholtz(field, np.full(grid.shape, factor), grid.spacing)
    assert_allclose(flat(found.curl_free), flat(usual.curl_free), atol=1e-10)
    assert_allclose(found.potential, usual.potential, atol=1e-10)
    assert found.shares["curl_free"] == pytest.approx(usual.shares["curl_free"])
    assert found.energy == pytest.approx(factor * usual.energy)


def test_the_turn_that_keeps_a_gaussian_has_no_gradient_part_for_it():
    grid = Grid((64, 64), (-5.0, -5.0), (5.0, 5.0))
    covariance = np.array([[1.0, 0.5], [0.5, 0.7]])
    turn = np.array([[0.0, -1.0], [1.0, 0.0]]) @ np.linalg.inv(covariance)
    field = grid.on_faces(lambda t, x: x @ turn.T)
    density = Gaussian([0.0, 0.0], covariance).density(grid.centres)
    weighted = weighted_helmholtz(field, density + 1e-14, grid.spacing)
    assert weighted.shares["divergence_free"] > 0.995
    assert helmholtz(field, grid.spacing, "bounded").shares["divergence_free"] < 0.65


def test_bad_densities_are_refused():
    field = random_faces((4, 3), 0)
    with pytest.raises(ValueError, match=r"density must have shape \(4, 3\), .*not \(3, 4\)"):
        weighted_helmholtz(field, np.ones((3, 4)), 1.0)
    with pytest.raises(ValueError, match="density must be above 0 everywhere, but falls to 0"):
        weighted_helmholtz(field, np.zeros((4, 3)), 1.0)
    with pytest.raises(ValueError, match="pair of arrays"):
        weighted_helmholtz((field[0], field[0]), np.ones((4, 3)), 1.0)


def test_a_field_at_rest_has_no_shares():
    assert set(helmholtz(np.zeros((2, 4, 4)), 1.0).shares.values()) == {0.0}


@pytest.mark.parametrize(
    ("field", "spacing", "boundary", "message"),
    [
        (np.zeros((2, 4)), 1.0, "periodic", r"field must have shape \(2, nx, ny\)"),
        (np.zeros((3, 4, 4)), 1.0, "periodic", r"not \(3, 4, 4\)"),
        ((np.zeros((5, 4)), np.zeros((4, 5))), 1.0, "periodic", "need boundary='bounded'"),
        (np.zeros((2, 4, 4)), 1.0, "bounded", r"see to_faces\), not \(4, 4\), \(4, 4\)"),
        (np.zeros((3, 4, 4)), 1.0, "bounded", "pair of arrays .*, not 3 arrays"),
        (np.zeros((2, 4, 4)), 0.0, "periodic", "spacing must be a finite number above 0"),
        (np.zeros((2, 4, 4)), (1.0, 1.0, 1.0), "periodic", "spacing must be a number or two"),
        (np.zeros((2, 4, 4)), 1.0, "open", "boundary must be one of"),
        (np.full((2, 4, 4), np.nan), 1.0, "periodic", "field must be finite"),
    ],
)
def test_bad_fields_are_refused(field, spacing, boundary, message):
    for function in (helmholtz, divergence, curl):
        with pytest.raises(ValueError, match=message):
            function(field, spacing, boundary)


# --- polar factorisation ------------------------------------------------------------------------


def points(n: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def check_factors(x: torch.Tensor, y: torch.Tensor):
    found = polar_factorization(x, y)
    assert torch.equal(found.optimal_images[found.rearrangement], y)
    assert torch.equal(found.rearranged, x[found.rearrangement])
    assert torch.equal(found.rearrangement.sort().values, torch.arange(len(x)))
    assert found.optimal_energy == pytest.approx(found.pairing.cost)
    assert found.optimal_energy <= found.energy * (1 + 1e-12)
    # T* is monotone, as gradients of convex functions are.
    dx, dy = (c[:, None] - c[None] for c in (x, found.optimal_images))
    assert (dx * dy).sum(-1).min() > -1e-9
    return found


def test_the_gradient_of_a_convex_function_rearranges_nothing():
    x = points()
    y = x + torch.tanh(x) * torch.tensor([0.5, 2.0]) + 1.0
    found = check_factors(x, y)
    assert torch.equal(found.rearrangement, torch.arange(len(x)))
    assert torch.equal(found.optimal_images, y)
    assert (found.kept, found.wasted, found.rearrangement_energy) == (1.0, 0.0, 0.0)


def test_a_permutation_is_all_rearrangement():
    x = points()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    found = check_factors(x, x[order])
    assert torch.equal(found.rearrangement, order)
    assert torch.equal(found.optimal_images, x)
    assert (found.optimal_energy, found.wasted) == (0.0, 1.0)
    assert found.rearrangement_energy == pytest.approx(found.energy)


def test_a_hidden_permutation_is_brought_to_light():
    x = points()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    gradient = x @ torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    found = check_factors(x, gradient[order])
    assert torch.equal(found.rearrangement, order)
    assert torch.equal(found.optimal_images, gradient)


def test_shapes_are_kept_and_resting_clouds_waste_nothing():
    x = points(12).reshape(6, 2, 2)
    found = polar_factorization(x, x)
    assert found.rearranged.shape == found.optimal_images.shape == x.shape
    assert (found.energy, found.wasted) == (0.0, 0.0)


def test_stirring_is_zero_for_optimal_maps_and_one_without_order():
    x = points(300)
    assert stirring(x, 5 * x + 3) == 0
    assert stirring(x, -x) == pytest.approx(2, abs=0.1)
    shuffled = x[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    every = torch.cdist(x, x).square().mean() / (2 * ((x - x.mean(0)) ** 2).sum(1).mean())
    assert float(every) == pytest.approx(1)
    assert stirring(x, shuffled) == pytest.approx(1, abs=0.15)


def test_stirring_does_not_see_the_size_of_the_image_but_waste_does():
    x = points(300)
    y = x @ torch.tensor([[0.0, -1.0], [1.5, 0.0]], dtype=torch.float64).T
    assert stirring(x, 100 * y + 7) == pytest.approx(stirring(x, y))
    near, far = (polar_factorization(x, r * y).wasted for r in (1, 100))
    assert near > 0.3
    assert far < 0.04


def test_labels_take_out_what_the_classes_demand():
    x = points(60)
    labels = torch.arange(60) % 2
    apart = x * 0.1 + torch.where(labels == 0, -9.0, 9.0)[:, None]
    assert stirring(x, apart) > 0.1
    assert stirring(x, apart, labels) == 0
    assert stirring(x, torch.where(labels[:, None] == 0, -x, x), labels) == pytest.approx(
        polar_factorization(x[labels == 0], -x[labels == 0]).stirring / 2
    )
    with pytest.raises(ValueError, match="labels must hold one class for each of 60 points"):
        stirring(x, apart, labels[:5])


MATRIX = np.array([[1.2, -1.0], [0.6, 0.9]])


def test_the_factors_of_a_linear_map_are_found_slowly_from_samples():
    optimal, rearrangement = linear_polar_factorization(MATRIX)
    errors = []
    for n in (150, 1200):
        x = points(n, seed=3)
        found = check_factors(x, x @ torch.from_numpy(MATRIX.T))
        errors.append(
            [
                float((((estimate - x @ exact.T) ** 2).sum(1)).mean().sqrt())
                for estimate, exact in (
                    (found.optimal_images, torch.from_numpy(optimal)),
                    (found.rearranged, torch.from_numpy(rearrangement)),
                )
            ]
        )
    # Eight times as many points: half the error, or a little less (about n^(-0.4)).
    ratio = np.divide(*errors)
    assert np.all((ratio > 1.6) & (ratio < 4))
    fitted = np.linalg.lstsq(x.numpy(), found.optimal_images.numpy(), rcond=None)[0].T
    assert np.abs(fitted - optimal).max() < 0.06


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_linear_factors_are_what_they_should_be(d, seed):
    random = np.random.default_rng(seed)
    matrix, factor = random.standard_normal((2, d, d)) + np.eye(d)
    covariance = factor @ factor.T + 0.2 * np.eye(d)
    if np.linalg.cond(matrix) > 1e3:
        return
    optimal, rearrangement = linear_polar_factorization(matrix, covariance)
    assert_allclose(optimal @ rearrangement, matrix, atol=1e-6)
    assert_allclose(optimal, optimal.T)
    assert np.linalg.eigvalsh(optimal)[0] > 0
    kept = rearrangement @ covariance @ rearrangement.T
    assert_allclose(kept, covariance, atol=1e-6 * np.abs(covariance).max())


def test_bad_matrices_are_refused():
    with pytest.raises(ValueError, match=r"matrix must have shape \(d, d\)"):
        linear_polar_factorization([[1.0, 2.0]])
    with pytest.raises(ValueError, match="matrix must be invertible"):
        linear_polar_factorization([[1.0, 2.0], [2.0, 4.0]])


# --- the link between them, eq. (15) ------------------------------------------------------------


def test_the_linear_factors_are_helmholtz_to_first_order():
    field = np.array([[0.3, -1.0], [0.4, -0.8]])
    gradient, turn = (field + field.T) / 2, (field - field.T) / 2
    errors = []
    for epsilon in (0.1, 0.05, 0.025):
        factors = linear_polar_factorization(np.eye(2) + epsilon * field)
        errors.append(
            [
                np.abs((factor - np.eye(2)) / epsilon - part).max()
                for factor, part in zip(factors, (gradient, turn), strict=True)
            ]
        )
    # First order of the velocities: the error is halved with epsilon.
    ratios = np.divide(errors[:-1], errors[1:])
    assert_allclose(ratios, 2, atol=0.2)


def lattice_field(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the unit square, a gradient there, and a divergence-free tangential field."""
    axis = (np.arange(side) + 0.5) / side
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    sine, cosine = np.sin(math.pi * x), np.cos(math.pi * x)
    a, b = sine[:, 0] * cosine[:, 1], cosine[:, 0] * sine[:, 1]
    return x, 0.7 * np.stack([a, b], 1), np.stack([a, -b], 1)


def rms(field: np.ndarray) -> float:
    return math.sqrt((field**2).sum(1).mean())


def test_the_sampled_factors_approach_helmholtz_where_the_points_are_dense():
    errors = {}
    for side, epsilon in ((16, 0.1), (32, 0.1)):
        x, gradient, turn = lattice_field(side)
        found = linearised_polar(x, gradient + turn, epsilon)
        optimal, rearranged = (
            part.numpy() for part in (found.optimal_velocity, found.rearrangement_velocity)
        )
        errors[side] = rms(optimal - gradient), rms(rearranged - turn)
        overlap = (optimal * turn).sum() / (turn**2).sum()
    # Of a field of root mean square .86, with a stirring part of .71.
    assert errors[32][0] < 0.22
    assert errors[32][1] < 0.19
    assert abs(overlap) < 0.06
    assert np.all(np.divide(errors[16], errors[32]) > 1.3)
    assert found.optimal_energy == pytest.approx((gradient**2).sum(1).mean(), rel=0.15)
    assert found.energy == pytest.approx(((gradient + turn) ** 2).sum(1).mean())
    assert found.resolution == pytest.approx(1 / 32 / 0.1 / math.sqrt(found.energy), rel=1e-6)


def test_too_small_a_step_hides_the_stirring():
    x, gradient, turn = lattice_field(16)
    found = linearised_polar(x, gradient + turn, 0.005)
    assert found.resolution > 1
    assert found.factorization.kept == 1
    assert_allclose(found.optimal_velocity, gradient + turn, atol=1e-9)


def test_the_link_at_rest_and_without_a_step():
    x = points(5)
    assert linearised_polar(x, torch.zeros_like(x), 0.1).resolution == math.inf
    with pytest.raises(ValueError, match="epsilon must be a finite number above 0"):
        linearised_polar(x, x, 0.0)
