"""Checks of arguments: what is let through, and what each refusal says."""

import numpy as np
import pytest
import torch

from geobook.validation import (
    as_point_pair,
    as_points,
    as_tensor,
    as_track,
    count,
    non_negative,
    one_of,
    positive,
)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.zeros((2, 3), np.float32), torch.float32),
        (np.zeros((2, 3)), torch.float64),
        (torch.zeros(2, 3, dtype=torch.float16), torch.float32),
        (torch.zeros(2, 3, dtype=torch.bfloat16), torch.float32),
        ([[1, 2, 3], [4, 5, 6]], torch.float64),
        (np.zeros((2, 3), np.uint8), torch.float64),
        (np.zeros((2, 3), bool), torch.float64),
    ],
)
def test_arrays_become_floating_point(value, dtype):
    tensor = as_tensor(value, "x")
    assert tensor.dtype == dtype
    assert tensor.shape == (2, 3)


def test_values_and_order_are_kept():
    backwards = np.arange(6.0).reshape(2, 3)[::-1]
    assert as_tensor(backwards, "x").tolist() == [[3, 4, 5], [0, 1, 2]]
    assert not as_tensor(torch.zeros(2, requires_grad=True), "x").requires_grad


def test_large_finite_values_pass_although_their_sum_does_not():
    assert len(as_tensor(torch.full((9,), 3e38), "x")) == 9
    as_tensor(torch.tensor([3e38, 3e38, -3e38, -3e38]), "x")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_counted(bad):
    with pytest.raises(ValueError, match="x must be finite, but 2 of its 4 values are not"):
        as_tensor([1.0, bad, 2.0, bad], "x")
    with pytest.raises(ValueError, match="x must be finite, but 2 of its 2"):
        as_tensor([bad, -bad], "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "x must be an array or tensor, not str"),
        (None, "x must be an array or tensor, not NoneType"),
        ([[1, 2], [3]], "x must be an array or tensor, not list"),
        (np.array([1j]), "x must hold real numbers, not torch.complex128"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        as_tensor(value, "x")


def test_points_are_flattened():
    assert as_points(torch.zeros(3, 2, 4, 5), "x").shape == (3, 40)
    assert as_points(torch.zeros(1, 2), "x", minimum=1).shape == (1, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(points, ...\), not \(3,\)"):
        as_points(torch.zeros(3), "x")
    with pytest.raises(ValueError, match="x must hold at least 2 points, not 1"):
        as_points(torch.zeros(1, 2), "x")


def test_pairs_of_clouds_have_one_type():
    x, y = as_point_pair(torch.zeros(3, 2, 2), np.ones((3, 4)))
    assert x.dtype == y.dtype == torch.float64
    assert x.shape == y.shape == (3, 4)
    with pytest.raises(ValueError, match="x and y must hold equally many points, not 3 and 2"):
        as_point_pair(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="x and y must have the same dimension, not 4 and 5"):
        as_point_pair(torch.zeros(3, 4), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="y must be finite"):
        as_point_pair(torch.zeros(2, 1), torch.full((2, 1), float("nan")))


def test_tracks_have_layers_and_points():
    assert as_track(torch.zeros(4, 3, 2, 5)).shape == (4, 3, 10)
    with pytest.raises(ValueError, match=r"path must have shape \(layers, points, ...\)"):
        as_track(torch.zeros(4, 3), "path")
    with pytest.raises(ValueError, match="at least two layers, not 1"):
        as_track(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="at least one point, not 0"):
        as_track(torch.zeros(2, 0, 2))


def test_numbers_in_range_are_returned_as_floats():
    assert (non_negative(0, "x"), positive(np.float32(0.5), "x")) == (0.0, 0.5)
    assert isinstance(positive(3, "x"), float)
    assert (count(np.int64(3), "x"), count(0, "x", minimum=0)) == (3, 0)
    assert type(count(np.int64(3), "x")) is int
    assert one_of("b", "x", ("a", "b")) == "b"


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
@pytest.mark.parametrize("check", [non_negative, positive])
def test_numbers_out_of_range_are_refused(check, value):
    with pytest.raises(ValueError, match=f"x must be a finite number .* not {value!r}"):
        check(value, "x")


def test_zero_is_not_positive():
    with pytest.raises(ValueError, match="x must be a finite number above 0, not 0"):
        positive(0, "x")


@pytest.mark.parametrize("value", ["1", None, [1, 2], 1j, True])
@pytest.mark.parametrize("check", [non_negative, positive])
def test_what_is_no_number_is_refused(check, value):
    with pytest.raises(TypeError, match="x must be a number, not "):
        check(value, "x")


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, "3", None, True])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match="x must be a whole number of at least 1, not "):
        count(value, "x")


def test_another_choice_is_refused():
    with pytest.raises(ValueError, match="x must be one of 'a', 2, not 'c'"):
        one_of("c", "x", ("a", 2))


def test_points_and_tracks_have_coordinates():
    with pytest.raises(ValueError, match="x must hold points of at least one coordinate"):
        as_points(torch.zeros(3, 0), "x")
    with pytest.raises(ValueError, match="track must hold points of at least one coordinate"):
        as_track(torch.zeros(3, 2, 0))
