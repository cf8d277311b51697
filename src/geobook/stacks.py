"""Several small networks as one: side by side in one wide network with block-diagonal matrices.

A small network leaves a processor idle between its many short operations. E networks of one
architecture, stacked, run as one network E times as wide: states (batch, E * width), batch norms
over E * width features (each feature is normalised by itself, so nothing mixes), and matrices that
are block diagonal, one block for each network. No network sees another, so each is what it would
be alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geobook.networks import Architecture, Network, Stage
from geobook.validation import count

# Above this many parameters a network keeps a processor busy by itself (measured on CPUs).
_SMALL = 300_000


def stackable(architecture: Architecture, device: torch.device | str = "cpu") -> bool:
    """Whether stacking networks of this architecture is possible and pays off on the device."""
    if architecture.convolutional:
        return False
    with torch.device("meta"):
        parameters = Network(architecture, True).parameters()
    return torch.device(device).type != "cpu" or sum(p.numel() for p in parameters) <= _SMALL


def stack(networks: Sequence[Network]) -> Network:
    """Put networks side by side; their weights are copied.

    Parameters
    ----------
    networks : sequence of Network
        Fully connected, of one architecture, all plain or all residual.

    Returns
    -------
    Network
        From inputs (n, E * features) to logits (n, E * classes).

    Raises
    ------
    ValueError
        If there is no network, or they differ, or are convolutional.
    """
    if not networks:
        raise ValueError("networks must hold at least one network, not none")
    first = networks[0]
    if any((n.architecture, n.residual) != (first.architecture, first.residual) for n in networks):
        raise ValueError("networks must all have the same architecture, and be all plain or not")
    if first.architecture.convolutional:
        raise ValueError("networks must be fully connected, not convolutional")
    members = len(networks)
    with torch.device("meta"):
        wide = Network(_widened(first.architecture, members), first.residual)
    for name, module in list(wide.named_modules()):
        if isinstance(module, nn.Linear):
            parent, _, leaf = name.rpartition(".")
            setattr(wide.get_submodule(parent), leaf, BlockDiagonal(module, members))
    wide = wide.to_empty(device=next(first.parameters()).device)
    states = [network.state_dict() for network in networks]
    with torch.no_grad():
        for name, value in wide.state_dict().items():
            if value.ndim == 0:
                value.copy_(states[0][name])
            else:
                value.copy_(torch.stack([state[name] for state in states]).view_as(value))
    return wide


def member_state(wide: Network, member: int, members: int) -> dict[str, Tensor]:
    """State dict of one network of a stack.

    Parameters
    ----------
    wide : Network
        What `stack` gave.
    member : int
        Which one, from 0.
    members : int
        How many there are.
    """
    count(member, "member", 0)
    taken = {}
    for name, value in wide.state_dict().items():
        if value.ndim == 0:
            taken[name] = value.clone()
        elif value.ndim == 3:
            taken[name] = value[member].clone()
        else:
            taken[name] = value.view(members, -1)[member].clone()
    return taken


class BlockDiagonal(nn.Module):
    """A linear map x -> W x + b whose matrix W is block diagonal.

    Parameters
    ----------
    linear : Linear
        Gives the total numbers of features and whether there is a bias.
    members : int
        Number of blocks.
    """

    def __init__(self, linear: nn.Linear, members: int) -> None:
        super().__init__()
        blocks = members, linear.out_features // members, linear.in_features // members
        self.weight = nn.Parameter(linear.weight.new_empty(blocks))
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, members * out) of x (n, members * in)."""
        y = _BlockProduct.apply(x, self.weight)
        return y if self.bias is None else y + self.bias


class _BlockProduct(torch.autograd.Function):
    """The product; its backward multiplies in the same order as that of a linear map alone.

    The matrix product library may round differently when the factors are transposed. With this
    order a stacked network agrees with the same network alone, mostly to the last bit.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _joined(torch.bmm(_apart(x, weight.shape[2]), weight.transpose(1, 2)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        blocks = _apart(gradient, weight.shape[1])
        of_weight = torch.bmm(blocks.transpose(1, 2), _apart(x, weight.shape[2]))
        if not ctx.needs_input_grad[0]:
            return None, of_weight
        return _joined(torch.bmm(blocks, weight)), of_weight


def _apart(x: Tensor, features: int) -> Tensor:
    """View (n, members * features) as (members, n, features)."""
    return x.view(len(x), -1, features).transpose(0, 1)


def _joined(x: Tensor) -> Tensor:
    """Turn (members, n, features) back into (n, members * features)."""
    return x.transpose(0, 1).flatten(1)


def _widened(architecture: Architecture, members: int) -> Architecture:
    return Architecture(
        name=f"{members} x {architecture.name}",
        input_shape=(members * math.prod(architecture.input_shape),),
        stages=tuple(
            Stage((members * s.width,), s.blocks, members * (s.hidden or s.width))
            for s in architecture.stages
        ),
        classes=members * architecture.classes,
        norm=architecture.norm,
        head=architecture.head,
        bias=architecture.bias,
        branch_gain=architecture.branch_gain,
    )
