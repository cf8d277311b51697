"""The named experiments behind the book's published results: run, resume, collect.

``python -m geobook reproduce NAME`` runs one, run by run into a work folder, so that it can be
interrupted, and collects the outcome into ``results/NAME.json``. ``python -m geobook report``
prints what is published.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import joblib
from torch import Tensor

from geobook import data, networks, plots, results, runtime
from geobook.data import Dataset
from geobook.evaluation import evaluate, settle_norms
from geobook.networks import Network
from geobook.sweeps import Outlook, Run, Sweep, outlook, sweep
from geobook.tracks import record_tracks
from geobook.training import Recipe, probe_points
from geobook.validation import count, one_of

_PICTURED = 60
_SCORES = ("lsr", "lss", "ots", "ots_low", "ots_high", "excess_cost", "wasserstein2")


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
        Settings of each sweep, by name: weight_decays and blocks.
    seeds : tuple of int
        Seeds of the sweeps and of the untrained controls.
    score_every : int
        After how many epochs the histories have a score.
    """

    train: Dataset
    test: Dataset
    architecture: str
    recipe: Recipe
    sweeps: dict[str, dict[str, tuple[Any, ...]]]
    seeds: tuple[int, ...]
    score_every: int

    def settings(self, name: str) -> dict[str, Any]:
        """Arguments of `geobook.sweep` for the sweep of that name."""
        return {
            "architecture": self.architecture,
            "data": self.train,
            "recipe": self.recipe,
            "test": self.test,
            "seeds": self.seeds,
            "score_every": self.score_every,
            "collect": projected_tracks,
            **self.sweeps[name],
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
    """

    about: str
    plan: Callable[[bool, int], Plan]


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
        runs: a row for each trained network, with its history; untrained: the same scores of the
        networks before training; tracks: for each kind and weight decay (of seed 0) the tracks of
        some points, projected to the two principal axes of all their states; recipe, sizes.
    """
    plan = _experiment(name).plan(quick, seeds)
    store = _work_folder(work)
    swept = {
        part: sweep(**plan.settings(part), jobs=jobs, folder=store, progress=progress)
        for part in plan.sweeps
    }
    runs = [run for done in swept.values() for run in done]
    first = next(iter(swept.values()))
    return {
        "runs": [_row(run) for run in runs],
        "untrained": _untrained(plan, jobs),
        "tracks": _pictures(first, plan),
        "recipe": {"architecture": plan.architecture, **_recipe_fields(plan.recipe)},
        "points": {"train": len(plan.train), "test": len(plan.test)},
        "transition": plan.recipe.transition(len(plan.train)),
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


def projected_tracks(model: Network, points: Iterable[Tensor]) -> list[list[list[float]]]:
    """Project the last stage's tracks of some points to the plane of their states' greatest spread.

    Parameters
    ----------
    model : Network
        The network.
    points : Dataset or pair of tensors
        Of these, some are drawn; the same ones every time.

    Returns
    -------
    list, shape (L+1, points, 2)
        Coordinates along the two principal axes of all states of all layers together.
    """
    images, _ = points
    where = next(model.parameters()).device
    track = record_tracks(model, probe_points(images, _PICTURED).to(where))[-1]
    flat, _ = plots.project(track)
    return [[[float(f"{value:.4g}") for value in point] for point in state] for state in flat]


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


EXPERIMENTS: dict[str, Experiment] = {
    "digits": Experiment(
        "Plain and residual networks on scikit-learn's 8x8 digits, batch norm after both linear "
        "maps of a block: weight decay at 5 blocks, and depth at three weight decays. Scores on "
        "all training points, accuracies in %, histories on 256 training points.",
        _digits,
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
    }


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


def _untrained(plan: Plan, jobs: int | None) -> list[dict[str, Any]]:
    depths = sorted({depth for part in plan.sweeps.values() for depth in part["blocks"]})
    cases = list(product((False, True), depths, plan.seeds))
    score = joblib.delayed(partial(_untrained_row, plan.architecture, plan.train))
    return joblib.Parallel(n_jobs=jobs or joblib.cpu_count())(score(*case) for case in cases)


def _untrained_row(
    architecture: str, points: Dataset, residual: bool, blocks: int, seed: int
) -> dict[str, Any]:
    network = networks.build(architecture, residual=residual, blocks=blocks, seed=seed).eval()
    settle_norms(network, points.images)
    kind = "ResNet" if residual else "plain"
    return {"kind": kind, "blocks": blocks, "seed": seed, **_scores(evaluate(network, points))}


def _pictures(swept: Sweep, plan: Plan) -> dict[str, Any]:
    """Sort the projected tracks of the first seed by kind and weight decay."""
    pictures: dict[str, Any] = {"labels": probe_points(plan.train.labels, _PICTURED).tolist()}
    for run in swept.select(seed=plan.seeds[0]):
        if run.scores is not None:
            pictures.setdefault(run.kind, {})[f"{run.weight_decay:g}"] = {
                "track": run.collected,
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
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds (3)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; all cores by default")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where single runs are kept")


def reproduce_command(args: argparse.Namespace) -> int:
    """Run an experiment and publish its results; returns the exit status."""
    ahead = outlooks(args.name, quick=args.quick, seeds=args.seeds, work=args.work)
    jobs = args.jobs or joblib.cpu_count()
    print(
        f"{args.name}: {ahead.runs} training runs, {ahead.done} of them already in "
        f"{_work_folder(args.work)}; the others take about "
        f"{_in_words(ahead.seconds / jobs)} on {jobs} processes",
        flush=True,
    )
    started = time.perf_counter()
    measured = run(
        args.name, quick=args.quick, seeds=args.seeds, jobs=args.jobs, work=args.work
    )  # fmt: skip
    name = f"{args.name}-quick" if args.quick else args.name
    path = results.save(
        name,
        measured,
        about=EXPERIMENTS[args.name].about,
        provenance=results.provenance(
            _command(args),
            seeds=list(range(args.seeds)),
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
    print(report(published["runs"]))
    return 0


def report(rows: list[dict[str, Any]]) -> str:
    """Lay out rows of runs as a table: the mean over the seeds of every setting."""
    names = ("accuracy", "test_accuracy", "lsr", "lss", "ots", "excess_cost")
    lines = [f"{'kind':<8}{'blocks':>6}{'lambda':>9}{'seeds':>6}" + "".join(
        f"{name.replace('test_accuracy', 'test acc'):>12}" for name in names
    )]  # fmt: skip
    settings: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        settings.setdefault((row["kind"], row["blocks"], row["weight_decay"]), []).append(row)
    for (kind, blocks, decay), alike in sorted(settings.items(), key=lambda item: item[0]):
        means = "".join(f"{_mean([row.get(name) for row in alike]):>12}" for name in names)
        lines.append(f"{kind:<8}{blocks:>6}{decay:>9g}{len(alike):>6}{means}")
    return "\n".join(lines)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "-"


def _command(args: argparse.Namespace) -> str:
    words = ["python", "-m", "geobook", "reproduce", args.name]
    words += ["--quick"] if args.quick else []
    words += ["--seeds", str(args.seeds)] if args.seeds != 3 else []
    return shlex.join(words)


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
