"""What the published experiment on depth measures beside its sweeps.

Each function returns rows of plain numbers, one for each case and seed: weight decay against the
kinetic energy as the penalty (the paper's section 3.3), descent block by block against all blocks
together (eq. (29)), and how many equations a chain can satisfy (eq. (19)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from geobook import networks
from geobook.activations import equation_bound, fit_random_labels
from geobook.data import Dataset
from geobook.energy import energy_ladder
from geobook.evaluation import evaluate, settle_norms
from geobook.gradients import (
    batch_loss,
    descend,
    gradient_step,
    state_gradients,
    update_difference,
)
from geobook.networks import Architecture, Network
from geobook.penalties import energy_sweep
from geobook.tracks import record_tracks
from geobook.training import Recipe

_IN_A_STEP = 128
_ON_THE_LADDER = 500


def penalty_rows(
    points: Dataset,
    test: Dataset,
    recipe: Recipe,
    cases: Sequence[tuple[Architecture, bool]],
    coefficients: dict[str, Sequence[float]],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Train with weight decay or with the energy itself as the penalty, and measure both alike.

    Parameters
    ----------
    points, test : Dataset
        Training points, and held-out ones for the test accuracy.
    recipe : Recipe
        How to train, but for weight decay and seed.
    cases : sequence of (Architecture, bool)
        Networks, and whether residual.
    coefficients : dict
        Under "weight decay" and "energy" the values that the coefficient takes.
    seeds : sequence of int
        Seeds of weights and order.

    Returns
    -------
    list of dict
        A row for each network: what it was, accuracy and test_accuracy (%), loss, dead, lss, ots,
        kinetic_energy and the shares of `geobook.energy_ladder` (on 500 training points), or
        what went wrong under diverged.
    """
    rows = []
    for (chosen, residual), (penalty, values) in product(cases, coefficients.items()):
        settings = list(product(values, seeds))
        by_decay = penalty == "weight decay"
        recipes = [replace(recipe, seed=s, weight_decay=v * by_decay) for v, s in settings]
        kappas = [0.0 if by_decay else value for value, _ in settings]
        trained = energy_sweep(chosen, points, recipes, kappas, residual=residual)
        for (value, seed), (network, diverged) in zip(settings, trained, strict=True):
            row = {
                "kind": "ResNet" if residual else "plain",
                "norm": chosen.norm,
                "blocks": chosen.stages[0].blocks,
                "penalty": penalty,
                "coefficient": value,
                "seed": seed,
                "diverged": diverged,
            }
            rows.append(row if diverged else row | _penalised(network, points, test))
    return rows


def _penalised(network: Network, points: Dataset, test: Dataset) -> dict[str, Any]:
    few = points.subset(min(_ON_THE_LADDER, len(points)))
    scores = evaluate(network, few)
    ladder = energy_ladder(record_tracks(network, few.images)[0], few.labels)
    whole = evaluate(network, points, points=2, ots=False)
    return {
        "accuracy": whole["accuracy"],
        "loss": whole["loss"],
        "dead": scores["dead"],
        "test_accuracy": evaluate(network, test, points=2, ots=False)["accuracy"],
        "lss": scores["stages"][0]["lss"],
        "ots": scores["stages"][0]["ots"],
        "kinetic_energy": ladder.kinetic_energy,
        **ladder.shares(),
        "wasserstein2_squared": ladder.wasserstein2_squared / (ladder.kinetic_energy or 1.0),
    }


def descent_rows(
    points: Dataset,
    chosen: Architecture,
    depths: Sequence[int],
    rates: Sequence[float],
    steps: int,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Follow full-batch gradient descent, all blocks together and one after the other, eq. (29).

    Parameters
    ----------
    points : Dataset
        Of these, 128 are trained on.
    chosen : Architecture
        The family.
    depths : sequence of int
        Blocks.
    rates : sequence of float
        Learning rates, without momentum.
    steps : int
        Steps of the descent block by block. All together it gets as many, and also as many passes
        through the network as that takes: L + 1 times the steps.
    seeds : sequence of int
        Seeds of the weights.

    Returns
    -------
    list of dict
        A row for each network: what it was; together and forward, the losses of all points as one
        batch before and after each step; same_passes, the loss after (L + 1) * steps steps
        together.
    """
    few = points.subset(min(_IN_A_STEP, len(points)))
    rows = []
    for blocks, residual, rate, seed in product(depths, (False, True), rates, seeds):
        start = networks.build(chosen, blocks=blocks, residual=residual, seed=seed)
        _, together = descend(start, few, rate, steps * (blocks + 1))
        _, forward = descend(start, few, rate, steps, "forward")
        rows.append(
            {
                "kind": "ResNet" if residual else "plain",
                "blocks": blocks,
                "rate": rate,
                "seed": seed,
                "together": together[: steps + 1],
                "forward": forward,
                "same_passes": together[-1],
            }
        )
    return rows


def step_rows(
    points: Dataset,
    chosen: Architecture,
    depths: Sequence[int],
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Take one gradient step on untrained networks, all blocks together or one after the other.

    Parameters
    ----------
    points : Dataset
        Of these, 128 take the step, in double precision.
    chosen : Architecture
        The family.
    depths : sequence of int
        Blocks.
    rates : sequence of float
        Learning rates.
    seeds : sequence of int
        Seeds of the weights.

    Returns
    -------
    list of dict
        A row for each network: what it was; for each rate the difference of the two updates (see
        `geobook.gradients.update_difference`) and the cosine between them, and by how much the
        loss changes by the step together and by that from the first block to the head (forward);
        growth, the norm of the gradients at the states behind the first block over that behind
        the last.
    """
    few = points.subset(min(_IN_A_STEP, len(points)))
    exact = few.images.double(), few.labels
    rows = []
    for blocks, residual, seed in product(depths, (False, True), seeds):
        start = networks.build(chosen, blocks=blocks, residual=residual, seed=seed).double()
        settle_norms(start, exact[0])
        _, slopes = state_gradients(start, exact)
        before = batch_loss(start, exact)
        columns: dict[str, list[float]] = {
            name: [] for name in ("difference", "cosine", "together", "forward")
        }
        for rate in rates:
            ends = [gradient_step(start, exact, rate, order) for order in ("together", "forward")]
            changes = [batch_loss(end, exact) - before for end in ends]
            values = (*update_difference(start, *ends), *changes)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        rows.append(
            {
                "kind": "ResNet" if residual else "plain",
                "blocks": blocks,
                "seed": seed,
                "rates": list(rates),
                "growth": float(slopes[0].norm() / slopes[-1].norm()),
                **columns,
            }
        )
    return rows


def equation_rows(
    shapes: Sequence[tuple[int, int]], sets: int, restarts: int = 4
) -> list[dict[str, Any]]:
    """Find out how many random labels a chain (18) can be made to satisfy, eq. (19).

    Parameters
    ----------
    shapes : sequence of (L, d)
        Depth and width of the chains.
    sets : int
        Sets of points and labels for every number of points.
    restarts : int
        Starts of the solver for each set.

    Returns
    -------
    list of dict
        A row for every shape and number of points: depth, width, points, claimed (the paper's
        count), bound (that of the parameters) and fitted, the share of sets solved.
    """
    rows = []
    for depth, width in shapes:
        bound = equation_bound(depth, width)
        for points in sorted({*range(1, min(width + 3, bound + 1)), 2 * width, bound}):
            errors = fit_random_labels(
                depth, width, points, sets=sets, restarts=restarts, seed=points
            )
            rows.append(
                {
                    "depth": depth,
                    "width": width,
                    "points": points,
                    "claimed": width * max(1, depth - 1),
                    "bound": bound,
                    "fitted": float((errors < 1e-6).double().mean()),
                }
            )
    return rows
