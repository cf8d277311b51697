"""What the published experiments keep of a trained network, as plain numbers and lists.

Every function takes a network and its data, and is handed to `geobook.sweep` as `collect`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from geobook import plots
from geobook.decomposition import stirring
from geobook.energy import energy_ladder, relative_length, step_energies, weight_bounds
from geobook.flows import Grid
from geobook.network_fields import block_helmholtz, jacobian_asymmetry
from geobook.networks import Network
from geobook.tracks import record_tracks
from geobook.training import probe_points

_PICTURED = 60
_IN_THE_PLANE = 24
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


def _spread(states: Tensor) -> Tensor:
    return states.double().flatten(1).var(0, unbiased=False).sum()


def _rounded(track: Any, digits: int = 4) -> list[list[list[float]]]:
    return [[[float(f"{v:.{digits}g}") for v in point] for point in state] for state in track]
