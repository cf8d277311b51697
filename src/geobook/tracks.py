"""Data tracks through a network, and how straight they are (the paper's sections 3 and 5.1).

The track of a point x is tau(x) = (x^0, x^1, ..., x^L): the states that the equal-dimension blocks
of a stage take it through (Definitions 1 and 2). A track tensor holds the tracks of n points as an
array (L+1, n, ...): layer first, then point, then the shape of one state.

Degenerate tracks have defined scores, never NaN:

- a segment is *zero* where its length is at most eps * max_l ||x^l||, eps being the spacing of the
  track's floating-point type: it has no direction, and is not counted;
- a point that never moves has line-shape ratio and score 1, and equal proportions 1/L;
- a track that moves and ends where it started has line-shape ratio infinity, and one whose unit
  steps cancel has line-shape score infinity; a mean over such points is infinite too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from geobook import memory, runtime
from geobook.networks import Network
from geobook.validation import Points, as_tensor, as_track, count, one_of

Reduction = Literal["mean", "none"]
REDUCTIONS = ("mean", "none")

# The scores work on so many values at once, in double precision: 64 MiB a temporary.
_VALUES_AT_ONCE = 2**23


def record_tracks(
    model: nn.Module,
    x: Points,
    blocks: Sequence[str] | Sequence[Sequence[str]] | None = None,
    *,
    batch_size: int = 512,
    store: torch.device | str = "cpu",
) -> list[Tensor]:
    """Record the tracks of points through the blocks of a network.

    The network runs in evaluation mode and without gradients, batch by batch; its training mode
    is put back afterwards, also after an error. Its gradients are not touched.

    Parameters
    ----------
    model : Module
        A `geobook.networks.Network`, or any other module together with `blocks`.
    x : array or tensor, shape (n, ...)
        Inputs of `model`. They are moved to its device, and floating-point inputs to its dtype;
        with `blocks`, integer tensors (tokens, say) are handed on as they are.
    blocks : list of str, or list of lists of str, optional
        Names of the blocks as in ``model.named_modules()``, in the order in which they run: one
        list for one stage, a list of lists for several. Within a stage every block must take
        what the block before it left, and keep its shape. A block's input is its first tensor
        argument; where it returns a tuple or list, its output is the first element. Blocks are
        watched through forward hooks. Without `blocks` the model must be a `Network`, whose own
        stages are recorded.
    batch_size : int
        Points that run through the network at once.
    store : torch.device or str
        Where the tracks are kept. Their memory, 4 (L+1) n d bytes for every stage, is taken once.

    Returns
    -------
    list of tensors, shape (L+1, n, ...), float32
        One for every stage; entry l is x^l, so entry 0 is the input of the stage's first block.

    Raises
    ------
    ValueError
        If a block is unknown, is listed twice, never runs, runs twice or out of order, changes the
        shape, or does not take what the block before it left; if `x` holds no point, NaN or
        infinity; if `store` is not a device of this machine.
    MemoryError
        If the tracks do not fit into the free memory of `store`; nothing was taken then.

    Examples
    --------
    >>> from geobook.networks import build
    >>> [track.shape for track in record_tracks(build("digits"), torch.zeros(3, 1, 8, 8))]
    [torch.Size([6, 3, 64])]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    inputs = _inputs(x, keep_integers=blocks is not None)
    size = count(batch_size, "batch_size")
    if blocks is None:
        if not isinstance(model, Network):
            raise ValueError(
                "blocks must name the blocks to record, in the order in which they run, for a "
                f"model that is not a geobook Network (here a {type(model).__name__})"
            )
        stages = model.block_names()
        run = _run_network
    else:
        stages = _block_names(model, blocks)
        run = partial(_run_hooked, names=stages)
    recorder = _Recorder([len(names) + 1 for names in stages], len(inputs), runtime.device(store))
    with torch.no_grad(), _evaluating(model):
        for start in range(0, len(inputs), size):
            recorder.start = start
            run(model, _like(model, inputs[start : start + size]), recorder)
    return recorder.tracks


def segment_lengths(track: Points) -> Tensor:
    """Lengths ||x^l - x^{l-1}|| of the segments of every track.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points, as `record_tracks` gives them.

    Returns
    -------
    tensor, shape (L, n)
        In the units of the track. Lengths within rounding (see the module's text) are exactly 0.

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite.
    """
    return _by_chunks(as_track(track), lambda states, eps: _steps(states, eps)[1])


@overload
def line_shape_ratio(track: Points, reduction: Literal["mean"] = "mean") -> float: ...
@overload
def line_shape_ratio(track: Points, reduction: Literal["none"]) -> Tensor: ...
def line_shape_ratio(track: Points, reduction: Reduction = "mean") -> float | Tensor:
    """Line-shape ratio: length of a track over the distance from its start to its end.

    LSR = (1/n) sum_i [ sum_l ||x_i^l - x_i^{l-1}|| ] / ||x_i^L - x_i^0||, the paper's eq. (42).

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    reduction : {"mean", "none"}
        The mean over the points, or a value for each.

    Returns
    -------
    float, or tensor of shape (n,)
        At least 1, and 1 where the track is straight; 1 for a point that never moves; infinity for
        one that moves and comes back to its start.

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite.

    Examples
    --------
    >>> line_shape_ratio([[[0.0, 0.0]], [[3.0, 0.0]], [[3.0, 4.0]]])  # 7 along, 5 across
    1.4
    """
    return _reduced(track, _ratio, reduction)


@overload
def line_shape_score(track: Points, reduction: Literal["mean"] = "mean") -> float: ...
@overload
def line_shape_score(track: Points, reduction: Literal["none"]) -> Tensor: ...
def line_shape_score(track: Points, reduction: Reduction = "mean") -> float | Tensor:
    """Line-shape score: the line-shape ratio of the track whose steps all have length 1.

    LSS = (1/n) sum_i L / ||x~_i^L - x~_i^0||, where x~^0 = x^0 and
    x~^l = x~^{l-1} + (x^l - x^{l-1}) / ||x^l - x^{l-1}||: the paper's eqs. (43) and (44). Here L
    is the number of segments of the point that are not zero.

    Steps of independent directions in high dimension give about sqrt(L); states of independent
    directions and equal length give about L.

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    reduction : {"mean", "none"}
        The mean over the points, or a value for each.

    Returns
    -------
    float, or tensor of shape (n,)
        At least 1, and 1 where all steps have one direction, whatever their lengths; 1 for a point
        that never moves; infinity where the unit steps cancel.

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite.

    Examples
    --------
    >>> round(line_shape_score([[[0.0, 0.0]], [[3.0, 0.0]], [[3.0, 4.0]]]), 4)  # 2 / sqrt(2)
    1.4142
    """
    return _reduced(track, _score, reduction)


def segment_proportions(track: Points, reduction: Reduction = "mean") -> Tensor:
    """Share of each segment in the length of its track (the paper's Tables 2 and 3).

    Parameters
    ----------
    track : array or tensor, shape (L+1, n, ...)
        Tracks of n points.
    reduction : {"mean", "none"}
        The mean over the points, or the shares of each.

    Returns
    -------
    tensor, shape (L,) or (L, n)
        Every point's shares sum to 1; a point that never moves has 1/L throughout. Equal shares
        of a straight track are the constant speed of a geodesic, eq. (4).

    Raises
    ------
    ValueError
        If the track has fewer than two layers, no point, or values that are not finite.
    """
    one_of(reduction, "reduction", REDUCTIONS)
    shares = _by_chunks(as_track(track), _shares)
    return shares.double().mean(1).to(shares.dtype) if reduction == "mean" else shares


# --- recording ------------------------------------------------------------------------------------


@dataclass
class _Recorder:
    """The store: takes the states of one batch after the other to their place in the tracks."""

    layers: list[int]
    points: int
    store: torch.device
    start: int = 0
    tracks: list[Tensor] = field(default_factory=list)

    def put(self, stage: int, layer: int, state: Tensor) -> Tensor:
        """Copy a state (batch, ...) into place and return that place.

        Copied at once, because the next block may overwrite its input.
        """
        if stage == len(self.tracks):
            shape = (self.layers[stage], self.points, *state.shape[1:])
            memory.require(
                4 * math.prod(shape),
                self.store,
                f"the tracks of {self.points} points through stage {stage + 1}",
                "record fewer points",
            )
            self.tracks.append(torch.empty(shape, dtype=torch.float32, device=self.store))
        place = self.tracks[stage][layer, self.start : self.start + len(state)]
        return place.copy_(state)


def _run_network(model: nn.Module, batch: Tensor, recorder: _Recorder) -> None:
    layers = [0] * len(recorder.layers)
    for stage, state in model.states(batch):
        recorder.put(stage, layers[stage], state)
        layers[stage] += 1


def _run_hooked(
    model: nn.Module, batch: Tensor, recorder: _Recorder, names: list[list[str]]
) -> None:
    watch = _Watch(recorder, names, len(batch))
    with ExitStack() as hooks:
        for index, (_, _, name) in enumerate(watch.order):
            block = model.get_submodule(name)
            before = block.register_forward_pre_hook(partial(watch.before, index), with_kwargs=True)
            hooks.callback(before.remove)
            hooks.callback(block.register_forward_hook(partial(watch.after, index)).remove)
        model(batch)
    watch.finish()


class _Watch:
    """Follows one forward pass through the listed blocks and checks that they form tracks."""

    def __init__(self, recorder: _Recorder, names: list[list[str]], points: int) -> None:
        self.recorder, self.points = recorder, points
        self.order = [
            (stage, layer, name)
            for stage, stage_names in enumerate(names)
            for layer, name in enumerate(stage_names)
        ]
        self.next = 0
        self.last: Tensor | None = None

    def before(
        self, index: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        stage, layer, name = self.order[index]
        self._check_turn(index)
        state = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        state = self._checked(state, name, "takes")
        if layer == 0:
            self.last = self.recorder.put(stage, 0, state)
        elif not self._same(state):
            raise ValueError(
                f"blocks must follow one another: {name!r} does not take what "
                f"{self.order[index - 1][2]!r} left; name modules that hold everything between, "
                "or list them as different stages"
            )

    def after(self, index: int, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        stage, layer, name = self.order[index]
        first = output[0] if isinstance(output, tuple | list) and output else output
        state = self._checked(first, name, "returns")
        if state.shape != self.last.shape:
            raise ValueError(
                f"blocks of a stage must keep the shape, but {name!r} turns "
                f"{tuple(self.last.shape[1:])} into {tuple(state.shape[1:])}; start another stage "
                "after it"
            )
        self.last = self.recorder.put(stage, layer + 1, state)
        self.next = index + 1

    def finish(self) -> None:
        if self.next < len(self.order):
            raise ValueError(f"blocks must all run, but {self.order[self.next][2]!r} did not")

    def _check_turn(self, index: int) -> None:
        name = self.order[index][2]
        if index < self.next:
            raise ValueError(f"blocks must run once in a forward pass, but {name!r} ran twice")
        if index > self.next:
            raise ValueError(
                "blocks must be listed in the order in which they run, without nesting, but "
                f"{name!r} ran before {self.order[self.next][2]!r} was done"
            )

    def _checked(self, state: Any, name: str, verb: str) -> Tensor:
        if not isinstance(state, Tensor) or not state.is_floating_point():
            kind = str(state.dtype) if isinstance(state, Tensor) else type(state).__name__
            raise ValueError(f"block {name!r} must work on real tensors, but it {verb} {kind}")
        if state.ndim < 2 or len(state) != self.points:
            raise ValueError(
                f"block {name!r} must work on tensors of shape (points, ...), here "
                f"({self.points}, ...), but it {verb} {tuple(state.shape)}"
            )
        return state

    def _same(self, state: Tensor) -> bool:
        # Equal up to the rounding of the store, and NaN where it was NaN.
        if state.shape != self.last.shape:
            return False
        taken = state.to(self.last)
        return bool(torch.isclose(taken, self.last, rtol=0.0, atol=0.0, equal_nan=True).all())


def _block_names(
    model: nn.Module, blocks: Sequence[str] | Sequence[Sequence[str]]
) -> list[list[str]]:
    """Check the names and bring them into the form of a list for every stage."""
    wanted = f"blocks must be a list of names, or a list of such lists, not {blocks!r}"
    if isinstance(blocks, str) or not isinstance(blocks, Sequence) or not blocks:
        raise ValueError(wanted)
    one_stage = all(isinstance(name, str) for name in blocks)
    stages = [list(blocks)] if one_stage else [_name_list(stage, wanted) for stage in blocks]
    known = dict(model.named_modules(remove_duplicate=False))
    seen: dict[nn.Module, str] = {}
    for name in (name for stage in stages for name in stage):
        if not name or name not in known:
            some = ", ".join(repr(n) for n in list(known)[1:7]) or "none"
            raise ValueError(f"blocks must name modules of the model ({some}, ...), not {name!r}")
        if known[name] in seen:
            other = seen[known[name]]
            raise ValueError(f"blocks must be different modules, but {name!r} is {other!r} again")
        seen[known[name]] = name
    return stages


def _name_list(stage: Any, message: str) -> list[str]:
    if isinstance(stage, str) or not isinstance(stage, Sequence) or not stage:
        raise ValueError(message)
    if not all(isinstance(name, str) for name in stage):
        raise ValueError(message)
    return list(stage)


def _inputs(x: Points, keep_integers: bool) -> Tensor:
    integers = isinstance(x, Tensor) and not x.is_floating_point() and not x.is_complex()
    inputs = x.detach() if integers and keep_integers else as_tensor(x, "x")
    if inputs.ndim < 2:
        raise ValueError(f"x must have shape (points, ...), not {tuple(inputs.shape)}")
    if len(inputs) < 1:
        raise ValueError("x must hold at least one point, not 0")
    return inputs


def _like(model: nn.Module, batch: Tensor) -> Tensor:
    """Bring a batch to the device of the model, and real numbers to its dtype."""
    weights = next(
        (w for w in (*model.parameters(), *model.buffers()) if w.is_floating_point()), None
    )
    if weights is None:
        return batch
    return batch.to(weights) if batch.is_floating_point() else batch.to(weights.device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, then give every module its own mode back (they may differ)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


# --- measuring ------------------------------------------------------------------------------------


def _by_chunks(track: Tensor, measure: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Apply `measure` to some points (L+1, m, d) at a time, in double precision where there is."""
    layers, points, width = track.shape
    at_once = max(1, _VALUES_AT_ONCE // max(1, layers * width))
    eps = torch.finfo(track.dtype).eps
    precise = track.dtype if track.device.type == "mps" else torch.float64
    parts = [
        measure(track[:, start : start + at_once].to(precise), eps)
        for start in range(0, points, at_once)
    ]
    return torch.cat(parts, dim=-1).to(track.dtype)


def _steps(states: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the steps (L, m, d) and their lengths (L, m); lengths within rounding are 0."""
    steps = states.diff(dim=0)
    lengths = torch.linalg.vector_norm(steps, dim=2)
    return steps, lengths.masked_fill(lengths <= _rounding(states, eps), 0.0)


def _rounding(states: Tensor, eps: float) -> Tensor:
    return eps * torch.linalg.vector_norm(states, dim=2).amax(dim=0)


def _ratio(states: Tensor, eps: float) -> Tensor:
    _, lengths = _steps(states, eps)
    across = torch.linalg.vector_norm(states[-1] - states[0], dim=1)
    return _over(lengths.sum(0), across, across <= _rounding(states, eps))


def _score(states: Tensor, eps: float) -> Tensor:
    steps, lengths = _steps(states, eps)
    moved = lengths > 0
    weights = torch.where(moved, 1 / lengths, 0.0)
    across = torch.linalg.vector_norm(torch.einsum("lmd,lm->md", steps, weights), dim=1)
    segments = moved.sum(0).to(across)
    return _over(segments, across, across <= eps * segments)


def _over(along: Tensor, across: Tensor, closed: Tensor) -> Tensor:
    # The triangle inequality makes the quotient at least 1; the clamp takes off rounding only.
    quotient = (along / across.masked_fill(closed, 1.0)).clamp(min=1.0)
    quotient = quotient.masked_fill(closed, torch.inf)
    return quotient.masked_fill(along == 0, 1.0)


def _shares(states: Tensor, eps: float) -> Tensor:
    _, lengths = _steps(states, eps)
    total = lengths.sum(0)
    still = total == 0
    return (lengths / total.masked_fill(still, 1.0)).masked_fill(still, 1 / len(lengths))


def _reduced(
    track: Points, measure: Callable[[Tensor, float], Tensor], reduction: Reduction
) -> float | Tensor:
    one_of(reduction, "reduction", REDUCTIONS)
    values = _by_chunks(as_track(track), measure)
    return float(values.double().mean()) if reduction == "mean" else values
