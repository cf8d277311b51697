"""Self-checks of the exercises: they test properties of an answer and say what is wrong with it.

Each check takes the reader's answer and returns a `Verdict`, which is true for any correct answer
and prints a hint otherwise. A blank answer (``...`` or ``None``) is told apart from a wrong one.
"""

from geobook.check._verdict import Verdict
from geobook.check.decomposition import (
    expected_asymmetry,
    hidden_turn,
    polar_factors,
    rearrangement_of,
    tells_gradients,
)
from geobook.check.digits import transition_weight_decay
from geobook.check.dimension import (
    padding,
    separating_field,
    smallest_dimension,
    weights_share,
)
from geobook.check.energy import (
    balanced_weights,
    energy_of_tracks,
    least_energy_track,
    only_pace,
    standing_still,
)
from geobook.check.flows import (
    averaged_velocity,
    density_factor,
    second_order_step,
    swap_in_small_steps,
    undoes_large_step,
)
from geobook.check.shortest_way import (
    crossing_routes,
    diagonal_gaussians,
    displaced_points,
    line_distance,
    two_pairings,
)
from geobook.check.straightness import (
    best_swap,
    fools_ratio,
    harmless_zero,
    line_shape_score,
    relative_score,
    score_of_mean_cosine,
)

__all__ = [
    "Verdict",
    "averaged_velocity",
    "balanced_weights",
    "best_swap",
    "crossing_routes",
    "density_factor",
    "diagonal_gaussians",
    "displaced_points",
    "energy_of_tracks",
    "expected_asymmetry",
    "fools_ratio",
    "harmless_zero",
    "hidden_turn",
    "least_energy_track",
    "line_distance",
    "line_shape_score",
    "only_pace",
    "padding",
    "polar_factors",
    "rearrangement_of",
    "relative_score",
    "score_of_mean_cosine",
    "second_order_step",
    "separating_field",
    "smallest_dimension",
    "standing_still",
    "swap_in_small_steps",
    "tells_gradients",
    "transition_weight_decay",
    "two_pairings",
    "undoes_large_step",
    "weights_share",
]
