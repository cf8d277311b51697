"""Checks of the chapter on what is not transport: right answers, blanks, the usual slips."""

import numpy as np
import pytest
import scipy.linalg
import torch

from geobook.check import decomposition as check
from geobook.decomposition import polar_factorization
from geobook.transport import optimal_assignment


def by_svd(matrix):
    left, values, right = np.linalg.svd(matrix)
    return left @ np.diag(values) @ left.T, left @ right


def by_root(matrix):
    stretch = scipy.linalg.sqrtm(matrix @ matrix.T).real
    return torch.as_tensor(stretch), torch.linalg.solve(
        torch.as_tensor(stretch), torch.as_tensor(matrix)
    )


def rotation_last(matrix):
    rotation, stretch = scipy.linalg.polar(matrix)
    return stretch, rotation


def negative_root(matrix):
    stretch, rotation = by_svd(matrix)
    return -stretch, -rotation


def by_difference(field, points, step=1e-4):
    right, up = np.array([step, 0.0]), np.array([0.0, step])
    across = (field(points + right)[:, 1] - field(points - right)[:, 1]) / (2 * step)
    along = (field(points + up)[:, 0] - field(points - up)[:, 0]) / (2 * step)
    return np.abs(across - along).max() < 1e-3


def by_circulation(field, points, step=1e-3, sides=64):
    spoke = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.stack([np.cos(spoke), np.sin(spoke)], 1)
    tangent = np.stack([-ring[:, 1], ring[:, 0]], 1)
    return all(abs((field(p + step * ring) * tangent).mean()) < 1e-6 for p in points)


def by_divergence(field, points, step=1e-4):
    return bool(by_difference(lambda p: field(p)[:, ::-1] * [-1, 1], points, step))


def factors(x, y):
    partner = optimal_assignment(x, y).permutation
    return partner.argsort(), y[partner]


def shuffled_factors(x, y):
    order = torch.arange(len(x)).roll(1)
    return order, y[order.argsort()]


RIGHT = [
    (check.polar_factors, by_svd),
    (check.polar_factors, by_root),
    (check.polar_factors, lambda b: scipy.linalg.polar(b, side="left")[::-1]),
    (check.tells_gradients, by_difference),
    (check.tells_gradients, by_circulation),
    (check.tells_gradients, lambda field, points: int(by_difference(field, points))),
    (check.hidden_turn, (np.diag([9.0, 1.0]), [[5.0, 4.0], [4.0, 5.0]])),
    (check.hidden_turn, torch.tensor([[[5.0, 4.0], [4.0, 5.0]], [[9.0, 0.0], [0.0, 1.0]]])),
    (check.expected_asymmetry, lambda d: (1 - 1 / d) / 2),
    (check.expected_asymmetry, lambda d: torch.tensor((d - 1) / (2 * d))),
    (check.rearrangement_of, factors),
    (check.rearrangement_of, lambda x, y: (factors(x, y)[0].tolist(), factors(x, y)[1].numpy())),
    (
        check.rearrangement_of,
        lambda x, y: (
            polar_factorization(x, y).rearrangement,
            polar_factorization(x, y).optimal_images,
        ),
    ),
]

WRONG = [
    (check.polar_factors, rotation_last, "with the rotation last"),
    (check.polar_factors, lambda b: by_svd(b)[::-1], "P first"),
    (check.polar_factors, negative_root, "positive definite"),
    (check.polar_factors, lambda b: (b, np.eye(len(b))), "not symmetric"),
    (check.polar_factors, lambda b: (np.eye(len(b)), b), "not orthogonal"),
    (check.polar_factors, lambda b: (np.eye(len(b)), by_svd(b)[1]), "not B"),
    (check.polar_factors, lambda b: (np.eye(2), np.eye(3)), "must have shape"),
    (check.polar_factors, lambda b: b.nonsense, "raised AttributeError"),
    (check.polar_factors, lambda b: (b,), "must be 2 matrices"),
    (check.polar_factors, 3.0, "must be a function"),
    (check.tells_gradients, by_divergence, "says otherwise"),
    (check.tells_gradients, lambda field, points: True, "the rotation (-y, x) is not"),
    (check.tells_gradients, lambda field, points: field(points), "one number"),
    (check.hidden_turn, (np.eye(2), np.eye(2)), "turns by 0.0°"),
    (check.hidden_turn, (np.diag([9.0, 1.0]), np.diag([1.0, 9.0])), "stretch more"),
    (check.hidden_turn, ([[0.0, -1.0], [1.0, 0.0]], np.eye(2)), "first matrix is not symmetric"),
    (check.hidden_turn, (np.eye(2), [[1.0, 2.0], [2.0, 1.0]]), "second matrix is not positive"),
    (check.hidden_turn, (np.eye(3), np.eye(3)), "2 x 2"),
    (check.hidden_turn, 4, "raised TypeError"),
    (check.expected_asymmetry, lambda d: 0.5, "limit"),
    (check.expected_asymmetry, lambda d: 1 - 1 / d, "half of it"),
    (check.expected_asymmetry, lambda d: (1 + 1 / d) / 2, "symmetric part"),
    (check.expected_asymmetry, lambda d: d, "must give 0"),
    (check.rearrangement_of, lambda x, y: (torch.arange(len(x)), y), "the map itself"),
    (check.rearrangement_of, lambda x, y: (factors(x, y)[0].argsort(), factors(x, y)[1]),
     "inverse"),
    (check.rearrangement_of, shuffled_factors, "the best pairing"),
    (check.rearrangement_of, lambda x, y: (torch.arange(len(x)).roll(3), y), "is not y"),
    (check.rearrangement_of, lambda x, y: (torch.zeros(len(x)), y), "not a permutation"),
    (check.rearrangement_of, lambda x, y: (torch.arange(3), y), "return n places"),
    (check.rearrangement_of, lambda x, y: x @ y, "raised RuntimeError"),
]  # fmt: skip


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


@pytest.mark.parametrize(
    "verify",
    [
        check.polar_factors,
        check.tells_gradients,
        check.expected_asymmetry,
        check.rearrangement_of,
    ],
)
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
    assert "returns nothing yet" in verify(lambda *_: ...).message


def test_blank_matrices_are_told_apart():
    assert "no matrices yet" in check.hidden_turn(...).message
    assert "no matrices yet" in check.hidden_turn(None).message
