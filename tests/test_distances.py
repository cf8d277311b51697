"""Distances of tracks and the bound of Theorem 1, against known answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

import geobook
from geobook import controls, distances, memory
from geobook.distances import (
    below_bound,
    class_pairs,
    class_room,
    compare_tracks,
    straightened,
    track_distance,
    track_distance_bound,
)
from geobook.transport import optimal_assignment

ROUNDING = 1 - 1e-9
draws = st.integers(0, 2**31 - 1)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_pair(n):
    return torch.combinations(torch.arange(n))


def straight(x, y, steps):
    return straightened(torch.stack([x, y]), steps)


# --- Theorem 1 ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=draws, d=st.integers(1, 6), steps=st.integers(1, 12), skew=st.floats(0, 20))
def test_no_pair_of_a_monotone_map_is_below_the_bound(seed, d, steps, skew):
    x, root, turn = normal(seed, 12, d), normal(seed + 1, d, d), normal(seed + 2, d, d)
    # monotone: positive semidefinite plus skew; not optimal unless the skew part is 0
    matrix = root @ root.T + skew * (turn - turn.T)
    found = compare_tracks(straight(x, x @ matrix.T, steps), every_pair(12))
    assert bool((found.continuous >= found.bound * ROUNDING - 1e-12).all())
    assert bool((found.distance >= found.continuous * ROUNDING).all())


@settings(max_examples=60, deadline=None)
@given(seed=draws, d=st.integers(1, 6))
def test_no_pair_of_a_monotone_map_that_is_not_linear_is_below_the_bound(seed, d):
    x, w, b = normal(seed, 12, d), normal(seed + 1, 5, d), normal(seed + 2, 5)
    rectified = torch.relu(x @ w.T + b) @ w  # the gradient of a convex function
    found = compare_tracks(straight(x, rectified, 7), every_pair(12))
    assert bool(found.monotone.all())
    assert not bool(found.below.any())
    assert not bool(below_bound(found.continuous, found.bound).any())


@settings(max_examples=60, deadline=None)
@given(seed=draws, d=st.integers(1, 6), n=st.integers(2, 30), size=st.floats(0.01, 100))
def test_no_pair_of_an_optimal_assignment_is_below_the_bound(seed, d, n, size):
    x, y = normal(seed, n, d), size * normal(seed + 1, n, d)
    partner = y[optimal_assignment(x, y).permutation]
    found = compare_tracks(straight(x, partner, 9), every_pair(n))
    assert bool((found.continuous >= found.bound * ROUNDING).all())
    assert not bool(found.below.any())


@settings(max_examples=60, deadline=None)
@given(seed=draws, d=st.integers(2, 6), a=st.floats(0.01, 100), b=st.floats(0.01, 100))
def test_equality_where_the_differences_are_at_right_angles(seed, d, a, b):
    frame = torch.linalg.qr(normal(seed, d, d)).Q
    x, y = normal(seed + 1, 2, d), normal(seed + 2, 2, d)
    x[1], y[1] = x[0] - a * frame[0], y[0] - b * frame[1]
    found = compare_tracks(torch.stack([x, y]), [[0, 1]])
    assert float(found.bound) == pytest.approx(a * b / math.hypot(a, b), rel=1e-6)
    assert float(found.continuous) == pytest.approx(float(found.bound), rel=1e-6)
    # and the place is t = a^2 / (a^2 + b^2)
    t = a**2 / (a**2 + b**2)
    there = (1 - t) * (x[0] - x[1]) + t * (y[0] - y[1])
    assert float(there.norm()) == pytest.approx(float(found.bound), rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(seed=draws, d=st.integers(2, 6))
def test_straight_pairs_are_below_the_bound_exactly_where_they_are_not_monotone(seed, d):
    x, y = normal(seed, 20, d), normal(seed + 1, 20, d)
    found = compare_tracks(torch.stack([x, y]), every_pair(20))
    clear = (found.inner / (found.first * found.last)).abs() > 1e-6
    below = below_bound(found.continuous, found.bound)
    assert bool((below == ~found.monotone)[clear].all())


@settings(max_examples=60, deadline=None)
@given(seed=draws, stray=st.floats(0, 0.5))
def test_states_that_stray_cost_at_most_twice_as_much(seed, stray):
    x, y = normal(seed, 15, 3), normal(seed + 1, 15, 3)
    track = straight(x, y[optimal_assignment(x, y).permutation], 6)
    push = normal(seed + 2, 7, 15, 3)
    push[[0, -1]] = 0
    near = track + stray * push / push.norm(dim=2, keepdim=True).clamp(min=1e-12)
    found = compare_tracks(near, every_pair(15))
    assert bool((found.distance >= found.bound - 2 * stray - 1e-9).all())


def test_a_common_clock_changes_nothing_and_private_ones_can_make_tracks_meet():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    clock = torch.tensor([[[0.0]], [[0.1]], [[0.9]], [[1.0]]], dtype=torch.float64)
    found = compare_tracks(x + clock, [[0, 1]])
    assert float(found.distance) == pytest.approx(1)
    private = torch.tensor([[[0.0], [1.0]], [[1.0], [1.0]], [[1.0], [2.0]]])
    assert compare_tracks(private, [[0, 1]]).distance.tolist() == [0]


# --- the bound ------------------------------------------------------------------------------------


@given(st.floats(0, 1e6, allow_subnormal=False), st.floats(0, 1e6, allow_subnormal=False))
def test_the_bound_lies_between_the_smaller_one_and_that_over_root_two(a, b):
    bound, least = float(track_distance_bound(a, b)), min(a, b)
    assert least / math.sqrt(2) * ROUNDING <= bound <= least


def test_the_bound_has_known_values_and_survives_extreme_sizes():
    assert float(track_distance_bound(3, 4)) == pytest.approx(2.4)
    assert track_distance_bound([0.0, 0.0, 2.0], [0.0, 5.0, 2.0]).tolist() == pytest.approx(
        [0, 0, math.sqrt(2)]
    )
    assert float(track_distance_bound(1e200, 1e200)) == pytest.approx(1e200 / math.sqrt(2))
    assert float(track_distance_bound(1e-200, 1e-200)) == pytest.approx(1e-200 / math.sqrt(2))
    a, b = np.ones((3, 1)), torch.ones(4)
    assert track_distance_bound(a, b).shape == (3, 4)
    inverse = 1 / float(track_distance_bound(1.7, 0.4)) ** 2
    assert inverse == pytest.approx(1 / 1.7**2 + 1 / 0.4**2)


@pytest.mark.parametrize(("a", "b", "name"), [(-1.0, 1.0, "a"), (1.0, [2.0, -0.5], "b")])
def test_a_negative_distance_is_refused_by_name(a, b, name):
    with pytest.raises(ValueError, match=f"{name} must not be negative"):
        track_distance_bound(a, b)


def test_an_infinite_distance_is_refused():
    with pytest.raises(ValueError, match="a must be finite"):
        track_distance_bound(math.inf, 1.0)


# --- the distance ---------------------------------------------------------------------------------


def test_the_distance_is_the_least_of_all_layers():
    track = normal(0, 4, 9, 5)
    expected = np.min([squareform(pdist(state)) for state in track.numpy()], axis=0)
    assert np.allclose(track_distance(track), expected)
    pairs = every_pair(9)
    assert torch.allclose(track_distance(track, pairs), track_distance(track)[tuple(pairs.T)])
    assert track_distance(track.float()).dtype == torch.float32


def test_all_pairs_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    track, among = normal(1, 3, 20, 2, 2), normal(2, 3, 11, 2, 2)
    labels, classes = torch.arange(20) % 3, torch.arange(11) % 3
    pairs = every_pair(20)
    whole = track_distance(track), compare_tracks(track, pairs).distance
    room = class_room(track, labels, among, classes)
    monkeypatch.setattr(distances, "_VALUES_AT_ONCE", 50)
    assert torch.equal(track_distance(track), whole[0])
    assert torch.equal(compare_tracks(track, pairs).distance, whole[1])
    assert torch.equal(class_room(track, labels, among, classes), room)


def test_small_distances_far_from_the_origin_are_not_lost():
    x = torch.tensor([[1000.0, 0.0], [1000.001, 0.0]])
    found = track_distance(torch.stack([x, x]))
    assert float(found[0, 1]) == pytest.approx(0.001, rel=0.05)
    assert torch.equal(found.diagonal(), torch.zeros(2))


def test_too_large_a_matrix_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 100)
    with pytest.raises(MemoryError, match="give pairs"):
        track_distance(normal(0, 2, 50, 1))


@pytest.mark.parametrize(
    ("pairs", "error", "words"),
    [
        ([[0, 5]], ValueError, "points 0 to 4, not 0 to 5"),
        ([[-1, 2]], ValueError, "not -1 to 2"),
        ([0, 1], ValueError, r"shape \(m, 2\)"),
        (torch.empty(0, 2, dtype=torch.long), ValueError, "m > 0"),
        ([[0.0, 1.0]], TypeError, "whole numbers"),
    ],
)
def test_bad_pairs_are_refused(pairs, error, words):
    with pytest.raises(error, match=words):
        track_distance(normal(0, 2, 5, 2), pairs)


# --- pairs ----------------------------------------------------------------------------------------


def test_what_is_said_of_a_pair():
    track = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[0.0, 0.0], [1.0, 0.0]],
                          [[0.0, 0.0], [0.0, 4.0]]], dtype=torch.float64)  # fmt: skip
    found = compare_tracks(track, [[0, 1]])
    assert len(found) == 1
    assert (float(found.first), float(found.last), float(found.bound)) == (3, 4, 2.4)
    assert (float(found.distance), int(found.nearest), float(found.inner)) == (1, 1, 0)
    assert float(found.straight) == pytest.approx(2.5)  # halfway between (3, 0) and (0, 4)
    assert float(found.continuous) == pytest.approx(4 / math.sqrt(17))
    assert float(found.ratio) == pytest.approx(1 / 2.4)
    assert bool(found.below)
    assert bool(found.monotone)
    assert not bool(found.trivial)


def test_a_pair_that_starts_or_ends_in_one_place_is_at_its_bound():
    track = torch.tensor([[[1.0], [1.0]], [[5.0], [7.0]]])
    found = compare_tracks(track, [[0, 1]])
    assert (float(found.bound), float(found.ratio), bool(found.below)) == (0, 1, False)
    assert bool(found.trivial)


def test_a_pair_that_is_closest_at_an_end_is_never_below():
    track = normal(3, 6, 40, 2)
    found = compare_tracks(track, every_pair(40))
    assert bool(found.trivial.any())
    assert bool(found.below.any())
    assert not bool((found.trivial & found.below).any())
    assert float(found.ratio.max()) <= math.sqrt(2) + 1e-12


def test_rounding_does_not_put_a_pair_below_its_bound():
    a = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.1
    bound = track_distance_bound(a, 2 * a)
    assert not bool(below_bound(bound, bound).any())
    assert not bool(below_bound(bound * (1 - 2e-7), bound).any())
    assert bool(below_bound(bound * (1 - 1e-4), bound).all())


def test_class_pairs_are_all_pairs_drawn_without_repetition():
    labels = torch.arange(30) % 4
    different, same = class_pairs(labels), class_pairs(labels, different=False)
    assert len(different) + len(same) == 30 * 29 // 2
    assert bool((labels[different[:, 0]] != labels[different[:, 1]]).all())
    assert bool((labels[same[:, 0]] == labels[same[:, 1]]).all())
    few = class_pairs(labels, number=50, seed=1)
    assert len({tuple(pair) for pair in few.tolist()}) == 50
    assert {tuple(pair) for pair in few.tolist()} <= {tuple(pair) for pair in different.tolist()}
    assert torch.equal(few, class_pairs(labels, number=50, seed=1))
    assert not torch.equal(few, class_pairs(labels, number=50, seed=2))
    assert torch.equal(class_pairs(labels, number=10**6), different)


@pytest.mark.parametrize(
    ("labels", "different", "words"),
    [([1, 1], True, "different classes"), ([0, 1], False, "one class"), ([[0, 1]], True, "shape")],
)
def test_labels_without_such_a_pair_are_refused(labels, different, words):
    with pytest.raises(ValueError, match=words):
        class_pairs(labels, different)


# --- room and straightening -----------------------------------------------------------------------


def test_room_is_the_distance_to_the_nearest_of_another_class():
    track = torch.tensor([[[0.0], [1.0], [5.0]], [[0.0], [4.0], [5.0]]])
    room = class_room(track, [0, 0, 1])
    assert room.tolist() == [[5, 4, 4], [5, 1, 1]]
    among = torch.tensor([[[2.0]], [[2.0]]])
    assert class_room(track, [0, 0, 1], among, [0]).tolist() == [
        [math.inf, math.inf, 3], [math.inf, math.inf, 3]
    ]  # fmt: skip


def test_the_least_room_of_all_layers_is_the_distance_to_the_nearest_track():
    track, labels = normal(4, 5, 30, 3), torch.arange(30) % 3
    apart = track_distance(track).masked_fill(labels[:, None] == labels, torch.inf)
    assert torch.allclose(class_room(track, labels).amin(0), apart.amin(1))


def test_room_refuses_what_does_not_fit():
    track = normal(0, 3, 4, 2)
    with pytest.raises(ValueError, match="labels must hold one class for each of 4 points"):
        class_room(track, [0, 1])
    with pytest.raises(ValueError, match="among_labels must hold a class"):
        class_room(track, [0, 1, 0, 1], track)
    with pytest.raises(ValueError, match="layers and the dimension"):
        class_room(track, [0, 1, 0, 1], normal(0, 2, 4, 2), [0, 1, 0, 1])


def test_straightened_tracks_keep_their_ends_and_make_equal_steps():
    track = normal(5, 4, 6, 3)
    found = straightened(track)
    assert torch.allclose(found[[0, -1]], track[[0, -1]])
    assert geobook.line_shape_ratio(found) == pytest.approx(1)
    assert torch.allclose(geobook.segment_proportions(found), torch.full((3,), 1 / 3).double())
    assert len(straightened(track, 10)) == 11
    with pytest.raises(ValueError, match="steps must be"):
        straightened(track, 0)


def test_the_distance_of_straight_tracks_is_that_of_the_straightened_ones():
    track, pairs = normal(6, 6, 12, 3), every_pair(12)
    found = compare_tracks(track, pairs)
    assert torch.allclose(found.straight, track_distance(straightened(track), pairs))


def test_random_displacements_in_high_dimension_keep_the_bound_by_themselves():
    x, y = normal(7, 60, 500), normal(8, 60, 500)
    moved = controls.random_displacement(x, y)
    found = compare_tracks(straight(x, moved, 10), every_pair(60))
    assert bool(found.monotone.all())
    assert not bool(found.below.any())
