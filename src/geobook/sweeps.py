"""Many training runs: weight decay x depth x plain or residual x seeds.

Small fully connected networks of one depth and kind are trained as a stack (`geobook.stacks`), the
stacks in processes of one thread each: on CPUs that measured fastest. All else is trained network
by network. No network sees another: alone it comes out the same, in a stack the same to rounding,
which a long training can magnify.

The processes are joblib's: ``with joblib.parallel_config(backend="dask"):`` around the call moves
the same sweep to a cluster. A folder for the runs must then be one that all machines share.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import torch
from torch import Tensor
from tqdm.auto import tqdm

from geobook import networks, runtime
from geobook.evaluation import evaluate
from geobook.networks import Architecture, Network
from geobook.stacks import member_state, stack, stackable
from geobook.training import History, Recipe, Trainer, as_pair, digest
from geobook.validation import count, non_negative, switch

Collect = Callable[[Network, Iterable[Tensor]], Any]

# What the numbers depend on: a run is not taken from a folder if any of these changed.
_DECISIVE = (
    "networks", "tracks", "training", "stacks", "assignment", "transport", "scores", "evaluation",
    "energy", "flows", "decomposition", "network_fields", "measurements",
    "alignment", "ridge",
    "distances",
    "gradients",
    "robustness",
)  # fmt: skip
# Networks of a stack: more no longer helps, and fewer share the work among processes better.
_STACK = 9
# Starting processes takes some seconds: not worth it for less work than this, in seconds.
_WORTH_PROCESSES = 15.0
# Floating-point operations a second that one thread reaches on small networks, for estimates.
_SPEED = 4e10
# Seconds that one exact optimal transport report on 1000 points takes, for estimates.
_TRANSPORT = 0.3


@dataclass(frozen=True)
class Run:
    """One trained network of a sweep.

    Attributes
    ----------
    config : dict
        What decided it: architecture, residual, recipe, data, and how it was scored.
    history : dict of lists
        As in `geobook.training.TrainingResult`.
    scores : dict or None
        What `geobook.evaluate` says of the trained network on the training points, and
        test_accuracy (%), test_loss. None if the training diverged.
    seconds : float
        Time of training and scoring; of a stack, the network's share.
    diverged : str or None
        What went wrong, if anything did.
    collected : any
        What the sweep's `collect` returned.
    """

    config: dict[str, Any]
    history: History
    scores: dict[str, Any] | None
    seconds: float
    diverged: str | None = None
    collected: Any = None
    weights: dict[str, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def residual(self) -> bool:
        """Whether the blocks keep the identity."""
        return self.config["residual"]

    @property
    def kind(self) -> str:
        """The kind of network, ``"ResNet"`` or ``"plain"``."""
        return "ResNet" if self.residual else "plain"

    @property
    def weight_decay(self) -> float:
        """The coefficient lambda."""
        return self.config["recipe"]["weight_decay"]

    @property
    def blocks(self) -> int:
        """Blocks of the first stage."""
        return self.config["architecture"]["stages"][0]["blocks"]

    @property
    def seed(self) -> int:
        """Seed of the weights and of the order of the points."""
        return self.config["recipe"]["seed"]

    @cached_property
    def model(self) -> Network:
        """The trained network, on the CPU, if the sweep kept it (`keep_models`)."""
        if self.weights is None:
            raise ValueError("keep_models must be True in the sweep for its runs to have a model")
        network = networks.build(_architecture(self.config["architecture"]), residual=self.residual)
        network.load_state_dict(self.weights)
        return network.eval()


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, in the order blocks, residual, weight decay, seed."""

    runs: list[Run]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def select(self, **wanted: Any) -> Sweep:
        """Keep the runs whose attributes have the values, for example ``kind="plain"``.

        Raises
        ------
        ValueError
            If runs have no such attribute.
        """
        for name in wanted:
            if not hasattr(Run, name):
                raise ValueError(f"select takes attributes of Run such as weight_decay, not {name}")
        return Sweep(
            [run for run in self.runs if all(getattr(run, n) == v for n, v in wanted.items())]
        )

    def table(self) -> list[dict[str, Any]]:
        """One flat row a run: what it was, accuracies in %, scores of the last stage."""
        return [_row(run) for run in self.runs]


def sweep(
    architecture: str | Architecture,
    data: Iterable[Tensor],
    recipe: Recipe | None = None,
    *,
    weight_decays: Sequence[float],
    blocks: Sequence[int] | None = None,
    residual: Sequence[bool] = (False, True),
    seeds: Sequence[int] = (0,),
    test: Iterable[Tensor] | None = None,
    jobs: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    points: int | None = None,
    ots: bool = True,
    score_points: int = 256,
    score_every: int = 1,
    keep_models: bool = False,
    collect: Collect | None = None,
    device: torch.device | str | None = None,
    stacked: bool | None = None,
) -> Sweep:
    """Train and score a network for every combination of settings.

    Parameters
    ----------
    architecture : str or Architecture
        The network; see `geobook.networks.architecture`.
    data : Dataset or pair of tensors
        Training set: inputs (n, ...) and labels (n,).
    recipe : Recipe, optional
        How to train; its weight decay and seed are replaced.
    weight_decays, blocks, residual, seeds : sequences
        The axes. A seed decides both the weights and the order of the points; `blocks` defaults
        to what the architecture has.
    test : Dataset or pair of tensors, optional
        Held-out points.
    jobs : int, optional
        Processes. By default as many as there are processors, if the work is worth it, and 1 on a
        GPU.
    folder : path, optional
        Where each run is written as soon as it is done, one file each, under a hash of its
        configuration and of the code that decides its numbers. Runs that are there are not
        computed again; damaged files are. Interrupt and call again to go on.
    progress : bool
        Whether to show a progress bar.
    points, ots
        As for `geobook.evaluate`.
    score_points, score_every
        As for `geobook.train`.
    keep_models : bool
        Whether the runs keep their trained network. Runs found in `folder` have none, so they are
        then computed again.
    collect : callable, optional
        ``collect(model, data)`` is called with every trained network, in the process that trained
        it; what it returns, plain numbers, lists and dicts, becomes ``run.collected``. Must be a
        function of a module.
    device : torch.device or str, optional
        Where to train; by default where the data are.
    stacked : bool, optional
        Whether to train in stacks; by default where that is faster.

    Raises
    ------
    ValueError
        If a setting is out of range or an axis is empty.
    """
    data = _checked(data, "data")
    where = next(iter(data)).device if device is None else runtime.device(device)
    test = None if test is None else _checked(test, "test")
    scoring = _Scoring(points, ots, score_points, score_every, keep_models, collect, str(where))
    axes = {"weight_decays": weight_decays, "residual": residual, "seeds": seeds}
    tasks = _tasks(architecture, recipe, axes, blocks, data, test, scoring)
    store = None if folder is None else Path(folder)
    done = {} if store is None or keep_models else _found(store, tasks)
    groups = _groups([task for task in tasks if task.key not in done], where, stacked)
    processes = _processes(jobs, groups, where, len(next(iter(data))))
    with tqdm(total=len(tasks), initial=len(done), disable=not progress, unit="run") as bar:
        for runs in _worked(groups, processes, data, test, scoring, store):
            done.update(runs)
            bar.update(len(runs))
    return Sweep([done[task.key] for task in tasks])


@dataclass(frozen=True)
class Outlook:
    """What a sweep would do.

    Attributes
    ----------
    runs, done : int
        Runs in all, and those that are already in the folder.
    seconds : float
        Rough time that the missing runs take one processor core.
    """

    runs: int
    done: int
    seconds: float


def outlook(
    architecture: str | Architecture,
    data: Iterable[Tensor],
    recipe: Recipe | None = None,
    *,
    weight_decays: Sequence[float],
    blocks: Sequence[int] | None = None,
    residual: Sequence[bool] = (False, True),
    seeds: Sequence[int] = (0,),
    test: Iterable[Tensor] | None = None,
    folder: str | os.PathLike[str] | None = None,
    points: int | None = None,
    ots: bool = True,
    score_points: int = 256,
    score_every: int = 1,
    collect: Collect | None = None,
) -> Outlook:
    """Say what `sweep` with these arguments would have to do, without doing it."""
    data = _checked(data, "data")
    test = None if test is None else _checked(test, "test")
    scoring = _Scoring(points, ots, score_points, score_every, False, collect, "cpu")
    axes = {"weight_decays": weight_decays, "residual": residual, "seeds": seeds}
    tasks = _tasks(architecture, recipe, axes, blocks, data, test, scoring)
    done = {} if folder is None else _found(Path(folder), tasks)
    left = [task for task in tasks if task.key not in done]
    size = len(next(iter(data)))
    scored = min(points or size, size)
    transport = len(left) * _TRANSPORT * (scored / 1000) ** 2 if ots else 0.0
    return Outlook(len(tasks), len(done), _seconds(left, size) + transport)


# --- what is to be done ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scoring:
    points: int | None
    ots: bool
    score_points: int
    score_every: int
    keep_models: bool
    collect: Collect | None
    device: str

    def described(self) -> dict[str, Any]:
        collected = self.collect and f"{self.collect.__module__}.{self.collect.__qualname__}"
        return {
            "points": self.points,
            "ots": self.ots,
            "score_points": self.score_points,
            "score_every": self.score_every,
            "collect": collected or None,
        }


@dataclass(frozen=True)
class _Task:
    architecture: Architecture
    residual: bool
    recipe: Recipe
    config: dict[str, Any]

    @cached_property
    def key(self) -> str:
        content = json.dumps({"made by": _code(), **self.config}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @cached_property
    def cost(self) -> float:
        """Floating-point operations a point and epoch, about: 6 a weight of a matrix."""
        with torch.device("meta"):
            network = Network(self.architecture, self.residual)
        sites = self.architecture.stages[0].shape[1:]
        return 6.0 * sum(p.numel() for p in network.parameters()) * (
            sites[0] * sites[1] if sites else 1
        )  # fmt: skip


def _tasks(
    which: str | Architecture,
    recipe: Recipe | None,
    axes: dict[str, Sequence[Any]],
    blocks: Sequence[int] | None,
    data: Any,
    test: Any,
    scoring: _Scoring,
) -> list[_Task]:
    architecture = networks.architecture(which)
    recipe = Recipe() if recipe is None else recipe
    rest = {
        "data": _described(data),
        "test": None if test is None else _described(test),
        "scoring": scoring.described(),
    }
    for name, values in {**axes, "blocks": (0,) if blocks is None else blocks}.items():
        if isinstance(values, str) or not isinstance(values, Iterable) or not list(values):
            raise ValueError(f"{name} must hold at least one value, not {values!r}")
    for identity in axes["residual"]:
        switch(identity, "residual")
    depths = [architecture] if blocks is None else [architecture.changed(blocks=b) for b in blocks]
    decays = [non_negative(decay, "weight_decays") for decay in axes["weight_decays"]]
    seeds = [count(seed, "seeds", 0) for seed in axes["seeds"]]
    tasks = []
    for chosen, identity, decay, seed in product(depths, axes["residual"], decays, seeds):
        own = replace(recipe, weight_decay=decay, seed=seed)
        config = {
            "architecture": asdict(chosen),
            "residual": bool(identity),
            "recipe": asdict(own),
            **rest,
        }
        # Through JSON, so that a run just trained and one read from a file look the same.
        tasks.append(_Task(chosen, bool(identity), own, json.loads(json.dumps(config))))
    return tasks


def _groups(
    tasks: list[_Task], device: torch.device, stacked: bool | None
) -> list[list[_Task]]:  # fmt: skip
    """Share the tasks out into stacks of about equal size, the dearest first."""
    alike: dict[Any, list[_Task]] = {}
    for task in tasks:
        wanted = stackable(task.architecture, device) if stacked is None else stacked
        key: Any = (
            (task.architecture, task.residual) if wanted and not task.recipe.augment else task.key
        )
        alike.setdefault(key, []).append(task)
    groups = []
    for same in alike.values():
        stacks = -(-len(same) // _STACK)
        groups += [same[i::stacks] for i in range(stacks)]
    return sorted(groups, key=lambda group: -sum(task.cost for task in group))


def _seconds(tasks: Iterable[_Task], points: int) -> float:
    """Estimate roughly how long training takes one thread."""
    return sum(task.cost * task.recipe.epochs for task in tasks) * points / _SPEED


def _processes(
    jobs: int | None, groups: list[list[_Task]], device: torch.device, points: int
) -> int:
    if jobs is not None:
        return min(count(jobs, "jobs"), max(1, len(groups)))
    work = _seconds((task for group in groups for task in group), points)
    if device.type != "cpu" or len(groups) < 2 or work < _WORTH_PROCESSES:
        return 1
    return min(joblib.cpu_count(), len(groups))


# --- doing it -------------------------------------------------------------------------------------


def _worked(
    groups: list[list[_Task]],
    processes: int,
    data: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None,
    scoring: _Scoring,
    store: Path | None,
) -> Iterator[dict[str, Run]]:
    if not groups:
        return
    if processes == 1:
        for group in groups:
            yield _work(group, data, test, scoring, store)
        return
    try:
        parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered")
    except ValueError:
        # Some backends, and joblib before 1.4, give all results together at the end.
        parallel = joblib.Parallel(n_jobs=processes)
    yield from parallel(
        joblib.delayed(_work)(group, data, test, scoring, store) for group in groups
    )


def _work(
    group: list[_Task],
    data: Any,
    test: Any,
    scoring: _Scoring,
    store: Path | None,
) -> dict[str, Run]:
    """Train and score one group of tasks; write each run as soon as it is known."""
    with _one_thread():
        started = time.perf_counter()
        trained = _trained(group, data, test, scoring)
        share = (time.perf_counter() - started) / len(group)
        runs = {}
        for task, (network, history, diverged) in zip(group, trained, strict=True):
            started = time.perf_counter()
            run = _scored(task, network, history, diverged, data, test, scoring)
            run = replace(run, seconds=round(share + time.perf_counter() - started, 3))
            if store is not None:
                _write(store / f"{task.key}.json", run)
            runs[task.key] = run
    return runs


def _trained(
    group: list[_Task], data: Any, test: Any, scoring: _Scoring
) -> list[tuple[Network, History, str | None]]:
    built = [
        networks.build(
            task.architecture,
            residual=task.residual,
            seed=task.recipe.seed,
            device=scoring.device,
        )
        for task in group
    ]
    members = len(group)
    whole = built[0] if members == 1 else stack(built)
    trainer = Trainer(
        whole,
        data,
        [task.recipe for task in group],
        test=test,
        score_points=scoring.score_points,
        score_every=scoring.score_every,
    )
    while trainer.epoch < trainer.recipe.epochs and not all(trainer.diverged):
        trainer.run_epoch()
    if members > 1:
        for member, network in enumerate(built):
            network.load_state_dict(member_state(whole, member, members))
    return list(zip(built, trainer.histories, trainer.diverged, strict=True))


def _scored(
    task: _Task,
    network: Network,
    history: History,
    diverged: str | None,
    data: Any,
    test: Any,
    scoring: _Scoring,
) -> Run:
    scores = collected = weights = None
    network.eval()
    if diverged is None:
        try:
            scores = _all_scores(network, data, test, scoring)
        except ValueError as error:
            # Finite weights can still make states that overflow.
            diverged = f"the trained network could not be scored: {error}"
    if scores is not None and scoring.collect is not None:
        collected = scoring.collect(network, data)
    if scoring.keep_models:
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
    return Run(task.config, history, scores, 0.0, diverged, collected, weights)


def _all_scores(network: Network, data: Any, test: Any, scoring: _Scoring) -> dict[str, Any]:
    scores = evaluate(network, data, points=scoring.points, ots=scoring.ots)
    if test is not None:
        held_out = evaluate(network, test, points=2, ots=False)
        scores["test_accuracy"] = held_out["accuracy"]
        scores["test_loss"] = held_out["loss"]
    return scores


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two threads on one small network wait for each other more than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- files ----------------------------------------------------------------------------------------


def _found(folder: Path, tasks: list[_Task]) -> dict[str, Run]:
    found = {task.key: _read(folder / f"{task.key}.json", task.key) for task in tasks}
    return {key: run for key, run in found.items() if run is not None}


def _read(path: Path, key: str) -> Run | None:
    """Read a run, or return None if it is not there, not whole, or not what its name says."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept.pop("sha256") != _checksum(kept) or kept.pop("key") != key:
            return None
        return Run(**kept)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, run: Run) -> None:
    kept = {
        "key": path.stem,
        "config": run.config,
        "history": run.history,
        "scores": run.scores,
        "seconds": run.seconds,
        "diverged": run.diverged,
        "collected": run.collected,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(json.dumps({**kept, "sha256": _checksum(kept)}), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(kept: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    """Digest of the code behind the numbers, and torch's version."""
    total = hashlib.sha256(torch.__version__.encode())
    for module in _DECISIVE:
        source = Path(__file__).with_name(f"{module}.py")
        total.update(source.read_bytes() if source.exists() else b"")
    return total.hexdigest()[:16]


# --- descriptions ---------------------------------------------------------------------------------


def _checked(data: Iterable[Tensor], name: str) -> Any:
    """Check the data; keep a Dataset as it is, for its name and augmentation."""
    if hasattr(data, "augmented"):
        return data
    first = data[0] if isinstance(data, tuple | list) and data else None
    return as_pair(data, name, getattr(first, "device", torch.device("cpu")))


def _described(data: Any) -> dict[str, Any]:
    images, labels = data
    return {
        "name": getattr(data, "name", "own"),
        "shape": list(images.shape),
        "digest": digest(images, labels),
    }


def _architecture(fields: dict[str, Any]) -> Architecture:
    stages = tuple(
        networks.Stage(tuple(stage["shape"]), stage["blocks"], stage["hidden"])
        for stage in fields["stages"]
    )
    rest = {**fields, "stages": stages, "input_shape": tuple(fields["input_shape"])}
    return Architecture(**rest)


def _row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": run.kind,
        "blocks": run.blocks,
        "weight_decay": run.weight_decay,
        "seed": run.seed,
    }
    names = ("lsr", "lss", "ots", "ots_low", "ots_high", "excess_cost", "wasserstein2")
    scores = run.scores or {}
    row |= {
        "accuracy": scores.get("accuracy"),
        "test_accuracy": scores.get("test_accuracy"),
        "loss": scores.get("loss"),
        "dead": scores.get("dead"),
    }
    last = scores["stages"][-1] if scores else {}
    return row | {name: last.get(name) for name in names} | {"seconds": run.seconds}
