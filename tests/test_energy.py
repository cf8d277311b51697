"""Kinetic energy, the ladder below it, and the bounds above it, against known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geobook import controls
from geobook.energy import (
    PARTS,
    energy_ladder,
    kinetic_energy,
    relative_length,
    step_energies,
    weight_bounds,
)
from geobook.evaluation import settle_norms
from geobook.networks import build
from geobook.tracks import record_tracks
from geobook.transport import displacement_interpolation, wasserstein2


def cloud(n=40, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def geodesic(x, y, steps=5):
    return torch.stack([displacement_interpolation(x, y, t) for t in np.linspace(0, 1, steps + 1)])


def test_a_translation_in_equal_steps_has_nothing_but_transport():
    x = cloud()
    shift = torch.tensor([3.0, 0.0, 4.0])
    track = torch.stack([x + t * shift for t in torch.linspace(0, 1, 6, dtype=torch.float64)])
    ladder = energy_ladder(track)
    assert ladder.translation == pytest.approx(25)
    assert ladder.deformation == pytest.approx(0, abs=1e-9)
    assert ladder.pairing + ladder.detour + ladder.pace == pytest.approx(0, abs=1e-12)
    assert kinetic_energy(track) == pytest.approx(25)
    assert step_energies(track).tolist() == pytest.approx([1.0] * 5)


def test_a_displacement_interpolation_attains_the_minimum():
    x, y = cloud(seed=1), cloud(seed=2) * 2
    track = geodesic(x, y)
    assert kinetic_energy(track) == pytest.approx(wasserstein2(x, y) ** 2)


def test_deformation_is_what_is_left_of_the_distance_without_the_shift_of_the_mean():
    x, y = cloud(seed=3), 3 * cloud(seed=4) + 5
    ladder = energy_ladder(torch.stack([x, y]))
    centred = wasserstein2(x - x.mean(0), y - y.mean(0))
    assert ladder.deformation == pytest.approx(centred**2)
    assert ladder.wasserstein2_squared == pytest.approx(wasserstein2(x, y) ** 2)


def test_uneven_pace_is_charged_as_such():
    x = cloud(5)
    times = torch.tensor([0.0, 0.9, 1.0], dtype=torch.float64)
    track = torch.stack([x + t for t in times])
    ladder = energy_ladder(track)
    assert ladder.pace == pytest.approx(3 * (2 * (0.81 + 0.01) - 1))
    assert ladder.detour == pytest.approx(0, abs=1e-12)


def test_a_detour_is_charged_as_such():
    track = controls.arc(400, math.pi)  # half a circle of radius 1
    ladder = energy_ladder(track)
    assert ladder.displacement == pytest.approx(4)
    assert ladder.detour == pytest.approx(math.pi**2 - 4, rel=1e-4)
    assert ladder.pace == pytest.approx(0, abs=1e-9)


def test_labels_that_forbid_the_exchange_of_partners_are_charged_to_the_classes():
    x = torch.tensor([[0.0], [1.0]])
    track = torch.stack([x, x.flip(0)])
    free, labelled = energy_ladder(track), energy_ladder(track, torch.tensor([0, 1]))
    assert (free.within_classes, free.between_classes) == (1, 0)
    assert (labelled.within_classes, labelled.between_classes) == (0, 1)
    assert energy_ladder(track, [7, 7]).within_classes == 1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(2, 12), st.integers(1, 4), st.integers(0, 10**6))
def test_the_parts_are_not_negative_and_add_up(steps, n, d, seed):
    track = cloud((steps + 1) * n, d, seed).reshape(steps + 1, n, d)
    labels = torch.arange(n) % 2
    for ladder in (energy_ladder(track), energy_ladder(track, labels)):
        assert all(getattr(ladder, part) >= 0 for part in PARTS)
        assert ladder.kinetic_energy == pytest.approx(kinetic_energy(track))
        assert ladder.wasserstein2_squared == pytest.approx(
            wasserstein2(track[0], track[-1]) ** 2, abs=1e-9
        )
        assert sum(ladder.shares().values()) == pytest.approx(1)


def test_what_never_moves_has_no_energy_and_no_shares():
    ladder = energy_ladder(torch.ones(3, 4, 2))
    assert ladder.kinetic_energy == 0
    assert set(ladder.shares().values()) == {0.0}


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", ["none", "inner", "both"])
def test_bounds_hold_for_every_block_and_are_ordered(residual, norm):
    network = build("digits", residual=residual, norm=norm, width=16, input_shape=(16,), seed=1)
    x = cloud(60, 16, 3).float()
    settle_norms(network, x)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.1)
    bounds = weight_bounds(network, x)
    assert bounds.energy.shape == (5,)
    assert bool((bounds.energy <= bounds.spectral * (1 + 1e-6)).all())
    assert bool((bounds.spectral <= bounds.frobenius * (1 + 1e-9)).all())
    assert bool((bounds.looseness >= 1).all())
    assert bounds.total_looseness >= 1
    first = network.stages[0][0]
    wanted = sum(
        float(m.weight.detach().double().square().sum()) for m in (first.first, first.second)
    )
    assert float(bounds.weights[0]) == pytest.approx(wanted)


def one_unit(residual):
    """Block of width 1: x -> W2 relu(W1 x) with W1 = 2, W2 = 3, on inputs 1 and 2."""
    network = build("digits", residual=residual, norm="none", bias=False, width=1, blocks=1,
                    input_shape=(1,))  # fmt: skip
    with torch.no_grad():
        network.stages[0][0].first.weight.fill_(2.0)
        network.stages[0][0].second.weight.fill_(3.0)
    return weight_bounds(network, torch.tensor([[1.0], [2.0]]))


def test_the_bound_is_attained_in_one_dimension():
    bounds = one_unit(residual=True)
    assert bounds.energy.tolist() == bounds.frobenius.tolist() == [90.0]
    assert bounds.weights.tolist() == [13.0]


def test_the_bound_of_a_plain_block_has_a_term_without_weights():
    bounds = one_unit(residual=False)
    assert bounds.energy.tolist() == [62.5]  # (6 - 1)^2 (1 + 4) / 2
    assert bounds.frobenius.tolist() == [122.5]  # (6 + 1)^2 (1 + 4) / 2


def test_relative_length_is_bounded_by_the_weight_decay():
    network = build("digits", norm="none", bias=False, width=16, input_shape=(16,), seed=2,
                    branch_gain=0.2)  # fmt: skip
    x = cloud(30, 16, 5).float()
    track = record_tracks(network, x)[0]
    assert relative_length(track) <= float(weight_bounds(network, x).weights.sum()) / 2
    assert relative_length(torch.tensor([[[1.0]], [[2.0]], [[1.0]]])) == 1.5


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="labels must hold one class for each of 2 points"):
        energy_ladder(torch.zeros(2, 2, 1), [1])
    with pytest.raises(ValueError, match="track must hold at least two layers"):
        kinetic_energy(torch.zeros(1, 2, 1))
    with pytest.raises(ValueError, match="origin"):
        relative_length(torch.zeros(2, 2, 1))
    with pytest.raises(ValueError, match="stage must be below 1"):
        weight_bounds(build("digits"), torch.zeros(2, 64), stage=1)
    with pytest.raises(ValueError, match="fully connected"):
        weight_bounds(build("digits-conv", blocks=1), torch.zeros(2, 1, 8, 8))
