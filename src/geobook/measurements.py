"""What the published experiments keep of a trained network, as plain numbers and lists.

Every function takes a network and its data, and is handed to `geobook.sweep` as `collect`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from geobook import controls, data, plots
from geobook.alignment import (
    align_tracks,
    shuffled_states,
    state_cosines,
    strangers_score,
    symmetry_group,
    turned_track,
)
from geobook.decomposition import stirring
from geobook.distances import (
    TrackPairs,
    below_bound,
    class_pairs,
    class_room,
    compare_tracks,
    straightened,
)
from geobook.energy import (
    energy_ladder,
    kinetic_energy,
    relative_length,
    step_energies,
    weight_bounds,
)
from geobook.flows import Grid
from geobook.gradients import step_effects
from geobook.network_fields import block_helmholtz, jacobian_asymmetry
from geobook.networks import Network
from geobook.ridge import amplification
from geobook.robustness import (
    accuracy_curve,
    fgsm,
    linear_radius,
    margins,
    random_noise,
    replace_units,
    variation_rate,
)
from geobook.scores import optimal_transport_score, transport_report
from geobook.tracks import line_shape_ratio, line_shape_score, record_tracks
from geobook.training import logits_of, probe_points

_PICTURED = 60
_IN_THE_PLANE = 24
_IN_A_STEP = 128
_PAIRS = 30_000
_RATIO_STEP = 0.05  # width of the histogram's bins, which cover 0 to sqrt(2)
_NOISES, _DRAWS = (0.5, 1.0), 8
NOISE = (0.25, 0.5, 1.0, 1.5)
"""Standard deviations of the random noise that `robustness_measures` adds."""
STRENGTHS = (0.1, 0.2, 0.3)
"""Strengths of its attacks."""
UNIT_SHARES = (0.0, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of the units of a layer that it replaces."""
_BOX = Grid((48, 48), (-2.5, -2.5), (2.5, 2.5))  # holds the points of `geobook.planar`


def projected_tracks(model: Network, points: Iterable[Tensor]) -> list[list[list[float]]]:
    """Project the last stage's tracks of some points to the plane of their states' greatest spread.

    Parameters
    ----------
    model : Network
        The network.
    points : Dataset or pair of tensors
        Of these, some are drawn; the same ones every time.

    Returns
    -------
    list, shape (L+1, points, 2)
        Coordinates along the two principal axes of all states of all layers together.
    """
    images, _ = points
    where = next(model.parameters()).device
    track = record_tracks(model, probe_points(images, _PICTURED).to(where))[-1]
    flat, _ = plots.project(track)
    return _rounded(flat)


def flow_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure a network as a flow: energies, their bounds by the weights, what is not a gradient.

    Parameters
    ----------
    model : Network
        Fully connected, of one stage.
    points : Dataset or pair of tensors
        All of them are used.

    Returns
    -------
    dict
        The parts of `geobook.energy_ladder` as shares of the kinetic_energy, and that; W2^2, the
        sum of the first two, likewise, as wasserstein2_squared; relative_length; growth, the size
        of the last cloud relative to the first; stirring and stirring_in_classes, see
        `geobook.decomposition.stirring`;
        for each block: step_energies, bound_frobenius, bound_spectral, weights (see
        `geobook.weight_bounds`), asymmetry (see
        `geobook.network_fields.jacobian_asymmetry`).
    """
    images, labels = points
    where = next(model.parameters()).device
    track = record_tracks(model, images.to(where))[0]
    ladder = energy_ladder(track, labels)
    bounds = weight_bounds(model, images.to(where))
    return {
        **ladder.shares(),
        "wasserstein2_squared": ladder.wasserstein2_squared / (ladder.kinetic_energy or 1.0),
        "kinetic_energy": ladder.kinetic_energy,
        "relative_length": relative_length(track),
        "growth": float((_spread(track[-1]) / _spread(track[0])).sqrt()),
        "stirring": stirring(track[0], track[-1]),
        "stirring_in_classes": stirring(track[0], track[-1], labels),
        "step_energies": step_energies(track).tolist(),
        "bound_frobenius": bounds.frobenius.tolist(),
        "bound_spectral": bounds.spectral.tolist(),
        "weights": bounds.weights.tolist(),
        "asymmetry": jacobian_asymmetry(model, images.to(where)).tolist(),
    }


def planar_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure a network in the plane: as `flow_measures`, and the Helmholtz parts of its blocks.

    Returns
    -------
    dict
        As `flow_measures`; divergence_free: for each block the share of that part in the energy of
        its velocity field on the box [-2.5, 2.5]^2; track: the states of some points,
        shape (L+1, points, 2).
    """
    images, _ = points
    few = probe_points(images, _IN_THE_PLANE).to(next(model.parameters()).device)
    return {
        **flow_measures(model, points),
        "divergence_free": [part.divergence_free for part in block_helmholtz(model, _BOX)],
        "track": _rounded(record_tracks(model, few)[0], 3),
    }


def distance_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure how near the tracks of a digits network come to each other, and what depends on it.

    Parameters
    ----------
    model : Network
        Trained on the digits; of one stage.
    points : Dataset or pair of tensors
        The digits for training. Pairs are drawn among them; noise and mistakes are measured on the
        digits for testing, whose room is counted among the training tracks.

    Returns
    -------
    dict
        For pairs of different classes, and with the ending _same for pairs of one: shares of pairs
        below the bound of Theorem 1 as the network goes (below), with the points between layers
        (below_continuous), if its tracks were straight (below_straight), and among the
        monotone pairs (below_monotone); not_monotone; trivial; ratio_least, ratio_low (1 %),
        ratio_median; kept and grown, medians of distance / first and last / first; nearest, the
        share of each layer; histogram of the ratio.
        null_random, null_shuffled: share below for straight tracks whose ends are displaced as by
        `geobook.controls`. Under noise of deviation 0.5 (and 1.0): noise_accuracy,
        noise_accuracy_strong in %, flips; clearance: for each layer the median over the test points
        of room over displacement; rank_*: rank correlation of a point's flips with its room at the
        input, along the track, within, at the end, with its clearance at the end and the margin of
        its logits; mistakes, and auc_*: how often one has less room than a right answer.
    """
    images, labels = points
    track = record_tracks(model, images.to(next(model.parameters()).device))[0]
    found: dict[str, Any] = {}
    for different, ending in ((True, ""), (False, "_same")):
        pairs = class_pairs(labels, different, number=_PAIRS)
        report = _pair_measures(compare_tracks(track, pairs), len(track))
        found |= {f"{name}{ending}": value for name, value in report.items()}
    pairs = class_pairs(labels, number=_PAIRS)
    for name in ("random", "shuffled"):
        move = getattr(controls, f"{name}_displacement")
        moved = torch.stack([track[0].double(), move(track[0], track[-1]).double()])
        ends = straightened(moved, len(track) - 1)
        found[f"null_{name}"] = _share(compare_tracks(ends, pairs).below)
    return found | _noise_measures(model, track, labels)


def _pair_measures(found: TrackPairs, layers: int) -> dict[str, Any]:
    ratio = found.ratio.double()
    bins = round(1.45 / _RATIO_STEP)
    kept = torch.where(found.first > 0, found.distance / found.first, 1.0)
    grown = torch.where(found.first > 0, found.last / found.first, 1.0)
    return {
        "below": _share(found.below),
        "below_continuous": _share(below_bound(found.continuous, found.bound)),
        "below_straight": _share(below_bound(found.straight, found.bound)),
        "below_monotone": _share(found.below[found.monotone]),
        "not_monotone": _share(~found.monotone),
        "trivial": _share(found.trivial),
        "ratio_least": float(ratio.min()),
        "ratio_low": float(ratio.quantile(0.01)),
        "ratio_median": float(ratio.median()),
        "kept": float(kept.median()),
        "grown": float(grown.median()),
        "nearest": (torch.bincount(found.nearest, minlength=layers) / len(found)).tolist(),
        "histogram": (torch.histc(ratio, bins, 0, bins * _RATIO_STEP) / len(found)).tolist(),
    }


def _noise_measures(model: Network, track: Tensor, labels: Tensor) -> dict[str, Any]:
    where = next(model.parameters()).device
    images, truth = (part.to(where) for part in data.load("digits", "test"))
    logits = logits_of(model, images).detach()
    answers, own = logits.argmax(1), record_tracks(model, images)[0]
    flips, hits, displaced = torch.zeros(len(truth)), [0.0, 0.0], torch.zeros(own.shape[:2])
    generator = torch.Generator().manual_seed(0)
    for _ in range(_DRAWS):
        noise = torch.randn(images.shape, generator=generator).to(where)
        for place, size in enumerate(_NOISES):
            said = logits_of(model, images + size * noise).argmax(1)
            hits[place] += 100 * _share(said == truth) / _DRAWS
            if place == 0:
                flips += (said != answers).cpu() / _DRAWS
        noisy = record_tracks(model, images + _NOISES[0] * noise)[0]
        displaced += (noisy - own).norm(dim=2) / _DRAWS
    room = class_room(own, answers.cpu(), track, labels.cpu())
    clearance = room / displaced
    top = logits.topk(2, dim=1).values.cpu()
    ranked = _rooms(room) | {"clearance": clearance[-1], "margin": top[:, 0] - top[:, 1]}
    wrong = (answers != truth).cpu()
    own_room = _rooms(class_room(own, truth.cpu(), track, labels.cpu()))
    return {
        "noise_accuracy": hits[0],
        "noise_accuracy_strong": hits[1],
        "flips": float(flips.mean()),
        "clearance": clearance.median(1).values.tolist(),
        "clearance_last": float(clearance[-1].median()),
        **{f"rank_{name}": _rank_correlation(flips, value) for name, value in ranked.items()},
        "mistakes": int(wrong.sum()),
        **{f"auc_{name}": _less(value[wrong], value[~wrong]) for name, value in own_room.items()},
    }


def _rooms(room: Tensor) -> dict[str, Tensor]:
    inside = room[1:-1] if len(room) > 2 else room
    return {"input": room[0], "track": room.amin(0), "inside": inside.amin(0), "last": room[-1]}


def _rank_correlation(first: Tensor, second: Tensor) -> float:
    if bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return math.nan
    return float(spearmanr(first.numpy(), second.numpy()).statistic)


def _less(first: Tensor, second: Tensor) -> float:
    """How often one of the first is less than one of the second; ties count half."""
    gap = second[None] - first[:, None]
    return float(((gap > 0).double() + 0.5 * (gap == 0)).mean()) if gap.numel() else math.nan


def _share(chosen: Tensor) -> float:
    return float(chosen.double().mean()) if chosen.numel() else math.nan


def gauge_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure straightness and transport in other coordinates, see `geobook.alignment`.

    Turns are fitted on all points, but for the values that say held_out: fitted on one half of the
    points and scored on the other.

    Parameters
    ----------
    model : Network
        Fully connected, of one stage.
    points : Dataset or pair of tensors
        All of them are used.

    Returns
    -------
    dict
        lss_strangers, lss_turned: what the lengths of the states alone give, and the mean of four
        random turns of the network's symmetry_group; ``lss_aligned``, ``lsr_aligned``,
        ``ots_aligned``, ``excess_aligned``: of the orthogonally aligned tracks; lss_held_out,
        ots_held_out and, in the network's own coordinates, ots_half; lss_signed: aligned by
        permutations and signs; lss_centred: with turns from centred clouds; lss_centred_states:
        all layers' means taken off before the alignment; lss_shuffled, lss_shuffled_classes: of
        shuffled states, aligned, with centred states lss_shuffled_centred; energy_kept: aligned
        kinetic energy over the network's own; state_cosine: mean cosine of the states of two
        different layers.
    """
    images, labels = points
    where = next(model.parameters()).device
    track = record_tracks(model, images.to(where))[0].double()
    aligned, middle = align_tracks(track), track - track.mean(1, keepdim=True)
    order = torch.randperm(track.shape[1], generator=torch.Generator().manual_seed(0))
    fit, rest = order.chunk(2)
    held_out = align_tracks(track, fit=fit)[:, rest]
    signed, best = align_tracks(track, group="signed"), transport_report(aligned[0], aligned[-1], 0)
    between, layers = state_cosines(track), len(track)
    group = symmetry_group(model)
    turns = [line_shape_score(turned_track(track, seed, group)) for seed in range(4)]
    return {
        "lss_strangers": strangers_score(track),
        "lss_turned": sum(turns) / len(turns),
        "lss_aligned": line_shape_score(aligned),
        "lsr_aligned": line_shape_ratio(aligned),
        "ots_aligned": best.ots,
        "excess_aligned": best.excess_cost,
        "lss_held_out": line_shape_score(held_out),
        "ots_held_out": optimal_transport_score(held_out[0], held_out[-1]),
        "ots_half": optimal_transport_score(track[0, rest], track[-1, rest]),
        "lss_signed": line_shape_score(signed),
        "lss_centred": line_shape_score(align_tracks(track, centred=True)),
        "lss_centred_states": line_shape_score(align_tracks(middle)),
        "lss_shuffled": line_shape_score(align_tracks(shuffled_states(track))),
        "lss_shuffled_classes": line_shape_score(align_tracks(shuffled_states(track, labels))),
        "lss_shuffled_centred": line_shape_score(align_tracks(shuffled_states(middle))),
        "energy_kept": kinetic_energy(aligned) / kinetic_energy(track),
        "state_cosine": float((between.sum() - between.trace()) / (layers * (layers - 1))),
    }


def layer_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure how much a network's blocks amplify, alone and in a row.

    Parameters
    ----------
    model : Network
        Fully connected, of one stage.
    points : Dataset or pair of tensors
        Jacobians are taken at 100 of them.

    Returns
    -------
    dict
        bounds, block_norms, spreads (lists) and product, whole, relative of
        `geobook.ridge.amplification`; worst_block: the largest of block_norms; bound: the product
        of the bounds.
    """
    images, _ = points
    found = amplification(model, images.to(next(model.parameters()).device))
    return {
        "bounds": found.bounds.tolist(),
        "bound": float(found.bounds.prod()),
        "block_norms": found.blocks.tolist(),
        "worst_block": float(found.blocks.max()),
        "product": found.product,
        "whole": found.whole,
        "relative": found.relative,
        "spreads": found.spreads.tolist(),
    }


def gradient_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure what a gradient step on each block does to its representations, eq. (28).

    Parameters
    ----------
    model : Network
        Fully connected.
    points : Dataset or pair of tensors
        Of these, 128 take the step; the same ones every time.

    Returns
    -------
    dict
        For each block: step_cosine, the mean over the points of the cosine between actual and
        wanted change; own_cosine, that of the own term alone; step_alignment, the cosine of all
        changes together, points and coordinates; cross_talk (see `geobook.gradients.StepEffect`).
    """
    images, labels = points
    # In double precision: of a trained network the gradients of many points are tiny.
    exact = copy.deepcopy(model).cpu().double()
    few = probe_points(images.cpu(), _IN_A_STEP).double(), probe_points(labels.cpu(), _IN_A_STEP)
    effects = step_effects(exact, few)
    return {
        "step_cosine": [float(effect.cosines.mean()) for effect in effects],
        "own_cosine": [float(effect.own_cosines.mean()) for effect in effects],
        "step_alignment": [effect.alignment for effect in effects],
        "cross_talk": [effect.cross_talk for effect in effects],
    }


def robustness_measures(model: Network, points: Iterable[Tensor]) -> dict[str, Any]:
    """Measure what a network withstands, on the test split of its data.

    Parameters
    ----------
    model : Network
        Any.
    points : Dataset
        Training data, named as in `geobook.data.load`.

    Returns
    -------
    dict
        Nothing for a network that is right on less than half of the test points. Else lists of
        accuracies in %: noise and noise_right (of the points that were right without noise) at
        every strength of `NOISE`; fgsm, pgd, strongest and clamped (pgd within the range of the
        pixels) at `STRENGTHS`; units, by fill, and units_random (filled as before, in random
        order) at `UNIT_SHARES`. variation_noise and variation_fgsm (at strengths 0.5 and 0.2),
        and the same with _spread, for every layer, see `geobook.robustness.variation_rate`.
        clamped: accuracy at strength 0.2 of pgd within the range of the pixels. Medians over the
        test points: margin, radius (`geobook.robustness.linear_radius`).
    """
    if not isinstance(points, data.Dataset):
        raise TypeError(f"points must be a geobook Dataset, not {type(points).__name__}")
    test = data.load(points.name, "test", device=points.images.device)
    images, labels = test
    if accuracy_curve(model, test, [0.0], "noise", draws=1)[0] < 50:
        return {}
    moved = {"noise": random_noise(images, 0.5), "fgsm": fgsm(model, images, labels, 0.2)}
    variation = {
        f"variation_{name}{ending}": variation_rate(
            model, images, perturbed, relative_to=size
        ).tolist()
        for name, perturbed in moved.items()
        for ending, size in (("", "norm"), ("_spread", "spread"))
    }
    return {
        "noise": accuracy_curve(model, test, NOISE),
        "noise_right": accuracy_curve(model, test, NOISE, of_right=True),
        "fgsm": accuracy_curve(model, test, STRENGTHS, "fgsm"),
        "pgd": accuracy_curve(model, test, STRENGTHS, "pgd"),
        "strongest": accuracy_curve(model, test, STRENGTHS, "strongest"),
        "clamped": accuracy_curve(model, test, [0.2], "pgd", clamp=test.raw_range)[0],
        "margin": float(margins(model, images, labels).median()),
        "radius": float(linear_radius(model, images, labels).median()),
        **variation,
        **_unit_curves(model, points, test),
    }


def _unit_curves(model: Network, points: Any, test: Any) -> dict[str, Any]:
    width = model.architecture.stages[-1].width
    units = [round(share * width) for share in UNIT_SHARES]
    curves = {
        fill: replace_units(model, points, test, units=units, fill=fill).curve
        for fill in ("before", "aligned", "mean", "zero")
    }
    random = replace_units(model, points, test, units=units, order="random").curve
    return {"units": curves, "units_random": random}


def _spread(states: Tensor) -> Tensor:
    return states.double().flatten(1).var(0, unbiased=False).sum()


def _rounded(track: Any, digits: int = 4) -> list[list[list[float]]]:
    return [[[float(f"{v:.{digits}g}") for v in point] for point in state] for state in track]
