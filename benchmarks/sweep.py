"""Measure how much faster `geobook.sweep` is than a plain loop over networks.

Both train the digits sweep (weight decay x plain or residual x seeds) on the CPU. The plain loop is
what one would write first: `nn.Module`, `torch.optim.SGD` and a cosine schedule with their
defaults, network by network, with torch's default threads and with one (on a busy machine several
threads wait for each other; the ratio is to the quicker of the two). The history (loss, accuracy,
test accuracy, LSR and LSS) is the same on both sides. Prints a table of seconds and ratios.

    python benchmarks/sweep.py [--epochs 60] [--seeds 1] [--score-every 2] [--jobs 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch.nn import functional

import geobook
from geobook import data, networks
from geobook.data import Dataset
from geobook.training import Recipe

WEIGHT_DECAYS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)


def plain_run(
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    residual: bool,
    seed: int,
    decay: float,
    score_every: int,
) -> float:
    """Train one network the plain way; return the loss of its first epoch."""
    network = networks.build("digits", residual=residual, seed=seed)
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=decay
    )
    steps = recipe.steps(len(train))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * steps)
    generator = torch.Generator().manual_seed(seed)
    probe = train.subset(256).images
    means = []
    for epoch in range(recipe.epochs):
        network.train()
        losses, hits = [], []
        order = torch.randperm(len(train), generator=generator)[: steps * recipe.batch_size]
        for chosen in order.split(recipe.batch_size):
            labels = train.labels[chosen]
            logits = network(train.images[chosen])
            value = functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.item())
            hits.append((logits.argmax(1) == labels).float().mean().item())
        means.append(sum(losses) / steps)
        if (epoch + 1) % score_every == 0:
            network.eval()
            with torch.no_grad():
                (network(test.images).argmax(1) == test.labels).float().mean().item()
            track = geobook.record_tracks(network, probe)[0]
            geobook.line_shape_ratio(track)
            geobook.line_shape_score(track)
    return means[0]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that `work` takes, and what it returns."""
    started = time.perf_counter()
    outcome = work()
    return time.perf_counter() - started, outcome


def main() -> None:
    """Time both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--score-every", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    train, test = (data.load("digits", split, device="cpu") for split in ("train", "test"))
    recipe = Recipe(epochs=chosen.epochs)
    seeds, threads = range(chosen.seeds), torch.get_num_threads()

    def swept(epochs: int, jobs: int, seeds: range = seeds, **changes: Any) -> geobook.sweeps.Sweep:
        settings = {
            "weight_decays": WEIGHT_DECAYS, "seeds": seeds, "test": test, "jobs": jobs,
            "progress": False, "ots": False, "score_every": chosen.score_every,
        }  # fmt: skip
        return geobook.sweep("digits", train, Recipe(epochs=epochs), **(settings | changes))

    def looped(threads: int) -> dict[Any, float]:
        axes = product((False, True), WEIGHT_DECAYS, seeds)
        torch.set_num_threads(threads)
        return {
            (residual, decay, seed): plain_run(
                train, test, recipe, residual, seed, decay, chosen.score_every
            )
            for residual, decay, seed in axes
        }

    plain_run(train, test, Recipe(epochs=2), True, 0, 0.0, 1)
    cold, _ = timed(lambda: swept(1, chosen.jobs))
    single_thread, alone = timed(lambda: looped(1))
    stacked, runs = timed(lambda: swept(chosen.epochs, chosen.jobs))
    apart, _ = timed(lambda: swept(chosen.epochs, chosen.jobs, stacked=False))
    single, _ = timed(lambda: swept(chosen.epochs, 1))
    several, _ = timed(lambda: looped(threads))
    loop = min(single_thread, several)
    print(
        f"{len(alone)} digits networks, {chosen.epochs} epochs, scored every {chosen.score_every}; "
        f"{threads} threads, {chosen.jobs} processes"
    )
    print(f"{'way':<44}{'seconds':>9}{'ratio':>8}")
    for name, seconds in (
        (f"plain loop, {threads} threads", several),
        ("plain loop, one thread", single_thread),
        (f"sweep: stacks, {chosen.jobs} processes", stacked),
        (f"sweep: network by network, {chosen.jobs} processes", apart),
        ("sweep: stacks, one process", single),
    ):
        print(f"{name:<44}{seconds:>9.2f}{loop / seconds:>8.2f}")
    print(f"{'starting the processes, once, about':<44}{cold:>9.2f}")
    worst = max(
        abs(run.history["loss"][0] - alone[run.residual, run.weight_decay, run.seed])
        for run in runs
    )
    print(f"greatest difference of a first epoch's training loss: {worst:.1e}")


if __name__ == "__main__":
    main()
