"""The named experiments behind the book's published results: run, resume, collect.

``python -m geobook reproduce NAME`` runs one, run by run into a work folder, so that it can be
interrupted, and collects the outcome into ``results/NAME.json``. ``python -m geobook report``
prints what is published.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import joblib

from geobook import data, networks, planar, results, runtime
from geobook.data import Dataset
from geobook.degradation import descent_rows, equation_rows, penalty_rows, step_rows
from geobook.evaluation import evaluate, settle_norms
from geobook.measurements import (
    distance_measures,
    flow_measures,
    gauge_measures,
    gradient_measures,
    layer_measures,
    planar_measures,
    projected_tracks,
    robustness_measures,
)
from geobook.sweeps import Outlook, Run, Sweep, outlook, sweep
from geobook.training import Recipe, probe_points
from geobook.validation import count, one_of

_SCORES = ("lsr", "lss", "ots", "ots_low", "ots_high", "excess_cost", "wasserstein2")
_REPORTED = ("accuracy", "test_accuracy", "lsr", "lss", "ots", "excess_cost")
_SETTINGS = ("data", "setting", "norm", "width", "branch_gain", "kind", "blocks", "weight_decay")


@dataclass(frozen=True)
class Plan:
    """The sweeps that make up an experiment, and what belongs to all of them.

    Attributes
    ----------
    train, test : Dataset
        The data.
    architecture : str
        Name of the network.
    recipe : Recipe
        How every network is trained, but for weight decay and seed.
    sweeps : dict
        Settings of each sweep, by name: weight_decays and blocks, and whatever else of
        `geobook.sweep` differs from the rest; under "columns" what its rows say beside that.
    seeds : tuple of int
        Seeds of the sweeps and of the untrained controls.
    score_every : int
        After how many epochs the histories have a score.
    pictured : tuple of str, optional
        Sweeps whose tracks are published, by name; without it those of the first.
    also : dict of callables
        What else is measured, under the name that it gets in the file.
    """

    train: Dataset
    test: Dataset
    architecture: str
    recipe: Recipe
    sweeps: dict[str, dict[str, Any]]
    seeds: tuple[int, ...]
    score_every: int
    pictured: tuple[str, ...] | None = None
    also: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def columns(self, name: str) -> dict[str, Any]:
        """Return what all rows of that sweep say beside their settings."""
        return self.sweeps[name].get("columns", {})

    def settings(self, name: str) -> dict[str, Any]:
        """Arguments of `geobook.sweep` for the sweep of that name."""
        own = {key: value for key, value in self.sweeps[name].items() if key != "columns"}
        return {
            "architecture": self.architecture,
            "data": self.train,
            "recipe": self.recipe,
            "test": self.test,
            "seeds": self.seeds,
            "score_every": self.score_every,
            "collect": projected_tracks,
            **own,
        }


@dataclass(frozen=True)
class Experiment:
    """A named experiment.

    Attributes
    ----------
    about : str
        What is measured, for the file and the command line.
    plan : callable
        ``plan(quick, seeds)`` gives the `Plan`.
    columns : tuple of str
        What the printed report shows.
    seeds : int
        How many are published.
    """

    about: str
    plan: Callable[[bool, int], Plan]
    columns: tuple[str, ...] = _REPORTED
    seeds: int = 3


def run(
    name: str,
    *,
    quick: bool = False,
    seeds: int = 3,
    jobs: int | None = None,
    work: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run an experiment, or what is missing of it, and collect its data.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    quick : bool
        A small version of everything, to try the way from end to end.
    seeds : int
        How many seeds, 0, 1, ...
    jobs : int, optional
        Processes, as for `geobook.sweep`.
    work : path, optional
        Folder for the single runs; in the cache folder by default.
    progress : bool
        Whether to show progress bars.

    Returns
    -------
    dict
        runs: a row for each trained network, with its history and what was collected of it;
        untrained: the same of the networks before training; tracks: for each kind and weight decay
        (of seed 0) the tracks of some points in two coordinates, sweep by sweep where there are
        several; recipe, sizes.
    """
    plan = _experiment(name).plan(quick, seeds)
    store = _work_folder(work)
    swept = {
        part: sweep(**plan.settings(part), jobs=jobs, folder=store, progress=progress)
        for part in plan.sweeps
    }
    return {
        "runs": [
            {**plan.columns(part), **_row(run)} for part, done in swept.items() for run in done
        ],
        "untrained": _untrained(plan, jobs),
        "tracks": _tracks(swept, plan),
        "recipe": {"architecture": plan.architecture, **_recipe_fields(plan.recipe)},
        "points": {"train": len(plan.train), "test": len(plan.test)},
        "transition": plan.recipe.transition(len(plan.train)),
        **_also(plan, jobs),
    }


def outlooks(name: str, *, quick: bool, seeds: int, work: Path | None = None) -> Outlook:
    """Say how much there is to do, see `geobook.sweeps.outlook`."""
    plan = _experiment(name).plan(quick, seeds)
    store = _work_folder(work)
    parts = [outlook(**plan.settings(part), folder=store) for part in plan.sweeps]
    return Outlook(
        sum(part.runs for part in parts),
        sum(part.done for part in parts),
        sum(part.seconds for part in parts),
    )


# --- the experiments ------------------------------------------------------------------------------


def _digits(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
    sweeps: dict[str, dict[str, tuple[Any, ...]]] = {
        "weight decay": {"weight_decays": decays, "blocks": (5,)},
        "depth": {"weight_decays": (0.0, 3e-3, 1e-2), "blocks": (1, 2, 10, 20, 40)},
    }
    if quick:
        sweeps = {
            "weight decay": {"weight_decays": (0.0, 1e-2), "blocks": (5,)},
            "depth": {"weight_decays": (0.0,), "blocks": (2,)},
        }
    return Plan(
        train=data.load("digits", device="cpu"),
        test=data.load("digits", "test", device="cpu"),
        architecture="digits",
        recipe=Recipe(epochs=4 if quick else 60),
        sweeps=sweeps,
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=2,
    )


def _plane(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-2) if quick else (0.0, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    sweeps: dict[str, dict[str, Any]] = {}
    for name in planar.SHAPES:
        for gain, kinds in ((1.0, (False, True)), (0.3, (True,))):
            sweeps[f"{name}, gain {gain:g}"] = {
                "data": planar.load(name),
                "test": planar.load(name, "test"),
                "architecture": networks.architecture("plane", branch_gain=gain),
                "weight_decays": decays,
                "residual": kinds,
                "collect": planar_measures,
                "columns": {"data": name, "branch_gain": gain},
            }
    return Plan(
        train=planar.load(),
        test=planar.load(split="test"),
        architecture="plane",
        recipe=Recipe(epochs=5 if quick else 200, batch_size=50, clip=1.0),
        sweeps=sweeps,
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=200,
        pictured=tuple(sweeps),
    )


def _energy(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-2) if quick else (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    sweeps: dict[str, dict[str, Any]] = {
        norm: {
            "architecture": networks.architecture("digits", norm=norm),
            "weight_decays": decays,
            "collect": flow_measures,
            "columns": {"norm": norm},
        }
        for norm in networks.NORMS
    }
    return Plan(
        train=data.load("digits", device="cpu"),
        test=data.load("digits", "test", device="cpu"),
        architecture="digits",
        recipe=Recipe(epochs=4 if quick else 60, clip=1.0),
        sweeps=sweeps,
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=10,
        pictured=(),
    )


def _distance(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-2) if quick else (0.0, 3e-3, 1e-2, 3e-2, 1e-1)
    cases = [("none", 5, decays), ("both", 5, decays), ("both", 20, (0.0, 1e-2))]
    sweeps: dict[str, dict[str, Any]] = {
        f"{norm}, {blocks} blocks": {
            "architecture": networks.architecture("digits", norm=norm),
            "weight_decays": own,
            "blocks": (blocks,),
            "collect": distance_measures,
            "columns": {"norm": norm},
        }
        for norm, blocks, own in (cases[:2] if quick else cases)
    }
    return Plan(
        train=data.load("digits", device="cpu"),
        test=data.load("digits", "test", device="cpu"),
        architecture="digits",
        recipe=Recipe(epochs=4 if quick else 60, clip=1.0),
        sweeps=sweeps,
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=20,
        pictured=(),
    )


def _by_norm(quick: bool, seeds: int, sweeps: dict[str, dict[str, Any]]) -> Plan:
    """Plan the sweeps on digits without norm and with batch norm after both maps."""
    return Plan(
        train=data.load("digits", device="cpu"),
        test=data.load("digits", "test", device="cpu"),
        architecture="digits",
        recipe=Recipe(epochs=4 if quick else 60, clip=1.0),
        sweeps={
            f"{name}, {norm}": {
                "architecture": networks.architecture("digits", norm=norm),
                "columns": {"norm": norm},
                **settings,
            }
            for norm in ("none", "both")
            for name, settings in sweeps.items()
        },
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=60,
        pictured=(),
    )


def _gauge(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-2) if quick else (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    wide = {"weight_decays": decays, "blocks": (5,), "collect": gauge_measures}
    deep = {
        "weight_decays": (0.0,) if quick else (0.0, 1e-2),
        "blocks": (2,) if quick else (2, 10, 20),
        "collect": gauge_measures,
    }
    return _by_norm(quick, seeds, {"weight decay": wide, "depth": deep})


def _layers(quick: bool, seeds: int) -> Plan:
    decays = (0.0, 1e-2) if quick else (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    sweeps = {"weight decay": {"weight_decays": decays, "collect": layer_measures}}
    return _by_norm(quick, seeds, sweeps)


def _degradation(quick: bool, seeds: int) -> Plan:
    family, flat = networks.architecture("digits"), networks.architecture("digits", norm="none")
    recipe = Recipe(epochs=3 if quick else 25)
    clipped = replace(recipe, clip=1.0)
    deep = (5,) if quick else (5, 20, 40)
    plain, residual = {"residual": (False,)}, {"residual": (True,)}
    adam = replace(recipe, optimizer="adamw", learning_rate=1e-3)
    settings: dict[str, dict[str, Any]] = {
        "learning rate 0.005": {**plain, "recipe": replace(recipe, learning_rate=0.005)},
        "learning rate 0.2": {**plain, "recipe": replace(recipe, learning_rate=0.2)},
        "gradients clipped": {**plain, "recipe": clipped},
        "AdamW": {**plain, "recipe": adam},
        "norm inside only": {**plain, "architecture": family.changed(norm="inner")},
        "no norm, gain 1": {"architecture": flat, "recipe": clipped},
        "no norm, gain 0.7": {
            **plain, "architecture": flat.changed(branch_gain=0.5**0.5), "recipe": clipped
        },
        "no norm, gain 0.1": {
            **residual, "architecture": flat.changed(branch_gain=0.1), "recipe": clipped
        },
    }  # fmt: skip
    depths = (1, 5) if quick else (1, 2, 5, 10, 20, 40, 80)
    sweeps: dict[str, dict[str, Any]] = {
        "depth": {
            "weight_decays": (0.0,),
            "blocks": depths,
            "collect": gradient_measures,
            "columns": {"setting": "standard"},
        },
        "decay": {
            "weight_decays": (1e-2, 3e-2),
            "blocks": deep,
            "columns": {"setting": "standard"},
        },
    }
    for name, own in settings.items():
        sweeps[name] = {
            "weight_decays": (0.0,), "blocks": deep, **own, "columns": {"setting": name}
        }  # fmt: skip
    for own in sweeps.values():
        own["ots"] = False
    train, test = (data.load("digits", split, device="cpu") for split in ("train", "test"))
    numbers = tuple(range(count(seeds, "seeds")))
    four = [(chosen, kind) for chosen in (flat, family) for kind in (False, True)]
    both = {"weight decay": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
            "energy": (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)}  # fmt: skip
    forty = {"energy": (1e-5, 1e-4, 1e-3)}
    if quick:
        both, forty = {"weight decay": (1e-2,), "energy": (1e-3,)}, {"energy": (1e-3,)}
    deepest = [(family.changed(blocks=deep[-1]), False)]
    shapes = [(2, 4)] if quick else [(depth, 6) for depth in range(1, 6)]
    stepped = (5,) if quick else (2, 5, 10, 20, 40)
    rates = tuple(10.0**power for power in range(-7, 0))
    return Plan(
        train=train,
        test=test,
        architecture="digits",
        recipe=recipe,
        sweeps=sweeps,
        seeds=numbers,
        score_every=2,
        pictured=(),
        also={
            "equations": partial(equation_rows, shapes, 2 if quick else 10),
            "steps": partial(step_rows, train, family, stepped, rates, numbers),
            "descent": partial(descent_rows, train, family, deep, (0.05,), 8, numbers),
            "penalties": partial(penalty_rows, train, test, clipped, four, both, numbers),
            "deep_penalties": partial(penalty_rows, train, test, recipe, deepest, forty, numbers),
        },
    )


def _robustness(quick: bool, seeds: int) -> Plan:
    decays, few = (0.0, 3e-3, 1e-2, 3e-2), (0.0, 1e-2, 3e-2)
    sizes = ((5, 64, decays), (10, 64, few), (5, 32, few))
    if quick:
        sizes = ((2, 64, (0.0, 1e-2)),)
    sweeps: dict[str, dict[str, Any]] = {
        f"{norm}, {blocks} blocks of {width}": {
            "architecture": networks.architecture("digits", norm=norm, blocks=blocks, width=width),
            "weight_decays": own,
            "points": 500,
            "collect": robustness_measures,
            "columns": {"norm": norm, "width": width},
        }
        for norm in ("none", "both")
        for blocks, width, own in sizes
    }
    return Plan(
        train=data.load("digits", device="cpu"),
        test=data.load("digits", "test", device="cpu"),
        architecture="digits",
        recipe=Recipe(epochs=4 if quick else 60, clip=1.0),
        sweeps=sweeps,
        seeds=tuple(range(count(seeds, "seeds"))),
        score_every=60,
        pictured=(),
    )


_FLOWS = ("accuracy", "kinetic_energy", "wasserstein2_squared", "between_classes",
          "within_classes", "detour", "pace")  # fmt: skip

EXPERIMENTS: dict[str, Experiment] = {
    "digits": Experiment(
        "Plain and residual networks on scikit-learn's 8x8 digits, batch norm after both linear "
        "maps of a block: weight decay at 5 blocks, and depth at three weight decays. Scores on "
        "all training points, accuracies in %, histories on 256 training points.",
        _digits,
    ),
    "plane": Experiment(
        "Plain and residual networks of 10 blocks without norm in the plane, on moons, rings and "
        "spirals of 400 points, against weight decay; residual ones also with small first steps "
        "(branch_gain 0.3). Beside the scores: shares of the kinetic energy, its bounds by the "
        "weights, and how much of the blocks' fields is not a gradient.",
        _plane,
        _FLOWS,
        seeds=5,
    ),
    "energy": Experiment(
        "Plain and residual networks of 5 blocks on scikit-learn's 8x8 digits, without norm, with "
        "batch norm after the first, and after both linear maps of a block, against weight decay: "
        "shares of the kinetic energy on all training points, its bounds by the weights, and how "
        "much of the blocks' Jacobians is not symmetric.",
        _energy,
        _FLOWS,
    ),
    "gauge": Experiment(
        "Plain and residual networks on scikit-learn's 8x8 digits, without norm and with batch "
        "norm after both linear maps of a block: weight decay at 5 blocks, and depth at two weight "
        "decays. Scores on all training points in the network's own coordinates, in random ones "
        "and after alignment, with what alignment makes of shuffled states.",
        _gauge,
        ("accuracy", "lss", "lss_strangers", "lss_aligned", "lss_shuffled", "ots", "ots_aligned"),
    ),
    "layers": Experiment(
        "Plain and residual networks of 5 blocks on scikit-learn's 8x8 digits, without norm and "
        "with batch norm after both linear maps of a block, against weight decay: Lipschitz "
        "constants of the blocks and of all blocks together, at 100 training points.",
        _layers,
        ("accuracy", "test_accuracy", "bound", "worst_block", "product", "whole", "relative"),
    ),
    "degradation": Experiment(
        "Plain and residual networks on scikit-learn's 8x8 digits, from 1 to 80 blocks, with batch "
        "norm after both linear maps of a block and under other settings: accuracy against depth, "
        "what a gradient step does to the representations, descent block by block, and the "
        "kinetic energy as the penalty in place of weight decay.",
        _degradation,
        ("accuracy", "test_accuracy", "loss", "lss"),
    ),
    "distance": Experiment(
        "Plain and residual networks of 5 blocks on scikit-learn's 8x8 digits, without norm and "
        "with batch norm after both linear maps of a block, against weight decay, and of 20 blocks "
        "at two weight decays: how near the tracks of 30 000 pairs of training points come to each "
        "other, against the bound of Theorem 1, and what noise does to the test points.",
        _distance,
        (
            "accuracy",
            "test_accuracy",
            "noise_accuracy",
            "ots",
            "below",
            "not_monotone",
            "ratio_low",
            "ratio_median",
            "clearance_last",
        ),
    ),
    "robustness": Experiment(
        "Plain and residual networks on scikit-learn's 8x8 digits, without norm and with batch "
        "norm after both linear maps of a block, against weight decay, of 5 and 10 blocks and of "
        "two widths: accuracy under random noise and attacks, variation of the states, and "
        "accuracy with replaced units, all on the test points.",
        _robustness,
        ("accuracy", "test_accuracy", "lss", "ots", "margin", "radius"),
    ),
}


# --- collecting -----------------------------------------------------------------------------------


def _row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": run.kind,
        "blocks": run.blocks,
        "weight_decay": run.weight_decay,
        "seed": run.seed,
        "diverged": run.diverged,
        "history": _thinned(run.history),
    }
    if run.scores is None:
        return row
    return row | {
        "test_accuracy": run.scores.get("test_accuracy"),
        **_scores(run.scores),
        **_measures(run.collected),
    }


def _measures(collected: Any) -> dict[str, Any]:
    """Return what was collected, but for the tracks."""
    own = collected if isinstance(collected, dict) else {}
    return {name: value for name, value in own.items() if name != "track"}


def _scores(scores: dict[str, Any]) -> dict[str, Any]:
    """Flatten what `evaluate` says, with the scores of the last stage."""
    last = scores["stages"][-1]
    return {
        "accuracy": scores["accuracy"],
        "loss": scores["loss"],
        "dead": scores["dead"],
        **{name: last[name] for name in _SCORES},
        "segment_proportions": last["segment_proportions"],
    }


def _thinned(history: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Keep the epochs that were scored, and the last stage's line-shape score."""
    scored = [i for i, value in enumerate(history["lss"]) if value is not None]
    kept = {name: [history[name][i] for i in scored] for name in ("epoch", "loss", "accuracy")}
    return kept | {
        "test_accuracy": [history["test_accuracy"][i] for i in scored],
        "lss": [history["lss"][i][-1] for i in scored],
    }


def _also(plan: Plan, jobs: int | None) -> dict[str, Any]:
    measure = joblib.Parallel(n_jobs=jobs or joblib.cpu_count())
    return dict(
        zip(plan.also, measure(joblib.delayed(call)() for call in plan.also.values()), strict=True)
    )


def _untrained(plan: Plan, jobs: int | None) -> list[dict[str, Any]]:
    cases = [
        (plan.settings(part), plan.columns(part), *case)
        for part in plan.sweeps
        for case in product(
            plan.settings(part).get("residual", (False, True)),
            plan.sweeps[part].get("blocks", (None,)),
            plan.seeds,
        )
    ]
    score = joblib.delayed(_untrained_row)
    return joblib.Parallel(n_jobs=jobs or joblib.cpu_count())(score(*case) for case in cases)


def _untrained_row(
    settings: dict[str, Any],
    columns: dict[str, Any],
    residual: bool,
    blocks: int | None,
    seed: int,
) -> dict[str, Any]:
    points = settings["data"]
    network = networks.build(
        settings["architecture"], residual=residual, blocks=blocks, seed=seed
    ).eval()
    settle_norms(network, points.images)
    return {
        **columns,
        "kind": "ResNet" if residual else "plain",
        "blocks": network.architecture.stages[0].blocks,
        "seed": seed,
        **_scores(evaluate(network, points, ots=settings.get("ots", True))),
        **_measures(settings["collect"](network, points)),
    }


def _tracks(swept: dict[str, Sweep], plan: Plan) -> dict[str, Any]:
    """Sort the tracks of the first seed by sweep (where there are several), kind, weight decay."""
    if plan.pictured is None:
        first = next(iter(swept))
        return _pictures(swept[first], plan, plan.train)
    return {
        part: _pictures(swept[part], plan, plan.settings(part)["data"]) for part in plan.pictured
    }


def _pictures(swept: Sweep, plan: Plan, points: Dataset) -> dict[str, Any]:
    pictures: dict[str, Any] = {}
    for run in swept.select(seed=plan.seeds[0]):
        if run.scores is not None:
            track = run.collected["track"] if isinstance(run.collected, dict) else run.collected
            pictures.setdefault("labels", probe_points(points.labels, len(track[0])).tolist())
            pictures.setdefault(run.kind, {})[f"{run.weight_decay:g}"] = {
                "track": track,
                "lss": run.scores["stages"][-1]["lss"],
                "test_accuracy": run.scores["test_accuracy"],
            }
    return pictures


def _recipe_fields(recipe: Recipe) -> dict[str, Any]:
    fields = vars(recipe).copy()
    return {key: fields[key] for key in fields if key not in ("weight_decay", "seed")}


def _experiment(name: str) -> Experiment:
    return EXPERIMENTS[one_of(name, "experiment", EXPERIMENTS)]


def _work_folder(work: Path | None) -> Path:
    return runtime.cache_folder() / "runs" if work is None else work


# --- the command line -----------------------------------------------------------------------------


def reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``python -m geobook reproduce``."""
    parser.add_argument("name", choices=sorted(EXPERIMENTS), help="which experiment")
    parser.add_argument("--quick", action="store_true", help="a small version, to try the way")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many; as published by default")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; all cores by default")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where single runs are kept")


def reproduce_command(args: argparse.Namespace) -> int:
    """Run an experiment and publish its results; returns the exit status."""
    seeds = EXPERIMENTS[args.name].seeds if args.seeds is None else args.seeds
    ahead = outlooks(args.name, quick=args.quick, seeds=seeds, work=args.work)
    jobs = args.jobs or joblib.cpu_count()
    print(
        f"{args.name}: {ahead.runs} training runs, {ahead.done} of them already in "
        f"{_work_folder(args.work)}; the others take about "
        f"{_in_words(ahead.seconds / jobs)} on {jobs} processes",
        flush=True,
    )
    started = time.perf_counter()
    measured = run(
        args.name, quick=args.quick, seeds=seeds, jobs=args.jobs, work=args.work
    )  # fmt: skip
    name = f"{args.name}-quick" if args.quick else args.name
    path = results.save(
        name,
        measured,
        about=EXPERIMENTS[args.name].about,
        provenance=results.provenance(
            _command(args),
            seeds=list(range(seeds)),
            seconds=time.perf_counter() - started,
            resumed_runs=ahead.done,
        ),
        where=_work_folder(args.work) if args.quick and args.out is None else args.out,
    )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {len(measured['runs'])} runs")
    return 0


def report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``python -m geobook report``."""
    parser.add_argument("name", nargs="?", help="which results; without it, all are listed")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the results are")


def report_command(args: argparse.Namespace) -> int:
    """Print published results as a table; returns the exit status."""
    if args.name is None:
        for name in results.names(args.out):
            print(f"{name:<16}{results.load(name, args.out).about}")
        return 0
    published = results.load(args.name, args.out)
    origin = published.provenance
    print(f"{published.about}\n{origin['command']}, commit {origin['commit']}, {origin['date']}\n")
    known = EXPERIMENTS.get(args.name.removesuffix("-quick"))
    columns = _REPORTED if known is None else known.columns
    print(report(published["runs"], columns))
    return 0


def report(rows: list[dict[str, Any]], columns: Sequence[str] = _REPORTED) -> str:
    """Lay out rows of runs as a table: the mean over the seeds of every setting.

    Parameters
    ----------
    rows : list of dict
        Rows of runs, as published.
    columns : sequence of str
        Which of their numbers to show.
    """
    settings = [name for name in _SETTINGS if any(name in row for row in rows)]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in settings), []).append(row)
    short = {"weight_decay": "lambda", "test_accuracy": "test acc", "branch_gain": "gain",
             "wasserstein2_squared": "W2 squared", "kinetic_energy": "energy"}  # fmt: skip
    heads = "".join(f"{short.get(name, name):>9}" for name in settings)
    names = "".join(f"{short.get(name, name).replace('_', ' '):>16}" for name in columns)
    lines = [f"{heads}{'seeds':>7}{names}"]
    for values, alike in sorted(groups.items(), key=lambda item: item[0]):
        place = "".join(f"{_setting(value):>9}" for value in values)
        means = "".join(f"{_mean([row.get(name) for row in alike]):>16}" for name in columns)
        lines.append(f"{place}{len(alike):>7}{means}")
    return "\n".join(lines)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "-"


def _command(args: argparse.Namespace) -> str:
    words = ["python", "-m", "geobook", "reproduce", args.name]
    words += ["--quick"] if args.quick else []
    words += [] if args.seeds is None else ["--seeds", str(args.seeds)]
    return shlex.join(words)


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
