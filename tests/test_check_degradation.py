"""The self-checks of the chapter on why depth degrades: right, wrong and blank answers."""

import pytest
import torch

from geobook import activations
from geobook.check import degradation as check

EYE = torch.eye(2, dtype=torch.float64)
CORNERS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])


def product(weights, x):
    whole = torch.eye(len(x), dtype=x.dtype)
    for matrix in activations.activated_matrices(weights, x):
        whole = matrix @ whole
    return whole


def by_derivative(weights, x):
    return torch.func.jacrev(lambda point: forward(weights, point))(x)


def forward(weights, x):
    for matrix in weights[:-1]:
        x = torch.relu(matrix @ x)
    return weights[-1] @ x


def all_weights(weights, x):
    whole = torch.eye(len(x), dtype=x.dtype)
    for matrix in weights:
        whole = matrix @ whole
    return whole


def only_value(weights, x):
    return torch.outer(forward(weights, x), x) / (x @ x)


def priced(start, end, prices):
    share = torch.cat([torch.zeros(1), (1 / prices).cumsum(0) / (1 / prices).sum()])
    return start + share[:, None, None] * (end - start)


def even(start, end, prices):
    return priced(start, end, torch.ones_like(prices))


def change(x, g):
    return -(x @ x.T) @ g


def own(x, g):
    return -x.square().sum(1, keepdim=True) * g


PULLED = (torch.tensor([[1.0, 0.0], [1.0, 0.1]]), torch.tensor([[-0.1], [3.0]]))

RIGHT = [
    (check.activated_product, product),
    (check.activated_product, by_derivative),
    (check.activated_product, lambda w, x: product(w, x).numpy()),
    (check.solvable_points, lambda L, d: L * (d - 1) + 1),
    (check.solvable_points, lambda L, d: (L * d * d - (L - 1) * d) // d),
    (check.beats_linear, (CORNERS, EYE, EYE)),
    (check.beats_linear, (CORNERS.numpy(), (2 * EYE).numpy(), -EYE.numpy())),
    (check.step_change, change),
    (check.step_change, lambda x, g: -torch.einsum("ik,jk,jd->id", x, x, g).numpy()),
    (check.wrong_way, PULLED),
    (check.wrong_way, (PULLED[0].numpy(), -PULLED[1].numpy())),
    (check.priced_track, priced),
    (check.priced_track, lambda a, b, p: priced(a, b, p).numpy()),
]
WRONG = [
    (check.activated_product, lambda w, x: product(w, x).T, "transpose"),
    (check.activated_product, all_weights, "drop out"),
    (check.activated_product, only_value, "derivative"),
    (check.activated_product, lambda w, x: torch.zeros(5, 5), "must be f(x)"),
    (check.activated_product, lambda w, x: torch.zeros(5), "shape (5, 5)"),
    (check.activated_product, lambda w, x: "no", "."),
    (check.activated_product, lambda w, x: 1 / 0, "ZeroDivisionError"),
    (check.activated_product, 3, "must be a function"),
    (check.solvable_points, lambda L, d: L * d, "idle"),
    (check.solvable_points, lambda L, d: d * max(1, L - 1), "the paper's count"),
    (check.solvable_points, lambda L, d: L * d * d - (L - 1) * d, "every point"),
    (check.solvable_points, lambda L, d: L * (d - 1), "between two layers"),
    (check.solvable_points, lambda L, d: 7, "gives 7"),
    (check.beats_linear, (CORNERS.abs(), EYE, EYE), "a linear map gives the same"),
    (check.beats_linear, (CORNERS, 0 * EYE, EYE), "a linear map gives the same"),
    (check.beats_linear, (CORNERS[:2], EYE, EYE), "d + 1"),
    (check.beats_linear, (CORNERS, torch.eye(3), EYE), "shape (2, 2)"),
    (check.beats_linear, 5, "."),
    (check.step_change, lambda x, g: -change(x, g), "sign"),
    (check.step_change, own, "own term alone"),
    (check.step_change, lambda x, g: change(x, g) - own(x, g), "cross-talk alone"),
    (check.step_change, lambda x, g: change(x, g) / len(x), "do not average"),
    (check.step_change, lambda x, g: -g, "minus the sum"),
    (check.step_change, lambda x, g: g.T, "shape"),
    (check.step_change, lambda x, g: "no", "."),
    (check.step_change, lambda x, g: x.nonsense, "AttributeError"),
    (check.step_change, 3, "must be a function"),
    (check.wrong_way, (EYE, EYE), "worst cosine is 1.00"),
    (check.wrong_way, (EYE, torch.zeros(2, 1)), "no gradient may be zero"),
    (check.wrong_way, (EYE, torch.ones(3, 1)), "as many"),
    (check.wrong_way, 5, "."),
    (check.priced_track, even, "equal prices"),
    (check.priced_track, lambda a, b, p: priced(a, b, 1 / p), "is possible"),
    (check.priced_track, lambda a, b, p: priced(b, a, p), "start where"),
    (check.priced_track, lambda a, b, p: priced(a, a, p), "end where"),
    (check.priced_track, lambda a, b, p: priced(a, b, p)[1:], "."),
    (check.priced_track, lambda a, b, p: 1 / 0, "ZeroDivisionError"),
    (check.priced_track, 3, "must be a function"),
]


@pytest.mark.parametrize(("verify", "answer"), RIGHT)
def test_right_answers_pass(verify, answer):
    verdict = verify(answer)
    assert verdict, verdict


@pytest.mark.parametrize(("verify", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(verify, answer, hint):
    verdict = verify(answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("verify", [check.beats_linear, check.wrong_way])
def test_blank_objects_are_told_apart(verify):
    assert "yet" in verify(...).message
    assert "yet" in verify(None).message


@pytest.mark.parametrize(
    "verify",
    [check.activated_product, check.solvable_points, check.step_change, check.priced_track],
)
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
