"""Plain and residual networks of the paper's Table 1: one architecture, one switch.

A network is F = head o T_K o f_{K-1} o ... o T_1 o f_0 (the paper's eq. (16)): the stages T_k keep
the dimension and consist of equal blocks, the transitions f_k change it. A block computes

    x + W2 relu(W1 x)        residual (a forward-Euler step with velocity W2 relu(W1 x), eq. (10))
        W2 relu(W1 x)        plain    (the same with the identity removed)

with an optional batch norm after the first or after both linear maps. The linear maps are matrices
where a stage's shape is (width,), and 3x3 convolutions where it is (channels, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geobook import runtime
from geobook.validation import count, one_of, positive, switch

Norm = Literal["none", "inner", "both"]
NORMS = ("none", "inner", "both")


def _check_shape(shape: tuple[int, ...], name: str) -> None:
    if not isinstance(shape, tuple) or len(shape) not in (1, 3):
        raise ValueError(f"{name} must be (width,) or (channels, height, width), not {shape!r}")
    for size in shape:
        count(size, name)


@dataclass(frozen=True)
class Stage:
    """A run of blocks that keep one shape.

    Parameters
    ----------
    shape : tuple of int
        (width,) for fully connected blocks, (channels, height, width) for convolutional ones.
    blocks : int
        How many blocks, at least one. The paper's L.
    hidden : int, optional
        Width (or channels) between the two linear maps of a block; the stage's own by default.
    """

    shape: tuple[int, ...]
    blocks: int
    hidden: int | None = None

    def __post_init__(self) -> None:
        _check_shape(self.shape, "shape")
        count(self.blocks, "blocks")
        if self.hidden is not None:
            count(self.hidden, "hidden")

    @property
    def width(self) -> int:
        """Width, or channels, of the stage."""
        return self.shape[0]


@dataclass(frozen=True)
class Architecture:
    """Everything that decides a network but the residual switch and the seed.

    Parameters
    ----------
    name : str
        Name under which results are kept.
    input_shape : tuple of int
        Shape of one input: (channels, height, width), or (features,).
    stages : tuple of Stage
        The equal-dimension stages T_1 .. T_K, all fully connected or all convolutional. Where the
        first stage has as many features as the input, f_0 is the identity (no stem).
    classes : int
        How many classes the head tells apart.
    norm : {"none", "inner", "both"}
        Batch norm nowhere, after the first linear map of a block, or after both.
    head : {"linear", "pool"}
        Linear map of the flattened last state, or of its mean over height and width.
    bias : bool
        Whether linear maps that no norm follows have a bias.
    branch_gain : float
        Factor on the initial weights of each block's second map. Deep residual networks without
        norm need less than 1 to start from a moderate output.
    """

    name: str
    input_shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    classes: int
    norm: Norm = "both"
    head: Literal["linear", "pool"] = "linear"
    bias: bool = True
    branch_gain: float = 1.0

    def __post_init__(self) -> None:
        _check_shape(self.input_shape, "input_shape")
        count(self.classes, "classes", 2)
        one_of(self.norm, "norm", NORMS)
        one_of(self.head, "head", ("linear", "pool"))
        positive(self.branch_gain, "branch_gain")
        if not self.stages:
            raise ValueError("stages must hold at least one Stage, not none")
        if len({len(stage.shape) for stage in self.stages}) > 1:
            raise ValueError("stages must be all fully connected or all convolutional")
        if self.convolutional and len(self.input_shape) != 3:
            raise ValueError(
                f"input_shape must be (channels, height, width), not {self.input_shape}"
            )
        if self.head == "pool" and not self.convolutional:
            raise ValueError("head must be 'linear' for fully connected stages, not 'pool'")

    @property
    def convolutional(self) -> bool:
        """Whether the linear maps are convolutions."""
        return len(self.stages[0].shape) == 3

    def changed(
        self, *, blocks: int | None = None, width: int | None = None, **fields: Any
    ) -> Architecture:
        """Return the same family at another depth, width, or anything else.

        Parameters
        ----------
        blocks : int, optional
            Blocks of every stage.
        width : int, optional
            Width (channels) of the first stage; the others keep their ratio to it.
        **fields
            Any field of `Architecture`, for example ``norm="none"``.
        """
        unknown = sorted(set(fields) - set(self.__dataclass_fields__))
        if unknown:
            known = ", ".join(("blocks", "width", *self.__dataclass_fields__))
            raise ValueError(f"an architecture has {known}; it has no {', '.join(unknown)}")
        stages = fields.pop("stages", self.stages)
        if blocks is not None:
            stages = tuple(replace(stage, blocks=blocks) for stage in stages)
        if width is not None:
            ratio = count(width, "width") / stages[0].width
            stages = tuple(
                replace(s, shape=(max(1, round(s.width * ratio)), *s.shape[1:])) for s in stages
            )
        return replace(self, stages=stages, **fields)


def _fully_connected(name: str, shape: tuple[int, ...], width: int, classes: int) -> Architecture:
    return Architecture(name, shape, (Stage((width,), 5),), classes)


def _convolutional(name: str, classes: int, four_stages: bool) -> Architecture:
    if four_stages:
        stages = tuple(Stage((64 * 2**k, 32 // 2**k, 32 // 2**k), 5) for k in range(4))
    else:
        stages = (Stage((32, 16, 16), 10),)
    return Architecture(name, (3, 32, 32), stages, classes, head="pool")


ARCHITECTURES: dict[str, Architecture] = {
    network.name: network
    for network in (
        _fully_connected("digits", (1, 8, 8), 64, 10),
        Architecture("plane", (2,), (Stage((2,), 10, hidden=32),), 2, norm="none"),
        Architecture("digits-conv", (1, 8, 8), (Stage((16, 8, 8), 5),), 10, head="pool"),
        _fully_connected("mnist", (1, 28, 28), 1000, 10),
        _fully_connected("fashion-mnist", (1, 28, 28), 1000, 10),
        _convolutional("cifar10-k1", 10, four_stages=False),
        _convolutional("cifar10-k4", 10, four_stages=True),
        _convolutional("cifar100-k1", 100, four_stages=False),
        _convolutional("cifar100-k4", 100, four_stages=True),
    )
}


def architecture(which: str | Architecture, **changes: Any) -> Architecture:
    """Look up an architecture by name, with changes.

    Parameters
    ----------
    which : str or Architecture
        One of `ARCHITECTURES`, or an architecture of your own.
    **changes
        As for `Architecture.changed`, for example ``blocks=20, width=128, norm="none"``.

    Raises
    ------
    ValueError
        If there is no architecture of that name, or a change is out of range.

    Examples
    --------
    >>> architecture("digits", blocks=10).stages
    (Stage(shape=(64,), blocks=10, hidden=None),)
    """
    found = ARCHITECTURES.get(which) if isinstance(which, str) else which
    if not isinstance(found, Architecture):
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture must be an Architecture or one of {known}, not {which!r}")
    return found.changed(**changes)


class Block(nn.Module):
    """One block: x -> identity(x) + norm(W2 relu(norm(W1 x))).

    Parameters
    ----------
    stage : Stage
        Shape of the states and hidden width.
    residual : bool
        The switch: keep the identity (a ResNet's block) or remove it (a plain network's).
    norm : {"none", "inner", "both"}
        After which of the two linear maps a batch norm stands.
    bias : bool
        Whether linear maps that no norm follows have a bias.
    """

    def __init__(
        self, stage: Stage, residual: bool, norm: Norm = "both", bias: bool = True
    ) -> None:
        super().__init__()
        hidden = stage.hidden or stage.width
        convolutional = len(stage.shape) == 3
        inner, outer = norm != "none", norm == "both"
        self.residual = switch(residual, "residual")
        self.first = _linear_map(stage.width, hidden, convolutional, bias and not inner)
        self.first_norm = _norm(hidden, convolutional) if inner else nn.Identity()
        self.second = _linear_map(hidden, stage.width, convolutional, bias and not outer)
        self.second_norm = _norm(stage.width, convolutional) if outer else nn.Identity()

    def branch(self, x: Tensor) -> Tensor:
        """W2 relu(W1 x): the velocity of a residual block, the whole of a plain one."""
        hidden = torch.relu(self.first_norm(self.first(x)))
        return self.second_norm(self.second(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Return the next state, of the shape of `x`."""
        return x + self.branch(x) if self.residual else self.branch(x)


class Projection(nn.Module):
    """A transition between stages: shortcut(x) + W2 relu(W1 x), the shortcut a 1x1 map.

    It changes the dimension, so it is the same in plain and residual networks: there is no
    identity in it to remove (the paper's section 2.5).
    """

    def __init__(self, before: Stage, after: Stage, norm: Norm, bias: bool) -> None:
        super().__init__()
        convolutional = len(after.shape) == 3
        stride = _stride(before.shape, after.shape) if convolutional else 1
        inner, outer = norm != "none", norm == "both"
        wide, narrow = after.width, before.width
        self.shortcut = _linear_map(narrow, wide, convolutional, False, stride, kernel=1)
        self.first = _linear_map(narrow, wide, convolutional, bias and not inner, stride)
        self.first_norm = _norm(wide, convolutional) if inner else nn.Identity()
        self.second = _linear_map(wide, wide, convolutional, bias and not outer)
        self.second_norm = _norm(wide, convolutional) if outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the first state of the next stage."""
        hidden = torch.relu(self.first_norm(self.first(x)))
        return self.shortcut(x) + self.second_norm(self.second(hidden))


class Network(nn.Module):
    """A plain or residual network; build one with `build`.

    Attributes
    ----------
    architecture : Architecture
        What it was built from.
    residual : bool
        Whether the blocks keep the identity.
    transitions : ModuleList of K modules
        f_0 .. f_{K-1}: each leads into its stage.
    stages : ModuleList of K ModuleLists
        The blocks of each stage.
    head : Module
        From the last state to the logits.
    """

    def __init__(self, architecture: Architecture, residual: bool) -> None:
        super().__init__()
        self.architecture, self.residual = architecture, switch(residual, "residual")
        self.transitions = nn.ModuleList(_transitions(architecture))
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Block(stage, residual, architecture.norm, architecture.bias)
                for _ in range(stage.blocks)
            )
            for stage in architecture.stages
        )
        self.head = _head(architecture)

    def states(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield (stage, state) for every point of the tracks, first to last, all stages."""
        x = self._shaped(x)
        for k, (transition, blocks) in enumerate(zip(self.transitions, self.stages, strict=True)):
            x = transition(x)
            yield k, x
            for block in blocks:
                x = block(x)
                yield k, x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of inputs (n, ...)."""
        x = self._shaped(x)
        for transition, blocks in zip(self.transitions, self.stages, strict=True):
            x = transition(x)
            for block in blocks:
                x = block(x)
        return self.head(x)

    def block_names(self) -> list[list[str]]:
        """Names of the blocks, a list for every stage, as `torch.nn.Module.get_submodule` takes."""
        return [
            [f"stages.{k}.{layer}" for layer in range(len(blocks))]
            for k, blocks in enumerate(self.stages)
        ]

    def _shaped(self, x: Tensor) -> Tensor:
        wanted = self.architecture.input_shape
        # Not every shape of the right size: channels last would be read as nonsense.
        without_channel = wanted[1:] if len(wanted) == 3 and wanted[0] == 1 else wanted
        if x.shape[1:] not in (wanted, without_channel, (math.prod(wanted),)):
            raise ValueError(
                f"x must have shape (points, {', '.join(map(str, wanted))}), not {tuple(x.shape)}"
            )
        return x.reshape(-1, *wanted) if self.architecture.convolutional else x.flatten(1)


def build(
    which: str | Architecture,
    *,
    residual: bool = True,
    seed: int = 0,
    device: torch.device | str | None = None,
    **changes: Any,
) -> Network:
    """Build a network with He-normal weights.

    The weights depend on the architecture and the seed alone: a plain and a residual network of
    one seed start from the same matrices.

    Parameters
    ----------
    which : str or Architecture
        One of `ARCHITECTURES`, or your own.
    residual : bool
        The switch between ResNet and plain network.
    seed : int
        Seed of the initial weights.
    device : torch.device or str, optional
        Where the network lives; the CPU by default.
    **changes
        As for `Architecture.changed`.

    Raises
    ------
    ValueError
        If the architecture or the device is unknown or a change is out of range.

    Examples
    --------
    >>> network = build("digits", residual=False, blocks=3, seed=1)
    >>> network(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    chosen = architecture(which, **changes)
    where = runtime.device("cpu" if device is None else device)
    with torch.device("meta"):
        network = Network(chosen, residual)
    network = network.to_empty(device="cpu")
    _initialise(network, count(seed, "seed", 0))
    return network.to(where)


@dataclass(frozen=True)
class Row:
    """One row of `describe`: a part of the network, the shape it leaves, its parameters."""

    part: str
    shape: tuple[int, ...]
    blocks: int | None
    parameters: int = 0


def rows(which: str | Architecture, **changes: Any) -> list[Row]:
    """List the parts of a network with shapes and parameter counts (Table 1 of the paper)."""
    chosen = architecture(which, **changes)
    with torch.device("meta"):
        network = Network(chosen, True)
    table = [Row("input", chosen.input_shape, None)]
    for k, stage in enumerate(chosen.stages):
        table.append(Row(f"transition f_{k}", stage.shape, None, _size(network.transitions[k])))
        table.append(Row(f"stage T_{k + 1}", stage.shape, stage.blocks, _size(network.stages[k])))
    table.append(Row("head", (chosen.classes,), None, _size(network.head)))
    return table


def describe(which: str | Architecture, **changes: Any) -> str:
    """Return the table of `rows` as text.

    Raises
    ------
    ValueError
        If the architecture is unknown.
    """
    table = rows(which, **changes)
    lines = [f"{'part':<15}{'shape':<14}{'blocks':>7}{'parameters':>14}"]
    for row in table:
        shape, blocks = "x".join(map(str, row.shape)), "" if row.blocks is None else str(row.blocks)
        lines.append(f"{row.part:<15}{shape:<14}{blocks:>7}{row.parameters:>14,}")
    lines.append(f"{'total':<36}{sum(row.parameters for row in table):>14,}")
    return "\n".join(lines)


def _linear_map(
    before: int, after: int, convolutional: bool, bias: bool, stride: int = 1, kernel: int = 3
) -> nn.Module:
    if not convolutional:
        return nn.Linear(before, after, bias=bias)
    return nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=bias)


def _norm(width: int, convolutional: bool) -> nn.Module:
    return nn.BatchNorm2d(width) if convolutional else nn.BatchNorm1d(width)


def _stride(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    steps = {before[axis] / after[axis] for axis in (1, 2)}
    stride = steps.pop()
    if steps or stride != int(stride) or stride < 1:
        raise ValueError(f"stages must shrink height and width by one whole factor, "
                         f"not {before} to {after}")  # fmt: skip
    return int(stride)


def _transitions(architecture: Architecture) -> list[nn.Module]:
    norm, bias = architecture.norm, architecture.bias
    stages = architecture.stages
    later = [Projection(a, b, norm, bias) for a, b in pairwise(stages)]
    return [_stem(architecture), *later]


def _stem(architecture: Architecture) -> nn.Module:
    shape, first = architecture.input_shape, architecture.stages[0]
    convolutional = architecture.convolutional
    if shape == first.shape or (not convolutional and math.prod(shape) == first.width):
        return nn.Identity()
    before = shape[0] if convolutional else math.prod(shape)
    stride = _stride(shape, first.shape) if convolutional else 1
    normed = architecture.norm != "none"
    linear = _linear_map(
        before, first.width, convolutional, architecture.bias and not normed, stride
    )
    norm = _norm(first.width, convolutional) if normed else nn.Identity()
    return nn.Sequential(linear, norm, nn.ReLU())


def _head(architecture: Architecture) -> nn.Module:
    last = architecture.stages[-1]
    if architecture.head == "pool":
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(pool, nn.Flatten(), nn.Linear(last.width, architecture.classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(last.shape), architecture.classes))


def _initialise(network: Network, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = network.head[-1]
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            gain = network.architecture.branch_gain if name.endswith(".second") else 1.0
            variance = (1.0 if module is head else 2.0) / module.weight[0].numel()
            nn.init.normal_(module.weight, 0.0, gain * math.sqrt(variance), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
