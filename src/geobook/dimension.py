"""Where the dimension changes: padding, projecting, and what a staged network does where.

A network of several stages is F = f_K o T_K o f_{K-1} o ... o T_1 o f_0 (the paper's eq. (16)). The
stages T_k keep the dimension, the transitions f_k change it. What is compared across a transition
must not need both states in one space: the Fisher ratio and the participation ratio do not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from geobook.networks import Network, Projection
from geobook.validation import Points, as_points, as_tensor, count

__all__ = [
    "fisher_ratio",
    "milestones",
    "pad",
    "participation_ratio",
    "random_projection",
    "turned_stage",
    "winding_number",
    "without_stages",
]


def pad(x: Points, dimension: int) -> Tensor:
    """Append zero coordinates: the isometric embedding of R^d into R^D.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
        Points.
    dimension : int
        D, at least d.

    Returns
    -------
    Tensor, shape (n, D)

    Raises
    ------
    ValueError
        If `dimension` is less than that of the points.

    Examples
    --------
    >>> pad([[1.0, 2.0]], 3)
    tensor([[1., 2., 0.]], dtype=torch.float64)
    """
    points = as_points(x, "x", 1)
    missing = count(dimension, "dimension") - points.shape[1]
    if missing < 0:
        raise ValueError(f"dimension must be at least {points.shape[1]}, not {dimension}")
    return nn.functional.pad(points, (0, missing))


def random_projection(dimension: int, kept: int, seed: int = 0) -> Tensor:
    """Draw a random subspace, all subspaces being equally likely.

    Parameters
    ----------
    dimension : int
        d.
    kept : int
        k, at most d. Smaller k under one seed give subspaces of the larger ones.
    seed : int
        Seed of the draw.

    Returns
    -------
    Tensor of float64, shape (d, k)
        Orthonormal columns: ``x @ P`` are the coordinates of the projected points.

    Raises
    ------
    ValueError
        If `kept` is larger than `dimension`.
    """
    size = count(dimension, "dimension")
    if count(kept, "kept") > size:
        raise ValueError(f"kept must be at most dimension = {size}, not {kept}")
    generator = torch.Generator().manual_seed(count(seed, "seed", 0))
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(normal).Q[:, :kept].contiguous()


def winding_number(curve: Points, point: Points) -> int:
    """How often a closed polygon in the plane winds around a point.

    Parameters
    ----------
    curve : array or Tensor, shape (m, 2)
        Corners of the polygon in order; the last is joined to the first.
    point : array or Tensor, shape (2,)
        The point, not on the polygon.

    Returns
    -------
    int
        Positive for counterclockwise turns.

    Raises
    ------
    ValueError
        If the curve is not planar or has fewer than three corners, or the point is a corner or
        lies on an edge, to rounding.

    Examples
    --------
    >>> winding_number([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]], [1.0, 1.0])
    1
    """
    corners = as_points(curve, "curve", 3).double()
    middle = as_tensor(point, "point").double().flatten()
    if corners.shape[1] != 2 or middle.shape != (2,):
        raise ValueError(
            f"curve must have shape (corners, 2) and point (2,), not {tuple(corners.shape)} "
            f"and {tuple(middle.shape)}"
        )
    spoke = torch.view_as_complex((corners - middle).contiguous())
    turn = torch.angle(spoke.roll(-1) * spoke.conj())
    if bool((spoke == 0).any()) or bool((turn.abs() > torch.pi - 1e-12).any()):
        raise ValueError("point must not lie on curve")
    return round(float(turn.sum() / (2 * torch.pi)))


def fisher_ratio(x: Points, labels: Points) -> float:
    """Scatter between the classes over scatter within them: how far apart the classes are.

    With class means m_c and the mean m of all points it is
    sum_i |m_{c(i)} - m|^2 / sum_i |x_i - m_{c(i)}|^2. Turning, shifting and scaling the points
    do not change it, nor does padding them: so it can be compared across dimensions.

    Parameters
    ----------
    x : array or Tensor, shape (n, ...)
        Points.
    labels : array or Tensor of int, shape (n,)
        Their classes.

    Returns
    -------
    float
        0 if all class means coincide, infinity if every class is one point (NaN if all points
        coincide).

    Raises
    ------
    ValueError
        If there is not one label a point, or fewer than two classes.
    """
    points = as_points(x, "x").double()
    given = as_tensor(labels, "labels")
    if given.shape != points.shape[:1]:
        raise ValueError(f"labels must have shape ({len(points)},), not {tuple(given.shape)}")
    classes, place = given.to(points.device).unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError("labels must hold at least two classes, not one")
    sizes = torch.bincount(place).unsqueeze(1)
    means = points.new_zeros(len(classes), points.shape[1]).index_add_(0, place, points) / sizes
    between = (means[place] - points.mean(0)).square().sum()
    within = (points - means[place]).square().sum()
    return float(between / within)


def participation_ratio(x: Points) -> float:
    """How many directions share the variance of a cloud.

    With the eigenvalues e_j of the covariance it is (sum_j e_j)^2 / sum_j e_j^2: k if k directions
    hold equal shares and the others nothing.

    Parameters
    ----------
    x : array or Tensor, shape (n, ...)
        Points, not all equal.

    Returns
    -------
    float
        Between 1 and the dimension.

    Raises
    ------
    ValueError
        If all points are equal.
    """
    points = as_points(x, "x").double()
    centred = points - points.mean(0)
    wide = centred.shape[1] > len(centred)
    gram = centred @ centred.T if wide else centred.T @ centred
    if not bool(gram.diagonal().sum() > 0):
        raise ValueError("x must hold at least two different points")
    return float(gram.diagonal().sum() ** 2 / gram.square().sum())


@torch.no_grad()
def milestones(network: Network, x: Tensor) -> list[Tensor]:
    """Run points through a staged network and keep what enters and leaves each part.

    Parameters
    ----------
    network : Network
        Fully connected or convolutional; run in evaluation mode.
    x : Tensor, shape (n, ...)
        Inputs.

    Returns
    -------
    list of 2 K + 2 Tensors, shape (n, d)
        The input, then the states after f_0, T_1, f_1, T_2, ..., T_K, and after the head f_K: the
        parts f and T take turns.
    """
    was_training = network.training
    network.eval()
    try:
        found, before = [x], -1
        for stage, state in network.states(x):
            # the first state of a stage is new; later ones replace the one that was last
            if stage != before:
                found += [state, state]
            found[-1], before = state, stage
        found.append(network.head(found[-1]))
    finally:
        network.train(was_training)
    return [state.flatten(1) for state in found]


def without_stages(network: Network, stages: Iterable[int]) -> Network:
    """Copy a network with the identity in place of some of its stages.

    Parameters
    ----------
    network : Network
        It is not changed.
    stages : iterable of int
        Which ones: 0 for T_1, and so on.

    Raises
    ------
    ValueError
        If there is no such stage.
    """
    shorter = copy.deepcopy(network)
    for stage in stages:
        _check_stage(network, stage)
        shorter.stages[stage] = nn.ModuleList()
    return shorter


@torch.no_grad()
def turned_stage(network: Network, stage: int, rotation: Tensor) -> Network:
    """Copy a network that computes the same with one stage in turned coordinates.

    The state s of the stage becomes Q s; what leads into the stage, its blocks and what leads out
    of it are adapted. The function, the norms of all matrices and the tracks' shapes stay.

    Parameters
    ----------
    network : Network
        Fully connected, without batch norm behind the second map of a block. Not changed.
    stage : int
        From 1 on: what leads into it must be a transition between two stages.
    rotation : Tensor, shape (d, d)
        Q, orthogonal, d the width of the stage.

    Raises
    ------
    ValueError
        If the network has such a norm or is convolutional, there is no such stage, or Q is not
        orthogonal.
    """
    _check_stage(network, stage, 1)
    if network.architecture.norm == "both" or network.architecture.convolutional:
        raise ValueError("network must be fully connected with norm 'none' or 'inner'")
    width = network.architecture.stages[stage].width
    weight = network.head[-1].weight
    turn = as_tensor(rotation, "rotation").to(weight)
    unit = torch.eye(width, dtype=turn.dtype, device=turn.device)
    if turn.shape != unit.shape or not torch.allclose(turn @ turn.T, unit, atol=1e-4):
        raise ValueError(f"rotation must be an orthogonal matrix of shape ({width}, {width})")
    turned = copy.deepcopy(network)
    into = turned.transitions[stage]
    last = stage == len(turned.stages) - 1
    out = turned.head[-1] if last else turned.transitions[stage + 1]
    readers = [out.shortcut, out.first] if isinstance(out, Projection) else [out]
    writers = [into.shortcut, into.second]
    for block in turned.stages[stage]:
        readers.append(block.first)
        writers.append(block.second)
    for layer in readers:
        layer.weight.copy_(layer.weight @ turn.T)
    for layer in writers:
        layer.weight.copy_(turn @ layer.weight)
        if layer.bias is not None:
            layer.bias.copy_(turn @ layer.bias)
    return turned


def _check_stage(network: Network, stage: int, least: int = 0) -> None:
    if not least <= stage < len(network.stages):
        last = len(network.stages) - 1
        raise ValueError(f"stage must be a whole number from {least} to {last}, not {stage!r}")
