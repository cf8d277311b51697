"""Noise, attacks and replaced units: known answers, and the network left as it was."""

import copy
import math

import pytest
import torch
from torch import nn

from geobook import build, data, measurements, robustness, training
from geobook.alignment import procrustes
from geobook.evaluation import settle_norms
from geobook.robustness import (
    accuracy_curve,
    fgsm,
    linear_radius,
    margins,
    pgd,
    random_noise,
    replace_units,
    strongest,
    variation_rate,
)
from geobook.tracks import record_tracks


def points(n=40, seed=0, shape=(1, 8, 8)):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=draw), torch.randint(10, (n,), generator=draw)


def network(residual=True, norm="both", **how):
    model = build("digits", residual=residual, norm=norm, blocks=3, seed=1, **how)
    return settle_norms(model, points(200, seed=5)[0]).eval()


def loss_of(model, x, labels):
    return nn.functional.cross_entropy(model(x).double(), labels, reduction="none").detach()


class Linear(nn.Module):
    """Logits (w.x, 0): everything is known."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        first = x.flatten(1) @ self.weight
        return torch.stack([first, torch.zeros_like(first)], dim=1)


# --- perturbations --------------------------------------------------------------------------------


def test_noise_has_the_strength_it_says():
    x = torch.zeros(50, 1, 20, 20)
    noise = random_noise(x, 0.3, seed=1)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert noise.mean().abs() < 0.01
    assert torch.equal(noise, random_noise(x, 0.3, seed=1))
    assert not torch.equal(noise, random_noise(x, 0.3, seed=2))
    assert torch.equal(random_noise(x, 0.6, seed=1), 2 * noise)
    scaled = random_noise(x, 0.3, scaled=True)
    torch.testing.assert_close(scaled.flatten(1).norm(dim=1), torch.full((50,), 0.3))
    clamped = random_noise(x, 5.0, clamp=(-1.0, torch.tensor([[[2.0]]])))
    assert (clamped.min(), clamped.max()) == (-1, 2)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("loss", robustness.LOSSES)
def test_fgsm_goes_where_finite_differences_say(residual, loss):
    model = network(residual, norm="none").double()
    x, labels = points(3)
    x = x.double()
    moved = fgsm(model, x, labels, 0.1, loss=loss)

    def value(z):
        logits = model(z).detach()
        if loss == "cross-entropy":
            return nn.functional.cross_entropy(logits, labels, reduction="none")
        right = logits.gather(1, labels[:, None])[:, 0]
        return logits.scatter(1, labels[:, None], -math.inf).amax(1) - right

    for place in range(0, 64, 3):
        shift = torch.zeros(64, dtype=torch.float64)
        shift[place] = 1e-6
        shift = shift.view(1, 8, 8)
        slope = (value(x + shift) - value(x - shift)) / 2e-6
        clear = slope.abs() > 1e-6
        assert clear.any()
        step = (moved - x).flatten(1)[:, place]
        torch.testing.assert_close(step[clear], 0.1 * slope.sign()[clear])


def test_attacks_of_a_linear_network_are_known():
    model = Linear([3.0, -4.0, 0.0])
    x, labels = torch.tensor([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]]), torch.tensor([0, 1])
    wanted = x + 0.5 * torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0]])
    torch.testing.assert_close(fgsm(model, x, labels, 0.5), wanted)
    torch.testing.assert_close(margins(model, x, labels), torch.tensor([6.0, 8.0]).double())
    for attack in (pgd, strongest):
        found = attack(model, x, labels, 0.5)
        torch.testing.assert_close(found[:, :2], wanted[:, :2], atol=1e-6, rtol=0)
    radius = linear_radius(model, x, labels)
    torch.testing.assert_close(radius, torch.tensor([6 / 7, 8 / 7]).double())
    torch.testing.assert_close(
        linear_radius(model, x, labels, "euclidean"), torch.tensor([6 / 5, 8 / 5]).double()
    )
    for strength, right in ((0.99 * 6 / 7, 100), (1.01 * 6 / 7, 50), (1.01 * 8 / 7, 0)):
        for attack in ("fgsm", "pgd", "strongest"):
            assert accuracy_curve(model, (x, labels), [strength], attack) == [right]


def test_no_network_is_too_sure_for_fgsm():
    model = network(norm="none").double()
    x, labels = points(20)
    x = x.double()
    moved = fgsm(model, x, labels, 0.1)
    for factor in (1e2, 1e4):
        with torch.no_grad():
            for parameter in model.head[-1].parameters():
                parameter.mul_(factor)
        # the classes' order is kept, so where one wrong class leads by far nothing may change
        sure = fgsm(model, x, labels, 0.1, loss="margin")
        torch.testing.assert_close(fgsm(model, x, labels, 0.1), sure)
    assert (moved != sure).double().mean() < 0.3
    inputs = x.clone().requires_grad_()
    nn.functional.cross_entropy(model(inputs), model(x).argmax(1), reduction="sum").backward()
    assert float(inputs.grad.abs().max()) == 0  # what automatic differentiation is left with


@pytest.mark.parametrize("attack", [fgsm, pgd, strongest])
@pytest.mark.parametrize("strength", [0.0, 0.05, 0.3])
def test_attacks_stay_in_the_box_and_in_the_range_of_the_data(attack, strength):
    model = network()
    x, labels = points()
    x = x.clamp(-1, 1.5)
    moved = attack(model, x, labels, strength)
    assert (moved - x).abs().max() <= strength + 1e-6
    clamped = attack(model, x, labels, strength, clamp=(-1.0, 1.5))
    assert clamped.min() >= -1
    assert clamped.max() <= 1.5
    assert (clamped - x).abs().max() <= strength + 1e-6


def test_pgd_is_never_worse_than_fgsm_nor_than_nothing():
    for seed, residual in ((0, True), (1, False)):
        model = network(residual)
        x, labels = points(seed=seed)
        for strength in (0.1, 1.0):
            reached = loss_of(model, pgd(model, x, labels, strength, steps=5), labels)
            assert (reached >= loss_of(model, fgsm(model, x, labels, strength), labels)).all()
            assert (reached >= loss_of(model, x, labels)).all()
            more = loss_of(model, pgd(model, x, labels, strength, steps=5, starts=4), labels)
            assert (more >= reached).all()
    assert (reached > loss_of(model, x, labels)).all()


def test_random_starts_are_seeded():
    model, (x, labels) = network(), points()
    one, two, other = (pgd(model, x, labels, 0.5, steps=2, starts=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_smoothed_gradients_see_beyond_a_plateau():
    class Plateau(Linear):
        """A ramp in the first coordinate, from 0.05 to 0.15: no slope where the points are."""

        def forward(self, x):
            height = self.weight[0] * (0.5 - (1.5 - 10 * x[:, 0]).clamp(0, 1))
            return torch.stack([-height, height], dim=1)

    points_and_labels = torch.tensor([[0.3, 0.0], [0.25, 1.0]]), torch.tensor([1, 1])
    for smoothing, right in ((0.0, 100), (1.0, 0)):
        how = {"starts": 1, "loss": "margin", "smoothing": smoothing, "samples": 16}
        assert accuracy_curve(Plateau([1.0]), points_and_labels, [0.3], "pgd", **how) == [right]


def test_strongest_is_at_least_as_strong_as_its_parts():
    model = network(False)
    x, labels = points()
    worst = margins(model, strongest(model, x, labels, 0.3), labels)
    assert (worst <= margins(model, pgd(model, x, labels, 0.3), labels)).all()
    assert (worst <= margins(model, x, labels)).all()


# --- what they do ---------------------------------------------------------------------------------


def test_accuracy_curve_without_strength_is_the_accuracy():
    model, (x, labels) = network(), points(200)
    right = float((model(x).argmax(1) == labels).double().mean() * 100)
    assert 0 < right < 100
    # nothing moves, so every draw and every attack finds the clean points
    for attack in ("noise", "fgsm", "pgd", "strongest"):
        assert accuracy_curve(model, (x, labels), [0.0], attack) == pytest.approx([right])
    assert accuracy_curve(model, (x, labels), [0.0, 0.0], of_right=True) == [100, 100]
    falling = accuracy_curve(model, (x, labels), [0.0, 0.3, 3.0], "pgd")
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 0


def test_variation_rate_of_nothing_is_zero_and_of_everything_is_known():
    model, (x, _) = network(), points()
    assert variation_rate(model, x, x).tolist() == [0, 0, 0, 0]
    linear = network(norm="none", bias=False)
    rates = variation_rate(linear, x, 1.5 * x)
    # without biases the network is positively homogeneous
    torch.testing.assert_close(rates, torch.full((4,), 0.5).double(), atol=1e-5, rtol=0)
    spread = variation_rate(model, x, x + 1, relative_to="spread")
    wide = x.flatten(1).var(0, unbiased=False).sum().sqrt()
    assert spread[0] == pytest.approx(8 / float(wide), rel=1e-5)
    named = variation_rate(model, x, x + 1, blocks=model.block_names()[0])
    torch.testing.assert_close(named, variation_rate(model, x, x + 1))


def test_variation_of_a_state_of_norm_zero_is_infinite():
    model = network()
    x = torch.zeros(2, 1, 8, 8)
    moved = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    assert variation_rate(model, x, moved)[0] == math.inf


# --- units ----------------------------------------------------------------------------------------


def accuracy_without(model, block, x, labels):
    shorter = copy.deepcopy(model)
    del shorter.stages[0][block]
    return float((shorter(x).argmax(1) == labels).double().mean() * 100)


@pytest.mark.parametrize("residual", [True, False])
def test_replacing_all_units_is_the_network_without_the_block(residual):
    model, data, (x, _) = network(residual), points(100), points(300, seed=1)
    test = x, model(x).argmax(1)
    found = replace_units(model, data, test, units=(0, 64))
    assert found.by_layer[:, 0].tolist() == pytest.approx([100, 100, 100])
    for block in range(3):
        removed = accuracy_without(model, block, *test)
        assert float(found.by_layer[block, 1]) == pytest.approx(removed)
        assert removed < 99


def test_units_are_replaced_class_by_class_in_the_order_of_their_means():
    model, (x, labels) = network(), points(80)
    track = record_tracks(model, x)[0]
    right = []
    for own in range(10):
        mine = labels == own
        order = track[2][mine].mean(0).argsort(descending=True)[:5]
        state = track[2][mine].clone()
        state[:, order] = track[1][mine][:, order]
        logits = model.head(model.stages[0][2](state))
        right.append(float((logits.argmax(1) == own).double().mean() * 100))
    found = replace_units(model, (x, labels), units=(5,))
    assert found.right[1, 0].tolist() == pytest.approx(right)
    assert found.points.tolist() == torch.bincount(labels).tolist()
    mean = (found.right[1, 0] * found.points).sum() / 80
    assert float(found.by_layer[1, 0]) == pytest.approx(float(mean))
    assert found.curve[0] == pytest.approx(float(found.by_layer.mean()))


def test_fills_of_all_units_are_known():
    model, data = network(False), points(120)
    track = record_tracks(model, data[0])[0]

    def after(state, layer):
        for block in model.stages[0][layer:]:
            state = block(state)
        return model.head(state).argmax(1)

    means = torch.stack([track[1][data[1] == own].mean(0) for own in range(10)])
    for fill, state in (
        ("zero", torch.zeros_like(track[1])),
        ("mean", track[1].mean(0).expand_as(track[1])),
        ("class mean", means[data[1]]),
    ):
        wanted = float((after(state, 1) == data[1]).double().mean() * 100)
        found = replace_units(model, data, units=(64,), fill=fill)
        assert float(found.by_layer[0, 0]) == pytest.approx(wanted)


@pytest.mark.parametrize("fill", ["aligned", "permuted"])
def test_alignment_undoes_a_change_of_coordinates(fill):
    """A block that only turns its states loses nothing when its units are aligned ones."""
    draw = torch.Generator().manual_seed(3)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=draw)).Q
    if fill == "permuted":
        signs = torch.tensor([1.0, -1, 1, -1, 1, 1])
        turn = torch.eye(6)[torch.randperm(6, generator=draw)] * signs
    block = nn.Linear(6, 6)
    block.weight.data, block.bias.data = turn, torch.arange(6.0)
    head = nn.Linear(6, 10)
    head.weight.data = torch.randn(10, 6, generator=draw)
    model = nn.Sequential(block, head)
    x, _ = points(200, shape=(6,))
    labels = model(x).argmax(1)
    aligned = replace_units(model, (x, labels), units=(3, 6), fill=fill, blocks=["0"])
    assert aligned.by_layer.tolist() == [pytest.approx([100, 100], abs=1)]
    before = replace_units(model, (x, labels), units=(3, 6), blocks=["0"])
    assert before.by_layer.max() < 90


def test_alignment_is_replacement_in_another_network_of_the_same_function():
    model, (x, _) = network(False, norm="none"), points(300)
    labels = model(x).argmax(1)
    track = record_tracks(model, x)[0]
    turn = procrustes(track[2], track[1], centred=True).float()
    shift = track[2].mean(0) - turn @ track[1].mean(0)
    other = copy.deepcopy(model)
    ahead, behind = other.stages[0][0].second, other.stages[0][1].first
    with torch.no_grad():
        ahead.weight.copy_(turn @ ahead.weight)
        ahead.bias.copy_(turn @ ahead.bias + shift)
        behind.weight.copy_(behind.weight @ turn.T)
        behind.bias.sub_(behind.weight @ shift)
    torch.testing.assert_close(other(x), model(x), atol=1e-3, rtol=1e-3)
    units = (0, 8, 32, 64)
    own = replace_units(other, (x, labels), units=units).by_layer[1]
    aligned = replace_units(model, (x, labels), units=units, fill="aligned").by_layer[1]
    torch.testing.assert_close(own, aligned, atol=1.0, rtol=0)
    before = replace_units(model, (x, labels), units=units).by_layer[1]
    assert float((before - aligned).abs().max()) > 5


def test_channels_of_convolutions_are_units():
    model = settle_norms(build("digits-conv", blocks=2, seed=0), points(100)[0])
    data = points(60)
    for fill in robustness.FILLS:
        found = replace_units(model, data, units=(0, 16), fill=fill)
        assert found.right.shape == (2, 2, 10)
    before = replace_units(model, data, units=(16,))
    assert float(before.by_layer[1, 0]) == pytest.approx(accuracy_without(model, 1, *data))


def test_random_and_magnitude_orders_differ_from_the_usual_one():
    model, data = network(False), points(300)
    curves = {order: replace_units(model, data, units=(8,), order=order).right
              for order in robustness.ORDERS}  # fmt: skip
    assert len({str(curve.tolist()) for curve in curves.values()}) == 3
    again = replace_units(model, data, units=(8,), order="random", seed=0).right
    assert torch.equal(again, curves["random"])


# --- leaving no trace -----------------------------------------------------------------------------


def everything(model, x, labels):
    random_noise(x, 0.1)
    fgsm(model, x, labels, 0.1)
    strongest(model, x, labels, 0.1)
    margins(model, x, labels)
    linear_radius(model, x, labels)
    accuracy_curve(model, (x, labels), [0.1], "pgd")
    variation_rate(model, x, x + 0.1)
    replace_units(model, (x, labels), units=(4,))


def state_of(model):
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    gradients = [parameter.grad for parameter in model.parameters()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    return modes, hooks, gradients, flags, buffers


def assert_untouched(before, after):
    assert before[:4] == after[:4]
    assert all(torch.equal(a, b) for a, b in zip(before[4], after[4], strict=True))


def test_the_network_stays_as_it_was():
    model, (x, labels) = network(), points()
    model.train()
    model.stages[0][1].eval()
    next(model.parameters()).requires_grad_(False)
    before = state_of(model)
    everything(model, x, labels)
    with torch.no_grad():  # gradients are wanted even where the caller switched them off
        fgsm(model, x, labels, 0.1)
    assert_untouched(before, state_of(model))


@pytest.mark.parametrize(
    "action",
    [
        lambda m, x, y: fgsm(m, x, y, 0.1),
        lambda m, x, y: pgd(m, x, y, 0.1),
        lambda m, x, y: accuracy_curve(m, (x, y), [0.1], "fgsm"),
        lambda m, x, y: replace_units(m, (x, y), units=(4,), blocks=m.block_names()[0]),
        lambda m, x, y: variation_rate(m, x, x),
    ],
)
def test_the_network_stays_as_it_was_after_an_error(action):
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("on purpose")

    model, (x, labels) = network(), points()
    model.train()
    model.stages[0][1].first_norm = Fails()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        action(model, x, labels)
    assert_untouched(before, state_of(model))


def test_hooks_are_removed_after_an_error_behind_the_block():
    class Fails(nn.Module):
        calls = 0

        def forward(self, x):
            Fails.calls += 1
            if Fails.calls > 1:
                raise RuntimeError("on purpose")
            return x

    model, (x, labels) = network(), points()
    model.head = nn.Sequential(model.head, Fails())
    before = state_of(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        replace_units(model, (x, labels), units=(4, 8))
    assert_untouched(before, state_of(model))


# --- what is published ----------------------------------------------------------------------------


def test_robustness_measures_of_a_trained_network_and_of_one_that_knows_nothing():
    train = data.load("digits", device="cpu")
    network = build("digits", blocks=1, width=16)
    assert measurements.robustness_measures(settle_norms(network, train.images), train) == {}
    training.train(network, train, training.Recipe(epochs=3), score_points=0, progress=False)
    found = measurements.robustness_measures(network, train)
    assert len(found["noise"]) == len(found["noise_right"]) == len(measurements.NOISE)
    for attack in ("fgsm", "pgd", "strongest"):
        assert len(found[attack]) == len(measurements.STRENGTHS)
        assert found[attack] == sorted(found[attack], reverse=True)
    assert found["strongest"][0] <= found["pgd"][0] <= found["fgsm"][0] + 1
    assert found["pgd"][1] <= found["clamped"]
    assert set(found["units"]) == {"before", "aligned", "mean", "zero"}
    for curve in (*found["units"].values(), found["units_random"]):
        assert len(curve) == len(measurements.UNIT_SHARES)
        assert curve[0] == pytest.approx(found["units_random"][0])
    assert found["units_random"][-1] == pytest.approx(found["units"]["before"][-1])
    for name in ("variation_noise", "variation_fgsm_spread"):
        assert len(found[name]) == 2
    assert found["margin"] > 0
    assert found["radius"] > 0
    with pytest.raises(TypeError, match="points must be a geobook Dataset"):
        measurements.robustness_measures(network, (train.images, train.labels))


# --- bad input ------------------------------------------------------------------------------------


def test_bad_input_is_named():
    model, (x, labels) = network(), points()
    for call, message in (
        (lambda: fgsm(model, x, labels, -0.1), "strength must be"),
        (lambda: fgsm(model, x, labels, 0.1, loss="hinge"), "loss must be one of"),
        (lambda: fgsm(model, x, labels[:3], 0.1), "x and labels must hold"),
        (lambda: pgd(model, x, labels, 0.1, steps=0), "steps must be"),
        (lambda: pgd(model, x, labels, 0.1, starts=0), "starts must be"),
        (lambda: random_noise(x, math.nan), "strength must be"),
        (lambda: accuracy_curve(model, (x, labels), [0.1], "magic"), "attack must be one of"),
        (lambda: variation_rate(model, x, x[:3]), "perturbed must have the shape of x"),
        (lambda: variation_rate(model, x, x, relative_to="mean"), "relative_to must be one of"),
        (lambda: replace_units(model, (x, labels), fill="noise"), "fill must be one of"),
        (lambda: replace_units(model, (x, labels), order="best"), "order must be one of"),
        (lambda: replace_units(model, (x, labels), units=(65,)), "units must be numbers up to 64"),
        (lambda: replace_units(model, (x, labels), stage=1), "stage must be one of"),
        (lambda: replace_units(nn.Linear(2, 2), (x, labels)), "blocks must name"),
        (lambda: linear_radius(model, x, labels, "city"), "norm must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_infinite_gradients_are_refused():
    class Root(Linear):
        def forward(self, x):
            return super().forward(x).abs().sqrt()

    with pytest.raises(ValueError, match="finite gradients"):
        fgsm(Root([1.0]), torch.zeros(2, 1), torch.tensor([0, 1]), 0.1)
