"""The linear assignment problem on a dense square matrix, solved exactly and with a certificate.

Every answer is a permutation pi together with prices v of the columns. With u_i = min_j (C_ij -
v_j) no permutation costs less than sum u + sum v (linear programming duality), so the gap between
the cost of pi and that bound proves how good pi is. Three ways lead there, cheapest first:

1. Is the identity optimal? Lowering prices until no row prefers another column (Bellman-Ford on
   the exchange graph) ends after a few passes if it is.
2. An auction (Bertsekas 1988): rows bid for columns, first in coarse steps eps, then ever finer,
   until eps is far below the rounding of the costs. Rows look at a short list of candidate
   columns only. Prices never rise, so a bound on all columns off the list, once computed, stays
   true, and the whole row is read again only when the list no longer settles the bid: a few full
   reads of the matrix in all, done by tensor operations on whatever device holds it.
3. Where equal columns make the bidding long, SciPy's `linear_sum_assignment` finishes on the
   matrix reduced by the prices found, and the Bellman-Ford passes find the prices that prove it.

Reference: D. P. Bertsekas, "The auction algorithm: a distributed relaxation method for the
assignment problem", Annals of Operations Research 14, 105-123 (1988).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from geobook import memory

Method = Literal["identity", "direct", "auction", "auction and scipy"]

# Up to here SciPy alone is faster than the auction.
DIRECT_UP_TO = 256
CANDIDATES = 64
# The auction's steps, as fractions of the range of the costs.
FIRST_STEP, LAST_STEP, STEP_RATIO = 0.05, 1e-13, 10.0
# Bids (per row) after which equal columns are taken to be in the way. Clouds in general position
# need 20 to 70 in all.
BIDS_PER_ROW = 150
ROUNDS_PER_ROW, LEAST_ROUNDS = 20, 20_000
# Duality gap per row that float64 arithmetic may leave, as a fraction of the range.
FLOAT64_REST = 1e-12
# Passes over the matrix that the first look at the identity may take, and the last certificate.
IDENTITY_PASSES, CERTIFICATE_PASSES = 3, 400


@dataclass(frozen=True)
class Solution:
    """An optimal permutation and what proves it.

    Attributes
    ----------
    permutation : ndarray of int64, shape (n,)
        Column of each row.
    prices : ndarray of float64, shape (n,)
        Dual variable v of each column.
    gap : float
        Cost of the permutation minus the dual bound, summed over rows, in the matrix's units.
        Zero up to rounding, of either sign.
    method : str
        "identity", "direct" (SciPy alone), "auction", or "auction and scipy".
    """

    permutation: np.ndarray
    prices: np.ndarray
    gap: float
    method: Method


def solve(costs: Tensor, *, tolerance: float = 0.0, direct_up_to: int = DIRECT_UP_TO) -> Solution:
    """Find the permutation of least total cost.

    Parameters
    ----------
    costs : Tensor, shape (n, n)
        Finite, float32 or float64, on any device; it is read, never written or copied as a whole
        (but see "auction and scipy", which takes n^2 float64 numbers of main memory).
    tolerance : float, optional
        Largest gap per row with which a solution is returned, beside what float64 leaves (1e-12
        times the range of the costs).
    direct_up_to : int
        Number of rows up to which SciPy solves the problem alone.

    Raises
    ------
    ArithmeticError
        If the duality gap stays above the tolerance, so that nothing is proved.
    """
    low, high = (float(bound) for bound in torch.aminmax(costs))
    spread = high - low
    if not np.isfinite(spread):
        raise ValueError("costs must be finite, with a finite range")
    limit = tolerance + FLOAT64_REST * spread
    solution = _identity(costs, spread)
    if solution is None and len(costs) <= direct_up_to:
        solution = _direct(costs, spread)
    if solution is None:
        solution = _by_auction(costs, spread)
    if abs(solution.gap) > len(costs) * limit:
        raise ArithmeticError(
            f"no certified assignment: the duality gap per row is {solution.gap / len(costs):.3g} "
            f"after {solution.method}, above the tolerance {limit:.3g}"
        )
    return solution


def duality_gap(costs: Tensor, permutation: np.ndarray, prices: np.ndarray) -> float:
    """Cost of a permutation minus the bound that prices give, in float64.

    Parameters
    ----------
    costs : Tensor, shape (n, n)
        The matrix.
    permutation : ndarray, shape (n,)
        Column of each row.
    prices : ndarray, shape (n,)
        Any numbers: every choice gives a valid bound, good prices a tight one.
    """
    v = torch.from_numpy(prices).to(costs.device)
    partner = torch.from_numpy(permutation).to(costs.device)
    gap = 0.0
    for rows in _blocks(torch.arange(len(costs), device=costs.device), costs):
        reduced = costs[rows].double() - v
        own = reduced.gather(1, partner[rows, None])[:, 0]
        gap += float((own - reduced.amin(1)).sum())
    return gap


def tighten(
    costs: Tensor, permutation: np.ndarray, prices: np.ndarray, passes: int, spread: float
) -> tuple[np.ndarray, bool]:
    """Lower prices until every row prefers its own column: Bellman-Ford, row blocks in turn.

    It ends if and only if the permutation is optimal; only rows whose own price fell are read
    again, so near the end a pass is cheap.

    Parameters
    ----------
    costs : Tensor, shape (n, n)
        The matrix.
    permutation, prices : ndarray, shape (n,)
        Column of each row, and where to start.
    passes : int
        Work at which to give up: rows read, divided by n.
    spread : float
        Range of the costs; changes below 2^-48 of it are rounding.

    Returns
    -------
    prices : ndarray, shape (n,)
    done : bool
        Whether it ended by itself.
    """
    device, n = costs.device, len(costs)
    partner = torch.from_numpy(permutation).to(device)
    owner = torch.empty_like(partner)
    owner[partner] = torch.arange(n, device=device)
    own_cost = costs[torch.arange(n, device=device), partner].double()
    v = torch.from_numpy(prices).to(device)
    active, work = torch.arange(n, device=device), 0
    while len(active):
        if work >= passes * n:
            return v.cpu().numpy(), False
        work += len(active)
        before = v
        for rows in _blocks(active, costs):
            value = own_cost[rows] - v[partner[rows]]
            bound = (costs[rows].double() - value[:, None]).amin(0)
            v = torch.where(bound < v - spread * 2**-48, bound, v)
        active = owner[torch.nonzero(v < before)[:, 0]]
    return v.cpu().numpy(), True


def _identity(costs: Tensor, spread: float) -> Solution | None:
    identity = np.arange(len(costs))
    prices, done = tighten(costs, identity, np.zeros(len(costs)), IDENTITY_PASSES, spread)
    if not done:
        return None
    return Solution(identity, prices, duality_gap(costs, identity, prices), "identity")


def _direct(costs: Tensor, spread: float) -> Solution:
    return _finish(costs, np.zeros(len(costs)), spread, len(costs) + 1, "direct")


def _finish(
    costs: Tensor, prices: np.ndarray, spread: float, passes: int, method: Method
) -> Solution:
    """Solve the matrix reduced by the prices with SciPy, then look for prices that prove it."""
    reduced = costs.to("cpu", torch.float64).numpy() - prices
    reduced -= reduced.min(1, keepdims=True)
    permutation = linear_sum_assignment(reduced)[1].astype(np.int64)
    del reduced
    prices, _ = tighten(costs, permutation, prices, passes, spread)
    return Solution(permutation, prices, duality_gap(costs, permutation, prices), method)


def _by_auction(costs: Tensor, spread: float) -> Solution:
    free = memory.available("cpu")
    finish_fits = free is None or 2 * 8 * len(costs) ** 2 < free
    auction = _Auction(costs, spread)
    if not auction.run(patient=not finish_fits):
        if not finish_fits:
            raise ArithmeticError(
                f"the auction of {len(costs)} points did not end and the memory for SciPy's "
                "solver is not free: take a subsample of the points"
            )
        return _finish(costs, auction.price, spread, CERTIFICATE_PASSES, "auction and scipy")
    permutation, prices = auction.column_of, auction.price
    gap = duality_gap(costs, permutation, prices)
    if gap > len(costs) * FLOAT64_REST * spread:
        tight, done = tighten(costs, permutation, prices, CERTIFICATE_PASSES // 10, spread)
        if done:
            prices, gap = tight, duality_gap(costs, permutation, tight)
    return Solution(permutation, prices, gap, "auction")


def _blocks(rows: Tensor, costs: Tensor) -> Iterator[Tensor]:
    """Cut row numbers into blocks that stay in the processor's cache, or fill a GPU."""
    elements = 2**19 if costs.device.type == "cpu" else 2**25
    return iter(rows.split(max(1, elements // costs.shape[1])))


class _Candidates:
    """For each row a short list of columns, and a bound on the reduced cost of all others.

    Attributes
    ----------
    column : ndarray of int64, shape (n, k)
    cost : ndarray of float64, shape (n, k)
        Costs of the listed columns, not reduced by prices.
    bound : ndarray of float64, shape (n,)
        No column off the list has a smaller reduced cost. Stays true while prices only fall.
    """

    def __init__(self, costs: Tensor, spread: float, length: int) -> None:
        n = len(costs)
        self._costs, self._spread, self._length = costs, spread, min(length, n)
        # Equal columns are told apart by noise below the auction's step, else all rows would list
        # and want the same few. One vector, read from a random place on for each row, is enough.
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(2 * n, generator=generator).to(costs.device)
        self._noise = noise.unfold(0, n, 1)
        self._generator = generator
        self.column = np.zeros((n, self._length), np.int64)
        self.cost = np.zeros((n, self._length))
        self.bound = np.full(n, np.inf)

    def renew(self, rows: np.ndarray, prices: np.ndarray, step: float) -> None:
        """Read whole rows of the matrix at the present prices."""
        # Single precision is enough, and twice as fast, while a step is far above its rounding.
        coarse = step > self._spread * 2**-14 and self._costs.dtype == torch.float32
        margin = self._spread * (2**-20 if coarse else 2**-48)
        dtype = torch.float32 if coarse else torch.float64
        v = torch.from_numpy(prices).to(self._costs.device, dtype)
        for block in _blocks(torch.from_numpy(rows).to(self._costs.device), self._costs):
            here = block.cpu().numpy()
            self.column[here], self.cost[here], bound = self._best(block, v, step)
            self.bound[here] = bound - margin

    def cost_of(self, columns: np.ndarray) -> np.ndarray:
        """Costs of one column for each row, listed or not, shape (n,)."""
        index = torch.from_numpy(columns).to(self._costs.device)
        return self._costs.gather(1, index[:, None])[:, 0].double().cpu().numpy()

    def _best(
        self, rows: Tensor, prices: Tensor, step: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
        costs = self._costs[rows]
        noisy = costs.to(prices.dtype) - prices
        least, n, noise = noisy.amin(1), len(prices), step / 4
        start = torch.randint(n, (len(rows),), generator=self._generator).to(rows.device)
        noisy.add_(self._noise[start].to(prices.dtype), alpha=noise)
        value, column = torch.topk(noisy, min(self._length + 1, n), dim=1, largest=False)
        listed = column[:, : self._length]
        bound: np.ndarray | float = np.inf
        if self._length < n:
            bound = torch.maximum(least, value[:, -1] - noise).double().cpu().numpy()
        return listed.cpu().numpy(), costs.gather(1, listed).double().cpu().numpy(), bound


class _Auction:
    """The forward auction with step scaling; all free rows bid at once (Jacobi).

    Attributes
    ----------
    price : ndarray of float64, shape (n,)
        Dual variable of each column: lower means dearer, since rows minimise cost - price.
    column_of, row_of : ndarray of int64, shape (n,)
        The matching, -1 where free.
    """

    def __init__(self, costs: Tensor, spread: float, candidates: int = CANDIDATES) -> None:
        n = len(costs)
        self._n, self._spread = n, spread
        self._lists = _Candidates(costs, spread, candidates)
        self._jitter = np.random.default_rng(0).random(self._lists.cost.shape)
        self._last_bid = np.empty(n, np.int64)
        self._rounds = self._bids = 0
        self.price = np.zeros(n)
        self.column_of, self.row_of = np.full(n, -1), np.full(n, -1)

    def run(self, patient: bool = False) -> bool:
        """Bid until all rows are matched at the finest step; False if that takes too long."""
        step = FIRST_STEP * self._spread
        self._lists.renew(np.arange(self._n), self.price, step)
        free = np.arange(self._n)
        while self._bid_until_matched(free, step, patient):
            if step <= LAST_STEP * self._spread:
                return True
            step /= STEP_RATIO
            free = self._release(step)
        return False

    def _bid_until_matched(self, free: np.ndarray, step: float, patient: bool) -> bool:
        most_rounds = ROUNDS_PER_ROW * self._n + LEAST_ROUNDS
        while len(free):
            self._rounds += 1
            self._bids += len(free)
            tired = self._bids > BIDS_PER_ROW * self._n or self._rounds > most_rounds
            if tired and not (patient and self._rounds < 100 * most_rounds):
                return False
            free = self._round(free, step)
        return True

    def _round(self, free: np.ndarray, step: float) -> np.ndarray:
        """Let every free row bid once; return the rows that are free afterwards."""
        slot, least, others = self._wanted(free, step)
        # Within half a step of the best that may exist, a bid keeps the invariant: no matched row
        # is more than a step worse off than with its best column.
        unsettled = np.flatnonzero(least > others + step / 2)
        if len(unsettled):
            rows = free[unsettled]
            self._lists.renew(rows, self.price, step)
            slot[unsettled], least[unsettled], others[unsettled] = self._wanted(rows, step)
        raised = others - least + step
        column = self._lists.column[free, slot]
        # Of several bids for one column the highest wins: it is written last.
        order = raised.argsort()
        self._last_bid[column[order]] = order
        won = self._last_bid[column] == np.arange(len(free))
        winner, taken = free[won], column[won]
        self.price[taken] -= raised[won]
        evicted = self.row_of[taken]
        evicted = evicted[evicted >= 0]
        self.column_of[evicted] = -1
        self.row_of[taken], self.column_of[winner] = winner, taken
        return np.concatenate([free[~won], evicted])

    def _wanted(self, rows: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slot of the wanted column, its reduced cost, and a bound on that of all other columns."""
        reduced = self._lists.cost[rows] - self.price[self._lists.column[rows]]
        slot = (reduced + (step / 4) * self._jitter[rows]).argmin(1)
        row = np.arange(len(rows))
        least = reduced[row, slot]
        reduced[row, slot] = np.inf
        return slot, least, np.minimum(reduced.min(1), self._lists.bound[rows])

    def _release(self, step: float) -> np.ndarray:
        """Free the rows that the finer step leaves unsatisfied; return them."""
        reduced = self._lists.cost - self.price[self._lists.column]
        best = np.minimum(reduced.min(1), self._lists.bound)
        own = self._lists.cost_of(self.column_of) - self.price[self.column_of]
        free = np.flatnonzero(own > best + step)
        self.row_of[self.column_of[free]] = -1
        self.column_of[free] = -1
        return free
