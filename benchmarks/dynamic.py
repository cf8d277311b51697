"""Least kinetic energy over time against POT's static optimum, both in this run.

    python benchmarks/benamou_brenier.py [--sizes 32x32x16 64x64x32 128x128x32] [--repeat 2]

Densities on the unit square: a Gaussian that is translated, one that is scaled, and both. "to 1 %"
is the time until the energy stays within 1 % of the closed form (a check after every iteration,
whose time counts), "ours s" that until the default stopping criterion, "off" what the energy then
lacks. POT's `emd2` gets the same densities: all cells where they are at most 32 x 32, else only
those above 1e-4 of the largest, scaled to mass 1 again ("cells" says how many), and nothing where
more than 3000 are left at either end; its time is with the making of its cost matrix. "ratio" is
POT's time over ours to 1 %. POT answers the static question alone; ours is the whole flow.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import ot

from geobook.dynamic import benamou_brenier

CASES = {
    "translated": ((0.3, 0.3, 0.08), (0.675, 0.675, 0.08)),
    "scaled": ((0.5, 0.5, 0.06), (0.5, 0.5, 0.11)),
    "both": ((0.35, 0.35, 0.05), (0.6, 0.6, 0.1)),
}
LARGEST, FULL, THRESHOLD = 3000, 32, 1e-4


def gaussian(cells: tuple[int, int], x: float, y: float, width: float) -> np.ndarray:
    """Gaussian on the unit square, mass 1, shape (nx, ny)."""
    along_x, along_y = ((np.arange(n) + 0.5) / n for n in cells)
    squares = (along_x[:, None] - x) ** 2 + (along_y - y) ** 2
    density = np.exp(-squares / (2 * width**2))
    return density / density.sum()


def closed_form(start: tuple[float, ...], end: tuple[float, ...]) -> float:
    """W2^2 of two round Gaussians in the plane (Bures)."""
    return (start[0] - end[0]) ** 2 + (start[1] - end[1]) ** 2 + 2 * (start[2] - end[2]) ** 2


def static(mu0: np.ndarray, mu1: np.ndarray) -> tuple[float, float, str]:
    """POT's cost, its seconds, and how many cells it saw."""
    threshold = 0 if max(mu0.shape) <= FULL else THRESHOLD
    places, masses = [], []
    for density in (mu0, mu1):
        kept = np.argwhere(density >= threshold * density.max())
        places.append((kept + 0.5) / density.shape)
        masses.append(density[tuple(kept.T)])
    cells = " x ".join(str(len(part)) for part in masses)
    if max(map(len, masses)) > LARGEST:
        return np.nan, np.nan, cells
    began = time.perf_counter()
    cost = ot.emd2(*(m / m.sum() for m in masses), ot.dist(*places), numItermax=10**7)
    return float(cost), time.perf_counter() - began, cells


def to_one_percent(mu0: np.ndarray, mu1: np.ndarray, steps: int, exact: float) -> tuple[float, int]:
    """Seconds and iterations until the energy stays within 1 % of `exact`."""
    history = benamou_brenier(mu0, mu1, time_steps=steps, check_every=1).history
    outside = np.flatnonzero(np.abs(history.energy / exact - 1) > 0.01)
    first = outside[-1] + 1 if len(outside) else 0
    if first == len(history.energy):
        return np.nan, -1
    return float(history.seconds[first]), int(history.iteration[first])


def measure(size: tuple[int, int, int], case: str, repeat: int) -> dict[str, Any]:
    """Time one case; best of `repeat` for ours, once for POT."""
    start, end = CASES[case]
    mu0, mu1 = gaussian(size[:2], *start), gaussian(size[:2], *end)
    exact, steps = closed_form(start, end), size[2]
    seconds, iterations = min(to_one_percent(mu0, mu1, steps, exact) for _ in range(repeat))
    flow = benamou_brenier(mu0, mu1, time_steps=steps)
    pots, pot_seconds, cells = static(mu0, mu1)
    return {
        "grid": "x".join(map(str, size)),
        "case": case,
        "to 1 % s": seconds,
        "iterations": iterations,
        "ours s": float(flow.history.seconds[-1]),
        "W2^2 exact": exact,
        "off": flow.energy / exact - 1,
        "POT s": pot_seconds,
        "POT off": pots / exact - 1,
        "cells": cells,
        "ratio": pot_seconds / seconds,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["32x32x16", "64x64x32", "128x128x32"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeat", type=int, default=2)
    arguments = parser.parse_args()
    print(f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads of {os.cpu_count()}")
    measure((16, 16, 8), "translated", 1)
    header = None
    for text in arguments.sizes:
        nx, ny, steps = map(int, text.split("x"))
        for case in arguments.cases:
            row = measure((nx, ny, steps), case, arguments.repeat)
            if header is None:
                header = "".join(f"{name:>13}" for name in row)
                print(header)
            print("".join(f"{_text(value):>13}" for value in row.values()), flush=True)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
