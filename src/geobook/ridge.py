"""One layer at a time: its update as ridge regression, and what layers amplify alone and in a row.

Section 4.1 of the paper imagines a target for the outputs of one linear map and asks for the
matrix that reaches it at the least weight decay: a ridge regression, eqs. (31)-(34).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap
from torch.nn import functional

from geobook.networks import Network
from geobook.tracks import record_tracks
from geobook.training import as_pair, probe_points
from geobook.validation import Points, as_points, as_tensor, count, non_negative


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """What `ridge_layer` finds.

    Attributes
    ----------
    weight : tensor of float64, shape (m, d)
        The matrix W.
    singular_values : tensor of float64, shape (min(n, d),)
        Of the inputs X, decreasing.
    weight_decay : float
        The penalty, as it was given.
    dimension : int
        Inputs of the layer, d.
    error : float
        sum_j ||W x_j - y_j||^2.
    """

    weight: Tensor
    singular_values: Tensor
    weight_decay: float
    dimension: int
    error: float

    @property
    def condition(self) -> float:
        """Condition number of X^T X + lambda I: largest over smallest eigenvalue."""
        squares = self.singular_values.square()
        least = squares[-1] if len(squares) == self.dimension else squares.new_zeros(())
        bottom = float(least) + self.weight_decay
        return (float(squares[0]) + self.weight_decay) / bottom if bottom > 0 else float("inf")

    @property
    def sensitivity(self) -> float:
        """Largest factor from a change of the targets to the change of W, both in Frobenius norm.

        max_i s_i / (s_i^2 + lambda), at most 1 / (2 sqrt(lambda)).
        """
        s = self.singular_values
        return float(_filter(s, self.weight_decay).max())

    @property
    def degrees_of_freedom(self) -> float:
        """sum_i s_i^2 / (s_i^2 + lambda): how many directions of the inputs are really used."""
        s = self.singular_values
        return float((s * _filter(s, self.weight_decay)).sum())


def ridge_layer(x: Points, targets: Points, weight_decay: float) -> RidgeFit:
    """Fit a linear map to targets at a price for its size.

    Minimises sum_j ||W x_j - y_j||^2 + lambda ||W||_F^2, the paper's eq. (33); its solution is
    W = Y^T X (X^T X + lambda I)^{-1} for points in rows, eq. (34). Computed from the singular
    values of X, without X^T X, whose condition number is the square of that of X.

    Parameters
    ----------
    x : array or tensor, shape (n, d)
        Inputs of the layer, one point in each row.
    targets : array or tensor, shape (n, m)
        Wanted outputs y_j.
    weight_decay : float
        lambda, for the sum over the points. At 0 the solution of least norm is taken, and
        directions in which the inputs do not extend beyond rounding are left out.

    Returns
    -------
    RidgeFit

    Raises
    ------
    ValueError
        If there is not one target for every point, or the weight decay is negative.

    Examples
    --------
    >>> ridge_layer([[1.0], [2.0]], [[2.0], [4.0]], weight_decay=5.0).weight
    tensor([[1.]], dtype=torch.float64)
    """
    inputs = as_points(x, "x", 1).double()
    wanted = as_points(targets, "targets", 1).double()
    if len(inputs) != len(wanted):
        raise ValueError(f"x and targets must hold equally many points, "
                         f"not {len(inputs)} and {len(wanted)}")  # fmt: skip
    decay = non_negative(weight_decay, "weight_decay")
    u, s, vh = torch.linalg.svd(inputs, full_matrices=False)
    rounding = torch.finfo(s.dtype).eps * max(inputs.shape) * s[0]
    s = s.where(s > rounding, 0.0)
    weight = (wanted.T @ u) * _filter(s, decay) @ vh
    error = float((inputs @ weight.T - wanted).square().sum())
    return RidgeFit(weight, s, decay, inputs.shape[1], error)


@dataclass(frozen=True, eq=False)
class LayerData:
    """What one linear map of a network sees in one step of training; see `layer_data`.

    Attributes
    ----------
    weight : tensor of float64, shape (m, d)
        The map's matrix.
    inputs : tensor of float64, shape (n, d)
        What goes in.
    outputs : tensor of float64, shape (n, m)
        What comes out.
    gradients : tensor of float64, shape (n, m)
        Gradient g_j of the mean loss in each output.
    """

    weight: Tensor
    inputs: Tensor
    outputs: Tensor
    gradients: Tensor

    def targets(self, rate: float) -> Tensor:
        """Imaginary targets ``outputs - rate * gradients`` of the matrix alone, without its bias.

        Parameters
        ----------
        rate : float
            The learning rate eta.
        """
        wanted = self.inputs @ self.weight.T
        return wanted - non_negative(rate, "rate") * self.gradients

    def gradient_step(self, rate: float, weight_decay: float) -> Tensor:
        """Step of the matrix in gradient descent: -eta (dLoss/dW + lambda W), shape (m, d)."""
        slope = self.gradients.T @ self.inputs
        decay = non_negative(weight_decay, "weight_decay")
        return -non_negative(rate, "rate") * (slope + decay * self.weight)

    def ridge_step(self, rate: float, weight_decay: float) -> Tensor:
        """Step to the ridge solution for the imaginary targets, shape (m, d).

        Equal to ``gradient_step(rate, weight_decay) @ inverse(X^T X + rate * weight_decay I)``.

        Parameters
        ----------
        rate, weight_decay : float
            As for gradient descent; the ridge penalty that belongs to them is their product.
        """
        penalty = rate * weight_decay
        return ridge_layer(self.inputs, self.targets(rate), penalty).weight - self.weight


def layer_data(
    network: Network, data: Iterable[Tensor], block: int, *, second: bool = True
) -> LayerData:
    """Record what a linear map of a block sees: inputs, outputs, and the loss's gradients there.

    Parameters
    ----------
    network : Network
        Fully connected; run in evaluation mode.
    data : Dataset or pair of tensors
        All points count, as one batch.
    block : int
        Which block of the first stage, from 0.
    second : bool
        Its second linear map or its first.

    Returns
    -------
    LayerData

    Raises
    ------
    ValueError
        If the network is convolutional or there is no such block.
    """
    if network.architecture.convolutional:
        raise ValueError("network must be fully connected")
    blocks = network.stages[0]
    if count(block, "block", 0) >= len(blocks):
        raise ValueError(f"block must be below {len(blocks)}, not {block!r}")
    linear = blocks[block].second if second else blocks[block].first
    images, labels = as_pair(data, "data", linear.weight.device)
    seen: list[Tensor] = []
    hook = linear.register_forward_hook(lambda _, inputs, output: seen.extend([*inputs, output]))
    training = network.training
    try:
        loss = functional.cross_entropy(network.eval()(images), labels)
    finally:
        hook.remove()
        network.train(training)
    (gradient,) = torch.autograd.grad(loss, seen[1])
    kept = (linear.weight, *seen, gradient)
    return LayerData(*(value.detach().double() for value in kept))


@dataclass(frozen=True, eq=False)
class Amplification:
    """How much a network's blocks amplify small changes, alone and in a row.

    Attributes
    ----------
    bounds : tensor of float64, shape (L,)
        ||W2||_2 ||W1||_2 of each block (1 more with a skip): a Lipschitz constant everywhere.
    blocks : tensor of float64, shape (L,)
        Largest singular value of each block's Jacobian, mean over the points.
    product : float
        The product of these singular values along a point's track, mean over the points.
    whole : float
        Largest singular value of the whole stage's Jacobian, mean over the points.
    spreads : tensor of float64, shape (L+1,)
        Root of the total variance of each layer's states.
    """

    bounds: Tensor
    blocks: Tensor
    product: float
    whole: float
    spreads: Tensor

    @property
    def relative(self) -> float:
        """`whole`, in units of the spreads: times spread of the inputs over that of the outputs."""
        return self.whole * float(self.spreads[0] / self.spreads[-1])


def amplification(network: Network, x: Points, points: int = 100) -> Amplification:
    """Measure Lipschitz constants of a network's blocks, and of all its blocks together.

    Batch norms are taken as the affine maps they are in evaluation mode.

    Parameters
    ----------
    network : Network
        Fully connected, of one stage; run in evaluation mode.
    x : array or tensor, shape (n, ...)
        Inputs of the network.
    points : int
        At how many of them, drawn with a fixed seed, Jacobians are taken.

    Returns
    -------
    Amplification

    Raises
    ------
    ValueError
        If the network is convolutional or has several stages.
    """
    if network.architecture.convolutional or len(network.stages) > 1:
        raise ValueError("network must be fully connected and have one stage")
    images = as_tensor(x, "x")
    spreads = record_tracks(network, images)[0].double().var(1, unbiased=False).sum(1).sqrt()
    track = record_tracks(network, probe_points(images, min(count(points, "points"), len(images))))
    whole, largest = None, []
    for block, state in zip(network.stages[0], track[0][:-1], strict=True):
        own = _jacobians(block, state.to(next(block.parameters())))
        largest.append(_largest_singular_value(own))
        whole = own if whole is None else own @ whole
    norms = torch.stack(largest)
    bounds = [_block_bound(block) for block in network.stages[0]]
    return Amplification(
        bounds=torch.tensor(bounds, dtype=torch.float64),
        blocks=norms.mean(1).cpu(),
        product=float(norms.prod(0).mean()),
        whole=float(_largest_singular_value(whole).mean()),
        spreads=spreads.cpu(),
    )


# --- inside ---------------------------------------------------------------------------------------


def _filter(s: Tensor, weight_decay: float) -> Tensor:
    """Return s / (s^2 + lambda), and 0 where both are 0."""
    bottom = s.square() + weight_decay
    return (s / bottom).where(bottom > 0, 0.0)


def _jacobians(block: nn.Module, states: Tensor) -> Tensor:
    """Jacobians (n, d, d) of a block in evaluation mode."""
    training = block.training
    try:
        block.eval()
        return vmap(jacrev(lambda point: block(point[None])[0]))(states).detach().double()
    finally:
        block.train(training)


def _largest_singular_value(matrices: Tensor) -> Tensor:
    """Spectral norm of each matrix of a batch, by its Gram matrix: much quicker than all of S."""
    return torch.linalg.eigvalsh(matrices.mT @ matrices)[:, -1].clamp(min=0).sqrt()


@torch.no_grad()
def _block_bound(block: nn.Module) -> float:
    pairs = ((block.first, block.first_norm), (block.second, block.second_norm))
    first, second = (float(torch.linalg.matrix_norm(_scaled(*pair), 2)) for pair in pairs)
    return first * second + (1.0 if block.residual else 0.0)


def _scaled(linear: nn.Linear, norm: nn.Module) -> Tensor:
    """Matrix of a linear map together with the batch norm behind it."""
    weight = linear.weight.double()
    if isinstance(norm, nn.Identity):
        return weight
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale[:, None] * weight
