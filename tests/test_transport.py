"""Exact optimal transport: against SciPy and POT, known answers, certificates, refusals."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from geobook import assignment, memory, transport
from geobook.transport import (
    PairCosts,
    assignment_memory,
    displacement_interpolation,
    optimal_assignment,
    wasserstein2,
)

CASES = ("random", "near identity", "rotated", "repeated", "lattice", "one point", "collapsed")


def draw(case: str, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, d))
    if case == "near identity":
        return x, x + 0.05 * random.standard_normal((n, d))
    if case == "rotated":
        return x, x @ np.linalg.qr(random.standard_normal((d, d)))[0]
    if case == "repeated":
        return x[random.integers(0, min(3, n), n)], x[::-1][random.integers(0, min(3, n), n)] * 2
    if case == "lattice":
        return random.integers(0, 3, (n, d)).astype(float), random.integers(0, 3, (n, d)) * 1.0
    if case == "one point":
        return x, np.ones((n, d))
    if case == "collapsed":
        label = random.integers(0, 4, n)
        return x, 3 * random.standard_normal((4, d))[label] + 1e-6 * x
    return x, random.standard_normal((n, d))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None] - y[None]) ** 2).sum(2)


def least_cost(x: np.ndarray, y: np.ndarray) -> float:
    costs = squared_distances(x, y)
    return costs[linear_sum_assignment(costs)].mean()


def is_permutation(found: torch.Tensor) -> bool:
    return torch.equal(found.sort().values, torch.arange(len(found)))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.sampled_from(CASES),
    st.integers(2, 60),
    st.integers(1, 8),
    st.integers(0, 10**6),
    st.sampled_from([np.float32, np.float64]),
)
def test_cost_is_that_of_scipy_and_pot(case, n, d, seed, dtype):
    x, y = (cloud.astype(dtype) for cloud in draw(case, n, d, seed))
    found = optimal_assignment(x, y)
    exact_x, exact_y = x.astype(float), y.astype(float)
    costs = squared_distances(exact_x, exact_y)
    rounding = 1e2 * np.finfo(dtype).eps * costs.max()
    uniform = np.full(n, 1 / n)
    assert is_permutation(found.permutation)
    assert found.cost == pytest.approx(least_cost(exact_x, exact_y), abs=rounding)
    assert found.cost == pytest.approx(ot.emd2(uniform, uniform, costs), abs=rounding)
    assert found.cost == pytest.approx(costs[np.arange(n), found.permutation].mean())
    assert abs(found.duality_gap) <= rounding


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.sampled_from(CASES),
    st.integers(2, 90),
    st.integers(1, 6),
    st.integers(0, 10**6),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_auction_alone_agrees_with_scipy(case, n, d, seed, dtype):
    x, y = draw(case, n, d, seed)
    costs = torch.from_numpy(squared_distances(x, y)).to(dtype)
    found = assignment.solve(costs, direct_up_to=0)
    exact = costs.double().numpy()
    least = exact[linear_sum_assignment(exact)].sum()
    assert sorted(found.permutation) == list(range(n))
    assert exact[np.arange(n), found.permutation].sum() == pytest.approx(least, abs=1e-8)
    assert assignment.duality_gap(costs, found.permutation, found.prices) == found.gap


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_candidate_lists_are_not_needed(case, dtype):
    x, y = (cloud.astype(dtype) for cloud in draw(case, 400, 5, 1))
    found = optimal_assignment(x, y)
    costs = squared_distances(x.astype(float), y.astype(float))
    rounding = 1e2 * np.finfo(dtype).eps * costs.max()
    assert found.cost == pytest.approx(least_cost(x.astype(float), y.astype(float)), abs=rounding)
    assert found.method != "direct"


def test_the_unique_optimum_is_found_point_by_point():
    x, y = draw("random", 500, 20, 3)
    found = optimal_assignment(x, y)
    assert found.method == "auction"
    expected = linear_sum_assignment(squared_distances(x, y))[1]
    np.testing.assert_array_equal(found.permutation, expected)
    known = optimal_assignment(x, x[np.random.default_rng(0).permutation(500)])
    assert known.cost == 0


def test_duality_gap_shows_a_wrong_answer():
    costs = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    swapped = np.array([1, 0])
    assert assignment.duality_gap(costs, swapped, np.zeros(2)) == 2
    prices, done = assignment.tighten(costs, swapped, np.zeros(2), 5, 1.0)
    assert not done
    assert assignment.duality_gap(costs, swapped, prices) >= 2


def test_uncertified_answers_are_refused(monkeypatch):
    wrong = assignment.Solution(np.array([1, 0]), np.zeros(2), 2.0, "auction")
    monkeypatch.setattr(assignment, "_identity", lambda *_: None)
    monkeypatch.setattr(assignment, "_direct", lambda *_: wrong)
    with pytest.raises(ArithmeticError, match="duality gap per row is 1 after auction"):
        assignment.solve(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


@pytest.mark.parametrize("costs", [[[0.0, torch.inf], [1.0, 0.0]], [[0.0, torch.nan], [1.0, 0.0]]])
def test_costs_must_be_finite(costs):
    with pytest.raises(ValueError, match="costs must be finite"):
        assignment.solve(torch.tensor(costs))


def test_a_tired_auction_hands_over_to_scipy(monkeypatch):
    monkeypatch.setattr(assignment, "BIDS_PER_ROW", 1)
    x, y = draw("random", 300, 5, 0)
    found = optimal_assignment(x, y)
    assert found.method == "auction and scipy"
    assert found.cost == pytest.approx(least_cost(x, y))


def test_without_memory_for_scipy_the_auction_goes_on(monkeypatch):
    monkeypatch.setattr(assignment, "BIDS_PER_ROW", 1)
    monkeypatch.setattr(assignment.memory, "available", lambda device: 0)
    costs = torch.from_numpy(squared_distances(*draw("random", 300, 5, 0)))
    assert assignment.solve(costs).method == "auction"
    monkeypatch.setattr(assignment, "ROUNDS_PER_ROW", 0)
    monkeypatch.setattr(assignment, "LEAST_ROUNDS", 0)
    with pytest.raises(ArithmeticError, match="take a subsample"):
        assignment.solve(costs)


def test_convex_gradient_and_translation_are_certified_at_once():
    x = torch.randn(300, 10, generator=torch.Generator().manual_seed(0))
    for y in (x, x + 5, 2 * x, x * torch.linspace(0.1, 3, 10), torch.exp(x)):
        found = optimal_assignment(x, y)
        assert found.certified_identity
        assert found.method == "identity"
        assert found.kept == 1
    assert optimal_assignment(x, x).cost == 0


def test_matrices_multiply_in_full_precision_and_leave_the_switch_alone():
    torch.set_float32_matmul_precision("high")
    try:
        x, y = draw("random", 300, 30, 2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            costs = PairCosts(x.astype(np.float32), y.astype(np.float32))
        assert costs._matrix.dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_units_do_not_matter():
    x, y = draw("random", 50, 3, 0)
    x, y = x.astype(np.float32), y.astype(np.float32)
    plain = optimal_assignment(x, y)
    for factor in (1e-12, 1e12):
        other = optimal_assignment(x * np.float32(factor), y * np.float32(factor))
        assert torch.equal(plain.permutation, other.permutation)
        assert other.cost == pytest.approx(plain.cost * factor**2, rel=1e-5)


def test_rotations_and_translations_keep_the_distance():
    x, y = draw("random", 60, 6, 5)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    assert wasserstein2(x @ turn + 3, y @ turn + 3) == pytest.approx(wasserstein2(x, y))
    assert wasserstein2(x, x + 2) == pytest.approx(2 * np.sqrt(6))
    assert wasserstein2(y, x) == pytest.approx(wasserstein2(x, y))


def test_images_are_flattened():
    x = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert wasserstein2(x, x + 1) == pytest.approx(np.sqrt(18), rel=1e-6)


def test_saving_is_what_the_pairing_saves():
    x, y = draw("rotated", 80, 5, 0)
    costs = PairCosts(x, y)
    found = costs.solve()
    same = ((x - x.mean(0) - y + y.mean(0)) ** 2).sum(1).mean()
    assert costs.own_cost == pytest.approx(same)
    between_means = ((x.mean(0) - y.mean(0)) ** 2).sum()
    assert costs.saving(found.permutation) == pytest.approx(same + between_means - found.cost)


def test_a_discount_buys_points_at_its_price():
    x, y = draw("random", 300, 3, 0)
    costs = PairCosts(x, y)
    plain, favoured = costs.solve(), costs.solve(0.5)
    assert favoured.kept > plain.kept
    assert plain.cost < favoured.cost <= plain.cost + 0.5 * (favoured.kept - plain.kept)
    exact = squared_distances(x, y) - 0.5 * np.eye(300)
    least = exact[linear_sum_assignment(exact)].mean()
    assert favoured.cost - 0.5 * favoured.kept == pytest.approx(least)


def test_geodesic_has_constant_speed():
    x, y = draw("random", 70, 4, 0)
    whole, times = wasserstein2(x, y), (0.0, 0.2, 0.5, 0.9, 1.0)
    track = displacement_interpolation(x, y, times)
    assert track.shape == (5, 70, 4)
    for s, first in zip(times, track, strict=True):
        for t, second in zip(times, track, strict=True):
            assert wasserstein2(first, second) == pytest.approx(abs(s - t) * whole, abs=1e-9)


def test_geodesic_ends_at_the_clouds():
    x, y = (torch.from_numpy(cloud).reshape(30, 2, 2) for cloud in draw("random", 30, 4, 0))
    pairing = optimal_assignment(x, y)
    assert torch.equal(displacement_interpolation(x, y, 0, pairing), x)
    assert torch.equal(displacement_interpolation(x, y, 1, pairing), y[pairing.permutation])
    assert torch.equal(
        displacement_interpolation(x, y, 0.3), displacement_interpolation(x, y, 0.3, pairing)
    )


@pytest.mark.parametrize("t", [-0.1, 1.1, [0.5, 2], [[0.5]], float("nan")])
def test_times_outside_the_unit_interval_are_refused(t):
    with pytest.raises(ValueError, match="t must be"):
        displacement_interpolation(torch.zeros(3, 2), torch.zeros(3, 2), t)


def test_a_pairing_of_other_clouds_is_refused():
    pairing = optimal_assignment(torch.eye(4), torch.eye(4))
    with pytest.raises(ValueError, match="pairing must be of 3 points, not 4"):
        displacement_interpolation(torch.eye(3), torch.eye(3), 0.5, pairing)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), "equally many points, not 3 and 4"),
        (torch.zeros(3, 2), torch.zeros(3, 5), "same dimension, not 2 and 5"),
        (torch.zeros(1, 2), torch.zeros(1, 2), "at least 2 points, not 1"),
        (torch.zeros(3), torch.zeros(3), "x must have shape"),
        (torch.tensor([[0.0], [torch.nan]]), torch.zeros(2, 1), "x must be finite"),
    ],
)
def test_bad_clouds_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        optimal_assignment(x, y)


def test_what_does_not_fit_is_refused_before_it_is_taken():
    x = torch.zeros(1, 1).expand(3_000_000, 1)
    with pytest.raises(MemoryError, match=r"n = 3000000 points needs 36\d{3}\.\d GB.*subsample"):
        transport.optimal_assignment(x, x)
    assert assignment_memory(10_000, torch.float64) > 8 * 10**8


def test_advice_names_a_size_that_fits(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 10**8)
    with pytest.raises(MemoryError, match="at most about 2500 of them"):
        optimal_assignment(torch.zeros(20_000, 1), torch.zeros(20_000, 1))
    monkeypatch.setattr(memory, "available", lambda device: None)
    assert optimal_assignment(torch.eye(3), torch.eye(3)).kept == 1


def test_free_memory_is_read_from_the_system(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:    70 kB\n")
    assert memory._free_of_machine(tmp_path / "meminfo") == 70 * 1024
    assert memory._free_of_machine(tmp_path / "none") is None
    assert memory._free_of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    assert memory._free_of_group(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._free_of_group(tmp_path) is None
    memory.require(0, "cpu", "nothing", "nothing")


def test_free_memory_of_a_gpu_includes_what_torch_keeps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert memory.available("cuda") == 130


def test_precision_that_the_auction_leaves_is_mended(monkeypatch):
    monkeypatch.setattr(assignment, "LAST_STEP", 1e-9)
    costs = torch.from_numpy(squared_distances(*draw("random", 300, 8, 0)))
    found = assignment.solve(costs)
    assert found.method == "auction"
    assert abs(found.gap) < 1e-10


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_gives_the_same_cost(case):
    x, y = (torch.from_numpy(cloud) for cloud in draw(case, 700, 6, 0))
    there, here = optimal_assignment(x.cuda(), y.cuda()), optimal_assignment(x, y)
    assert there.permutation.is_cuda
    assert there.cost == pytest.approx(here.cost, abs=1e-9)
