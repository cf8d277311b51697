"""The self-checks of the chapter on flows accept right answers and name the usual wrong ones."""

import math

import numpy as np
import pytest
import torch

from geobook.check.flows import (
    averaged_velocity,
    density_factor,
    second_order_step,
    swap_in_small_steps,
    undoes_large_step,
)
from geobook.flows import field_jacobian


def heun(field, t, x, h):
    first = field(t, x)
    return x + h / 2 * (first + field(t + h, x + h * first))


def middle(field, t, x, h):
    return x + h * field(t + h / 2, x + h / 2 * field(t, x))


def runge_kutta(field, t, x, h):
    a = field(t, x)
    b = field(t + h / 2, x + h / 2 * a)
    c = field(t + h / 2, x + h / 2 * b)
    d = field(t + h, x + h * c)
    return x + h / 6 * (a + 2 * b + 2 * c + d)


def euler(field, t, x, h):
    return x + h * field(t, x)


def frozen(field, t, x, h):
    return x + h * field(t, x + h / 2 * field(t, x))


def undo(velocity, y, rounds=600, part=0.1):
    x = y
    for _ in range(rounds):
        x = x + part * (y - x - velocity(x))
    return x


def undo_by_newton(velocity, y):
    x = y
    for _ in range(30):
        jacobian = np.eye(2) + field_jacobian(lambda t, z: velocity(z), 0, x)
        x = x - np.linalg.solve(jacobian, (x + velocity(x) - y)[:, :, None])[:, :, 0]
    return torch.from_numpy(x)


def turns(steps):
    c, s = math.cos(math.pi / steps), math.sin(math.pi / steps)
    return [[[c - 1, -s], [s, c - 1]]] * steps


def averaged(t, x):
    return (2 * t - 1) * x / ((1 - t) ** 2 + t**2)


RIGHT = [
    (density_factor, lambda a, b, t: math.exp(-(a + b) * t)),
    (density_factor, lambda a, b, t: 1 / np.exp(a * t) / np.exp(b * t)),
    (second_order_step, heun),
    (second_order_step, middle),
    (second_order_step, runge_kutta),
    (undoes_large_step, undo),
    (undoes_large_step, undo_by_newton),
    (swap_in_small_steps, turns(4)),
    (swap_in_small_steps, np.array(turns(7))),
    (swap_in_small_steps, [torch.tensor(step) for step in turns(5)]),
    (averaged_velocity, averaged),
    (averaged_velocity, lambda t, x: x * (2 * t - 1) / (1 - 2 * t * (1 - t))),
]

WRONG = [
    (density_factor, lambda a, b, t: math.exp((a + b) * t), "sign"),
    (density_factor, lambda a, b, t: math.exp(-a * t), "both coordinates"),
    (density_factor, lambda a, b, t: -(a + b), "rate"),
    (density_factor, lambda a, b, t: -(a + b) * t, "logarithm"),
    (density_factor, lambda a, b, t: 1.0, "your function gives 1.0"),
    (density_factor, 3.0, "must be a function"),
    (second_order_step, euler, "like h to the 1.0"),
    (second_order_step, frozen, "a later time"),
    (second_order_step, lambda field, t, x, h: x, "do not follow"),
    (second_order_step, lambda field, t, x, h: x - h * field(t, x), "do not follow"),
    (second_order_step, lambda field, t, x, h: x[0], "must return shape"),
    (second_order_step, lambda field, t, x, h: x * math.nan, "not finite"),
    (second_order_step, lambda field, t, x, h: "there", "must return an array"),
    (second_order_step, "euler", "must be a function"),
    (undoes_large_step, lambda v, y: y - v(y), "wrong place"),
    (undoes_large_step, lambda v, y: y + v(y), "forward"),
    (undoes_large_step, lambda v, y: undo(v, y, 100), "your x + v(x) misses y by"),
    (undoes_large_step, lambda v, y: undo(v, y, 100, part=1.0), "run away"),
    (undoes_large_step, lambda v, y: undo(v, y, 5000, part=1.0), "run away"),
    (undoes_large_step, lambda v, y: y, "for a gentle wave"),
    (undoes_large_step, lambda v, y: v.nonsense, "raised AttributeError"),
    (undoes_large_step, 5, "must be a function"),
    (swap_in_small_steps, turns(3), "norm 1.000"),
    (swap_in_small_steps, [[[-2.0, 0.0], [0.0, -2.0]]], "norm 2.000"),
    (swap_in_small_steps, turns(4)[:3], "the point (1, 0) ends in"),
    (swap_in_small_steps, [-np.eye(2)], "it must be that of the Id + A"),
    (swap_in_small_steps, [np.eye(3)], "shape (2, 2), not (3, 3)"),
    (swap_in_small_steps, [], "shape (2, 2)"),
    (swap_in_small_steps, 7, "a list of matrices"),
    (averaged_velocity, lambda t, x: -averaged(t, x), "sign"),
    (averaged_velocity, lambda t, x: (2 * t - 1) * x, "variance"),
    (averaged_velocity, lambda t, x: 0.0, "everybody"),
    (averaged_velocity, lambda t, x: x, "your function gives 1.0"),
]


@pytest.mark.parametrize(("verify", "answer"), RIGHT)
def test_right_answers_pass(verify, answer):
    verdict = verify(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Right: ")


@pytest.mark.parametrize(("verify", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(verify, answer, hint):
    verdict = verify(answer)
    assert not verdict
    assert hint in verdict.message
    assert repr(verdict).startswith("Not yet: ")


def test_blank_answers_are_told_apart():
    for verify in (density_factor, second_order_step, undoes_large_step, averaged_velocity):
        assert "returns nothing yet" in verify(lambda *_: None).message
        assert "returns nothing yet" in verify(lambda *_: ...).message
    assert "there are no matrices yet" in swap_in_small_steps(...).message


def test_four_small_steps_are_the_fewest_for_a_swap():
    assert "No list is shorter" in swap_in_small_steps(turns(4)).message
    assert "shorter" not in swap_in_small_steps(turns(5)).message
