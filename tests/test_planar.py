"""Points in the plane: shapes, scale, seeds, and a network that learns them."""

import pytest
import torch

from geobook import planar
from geobook.networks import build
from geobook.training import Recipe, train

every_set = pytest.mark.parametrize("name", planar.SHAPES)


@every_set
def test_classes_are_balanced_and_the_scale_is_one(name):
    data = planar.load(name, points=500, noise=0.0)
    assert data.images.shape == (500, 2)
    assert data.labels.bincount().tolist() == [250, 250]
    assert data.images.mean(0).abs().max() < 0.01
    assert float(data.images.square().mean()) == pytest.approx(1, abs=0.02)
    assert data.classes == planar.CLASSES[name]


@every_set
def test_points_depend_on_seed_and_split_alone(name):
    first, again = planar.load(name, seed=3), planar.load(name, seed=3)
    assert torch.equal(first.images, again.images)
    for other in (planar.load(name, seed=4), planar.load(name, "test", seed=3)):
        assert torch.equal(first.labels, other.labels)
        assert not torch.equal(first.images, other.images)


def test_noise_has_the_stated_size():
    clean, noisy = (planar.load("rings", points=4000, noise=noise) for noise in (0.0, 0.1))
    assert float((noisy.images - clean.images).std()) == pytest.approx(0.1, rel=0.05)


def test_the_rings_are_rings():
    data = planar.load("rings", noise=0.0)
    radius = data.images.norm(dim=1)
    assert float(radius[data.labels == 1].max()) < 0.5 * float(radius[data.labels == 0].min())


def test_an_odd_number_of_points_is_split_as_evenly_as_can_be():
    assert planar.load("spirals", points=7).labels.bincount().tolist() == [3, 4]


def test_a_network_learns_the_moons():
    data = planar.load("moons", points=100)
    recipe = Recipe(epochs=60, batch_size=25, clip=1.0)
    result = train(build("plane", blocks=3), data, recipe, progress=False, score_points=0)
    assert result.history["accuracy"][-1] > 95


def test_points_cannot_be_augmented():
    data = planar.load()
    assert "points" in repr(data)
    with pytest.raises(ValueError, match="must be images to be augmented"):
        next(data.batches(4, torch.Generator(), augment=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "circle"}, "name must be one of 'moons', 'rings', 'spirals', not 'circle'"),
        ({"split": "all"}, "split must be one of"),
        ({"points": 3}, "points must be a whole number of at least 4"),
        ({"noise": -1.0}, "noise must be a finite number of at least 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_input_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        planar.load(**wrong)
