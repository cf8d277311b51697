"""The live panel: what it offers, trains, shows and refuses."""

from __future__ import annotations

import re
import sys
import threading

import pytest
import torch

from geobook import data as data_sets
from geobook import live, planar
from geobook.networks import Stage, architecture
from geobook.training import Recipe

ipywidgets = pytest.importorskip("ipywidgets")

DATA = data_sets.load("digits").subset(60, seed=0)
TEST = data_sets.load("digits", "test").subset(30, seed=0)
QUICK = Recipe(epochs=2, batch_size=20)


@pytest.fixture(autouse=True)
def _with_a_kernel(monkeypatch):
    monkeypatch.delenv("GEOBOOK_STATIC", raising=False)


def make(**how):
    return live.panel(DATA, "digits", QUICK, **{"test": TEST, "widths": (16, 64), **how})


def trained(panel):
    panel.start()
    panel.wait(60)
    return panel


def test_the_sliders_offer_the_choices_and_start_at_the_own_values():
    panel = make(weight_decays=[0, 1e-3, 0.1], blocks=(2, 5), seeds=[7, 8])
    offered = {name: [v for _, v in slider.options] for name, slider in panel.sliders.items()}
    assert offered == {
        "weight_decay": [0, 1e-3, 0.1],
        "blocks": [2, 5],
        "width": [16, 64],
        "seed": [7, 8],
    }
    assert [text for text, _ in panel.sliders["weight_decay"].options] == ["0", "0.001", "0.1"]
    assert panel.settings == {
        "residual": True, "weight_decay": 0, "blocks": 5, "width": 64, "seed": 7,
    }  # fmt: skip
    assert all(slider.description for slider in panel.sliders.values())
    with_rates = make(learning_rates=[0.01, 0.05])
    assert with_rates.settings["learning_rate"] == 0.05
    assert repr(panel).startswith("Panel(residual=True, weight_decay=0")


def test_training_uses_the_settings_and_shows_pictures_with_alternative(monkeypatch):
    calls = []
    real = live.train
    monkeypatch.setattr(live, "train", lambda *a, **k: calls.append((a, k)) or real(*a, **k))
    panel = make(learning_rates=[0.01, 0.02])
    panel.kind.value = False
    for name, value in {"weight_decay": 1e-2, "blocks": 2, "width": 16, "seed": 3}.items():
        panel.sliders[name].value = value
    panel.train_button.click()
    panel.wait(60)
    (((model, data, recipe), keywords),) = calls
    assert data is DATA
    assert keywords["test"] is TEST
    assert recipe == Recipe(epochs=2, batch_size=20, weight_decay=1e-2, learning_rate=0.01, seed=3)
    assert model.residual is False
    assert model.architecture == architecture("digits", blocks=2, width=16)
    assert panel.model is model
    assert panel.history["epoch"] == [1, 2]
    assert (panel.progress.value, panel.progress.max) == (2, 2)
    words = (
        "Trained: a plain network with weight decay λ = 0.01, blocks L = 2, width = 16, seed = 3, "
        "learning rate = 0.01. Test points: accuracy "
    )
    assert panel.status.value.startswith(words)
    (stage,) = panel.scores["stages"]
    assert f"LSS {stage['lss']:.2f}, OTS {stage['ots']:.2f} (" in panel.status.value
    alt = re.search(r'alt="([^"]+)"', panel.picture.value).group(1)
    assert "30 test points" in alt
    assert "a plain network" in alt
    assert panel.train_button.disabled is False
    assert panel.stop_button.disabled is True


def test_a_planar_network_keeps_its_width_and_is_drawn_in_its_own_plane(monkeypatch):
    drawn = []
    real = live.plots.tracks_2d
    monkeypatch.setattr(live.plots, "tracks_2d", lambda *a, **k: drawn.append(a) or real(*a, **k))
    monkeypatch.setattr(live, "TRACKS_DRAWN", 20)
    moons = planar.load("moons", points=60)
    panel = trained(live.panel(moons, "plane", QUICK, blocks=[3], widths=None))
    assert list(panel.sliders) == ["weight_decay", "blocks", "seed"]
    assert panel.status.value.startswith("Trained: a ResNet with weight decay λ = 0, blocks L = 3")
    assert panel.model.architecture == architecture("plane", blocks=3)
    ((track, labels),) = drawn
    assert track.shape == (4, 20, 2)
    assert set(labels.tolist()) == {0, 1}  # the first points of the set are all of one class
    start = {tuple(point) for point in track[0].tolist()}
    assert start <= {tuple(point) for point in moons.images.tolist()}
    assert "20 test points in the plane" in panel.picture.value
    monkeypatch.setenv("GEOBOOK_STATIC", "1")
    assert "width" not in live.panel(moons, "plane", widths=None)._repr_html_().split("<strong>")[1]


def test_same_settings_same_result():
    first, second = trained(make(blocks=[2])), trained(make(blocks=[2]))
    assert first.history == second.history
    assert first.scores == second.scores
    assert first.status.value == second.status.value
    assert first.picture.value == second.picture.value
    assert first.picture.value.startswith("<img")
    other = make(blocks=[2])
    other.sliders["seed"].value = 1
    assert trained(other).history != first.history


def test_stop_ends_after_the_epoch_and_shows_what_there_is(monkeypatch):
    reached, go = threading.Event(), threading.Event()
    real = live.Panel._after_epoch

    def held(panel, *news):
        reached.set()
        assert go.wait(30)
        return real(panel, *news)

    monkeypatch.setattr(live.Panel, "_after_epoch", held)
    panel = make(blocks=[1])
    panel.start()
    assert reached.wait(30)
    assert panel.stop_button.disabled is False
    assert panel.train_button.disabled is True
    assert all(slider.disabled for slider in panel.sliders.values())
    running = panel._thread
    panel.start()  # a second click while training does nothing
    assert panel._thread is running
    panel.stop_button.click()
    go.set()
    panel.wait(60)
    assert panel.history["epoch"] == [1]
    assert panel.status.value.startswith("Stopped: a ResNet")
    assert panel.picture.value.startswith("<img")
    assert trained(panel).status.value.startswith("Trained")  # and it can go on
    assert panel.history["epoch"] == [1, 2]


def test_a_failure_is_told_and_leaves_the_panel_usable(monkeypatch):
    def diverge(*_, **__):
        raise FloatingPointError("loss is NaN in epoch 2 <lower the learning rate>")

    monkeypatch.setattr(live, "train", diverge)
    panel = trained(make())
    assert panel.status.value == (
        "<b>Training failed.</b> loss is NaN in epoch 2 &lt;lower the learning rate&gt;"
    )
    assert panel.train_button.disabled is False


def test_without_data_the_digits_are_loaded_when_training_starts(monkeypatch):
    loaded = []
    monkeypatch.setattr(live, "load", lambda *which: loaded.append(which) or DATA)
    panel = live.panel(recipe=QUICK, blocks=[1], widths=[16])
    assert loaded == []
    assert trained(panel).status.value.startswith("Trained")
    assert loaded == [("digits", "train"), ("digits", "test")]
    assert trained(live.panel(DATA, recipe=QUICK, blocks=[1])).status.value.startswith("Trained")
    assert len(loaded) == 2  # data of the reader's own are their own test


def test_scores_of_several_stages_and_of_dead_networks():
    two = architecture("digits", stages=(Stage((16,), 1), Stage((8,), 1)))
    panel = trained(live.panel(DATA, two, QUICK, test=TEST, blocks=[1], widths=[16]))
    assert "; stage 1: LSR" in panel.status.value
    assert "; stage 2: LSR" in panel.status.value
    for parameter in panel.model.parameters():
        torch.nn.init.zeros_(parameter)
    line = live._score_line(live.evaluate(panel.model, TEST))
    assert "OTS undefined" in line
    assert line.endswith("its scores mean nothing.")


def test_it_displays_as_widgets(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    panel = make()
    panel._ipython_display_()
    assert shown == [panel.box]
    assert panel.box.children[0] is panel.kind


@pytest.mark.parametrize("value", ["1", "yes"])
def test_on_a_static_page_stands_a_box_of_text(monkeypatch, value):
    monkeypatch.setenv("GEOBOOK_STATIC", value)
    monkeypatch.setattr(live, "_widgets", lambda: pytest.fail("no widget may be made"))
    panel = live.panel(weight_decays=[0, 0.1], seeds=[4])
    text = panel._repr_html_()
    assert "weight decay λ 0 to 0.1, blocks L 1 to 20, width 16 to 128, seed 4." in text
    assert "Colab" in text
    assert "<script" not in text
    assert not hasattr(panel, "_ipython_display_")
    assert "notebook in Colab" in repr(panel)
    assert text == live.panel(weight_decays=[0, 0.1], seeds=[4])._repr_html_()


@pytest.mark.parametrize("value", ["0", ""])
def test_static_can_be_switched_off(monkeypatch, value):
    monkeypatch.setenv("GEOBOOK_STATIC", value)
    assert isinstance(live.panel(), live.Panel)


def test_missing_widgets_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="needs ipywidgets: run `pip install ipywidgets`"):
        live.panel()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"weight_decays": [-0.1]}, ValueError, "weight_decays must be a finite number of at"),
        ({"weight_decays": []}, ValueError, "weight_decays must offer at least one value"),
        ({"blocks": [0]}, ValueError, "blocks must be a whole number of at least 1"),
        ({"blocks": 5}, TypeError, "blocks must be a sequence of numbers, not 5"),
        ({"widths": [8, 8]}, ValueError, "widths must not repeat"),
        ({"seeds": [-1]}, ValueError, "seeds must be a whole number of at least 0"),
        ({"learning_rates": [0]}, ValueError, "learning_rates must be a finite number above 0"),
        ({"architecture": "nets"}, ValueError, "architecture must be an Architecture or one of"),
    ],
)
@pytest.mark.parametrize("static", ["0", "1"])
def test_bad_input_is_named(how, error, message, static, monkeypatch):
    monkeypatch.setenv("GEOBOOK_STATIC", static)
    with pytest.raises(error, match=message):
        live.panel(**how)


def test_a_data_set_by_name_is_refused_at_once():
    with pytest.raises(TypeError, match="data must be a geobook"):
        live.panel("digits")
