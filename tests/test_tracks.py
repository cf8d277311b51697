"""Tracks: recorded by our networks and through hooks; their scores against known answers."""

from contextlib import nullcontext
from importlib.util import find_spec
from math import pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

import geobook.memory
import geobook.tracks
from geobook.networks import build
from geobook.tracks import (
    line_shape_ratio,
    line_shape_score,
    record_tracks,
    segment_lengths,
    segment_proportions,
)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def planar(*corners):
    """The track of one point through the given places of the plane, or line."""
    return torch.tensor(corners, dtype=torch.float64)[:, None, :]


# --- scores: known answers ------------------------------------------------------------------------


def test_a_straight_track_of_equal_steps_scores_one():
    start, step = randn(50, 7, seed=1), randn(50, 7, seed=2)
    track = torch.stack([start + layer * step for layer in range(6)])
    assert line_shape_ratio(track) == pytest.approx(1, abs=1e-6)
    assert line_shape_score(track) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(segment_proportions(track), torch.full((5,), 0.2))


def test_uneven_steps_on_a_line_are_straight_but_not_equal():
    track = planar((0.0, 0.0), (1.0, 1.0), (4.0, 4.0))
    assert line_shape_ratio(track) == pytest.approx(1)
    assert line_shape_score(track) == pytest.approx(1)
    torch.testing.assert_close(segment_proportions(track), torch.tensor([0.25, 0.75]).double())


def test_a_right_angle_by_hand():
    track = planar((0.0, 0.0), (3.0, 0.0), (3.0, 4.0))
    torch.testing.assert_close(segment_lengths(track), torch.tensor([[3.0], [4.0]]).double())
    assert line_shape_ratio(track) == pytest.approx(7 / 5)
    assert line_shape_score(track) == pytest.approx(2 / sqrt(2))


def test_a_zigzag_of_right_angles():
    corners = [(float((i + 1) // 2), float(i // 2)) for i in range(9)]
    assert line_shape_ratio(planar(*corners)) == pytest.approx(sqrt(2))
    assert line_shape_score(planar(*corners)) == pytest.approx(sqrt(2))


def test_a_half_circle_in_small_steps_tends_to_half_pi():
    angle = torch.linspace(0, pi, 2001, dtype=torch.float64)
    track = torch.stack([angle.cos(), angle.sin()], 1)[:, None]
    assert line_shape_ratio(track) == pytest.approx(pi / 2, rel=1e-6)
    assert line_shape_score(track) == pytest.approx(pi / 2, rel=1e-6)


@pytest.mark.parametrize("layers", [4, 16])
def test_chance_gives_l_for_independent_states_and_root_l_for_independent_steps(layers):
    states = nn.functional.normalize(randn(layers + 1, 200, 4000), dim=2)
    # Steps x^l - x^{l-1} of independent unit vectors telescope: ||x^L - x^0|| = ||x^l - x^{l-1}||.
    assert line_shape_score(states) == pytest.approx(layers, rel=0.02)
    assert line_shape_ratio(states) == pytest.approx(layers, rel=0.02)
    assert line_shape_score(states.cumsum(0)) == pytest.approx(sqrt(layers), rel=0.02)
    assert line_shape_ratio(states.cumsum(0)) == pytest.approx(sqrt(layers), rel=0.02)


# --- scores: degenerate tracks --------------------------------------------------------------------


def test_a_point_that_never_moves_scores_one_with_equal_shares():
    track = randn(1, 3, 5).expand(4, 3, 5)
    assert line_shape_ratio(track) == 1
    assert line_shape_score(track) == 1
    assert not segment_lengths(track).any()
    torch.testing.assert_close(segment_proportions(track, "none"), torch.full((3, 3), 1 / 3))


def test_rounding_is_no_movement():
    start = randn(1, 3, 5) + 100
    noise = 1e-7 * randn(4, 3, 5, seed=3)
    track = start.double() + noise.double()
    assert line_shape_score(track.float()) == 1
    assert line_shape_score(track) > 1


def test_zero_segments_are_not_counted():
    pause = planar((0.0, 0.0), (3.0, 0.0), (3.0, 0.0), (3.0, 4.0))
    assert line_shape_score(pause) == pytest.approx(2 / sqrt(2))
    assert line_shape_ratio(pause) == pytest.approx(7 / 5)
    shares = segment_proportions(pause)
    torch.testing.assert_close(shares, torch.tensor([3 / 7, 0, 4 / 7]).double())


def test_a_track_that_comes_back_is_infinitely_long_for_its_reach():
    square = planar((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0))
    assert line_shape_ratio(square) == float("inf")
    assert line_shape_score(square) == float("inf")
    triangle = planar((0.0, 0.0), (3.0, 0.0), (3.0, 4.0), (0.0, 0.0))
    assert line_shape_ratio(triangle) == float("inf")
    # Its unit steps (1, 0), (0, 1), (-.6, -.8) do not cancel.
    assert line_shape_score(triangle) == pytest.approx(3 / sqrt(0.4**2 + 0.2**2))


def test_one_closed_track_makes_the_mean_infinite_and_no_other_point():
    track = torch.cat([planar((0.0,), (1.0,), (0.0,)), planar((0.0,), (1.0,), (2.0,))], 1)
    assert line_shape_ratio(track, "none").tolist() == [float("inf"), 1.0]
    assert line_shape_ratio(track) == float("inf")


FINITE = st.floats(-10, 10, width=32)
TRACKS = arrays(
    np.float64, array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6), elements=FINITE
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(TRACKS)
def test_scores_are_at_least_one_and_never_nan(track):
    for score in (line_shape_ratio, line_shape_score):
        values = score(track, "none")
        assert values.shape == (track.shape[1],)
        assert bool((values >= 1).all())
    shares = segment_proportions(track, "none")
    assert bool((shares >= 0).all())
    torch.testing.assert_close(shares.sum(0), torch.ones(track.shape[1]).double())


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(1e-3, 1e3), st.floats(-5, 5, width=16))
def test_scores_ignore_rotation_scale_and_translation(seed, layers, scale, shift):
    track = randn(layers + 1, 6, 4, seed=seed, dtype=torch.float64)
    rotation = torch.linalg.qr(randn(4, 4, seed=seed + 1, dtype=torch.float64)).Q
    moved = scale * (track @ rotation + shift)
    for score in (line_shape_ratio, line_shape_score, segment_proportions):
        torch.testing.assert_close(score(moved, "none"), score(track, "none"), rtol=1e-6, atol=1e-9)


def test_the_mean_is_that_of_the_points():
    track = randn(5, 9, 2, 3)
    for score in (line_shape_ratio, line_shape_score):
        each = score(track, "none")
        assert each.dtype == torch.float32
        assert score(track) == pytest.approx(float(each.mean()), rel=1e-6)
    each = segment_proportions(track, "none")
    torch.testing.assert_close(segment_proportions(track), each.mean(1))


def test_chunks_change_nothing(monkeypatch):
    track = randn(5, 23, 7)
    scores = (segment_lengths, lambda t: line_shape_ratio(t, "none"), segment_proportions)
    whole = [score(track) for score in scores]
    monkeypatch.setattr(geobook.tracks, "_VALUES_AT_ONCE", 80)
    for before, score in zip(whole, scores, strict=True):
        assert torch.equal(score(track), before)


def test_scores_take_arrays_and_half_precision():
    track = randn(4, 5, 3)
    assert line_shape_ratio(track.numpy()) == line_shape_ratio(track)
    assert line_shape_ratio(track.bfloat16()) == pytest.approx(line_shape_ratio(track), rel=0.05)


@pytest.mark.parametrize(
    ("track", "message"),
    [
        (torch.zeros(1, 3, 2), "at least two layers, not 1"),
        (torch.zeros(3, 2), r"shape \(layers, points, ...\)"),
        (torch.zeros(3, 0, 2), "at least one point"),
        (torch.full((3, 2, 2), float("nan")), "finite, but 12 of its 12"),
    ],
)
@pytest.mark.parametrize(
    "score", [segment_lengths, line_shape_ratio, line_shape_score, segment_proportions]
)
def test_bad_tracks_are_refused(score, track, message):
    with pytest.raises(ValueError, match=message):
        score(track)


@pytest.mark.parametrize("score", [line_shape_ratio, line_shape_score, segment_proportions])
def test_bad_reductions_are_refused(score):
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'none', not 'sum'"):
        score(torch.zeros(2, 1, 1), "sum")


# --- recording ------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("name", "changes", "shapes"),
    [
        ("digits", {"blocks": 3}, [(4, 7, 64)]),
        ("digits-conv", {"blocks": 2, "width": 4}, [(3, 7, 4, 8, 8)]),
        (
            "cifar10-k4",
            {"blocks": 2, "width": 2},
            [(3, 7, 2, 32, 32), (3, 7, 4, 16, 16), (3, 7, 8, 8, 8), (3, 7, 16, 4, 4)],
        ),
    ],
)
def test_network_tracks_are_its_states_whichever_way_recorded(name, changes, shapes, residual):
    # In double precision, where the batch size does not matter to the rounding.
    network = build(name, residual=residual, **changes).eval().double()
    x = randn(7, *network.architecture.input_shape, dtype=torch.float64)
    tracks = record_tracks(network, x, batch_size=3)
    assert [tuple(track.shape) for track in tracks] == shapes
    assert all(track.dtype == torch.float32 for track in tracks)
    with torch.no_grad():
        states = list(network.states(x))
        last = network.head(states[-1][1])
    for stage, track in enumerate(tracks):
        mine = torch.stack([state for k, state in states if k == stage])
        torch.testing.assert_close(track, mine.float())
    torch.testing.assert_close(last, network(x).detach())
    hooked = record_tracks(network, x, network.block_names(), batch_size=3)
    assert all(torch.equal(a, b) for a, b in zip(hooked, tracks, strict=True))


def test_arrays_and_other_dtypes_are_brought_to_the_model():
    network = build("digits", blocks=2).double()
    x = randn(4, 64)
    (track,) = record_tracks(network, x.numpy())
    assert track.dtype == torch.float32
    torch.testing.assert_close(track[0], x)
    assert torch.equal(
        record_tracks(network, torch.ones(4, 64, dtype=torch.int64))[0][0], x * 0 + 1
    )


class Doubling(nn.Module):
    """Adds a weight and doubles: easy to follow by hand."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return 2 * x + self.shift


class Chain(nn.Module):
    """Two stages of blocks with a change of dimension between, and batch norm to disturb."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.first = nn.ModuleList([Doubling(), Doubling()])
        self.change = nn.Linear(3, 2)
        self.second = nn.ModuleList([Doubling()])
        self.unused = Doubling()

    def forward(self, x):
        x = self.norm(x)
        for block in self.first:
            x = block(x)
        x = self.change(x)
        for block in self.second:
            x = block(x)
        return x.sum()


def test_hooks_follow_the_blocks_of_any_module():
    model = Chain().eval()
    x = randn(5, 3)
    one, two = record_tracks(model, x, [["first.0", "first.1"], ["second.0"]], batch_size=2)
    start = model.norm(x)
    torch.testing.assert_close(one, torch.stack([start, 2 * start + 1, 4 * start + 3]))
    changed = model.change(4 * start + 3)
    torch.testing.assert_close(two, torch.stack([changed, 2 * changed + 1]))
    (flat,) = record_tracks(model, x, ["first.0", "first.1"])
    assert torch.equal(flat, one)


def hooks_of(model):
    return [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (["first.0"], nullcontext()),
        (["first.1", "first.0"], pytest.raises(ValueError, match="order in which they run")),
    ],
)
def test_model_is_left_as_it_was_also_after_an_error(blocks, expected):
    model = Chain()
    model.norm.eval()
    x = randn(6, 3)
    model(x).backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [m.training for m in model.modules()]
    x.requires_grad_()
    with expected:
        (track,) = record_tracks(model, x, blocks)
        assert not track.requires_grad
    assert not hooks_of(model)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(after, gradients, strict=True))
    assert x.grad is None


def test_a_failing_model_is_left_as_it_was():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Doubling()

        def forward(self, x):
            self.block(x)
            raise RuntimeError("broken")

    model = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        record_tracks(model, randn(2, 3), ["block"])
    assert model.training
    assert not hooks_of(model)


def test_states_are_kept_before_the_next_block_overwrites_them():
    model = nn.Sequential(Doubling(), nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    x = -torch.ones(2, 3)
    (track,) = record_tracks(model, x, ["0", "1", "2"])
    torch.testing.assert_close(track[:, 0, 0], torch.tensor([-1.0, -1.0, 0.0, 0.0]))


def test_tuples_give_their_first_tensor_and_keywords_count_as_arguments():
    class Pair(nn.Module):
        def forward(self, *, scale, state):
            return scale * state, "more"

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(scale=3, state=x)[0]

    (track,) = record_tracks(Model(), torch.ones(2, 3), ["pair"])
    assert track[:, 0, 0].tolist() == [1.0, 3.0]


def test_integers_reach_a_module_of_tokens():
    model = nn.Sequential(nn.Embedding(9, 4), Doubling())
    tokens = torch.tensor([[1, 2], [3, 4]])
    (track,) = record_tracks(model, tokens, ["1"])
    torch.testing.assert_close(track[0], model[0](tokens).detach())


class Branching(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.a, self.b = Doubling(), Doubling()
        self.wider = nn.Linear(3, 4)
        self.words = nn.Identity()
        self.outer = nn.Sequential(Doubling())

    def forward(self, x):
        if self.how == "twice":
            return self.a(self.a(x))
        if self.how == "gap":
            return self.b(self.a(x) + 1)
        if self.how == "grown":
            return self.b(self.a(x)[:, :2])
        if self.how == "wider":
            return self.wider(x)
        if self.how == "points":
            return self.a(x.repeat(2, 1))
        if self.how == "words":
            return self.words("x")
        if self.how == "outer":
            return self.outer(x)
        return self.b(x)


@pytest.mark.parametrize(
    ("how", "blocks", "message"),
    [
        ("twice", ["a"], "'a' ran twice"),
        ("gap", ["a", "b"], "'b' does not take what 'a' left"),
        ("grown", ["a", "b"], "'b' does not take what 'a' left"),
        ("wider", ["wider"], r"'wider' turns \(3,\) into \(4,\)"),
        ("points", ["a"], r"here \(2, ...\), but it takes \(4, 3\)"),
        ("words", ["words"], "but it takes NoneType"),
        ("outer", ["outer", "outer.0"], "'outer.0' ran before 'outer' was done"),
        ("only b", ["b", "a"], "'a' did not"),
        ("only b", ["a", "b"], "'b' ran before 'a' was done"),
        ("", ["c"], "name modules of the model .*'a'.* not 'c'"),
        ("", [""], "name modules of the model"),
        ("", ["a", "a"], "different modules, but 'a' is 'a' again"),
        ("", [], "a list of names"),
        ("", "a", "a list of names"),
        ("", [["a"], []], "a list of names"),
        ("", [["a"], "b"], "a list of names"),
        ("", [["a"], [1]], "a list of names"),
        ("", None, "blocks must name the blocks to record"),
    ],
)
def test_blocks_that_make_no_track_are_refused(how, blocks, message):
    model = Branching(how)
    with pytest.raises(ValueError, match=message):
        record_tracks(model, randn(2, 3), blocks)
    assert not hooks_of(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(5), {}, r"x must have shape \(points, ...\)"),
        (torch.zeros(0, 64), {}, "at least one point"),
        (torch.full((2, 64), float("inf")), {}, "x must be finite"),
        (torch.zeros(2, 63), {}, r"x must have shape \(points, 1, 8, 8\), not \(2, 63\)"),
        (torch.zeros(2, 64), {"batch_size": 0}, "batch_size must be a whole number"),
        (torch.zeros(2, 64), {"store": "warp"}, "device must be one that this machine has"),
    ],
)
def test_bad_inputs_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        record_tracks(build("digits", blocks=1), x, **options)


def test_tracks_that_do_not_fit_are_refused_beforehand(monkeypatch):
    monkeypatch.setattr(geobook.memory, "available", lambda device: 4 * 2 * 100 * 64 - 1)
    network = build("digits", blocks=1)
    with pytest.raises(MemoryError, match=r"100 points through stage 1 needs 0\.0 GB"):
        record_tracks(network, torch.zeros(100, 64))
    assert len(record_tracks(network, torch.zeros(99, 64))) == 1


def test_something_else_than_a_module_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, not function"):
        record_tracks(randn, torch.zeros(2, 3))


@pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")
def test_stages_of_a_torchvision_resnet():
    from geobook import _torchvision

    _torchvision.datasets()
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    stages = [["layer1.0", "layer1.1"], ["layer2.1"], ["layer4.1"]]
    tracks = record_tracks(model, randn(3, 3, 32, 32), stages, batch_size=2)
    shapes = [tuple(track.shape) for track in tracks]
    assert shapes == [(3, 3, 64, 8, 8), (2, 3, 128, 4, 4), (2, 3, 512, 1, 1)]
    assert all(line_shape_score(track) >= 1 for track in tracks)
    with pytest.raises(ValueError, match=r"'layer2.0' turns \(64, 8, 8\) into \(128, 4, 4\)"):
        record_tracks(model, randn(1, 3, 32, 32), ["layer2.0", "layer2.1"])
    assert not hooks_of(model)
