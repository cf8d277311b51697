"""Self-checks of the chapter on the distance of tracks: right answers pass, slips get a hint."""

import math

import numpy as np
import pytest
import torch

from geobook import controls
from geobook.check.distances import (
    harmless_approach,
    meeting_tracks,
    steep_optimal_map,
    straight_distance,
)


def by_formula(a, b, cosine):
    if cosine >= min(a, b) / max(a, b):
        return min(a, b)
    return a * b * math.sqrt(1 - cosine**2) / math.sqrt(a**2 + b**2 - 2 * a * b * cosine)


def by_search(a, b, cosine):
    t = np.linspace(0, 1, 200_001)
    squares = ((1 - t) * a) ** 2 + (t * b) ** 2 + 2 * t * (1 - t) * a * b * cosine
    return np.sqrt(max(0.0, squares.min()))


def by_clamping(a, b, cosine):
    t = (a**2 - a * b * cosine) / (a**2 + b**2 - 2 * a * b * cosine)
    t = torch.tensor(t).clamp(0, 1)
    return (
        ((1 - t) ** 2 * a**2 + t**2 * b**2 + 2 * t * (1 - t) * a * b * cosine).clamp(min=0).sqrt()
    )


def height(a, b, cosine):
    return a * b * math.sqrt(1 - cosine**2) / math.sqrt(a**2 + b**2 - 2 * a * b * cosine)


def track(*states):
    return torch.tensor(states, dtype=torch.float64)


MEETING = track([[0.0], [1.0]], [[1.0], [1.0]], [[1.0], [2.0]])
THREE = [np.diag([0.001, 0.002]), np.array([[0.0, -1.0], [1.0, 0.0]])]
TURN = 0.005 * torch.tensor([[0.0, -1.0], [1.0, 0.0]])

RIGHT = [
    (straight_distance, by_formula),
    (straight_distance, by_search),
    (straight_distance, by_clamping),
    (meeting_tracks, MEETING),
    (meeting_tracks, 100 * MEETING.numpy() + 5),
    (meeting_tracks, torch.cat([MEETING, -2 * MEETING], dim=2)),
    (harmless_approach, [0.005 * torch.eye(3), 200 * torch.eye(3)]),
    (harmless_approach, [TURN, TURN.inverse()]),
    (harmless_approach, [*THREE, np.linalg.inv(THREE[1] @ THREE[0])]),
    (harmless_approach, [[[0.001]], [[1000.0]]]),
    (steep_optimal_map, lambda x: min(max(100 * x, 0.0), 1.0)),
    (steep_optimal_map, lambda x: 0.0 if x < 0.005 else 1.0),
    (steep_optimal_map, lambda x: torch.tensor(x).clamp(min=0) ** 0.01),
]  # fmt: skip

WRONG = [
    (straight_distance, lambda a, b, c: a * b / math.hypot(a, b), "right angle only"),
    (straight_distance, lambda a, b, c: height(a, b, c), "sharp angles"),
    (straight_distance, lambda a, b, c: by_formula(a, b, c) ** 2, "square"),
    (straight_distance, lambda a, b, c: math.sqrt(a * a + b * b + 2 * a * b * c) / 2, "halfway"),
    (straight_distance, lambda a, b, c: min(a, b), "the two ends"),
    (straight_distance, lambda a, b, c: by_formula(a, b, c) + 0.1 * (c > 0.5), "cosine 0.8"),
    (straight_distance, lambda a, b, c: None, "returns nothing yet"),
    (meeting_tracks, ..., "no track yet"),
    (meeting_tracks, "track", "the track must be"),
    (meeting_tracks, MEETING[:, :1], "two points, not 1"),
    (meeting_tracks, track([[0.0], [0.0]], [[1.0], [1.0]]), "well apart"),
    (meeting_tracks, track([[0.0], [1.0]], [[0.0], [0.0]], [[1.0], [0.0]]), "swapping the ends"),
    (meeting_tracks, track([[0.0], [1.0]], [[3.0], [3.0]], [[1.0], [2.0]]), "LSR"),
    (meeting_tracks, track([[0.0], [1.0]], [[0.5], [1.5]], [[1.0], [2.0]]), "are 1 apart"),
    (meeting_tracks, torch.cat([controls.zigzag(3)] * 2, dim=1), "well apart"),
    (harmless_approach, None, "no matrices yet"),
    (harmless_approach, ["a", "b"], "a matrix must be"),
    (harmless_approach, [torch.eye(2)], "at least two"),
    (harmless_approach, [torch.ones(2, 3), torch.ones(3, 2)], "square"),
    (harmless_approach, [torch.eye(2), 2 * torch.eye(3)], "one size"),
    (harmless_approach, [0.001 * torch.eye(2), 100 * torch.eye(2)], "from the identity by 0.9"),
    (harmless_approach, [0.5 * torch.eye(2), 2 * torch.eye(2)], "keeps 0.5"),
    (harmless_approach, [np.diag([0.001, 1.0]), np.diag([1e3, 1.0])], "keeps 1"),
    (steep_optimal_map, lambda x: x, "let the push"),
    (steep_optimal_map, lambda x: 100 * x, "T(1) must be 1"),
    (steep_optimal_map, lambda x: 1.0 if 0.005 < x < 0.5 else x, "falls near x = 0.4"),
    (steep_optimal_map, lambda x: ..., "returns nothing yet"),
    (steep_optimal_map, 3.0, "must be a function"),
]  # fmt: skip


@pytest.mark.parametrize(("verify", "answer"), RIGHT)
def test_right_answers_pass(verify, answer):
    verdict = verify(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Right: ")


@pytest.mark.parametrize(("verify", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(verify, answer, hint):
    verdict = verify(answer)
    assert not verdict
    assert hint in verdict.message
