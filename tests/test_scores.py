"""Optimal transport score: known answers, the interval's promise, ties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geobook.scores import TransportReport, optimal_transport_score, transport_report


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [2, 50, 400])
def test_gradient_of_a_convex_function_scores_exactly_one(n):
    x = normal(n, 12)
    root = normal(12, 12, seed=1)
    log_sum_exp = torch.softmax(2 * x, dim=1)
    for gradient in (x @ (root @ root.T), x**3, x * x.norm(dim=1, keepdim=True), log_sum_exp):
        assert optimal_transport_score(x, gradient) == 1.0


@pytest.mark.parametrize("offset", [1e-3, 1.0, 1e4])
def test_translation_scores_one(offset):
    x = normal(400, 30)
    report = transport_report(x, x + offset)
    assert (report.ots_low, report.ots, report.ots_high) == (1, 1, 1)
    assert report.excess_cost == 0
    assert report.wasserstein2 == pytest.approx(offset * np.sqrt(30), rel=1e-3)


def test_rotation_in_high_dimension_scores_about_zero():
    x = normal(400, 300)
    turn = torch.linalg.qr(normal(300, 300, seed=2))[0]
    report = transport_report(x, x @ turn)
    assert report.ots_high < 0.02
    assert report.excess_cost > 0.05


def test_cyclic_shift_of_clusters_scores_zero():
    centres = 20 * torch.eye(5)
    label = torch.arange(300) % 5
    spread = normal(300, 5)
    x, y = centres[label] + spread, centres[(label + 1) % 5] + spread
    report = transport_report(x, y)
    assert (report.ots_low, report.ots, report.ots_high) == (0, 0, 0)
    assert report.excess_cost > 0.9


@pytest.mark.parametrize("n", [40, 300])
def test_ties_count_for_the_map(n):
    label = torch.arange(n) % 4
    x = normal(n, 3)
    assert optimal_transport_score(x, torch.ones(n, 3)) == 1
    repeated = normal(4, 3, seed=1)[label]
    assert optimal_transport_score(repeated, 2 * repeated) == 1
    # A map that swaps two equal points is the same map.
    swapped = torch.arange(n)
    swapped[[0, 4]] = swapped[[4, 0]]
    assert optimal_transport_score(repeated, 2 * repeated[swapped]) == 1


def test_rounding_noise_of_collapsed_classes_counts_for_the_map():
    label = torch.arange(300) % 3
    x = 5 * torch.eye(3)[label] + normal(300, 3)
    y = 50 * torch.eye(3)[label] * (1 + 1e-7 * normal(300, 1, seed=1))
    report = transport_report(x, y)
    assert report.ots == report.ots_high == 1
    assert report.ots_low < 0.2


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(2, 6), st.integers(0, 10**6), st.sampled_from([0.0, 1e-3, 0.05, 0.3]))
def test_interval_keeps_its_promise_among_all_permutations(n, seed, slack):
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((n, 2)), random.standard_normal((n, 2))
    report = transport_report(x, y, slack)
    x, y = x - x.mean(0), y - y.mean(0)
    every = [
        (
            ((x - y[list(pi)]) ** 2).sum(1).mean(),
            np.mean(np.array(pi) == np.arange(n)),
        )
        for pi in itertools.permutations(range(n))
    ]
    same = ((x - y) ** 2).sum(1).mean()
    least = min(cost for cost, _ in every)
    rounding = 1e-9
    assert report.ots_low <= report.ots <= report.ots_high
    assert report.discount == pytest.approx(slack * same)
    assert report.excess_cost == pytest.approx((same - least) / same, abs=rounding)
    for excess, score, sign in (
        (report.excess_high, report.ots_high, 1),
        (report.excess_low, report.ots_low, -1),
    ):
        assert -rounding <= excess <= slack + rounding
        reached = least + excess * same
        # Attained, and no permutation undercuts the price of a further point.
        assert any(abs(c - reached) < rounding and abs(s - score) < rounding for c, s in every)
        assert all(
            cost - reached >= sign * report.discount * (kept - score) - rounding
            for cost, kept in every
        )


def test_a_wider_slack_widens_the_interval():
    x, y = normal(200, 3), normal(200, 3, seed=1)
    y = x + y
    reports = [transport_report(x, y, slack) for slack in (0, 1e-3, 1e-2, 0.1)]
    assert reports[0].ots_low == reports[0].ots == reports[0].ots_high
    lows, highs = [r.ots_low for r in reports], [r.ots_high for r in reports]
    assert lows == sorted(lows, reverse=True)
    assert highs == sorted(highs)
    assert lows[-1] < highs[-1]


def test_report_reads_well():
    report = transport_report(normal(30, 4), normal(30, 4, seed=1))
    assert isinstance(report, TransportReport)
    assert abs(report.duality_gap) < 1e-4
    text, html = str(report), report._repr_html_()
    assert "optimal transport score" in text
    assert f"{report.wasserstein2:.6g}" in text
    assert html.count("<tr>") == 6
    assert '<th scope="row">points</th><td>30</td>' in html


def test_clouds_in_one_point_are_no_division_by_zero():
    report = transport_report(torch.ones(5, 2), torch.zeros(5, 2))
    assert (report.ots_low, report.ots, report.excess_cost) == (1, 1, 0)
    assert report.wasserstein2 == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("slack", [-1e-3, float("nan"), float("inf")])
def test_bad_slack_is_refused(slack):
    with pytest.raises(ValueError, match="slack must be"):
        transport_report(torch.eye(3), torch.eye(3), slack)
