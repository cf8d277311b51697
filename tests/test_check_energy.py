"""The self-checks of the chapter on least energy: right, wrong and blank answers."""

import pytest
import torch

from geobook import check

EYE = torch.eye(3)
MIRRORED = torch.cat([EYE, -EYE])


def energy(track):
    return (len(track) - 1) * track.diff(dim=0).square().sum(2).mean(1).sum()


def straight(x, y, steps, power=1.0):
    return torch.stack([x + (step / steps) ** power * (y - x) for step in range(steps + 1)])


def balance(first, second, single=False):
    factor = (second.norm(dim=0) / first.norm(dim=1)).sqrt()
    if single:
        factor = (second.norm() / first.norm()).sqrt() * torch.ones_like(factor)
    return first * factor[:, None], second / factor


def sprint(power=4.0, bend=0.0, swap=False):
    x = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    y = x + torch.tensor([1.0, 0.0])
    track = straight(x, y.flip(0) if swap else y, 6, power)
    track[3, :, 1] += bend
    return track


RIGHT = [
    (check.energy_of_tracks, energy),
    (check.energy_of_tracks, lambda t: energy(t).numpy()),
    (check.least_energy_track, straight),
    (check.least_energy_track, lambda x, y, n: torch.lerp(
        x, y, torch.linspace(0, 1, n + 1, dtype=x.dtype)[:, None, None]).numpy()),
    (check.only_pace, sprint()),
    (check.only_pace, sprint(9.0).numpy()),
    (check.standing_still, (MIRRORED, MIRRORED.T)),
    (check.standing_still, (MIRRORED.numpy(), MIRRORED.T.numpy())),
    (check.balanced_weights, balance),
]  # fmt: skip
WRONG = [
    (check.energy_of_tracks, lambda t: energy(t) / (len(t) - 1), "eq. (9)"),
    (check.energy_of_tracks, lambda t: energy(t) * t.shape[1], "mean over the points"),
    (check.energy_of_tracks, lambda t: energy(t) * len(t) / (len(t) - 1), "states"),
    (check.energy_of_tracks, lambda t: t.diff(dim=0).norm(dim=2).sum(0).square().mean(), "whole"),
    (check.energy_of_tracks, lambda t: 1.0, "your function gives 1"),
    (check.least_energy_track, lambda x, y, n: straight(x, y, n, 2.0), "equally long"),
    (check.least_energy_track, lambda x, y, n: straight(x, x, n), "end in y"),
    (check.least_energy_track, lambda x, y, n: straight(x, y, n + 1), "shape"),
    (check.least_energy_track, lambda x, y, n: x.nonsense, "raised AttributeError"),
    (check.least_energy_track, 3, "must be a function"),
    (check.only_pace, sprint(1.0), "more unequal"),
    (check.only_pace, sprint(bend=1.0), "not straight"),
    (check.only_pace, sprint(swap=True), "cheaper"),
    (check.only_pace, torch.ones(3, 2, 2), "go somewhere"),
    (check.only_pace, sprint()[:, :1], "two points or more"),
    (check.only_pace, torch.zeros(3), "shape"),
    (check.standing_still, (EYE, EYE), "negative"),
    (check.standing_still, (2 * MIRRORED, MIRRORED.T / 2), "balance"),
    (check.standing_still, (MIRRORED, MIRRORED.T / 2), "not the identity"),
    (check.standing_still, (EYE, MIRRORED), "shape"),
    (check.standing_still, (MIRRORED[:, :1], MIRRORED[:, :1].T), "two dimensions"),
    (check.standing_still, 5, "."),
    (check.balanced_weights, lambda a, b: (a, b), "is possible"),
    (check.balanced_weights, lambda a, b: balance(a, b, single=True), "of its own"),
    (check.balanced_weights, lambda a, b: (2 * a, b), "something else"),
    (check.balanced_weights, lambda a, b: (a.T, b), "shapes"),
    (check.balanced_weights, lambda a, b: 1, "."),
    (check.balanced_weights, lambda a, b: 1 / 0, "raised ZeroDivisionError"),
    (check.balanced_weights, 3, "must be a function"),
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


@pytest.mark.parametrize("verify", [check.only_pace, check.standing_still])
def test_blank_objects_are_told_apart(verify):
    assert "yet" in verify(...).message
    assert "yet" in verify(None).message


@pytest.mark.parametrize(
    "verify", [check.energy_of_tracks, check.least_energy_track, check.balanced_weights]
)
def test_blank_functions_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
