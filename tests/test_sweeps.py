import json
from dataclasses import replace

import joblib
import pytest
import torch

from geobook import networks, sweeps
from geobook.evaluation import evaluate
from geobook.networks import Architecture, Stage
from geobook.sweeps import outlook, sweep
from geobook.training import Recipe, train

SMALL = Architecture("small", (6,), (Stage((6,), 2),), 3)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05)
AXES = {"weight_decays": (0.0, 0.1), "seeds": (0, 1), "progress": False}


def blobs(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = 2 * torch.eye(6)[:3]
    return centres[labels] + 0.5 * torch.randn(n, 6, generator=generator), labels


def first_weight(network, data):
    return [next(network.parameters())[0, 0].item(), len(data[1])]


def numbers(run):
    return run.history, run.scores, run.diverged


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-6)
    return one == other


def test_every_member_equals_the_same_run_alone():
    data, test = blobs(), blobs(seed=1)
    done = sweep(SMALL, data, RECIPE, test=test, blocks=(1, 2), keep_models=True, **AXES)
    assert len(done) == 16
    for run in done:
        network = networks.build(SMALL, residual=run.residual, blocks=run.blocks, seed=run.seed)
        recipe = replace(RECIPE, weight_decay=run.weight_decay, seed=run.seed)
        history = train(network, data, recipe, test=test, progress=False).history
        assert close(run.history, history)
        scores = evaluate(network, data)
        held_out = evaluate(network, test, ots=False)
        scores |= {"test_accuracy": held_out["accuracy"], "test_loss": held_out["loss"]}
        assert close(run.scores, scores)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(run.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_the_runs_do_not_depend_on_their_company():
    together = sweep(SMALL, blobs(), RECIPE, **AXES)
    for run in together.select(weight_decay=0.1, seed=1):
        alone = sweep(
            SMALL, blobs(), RECIPE, weight_decays=[0.1], seeds=[1], residual=[run.residual],
            progress=False,
        ).runs[0]  # fmt: skip
        assert close(list(numbers(run)), list(numbers(alone)))
        assert run.config == alone.config


def test_processes_give_what_one_process_gives():
    one = sweep(SMALL, blobs(), RECIPE, jobs=1, collect=first_weight, **AXES)
    with joblib.parallel_config(backend="threading"):
        two = sweep(SMALL, blobs(), RECIPE, jobs=2, collect=first_weight, **AXES)
    assert [numbers(run) for run in one] == [numbers(run) for run in two]
    assert [run.collected for run in one] == [run.collected for run in two]
    assert one.runs[0].collected[1] == 60


def test_backends_that_give_everything_at_the_end(monkeypatch):
    original = joblib.Parallel

    def simple(n_jobs, return_as="list"):
        if return_as != "list":
            raise ValueError("Backend does not support return_as")
        return original(n_jobs=n_jobs)

    one = sweep(SMALL, blobs(), RECIPE, jobs=1, **AXES)
    monkeypatch.setattr(joblib, "Parallel", simple)
    with joblib.parallel_config(backend="threading"):
        two = sweep(SMALL, blobs(), RECIPE, jobs=2, **AXES)
    assert [numbers(run) for run in one] == [numbers(run) for run in two]


def test_order_selection_and_table():
    done = sweep(SMALL, blobs(), RECIPE, ots=False, **AXES)
    rows = done.table()
    assert [(row["kind"], row["weight_decay"], row["seed"]) for row in rows] == [
        (kind, decay, seed)
        for kind in ("plain", "ResNet")
        for decay in (0.0, 0.1)
        for seed in (0, 1)
    ]
    assert all(row["blocks"] == 2 and row["ots"] is None and row["lss"] >= 1 for row in rows)
    assert len(done.select(kind="plain", seed=0)) == 2
    with pytest.raises(ValueError, match="nothing"):
        done.select(nothing=1)
    with pytest.raises(ValueError, match="keep_models must be True"):
        _ = done.runs[0].model


def test_convolutional_networks_are_trained_one_by_one():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(20, 1, 8, 8, generator=generator), torch.arange(20) % 10
    shape = networks.architecture("digits-conv", blocks=1, width=2)
    recipe = Recipe(epochs=1, batch_size=10)
    done = sweep(shape, data, recipe, weight_decays=[0.0, 0.1], keep_models=True, **{
        "progress": False, "residual": [True],
    })  # fmt: skip
    alone = networks.build(shape, seed=0)
    assert done.runs[0].history == train(alone, data, recipe, progress=False).history
    assert done.runs[0].model.architecture == shape


def test_a_diverged_run_is_a_result():
    shape = SMALL.changed(norm="none")
    done = sweep(shape, blobs(), RECIPE, weight_decays=[0.0, 1e12], progress=False)
    bad = done.select(weight_decay=1e12)
    assert all("training diverged" in run.diverged and run.scores is None for run in bad)
    assert all(run.scores for run in done.select(weight_decay=0.0))
    assert bad.table()[0]["lss"] is None


def test_a_network_that_cannot_be_scored_does_not_stop_the_others(monkeypatch):
    original = sweeps.evaluate

    def overflowing(network, *rest, **options):
        if network.residual:
            raise ValueError("track must be finite")
        return original(network, *rest, **options)

    monkeypatch.setattr(sweeps, "evaluate", overflowing)
    done = sweep(SMALL, blobs(), RECIPE, weight_decays=[0.0], collect=first_weight, progress=False)
    assert done.runs[0].scores
    assert done.runs[1].scores is None
    assert done.runs[1].collected is None
    assert "could not be scored: track must be finite" in done.runs[1].diverged


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"weight_decays": []}, "weight_decays"),
        ({"weight_decays": [-1.0]}, "weight_decays"),
        ({"weight_decays": 0.1}, "weight_decays"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"blocks": []}, "blocks"),
        ({"residual": []}, "residual"),
        ({"jobs": 0}, "jobs"),
    ],
)
def test_bad_axes_are_refused(changes, name):
    with pytest.raises(ValueError, match=name):
        sweep(SMALL, blobs(), RECIPE, **{**AXES, **changes})


# --- files ----------------------------------------------------------------------------------------


def trained_keys(monkeypatch):
    """Note the keys of the runs that are really trained."""
    keys = []
    original = sweeps._work

    def work(group, *rest):
        keys.extend(task.key for task in group)
        return original(group, *rest)

    monkeypatch.setattr(sweeps, "_work", work)
    return keys


def test_runs_are_kept_and_read_back(tmp_path, monkeypatch):
    keys = trained_keys(monkeypatch)
    first = sweep(SMALL, blobs(), RECIPE, folder=tmp_path, collect=first_weight, **AXES)
    assert len(keys) == len(set(keys)) == 8
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(keys)
    again = sweep(SMALL, blobs(), RECIPE, folder=tmp_path, collect=first_weight, **AXES)
    assert len(keys) == 8
    assert first.runs == again.runs
    wider = sweep(
        SMALL, blobs(), RECIPE, folder=tmp_path, collect=first_weight,
        **{**AXES, "weight_decays": (0.0, 0.01, 0.1)},
    )  # fmt: skip
    assert len(keys) == 12
    assert [run for run in wider if run.weight_decay != 0.01] == first.runs


def test_other_configurations_have_other_keys(tmp_path, monkeypatch):
    keys = trained_keys(monkeypatch)
    settings = {"weight_decays": [0.0], "residual": [True], "folder": tmp_path, "progress": False}
    sweep(SMALL, blobs(), RECIPE, **settings)
    sweep(SMALL, blobs(), replace(RECIPE, learning_rate=0.04), **settings)
    sweep(SMALL, blobs(seed=1), RECIPE, **settings)
    sweep(SMALL, blobs(), RECIPE, test=blobs(), **settings)
    sweep(SMALL.changed(norm="inner"), blobs(), RECIPE, **settings)
    sweep(SMALL, blobs(), RECIPE, points=30, **settings)
    monkeypatch.setattr(sweeps, "_code", lambda: "other code")
    sweep(SMALL, blobs(), RECIPE, **settings)
    assert len(set(keys)) == len(keys) == 7


@pytest.mark.parametrize("damage", ["cut", "number", "empty", "list", "exchanged"])
def test_damaged_files_are_computed_again(tmp_path, monkeypatch, damage):
    keys = trained_keys(monkeypatch)
    settings = {**AXES, "residual": [True], "folder": tmp_path}
    first = sweep(SMALL, blobs(), RECIPE, **settings)
    victim, other = sorted(tmp_path.iterdir())[:2]
    text = victim.read_text()
    if damage == "number":
        content = json.loads(text)
        content["scores"]["accuracy"] = 100.5
        text = json.dumps(content)
    else:
        text = {"cut": text[:-20], "empty": "", "list": "[]", "exchanged": other.read_text()}[
            damage
        ]
    victim.write_text(text)
    keys.clear()
    again = sweep(SMALL, blobs(), RECIPE, **settings)
    assert keys == [victim.stem]
    assert close([list(numbers(run)) for run in first], [list(numbers(run)) for run in again])


def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch):
    original = sweeps._work
    calls = []

    def interrupted(group, *rest):
        calls.append(group)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(group, *rest)

    monkeypatch.setattr(sweeps, "_work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(SMALL, blobs(), RECIPE, folder=tmp_path, **AXES)
    assert len(list(tmp_path.iterdir())) == 4
    keys = trained_keys(monkeypatch)
    monkeypatch.setattr(sweeps, "_work", original)
    whole = sweep(SMALL, blobs(), RECIPE, folder=tmp_path, **AXES)
    assert not keys
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 8
    assert close(
        [list(numbers(run)) for run in whole],
        [list(numbers(run)) for run in sweep(SMALL, blobs(), RECIPE, **AXES)],
    )


def test_outlook_counts_what_is_left(tmp_path):
    settings = {"weight_decays": (0.0, 0.1), "seeds": (0, 1), "folder": tmp_path}
    before = outlook(SMALL, blobs(), RECIPE, **settings)
    assert (before.runs, before.done) == (8, 0)
    sweep(SMALL, blobs(), RECIPE, residual=[True], progress=False, **settings)
    halfway = outlook(SMALL, blobs(), RECIPE, **settings)
    assert (halfway.runs, halfway.done) == (8, 4)
    assert halfway.seconds == pytest.approx(before.seconds / 2)


# --- sharing out ----------------------------------------------------------------------------------


def tasks_of(blocks, decays):
    scoring = sweeps._Scoring(None, True, 256, 1, False, None, "cpu")
    axes = {"weight_decays": decays, "residual": (False, True), "seeds": (0,)}
    return sweeps._tasks(SMALL, RECIPE, axes, blocks, blobs(), None, scoring)


def test_stacks_are_even_and_the_dearest_come_first():
    decays = [k / 100 for k in range(10)]
    groups = sweeps._groups(tasks_of((1, 4), decays), torch.device("cpu"), None)
    assert [len(group) for group in groups] == [5] * 8
    assert [group[0].architecture.stages[0].blocks for group in groups] == [4] * 4 + [1] * 4
    assert all(len({(t.architecture, t.residual) for t in group}) == 1 for group in groups)
    alone = sweeps._groups(tasks_of((1,), decays), torch.device("cpu"), False)
    assert [len(group) for group in alone] == [1] * 20


def test_processes_are_started_only_where_worth_it():
    groups = sweeps._groups(tasks_of((1,), [0.0]), torch.device("cpu"), False)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert sweeps._processes(None, groups, cpu, 60) == 1
    assert sweeps._processes(None, groups, cpu, 10**12) == min(joblib.cpu_count(), 2)
    assert sweeps._processes(None, groups, gpu, 10**12) == 1
    assert sweeps._processes(5, groups, cpu, 60) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"residual": ["plain"]}, "residual must be True"), ({"device": "foo"}, "device must be")],
)
def test_a_wrong_switch_or_device_is_named_before_anything_runs(changes, message):
    points = torch.zeros(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(ValueError, match=message):
        sweep("digits", points, weight_decays=[0.0], progress=False, **changes)
