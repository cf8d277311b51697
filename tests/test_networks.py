"""Networks: Table 1's shapes, counted parameters, and the switch as the only difference."""

import pytest
import torch
from torch import nn

from geobook.networks import (
    ARCHITECTURES,
    NORMS,
    Architecture,
    Block,
    Stage,
    architecture,
    build,
    describe,
    rows,
)

# The paper's Table 1, typed by hand: input, (shape, blocks) of every stage, classes.
TABLE_1 = {
    "mnist": ((1, 28, 28), [((1000,), 5)], 10),
    "cifar10-k1": ((3, 32, 32), [((32, 16, 16), 10)], 10),
    "cifar10-k4": (
        (3, 32, 32),
        [((64, 32, 32), 5), ((128, 16, 16), 5), ((256, 8, 8), 5), ((512, 4, 4), 5)],
        10,
    ),
    "cifar100-k1": ((3, 32, 32), [((32, 16, 16), 10)], 100),
    "cifar100-k4": (
        (3, 32, 32),
        [((64, 32, 32), 5), ((128, 16, 16), 5), ((256, 8, 8), 5), ((512, 4, 4), 5)],
        100,
    ),
}
# Every kind of network, small: the changes that make it quick to build and run.
SMALL = {
    "digits": {"blocks": 3, "width": 8},
    "plane": {"blocks": 2},
    "digits-conv": {"blocks": 2, "width": 3},
    "mnist": {"blocks": 2, "width": 12},
    "fashion-mnist": {"blocks": 2, "width": 12},
    "cifar10-k1": {"blocks": 2, "width": 2},
    "cifar10-k4": {"blocks": 2, "width": 2},
    "cifar100-k1": {"blocks": 2, "width": 2},
    "cifar100-k4": {"blocks": 1, "width": 2},
}
EVERY_NORM = pytest.mark.parametrize("norm", NORMS)
EVERY_NAME = pytest.mark.parametrize("name", ARCHITECTURES)


def inputs(network, n=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *network.architecture.input_shape, generator=generator)


# --- Table 1 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE_1)
def test_architectures_are_those_of_table_1(name):
    shape, stages, classes = TABLE_1[name]
    found = architecture(name)
    assert found.input_shape == shape
    assert [(stage.shape, stage.blocks) for stage in found.stages] == stages
    assert found.classes == classes
    assert found.convolutional == name.startswith("cifar")


def test_small_changes_cover_every_architecture():
    assert set(SMALL) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["cifar10-k4", "cifar10-k1", "digits-conv", "digits", "mnist"])
def test_states_have_the_shapes_of_the_stages(name):
    network = build(name, **SMALL[name]).eval()
    seen = [(k, tuple(state.shape[1:])) for k, state in network.states(inputs(network))]
    stages = network.architecture.stages
    expected = [(k, s.shape) for k, s in enumerate(stages) for _ in range(s.blocks + 1)]
    assert seen == expected
    assert network(inputs(network)).shape == (4, network.architecture.classes)


# Counted by hand: linear maps without bias where a norm follows, two numbers a channel and norm.
PARTS = {
    "digits": [0, 0, 5 * (2 * 64 * 64 + 4 * 64), 64 * 10 + 10],
    "mnist": [0, 784 * 1000 + 2000, 5 * (2 * 1000 * 1000 + 4000), 10_010],
    "cifar10-k1": [0, 9 * 3 * 32 + 64, 10 * (2 * 9 * 32 * 32 + 128), 330],
    "cifar100-k4": [
        0, 1856, 369_920, 229_888, 1_477_120, 918_528, 5_903_360, 3_672_064, 23_603_200, 51_300,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parameters_are_counted(name):
    assert [row.parameters for row in rows(name)] == PARTS[name]


@EVERY_NORM
@EVERY_NAME
def test_rows_count_what_build_builds(name, norm):
    changes = {**SMALL[name], "norm": norm}
    network = build(name, **changes)
    total = sum(parameter.numel() for parameter in network.parameters())
    assert sum(row.parameters for row in rows(name, **changes)) == total


def test_describe_prints_the_table():
    lines = describe("cifar10-k1").splitlines()
    assert [line.split() for line in lines] == [
        ["part", "shape", "blocks", "parameters"],
        ["input", "3x32x32", "0"],
        ["transition", "f_0", "32x16x16", "928"],
        ["stage", "T_1", "32x16x16", "10", "185,600"],
        ["head", "10", "330"],
        ["total", "186,858"],
    ]
    assert len({len(line) for line in lines}) == 1


# --- the switch -----------------------------------------------------------------------------------


@EVERY_NORM
@EVERY_NAME
def test_the_switch_is_the_only_difference(name, norm):
    plain, residual = (
        build(name, residual=on, seed=5, norm=norm, **SMALL[name]) for on in (False, True)
    )
    mine, other = plain.state_dict(), residual.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[key], other[key]) for key in mine)
    assert plain.block_names() == residual.block_names()
    for key, module in plain.named_modules():
        assert type(module) is type(residual.get_submodule(key))
    x = inputs(plain) if plain.architecture.convolutional else inputs(plain).flatten(1)
    for k, (before, after) in enumerate(zip(plain.transitions, residual.transitions, strict=True)):
        x = before(x)
        # Transitions are the same in both; so are the heads, below.
        assert type(before) is type(after)
        for one, two in zip(plain.stages[k], residual.stages[k], strict=True):
            torch.testing.assert_close(two(x), x + one(x))
            assert not torch.equal(two(x), one(x))
        torch.testing.assert_close(two.branch(x), one(x))
    torch.testing.assert_close(plain.head(x), residual.head(x))


@EVERY_NORM
def test_a_plain_network_runs_with_a_residual_ones_weights_once_switched(norm):
    plain = build("digits-conv", residual=False, seed=1, norm=norm, **SMALL["digits-conv"]).eval()
    residual = build("digits-conv", residual=True, seed=2, norm=norm, **SMALL["digits-conv"]).eval()
    residual.load_state_dict(plain.state_dict())
    x = inputs(plain)
    assert not torch.allclose(plain(x), residual(x))
    for stage in residual.stages:
        for block in stage:
            block.residual = False
    torch.testing.assert_close(plain(x), residual(x))


def test_a_block_by_hand():
    block = Block(Stage((2,), 1, hidden=3), residual=True, norm="none", bias=False)
    first = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    second = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    block.load_state_dict({"first.weight": first, "second.weight": second})
    x = torch.tensor([[2.0, -1.0], [-1.0, -2.0]])
    # relu(W1 x) = (2, 0, 0) and (0, 0, 3)
    torch.testing.assert_close(block.branch(x), torch.tensor([[2.0, 0.0], [6.0, 0.0]]))
    torch.testing.assert_close(block(x), torch.tensor([[4.0, -1.0], [5.0, -2.0]]))


@pytest.mark.parametrize(
    ("norm", "norms", "biases"), [("none", 0, 2), ("inner", 1, 1), ("both", 2, 0)]
)
@pytest.mark.parametrize("shape", [(4,), (4, 2, 2)])
def test_norms_stand_where_they_are_asked_for(norm, norms, biases, shape):
    block = Block(Stage(shape, 1), residual=True, norm=norm)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert sum(isinstance(module, kinds) for module in block.modules()) == norms
    linear = [m for m in block.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert [m.bias is not None for m in linear].count(True) == biases
    unbiased = Block(Stage(shape, 1), residual=True, norm=norm, bias=False)
    assert not any(name.endswith("first.bias") for name, _ in unbiased.named_parameters())


# --- weights --------------------------------------------------------------------------------------


@EVERY_NAME
def test_weights_follow_the_seed_alone(name):
    torch.manual_seed(1)
    one = build(name, seed=3, **SMALL[name]).state_dict()
    torch.manual_seed(2)
    same = build(name, seed=3, **SMALL[name]).state_dict()
    other = build(name, seed=4, **SMALL[name]).state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["stages.0.0.first.weight"], other["stages.0.0.first.weight"])


def test_building_draws_nothing_from_the_global_generator():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    build("digits")
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_he_normal():
    network = build("digits", width=400, blocks=1, norm="none", branch_gain=0.5)
    block = network.requires_grad_(False).stages[0][0]
    assert float(block.first.weight.std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert float(block.second.weight.std()) == pytest.approx(0.5 * (2 / 400) ** 0.5, rel=0.02)
    assert float(network.head[-1].weight.std()) == pytest.approx((1 / 400) ** 0.5, rel=0.05)
    assert not block.first.bias.any()
    conv = build("digits-conv", width=40, blocks=1).requires_grad_(False).stages[0][0]
    assert float(conv.first.weight.std()) == pytest.approx((2 / 360) ** 0.5, rel=0.02)
    assert float(conv.first_norm.running_var.min()) == 1
    assert not conv.first_norm.running_mean.any()


def test_a_network_goes_to_its_device_and_learns():
    network = build("digits", device="cpu", **SMALL["digits"])
    loss = network(inputs(network)).square().sum()
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


# --- changes --------------------------------------------------------------------------------------


def test_width_keeps_the_ratio_of_the_stages():
    changed = architecture("cifar10-k4", width=16, blocks=2, norm="none")
    assert [stage.shape for stage in changed.stages] == [
        (16, 32, 32), (32, 16, 16), (64, 8, 8), (128, 4, 4),
    ]  # fmt: skip
    assert {stage.blocks for stage in changed.stages} == {2}
    assert changed.norm == "none"
    assert ARCHITECTURES["cifar10-k4"].norm == "both"


def test_a_stem_stands_only_where_the_dimension_changes():
    assert isinstance(build("digits").transitions[0], nn.Identity)
    assert isinstance(build("digits", width=32).transitions[0], nn.Sequential)
    own = Architecture("own", (3, 4, 4), (Stage((3, 4, 4), 1),), 2)
    assert isinstance(build(own).transitions[0], nn.Identity)


def test_an_architecture_of_ones_own():
    own = Architecture("own", (6,), (Stage((8,), 2, hidden=5), Stage((4,), 1)), 3)
    network = build(own, residual=False)
    assert network(torch.randn(2, 6)).shape == (2, 3)
    assert network.stages[0][1].first.weight.shape == (5, 8)
    assert [k for k, _ in network.states(torch.randn(2, 6))] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 8, 8), (5, 64)])
@pytest.mark.parametrize("name", ["digits", "digits-conv"])
def test_inputs_may_be_flat_or_without_their_one_channel(name, shape):
    network = build(name, **SMALL[name]).eval()
    x = inputs(network, 5)
    torch.testing.assert_close(network(x.reshape(shape)), network(x))


@pytest.mark.parametrize("shape", [(64,), (5, 63), (5, 16, 16, 3), (5, 3, 16, 17), (5, 1, 16, 48)])
def test_inputs_of_another_shape_are_refused(shape):
    own = Architecture("own", (3, 16, 16), (Stage((2, 8, 8), 1),), 2)
    with pytest.raises(ValueError, match=r"x must have shape \(points, 3, 16, 16\), not \(") as e:
        build(own)(torch.zeros(shape))
    assert str(shape) in str(e.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"which": "alexnet"},
            "architecture must be an Architecture or one of digits, .*'alexnet'",
        ),
        ({"which": 3}, "architecture must be an Architecture or one of"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1, not 0"),
        ({"blocks": 1.5}, "blocks must be a whole number of at least 1, not 1.5"),
        ({"width": -4}, "width must be a whole number of at least 1, not -4"),
        ({"norm": "layer"}, "norm must be one of 'none', 'inner', 'both', not 'layer'"),
        ({"head": "pool"}, "head must be 'linear' for fully connected stages"),
        ({"head": "mlp"}, "head must be one of 'linear', 'pool', not 'mlp'"),
        ({"classes": 1}, "classes must be a whole number of at least 2, not 1"),
        ({"branch_gain": 0}, "branch_gain must be a finite number above 0, not 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"stages": ()}, "stages must hold at least one Stage"),
        ({"input_shape": (8, 8)}, r"input_shape must be \(width,\) or \(channels, height, width\)"),
    ],
)
def test_bad_architectures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**{"which": "digits", **arguments})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Stage((8, 8), 1), r"shape must be \(width,\) or"),
        (lambda: Stage([8], 1), r"shape must be \(width,\) or"),
        (lambda: Stage((0,), 1), "shape must be a whole number"),
        (lambda: Stage((8,), 1, hidden=0), "hidden must be a whole number"),
        (
            lambda: Architecture("x", (3, 8, 8), (Stage((4,), 1), Stage((4, 2, 2), 1)), 2),
            "stages must be all fully connected or all convolutional",
        ),
        (
            lambda: Architecture("x", (64,), (Stage((4, 2, 2), 1),), 2),
            r"input_shape must be \(channels, height, width\)",
        ),
        (
            lambda: build(Architecture("x", (3, 8, 8), (Stage((4, 3, 3), 1),), 2)),
            r"one whole factor, not \(3, 8, 8\) to \(4, 3, 3\)",
        ),
        (
            lambda: build(Architecture("x", (3, 8, 8), (Stage((4, 4, 2), 1),), 2)),
            "one whole factor",
        ),
        (
            lambda: build(Architecture("x", (3, 8, 8), (Stage((4, 16, 16), 1),), 2)),
            "one whole factor",
        ),
    ],
)
def test_bad_stages_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("residual", ["plain", 1, None])
def test_the_switch_takes_true_or_false_only(residual):
    with pytest.raises(ValueError, match="residual must be True or False"):
        build("digits", residual=residual)


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_an_unknown_device_is_named(device):
    with pytest.raises(ValueError, match="device must be one that this machine has"):
        build("digits", device=device)


def test_an_unknown_change_is_named():
    with pytest.raises(ValueError, match="no foo"):
        build("digits", foo=1)
