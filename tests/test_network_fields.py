"""Fields of networks taken apart: known blocks, null models, and what must not change."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from geobook.flows import Grid
from geobook.network_fields import (
    block_helmholtz,
    jacobian_asymmetry,
)
from geobook.networks import Architecture, Stage, build

GRID = Grid((24, 20), (-1.0, -1.2), (1.0, 1.2))


def linear_network(*matrices, residual=True):
    """Network in R^d whose blocks are x -> (x +) M x: relu(x) - relu(-x) = x."""
    d = len(matrices[0])
    shape = Architecture("linear", (d,), (Stage((d,), len(matrices), 2 * d),), 2, norm="none")
    network = build(shape, residual=residual)
    for block, matrix in zip(network.stages[0], matrices, strict=True):
        matrix = torch.as_tensor(np.asarray(matrix), dtype=torch.float32)
        identity = torch.eye(d)
        block.first.weight.data = torch.cat([identity, -identity])
        block.second.weight.data = torch.cat([matrix, -matrix], 1)
    return network


def unit_network(out, into):
    """One residual block of one rectifier, v = out relu(into . x)."""
    shape = Architecture("unit", (2,), (Stage((2,), 1, 1),), 2, norm="none", bias=False)
    network = build(shape)
    network.stages[0][0].first.weight.data = torch.tensor([into])
    network.stages[0][0].second.weight.data = torch.tensor([out]).T
    return network


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


SYMMETRIC = np.array([[0.3, 0.1], [0.1, -0.2]])
TURN = np.array([[0.0, -0.4], [0.4, 0.0]])


# --- Helmholtz parts of the blocks ---------------------------------------------------------------


def test_gradient_blocks_have_nothing_else():
    parts = block_helmholtz(linear_network(SYMMETRIC, TURN), GRID)
    assert len(parts) == 2
    assert parts[0].curl_free == pytest.approx(1, abs=1e-12)
    assert parts[0].divergence_free == pytest.approx(0, abs=1e-12)
    assert 0.7 < parts[1].divergence_free < 0.85  # a rotation of a box is not tangential
    assert parts[1].curl_free == pytest.approx(1 - parts[1].divergence_free)


def test_the_speed_is_that_of_the_field():
    # |v|^2 = .16 (x^2 + y^2), of mean .16 (1/3 + 1.44/3), up to the grid
    (part,) = block_helmholtz(linear_network(TURN), GRID)
    assert part.mean_square_speed == pytest.approx(0.16 * 2.44 / 3, rel=0.01)


def test_plain_blocks_have_the_field_of_the_map_minus_the_identity():
    plain = block_helmholtz(linear_network(SYMMETRIC + np.eye(2), residual=False), GRID)
    resnet = block_helmholtz(linear_network(SYMMETRIC), GRID)
    for one, other in zip(plain, resnet, strict=True):
        assert one.mean_square_speed == pytest.approx(other.mean_square_speed)
        assert_allclose(one.parts.curl_free[0], other.parts.curl_free[0], atol=1e-6)


def test_a_density_decides_what_is_orthogonal():
    # K x with K antisymmetric times S^-1 keeps N(0, S): no gradient part for that density.
    wide = Grid((48, 48), (-5.0, -5.0), (5.0, 5.0))
    inverse = np.diag([4.0, 0.5])
    density = np.exp(-0.5 * np.einsum("xyi,ij,xyj->xy", wide.centres, inverse, wide.centres))
    network = linear_network(TURN @ inverse)
    (weighted,) = block_helmholtz(network, wide, densities=density + 1e-12)
    (even,) = block_helmholtz(network, wide)
    assert weighted.divergence_free > 0.99
    assert even.divergence_free < 0.6
    several = block_helmholtz(network, wide, densities=[density + 1e-12])
    assert several[0].divergence_free == weighted.divergence_free
    (constant,) = block_helmholtz(network, wide, densities=np.full(wide.shape, 3.0))
    assert constant.divergence_free == pytest.approx(even.divergence_free)
    assert constant.mean_square_speed == pytest.approx(even.mean_square_speed)


def test_blocks_that_rest_have_no_shares():
    (part,) = block_helmholtz(linear_network(np.zeros((2, 2))), GRID)
    assert (part.curl_free, part.divergence_free, part.mean_square_speed) == (0, 0, 0)


def test_bad_densities_and_networks_are_refused():
    network = linear_network(TURN)
    with pytest.raises(ValueError, match=r"densities must have shape \(24, 20\) or \(1, 24, 20\)"):
        block_helmholtz(network, GRID, densities=np.ones((20, 24)))
    with pytest.raises(ValueError, match="density must be above 0"):
        block_helmholtz(network, GRID, densities=np.zeros((24, 20)))
    with pytest.raises(ValueError, match="stage must be below 1"):
        block_helmholtz(network, GRID, stage=1)
    with pytest.raises(ValueError, match="must have a stage of shape"):
        block_helmholtz(build("digits"), GRID)


# --- antisymmetric share of the Jacobians ---------------------------------------------------------


def test_gradients_have_no_antisymmetric_part_and_turns_nothing_else():
    network = linear_network(SYMMETRIC, TURN, SYMMETRIC + TURN)
    found = jacobian_asymmetry(network, normal(20, 2))
    mixed = (TURN**2).sum() / ((SYMMETRIC + TURN) ** 2).sum()
    assert_allclose(found, [0, 1, mixed], atol=1e-6)
    assert found.dtype == torch.float64


def test_the_identity_of_plain_blocks_is_taken_off():
    plain = linear_network(np.eye(2) + TURN, residual=False)
    assert_allclose(jacobian_asymmetry(plain, normal(20, 2)), [1.0], atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.5, math.pi / 2, 2.5])
def test_a_rectifier_unit_has_half_the_squared_sine(angle):
    network = unit_network([math.cos(angle), math.sin(angle)], [1.0, 0.0])
    found = jacobian_asymmetry(network, normal(50, 2))
    assert float(found) == pytest.approx(math.sin(angle) ** 2 / 2, abs=1e-6)


def test_points_where_nothing_happens_do_not_count_and_dead_blocks_are_nan():
    network = unit_network([0.0, 1.0], [1.0, 0.0])
    right, left = torch.tensor([[1.0, 0.3]]), torch.tensor([[-1.0, 0.3]])
    assert float(jacobian_asymmetry(network, torch.cat([right, left, left]))) == pytest.approx(0.5)
    assert jacobian_asymmetry(network, left).isnan().all()


@pytest.mark.parametrize("d", [2, 5, 64])
def test_random_matrices_have_the_expected_share(d):
    matrices = torch.randn(4000 // d, d, d, generator=torch.Generator().manual_seed(d)).numpy()
    skew = (matrices - matrices.transpose(0, 2, 1)) / 2
    share = (skew**2).sum() / (matrices**2).sum()
    assert share == pytest.approx((1 - 1 / d) / 2, rel=0.04)
    network = linear_network(*matrices[:8])
    own = (skew[:8] ** 2).sum((1, 2)) / (matrices[:8] ** 2).sum((1, 2))
    # The blocks enlarge the points a thousandfold and more, which does not matter: they are linear.
    assert_allclose(jacobian_asymmetry(network, normal(3, d)), own, atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "inner", "both"])
@pytest.mark.parametrize("residual", [True, False])
def test_it_agrees_with_differences(norm, residual):
    network = build("digits", norm=norm, residual=residual, blocks=2, width=64, seed=3).double()
    x = normal(3, 64, seed=1).double()
    states = [state for _, state in network.eval().states(x)]
    block, state, step = network.stages[0][1], states[1], 1e-6
    with torch.no_grad():
        moved = [
            (block(state + step * unit) - block(state - step * unit)) / (2 * step) - unit
            for unit in torch.eye(64, dtype=torch.float64)
        ]
    jacobian = torch.stack(moved, 2)
    share = ((jacobian - jacobian.mT) / 2).square().sum() / jacobian.square().sum()
    found = jacobian_asymmetry(network.train(), x)
    assert float(found[1]) == pytest.approx(float(share), abs=1e-4)
    assert network.training


def test_convolutions_and_chosen_points():
    network = build("digits-conv", blocks=1)
    x = normal(6, 64).reshape(6, 1, 8, 8)
    assert 0.3 < float(jacobian_asymmetry(network, x, points=2)) < 0.6
    whole = build("digits", blocks=1, seed=1)
    every = jacobian_asymmetry(whole, x, points=None)
    assert_allclose(jacobian_asymmetry(whole, x, points=6), every, rtol=1e-5)
    assert jacobian_asymmetry(whole, x, points=2) != every


def test_the_jacobians_are_taken_a_few_at_a_time(monkeypatch):
    network, x = build("digits", blocks=1), normal(7, 64)
    whole = jacobian_asymmetry(network, x)
    monkeypatch.setattr("geobook.network_fields._JACOBIAN_ENTRIES", 64 * 64 * 2)
    assert_allclose(jacobian_asymmetry(network, x), whole, rtol=1e-6)


def test_bad_points_and_stages_are_refused():
    with pytest.raises(ValueError, match="stage must be below 1"):
        jacobian_asymmetry(build("digits"), normal(3, 64), stage=1)
    with pytest.raises(ValueError, match="points must be a whole number"):
        jacobian_asymmetry(build("digits"), normal(3, 64), points=0)
    with pytest.raises(ValueError, match="x must have shape"):
        jacobian_asymmetry(build("digits"), normal(3, 63))
