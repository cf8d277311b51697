"""Noise, attacks and replaced units: what a trained network withstands (the paper's appendix 7).

Perturbations move inputs x by at most, or by about, a strength eps in every coordinate:

- random noise, x + eps e with e ~ N(0, I);
- the fast gradient sign method (FGSM), x + eps sign(grad_x Loss);
- projected gradient ascent (PGD), many small such steps inside the box |x' - x| <= eps;
- the strongest of several such ascents, some along gradients that are averaged over noise.

`variation_rate` (eq. (49)) says how far a perturbation moves the states of every layer, and
`replace_units` sets the units of one layer that matter most to a class back to what they were
before the layer, or to something else as a control.

All functions run the network in evaluation mode and leave it as it was, also after an error: the
training mode of every module, its gradients and its hooks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from geobook.alignment import Group, procrustes
from geobook.networks import Network
from geobook.tracks import record_tracks
from geobook.training import as_pair, logits_of
from geobook.validation import Points, as_tensor, count, non_negative, one_of, positive

Bounds = tuple[Tensor | float, Tensor | float]
Loss = Literal["cross-entropy", "margin"]
LOSSES = ("cross-entropy", "margin")
ATTACKS = ("noise", "fgsm", "pgd", "strongest")
FILLS = ("before", "aligned", "permuted", "mean", "class mean", "zero")
ORDERS = ("activation", "magnitude", "random")

_CHUNK = 1024


# --- perturbations --------------------------------------------------------------------------------


def random_noise(
    x: Points,
    strength: float,
    *,
    scaled: bool = False,
    clamp: Bounds | None = None,
    seed: int = 0,
) -> Tensor:
    """Add normal noise, ``x + strength * e`` with e ~ N(0, I).

    Parameters
    ----------
    x : array or tensor, shape (n, ...)
        Inputs.
    strength : float
        Standard deviation in every coordinate, in units of `x`; or with `scaled` the exact length
        of the displacement of every point.
    scaled : bool
        Which of the two.
    clamp : pair, optional
        Least and greatest value, as `geobook.data.Dataset.raw_range`.
    seed : int
        Seed of the draw, which does not depend on the device.

    Returns
    -------
    tensor, of the shape of `x`

    Raises
    ------
    ValueError
        If the strength is negative, or `x` is not finite.
    """
    points = as_tensor(x, "x")
    size = non_negative(strength, "strength")
    draw = torch.Generator().manual_seed(count(seed, "seed", 0))
    noise = _normal_like(points, draw)
    if scaled:
        lengths = torch.linalg.vector_norm(noise.flatten(1), dim=1)
        noise = noise / _spread_out(lengths, noise)
    return _clamped(points + size * noise, clamp)


def fgsm(
    model: nn.Module,
    x: Points,
    labels: Tensor,
    strength: float,
    *,
    clamp: Bounds | None = None,
    loss: Loss = "cross-entropy",
) -> Tensor:
    """Attack by the fast gradient sign method, ``x + strength * sign(grad_x Loss)``.

    Parameters
    ----------
    model : Module
        Maps inputs (n, ...) to logits (n, classes).
    x : array or tensor, shape (n, ...)
        Inputs.
    labels : tensor of int64, shape (n,)
        Right classes.
    strength : float
        How far every coordinate moves. One where the gradient is exactly 0 stays.
    clamp : pair, optional
        Least and greatest value of the attacked inputs, as `geobook.data.Dataset.raw_range`.
    loss : {"cross-entropy", "margin"}
        What is to grow: cross-entropy, or the greatest wrong logit minus the right one. The sign
        of cross-entropy's gradient is exact however sure the network is, which the gradient that
        automatic differentiation finds is not: see the notes.

    Returns
    -------
    tensor, of the shape of `x`, on the device of the model

    Raises
    ------
    ValueError
        If the labels do not fit, the strength is negative, or a gradient is not finite.

    Notes
    -----
    Cross-entropy has the gradient (1 - p) grad u, where p is the probability of the right class and
    u the logarithm of (1 - p) / p. In single precision 1 - p is 0 from a margin of 17 on, in double
    precision from 37 on, and what is left of the gradient then points elsewhere. So the sign is
    taken of grad u.
    """
    points, classes = _attacked(model, x, labels)
    size = non_negative(strength, "strength")
    gradient = _input_gradient(model, points, classes, loss)
    return _clamped(points + size * gradient.sign(), clamp)


def pgd(
    model: nn.Module,
    x: Points,
    labels: Tensor,
    strength: float,
    *,
    steps: int = 20,
    step: float | None = None,
    starts: int = 2,
    smoothing: float = 0.0,
    samples: int = 4,
    clamp: Bounds | None = None,
    loss: Loss = "cross-entropy",
    seed: int = 0,
) -> Tensor:
    """Attack by projected gradient ascent in the box of half-width `strength` around every point.

    Sign steps, each projected back to the box and to `clamp`. The first ascent starts from `x`
    itself, all others from a random point of the box. For every point the answer is the one of
    greatest loss among all points visited and the one that `fgsm` finds: so it is never worse.

    Parameters
    ----------
    model, x, labels, strength, clamp, loss
        As for `fgsm`.
    steps : int
        Steps of each ascent.
    step : float, optional
        Length of a step in every coordinate; 2.5 strength / steps by default.
    starts : int
        How many ascents.
    smoothing : float
        Above 0 the steps follow gradients averaged over normal noise of standard deviation
        ``smoothing * strength`` around the point: they see a slope beyond a plateau, where the
        gradient at the point itself is tiny and points anywhere.
    samples : int
        Draws of that noise for every step.
    seed : int
        Seed of the random starts and of the smoothing.

    Returns
    -------
    tensor, of the shape of `x`, on the device of the model

    Raises
    ------
    ValueError
        As `fgsm`.
    """
    points, classes = _attacked(model, x, labels)
    size, number = non_negative(strength, "strength"), count(steps, "steps")
    length = 2.5 * size / number if step is None else positive(step, "step")
    width, times = size * non_negative(smoothing, "smoothing"), count(samples, "samples")
    draw = torch.Generator().manual_seed(count(seed, "seed", 0))

    def projected(moved: Tensor) -> Tensor:
        return _clamped(torch.minimum(torch.maximum(moved, points - size), points + size), clamp)

    def slope(here: Tensor) -> Tensor:
        if width == 0:
            return _input_gradient(model, here, classes, loss)
        noisy = (here + width * _normal_like(here, draw) for _ in range(times))
        return sum(_input_gradient(model, near, classes, loss) for near in noisy)

    best, most = points, _losses(model, points, classes, loss)
    once = projected(fgsm(model, points, classes, size, clamp=clamp, loss=loss))
    best, most = _better(best, most, once, _losses(model, once, classes, loss))
    for start in range(count(starts, "starts")):
        here = points
        if start > 0:
            shift = torch.rand(points.shape, generator=draw, dtype=torch.float64).to(points)
            here = projected(points + size * (2 * shift - 1))
        for _ in range(number):
            here = projected(here + length * slope(here).sign())
            best, most = _better(best, most, here, _losses(model, here, classes, loss))
    return best


def strongest(
    model: nn.Module,
    x: Points,
    labels: Tensor,
    strength: float,
    *,
    clamp: Bounds | None = None,
    seed: int = 0,
) -> Tensor:
    """Take for every point the worst of several attacks, so that no single one's failure counts.

    Ascents of cross-entropy along its own gradients, and of the margin along smoothed gradients of
    two widths (see `pgd`). A network that only hides its gradients resists the first, not the
    others.

    Parameters
    ----------
    model, x, labels, strength, clamp, seed
        As for `pgd`.

    Returns
    -------
    tensor, of the shape of `x`, on the device of the model
        Of all points found, for every input the one of least margin.

    Raises
    ------
    ValueError
        As `fgsm`.
    """
    points, classes = _attacked(model, x, labels)
    rest = {"clamp": clamp, "seed": seed}
    best, most = points, _losses(model, points, classes, "margin")
    for how in (
        {"loss": "cross-entropy", "starts": 2},
        {"loss": "margin", "starts": 1, "smoothing": 1.0},
        {"loss": "margin", "starts": 1, "smoothing": 2.5, "samples": 8, "steps": 10},
    ):
        moved = pgd(model, points, classes, strength, **rest, **how)
        best, most = _better(best, most, moved, _losses(model, moved, classes, "margin"))
    return best


# --- what they do ---------------------------------------------------------------------------------


def accuracy_curve(
    model: nn.Module,
    data: Iterable[Tensor],
    strengths: Sequence[float],
    attack: Literal["noise", "fgsm", "pgd", "strongest"] = "noise",
    *,
    of_right: bool = False,
    draws: int = 4,
    **options: Any,
) -> list[float]:
    """Accuracy on perturbed inputs, for every strength.

    Parameters
    ----------
    model : Module
        Maps inputs to logits.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    strengths : sequence of float
        For every one the accuracy is measured.
    attack : {"noise", "fgsm", "pgd", "strongest"}
        See `random_noise`, `fgsm`, `pgd`, `strongest`.
    of_right : bool
        Count only the points that the network gets right without perturbation: what share of
        *these* survives. It takes the clean accuracy out of the comparison of two networks.
    draws : int
        Over how many draws of random noise the accuracy is averaged; the same ones for every
        network.
    **options
        Handed to the perturbation, for example ``clamp=dataset.raw_range``.

    Returns
    -------
    list of float
        In %. NaN where `of_right` leaves no point.

    Raises
    ------
    ValueError
        If the attack is unknown or a strength is negative.
    """
    one_of(attack, "attack", ATTACKS)
    where = next(model.parameters()).device
    images, labels = as_pair(data, "data", where)
    counted = torch.ones_like(labels, dtype=torch.bool)
    if of_right:
        counted = _logits(model, images).argmax(1) == labels
    if attack == "noise":
        seeds = range(count(draws, "draws"))

        def shares(strength: float) -> list[float]:
            noisy = (random_noise(images, strength, seed=seed, **options) for seed in seeds)
            return [_share_right(model, moved, labels, counted) for moved in noisy]
    else:
        perturb = {"fgsm": fgsm, "pgd": pgd, "strongest": strongest}[attack]

        def shares(strength: float) -> list[float]:
            moved = perturb(model, images, labels, strength, **options)
            return [_share_right(model, moved, labels, counted)]

    found = [shares(strength) for strength in strengths]
    return [100 * sum(values) / len(values) for values in found]


def variation_rate(
    model: nn.Module,
    x: Points,
    perturbed: Points,
    *,
    relative_to: Literal["norm", "spread"] = "norm",
    stage: int = -1,
    blocks: Sequence[str] | None = None,
) -> Tensor:
    """How far a perturbation moves the states of every layer, eq. (49).

    Parameters
    ----------
    model : Module
        A `Network`, or any module with `blocks`, see `geobook.record_tracks`.
    x, perturbed : array or tensor, shape (n, ...)
        Inputs, and the same after perturbation.
    relative_to : {"norm", "spread"}
        "norm" divides by the norm of the state, ``mean_i |x_i^l(perturbed) - x_i^l| / |x_i^l|``,
        as the paper does. "spread" divides by the root mean square distance of all states of the
        layer from their mean, which does not change when all states move by one vector.
    stage : int
        Which stage's layers.
    blocks : list of str, optional
        As for `geobook.record_tracks`.

    Returns
    -------
    tensor of float64, shape (L+1,)
        Entry 0 belongs to the input of the first block. Infinite where a state of norm 0 moves (or
        states without spread do); what does not move has the rate 0.

    Raises
    ------
    ValueError
        If the two do not have the same shape.
    """
    one_of(relative_to, "relative_to", ("norm", "spread"))
    clean, moved = as_tensor(x, "x"), as_tensor(perturbed, "perturbed")
    if clean.shape != moved.shape:
        raise ValueError(
            f"perturbed must have the shape of x, {tuple(clean.shape)}, not {tuple(moved.shape)}"
        )
    before, after = (
        record_tracks(model, points, blocks)[stage].flatten(2).double() for points in (clean, moved)
    )
    size = torch.linalg.vector_norm(before, dim=2)
    if relative_to == "spread":
        size = before.var(1, unbiased=False).sum(1, keepdim=True).sqrt().expand_as(size)
    distance = torch.linalg.vector_norm(after - before, dim=2)
    return torch.where(distance == 0, 0.0, distance / size).mean(1)


def margins(model: nn.Module, x: Points, labels: Tensor) -> Tensor:
    """Right logit minus the greatest wrong one, shape (n,): positive where the answer is right."""
    points, classes = _attacked(model, x, labels)
    return -_losses(model, points, classes, "margin")


def linear_radius(
    model: nn.Module, x: Points, labels: Tensor, norm: Literal["max", "euclidean"] = "max"
) -> Tensor:
    """Strength at which a perturbation turns the answer, were the network linear around the point.

    Parameters
    ----------
    model : Module
        Maps inputs (n, ...) to logits (n, classes).
    x : array or tensor, shape (n, ...)
        Inputs.
    labels : tensor of int64, shape (n,)
        Right classes.
    norm : {"max", "euclidean"}
        How the perturbation is measured: by its greatest coordinate, as `fgsm`, or by its length.

    Returns
    -------
    tensor, shape (n,)
        Margin over the dual norm of the margin's gradient (sum of absolute values, or length).
        Negative where the answer is wrong already, infinite where the gradient is 0.
    """
    one_of(norm, "norm", ("max", "euclidean"))
    points, classes = _attacked(model, x, labels)
    gradient = _input_gradient(model, points, classes, "margin").flatten(1)
    order = 1 if norm == "max" else 2
    slope = torch.linalg.vector_norm(gradient.double(), ord=order, dim=1)
    return -_losses(model, points, classes, "margin") / slope


# --- units ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class UnitReplacement:
    """Accuracy after units were replaced, see `replace_units`.

    Attributes
    ----------
    units : tuple of int
        How many units were replaced.
    right : tensor of float64, shape (L, units, classes)
        Share of each class's points that are classified right, in %, when units of layer l are
        replaced. NaN for a class without points.
    points : tensor of int64, shape (classes,)
        Points of every class.
    """

    units: tuple[int, ...]
    right: Tensor
    points: Tensor

    @property
    def by_layer(self) -> Tensor:
        """Accuracy over all points in %, shape (L, units)."""
        weights = self.points.double() / self.points.sum()
        return (self.right.nan_to_num() * weights).sum(2)

    @property
    def curve(self) -> list[float]:
        """Accuracy over all points in %, averaged over the layers: one for each of `units`."""
        return self.by_layer.mean(0).tolist()


def replace_units(
    model: nn.Module,
    data: Iterable[Tensor],
    test: Iterable[Tensor] | None = None,
    *,
    units: Sequence[int] = (0, 4, 16, 32),
    fill: str = "before",
    order: str = "activation",
    stage: int = -1,
    blocks: Sequence[str] | None = None,
    seed: int = 0,
) -> UnitReplacement:
    """Replace the units of a layer that matter most to a point's class (appendix 7.1).

    For every layer l and class the units of x^l are ranked on `data`; then in every point of
    `test` of that class the first k units are replaced, and the rest of the network runs on. Units
    are features of fully connected layers and channels of convolutional ones.

    Parameters
    ----------
    model : Module
        A `Network`, or any module with `blocks`.
    data : Dataset or pair of tensors
        Points on which units are ranked, and from which `fill` learns.
    test : Dataset or pair of tensors, optional
        Points whose accuracy is measured; `data` by default.
    units : sequence of int
        Numbers k of units to replace. All units of a layer at "before" is the network without the
        block.
    fill : str
        What takes their place:

        - "before": their values in x^{l-1}, as in the paper;
        - "aligned": their values in x^{l-1} after the rigid motion (a rotation or reflection, and a
          shift) that brings the states x^{l-1} of `data` closest to x^l, see
          `geobook.alignment.procrustes`;
        - "permuted": the same with the best exchange of units, signs and shift;
        - "mean": their mean in x^l over `data`; "class mean": over the point's own class;
        - "zero".
    order : {"activation", "magnitude", "random"}
        Ranked by the mean over the class, by its absolute value, or at random.
    stage : int
        Which stage of a `Network`.
    blocks : list of str, optional
        Names of the blocks, in the order in which they run, see `geobook.record_tracks`.
    seed : int
        Seed of the random order.

    Returns
    -------
    UnitReplacement

    Raises
    ------
    ValueError
        If the fill or order is unknown, there are fewer units than asked for, or the blocks do not
        form tracks.
    """
    one_of(fill, "fill", FILLS)
    one_of(order, "order", ORDERS)
    where = next(model.parameters()).device
    images, labels = as_pair(data, "data", where)
    tested = (images, labels) if test is None else as_pair(test, "test", where)
    classes = int(max(labels.max(), tested[1].max())) + 1
    names = _stage_names(model, stage, blocks)
    track = record_tracks(model, images, blocks, store=where)[stage if blocks is None else 0]
    numbers = tuple(count(k, "units", 0) for k in units)
    if not numbers or max(numbers) > track.shape[2]:
        raise ValueError(f"units must be numbers up to {track.shape[2]}, not {list(units)!r}")
    draw = torch.Generator().manual_seed(count(seed, "seed", 0))
    right = torch.empty(len(names), len(numbers), classes, dtype=torch.float64)
    for layer, name in enumerate(names):
        ranks = _ranks(track[layer + 1], labels, classes, order, draw)
        filler = _filler(fill, track[layer], track[layer + 1], labels, classes)
        for place, k in enumerate(numbers):
            swap = _Swap(ranks < k, filler)
            right[layer, place] = _right_with(model, name, swap, *tested, classes)
    points = torch.bincount(tested[1], minlength=classes).cpu()
    return UnitReplacement(numbers, right, points)


class _Swap:
    """Replaces units of a block's output; a forward hook that is told the batch's labels."""

    def __init__(self, chosen: Tensor, filler: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.chosen, self.filler = chosen, filler
        self.labels = torch.empty(0)

    def __call__(self, block: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        mask = self.chosen[self.labels]
        mask = mask.view(*mask.shape, *(1,) * (output.ndim - 2))
        return torch.where(mask, self.filler(args[0], self.labels).to(output), output)


@torch.no_grad()
def _right_with(
    model: nn.Module, name: str, swap: _Swap, images: Tensor, labels: Tensor, classes: int
) -> Tensor:
    """Share of right answers by class in %, with the hook on that block."""
    hits = []
    handle = model.get_submodule(name).register_forward_hook(swap)
    try:
        with _undisturbed(model):
            for batch, swap.labels in zip(images.split(_CHUNK), labels.split(_CHUNK), strict=True):
                hits.append(model(batch).argmax(1) == swap.labels)
    finally:
        handle.remove()
    right = torch.cat(hits).double()
    total = torch.zeros(classes, dtype=torch.float64, device=labels.device)
    total.index_add_(0, labels, right)
    return (100 * total / torch.bincount(labels, minlength=classes)).cpu()


def _ranks(
    state: Tensor, labels: Tensor, classes: int, order: str, draw: torch.Generator
) -> Tensor:
    """Rank the units for every class, shape (classes, units); 0 is the place of the first."""
    means = _class_means(state, labels, classes)
    means = means.flatten(2).mean(2) if means.ndim > 2 else means
    if order == "magnitude":
        means = means.abs()
    elif order == "random":
        means = torch.rand(means.shape, generator=draw).to(means)
    return means.argsort(dim=1, descending=True).argsort(dim=1)


def _class_means(state: Tensor, labels: Tensor, classes: int) -> Tensor:
    total = state.new_zeros(classes, *state.shape[1:]).index_add_(0, labels, state)
    number = torch.bincount(labels, minlength=classes).clamp(min=1)
    return total / _spread_out(number, state)


def _filler(
    fill: str, before: Tensor, after: Tensor, labels: Tensor, classes: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what takes the place of units, a function of the block's input and the labels."""
    if fill == "before":
        return lambda x, _: x
    if fill == "zero":
        return lambda x, _: torch.zeros_like(x)
    if fill == "mean":
        mean = after.mean(0)
        return lambda x, _: mean.expand_as(x)
    if fill == "class mean":
        means = _class_means(after, labels, classes)
        return lambda _, own: means[own]
    group = "signed" if fill == "permuted" else "orthogonal"
    matrix, shift = _motion(_units_last(before), _units_last(after), group)
    return lambda x, _: _units_second(_units_last(x) @ matrix + shift, x)


def _units_last(state: Tensor) -> Tensor:
    """Bring (n, units, ...) to (m, units)."""
    return state if state.ndim == 2 else state.movedim(1, -1).flatten(0, -2)


def _units_second(flat: Tensor, like: Tensor) -> Tensor:
    if like.ndim == 2:
        return flat
    return flat.view(*like.movedim(1, -1).shape).movedim(-1, 1)


def _motion(before: Tensor, after: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Orthogonal matrix Q and shift s for which before @ Q + s is closest to after."""
    start, end = before.double().mean(0), after.double().mean(0)
    matrix = procrustes(after, before, group, centred=True).T
    return matrix.to(before), (end - start @ matrix).to(before)


def _stage_names(model: nn.Module, stage: int, blocks: Sequence[str] | None) -> list[str]:
    if blocks is not None:
        return list(blocks)
    if not isinstance(model, Network):
        raise ValueError(
            "blocks must name the blocks, in the order in which they run, for a model that is not "
            f"a geobook Network (here a {type(model).__name__})"
        )
    stages = model.block_names()
    if not -len(stages) <= stage < len(stages):
        raise ValueError(f"stage must be one of the network's {len(stages)}, not {stage!r}")
    return stages[stage]


# --- losses and gradients -------------------------------------------------------------------------


def _attacked(model: nn.Module, x: Points, labels: Tensor) -> tuple[Tensor, Tensor]:
    points = as_tensor(x, "x")
    weights = next(model.parameters(), points)
    return as_pair((points.to(weights), labels), "x and labels", weights.device)


def _loss_of(logits: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Return for every point what an attack climbs.

    Cross-entropy is log(1 + e^u) with u = log sum_{k != y} e^{z_k} - z_y, so its gradient is
    (1 - p_y) times that of u. Climbing u goes the same way, and is not lost to rounding where p_y
    is 1 within the precision of the numbers.
    """
    logits = logits.double()
    right = functional.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(right, -math.inf)
    wrong = others.logsumexp(1) if loss == "cross-entropy" else others.amax(1)
    return wrong - logits[right]


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    with _undisturbed(model):
        return logits_of(model, x)


@torch.no_grad()
def _losses(model: nn.Module, x: Tensor, labels: Tensor, loss: str) -> Tensor:
    one_of(loss, "loss", LOSSES)
    return _loss_of(_logits(model, x), labels, loss)


def _input_gradient(model: nn.Module, x: Tensor, labels: Tensor, loss: str) -> Tensor:
    """Gradient of every point's loss by the point. Parameters get none."""
    one_of(loss, "loss", LOSSES)
    parts = []
    with _undisturbed(model), torch.enable_grad():
        for batch, own in zip(x.split(_CHUNK), labels.split(_CHUNK), strict=True):
            inputs = batch.detach().requires_grad_()
            total = _loss_of(model(inputs), own, loss).sum()
            parts.append(torch.autograd.grad(total, inputs)[0])
    gradient = torch.cat(parts)
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("model must have finite gradients at the points, but some are not")
    return gradient


def _better(best: Tensor, most: Tensor, here: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
    """Keep of every point the one of greater loss."""
    gain = reached > most
    return torch.where(_spread_out(gain, best), here, best), torch.where(gain, reached, most)


def _share_right(model: nn.Module, x: Tensor, labels: Tensor, counted: Tensor) -> float:
    right = (_logits(model, x).argmax(1) == labels)[counted]
    return float(right.double().mean())


def _clamped(x: Tensor, clamp: Bounds | None) -> Tensor:
    if clamp is None:
        return x
    low, high = (torch.as_tensor(bound).to(x) for bound in clamp)
    return torch.minimum(torch.maximum(x, low), high)


def _normal_like(x: Tensor, draw: torch.Generator) -> Tensor:
    """Draw normal numbers, on the CPU in double precision, so that no device changes them."""
    return torch.randn(x.shape, generator=draw, dtype=torch.float64).to(x)


def _spread_out(values: Tensor, like: Tensor) -> Tensor:
    """View one value a point (n,) as (n, 1, ...), to go with the points."""
    return values.view(-1, *(1,) * (like.ndim - 1))


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then give every module its own mode back (they may differ)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
