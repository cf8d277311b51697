import argparse

import pytest
import torch

from geobook import experiments, measurements, networks, planar, results
from geobook.data import Dataset
from geobook.energy import PARTS
from geobook.experiments import EXPERIMENTS, Experiment, Plan, projected_tracks
from geobook.sweeps import Run
from geobook.training import Recipe, probe_points


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    centres = torch.randn(10, 64, generator=torch.Generator().manual_seed(9))
    points = centres[labels] + 0.3 * torch.randn(n, 64, generator=generator)
    classes = tuple("0123456789")
    return Dataset("toy", "train", points.view(n, 1, 8, 8), labels, classes)


def toy(quick, seeds):
    sweeps = {
        "weight decay": {"weight_decays": (0.0, 0.01), "blocks": (2,)},
        "depth": {"weight_decays": (0.0,), "blocks": (1,)},
    }
    recipe = Recipe(epochs=2 if quick else 3, batch_size=20)
    return Plan(images(80, 0), images(20, 1), "digits", recipe, sweeps, tuple(range(seeds)), 2)


@pytest.fixture
def toy_experiment(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "toy", Experiment("A toy.", toy))


def arguments(*words):
    parser = argparse.ArgumentParser()
    experiments.reproduce_arguments(parser)
    return parser.parse_args(list(words))


def test_reproduce_publishes_and_resumes(tmp_path, toy_experiment, capsys):
    work, out = tmp_path / "work", tmp_path / "out"
    words = ["toy", "--seeds", "2", "--jobs", "1", "--work", str(work), "--out", str(out)]
    assert experiments.reproduce_command(arguments(*words)) == 0
    said = capsys.readouterr().out
    assert "toy: 12 training runs, 0 of them already in" in said
    assert "toy.json" in said
    first = results.load("toy", out)
    assert len(list(work.iterdir())) == 12
    assert experiments.reproduce_command(arguments(*words)) == 0
    assert "12 of them already in" in capsys.readouterr().out
    again = results.load("toy", out)
    assert first.data == again.data
    assert first.provenance["command"] == "python -m geobook reproduce toy --seeds 2"
    assert again.provenance["resumed_runs"] == 12

    assert [(row["kind"], row["blocks"]) for row in first["runs"]].count(("plain", 2)) == 4
    row = first["runs"][0]
    assert row["history"]["epoch"] == [2, 3]
    assert len(row["history"]["lss"]) == len(row["history"]["test_accuracy"]) == 2
    assert len(row["segment_proportions"]) == row["blocks"] == 2
    assert row["ots_low"] <= row["ots"] <= row["ots_high"]
    assert len(first["untrained"]) == 8
    assert all(control["lss"] >= 1 for control in first["untrained"])
    assert len(first["tracks"]["labels"]) == 60
    for kind in ("plain", "ResNet"):
        for decay in ("0", "0.01"):
            picture = first["tracks"][kind][decay]
            assert torch.tensor(picture["track"]).shape == (3, 60, 2)
    assert first["points"] == {"train": 80, "test": 20}

    assert experiments.report_command(argparse.Namespace(name="toy", out=out)) == 0
    table = capsys.readouterr().out
    assert table.count("ResNet") == 3
    assert "python -m geobook reproduce toy --seeds 2" in table
    assert experiments.report_command(argparse.Namespace(name=None, out=out)) == 0
    assert "A toy." in capsys.readouterr().out


def test_quick_results_do_not_replace_published_ones(tmp_path, toy_experiment, capsys):
    words = ["toy", "--quick", "--seeds", "1", "--jobs", "1", "--work", str(tmp_path)]
    assert experiments.reproduce_command(arguments(*words)) == 0
    assert results.load("toy-quick", tmp_path)["recipe"]["epochs"] == 2
    assert "toy-quick" not in results.names()


def test_report_marks_what_is_missing():
    row = {"kind": "plain", "blocks": 5, "weight_decay": 0.1, "seed": 0, "diverged": "early"}
    lines = experiments.report([row, {**row, "kind": "ResNet", "lss": 2.0}]).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[:4] == ["ResNet", "5", "0.1", "1"]
    assert "2.000" in lines[1]
    assert "2.000" not in lines[2]


def test_a_diverged_run_has_a_row_without_scores():
    run = Run(
        config={
            "residual": True,
            "recipe": {"weight_decay": 0.1, "seed": 2},
            "architecture": {"stages": [{"blocks": 3}]},
        },
        history={key: [] for key in ("epoch", "loss", "accuracy", "test_accuracy", "lss")},
        scores=None,
        seconds=1.0,
        diverged="the loss became nan",
    )
    row = experiments._row(run)
    assert (row["kind"], row["blocks"], row["weight_decay"], row["seed"]) == ("ResNet", 3, 0.1, 2)
    assert row["diverged"] == "the loss became nan"
    assert "lss" not in row


def test_plans_of_all_experiments():
    for experiment in EXPERIMENTS.values():
        full, quick = experiment.plan(False, 3), experiment.plan(True, 1)
        assert full.seeds == (0, 1, 2)
        assert quick.recipe.epochs < full.recipe.epochs
        for part in full.sweeps:
            decays = full.settings(part)["weight_decays"]
            assert list(decays) == sorted(set(decays))
        assert any(0.0 in full.settings(part)["weight_decays"] for part in full.sweeps)
        assert experiment.about
    digits = EXPERIMENTS["digits"].plan(False, 3)
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.recipe == Recipe()


def several(quick, seeds):
    sweeps = {
        name: {
            "data": planar.load(name, points=40),
            "test": planar.load(name, "test", points=40),
            "architecture": networks.architecture("plane", blocks=2),
            "weight_decays": (0.0,),
            "residual": kinds,
            "collect": measurements.planar_measures,
            "columns": {"data": name, "norm": "none"},
        }
        for name, kinds in (("moons", (False, True)), ("rings", (True,)))
    }
    recipe = Recipe(epochs=2, batch_size=20, clip=1.0)
    data = planar.load(points=40)
    return Plan(data, data, "plane", recipe, sweeps, tuple(range(seeds)), 2, tuple(sweeps))


def test_an_experiment_of_several_data_sets_keeps_what_was_collected(monkeypatch, tmp_path):
    monkeypatch.setitem(EXPERIMENTS, "toy", Experiment("A toy.", several, ("detour", "pace")))
    found = experiments.run("toy", seeds=1, jobs=1, work=tmp_path, progress=False)
    rows = found["runs"]
    assert [(row["data"], row["kind"]) for row in rows] == [
        ("moons", "plain"), ("moons", "ResNet"), ("rings", "ResNet"),
    ]  # fmt: skip
    assert [(row["data"], row["kind"]) for row in found["untrained"]] == [
        (row["data"], row["kind"]) for row in rows
    ]
    for row in [*rows, *found["untrained"]]:
        assert sum(row[part] for part in PARTS) == pytest.approx(1)
        assert row["wasserstein2_squared"] == pytest.approx(row["translation"] + row["deformation"])
        assert len(row["divergence_free"]) == len(row["asymmetry"]) == row["blocks"] == 2
        assert "track" not in row
    assert set(found["tracks"]) == {"moons", "rings"}
    picture = found["tracks"]["rings"]["ResNet"]["0"]
    assert torch.tensor(picture["track"]).shape == (3, 24, 2)
    assert len(found["tracks"]["rings"]["labels"]) == 24
    table = experiments.report(rows, ("detour", "pace")).splitlines()
    assert table[0].split()[:4] == ["data", "norm", "kind", "blocks"]
    assert table[0].split()[-2:] == ["detour", "pace"]
    assert table[1].split()[:3] == ["moons", "none", "ResNet"]


def test_unknown_experiments_are_refused():
    with pytest.raises(ValueError, match=r"experiment must be one of 'digits', .* not 'mnist'"):
        experiments.run("mnist")
    with pytest.raises(ValueError, match="seeds"):
        EXPERIMENTS["digits"].plan(False, 0)


def test_projected_tracks_keep_what_lies_in_a_plane():
    network = networks.build("digits", blocks=2).eval()
    data = images(70, 0)
    plane = torch.zeros_like(data.images).flatten(1)
    plane[:, 3], plane[:, 10] = data.images.flatten(1)[:, 0], 3 * data.images.flatten(1)[:, 1]
    with torch.no_grad():
        for block in network.stages[0]:
            block.second.weight.zero_()
    points = plane.view_as(data.images), data.labels
    track = torch.tensor(projected_tracks(network, points))
    assert track.shape == (3, 60, 2)
    torch.testing.assert_close(track[0], track[2])
    # Distances survive the projection; the wider axis comes first and keeps its sign.
    assert track[0].var(0)[0] > track[0].var(0)[1]
    chosen = probe_points(points[0], 60).flatten(1)
    torch.testing.assert_close(
        torch.cdist(track[0], track[0]), torch.cdist(chosen, chosen), rtol=1e-2, atol=1e-2
    )
    correlation = torch.corrcoef(torch.stack([track[0][:, 0], chosen[:, 10]]))[0, 1]
    assert correlation > 0.9
