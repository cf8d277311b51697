"""One recipe, one training loop: for a single network and for a stack of small ones.

`train` is what a reader calls. `Trainer` is the loop beneath it, one epoch at a time; sweeps give
it a stack of networks (see `geobook.stacks`), each with its own weight decay and seed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from geobook.networks import Network
from geobook.tracks import line_shape_ratio, line_shape_score, record_tracks
from geobook.validation import count, non_negative, one_of, positive, switch

History = dict[str, list[Any]]
OnEpoch = Callable[[int, History, nn.Module], bool | None]

_KEYS = ("epoch", "learning_rate", "loss", "accuracy", "test_accuracy", "lsr", "lss")
_CHECKPOINT_FORMAT = 1
_CHUNK = 1024
_TRY = "try a smaller learning_rate, norm='both', clip=1.0, or a branch_gain below 1"


class Diverged(RuntimeError):  # noqa: N818
    """The loss or the weights became infinite or NaN; the message says when and what to try."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run but the network and the data.

    Parameters
    ----------
    optimizer : {"sgd", "adamw"}
        Stochastic gradient descent with momentum, or AdamW with its usual moments.
    learning_rate : float
        Learning rate eta at the first step.
    momentum : float
        Momentum of SGD, in [0, 1).
    schedule : {"cosine", "constant", "step"}
        Cosine to 0; no change; or a tenth after half of the steps and again after three quarters.
    weight_decay : float
        The coefficient lambda. SGD adds lambda * w to the gradient (coupled, the gradient of the
        penalty lambda/2 ||w||^2); AdamW multiplies w by 1 - eta * lambda (decoupled).
    decay_on : {"all", "weights"}
        Whether all parameters decay, or only matrices and kernels (no biases, no norms).
    epochs, batch_size : int
        Passes through the data, and points of a step. Every step has `batch_size` points: what is
        left over at the end of an epoch, other points each time, waits for the next.
    augment : bool
        Whether to crop and mirror images at random; needs a `geobook.data.Dataset`.
    seed : int
        Seed of the order of the points (and of the augmentation).
    clip : float, optional
        Greatest norm of the gradient; larger ones are scaled down to it.

    Raises
    ------
    ValueError
        If a value is out of range, such as a negative weight decay.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    weight_decay: float = 0.0
    decay_on: Literal["all", "weights"] = "all"
    epochs: int = 60
    batch_size: int = 128
    augment: bool = False
    seed: int = 0
    clip: float | None = None

    def __post_init__(self) -> None:
        one_of(self.optimizer, "optimizer", ("sgd", "adamw"))
        one_of(self.schedule, "schedule", ("cosine", "constant", "step"))
        one_of(self.decay_on, "decay_on", ("all", "weights"))
        switch(self.augment, "augment")
        positive(self.learning_rate, "learning_rate")
        non_negative(self.weight_decay, "weight_decay")
        count(self.epochs, "epochs")
        count(self.batch_size, "batch_size", 2)
        count(self.seed, "seed", 0)
        if not 0 <= non_negative(self.momentum, "momentum") < 1:
            raise ValueError(f"momentum must be in [0, 1), not {self.momentum!r}")
        if self.clip is not None:
            positive(self.clip, "clip")

    def steps(self, points: int) -> int:
        """Return how many steps an epoch over so many points has."""
        return max(1, count(points, "points", 2) // self.batch_size)

    def learning_rates(self, points: int) -> list[float]:
        """Learning rate eta_t of every step of the whole run.

        Parameters
        ----------
        points : int
            Points of the training set.
        """
        total = self.steps(points) * self.epochs
        return [self.learning_rate * self._factor(t / total) for t in range(total)]

    def transition(self, points: int) -> float:
        """Weight decay (1 - momentum) / sum_t eta_t, below which decay has no time to act.

        A weight that the loss ignores shrinks during the run to about exp(-lambda/transition) of
        what it was: a rule of thumb for where to put a grid of weight decays.
        """
        return (1 - self.momentum) / sum(self.learning_rates(points))

    def _factor(self, progress: float) -> float:
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        if self.schedule == "step":
            return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))
        return 1.0


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """A trained network, in evaluation mode, and how it came about.

    Attributes
    ----------
    model : Module
        The network that was handed in, trained.
    recipe : Recipe
        What it was trained with.
    history : dict of lists, an entry for each epoch
        epoch (1, 2, ...), learning_rate (of the epoch's last step), loss and accuracy (mean over
        the epoch's batches, accuracy in %), test_accuracy (%), lsr and lss (a list with one score
        for each stage). None where an epoch was not scored.
    """

    model: nn.Module
    recipe: Recipe
    history: History


def train(
    model: nn.Module,
    data: Iterable[Tensor],
    recipe: Recipe | None = None,
    *,
    test: Iterable[Tensor] | None = None,
    score_points: int = 256,
    score_every: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
) -> TrainingResult:
    """Train a network, in place, on the device where it lives.

    The same network, data and recipe give the same result, bit for bit on a CPU, also in a fresh
    process and also when the training was interrupted and resumed from its checkpoint.

    Parameters
    ----------
    model : Module
        Maps inputs (n, ...) to logits (n, classes). Tracks are scored for a `Network` only.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    recipe : Recipe, optional
        How to train; ``Recipe()`` by default.
    test : Dataset or pair of tensors, optional
        Held-out points for the test accuracy.
    score_points : int
        On how many training points, always the same ones, the tracks are scored; 0 for none.
    score_every : int
        Tracks and test accuracy are scored after every so many epochs, and after the last.
    checkpoint : path, optional
        File to resume from if it is there, and to write.
    checkpoint_every : int
        After how many epochs it is written; always after the last, or when stopped.
    progress : bool
        Whether to show a progress bar.
    on_epoch : callable, optional
        ``on_epoch(epoch, history, model)`` is called after every epoch; if it returns False, the
        training stops there.

    Raises
    ------
    Diverged
        If loss or weights become infinite or NaN.
    ValueError
        If the data do not fit, or the checkpoint is damaged or belongs to another run.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {model!r}")
    recipe = Recipe() if recipe is None else recipe
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe, not {recipe!r}")
    trainer = Trainer(
        model, data, [recipe], test=test, score_points=score_points, score_every=score_every
    )
    every = count(checkpoint_every, "checkpoint_every")
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and file.exists():
        trainer.load(file)
    bar = tqdm(
        total=recipe.epochs, initial=trainer.epoch, disable=not progress, unit="epoch", leave=False
    )
    history, going = trainer.histories[0], True
    with bar:
        while going and trainer.epoch < recipe.epochs:
            trainer.run_epoch()
            if trainer.diverged[0]:
                raise Diverged(trainer.diverged[0])
            bar.update()
            bar.set_postfix(loss=f"{history['loss'][-1]:.3f}")
            if on_epoch is not None:
                going = on_epoch(trainer.epoch, history, model) is not False
            last = not going or trainer.epoch == recipe.epochs
            if file is not None and (last or trainer.epoch % every == 0):
                trainer.save(file)
    model.eval()
    return TrainingResult(model, recipe, history)


class Trainer:
    """The training loop, an epoch at a time, for one network or for a stack of E networks.

    A stack takes inputs (batch, E * features) and gives logits (batch, E * classes), the
    networks side by side; with E = 1 any module will do. The recipes of a stack may
    differ in weight decay and seed.

    Parameters
    ----------
    model : Module
        The network, or the stack.
    data, test, score_points, score_every
        As for `train`.
    recipes : sequence of Recipe
        One for every network.

    Attributes
    ----------
    epoch : int
        Epochs done.
    histories : list of dict
        One for every network, see `TrainingResult`.
    diverged : list of str or None
        For every network what went wrong, if anything did. It goes on being computed, to no effect
        on the others.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Iterable[Tensor],
        recipes: Sequence[Recipe],
        *,
        test: Iterable[Tensor] | None = None,
        score_points: int = 256,
        score_every: int = 1,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipes[0]
        self.members = len(recipes)
        self.weight_decays = [recipe.weight_decay for recipe in recipes]
        where = _device_of(model)
        self.images, self.labels = as_pair(data, "data", where)
        self.test = None if test is None else as_pair(test, "test", where)
        if self.recipe.augment and (self.members > 1 or not hasattr(data, "augmented")):
            raise ValueError("augment must be False for data that are not a geobook.data.Dataset")
        if isinstance(model, Network):
            classes = model.architecture.classes // self.members
            if int(self.labels.max()) >= classes:
                raise ValueError(
                    f"data must hold labels below the {classes} classes of the network, "
                    f"not {int(self.labels.max())}"
                )
        self.probe = probe_points(self.images, count(score_points, "score_points", 0))
        self.score_every = count(score_every, "score_every")
        self.generators = [torch.Generator().manual_seed(recipe.seed) for recipe in recipes]
        self.rates = self.recipe.learning_rates(len(self.images))
        self.optimizer = self._optimizer()
        self.decays = self._decays() if self.members > 1 else []
        self.epoch = 0
        self.histories: list[History] = [{key: [] for key in _KEYS} for _ in recipes]
        self.diverged: list[str | None] = [None] * self.members

    def run_epoch(self) -> None:
        """Train for one epoch and extend the histories."""
        steps = self.recipe.steps(len(self.images))
        first = self.epoch * steps
        self.model.train()
        seen = []
        with flushing_denormals():
            for step, chosen in enumerate(self._order(steps), start=first):
                seen.append(self._step(chosen, self.rates[step]))
        self.epoch += 1
        losses, hits = (torch.stack(values).cpu() for values in zip(*seen, strict=True))
        self._note_divergence(losses, first)
        self._extend(losses.double().mean(0).tolist(), hits.double().mean(0).mul(100).tolist())

    # --- one step ---------------------------------------------------------------------------------

    def _order(self, steps: int) -> Iterator[Tensor]:
        """Draw the points of every step of one epoch on the CPU: indices (batch, E)."""
        n = len(self.images)
        size = min(self.recipe.batch_size, n)
        orders = [torch.randperm(n, generator=generator) for generator in self.generators]
        chosen = torch.stack(orders, dim=1)[: steps * size].to(self.images.device)
        yield from chosen.split(size)

    def _step(self, chosen: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        labels = self.labels[chosen].flatten()
        outputs, penalties = self._forward(self._inputs(chosen))
        logits = outputs.reshape(len(labels), -1)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        losses = losses.view(-1, self.members).mean(0)
        self.optimizer.zero_grad(set_to_none=True)
        (losses if penalties is None else losses + penalties).sum().backward()
        if self.recipe.clip is not None:
            self._clip(self.recipe.clip)
        self._decay(rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        hits = (logits.detach().argmax(1) == labels).view(-1, self.members).float().mean(0)
        return losses.detach(), hits

    def _forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and what is added to each network's loss (E,); see `geobook.penalties`."""
        return self.model(inputs), None

    def _inputs(self, chosen: Tensor) -> Tensor:
        if self.members > 1:
            return self.images.flatten(1)[chosen].flatten(1)
        if self.recipe.augment:
            return self.data.augmented(chosen[:, 0], self.generators[0])  # type: ignore[attr-defined]
        return self.images[chosen[:, 0]]

    def _optimizer(self) -> torch.optim.Optimizer:
        everything = [p for p in self.model.parameters() if p.requires_grad]
        # A stack's weight decays differ, so it gets them from `_decay`, not from torch's optimizer.
        rate = self.weight_decays[0] if self.members == 1 else 0.0
        decaying = [p for p in everything if self._decays_on(p)]
        resting = [p for p in everything if not self._decays_on(p)]
        groups = [{"params": decaying, "weight_decay": rate}]
        if resting:
            groups.append({"params": resting, "weight_decay": 0.0})
        options: dict[str, Any] = {"lr": self.recipe.learning_rate}
        if self.recipe.optimizer == "adamw":
            return _fused(torch.optim.AdamW, groups, options)
        return _fused(torch.optim.SGD, groups, options | {"momentum": self.recipe.momentum})

    def _decays_on(self, parameter: Tensor) -> bool:
        return self.recipe.decay_on == "all" or parameter.ndim > 1

    def _decays(self) -> list[tuple[Tensor, Tensor]]:
        """Every decaying parameter of the stack with its weight decays, shaped to multiply it."""
        pairs = []
        for parameter in self.model.parameters():
            if self._decays_on(parameter):
                decay = parameter.new_tensor(self.weight_decays)
                if parameter.ndim > 1:
                    decay = decay.view(-1, *[1] * (parameter.ndim - 1))
                else:
                    decay = decay.repeat_interleave(len(parameter) // self.members)
                pairs.append((parameter, decay))
        return pairs

    @torch.no_grad()
    def _decay(self, rate: float) -> None:
        for parameter, decay in self.decays:
            if self.recipe.optimizer == "adamw":
                parameter.mul_(1 - rate * decay)
            else:
                parameter.grad.addcmul_(parameter, decay)

    @torch.no_grad()
    def _clip(self, limit: float) -> None:
        gradients = [p.grad.view(self.members, -1) for p in self.model.parameters()]
        norms = sum(gradient.square().sum(1) for gradient in gradients).sqrt()
        shrink = (limit / (norms + 1e-12)).clamp(max=1).unsqueeze(1)
        for gradient in gradients:
            gradient.mul_(shrink)

    # --- after an epoch ---------------------------------------------------------------------------

    def _note_divergence(self, losses: Tensor, first: int) -> None:
        finite = torch.isfinite(losses)
        sound = self._finite_weights()
        for member in range(self.members):
            step = len(losses) - 1
            if not finite[:, member].all():
                step = int((~finite[:, member]).int().argmax())
                what = f"the loss became {losses[step, member].item()}"
            elif not sound[member]:
                what = "the weights became infinite"
            else:
                continue
            self.diverged[member] = self.diverged[member] or (
                f"training diverged: {what} in epoch {self.epoch}, step {step + 1} of "
                f"{len(losses)}, at learning rate {self.rates[first + step]:.3g}; {_TRY}"
            )

    @torch.no_grad()
    def _finite_weights(self) -> list[bool]:
        sums = sum(p.reshape(self.members, -1).sum(1) for p in self.model.parameters())
        return torch.isfinite(sums).tolist()

    def _extend(self, losses: list[float], accuracies: list[float]) -> None:
        scored = self.epoch % self.score_every == 0 or self.epoch == self.recipe.epochs
        tests = self._test_accuracies() if scored else [None] * self.members
        ratios, scores = self._line_shapes() if scored else ([None] * self.members,) * 2
        rate = self.rates[self.epoch * self.recipe.steps(len(self.images)) - 1]
        columns = (losses, accuracies, tests, ratios, scores)
        for member, values in enumerate(zip(*columns, strict=True)):
            if self.diverged[member] is None:
                row = (self.epoch, rate, *values)
                for key, value in zip(_KEYS, row, strict=True):
                    self.histories[member][key].append(value)

    def _test_accuracies(self) -> list[float | None]:
        if self.test is None:
            return [None] * self.members
        images, labels = self.test
        return accuracies(self.model, images, labels, self.members)

    def _line_shapes(self) -> tuple[list[Any], list[Any]]:
        """LSR and LSS of every network, a list over its stages."""
        if len(self.probe) == 0 or not isinstance(self.model, Network):
            return [None] * self.members, [None] * self.members
        inputs = self.probe
        if self.members > 1:
            inputs = inputs.flatten(1).repeat(1, self.members)
        ratios, scores = [], []
        for track in record_tracks(self.model, inputs, store=inputs.device):
            # A network that diverged must not stop the others; its scores are not kept.
            each = track.view(len(track), len(inputs) * self.members, -1).nan_to_num(0, 0, 0)
            for kept, score in ((ratios, line_shape_ratio), (scores, line_shape_score)):
                kept.append(score(each, "none").view(-1, self.members).double().mean(0).tolist())
        return _by_member(ratios), _by_member(scores)

    # --- checkpoints ------------------------------------------------------------------------------

    def save(self, file: Path) -> None:
        """Write everything that the rest of the training depends on, all or nothing."""
        state = {
            "identity": self._identity(),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": [generator.get_state() for generator in self.generators],
            "histories": self.histories,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            torch.save(state, temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, file: Path) -> None:
        """Go on where `save` left off.

        Raises
        ------
        ValueError
            If the file is damaged, or was written for another network, recipe or data.
        """
        try:
            state = torch.load(file, map_location=self.images.device, weights_only=True)
            found = dict(state["identity"])
        except Exception as error:
            raise ValueError(
                f"checkpoint {file} is damaged or no checkpoint; delete it to start anew ({error})"
            ) from error
        for part, wanted in self._identity().items():
            if found.get(part) != wanted:
                raise ValueError(
                    f"checkpoint {file} belongs to another {part}: {found.get(part)}, not {wanted}"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.cpu())
        self.epoch = state["epoch"]
        for history, saved in zip(self.histories, state["histories"], strict=True):
            history.update(saved)

    def _identity(self) -> dict[str, Any]:
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        network = repr(shapes)
        if isinstance(self.model, Network):
            network = f"residual={self.model.residual} {self.model.architecture} {network}"
        probe = [len(self.probe), self.score_every, self.test is not None]
        return {
            "format": _CHECKPOINT_FORMAT,
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "network": _short(network.encode()),
            "data set": digest(self.images, self.labels),
            "scoring": json.dumps(probe),
        }


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("model must have parameters to train, but it has none")
    return parameter.device


def as_pair(data: Iterable[Tensor], name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Unpack inputs (n, ...) and labels (n,) and move them to the device.

    Raises
    ------
    ValueError
        If they are not two tensors of one length of at least 2, or the labels are no integers.
    """
    try:
        images, labels = data
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a Dataset or a pair of images and labels, not {type(data).__name__}"
        ) from error
    for part, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must hold tensors; its {part} are {type(value).__name__}")
    if labels.ndim != 1 or len(images) != len(labels) or len(labels) < 2:
        raise ValueError(
            f"{name} must hold at least 2 images (n, ...) and as many labels (n,), "
            f"not {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"{name} must hold labels of type int64, not {labels.dtype}")
    if int(labels.min()) < 0:
        raise ValueError(f"{name} must hold labels from 0 on, not {int(labels.min())}")
    if not images.is_floating_point():
        raise ValueError(f"{name} must hold floating-point images, not {images.dtype}")
    # A sum is finite unless a value is not; it takes no memory of the images' size.
    if not torch.isfinite(images.sum(dtype=torch.float64)):
        raise ValueError(f"{name} must hold finite images, but some values are NaN or infinite")
    return images.to(device), labels.to(device)


def probe_points(images: Tensor, points: int, seed: int = 0) -> Tensor:
    """Draw `points` of the images, or take all if there are no more; the same ones every time."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:points]
    return images[chosen.to(images.device)]


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, members: int = 1) -> Tensor:
    """Logits (n, classes) in evaluation mode, or (n, members, classes) of a stack."""
    was_training = model.training
    model.eval()
    try:
        chunks = images.split(_CHUNK)
        if members > 1:
            chunks = [chunk.flatten(1).repeat(1, members) for chunk in chunks]
        logits = torch.cat([model(chunk) for chunk in chunks])
    finally:
        model.train(was_training)
    return logits if members == 1 else logits.view(len(images), members, -1)


def accuracies(model: nn.Module, images: Tensor, labels: Tensor, members: int = 1) -> list[float]:
    """Share of right answers in %, of each network of a stack."""
    logits = logits_of(model, images, members).reshape(len(labels), members, -1)
    hits = logits.argmax(2) == labels.unsqueeze(1)
    return hits.double().mean(0).mul(100).tolist()


def digest(*tensors: Tensor) -> str:
    """Short SHA-256 of the shapes, types and values of tensors."""
    total = hashlib.sha256()
    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        total.update(f"{value.dtype} {tuple(value.shape)}".encode())
        total.update(value.numpy().data)
    return total.hexdigest()[:16]


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Round numbers below the normal range to 0, which keeps a CPU quick; put back afterwards."""
    before = bool((torch.full((1,), 1e-40) * 1.0 == 0).item())
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _fused(
    kind: Callable[..., torch.optim.Optimizer], groups: list[dict[str, Any]], options: dict
) -> torch.optim.Optimizer:
    try:
        # One kernel for all parameters; older versions and some devices do not have it.
        return kind(groups, fused=True, **options)
    except (RuntimeError, TypeError):
        return kind(groups, **options)


def _by_member(stages: list[list[float]]) -> list[list[float]]:
    return [list(values) for values in zip(*stages, strict=True)]


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
