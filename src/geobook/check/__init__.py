"""Self-checks of the exercises: they test properties of an answer and say what is wrong with it.

Each check takes the reader's answer and returns a `Verdict`, which is true for any correct answer
and prints a hint otherwise. A blank answer (``...`` or ``None``) is told apart from a wrong one.
"""

from geobook.check._verdict import Verdict
from geobook.check.coordinates import (
    best_turn,
    flipped_feature,
    lengths_near_floor,
    stubborn_zigzag,
)
from geobook.check.decomposition import (
    expected_asymmetry,
    hidden_turn,
    polar_factors,
    rearrangement_of,
    tells_gradients,
)
from geobook.check.degradation import (
    activated_product,
    beats_linear,
    priced_track,
    solvable_points,
    step_change,
    wrong_way,
)
from geobook.check.digits import transition_weight_decay
from geobook.check.dimension import (
    padding,
    separating_field,
    smallest_dimension,
    weights_share,
)
from geobook.check.distances import (
    harmless_approach,
    meeting_tracks,
    steep_optimal_map,
    straight_distance,
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
from geobook.check.ridge import (
    decay_for_condition,
    descent_filter,
    ridge_solution,
    worst_change,
)
from geobook.check.robustness import (
    common_survivors,
    fast_gradient_sign,
    hides_gradients,
    noise_flips,
    quiet_states,
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
    "activated_product",
    "averaged_velocity",
    "balanced_weights",
    "beats_linear",
    "best_swap",
    "best_turn",
    "common_survivors",
    "crossing_routes",
    "decay_for_condition",
    "density_factor",
    "descent_filter",
    "diagonal_gaussians",
    "displaced_points",
    "energy_of_tracks",
    "expected_asymmetry",
    "fast_gradient_sign",
    "flipped_feature",
    "fools_ratio",
    "harmless_approach",
    "harmless_zero",
    "hidden_turn",
    "hides_gradients",
    "least_energy_track",
    "lengths_near_floor",
    "line_distance",
    "line_shape_score",
    "meeting_tracks",
    "noise_flips",
    "only_pace",
    "padding",
    "polar_factors",
    "priced_track",
    "quiet_states",
    "rearrangement_of",
    "relative_score",
    "ridge_solution",
    "score_of_mean_cosine",
    "second_order_step",
    "separating_field",
    "smallest_dimension",
    "solvable_points",
    "standing_still",
    "steep_optimal_map",
    "step_change",
    "straight_distance",
    "stubborn_zigzag",
    "swap_in_small_steps",
    "tells_gradients",
    "transition_weight_decay",
    "two_pairings",
    "undoes_large_step",
    "weights_share",
    "worst_change",
    "wrong_way",
]
