"""Ridge regression of a layer against known answers, and the amplification of blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from geobook import measurements
from geobook.alignment import turned
from geobook.evaluation import settle_norms
from geobook.networks import Architecture, Stage, build
from geobook.ridge import amplification, layer_data, ridge_layer

SMALL = Architecture("small", (6,), (Stage((6,), 3, hidden=9),), 3)


def normal(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def images(n=40):
    return normal(n, 6, seed=5).float(), torch.arange(n) % 3


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 4), st.floats(1e-3, 1e3),
       st.integers(0, 99))  # fmt: skip
def test_agrees_with_least_squares_on_the_augmented_system(n, d, m, decay, seed):
    x, y = normal(n, d, seed=seed), normal(n, m, seed=seed + 100)
    inputs = np.vstack([x.numpy(), math.sqrt(decay) * np.eye(d)])
    targets = np.vstack([y.numpy(), np.zeros((d, m))])
    wanted = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    assert np.allclose(ridge_layer(x, y, decay).weight.numpy(), wanted, atol=1e-9)


def test_without_penalty_it_is_the_least_norm_solution():
    x, y = normal(4, 7), normal(4, 2, seed=1)
    fit = ridge_layer(x, y, 0)
    assert torch.allclose(fit.weight, torch.linalg.pinv(x).mul(1.0).matmul(y).T, atol=1e-9)
    assert fit.error < 1e-18
    assert fit.condition == math.inf
    assert fit.degrees_of_freedom == pytest.approx(4)


def test_what_the_fit_says_of_itself():
    x, y = normal(30, 5), normal(30, 2, seed=1)
    fit = ridge_layer(x, y, 3.0)
    gram = x.T @ x + 3 * torch.eye(5).double()
    assert fit.condition == pytest.approx(float(torch.linalg.cond(gram)))
    solve = torch.linalg.solve(gram, x.T)
    assert fit.sensitivity == pytest.approx(float(torch.linalg.matrix_norm(solve, 2)))
    assert fit.degrees_of_freedom == pytest.approx(float((x @ solve).trace()))
    assert fit.error == pytest.approx(float((x @ fit.weight.T - y).square().sum()))
    assert fit.sensitivity <= 0.5 / math.sqrt(3)
    assert ridge_layer(x, y, 300.0).condition < fit.condition


def test_ridge_refuses():
    with pytest.raises(ValueError, match="equally many points"):
        ridge_layer(normal(3, 2), normal(4, 2), 1.0)
    with pytest.raises(ValueError, match="weight_decay must be"):
        ridge_layer(normal(3, 2), normal(3, 2), -1.0)


@pytest.mark.parametrize("norm", ["none", "both"])
@pytest.mark.parametrize("second", [False, True])
def test_layer_data_holds_the_gradient_of_the_matrix(norm, second):
    network = settle_norms(build(SMALL, norm=norm), images()[0]).train()
    found = layer_data(network, images(), 1, second=second)
    assert network.training
    block = network.stages[0][1]
    linear = block.second if second else block.first
    functional.cross_entropy(network.eval()(images()[0]), images()[1]).backward()
    slope = linear.weight.grad.double()
    assert torch.allclose(found.gradients.T @ found.inputs, slope, atol=1e-6)
    step = found.gradient_step(0.1, 0.2)
    assert torch.allclose(step, -0.1 * (slope + 0.2 * linear.weight.detach()), atol=1e-6)
    bias = 0 if linear.bias is None else linear.bias.detach()
    assert torch.allclose(found.outputs - bias, found.inputs @ found.weight.T, atol=1e-5)


def test_a_ridge_step_is_a_preconditioned_gradient_step():
    found = layer_data(build(SMALL, norm="none", residual=False), images(), 0)
    rate, decay = 0.3, 2.0
    gram = found.inputs.T @ found.inputs + rate * decay * torch.eye(9).double()
    wanted = found.gradient_step(rate, decay) @ torch.linalg.inv(gram)
    assert torch.allclose(found.ridge_step(rate, decay), wanted, atol=1e-9)


def test_layer_data_refuses():
    with pytest.raises(ValueError, match="block must be below 3"):
        layer_data(build(SMALL), images(), 3)
    with pytest.raises(ValueError, match="fully connected"):
        layer_data(build("digits-conv"), images(), 0)


@pytest.mark.parametrize("residual", [False, True])
def test_amplification_of_linear_blocks_is_known(residual):
    network = build(SMALL, norm="none", residual=residual, bias=False)
    eye = torch.eye(6)[:4]
    with torch.no_grad():
        for factor, block in zip((2.0, 0.5, 3.0), network.stages[0], strict=True):
            block.first.weight.zero_()
            block.second.weight.zero_()
            block.first.weight[:8] = torch.cat([eye, -eye])
            block.second.weight[:, :8] = factor * torch.cat([eye.T, -eye.T], dim=1)
    found = amplification(network, images()[0])
    own = torch.tensor([2.0, 0.5, 3.0]).double() + residual
    assert torch.allclose(found.blocks, own)
    assert found.whole == pytest.approx(float(own.prod()))
    assert found.product == pytest.approx(float(own.prod()))
    assert (found.bounds >= found.blocks - 1e-9).all()
    assert found.relative == pytest.approx(found.whole * float(found.spreads[0] / found.spreads[3]))


@pytest.mark.parametrize("norm", ["none", "both"])
@pytest.mark.parametrize("residual", [False, True])
def test_amplifications_are_ordered_and_see_no_turn(norm, residual):
    network = settle_norms(build(SMALL, norm=norm, residual=residual), images()[0])
    found = amplification(network, images()[0], points=30)
    assert float(found.bounds.prod()) >= found.product >= found.whole > 0
    other = amplification(turned(network, 1), images()[0], points=30)
    assert other.whole == pytest.approx(found.whole, rel=1e-4)
    assert torch.allclose(other.bounds, found.bounds, rtol=1e-4)


def test_amplification_agrees_with_finite_differences():
    network = settle_norms(build(SMALL, norm="both"), images()[0]).eval().double()
    x = images()[0].double()[:1]
    found = amplification(network, x)
    steps = []
    for axis in range(6):
        nudge = torch.zeros(1, 6).double()
        nudge[0, axis] = 1e-6
        ends = [list(network.states(x + sign * nudge))[-1][1] for sign in (1, -1)]
        steps.append((ends[0] - ends[1]).detach()[0] / 2e-6)
    jacobian = torch.stack(steps, dim=1)
    assert found.whole == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2)), rel=1e-3)


def test_amplification_refuses_convolutions():
    with pytest.raises(ValueError, match="fully connected"):
        amplification(build("digits-conv"), torch.zeros(3, 1, 8, 8))


def test_what_the_experiment_keeps():
    found = measurements.layer_measures(build(SMALL, norm="none"), images())
    assert found["bound"] == pytest.approx(math.prod(found["bounds"]))
    assert found["worst_block"] == max(found["block_norms"])
    assert len(found["spreads"]) == 4
