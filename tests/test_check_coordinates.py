"""The self-checks of the chapter on the choice of coordinates: right, wrong and blank answers."""

import pytest
import torch

from geobook import check
from geobook.alignment import turned_track

CLOUD = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))


def turn(x, y):
    u, _, vh = torch.linalg.svd(x.T @ y)
    return u @ vh


def flip(w2, gamma, beta, w1, row=True, scale=False, shift=True, undo=True):
    w2, gamma, beta, w1 = (value.clone() for value in (w2, gamma, beta, w1))
    if row:
        w2[0] *= -1
    if scale:
        gamma[0] *= -1
    if shift:
        beta[0] *= -1
    if undo:
        w1[:, 0] *= -1
    return w2, gamma, beta, w1


def doubled(w2, gamma, beta, w1):
    w2, gamma, beta, w1 = flip(w2, gamma, beta, w1)
    return 2 * w2, gamma, beta, w1


def stretch(*factors):
    return torch.stack([factor * CLOUD for factor in factors])


RIGHT = [
    (check.best_turn, turn),
    (check.best_turn, lambda x, y: turn(x, y).numpy()),
    (check.lengths_near_floor, [1.0, 200.0, 4e4, 8e6, 1.6e9]),
    (check.lengths_near_floor, torch.tensor([1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6])),
    (check.flipped_feature, flip),
    (check.flipped_feature, lambda *w: flip(*w, row=False, scale=True)),
    (check.stubborn_zigzag, stretch(1.0, 2.0, 1.0, 2.0, 1.0, 2.0)),
    (check.stubborn_zigzag, stretch(1.0, 3.0, 2.0, 4.0, 2.0, 5.0, 3.0, 5.0, 4.0).numpy()),
]  # fmt: skip
WRONG = [
    (check.best_turn, lambda x, y: turn(x, y).T, "inverse"),
    (check.best_turn, lambda x, y: x.T @ y, "not orthogonal"),
    (check.best_turn, lambda x, y: torch.eye(x.shape[1]), "is possible"),
    (check.best_turn, lambda x, y: torch.eye(7), "shape"),
    (check.best_turn, lambda x, y: "turn", "."),
    (check.best_turn, lambda x, y: 1 / 0, "raised ZeroDivisionError"),
    (check.best_turn, 5, "must be a function"),
    (check.lengths_near_floor, [1.0] * 6, "turn back"),
    (check.lengths_near_floor, [1.0, 100.0], "at least 5"),
    (check.lengths_near_floor, [1.0, 0.0, 1.0, 2.0, 3.0], "positive"),
    (check.lengths_near_floor, "long", "."),
    (check.flipped_feature, lambda *w: flip(*w, shift=False), "its shift"),
    (check.flipped_feature, lambda *w: flip(*w, row=False), "its shift"),
    (check.flipped_feature, lambda *w: flip(*w, undo=False), "undo"),
    (check.flipped_feature, lambda *w: w, "must change sign"),
    (check.flipped_feature, lambda a, b, c, d: (-a, b, -c, -d), "other features"),
    (check.flipped_feature, lambda a, b, c, d: (a, b, c), "return W2"),
    (check.flipped_feature, lambda *w: 1 / 0, "raised"),
    (check.flipped_feature, lambda *w: ("a", "b", "c", "d"), "."),
    (check.flipped_feature, doubled, "norm of a parameter"),
    (check.flipped_feature, None, "must be a function"),
    (check.stubborn_zigzag, turned_track(stretch(*range(1, 7)), seed=1), "turns straighten"),
    (check.stubborn_zigzag, stretch(1.0, 2.0, 3.0), "not crooked"),
    (check.stubborn_zigzag, stretch(1.0, 2.0)[:, :2], "more points"),
    (check.stubborn_zigzag, stretch(1.0, 0.0, 1.0), "all directions"),
    (check.stubborn_zigzag, torch.zeros(3), "shape"),
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


@pytest.mark.parametrize("verify", [check.lengths_near_floor, check.stubborn_zigzag])
def test_blank_objects_are_told_apart(verify):
    assert "yet" in verify(...).message
    assert "yet" in verify(None).message


@pytest.mark.parametrize("verify", [check.best_turn, check.flipped_feature])
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
