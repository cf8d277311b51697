"""The self-checks of the chapter on layers as ridge regressions: right, wrong, blank answers."""

import numpy as np
import pytest
import torch

from geobook import check


def solve(x, y, decay):
    gram = x.T @ x + decay * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(gram, x.T @ y).T


def by_lstsq(x, y, decay):
    d = x.shape[1]
    inputs = np.vstack([x.numpy(), decay**0.5 * np.eye(d)])
    return np.linalg.lstsq(inputs, np.vstack([y.numpy(), np.zeros((d, y.shape[1]))]))[0].T


def penalty(x, condition, power=2):
    s = torch.linalg.svdvals(x) ** power
    return (s[0] - condition * s[-1]) / (condition - 1)


def cruel(x, decay, sign=1, choose=None):
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    return sign * u[:, (s / (s**2 + decay)).argmax() if choose is None else choose]


RIGHT = [
    (check.ridge_solution, solve),
    (check.ridge_solution, by_lstsq),
    (check.decay_for_condition, penalty),
    (check.decay_for_condition, lambda x, c: float(penalty(x, c))),
    (check.descent_filter, lambda s, eta, t: 1 - (1 - eta * s * s) ** t),
    (check.descent_filter, lambda s, eta, t: sum(eta * s**2 * (1 - eta * s**2) ** k
                                                 for k in range(t))),
    (check.worst_change, cruel),
    (check.worst_change, lambda x, decay: cruel(x, decay, -1).numpy()),
]  # fmt: skip
WRONG = [
    (check.ridge_solution, lambda x, y, decay: solve(x, y, decay).T, "shape (m, d)"),
    (check.ridge_solution, lambda x, y, decay: solve(x, y, 0 * decay), "lambda is missing"),
    (check.ridge_solution, lambda x, y, decay: solve(x, y, len(x) * decay), "not before the mean"),
    (check.ridge_solution, lambda x, y, decay: 2 * solve(x, y, decay), "not zero"),
    (check.ridge_solution, lambda x, y, decay: torch.zeros(2), "shape"),
    (check.ridge_solution, lambda x, y, decay: "W", "."),
    (check.ridge_solution, lambda x, y, decay: 1 / 0, "raised"),
    (check.ridge_solution, 3, "must be a function"),
    (check.decay_for_condition, lambda x, c: penalty(x, c, 1), "squares of the singular"),
    (check.decay_for_condition, lambda x, c: 1.0, "condition number is"),
    (check.decay_for_condition, 3, "must be a function"),
    (check.descent_filter, lambda s, eta, t: (1 - eta * s**2) ** t, "still missing"),
    (check.descent_filter, lambda s, eta, t: 1 - (1 - eta * s) ** t, "not s"),
    (check.descent_filter, lambda s, eta, t: 0.3, "your function gives"),
    (check.worst_change, lambda x, decay: cruel(x, decay, choose=-1), "is possible"),
    (check.worst_change, lambda x, decay: cruel(x, decay, choose=0), "is possible"),
    (check.worst_change, lambda x, decay: 2 * cruel(x, decay), "norm must be 1"),
    (check.worst_change, lambda x, decay: x[0], "each of the 30 points"),
    (check.worst_change, lambda x, decay: "u", "."),
    (check.worst_change, lambda x, decay: 1 / 0, "raised"),
    (check.worst_change, 3, "must be a function"),
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


@pytest.mark.parametrize(
    "verify",
    [check.ridge_solution, check.decay_for_condition, check.descent_filter, check.worst_change],
)
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
