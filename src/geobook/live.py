"""The live panel: train a network in a notebook, with sliders, and see its tracks and scores.

It runs on ipywidgets 7.7 (Colab) and 8 alike, so it uses what both have. A network is trained in a
thread of its own: were it the kernel's, a click on Stop would wait until training is over. Results
for given settings do not depend on that.

A page of the built book has no kernel. Where the environment variable ``GEOBOOK_STATIC`` is 1, as
in the build of the book, a panel is a box of text that says how to bring it to life.
"""

from __future__ import annotations

import base64
import html
import io
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from matplotlib.figure import Figure

from geobook import networks, plots
from geobook.data import Dataset, load
from geobook.evaluation import evaluate
from geobook.networks import Architecture, Network
from geobook.tracks import record_tracks
from geobook.training import History, Recipe, probe_points, train
from geobook.validation import count, non_negative, positive

__all__ = ["Panel", "StaticPanel", "panel"]

WEIGHT_DECAYS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TRACKS_DRAWN = 100


def panel(
    data: Dataset | None = None,
    architecture: str | Architecture = "digits",
    recipe: Recipe | None = None,
    *,
    weight_decays: Iterable[float] = WEIGHT_DECAYS,
    blocks: Iterable[int] = range(1, 21),
    widths: Iterable[int] | None = (16, 32, 64, 128),
    seeds: Iterable[int] = range(5),
    learning_rates: Iterable[float] | None = None,
    test: Dataset | None = None,
) -> Panel | StaticPanel:
    """Make a panel that trains a network with chosen weight decay, depth, width and seed.

    Parameters
    ----------
    data : Dataset, optional
        What to train on; the handwritten digits by default.
    architecture : str or Architecture
        Family of networks, see `geobook.networks`.
    recipe : Recipe, optional
        How to train; the panel sets its weight decay, seed and learning rate.
    weight_decays, blocks, widths, seeds : iterable
        What the sliders offer. They start at the recipe's or the architecture's own value where
        that is offered, else at the first. ``widths=None`` leaves the width as it is, without a
        slider: planar networks, whose width is that of the data, want it so.
    learning_rates : iterable of float, optional
        Adds a slider for the learning rate.
    test : Dataset, optional
        Held-out points: test accuracy, scores and tracks are theirs. By default the digits' own
        test split where `data` is not given, else `data`.

    Returns
    -------
    Panel, or StaticPanel where ``GEOBOOK_STATIC`` is 1
        Show it as the last line of a cell.

    Raises
    ------
    ValueError
        If there is nothing to choose from, or a value is out of range.
    ImportError
        If ipywidgets is missing.

    Notes
    -----
    Weights, batches and scores depend on the chosen settings alone: the same settings give the
    same result again.
    """
    for given, name in ((data, "data"), (test, "test")):
        if given is not None and not isinstance(given, Dataset):
            raise TypeError(f"{name} must be a geobook.data.Dataset, not {given!r}")
    choices = {
        "weight_decay": _choices(weight_decays, "weight_decays", non_negative),
        "blocks": _choices(blocks, "blocks", count),
        **({} if widths is None else {"width": _choices(widths, "widths", count)}),
        "seed": _choices(seeds, "seeds", lambda value, name: count(value, name, 0)),
    }
    if learning_rates is not None:
        choices["learning_rate"] = _choices(learning_rates, "learning_rates", positive)
    chosen = networks.architecture(architecture)
    if os.environ.get("GEOBOOK_STATIC", "0").strip() not in ("", "0"):
        return StaticPanel(choices)
    return Panel(data, chosen, recipe, choices, test)


def _choices(values: Iterable[Any], name: str, check: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    try:
        found = tuple(check(value, name) for value in values)
    except TypeError as error:
        raise TypeError(f"{name} must be a sequence of numbers, not {values!r}") from error
    if not found:
        raise ValueError(f"{name} must offer at least one value, not none")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must not repeat a value, as {list(found)} does")
    return found


_LABELS = {
    "weight_decay": "weight decay λ",
    "blocks": "blocks L",
    "width": "width",
    "seed": "seed",
    "learning_rate": "learning rate",
}


class StaticPanel:
    """What stands in the panel's place on a page without a kernel."""

    def __init__(self, choices: Mapping[str, Sequence[Any]]) -> None:
        self.choices = dict(choices)

    def _repr_html_(self) -> str:
        offered = ", ".join(_offer(name, values) for name, values in self.choices.items())
        return (
            '<div class="geobook-live" role="note" style="border:1px solid '
            "var(--pst-color-border,#888);border-left:4px solid var(--pst-color-primary,#0072b2);"
            "border-radius:4px;padding:.6rem 1rem;color:var(--pst-color-text-base,inherit);"
            'background:var(--pst-color-background,transparent)">'
            "<strong>Live panel.</strong> With a kernel this is where you train a network yourself "
            "and watch its tracks and scores: a plain network or a ResNet, "
            f"{html.escape(offered)}. To bring it to life, open this chapter in Colab with the "
            "rocket at the top of the page, or its notebook in JupyterLab on your own machine, "
            "and run the cells.</div>"
        )

    def __repr__(self) -> str:
        return "Live panel: open this chapter's notebook in Colab or JupyterLab to use it"


def _offer(name: str, values: Sequence[Any]) -> str:
    if len(values) == 1:
        return f"{_LABELS[name]} {values[0]:g}"
    return f"{_LABELS[name]} {min(values):g} to {max(values):g}"


class Panel:
    """Sliders, buttons and pictures; make one with `panel`.

    Attributes
    ----------
    box : ipywidgets.VBox
        Everything, as shown.
    sliders : dict of str to widget
        One for each choice, by name: weight_decay, blocks, seed, perhaps width and learning_rate.
    kind : widget
        The switch between plain network and ResNet (value: whether residual).
    model : Network or None
        The network last trained.
    history : dict
        Its training history, see `geobook.train`.
    scores : dict
        Its scores on the test points, see `geobook.evaluate`.
    """

    def __init__(
        self,
        data: Dataset | None,
        architecture: Architecture,
        recipe: Recipe | None,
        choices: Mapping[str, Sequence[Any]],
        test: Dataset | None,
    ) -> None:
        self._data, self._test = data, test
        self._architecture, self._recipe = architecture, recipe or Recipe()
        self.model: Network | None = None
        self.history: History = {}
        self.scores: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lay_out(_widgets(), choices)

    def _lay_out(self, widgets: Any, choices: Mapping[str, Sequence[Any]]) -> None:
        own = {
            "weight_decay": self._recipe.weight_decay,
            "learning_rate": self._recipe.learning_rate,
            "seed": self._recipe.seed,
            "blocks": self._architecture.stages[0].blocks,
            "width": self._architecture.stages[0].width,
        }
        self.sliders = {
            name: _slider(widgets, name, values, own[name]) for name, values in choices.items()
        }
        self.kind = widgets.ToggleButtons(
            options=[("plain network", False), ("ResNet", True)], value=True, description="network"
        )
        self.train_button = widgets.Button(description="Train", button_style="primary")
        self.stop_button = widgets.Button(description="Stop", disabled=True)
        self.progress = widgets.IntProgress(value=0, min=0, max=1, description="epochs")
        self.status = widgets.HTML("Choose, then train.")
        self.picture = widgets.HTML("")
        self.train_button.on_click(lambda _: self.start())
        self.stop_button.on_click(lambda _: self.stop())
        buttons = widgets.HBox([self.train_button, self.stop_button, self.progress])
        self.box = widgets.VBox(
            [self.kind, *self.sliders.values(), buttons, self.status, self.picture]
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)

    def __repr__(self) -> str:
        return f"Panel({', '.join(f'{name}={value}' for name, value in self.settings.items())})"

    @property
    def settings(self) -> dict[str, Any]:
        """What is chosen now: residual, and the value of every slider."""
        chosen = {name: slider.value for name, slider in self.sliders.items()}
        return {"residual": self.kind.value, **chosen}

    def start(self) -> None:
        """Train in a thread, as the button Train does; nothing where one is training already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(self.settings,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the epoch that is running and show what there is, as the button Stop does."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until training is over, or so many seconds.

        Parameters
        ----------
        seconds : float, optional
            Longest wait.
        """
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, settings: Mapping[str, Any]) -> None:
        self._busy(True)
        try:
            self._train(settings)
        except Exception as error:  # a thread has nobody else to tell
            self.status.value = f"<b>Training failed.</b> {html.escape(str(error))}"
        finally:
            self._busy(False)

    def _busy(self, busy: bool) -> None:
        for widget in (self.train_button, self.kind, *self.sliders.values()):
            widget.disabled = busy
        self.stop_button.disabled = not busy

    def _train(self, settings: Mapping[str, Any]) -> None:
        data, test = self._sets()
        of_recipe = ("weight_decay", "seed", "learning_rate")
        recipe = replace(self._recipe, **{k: settings[k] for k in of_recipe if k in settings})
        self.model = networks.build(
            self._architecture,
            residual=settings["residual"],
            seed=settings["seed"],
            device=data.images.device,
            **{size: settings[size] for size in ("blocks", "width") if size in settings},
        )
        self.history, self.scores = {}, {}
        self.progress.value, self.progress.max = 0, recipe.epochs
        self.status.value, self.picture.value = "Training ...", ""
        train(self.model, data, recipe, test=test, progress=False, on_epoch=self._after_epoch)
        done = "Stopped" if self._stop.is_set() else "Trained"
        self.scores = evaluate(self.model, test)
        self.status.value = f"{done}: {_in_words(settings)}. {_score_line(self.scores)}"
        self.picture.value = self._pictures(settings, test)

    def _sets(self) -> tuple[Dataset, Dataset]:
        if self._data is None:
            self._data = load("digits", "train")
            self._test = load("digits", "test") if self._test is None else self._test
        return self._data, self._data if self._test is None else self._test

    def _after_epoch(self, epoch: int, history: History, _: Any) -> bool:
        self.history = {key: list(values) for key, values in history.items()}
        self.progress.value = epoch
        self.status.value = (
            f"Epoch {epoch} of {self.progress.max}: loss {history['loss'][-1]:.3f}, "
            f"training accuracy {history['accuracy'][-1]:.1f} %."
        )
        return not self._stop.is_set()

    def _pictures(self, settings: Mapping[str, Any], test: Dataset) -> str:
        kind = "resnet" if settings["residual"] else "plain"
        images, labels = (probe_points(part, TRACKS_DRAWN) for part in (test.images, test.labels))
        # Figures without pyplot: the kernel's thread shows and closes whatever pyplot holds.
        figure = Figure(figsize=(plots.PAGE_WIDTH, 6.0), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=(2, 3))
        plots.training_curves({kind: self.history}, figure=upper)
        track = record_tracks(self.model, images)[-1]
        planar = track.shape[2:] == (2,)
        draw, where = (
            (plots.tracks_2d, "in the plane")
            if planar
            else (partial(plots.tracks_pca, points=None), "on two principal components")
        )
        draw(track, labels, kind=kind, ax=lower.subplots())
        alt = (
            f"Above: loss, accuracy and line-shape score during training of {_in_words(settings)}. "
            f"Below: the tracks of {len(labels)} test points {where}. {_score_line(self.scores)}"
        )
        return _image(figure, alt)


def _widgets() -> Any:
    try:
        return import_module("ipywidgets")
    except ImportError as error:
        raise ImportError(
            "the live panel needs ipywidgets: run `pip install ipywidgets` (or install geobook "
            "with its extra `live`), restart the kernel and reload the page"
        ) from error


def _slider(widgets: Any, name: str, values: Sequence[Any], own: Any) -> Any:
    return widgets.SelectionSlider(
        options=[(f"{value:g}", value) for value in values],
        value=own if own in values else values[0],
        description=_LABELS[name],
        continuous_update=False,
        style={"description_width": "9em"},
        layout={"width": "min(30em, 95%)"},
    )


def _in_words(settings: Mapping[str, Any]) -> str:
    kind = "a ResNet" if settings["residual"] else "a plain network"
    rest = ", ".join(f"{_LABELS[k]} = {v:g}" for k, v in settings.items() if k != "residual")
    return f"{kind} with {rest}"


def _score_line(scores: Mapping[str, Any]) -> str:
    parts = [f"accuracy {scores['accuracy']:.1f} %"]
    for place, stage in enumerate(scores["stages"], start=1):
        which = f"stage {place}: " if len(scores["stages"]) > 1 else ""
        parts.append(f"{which}LSR {stage['lsr']:.2f}, LSS {stage['lss']:.2f}, OTS {_ots(stage)}")
    dead = " The network gives all points one answer: its scores mean nothing."
    return f"Test points: {'; '.join(parts)}.{dead if scores['dead'] else ''}"


def _ots(stage: Mapping[str, Any]) -> str:
    if stage["ots"] is None:
        return "undefined"
    return f"{stage['ots']:.2f} ({stage['ots_low']:.2f} to {stage['ots_high']:.2f})"


def _image(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=96, facecolor="white", metadata={"Software": None})
    packed = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img src="data:image/png;base64,{packed}" alt="{html.escape(alt)}" '
        'style="max-width:100%;height:auto;background:#fff">'
    )
