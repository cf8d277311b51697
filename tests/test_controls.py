"""The null models score what the theory says."""

import math

import pytest
import torch

from geobook import controls
from geobook.tracks import line_shape_ratio, line_shape_score


def test_zigzag_without_amplitude_is_straight():
    track = controls.zigzag(5, 0.0)
    assert track.shape == (6, 1, 2)
    assert line_shape_ratio(track) == line_shape_score(track) == 1


def test_zigzag_with_one_up_and_one_down_has_known_ratio():
    assert line_shape_ratio(controls.zigzag(2, 1.0)) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(("segments", "angle"), [(3, 1.0), (8, 3.0), (200, math.pi)])
def test_arc_has_the_ratio_of_elementary_geometry(segments, angle):
    expected = segments * math.sin(angle / (2 * segments)) / math.sin(angle / 2)
    assert line_shape_ratio(controls.arc(segments, angle)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("segments", [2, 5, 20])
@pytest.mark.parametrize("residual", [False, True])
def test_null_models_score_the_chance_value(segments, residual):
    make = controls.independent_steps if residual else controls.independent_states
    measured = line_shape_score(make(segments, 300, 2000, seed=segments))
    assert measured == pytest.approx(controls.chance_line_shape_score(segments, residual), rel=0.02)


def test_null_models_repeat_with_the_seed_and_change_with_it():
    first, again, other = (controls.independent_states(2, 3, 4, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_random_displacement_keeps_the_lengths_and_loses_the_directions():
    x = controls.independent_states(1, 50, 400)[0]
    y = x + 1 + x.sin()
    moved = controls.random_displacement(x, y, seed=3)
    assert torch.allclose((moved - x).norm(dim=1), (y - x).norm(dim=1))
    cosine = torch.cosine_similarity(moved - x, y - x, dim=1)
    assert cosine.abs().max() < 0.25


def test_shuffled_displacement_deals_out_the_same_displacements():
    x = controls.independent_states(1, 20, 3)[0]
    y = 2 * x
    dealt = controls.shuffled_displacement(x, y, seed=1) - x
    assert torch.allclose(dealt.sort(dim=0).values, (y - x).sort(dim=0).values)
    assert not torch.allclose(dealt, y - x)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: controls.zigzag(0), "segments"),
        (lambda: controls.zigzag(2, -1.0), "amplitude"),
        (lambda: controls.independent_steps(2, 0, 3), "points"),
        (lambda: controls.independent_steps(2, 3, 3, seed=-1), "seed"),
        (lambda: controls.chance_line_shape_score(0, True), "segments"),
        (lambda: controls.random_displacement(torch.zeros(3, 2), torch.zeros(4, 2)), "x and y"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()


def test_an_angle_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match="angle must be a finite number"):
        controls.arc(4, math.nan)
