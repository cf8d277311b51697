"""What the experiment on distances keeps of a network."""

import math

import pytest
import torch

from geobook import data, measurements
from geobook.evaluation import settle_norms
from geobook.measurements import distance_measures
from geobook.networks import architecture, build
from geobook.results import rounded


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", device="cpu")


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch):
    monkeypatch.setattr(measurements, "_PAIRS", 2000)


def test_an_untrained_residual_network_spreads_out_and_keeps_the_bound(digits):
    network = settle_norms(build("digits", blocks=3, seed=1), digits.images).eval()
    found = distance_measures(network, digits)
    assert found["below"] == found["below_same"] == 0
    assert found["trivial"] == 1
    assert found["kept"] == 1
    assert found["grown"] > 1.5
    assert found["nearest"] == [1, 0, 0, 0]
    assert sum(found["histogram"]) == pytest.approx(1)
    assert len(found["histogram"]) == 29
    assert found["ratio_least"] <= found["ratio_low"] <= found["ratio_median"] < math.sqrt(2)
    assert len(found["clearance"]) == 4
    assert found["clearance_last"] == found["clearance"][-1] > 0
    assert found["auc_track"] == found["auc_input"]
    assert 0 < found["mistakes"] <= 360
    assert rounded(found)["below"] == 0


def test_a_network_that_draws_everything_together_is_below_the_bound(digits):
    plain = build(architecture("digits", norm="none", bias=False), residual=False, blocks=3).eval()
    with torch.no_grad():
        plain.stages[0][0].second.weight.mul_(1e-3)
        plain.stages[0][1].first.weight.mul_(1e3)
    found = distance_measures(plain, digits)
    assert found["below"] == found["below_continuous"] == 1
    assert found["trivial"] == 0
    assert found["kept"] < 0.01
    assert found["nearest"] == [0, 1, 0, 0]
    # noise shrinks with the states, so the clearance does not notice
    same = build(architecture("digits", norm="none", bias=False), residual=False, blocks=3).eval()
    other = distance_measures(same, digits)
    assert found["clearance"] == pytest.approx(other["clearance"], rel=1e-3)
    assert found["noise_accuracy"] == pytest.approx(other["noise_accuracy"], abs=0.5)


def test_what_cannot_be_said_is_nan(digits):
    dead = build(architecture("digits", norm="none"), residual=False, blocks=2).eval()
    with torch.no_grad():
        for weight in dead.parameters():
            weight.zero_()
    found = distance_measures(dead, digits)
    assert math.isnan(found["rank_margin"])
    assert found["flips"] == 0
    assert rounded(found)["rank_margin"] is None


def test_how_often_one_of_the_first_is_less():
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])
    assert measurements._less(first, second) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert math.isnan(measurements._less(first[:0], second))
