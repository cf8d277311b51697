"""The self-checks of the chapter on changing dimension."""

import numpy as np
import pytest
import torch

from geobook.check import dimension as check
from geobook.dimension import pad
from geobook.transport import wasserstein2


def lift(state):
    x, y, _ = state.T
    return torch.stack([0 * x, 0 * x, x**2 + y**2], dim=1)


def lift_by_another(state):
    rise = state[:, :2].abs().sum(dim=1, keepdim=True)
    return torch.cat([torch.zeros_like(state[:, :2]), rise], dim=1)


def lift_in_numpy(state):
    state = np.asarray(state)
    still = np.zeros(len(state))
    return np.stack([still, still, np.hypot(state[:, 0], state[:, 1])], axis=1)


def lift_while_turning(state):
    x, y, _ = state.T
    return torch.stack([-y, x, -((x**2 + y**2) ** 0.5)], dim=1)


def in_the_plane(state):
    return torch.cat([-state[:, :2], torch.zeros_like(state[:, :1])], dim=1)


def torn(state):
    far = state[:, :2].norm(dim=1, keepdim=True) > 0.9
    return torch.cat([torch.zeros_like(state[:, :2]), far.to(state)], dim=1)


def tilted(state):
    return torch.cat([torch.zeros_like(state[:, :2]), state[:, :1]], dim=1)


def axes_of(x, y):
    both = torch.cat([x, y])
    return torch.linalg.svd(both - both.mean(0), full_matrices=False)


def smallest(x, y, share, power=1):
    axes = axes_of(x, y).Vh.T
    whole = wasserstein2(x, y)
    for k in range(1, x.shape[1]):
        if (wasserstein2(x @ axes[:, :k], y @ axes[:, :k]) / whole) ** power >= share:
            return k
    return x.shape[1]


def by_bisection(x, y, share):
    """Written another way: the distances grow with k, and only their coordinates matter."""
    axes = np.linalg.eigh(np.cov(torch.cat([x, y]).numpy().T))[1][:, ::-1].copy()
    low, high = 1, x.shape[1]
    while low < high:
        middle = (low + high) // 2
        kept = wasserstein2(x.numpy() @ axes[:, :middle], y.numpy() @ axes[:, :middle])
        low, high = (low, middle) if kept >= share * wasserstein2(x, y) else (middle + 1, high)
    return np.int64(low)


def by_variance(x, y, share):
    variance = axes_of(x, y).S.square().cumsum(0)
    return int((variance < share * variance[-1]).sum()) + 1


def share_of(d, e, blocks):
    return (2 * d * e + e**2) / (2 * d * e + e**2 + 2 * blocks * e**2)


def steep_ramp(state):
    radius = state[:, :2].norm(dim=1)
    height = ((radius - 1.3) * 500).clamp(0, 1)
    return torch.stack([torch.zeros_like(height), torch.zeros_like(height), height], dim=1)


RIGHT = [
    (check.padding, pad),
    (check.padding, lambda x, size: torch.cat([torch.zeros(len(x), size - x.shape[1]), x], 1)),
    (check.padding, lambda x, size: np.pad(x.numpy(), [(0, 0), (0, size - x.shape[1])])),
    (check.separating_field, lift),
    (check.separating_field, lift_by_another),
    (check.separating_field, lift_in_numpy),
    (check.separating_field, lift_while_turning),
    (check.separating_field, lambda state: 100 * lift(state)),
    (check.separating_field, steep_ramp),
    (check.smallest_dimension, smallest),
    (check.smallest_dimension, by_bisection),
    (check.weights_share, share_of),
    (check.weights_share, lambda d, e, L: 1 / (1 + 2 * L * e / (2 * d + e))),
]

WRONG = [
    (check.padding, lambda x, size: torch.cat([x, x[:, : size - x.shape[1]]], 1), "became"),
    (check.padding, lambda x, size: torch.cat([x, torch.zeros(size - x.shape[1], 3)]), "(12, 5)"),
    (check.padding, lambda x, size: torch.zeros(len(x), size), "became"),
    (check.padding, lambda x, size: "padded", "."),
    (check.padding, lambda x: x, "raised TypeError"),
    (check.padding, 5, "must be a function"),
    (check.separating_field, in_the_plane, "third coordinate"),
    (check.separating_field, torn, "jumps"),
    (check.separating_field, tilted, "no plane"),
    (check.separating_field, lambda state: state[:, :2], "(n, 3)"),
    (check.separating_field, lambda state: state.nonsense, "raised AttributeError"),
    (
        check.separating_field,
        lambda state: 40 * (1 + lift(state)) * state**2,
        "the result must be finite",
    ),
    (check.smallest_dimension, lambda x, y, share: smallest(x, y, share, 2), "root"),
    (check.smallest_dimension, by_variance, "variance"),
    (check.smallest_dimension, lambda x, y, share: 6, "your function gives 6"),
    (check.weights_share, lambda d, e, L: 1 - share_of(d, e, L), "stage's share"),
    (check.weights_share, lambda d, e, L: d / (d + 2 * L * e), "branch"),
    (check.weights_share, lambda d, e, L: (d + e) / (d + e + 2 * L * e), "shortcut"),
    (check.weights_share, lambda d, e, L: (2 * d + e) / (2 * d + e + L * e), "two maps"),
    (check.weights_share, lambda d, e, L: 0.5, "your function gives 0.5"),
]
CHECKS = sorted({verify for verify, _ in RIGHT}, key=lambda verify: verify.__name__)


@pytest.mark.parametrize(("verify", "answer"), RIGHT)
def test_right_answers_pass(verify, answer):
    verdict = verify(answer)
    assert verdict, verdict


@pytest.mark.parametrize(("verify", "answer", "hint"), WRONG)
def test_wrong_answers_get_a_hint(verify, answer, hint):
    verdict = verify(answer)
    assert not verdict
    assert hint in verdict.message


@pytest.mark.parametrize("verify", CHECKS)
def test_blank_answers_are_told_apart(verify):
    assert "returns nothing yet" in verify(lambda *_: None).message
    assert "returns nothing yet" in verify(lambda *_: ...).message


def test_a_distance_within_a_cloud_must_stay_too():
    def mixed_up(x, size):
        return pad(x.flip(0), size)

    verdict = check.padding(mixed_up)
    assert not verdict
    assert "within a cloud" in verdict.message
