"""The two errors of a gradient step (the paper's eqs. (25) to (29)), measured.

One: a step on the weights of block l moves the representation x_i^l by its own term and by
cross-talk from all other points, so not along the negative gradient -g_i^l (eq. (28)). Two:
back-propagation computes all blocks' gradients before any of them changes, where block coordinate
descent would use the blocks already updated (eq. (29)).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap
from torch.nn import functional

from geobook.networks import Network
from geobook.training import as_pair
from geobook.validation import Points, as_points, count, non_negative, one_of

Order = Literal["together", "forward", "backward"]
ORDERS = ("together", "forward", "backward")


@dataclass(frozen=True, eq=False)
class StepEffect:
    """What a gradient step on one block does to the representations behind it, per unit of rate.

    All to first order in the learning rate: divide an actual change by the rate and let the rate
    go to zero.

    Attributes
    ----------
    change : tensor, shape (n, d)
        Change of every x_i^l, eq. (28).
    own : tensor, shape (n, d)
        The term j = i of it: what the point's own gradient does.
    wanted : tensor, shape (n, d)
        -g_i^l, the direction in which the loss falls fastest.
    """

    change: Tensor
    own: Tensor
    wanted: Tensor

    @property
    def cross(self) -> Tensor:
        """What the gradients of all other points do, shape (n, d)."""
        return self.change - self.own

    @property
    def cosines(self) -> Tensor:
        """Cosine between the change and the wanted change of every point, shape (n,)."""
        return _cosines(self.change, self.wanted)

    @property
    def own_cosines(self) -> Tensor:
        """The same for the own term; never negative but for rounding."""
        return _cosines(self.own, self.wanted)

    @property
    def alignment(self) -> float:
        """Cosine between change and wanted change, all points and coordinates as one vector.

        Never negative: the step is steepest descent for the loss of all points.
        """
        return float(_cosines(self.change.reshape(1, -1), self.wanted.reshape(1, -1)))

    @property
    def cross_talk(self) -> float:
        """Root mean square of the cross-talk over that of the own term."""
        largest = float(self.own.abs().max()) or 1.0
        return float((self.cross / largest).norm() / (self.own / largest).norm())


def linear_step_change(inputs: Points, gradients: Points, bias: bool = False) -> Tensor:
    """Change of the outputs of a linear map by a gradient step on it, eq. (28), per unit of rate.

    With outputs z_i = W x_i (+ b) and g_i the loss's gradient at z_i this is
    ``- sum_j <x_j, x_i> g_j``, with 1 added to each inner product where there is a bias. It is
    exact for steps of any size.

    Parameters
    ----------
    inputs : array or tensor, shape (n, k)
        The x_i.
    gradients : array or tensor, shape (n, d)
        The g_i.
    bias : bool
        Whether a bias is trained as well.

    Returns
    -------
    tensor, shape (n, d)

    Raises
    ------
    ValueError
        If there is not one gradient for every input.
    """
    x, g = as_points(inputs, "inputs", 1), as_points(gradients, "gradients", 1)
    if len(x) != len(g):
        raise ValueError(f"gradients must hold one row for each of {len(x)} inputs, not {len(g)}")
    return -(x @ x.T + float(bias)) @ g.to(x)


def state_gradients(network: Network, data: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """States x^0 .. x^L of the last stage, and the loss's gradients g^1 .. g^L at x^1 .. x^L.

    Parameters
    ----------
    network : Network
        It is run in evaluation mode: batch norms as the scales and shifts that they are then.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,); the loss is their mean cross-entropy.

    Returns
    -------
    states : list of L + 1 tensors, shape (n, ...)
    gradients : list of L tensors, shape (n, ...)
    """
    x, labels = as_pair(data, "data", next(network.parameters()).device)
    was_training = network.training
    network.eval()
    try:
        last = len(network.stages) - 1
        states = [state for stage, state in network.states(x) if stage == last]
        loss = functional.cross_entropy(network.head(states[-1]), labels)
        gradients = torch.autograd.grad(loss, states[1:])
    finally:
        network.train(was_training)
    return [state.detach() for state in states], list(gradients)


def step_effects(network: Network, data: Iterable[Tensor]) -> list[StepEffect]:
    """Take eq. (28) apart for every block of the last stage, all weights of the block trained.

    Parameters
    ----------
    network : Network
        Fully connected. It is run in evaluation mode, with the statistics of its norms held.
    data : Dataset or pair of tensors
        All points take part in the step, and of all the change is given.

    Returns
    -------
    list of L StepEffect

    Raises
    ------
    ValueError
        If the network is convolutional.
    """
    if network.architecture.convolutional:
        raise ValueError("network must be fully connected")
    states, gradients = state_gradients(network, data)
    was_training = network.training
    network.eval()
    try:
        return [
            StepEffect(_response(block, x, g), _own(block, x, g), -g)
            for block, x, g in zip(network.stages[-1], states[:-1], gradients, strict=True)
        ]
    finally:
        network.train(was_training)


def batch_loss(network: Network, data: Iterable[Tensor]) -> float:
    """Mean cross-entropy of all points as one batch, in training mode; the network stays as it is.

    Parameters
    ----------
    network : Network
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    """
    x, labels = as_pair(data, "data", next(network.parameters()).device)
    with torch.no_grad():
        return float(_loss(copy.deepcopy(network).train(), x, labels))


def gradient_step(
    network: Network, data: Iterable[Tensor], rate: float, order: Order = "together"
) -> Network:
    """Take one step of gradient descent on all points, eq. (25), on a copy of the network.

    Parameters
    ----------
    network : Network
        Of one stage; run in training mode, so that batch norms take the statistics of all points.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    rate : float
        The learning rate eta.
    order : {"together", "forward", "backward"}
        All blocks and the head at once, as back-propagation has it; or one after the other, each
        with its gradient computed anew: from the first block to the head, or from the head to the
        first block. The last two are block coordinate descent, at the price of a pass each.

    Returns
    -------
    Network
        A copy after the step, in training mode.

    Raises
    ------
    ValueError
        If the order is unknown, the rate negative, or the network has several stages.
    """
    one_of(order, "order", ORDERS)
    eta = non_negative(rate, "rate")
    if len(network.stages) > 1:
        raise ValueError(f"network must have one stage, not {len(network.stages)}")
    x, labels = as_pair(data, "data", next(network.parameters()).device)
    moved = copy.deepcopy(network).train()
    groups = [[*block.parameters()] for block in moved.stages[0]]
    groups = [[*moved.transitions.parameters(), *groups[0]], *groups[1:]]
    groups.append([*moved.head.parameters()])
    if order == "together":
        groups = [[parameter for group in groups for parameter in group]]
    for group in groups[::-1] if order == "backward" else groups:
        slopes = torch.autograd.grad(_loss(moved, x, labels), group)
        with torch.no_grad():
            for parameter, slope in zip(group, slopes, strict=True):
                parameter.sub_(slope, alpha=eta)
    return moved


def descend(
    network: Network,
    data: Iterable[Tensor],
    rate: float,
    steps: int,
    order: Order = "together",
) -> tuple[Network, list[float]]:
    """Take many steps of `gradient_step`.

    Returns
    -------
    network : Network
        A copy after the steps.
    losses : list of steps + 1 floats
        The loss of all points as one batch, before the first step and after each.
    """
    losses = [batch_loss(network, data)]
    for _ in range(count(steps, "steps")):
        network = gradient_step(network, data, rate, order)
        losses.append(batch_loss(network, data))
    return network, losses


def update_difference(start: Network, one: Network, other: Network) -> tuple[float, float]:
    """Compare two updates of the same network.

    Parameters
    ----------
    start, one, other : Network
        The network before, and after the one update and the other.

    Returns
    -------
    relative : float
        Norm of the difference of the updates over the norm of the first.
    cosine : float
        Cosine of the angle between the updates.
    """
    origin, first, second = (
        nn.utils.parameters_to_vector(n.parameters()).detach().double()
        for n in (start, one, other)
    )  # fmt: skip
    a, b = first - origin, second - origin
    return float((a - b).norm() / a.norm()), float(a @ b / (a.norm() * b.norm()))


def _loss(network: Network, x: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(network(x), labels)


def _response(block: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    """Differentiate the block's outputs along the step that the gradients g at them cause."""
    weights = {name: value.detach() for name, value in block.named_parameters()}

    def outputs(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(block, parameters, (x,))

    _, pull = vjp(outputs, weights)
    (slope,) = pull(g)
    _, moved = jvp(outputs, (weights,), (slope,))
    return -moved


def _own(block: nn.Module, x: Tensor, g: Tensor) -> Tensor:
    def alone(point: Tensor, gradient: Tensor) -> Tensor:
        return _response(block, point[None], gradient[None])[0]

    return vmap(alone, chunk_size=64)(x, g)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows, 0 where one is zero; scaled first, as squares of tiny numbers vanish."""
    units = []
    for rows in (a.double(), b.double()):
        scaled = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)
        units.append(functional.normalize(scaled, dim=1))
    return (units[0] * units[1]).sum(1)
