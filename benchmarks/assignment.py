"""Optimal assignment against SciPy's `linear_sum_assignment`, both in this run.

    python benchmarks/assignment.py [--n 2000 5000 10000] [--cases random rotation plain collapse]

Cases, in dimension 1000: two independent Gaussian clouds; a mixture of ten classes and its image
under a rotation, under a ReLU map, and collapsed to 2 % of its spread around new class means.
"ratio" is SciPy's time over ours, both without the making of the matrix; SciPy gets the squared
distances of the centred clouds in float64, or with `--scipy-gets ours` the matrix that we solve
(the same problem with terms of i or j alone removed, which is easier for SciPy as well). "all" is
our time from the clouds to the certified answer. SciPy's time grows to minutes at n = 10000.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from geobook.transport import PairCosts

DIMENSION, CLASSES, INTRINSIC = 1000, 10, 50


def clouds(case: str, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the two clouds of a case, float32, shape (n, 1000)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    if case == "random":
        return normal(n, DIMENSION), normal(n, DIMENSION)
    label = torch.randint(CLASSES, (n,), generator=generator)
    spread = normal(n, INTRINSIC) @ normal(INTRINSIC, DIMENSION) / INTRINSIC**0.5
    spread += 0.1 * normal(n, DIMENSION)
    x = normal(CLASSES, DIMENSION)[label] + spread
    if case == "rotation":
        return x, x @ torch.linalg.qr(normal(DIMENSION, DIMENSION))[0]
    if case == "collapse":
        return x, 3 * normal(CLASSES, DIMENSION)[label] + 0.02 * spread
    hidden = torch.relu(x @ normal(DIMENSION, 200) / DIMENSION**0.5)
    y = hidden @ normal(200, DIMENSION)
    if case == "residual":
        return x, x + y * (x.norm() / y.norm() / 2)
    return x, y * (x.norm() / y.norm())


CASES = ("random", "rotation", "plain", "collapse", "residual")


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Squared distances of the centred clouds, float64, shape (n, n)."""
    x, y = (cloud - cloud.mean(0) for cloud in (x, y))
    costs = torch.addmm((y**2).sum(1), x, y.T, alpha=-2).add_((x**2).sum(1)[:, None])
    return costs.double().cpu().numpy()


class PeakMemory:
    """Largest resident memory within a `with` block, above that at its start, in GB."""

    def __enter__(self) -> PeakMemory:
        self._start = self._peak = _resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self.gigabytes = (self._peak - self._start) / 1e9

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._peak = max(self._peak, _resident())


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def measure(case: str, n: int, repeat: int, device: torch.device, easy: bool) -> dict[str, Any]:
    """Time one case; best of `repeat` for ours, once for SciPy."""
    x, y = (cloud.to(device) for cloud in clouds(case, n))
    building, solving = [], []
    with PeakMemory() as peak:
        for _ in range(repeat):
            costs = None  # else two matrices would be alive at once
            seconds, costs = timed(lambda: PairCosts(x, y), device)
            building.append(seconds)
            seconds, found = timed(costs.solve, device)
            solving.append(seconds)
    ours, everything = min(solving), min(map(sum, zip(building, solving, strict=True)))
    matrix = costs._matrix.double().cpu().numpy() if easy else squared_distances(x, y)
    del costs
    scipys, (_, columns) = timed(lambda: linear_sum_assignment(matrix), torch.device("cpu"))
    permutation = found.permutation.cpu().numpy()
    rows = np.arange(n)
    difference = matrix[rows, permutation].sum() - matrix[rows, columns].sum()
    return {
        "case": case,
        "n": n,
        "scipy s": scipys,
        "ours s": ours,
        "ratio": scipys / ours,
        "all s": everything,
        "peak GB": peak.gigabytes,
        "method": found.method,
        "same": float((permutation == columns).mean()),
        "cost - scipy's": difference / n,
        "gap": found.duality_gap,
        "W2^2": found.cost,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[5000, 10_000])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--scipy-gets", choices=("distances", "ours"), default="distances")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    measure("random", 500, 1, device, True)
    print(f"{torch.get_num_threads()} threads, {device}, dimension {DIMENSION}; gap and cost in")
    print("squared distance per point; 'same' is the share of equal partners. The aim is a ratio")
    print("of 15 at n = 10000 on all but the last case; --device cuda measures a GPU.")
    header = None
    for n in arguments.n:
        for case in arguments.cases:
            row = measure(case, n, arguments.repeat, device, arguments.scipy_gets == "ours")
            if header is None:
                header = "".join(f"{name:>15}" for name in row)
                print(header)
            print("".join(f"{_text(value):>15}" for value in row.values()), flush=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
