"""Self-checks of the chapter on the shortest way: right answers pass, usual slips get a hint."""

import numpy as np
import pytest
import torch

from geobook.check.shortest_way import (
    crossing_routes,
    diagonal_gaussians,
    displaced_points,
    line_distance,
    two_pairings,
)
from geobook.gaussians import Gaussian, gaussian_wasserstein2, quantile_wasserstein2
from geobook.transport import displacement_interpolation


def polygon(corners, turn=0.0):
    angle = 2 * np.pi * np.arange(corners) / corners + turn
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def bures(m0, s0, m1, s1):
    return gaussian_wasserstein2(Gaussian(m0, np.diag(s0**2)), Gaussian(m1, np.diag(s1**2)))


def in_order_of_y(x, y, permutation, t):
    own = permutation.argsort()
    return ((1 - t) * x[own] + t * y).numpy()


ROUTES = [[0.0, 0.0], [-1.0, -1.0]], [[10.0, 0.0], [8.5, 1.0]]
SQUARE = np.array([[1.0, 0.0], [-1.0, 0.0], [5.0, 5.0]])
GENERIC = np.random.default_rng(3).normal(size=(2, 5, 2))

RIGHT = [
    (line_distance, lambda x, y: np.sqrt(np.mean((np.sort(x) - np.sort(y)) ** 2))),
    (line_distance, quantile_wasserstein2),
    (line_distance, lambda x, y: torch.tensor(np.sort(x) - np.sort(y)).square().mean().sqrt()),
    (diagonal_gaussians, lambda m, s, n, r: np.hypot(np.linalg.norm(m - n), np.linalg.norm(s - r))),
    (diagonal_gaussians, bures),
    (displaced_points, lambda x, y, pi, t: (1 - t) * x + t * y[pi]),
    (displaced_points, lambda x, y, pi, t: displacement_interpolation(x, y, t)),
    (displaced_points, in_order_of_y),
    (displaced_points, lambda x, y, pi, t: (x + t * (y[pi] - x)).float()),
    (two_pairings, (polygon(3), polygon(3, np.pi / 3))),
    (two_pairings, (polygon(5), polygon(5, np.pi / 5).tolist())),
    (two_pairings, (SQUARE, np.array([[0.0, 1.0], [0.0, -1.0], [6.0, 5.0]]))),
    (two_pairings, (torch.tensor(polygon(7)), torch.tensor(polygon(7, np.pi / 7)))),
    (crossing_routes, ROUTES),
    (crossing_routes, (100 * np.array(ROUTES[0])[::-1], 100 * np.array(ROUTES[1])[::-1])),
]

WRONG = [
    (line_distance, lambda x, y: np.mean((np.sort(x) - np.sort(y)) ** 2), "square"),
    (line_distance, lambda x, y: np.linalg.norm(np.sort(x) - np.sort(y)), "mean, not the sum"),
    (line_distance, lambda x, y: np.sqrt(np.mean((x - y) ** 2)), "any order"),
    (line_distance, lambda x, y: np.mean(abs(np.sort(x) - np.sort(y))), "W1"),
    (line_distance, lambda x, y: 1.0, "your function gives 1"),
    (line_distance, lambda x, y: x, "one number"),
    (line_distance, 2.0, "must be a function"),
    (diagonal_gaussians, lambda m, s, n, r: bures(m, s, n, r) ** 2, "square"),
    (diagonal_gaussians, lambda m, s, n, r: np.linalg.norm(m - n), "differ too"),
    (diagonal_gaussians, lambda m, s, n, r: np.linalg.norm(s - r), "means are missing"),
    (diagonal_gaussians, lambda m, s, n, r: bures(m, s**2, n, r**2), "not variances"),
    (
        diagonal_gaussians,
        lambda m, s, n, r: np.sqrt(((m - n) ** 2 + s**2 + r**2).sum()),
        "last term",
    ),
    (diagonal_gaussians, lambda m, s, n, r: 0.0, "your function gives 0"),
    (displaced_points, lambda x, y, pi, t: t * x + (1 - t) * y[pi], "backwards"),
    (displaced_points, lambda x, y, pi, t: (1 - t) * x + t * y[pi.argsort()], "inverse"),
    (displaced_points, lambda x, y, pi, t: (1 - t) * x + t * y, "use the permutation"),
    (displaced_points, lambda x, y, pi, t: (1 - t**2) * x + t**2 * y[pi], "t = 0.3"),
    (displaced_points, lambda x, y, pi, t: torch.cat([x, y]), "shape"),
    (displaced_points, lambda x, y, pi, t: "cloud", "the cloud"),
    (displaced_points, lambda x, y, pi, t: x.nonsense, "raised AttributeError"),
    (displaced_points, 5, "must be a function"),
    (two_pairings, GENERIC, "unique"),
    (two_pairings, (polygon(3), polygon(3)), "unique"),
    (two_pairings, (GENERIC[0][[0, 0, 1]], GENERIC[1][:3]), "same cloud"),
    (two_pairings, (np.zeros((3, 2)), np.zeros((3, 2))), "same cloud"),
    (two_pairings, (polygon(2), polygon(2, np.pi / 2)), "3 to 7"),
    (two_pairings, (polygon(8), polygon(8, np.pi / 8)), "3 to 7"),
    (two_pairings, (np.zeros((3, 3)), np.zeros((3, 3))), "plane"),
    (two_pairings, 3, "."),
    (crossing_routes, ([[0.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]]), "cheaper"),
    (crossing_routes, ([[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]), "parallel"),
    (crossing_routes, ([[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]), "stays"),
    (crossing_routes, ([[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 2.0]]), "between 0 and 1"),
    (crossing_routes, (polygon(3), polygon(3)), "two points"),
    (crossing_routes, None, "yet"),
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


@pytest.mark.parametrize("verify", [line_distance, diagonal_gaussians, displaced_points])
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message


@pytest.mark.parametrize("verify", [two_pairings, crossing_routes])
def test_blank_clouds_are_told_apart(verify):
    assert "no clouds yet" in verify(...).message


def test_the_routes_of_an_optimal_pairing_meet_at_two_times():
    assert "do not meet" in crossing_routes(ROUTES).message


def test_a_tie_is_told_from_a_near_tie():
    x, y = polygon(3), polygon(3, np.pi / 3)
    assert two_pairings((x, y))
    assert not two_pairings((x, polygon(3, np.pi / 3 + 0.01)))
