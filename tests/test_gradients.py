"""The two errors of a gradient step against finite differences and hand calculations."""

import copy

import pytest
import torch
from torch.nn import functional

import geobook
from geobook import gradients

DIGITS = geobook.data.load("digits")
FEW = DIGITS.subset(24)
EXACT = FEW.images.double(), FEW.labels


def network(residual, norm="none", blocks=3):
    built = geobook.build("digits", residual=residual, norm=norm, blocks=blocks, branch_gain=0.5)
    return geobook.evaluation.settle_norms(built, DIGITS.images).double().eval()


def test_a_step_on_a_linear_map_does_what_the_formula_says():
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, 7, 4, generator=generator, dtype=torch.float64)
    layer = torch.nn.Linear(4, 4).double()
    before = layer(x)
    before.backward(g)
    with torch.no_grad():
        layer.weight -= 0.3 * layer.weight.grad
        layer.bias -= 0.3 * layer.bias.grad
    found = gradients.linear_step_change(x, g, bias=True)
    assert torch.allclose((layer(x) - before) / 0.3, found)
    plain = gradients.linear_step_change(x, g)
    assert torch.allclose(plain, found + g.sum(0))
    with pytest.raises(ValueError, match="one row for each of 7"):
        gradients.linear_step_change(x, g[:3])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["none", "both"])
def test_step_effects_against_a_finite_step(residual, norm):
    model = network(residual, norm)
    effects = gradients.step_effects(model, EXACT)
    states, slopes = gradients.state_gradients(model, EXACT)
    assert len(effects) == len(slopes) == len(states) - 1 == 3
    for block, effect in enumerate(effects):
        stepped, rate = copy.deepcopy(model), 1e-9
        loss = functional.cross_entropy(stepped(EXACT[0]), EXACT[1])
        parameters = list(stepped.stages[0][block].parameters())
        slope = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, along in zip(parameters, slope, strict=True):
                parameter -= rate * along
            moved = stepped.stages[0][block](states[block])
        change = (moved - states[block + 1]) / rate
        assert (change - effect.change).norm() < 1e-3 * effect.change.norm()
        assert torch.equal(effect.wanted, -slopes[block])
        # What the loss loses by the step is the squared gradient, whichever way one computes it.
        fall = float((effect.change * effect.wanted).sum())
        assert fall == pytest.approx(float(sum(s.square().sum() for s in slope)), rel=1e-6)
        assert effect.alignment > 0
        assert float(effect.own_cosines.min()) > -1e-9
        assert torch.allclose(effect.own + effect.cross, effect.change)


def test_the_second_map_alone_follows_the_formula_of_the_paper():
    model = network(False)
    states, slopes = gradients.state_gradients(model, EXACT)
    block = copy.deepcopy(model.stages[0][1])
    for parameter in block.first.parameters():
        parameter.requires_grad_(False)
    hidden = torch.relu(block.first(states[1]))
    formula = gradients.linear_step_change(hidden, slopes[1], bias=True)
    outputs = block(states[1])
    outputs.backward(slopes[1])
    with torch.no_grad():
        block.second.weight -= block.second.weight.grad
        block.second.bias -= block.second.bias.grad
        assert torch.allclose(block(states[1]) - outputs, formula, atol=1e-9)


def test_one_point_alone_has_no_cross_talk():
    model = network(True)
    alone = EXACT[0][:2], EXACT[1][:2]
    x = torch.cat([alone[0][:1], alone[0][:1]])
    twins = gradients.step_effects(model, (x, alone[1][:1].repeat(2)))
    assert torch.allclose(twins[0].own, twins[0].cross)
    assert twins[0].cross_talk == pytest.approx(1.0)


@pytest.mark.parametrize("norm", ["none", "both"])
def test_together_is_the_step_of_sgd(norm):
    start = network(True, norm).float()
    moved = gradients.gradient_step(start, FEW, 0.01)
    by_hand = copy.deepcopy(start).train()
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.01)
    functional.cross_entropy(by_hand(FEW.images), FEW.labels).backward()
    optimizer.step()
    for a, b in zip(moved.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(a, b)
    assert gradients.update_difference(start, moved, by_hand)[0] < 1e-3


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_the_difference_of_the_updates_is_of_first_order_in_the_rate(order):
    start = network(True)
    relative = []
    for rate in (2e-5, 1e-5):
        moved = gradients.gradient_step(start, EXACT, rate)
        other = gradients.gradient_step(start, EXACT, rate, order)
        difference, cosine = gradients.update_difference(start, moved, other)
        relative.append(difference)
        assert cosine > 0.99
    assert relative[0] / relative[1] == pytest.approx(2, rel=0.05)


def test_the_first_updated_block_is_the_same_in_both_orders():
    start = network(False, "both").float()
    moved = {order: gradients.gradient_step(start, FEW, 0.1, order) for order in gradients.ORDERS}
    first = [moved[order].stages[0][0].first.weight for order in ("together", "forward")]
    assert torch.allclose(*first)
    heads = [moved[order].head[1].weight for order in ("together", "backward")]
    assert torch.allclose(*heads)
    assert not torch.allclose(moved["forward"].head[1].weight, heads[0])


def test_descend_lowers_the_loss_and_leaves_the_start_alone():
    start = network(True, "both").float()
    before = copy.deepcopy(start.state_dict())
    _, losses = gradients.descend(start, FEW, 0.01, 5)
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_cosines_of_tiny_gradients_are_cosines():
    a = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    effect = gradients.StepEffect(1e-200 * a, 1e-200 * a, torch.ones_like(a) * 1e-180)
    assert effect.cosines.tolist() == pytest.approx([0.5**0.5, 1.0, 0.0])
    assert effect.cross_talk == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="order must be one of"):
        gradients.gradient_step(network(True), EXACT, 0.1, "sideways")
    with pytest.raises(ValueError, match="rate must be"):
        gradients.gradient_step(network(True), EXACT, -0.1)
    with pytest.raises(ValueError, match="fully connected"):
        gradients.step_effects(geobook.build("digits-conv", blocks=1), FEW)
