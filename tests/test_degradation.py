"""The rows that the experiment on depth publishes."""

from functools import partial

import geobook
from geobook import Recipe, degradation, experiments
from geobook.experiments import EXPERIMENTS, Experiment, Plan
from geobook.measurements import gradient_measures

DIGITS = geobook.data.load("digits").subset(120)
FAMILY = geobook.architecture("digits", blocks=2)


def test_penalty_rows_measure_both_penalties_alike():
    rows = degradation.penalty_rows(
        DIGITS, DIGITS, Recipe(epochs=1, batch_size=40), [(FAMILY, True)],
        {"weight decay": (0.01,), "energy": (0.0, 1e-3)}, (0, 1),
    )  # fmt: skip
    assert [(r["penalty"], r["coefficient"], r["seed"]) for r in rows] == [
        ("weight decay", 0.01, 0), ("weight decay", 0.01, 1), ("energy", 0.0, 0),
        ("energy", 0.0, 1), ("energy", 1e-3, 0), ("energy", 1e-3, 1),
    ]  # fmt: skip
    for row in rows:
        assert abs(sum(row[part] for part in geobook.energy.PARTS) - 1) < 1e-9
        assert row["kind"] == "ResNet"
        assert row["lss"] >= 1
        assert row["diverged"] is None
    again, before = (geobook.build(FAMILY, seed=0) for _ in range(2))
    geobook.train(again, DIGITS, Recipe(epochs=1, batch_size=40), progress=False)
    wanted = geobook.evaluate(again, DIGITS, ots=False)["accuracy"]
    assert abs(rows[2]["accuracy"] - wanted) < 2
    assert abs(geobook.evaluate(before, DIGITS, ots=False)["accuracy"] - wanted) > 2


def test_a_diverged_run_has_a_row_without_scores():
    (row,) = degradation.penalty_rows(
        DIGITS, DIGITS, Recipe(epochs=1, batch_size=40), [(FAMILY.changed(norm="none"), True)],
        {"energy": (1e9,)}, (0,),
    )  # fmt: skip
    assert "diverged" in row["diverged"]
    assert "lss" not in row


def test_descent_rows_hold_the_losses_of_both_orders():
    rows = degradation.descent_rows(DIGITS, FAMILY, (2,), (0.05,), 3, (0,))
    assert [row["kind"] for row in rows] == ["plain", "ResNet"]
    for row in rows:
        assert len(row["together"]) == len(row["forward"]) == 4
        assert row["together"][0] == row["forward"][0] > row["same_passes"]


def test_step_rows_shrink_the_difference_with_the_rate():
    plain, residual = degradation.step_rows(DIGITS, FAMILY, (2,), (1e-6, 1e-5), (0,))
    assert [plain["kind"], residual["kind"]] == ["plain", "ResNet"]
    for row in (plain, residual):
        assert 5 < row["difference"][1] / row["difference"][0] < 20
        assert min(row["cosine"]) > 0.99
        assert max(row["together"] + row["forward"]) < 0 < row["growth"]


def test_equation_rows_know_what_linear_regression_can_do():
    rows = degradation.equation_rows([(1, 3)], sets=4)
    assert [row["points"] for row in rows] == [1, 2, 3, 6]
    assert [row["fitted"] for row in rows] == [1.0, 1.0, 1.0, 0.0]
    assert {row["claimed"] for row in rows} == {row["bound"] for row in rows} == {3}


def toy(quick, seeds):
    sweeps = {
        "steps": {
            "weight_decays": (0.0,),
            "blocks": (2,),
            "ots": False,
            "collect": gradient_measures,
            "columns": {"setting": "standard"},
        }
    }
    more = {"equations": partial(degradation.equation_rows, [(1, 2)], 2)}
    recipe = Recipe(epochs=1, batch_size=40)
    return Plan(DIGITS, DIGITS, "digits", recipe, sweeps, (0,), 1, (), more)


def test_an_experiment_keeps_steps_and_whatever_else_it_measures(monkeypatch, tmp_path):
    monkeypatch.setitem(EXPERIMENTS, "toy", Experiment("A toy.", toy))
    found = experiments.run("toy", seeds=1, jobs=1, work=tmp_path, progress=False)
    assert found["equations"] == degradation.equation_rows([(1, 2)], 2)
    for row in [*found["runs"], *found["untrained"]]:
        assert row["setting"] == "standard"
        assert row["ots"] is None
        for name in ("step_cosine", "own_cosine", "step_alignment", "cross_talk"):
            assert len(row[name]) == 2
        assert min(row["step_alignment"]) > 0
        assert max(row["own_cosine"]) <= 1
