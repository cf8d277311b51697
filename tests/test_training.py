import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from geobook import data, networks
from geobook.evaluation import evaluate, settle_norms
from geobook.networks import Architecture, Stage
from geobook.stacks import member_state, stack, stackable
from geobook.training import Diverged, Recipe, Trainer, flushing_denormals, train

SMALL = Architecture("small", (6,), (Stage((6,), 2),), 3)
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=0.1)


def blobs(n=70, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = 2 * torch.eye(6)[:3]
    return centres[labels] + 0.5 * torch.randn(n, 6, generator=generator), labels


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- recipe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight_decay", -1e-3),
        ("weight_decay", math.nan),
        ("learning_rate", 0),
        ("momentum", 1.0),
        ("epochs", 0),
        ("batch_size", 1),
        ("optimizer", "lion"),
        ("schedule", "linear"),
        ("decay_on", "biases"),
        ("seed", -1),
        ("clip", 0.0),
    ],
)
def test_recipe_refuses_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Recipe(**{field: value})


def test_learning_rates():
    cosine = Recipe(learning_rate=2.0, epochs=4, batch_size=10).learning_rates(40)
    assert len(cosine) == 16
    assert cosine[0] == 2.0
    assert cosine[8] == pytest.approx(1.0)
    assert cosine == sorted(cosine, reverse=True)
    step = Recipe(learning_rate=2.0, schedule="step", epochs=8, batch_size=10).learning_rates(10)
    assert step == pytest.approx([2.0] * 4 + [0.2] * 2 + [0.02] * 2)
    assert Recipe(learning_rate=2.0, schedule="constant", epochs=2).learning_rates(5) == [2.0, 2.0]


def test_transition():
    recipe = Recipe(learning_rate=0.1, schedule="constant", epochs=5, batch_size=10, momentum=0.9)
    assert recipe.transition(20) == pytest.approx(0.1 / (0.1 * 10))


# --- training -------------------------------------------------------------------------------------


def test_learns_and_keeps_a_history():
    network = networks.build(SMALL)
    result = train(network, blobs(), replace(RECIPE, epochs=15), test=blobs(seed=1), progress=False)
    history = result.history
    assert result.model is network
    assert not network.training
    assert history["epoch"] == list(range(1, 16))
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 90
    assert history["test_accuracy"][-1] > 90
    assert all(len(scores) == 1 and scores[0] >= 1 for scores in history["lss"] + history["lsr"])
    assert history["learning_rate"][0] > history["learning_rate"][-1] > 0
    last = evaluate(network, blobs(), points=70, ots=False)["stages"][0]
    assert history["lss"][-1][0] == pytest.approx(last["lss"], rel=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    def trained(seed):
        network = networks.build(SMALL)
        train(network, blobs(), replace(RECIPE, seed=seed), progress=False)
        return network

    assert same_weights(trained(0), trained(0))
    assert not same_weights(trained(0), trained(1))


FRESH = """
import torch
from geobook import data, networks
from geobook.training import Recipe, train
torch.set_num_threads(1)
images, labels = data.load("digits", device="cpu")
recipe = Recipe(epochs=2, seed=3, weight_decay=1e-2)
network = networks.build("digits", blocks=2, seed=3)
history = train(network, (images[:300], labels[:300]), recipe, progress=False).history
print([value.hex() for value in history["loss"]], [v[0].hex() for v in history["lss"]])
"""


def test_a_fresh_process_gives_the_same_numbers():
    def printed():
        return subprocess.run(
            [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True
        ).stdout

    first = printed()
    assert "0x1." in first
    assert first == printed()


def reference(network, points, recipe):
    """Train as a reader would write it, with torch's plain optimizer."""
    images, labels = points
    optimizer = torch.optim.SGD(
        network.parameters(), recipe.learning_rate, recipe.momentum,
        weight_decay=recipe.weight_decay, foreach=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(recipe.seed)
    rates = iter(recipe.learning_rates(len(labels)))
    network.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels), generator=generator)
        for k in range(recipe.steps(len(labels))):
            chosen = order[k * recipe.batch_size : (k + 1) * recipe.batch_size]
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def test_is_plain_stochastic_gradient_descent():
    recipe = replace(RECIPE, weight_decay=1e-2)
    network = networks.build(SMALL)
    train(network, blobs(), recipe, progress=False)
    other = reference(networks.build(SMALL), blobs(), recipe)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-6, msg=name)


def test_decay_on_weights_leaves_norms_and_biases_alone():
    # With a learning rate so small that the loss does nothing, only the decay is left.
    recipe = Recipe(
        epochs=1, batch_size=70, learning_rate=1e-4, momentum=0.0, weight_decay=1e3,
        decay_on="weights",
    )  # fmt: skip
    for decay_on, norm_after in (("weights", 1.0), ("all", 0.9)):
        network = networks.build(SMALL)
        before = network.stages[0][0].first.weight.clone()
        train(network, blobs(), replace(recipe, decay_on=decay_on), progress=False)
        block = network.stages[0][0]
        torch.testing.assert_close(block.first.weight, 0.9 * before, rtol=0, atol=1e-2)
        assert block.first_norm.weight.mean().item() == pytest.approx(norm_after, abs=1e-2)


def test_adamw_decays_decoupled():
    recipe = Recipe(
        "adamw", learning_rate=1e-6, epochs=1, batch_size=70, schedule="constant", weight_decay=1e5
    )
    network = networks.build(SMALL)
    before = network.stages[0][0].first.weight.clone()
    train(network, blobs(), recipe, progress=False)
    torch.testing.assert_close(
        network.stages[0][0].first.weight, 0.9 * before, rtol=1e-3, atol=1e-5
    )


def test_clip_bounds_the_step():
    recipe = Recipe(
        epochs=1, batch_size=70, learning_rate=1.0, momentum=0.0, schedule="constant", clip=1e-3
    )
    network = networks.build(SMALL)
    before = [p.detach().clone() for p in network.parameters()]
    train(network, blobs(), recipe, progress=False)
    moved = sum(
        (p.detach() - q).square().sum() for p, q in zip(network.parameters(), before, strict=True)
    )
    assert moved.sqrt().item() == pytest.approx(1e-3, rel=1e-3)


def test_a_leftover_of_one_point_is_no_batch():
    result = train(networks.build(SMALL), blobs(33), replace(RECIPE, epochs=1), progress=False)
    assert len(result.recipe.learning_rates(33)) == 2
    small = train(networks.build(SMALL), blobs(5), replace(RECIPE, epochs=1), progress=False)
    assert math.isfinite(small.history["loss"][0])


def test_any_module_can_be_trained_without_tracks():
    module = nn.Linear(6, 3)
    history = train(module, blobs(), RECIPE, progress=False).history
    assert history["lss"] == [None] * 4
    assert history["loss"][-1] < history["loss"][0]


def test_scores_every_so_many_epochs_and_at_the_end():
    history = train(
        networks.build(SMALL), blobs(), replace(RECIPE, epochs=5), test=blobs(), score_every=2,
        progress=False,
    ).history  # fmt: skip
    assert [value is not None for value in history["lss"]] == [False, True, False, True, True]
    assert [v is not None for v in history["test_accuracy"]] == [False, True, False, True, True]


def test_augmentation_uses_the_data_set():
    digits = data.load("digits", device="cpu").subset(64)
    recipe = Recipe(epochs=1, batch_size=32, augment=True)
    with_crops, without = (
        train(networks.build("digits", blocks=1), digits, r, progress=False).history["loss"]
        for r in (recipe, replace(recipe, augment=False))
    )
    assert with_crops != without
    with pytest.raises(ValueError, match="augment"):
        train(networks.build(SMALL), blobs(), recipe, progress=False)


def test_convolutional_networks_train():
    digits = data.load("digits", device="cpu").subset(64)
    network = networks.build("digits-conv", blocks=1, width=4)
    history = train(network, digits, Recipe(epochs=1, batch_size=32), progress=False).history
    assert history["lss"][0][0] >= 1


def test_diverging_says_where_and_what_to_try():
    network = networks.build(SMALL.changed(norm="none"))
    recipe = replace(RECIPE, learning_rate=1e30, schedule="constant")
    with pytest.raises(Diverged, match=r"epoch \d, step \d of 4, at learning rate 1e\+30; try"):
        train(network, blobs(), recipe, progress=False)


def test_weights_that_overflow_in_the_last_step_are_noticed():
    network = networks.build(SMALL.changed(norm="none"))
    recipe = Recipe(epochs=1, batch_size=70, learning_rate=3e38, schedule="constant", momentum=0.0)
    recipe = replace(recipe, weight_decay=1e3)
    with pytest.raises(Diverged, match="the weights became infinite in epoch 1, step 1"):
        train(network, blobs(), recipe, progress=False)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(3, 6), "data must be a Dataset or a pair"),
        ((torch.zeros(3, 6), torch.zeros(2, dtype=torch.int64)), "as many labels"),
        ((torch.zeros(1, 6), torch.zeros(1, dtype=torch.int64)), "at least 2"),
        ((torch.zeros(3, 6), torch.zeros(3)), "int64"),
    ],
)
def test_bad_data_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        train(networks.build(SMALL), points, RECIPE, progress=False)


def test_data_that_are_no_tensors_are_refused():
    with pytest.raises(TypeError, match="data must hold tensors; its images are list"):
        train(networks.build(SMALL), ([[1.0]], torch.zeros(1)), RECIPE, progress=False)


def test_denormals_are_flushed_inside_only():
    def flushed():
        return (torch.full((1,), 1e-40) * 1.0 == 0).item()

    before = flushed()
    with flushing_denormals():
        assert flushed() or not torch.set_flush_denormal(True)
    assert flushed() == before


# --- stopping and resuming ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path, optimizer):
    recipe = Recipe(optimizer, learning_rate=0.01, epochs=6, batch_size=16, weight_decay=1e-2)
    whole = train(networks.build(SMALL), blobs(), recipe, test=blobs(seed=1), progress=False)
    file = tmp_path / "run" / "checkpoint.pt"
    kwargs = {"test": blobs(seed=1), "checkpoint": file, "progress": False}
    stopped = train(
        networks.build(SMALL), blobs(), recipe, on_epoch=lambda epoch, *_: epoch < 2, **kwargs
    )
    assert stopped.history["epoch"] == [1, 2]
    resumed = train(networks.build(SMALL, seed=9), blobs(), recipe, **kwargs)
    assert same_weights(whole.model, resumed.model)
    assert whole.history == resumed.history
    done = train(networks.build(SMALL), blobs(), recipe, **kwargs)
    assert same_weights(whole.model, done.model)
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.pt"]


def test_augmented_training_resumes_too(tmp_path):
    digits = data.load("digits", device="cpu").subset(64)
    recipe = Recipe(epochs=2, batch_size=32, augment=True)
    whole = train(networks.build("digits", blocks=1), digits, recipe, progress=False)
    kwargs = {"checkpoint": tmp_path / "c.pt", "progress": False}
    train(
        networks.build("digits", blocks=1), digits, recipe, on_epoch=lambda *_: False, **kwargs
    )  # fmt: skip
    resumed = train(networks.build("digits", blocks=1), digits, recipe, **kwargs)
    assert same_weights(whole.model, resumed.model)


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    file = tmp_path / "c.pt"
    train(networks.build(SMALL), blobs(), RECIPE, checkpoint=file, progress=False)
    cases = {
        "recipe": (networks.build(SMALL), blobs(), replace(RECIPE, seed=1)),
        "network": (networks.build(SMALL, residual=False), blobs(), RECIPE),
        "data set": (networks.build(SMALL), blobs(seed=5), RECIPE),
    }
    for part, arguments in cases.items():
        with pytest.raises(ValueError, match=f"c.pt belongs to another {part}"):
            train(*arguments, checkpoint=file, progress=False)


def test_a_damaged_checkpoint_is_named(tmp_path):
    file = tmp_path / "c.pt"
    train(networks.build(SMALL), blobs(), RECIPE, checkpoint=file, progress=False)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"c\.pt is damaged"):
        train(networks.build(SMALL), blobs(), RECIPE, checkpoint=file, progress=False)


def test_on_epoch_sees_every_epoch():
    seen = []
    train(
        networks.build(SMALL), blobs(), RECIPE, progress=True,
        on_epoch=lambda epoch, history, model: seen.append((epoch, len(history["loss"]))),
    )  # fmt: skip
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]


# --- stacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", ["none", "inner", "both"])
@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "adamw"}, {"decay_on": "weights"}, {"clip": 0.3}]
)
def test_a_member_of_a_stack_equals_the_same_run_alone(residual, norm, changes):
    if changes.get("optimizer") == "adamw" and not residual and norm != "none":
        # Parameters before a batch norm then have gradients that are nothing but rounding, which
        # Adam scales up to full steps: such a run has no outcome to compare.
        norm, changes = "none", {**changes, "decay_on": "weights"}
    stages = (Stage((6,), 2, hidden=5), Stage((4,), 1))
    shape = Architecture("two stages", (7,), stages, 3, norm=norm)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 7, generator=generator), torch.arange(60) % 3
    base = Recipe(epochs=3, batch_size=16, learning_rate=0.01, **changes)
    recipes = [
        replace(base, weight_decay=decay, seed=seed)
        for decay, seed in ((0.0, 0), (0.1, 0), (0.02, 1))
    ]
    members = [networks.build(shape, residual=residual, seed=recipe.seed) for recipe in recipes]
    wide = stack(members)
    trainer = Trainer(wide, points, recipes, test=points)
    for _ in range(base.epochs):
        trainer.run_epoch()
    for k, (member, recipe) in enumerate(zip(members, recipes, strict=True)):
        history = train(member, points, recipe, test=points, progress=False).history
        for key, values in history.items():
            torch.testing.assert_close(
                torch.tensor(values), torch.tensor(trainer.histories[k][key]), rtol=1e-4, atol=1e-5
            )
        taken = member_state(wide, k, 3)
        for name, value in member.state_dict().items():
            torch.testing.assert_close(taken[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_stack_computes_what_its_members_do():
    members = [networks.build(SMALL, seed=seed) for seed in range(3)]
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    wide = stack(members).eval()
    for k, member in enumerate(members):
        torch.testing.assert_close(wide(x.repeat(1, 3))[:, 3 * k : 3 * k + 3], member.eval()(x))


def test_a_diverging_member_does_not_touch_the_others():
    shape = SMALL.changed(norm="none")
    recipes = [replace(RECIPE, weight_decay=decay) for decay in (0.0, 1e12)]
    trainer = Trainer(stack([networks.build(shape)] * 2), blobs(), recipes)
    for _ in range(RECIPE.epochs):
        trainer.run_epoch()
    assert trainer.diverged[0] is None
    assert "training diverged" in trainer.diverged[1]
    alone = train(networks.build(shape), blobs(), recipes[0], progress=False).history
    assert trainer.histories[0]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert len(trainer.histories[1]["loss"]) < RECIPE.epochs


def test_stacks_of_unlike_networks_are_refused():
    with pytest.raises(ValueError, match="same architecture"):
        stack([networks.build(SMALL), networks.build(SMALL, residual=False)])
    with pytest.raises(ValueError, match="at least one"):
        stack([])
    with pytest.raises(ValueError, match="convolutional"):
        stack([networks.build("digits-conv", width=2)])


def test_what_is_stacked():
    assert stackable(networks.architecture("digits"))
    assert not stackable(networks.architecture("mnist"))
    assert stackable(networks.architecture("mnist"), "cuda")
    assert not stackable(networks.architecture("digits-conv"), "cuda")


# --- evaluation -----------------------------------------------------------------------------------


def test_evaluate_measures_everything():
    network = networks.build(SMALL)
    train(network, blobs(), replace(RECIPE, epochs=10), progress=False)
    scores = evaluate(network, blobs())
    stage = scores["stages"][0]
    assert scores["accuracy"] > 80
    assert not scores["dead"]
    assert scores["points"] == 70
    assert 0 <= stage["ots_low"] <= stage["ots"] <= stage["ots_high"] <= 1
    assert stage["excess_cost"] >= 0
    assert stage["wasserstein2"] > 0
    assert stage["output_variance"] > 0
    assert sum(stage["segment_proportions"]) == pytest.approx(1)
    assert evaluate(network, blobs(), points=20, ots=False)["stages"][0]["ots"] is None


def test_an_identity_network_is_straight_and_optimal():
    network = networks.build(SMALL.changed(norm="none"))
    with torch.no_grad():
        for block in network.stages[0]:
            block.second.weight.zero_()
    stage = evaluate(network, blobs())["stages"][0]
    assert stage["lsr"] == stage["lss"] == 1
    assert stage["ots"] == 1
    assert stage["wasserstein2"] == 0
    images, _ = blobs()
    assert stage["output_variance"] == pytest.approx(images.var(0, unbiased=False).sum().item())


def test_a_dead_network_is_called_dead():
    network = networks.build(SMALL.changed(norm="none"), residual=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    scores = evaluate(network, blobs())
    assert scores["dead"]
    assert scores["stages"][0]["output_variance"] == 0
    assert scores["stages"][0]["ots"] is None
    assert scores["accuracy"] < 40


def test_settled_norms_normalise():
    images, _ = blobs()
    network = settle_norms(networks.build(SMALL), images)
    assert network.training
    norm = network.stages[0][0].first_norm
    hidden = network.stages[0][0].first(images)
    torch.testing.assert_close(norm.running_mean, hidden.mean(0).detach())
    torch.testing.assert_close(norm.running_var, hidden.var(0).detach())
    assert norm.momentum == 0.1


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 2, 11]), "below the 10 classes"),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 2, -1]), "from 0 on"),
        (torch.full((4, 1, 8, 8), torch.nan), torch.tensor([0, 1, 2, 3]), "finite images"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.int64), torch.tensor([0, 1, 2, 3]), "floating-point"),
    ],
)
def test_data_that_would_ruin_a_network_are_refused_before_a_step(images, labels, message):
    network = networks.build("digits", blocks=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        train(network, (images, labels), Recipe(epochs=1), progress=False)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [("m", None, "model must"), (networks.build("digits", blocks=1), {}, "a Recipe")],
)
def test_what_is_no_network_or_no_recipe_is_named(model, recipe, message):
    with pytest.raises(TypeError, match=message):
        train(model, (torch.zeros(4, 1, 8, 8), torch.arange(4)), recipe, progress=False)


def test_a_model_without_parameters_is_named():
    with pytest.raises(ValueError, match="model must have parameters"):
        train(torch.nn.Flatten(), (torch.zeros(4, 10), torch.arange(4)), progress=False)


def test_augment_is_a_switch():
    with pytest.raises(ValueError, match="augment must be True or False, not 'yes'"):
        Recipe(augment="yes")
