"""Training on the kinetic energy as the penalty."""

import pytest
import torch

import geobook
from geobook import Recipe, penalties
from geobook.stacks import stack
from geobook.training import Diverged

DIGITS = geobook.data.load("digits").subset(200)
SHORT = Recipe(epochs=2, batch_size=50)


def build(seed=0, **changes):
    return geobook.build("digits", blocks=2, norm="none", branch_gain=0.3, seed=seed, **changes)


def test_energy_of_a_batch_is_that_of_its_recorded_tracks():
    network = build()
    logits, energies = penalties.batch_energies(network, DIGITS.images)
    track = geobook.record_tracks(network, DIGITS.images)[0]
    assert energies.item() == pytest.approx(geobook.kinetic_energy(track), rel=1e-5)
    assert torch.allclose(logits, network(DIGITS.images))


def test_energies_of_a_stack_are_those_of_its_members():
    members = [build(seed) for seed in range(3)]
    inputs = DIGITS.images.flatten(1).repeat(1, 3)
    _, together = penalties.batch_energies(stack(members), inputs, 3)
    alone = [penalties.batch_energies(n, DIGITS.images)[1] for n in members]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4)


def test_no_energy_weight_is_plain_training():
    one, other = build(), build()
    first = penalties.train_with_energy(one, DIGITS, 0.0, SHORT)
    second = geobook.train(other, DIGITS, SHORT, progress=False)
    assert first.history["loss"] == pytest.approx(second.history["loss"], rel=1e-5)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_penalty_lowers_the_energy():
    energies = []
    for kappa in (0.0, 0.1):
        network = build()
        penalties.train_with_energy(network, DIGITS, kappa, SHORT)
        energies.append(
            geobook.kinetic_energy(geobook.record_tracks(network, DIGITS.images)[0])
        )  # fmt: skip
    assert energies[1] < 0.5 * energies[0]


def test_a_stack_trains_as_each_network_alone():
    chosen = geobook.architecture("digits", blocks=2, norm="none", branch_gain=0.3)
    recipes = [Recipe(epochs=1, batch_size=50, seed=seed) for seed in (0, 1)]
    found = penalties.energy_sweep(chosen, DIGITS, recipes, [0.01, 0.0], residual=True)
    for (network, diverged), recipe, kappa in zip(found, recipes, (0.01, 0.0), strict=True):
        alone = build(recipe.seed)
        penalties.train_with_energy(alone, DIGITS, kappa, recipe)
        assert diverged is None
        for a, b in zip(network.parameters(), alone.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="kappas must be a finite number of at least 0"):
        penalties.train_with_energy(build(), DIGITS, -1.0, SHORT)
    with pytest.raises(ValueError, match="kappas must hold 1 values, not 2"):
        penalties.EnergyTrainer(build(), DIGITS, [SHORT], kappas=[0.0, 1.0])
    with pytest.raises(TypeError, match="must be a Network"):
        penalties.train_with_energy(torch.nn.Linear(2, 2), DIGITS, 0.0, SHORT)


def test_divergence_is_told():
    with pytest.raises(Diverged):
        penalties.train_with_energy(build(), DIGITS, 1e6, SHORT)
