"""geobook: the package on which every chapter of the book stands.

Do deep networks trained with weight decay learn a geodesic in Wasserstein space? The functions
here compute what Gai and Zhang (arXiv 2102.09235) measure: the tracks of data through a network,
how straight they are, and how near the network's map is to optimal transport.

Names are resolved on first use, so that ``import geobook`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "Architecture": "networks",
    "Assignment": "transport",
    "Block": "networks",
    "Dataset": "data",
    "DynamicTransport": "dynamic",
    "EnergyLadder": "energy",
    "Gaussian": "gaussians",
    "Grid": "flows",
    "Line": "polylines",
    "Lines": "polylines",
    "Network": "networks",
    "NotConverged": "dynamic",
    "Recipe": "training",
    "Stage": "networks",
    "TrackPairs": "distances",
    "TransportReport": "scores",
    "activated_map": "activations",
    "activated_matrices": "activations",
    "advect": "flows",
    "align_tracks": "alignment",
    "architecture": "networks",
    "benamou_brenier": "dynamic",
    "build": "networks",
    "by_mode": "runtime",
    "class_pairs": "distances",
    "compare_tracks": "distances",
    "describe": "networks",
    "device": "runtime",
    "displacement_interpolation": "transport",
    "energy_ladder": "energy",
    "evaluate": "evaluation",
    "explore": "explorer",
    "forward_euler": "flows",
    "gaussian_interpolation": "gaussians",
    "gaussian_optimal_map": "gaussians",
    "gaussian_wasserstein2": "gaussians",
    "gradient_step": "gradients",
    "helmholtz": "decomposition",
    "kinetic_energy": "energy",
    "line_shape_ratio": "tracks",
    "line_shape_score": "tracks",
    "linear_polar_factorization": "decomposition",
    "linearised_polar": "decomposition",
    "mode": "runtime",
    "network_field": "flows",
    "optimal_assignment": "transport",
    "optimal_transport_score": "scores",
    "panel": "live",
    "polar_factorization": "decomposition",
    "record_tracks": "tracks",
    "ridge_layer": "ridge",
    "segment_lengths": "tracks",
    "segment_proportions": "tracks",
    "solve_continuity": "flows",
    "step_effects": "gradients",
    "sweep": "sweeps",
    "track_distance": "distances",
    "track_distance_bound": "distances",
    "track_lines": "polylines",
    "train": "training",
    "train_with_energy": "penalties",
    "transport_report": "scores",
    "turned": "alignment",
    "turned_track": "alignment",
    "wasserstein2": "transport",
    "weight_bounds": "energy",
}
_MODULES = {
    "activations",
    "alignment",
    "check",
    "controls",
    "data",
    "decomposition",
    "degradation",
    "dimension",
    "distances",
    "dynamic",
    "energy",
    "evaluation",
    "experiments",
    "explorer",
    "flows",
    "gaussians",
    "gradients",
    "linework",
    "live",
    "network_fields",
    "networks",
    "penalties",
    "planar",
    "plots",
    "results",
    "ridge",
    "robustness",
    "runtime",
    "scores",
    "sweeps",
    "tracks",
    "training",
    "transport",
}

__all__ = sorted([*_HOME_OF, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f"geobook.{_HOME_OF[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"geobook.{name}")
    else:
        raise AttributeError(f"module 'geobook' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
