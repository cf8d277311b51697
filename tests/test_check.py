"""Every self-check accepts right answers and says what is wrong with the usual wrong ones."""

import math

import pytest
import torch

from geobook import check, controls, tracks


def unit_steps(track):
    step = track.diff(dim=0)
    return step / step.norm(dim=2, keepdim=True)


def right_score(track):
    return (len(track) - 1) / unit_steps(track).sum(0).norm(dim=1)


def swap(x, y):
    gram = x @ y.T
    own = gram.diagonal()
    return (2 * (gram + gram.T - own[:, None] - own[None])).fill_diagonal_(-math.inf).max()


def straightness(score, segments, residual):
    chance = controls.chance_line_shape_score(segments, residual)
    return (chance - score) / (chance - 1)


def bent_track(long_step=1000.0, height=1.0):
    up = torch.tensor([0.0, height] * 4).cumsum(0) * 0 + torch.tensor([0.0, height] * 4)
    forward = torch.zeros(8)
    forward[-1] = long_step
    return torch.stack([forward, up], dim=1).unsqueeze(1)


def twins(width=0.01, exchange=True):
    places = torch.randn(12, 1, 2, generator=torch.Generator().manual_seed(0)).double()
    offset = torch.tensor([[width, 0.0], [-width, 0.0]]).double()
    end = 3 * places + (-offset if exchange else offset)
    return (places + offset).reshape(24, 2), end.reshape(24, 2)


RIGHT = [
    (check.line_shape_score, lambda track: right_score(track).mean()),
    (check.line_shape_score, lambda track: tracks.line_shape_score(track.numpy())),
    (check.score_of_mean_cosine, lambda L, c: math.sqrt(L / (1 + (L - 1) * c))),
    (check.fools_ratio, bent_track()),
    (check.best_swap, swap),
    (check.harmless_zero, twins()),
    (check.transition_weight_decay, lambda rates, momentum: (1 - momentum) / sum(rates)),
    (check.relative_score, straightness),
    (check.relative_score, lambda s, L, r: straightness(s, L, r) ** 3),
]

WRONG = [
    (check.line_shape_score, tracks.line_shape_ratio, "ratio"),
    (check.line_shape_score, lambda t: right_score(t).mean() * len(t) / (len(t) - 1), "states"),
    (check.line_shape_score, lambda t: 1 / (1 / right_score(t)).mean(), "point by point"),
    (check.line_shape_score, lambda t: 7.0, "your function gives 7"),
    (check.line_shape_score, lambda t: right_score(t), "one number"),
    (check.line_shape_score, lambda t: t.nonsense, "raised AttributeError"),
    (check.line_shape_score, 3.0, "must be a function"),
    (check.score_of_mean_cosine, lambda L, c: L / (1 + (L - 1) * c), "square"),
    (check.score_of_mean_cosine, lambda L, c: L, "orthogonal"),
    (check.fools_ratio, bent_track(long_step=1.0), "longer"),
    (check.fools_ratio, controls.zigzag(4, 0.0), "short steps"),
    (check.fools_ratio, torch.zeros(3), "shape"),
    (check.best_swap, lambda x, y: -swap(x, y), "sign"),
    (check.best_swap, lambda x, y: swap(x, y) / 2, "factor 2"),
    (check.best_swap, lambda x, y: 0.0, "best saving"),
    (check.harmless_zero, twins(exchange=False), "keep their own"),
    (check.harmless_zero, twins(width=0.5), "nearly coincide"),
    (check.harmless_zero, (torch.zeros(4, 2), torch.zeros(4, 2)), "at least 20"),
    (check.harmless_zero, 5, "."),
    (check.transition_weight_decay, lambda rates, momentum: 1 / sum(rates), "momentum"),
    (check.transition_weight_decay, lambda rates, momentum: 0.3, "ten steps"),
    (check.relative_score, lambda s, L, r: 1 / s, "chance value"),
    (check.relative_score, lambda s, L, r: 0.0, "straight track"),
    (check.relative_score, lambda s, L, r: float(s == 1), "larger LSS"),
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


@pytest.mark.parametrize(
    "verify", sorted({verify for verify, _ in RIGHT}, key=lambda v: v.__name__)
)
def test_blank_answers_are_told_apart(verify):
    if verify in (check.fools_ratio, check.harmless_zero):
        assert "there" in verify(...).message
        assert "yet" in verify(None).message
    else:
        assert "returns nothing yet" in verify(lambda *_: None).message
