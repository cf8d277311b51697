"""Padding, projections, and what is measured of a staged network."""

import math

import numpy as np
import pytest
import torch

import geobook
from geobook import dimension
from geobook.networks import Architecture, Stage

STAGES = (Stage((8,), 2), Stage((5,), 3), Stage((4,), 1))


def cloud(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(**changes):
    return geobook.build(Architecture("small", (8,), STAGES, 3), seed=1, **changes)


def circle(corners=100, turns=1):
    angle = torch.arange(corners, dtype=torch.float64) * 2 * math.pi * turns / corners
    return torch.stack([angle.cos(), angle.sin()], 1)


def test_padding_appends_zeros_and_keeps_distances():
    x = cloud(6, 3)
    padded = dimension.pad(x, 7)
    assert torch.equal(padded[:, :3], x)
    assert padded.shape == (6, 7)
    assert not padded[:, 3:].any()
    assert torch.allclose(torch.cdist(padded, padded), torch.cdist(x, x))
    assert torch.equal(dimension.pad(x, 3), x)
    with pytest.raises(ValueError, match="dimension must be at least 3, not 2"):
        dimension.pad(x, 2)


def test_random_projections_are_orthonormal_nested_and_repeatable():
    basis = dimension.random_projection(9, 4, seed=2)
    assert torch.allclose(basis.T @ basis, torch.eye(4, dtype=torch.float64))
    assert torch.equal(basis, dimension.random_projection(9, 4, seed=2))
    assert torch.equal(basis, dimension.random_projection(9, 6, seed=2)[:, :4])
    assert not torch.equal(basis, dimension.random_projection(9, 4, seed=3))
    with pytest.raises(ValueError, match="kept must be at most dimension = 3, not 4"):
        dimension.random_projection(3, 4)


def test_random_projections_keep_the_expected_share_of_a_square():
    z = cloud(1, 20)
    kept = [(z @ dimension.random_projection(20, 5, seed)).square().sum() for seed in range(400)]
    assert torch.stack(kept).mean() / z.square().sum() == pytest.approx(5 / 20, rel=0.1)


@pytest.mark.parametrize("turns", [-2, -1, 1, 3])
def test_the_winding_number_counts_turns(turns):
    assert dimension.winding_number(circle(turns=turns), [0.3, -0.2]) == turns
    assert dimension.winding_number(circle(turns=turns).numpy() + 5, np.array([5.0, 5.0])) == turns
    assert dimension.winding_number(circle(turns=turns), [1.3, 0.0]) == 0


def test_a_figure_of_eight_winds_both_ways():
    angle = torch.linspace(0, 2 * math.pi, 201)[:-1]
    eight = torch.stack([angle.sin(), (2 * angle).sin() / 2], 1)
    found = [dimension.winding_number(eight, [place, 0.0]) for place in (-0.5, 0.5)]
    assert sorted(found) == [-1, 1]


@pytest.mark.parametrize("point", [[1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
def test_a_point_on_the_curve_is_refused(point):
    square = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, -2.0]]
    with pytest.raises(ValueError, match="point must not lie on curve"):
        dimension.winding_number(square, point)


@pytest.mark.parametrize(("curve", "point"), [(torch.zeros(4, 3), [0.0, 0.0]), (circle(), [1.0])])
def test_what_is_not_planar_has_no_winding_number(curve, point):
    with pytest.raises(ValueError, match=r"shape \(corners, 2\)"):
        dimension.winding_number(curve, point)


def test_fisher_ratio_of_four_points():
    # means at 0 and 10, the mean of all at 5: between 4 * 25, within 4 * 1
    x = [[-1.0], [1.0], [9.0], [11.0]]
    assert dimension.fisher_ratio(x, [7, 7, 2, 2]) == pytest.approx(25)


def test_fisher_ratio_is_the_same_in_other_coordinates():
    x, labels = cloud(30, 4), torch.arange(30) % 3
    x[labels == 1] += 2
    ratio = dimension.fisher_ratio(x, labels)
    turn = dimension.random_projection(4, 4)
    moved = dimension.pad(3 * x @ turn + 5, 9)
    assert dimension.fisher_ratio(moved, labels) == pytest.approx(ratio)
    assert dimension.fisher_ratio(x.numpy(), labels.numpy()) == pytest.approx(ratio)


def test_fisher_ratio_at_its_ends():
    labels = [0, 0, 1, 1]
    assert dimension.fisher_ratio([[1.0], [3.0], [1.0], [3.0]], labels) == 0
    assert dimension.fisher_ratio([[1.0], [1.0], [3.0], [3.0]], labels) == math.inf
    with pytest.raises(ValueError, match="two classes"):
        dimension.fisher_ratio([[1.0], [2.0]], [1, 1])
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        dimension.fisher_ratio([[1.0], [2.0]], [1, 1, 0])


@pytest.mark.parametrize("points", [400, 6])
def test_participation_ratio_counts_equal_directions(points):
    corners = torch.eye(10, dtype=torch.float64)[:6].repeat(points // 6, 1)
    corners = torch.cat([corners, -corners])
    assert dimension.participation_ratio(corners) == pytest.approx(6)
    assert dimension.participation_ratio(corners @ torch.eye(10, 90).double() + 3) == (
        pytest.approx(6)
    )


def test_participation_ratio_of_unequal_directions():
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert dimension.participation_ratio(x) == pytest.approx((4 + 1) ** 2 / (16 + 1))
    with pytest.raises(ValueError, match="two different points"):
        dimension.participation_ratio(torch.ones(3, 2))


def test_milestones_are_the_ends_of_the_tracks():
    model, x = network(), cloud(7, 8).float()
    found = dimension.milestones(model.train(), x)
    assert model.training
    assert [tuple(state.shape) for state in found] == [
        (7, width) for width in (8, 8, 8, 5, 5, 4, 4, 3)
    ]
    tracks = geobook.record_tracks(model, x)
    for stage, track in enumerate(tracks):
        assert torch.equal(found[2 * stage + 1], track[0])
        assert torch.equal(found[2 * stage + 2], track[-1])
    assert torch.equal(found[-1], model.eval()(x))
    assert torch.equal(found[0], x)


def test_a_stage_can_be_left_out():
    model, x = network(), cloud(7, 8).float()
    shorter = dimension.without_stages(model, [1])
    found = dimension.milestones(shorter, x)
    assert torch.equal(found[3], found[4])
    assert not torch.equal(found[1], found[2])
    assert [len(blocks) for blocks in model.stages] == [2, 3, 1]
    with torch.no_grad():
        assert torch.equal(shorter.eval().transitions[2](found[3]), found[5])
    for state in dimension.milestones(dimension.without_stages(model, range(3)), x):
        assert len(state) == 7
    with pytest.raises(ValueError, match="from 0 to 2, not 3"):
        dimension.without_stages(model, [3])


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_turned_coordinates_compute_the_same(stage, residual):
    model, x = network(norm="none", residual=residual), cloud(7, 8).float()
    width = STAGES[stage].width
    turn = dimension.random_projection(width, width, 4).float()
    turned = dimension.turned_stage(model, stage, turn)
    assert torch.allclose(turned(x), model(x), atol=1e-4)
    before, after = geobook.record_tracks(model, x), geobook.record_tracks(turned, x)
    assert torch.allclose(after[stage], before[stage] @ turn.T, atol=1e-4)
    penalties = [
        sum(w.detach().square().sum().item() for w in one.parameters() if w.ndim > 1)
        for one in (model, turned)
    ]
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-5)


def test_turning_the_first_or_a_normed_stage_is_refused():
    unit = torch.eye(5)
    with pytest.raises(ValueError, match="norm 'none' or 'inner'"):
        dimension.turned_stage(network(), 1, unit)
    bare = network(norm="none")
    with pytest.raises(ValueError, match="from 1 to 2, not 0"):
        dimension.turned_stage(bare, 0, unit)
    for matrix in (2 * unit, torch.eye(4)):
        with pytest.raises(ValueError, match=r"orthogonal matrix of shape \(5, 5\)"):
            dimension.turned_stage(bare, 1, matrix)
