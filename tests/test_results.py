import json
import math

import numpy as np
import pytest

from geobook import results
from geobook.results import AlteredResults

DATA = {"runs": [{"lss": 1.23456789, "seed": 3, "dead": False, "ots": None}], "labels": (1, 2)}
ORIGIN = {"command": "python -m geobook reproduce toy", "seeds": [0]}


def saved(folder, data=DATA):
    return results.save("toy", data, about="A toy.", provenance=ORIGIN, where=folder)


def test_what_is_saved_comes_back_rounded(tmp_path):
    path = saved(tmp_path)
    assert path == tmp_path / "toy.json"
    assert [p.name for p in tmp_path.iterdir()] == ["toy.json"]
    published = results.load("toy", tmp_path)
    assert published["runs"] == [{"lss": 1.235, "seed": 3, "dead": False, "ots": None}]
    assert published["labels"] == [1, 2]
    assert published.about == "A toy."
    assert published.provenance == ORIGIN
    assert set(published) == {"runs", "labels"}
    assert len(published) == 2
    assert results.names(tmp_path) == ["toy"]


def test_saving_is_deterministic(tmp_path):
    assert saved(tmp_path / "a").read_bytes() == saved(tmp_path / "b").read_bytes()


def test_an_altered_number_is_noticed(tmp_path):
    path = saved(tmp_path)
    path.write_text(path.read_text().replace("1.235", "1.135"))
    with pytest.raises(AlteredResults, match=r"toy\.json was altered"):
        results.load("toy", tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": "x"}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "toy.json").write_text(content)
    with pytest.raises(AlteredResults, match=r"toy\.json is damaged"):
        results.load("toy", tmp_path)


def test_unknown_and_impossible_names(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"one of the published results \(toy\), not 'tou'"):
        results.load("tou", tmp_path)
    for name in ("../toy", "", "a b", 3):
        with pytest.raises(ValueError, match="letters, digits and hyphens"):
            results.save(name, DATA, about="", provenance={}, where=tmp_path)


def test_curves_by_kind_and_seed(tmp_path):
    rows = [
        {"kind": kind, "seed": seed, "weight_decay": decay, "blocks": 5, "lss": 10 * seed + decay}
        for kind in ("plain", "ResNet")
        for seed in (0, 1)
        for decay in (2.0, 1.0)
    ]
    del rows[0]["lss"]
    saved(tmp_path, {"runs": rows[:-1]})
    published = results.load("toy", tmp_path)
    decays, curves = published.curves("lss", blocks=5)
    assert decays == [1.0, 2.0]
    np.testing.assert_equal(curves["plain"], [[1.0, np.nan], [11.0, 12.0]])
    np.testing.assert_equal(curves["ResNet"], [[1.0, 2.0], [np.nan, 12.0]])
    for score, blocks in (("lss", 6), ("ots", 5)):
        with pytest.raises(ValueError, match=f"no run of 'toy' has a {score}"):
            published.curves(score, blocks=blocks)


def test_rounded():
    value = {"a": [1 / 3, 2, True, None, "x", math.nan, math.inf], 1: (1e-9 / 3, 123456.0)}
    assert results.rounded(value, 3) == {
        "a": [0.333, 2, True, None, "x", None, None],
        "1": [3.33e-10, 123000.0],
    }


def test_provenance_says_what_made_it():
    origin = results.provenance("make it", seeds=[0, 1], seconds=1.26, extra="more")
    assert origin["command"] == "make it"
    assert origin["seeds"] == [0, 1]
    assert origin["wall_seconds"] == 1.3
    assert origin["device"] == "cpu"
    assert origin["mode"] in ("quick", "full")
    assert origin["extra"] == "more"
    assert {"python", "torch", "geobook"} <= set(origin["versions"])
    assert origin["commit"] == "unknown" or len(origin["commit"]) == 40
    json.dumps(origin)


def test_commit_outside_a_checkout(monkeypatch):
    monkeypatch.setattr(results, "_git", lambda *_: None)
    origin = results.provenance("x", seeds=[], seconds=0)
    assert origin["commit"] == "unknown"
    assert origin["uncommitted_changes"] is None


def test_commit_inside_a_checkout(monkeypatch):
    answers = {"rev-parse": "a" * 40, "status": " M src/geobook/results.py"}
    monkeypatch.setattr(results, "_git", lambda _, command, *__: answers[command])
    origin = results.provenance("x", seeds=[], seconds=0)
    assert origin["commit"] == "a" * 40
    assert origin["uncommitted_changes"] is True


def test_git_that_fails_is_no_answer(tmp_path):
    assert results._git(tmp_path / "nowhere", "rev-parse", "HEAD") is None


def test_folder_of_an_installed_package(tmp_path, monkeypatch):
    assert results.folder().name == "results"
    package = tmp_path / "site-packages" / "geobook"
    monkeypatch.setattr(results, "__file__", str(package / "results.py"))
    assert results.folder() == package.resolve() / "published"


@pytest.mark.parametrize("name", results.names())
def test_what_is_published_is_intact(name):
    published = results.load(name)
    assert published.name == name
    assert published.about
    assert {"command", "commit", "seeds", "versions", "date"} <= set(published.provenance)
