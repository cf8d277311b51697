"""Everything that the paper measures of one trained network, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geobook.scores import transport_report
from geobook.tracks import (
    line_shape_ratio,
    line_shape_score,
    record_tracks,
    segment_proportions,
)
from geobook.training import as_pair, logits_of, probe_points
from geobook.validation import count

# A state or logit that varies by less than this share of its size tells no two points apart.
_SAME = 1e-5


def evaluate(
    model: nn.Module,
    data: Iterable[Tensor],
    *,
    points: int | None = None,
    ots: bool = True,
) -> dict[str, Any]:
    """Measure a network on a data set: accuracy, and straightness and transport of every stage.

    Parameters
    ----------
    model : Network
        The network; it is run in evaluation mode.
    data : Dataset or pair of tensors
        Inputs (n, ...) and labels (n,).
    points : int, optional
        On how many points, drawn with a fixed seed, the tracks are scored; all by default. The
        optimal transport score depends on it. Accuracy and loss always take all.
    ots : bool
        Whether to solve the optimal transport problems, by far the longest part.

    Returns
    -------
    dict
        accuracy (%), loss, points; dead: whether the network tells no two points apart (the same
        class, or the same last state, for all of them), so that its scores mean nothing;
        stages: for every stage a dict of

        - lsr, lss: line-shape ratio and score, eqs. (42), (44);
        - segment_proportions: list of L shares;
        - output_variance: sum of the variances of the last state's coordinates;
        - ots, ots_low, ots_high: optimal transport score, eq. (47), and its interval under
          near-ties; excess_cost, wasserstein2: see `geobook.transport_report`. All None where
          `ots` is false or the last state is the same for all points.

    Raises
    ------
    ValueError
        If the data do not fit the network, or a state is infinite or NaN.
    """
    where = next(model.parameters()).device
    images, labels = as_pair(data, "data", where)
    chosen = images if points is None else probe_points(images, count(points, "points", 2))
    logits = logits_of(model, images)
    stages = [_stage(track, ots) for track in record_tracks(model, chosen, store=where)]
    answers = logits.argmax(1)
    return {
        "accuracy": float((answers == labels).double().mean() * 100),
        "loss": float(functional.cross_entropy(logits.double(), labels)),
        "points": len(chosen),
        "dead": bool((answers == answers[0]).all())
        or any(stage["output_variance"] == 0.0 for stage in stages),
        "stages": stages,
    }


@torch.no_grad()
def settle_norms(model: nn.Module, images: Tensor) -> nn.Module:
    """Set the statistics of all batch norms to those of these points, in place.

    A network that was never trained has no statistics yet, so that in evaluation mode its
    batch norms do nothing. With this it can serve as a control.

    Parameters
    ----------
    model : Module
        The network; its training mode is kept.
    images : tensor, shape (n, ...)
        All points, run through at once.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    try:
        model.train()
        model(images.to(next(model.parameters()).device))
    finally:
        model.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model


def _stage(track: Tensor, ots: bool) -> dict[str, Any]:
    last = track[-1].flatten(1)
    constant = _constant(last)
    return {
        "lsr": line_shape_ratio(track),
        "lss": line_shape_score(track),
        "segment_proportions": segment_proportions(track).tolist(),
        "output_variance": 0.0 if constant else float(last.double().var(0, unbiased=False).sum()),
        **_transport(track, ots and not constant),
    }


def _transport(track: Tensor, wanted: bool) -> dict[str, float | None]:
    names = ("ots", "ots_low", "ots_high", "excess_cost", "wasserstein2")
    if not wanted:
        return dict.fromkeys(names)
    report = transport_report(track[0].flatten(1), track[-1].flatten(1))
    return {name: float(getattr(report, name)) for name in names}


def _constant(values: Tensor) -> bool:
    """Whether the points (n, d) are all in one place, up to rounding of their size."""
    spread = values.double().var(0, unbiased=False).sum().sqrt()
    return bool(spread <= _SAME * values.double().square().mean(0).sum().sqrt())
