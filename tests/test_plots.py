"""Figures: what they show, what they refuse, that they come out the same twice."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from geobook import plots

SEEDED = np.random.default_rng(7)
TRACK = SEEDED.normal(size=(4, 12, 2)).cumsum(axis=0)
EPOCHS = np.arange(1, 6)


@pytest.fixture(autouse=True)
def _clean_figures():
    with mpl.rc_context():
        mpl.use("agg")
        plots.style()
        yield
    plt.close("all")


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def labelled_lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_kinds_differ_in_colour_dashes_and_mark():
    plain, residual = plots.look(False), plots.look("residual")
    assert plain is plots.look("plain")
    assert residual is plots.look(True) is plots.look("resnet")
    for field in ("colour", "dashes", "marker", "label"):
        assert getattr(plain, field) != getattr(residual, field)
    assert plots.look("untrained").label == "untrained"
    assert plots.look("a", 2).colour != plots.look("b", 3).colour


def test_colours_have_contrast_on_white():
    def luminance(colour):
        rgb = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    roles = [plots.KINDS["plain"].colour, plots.KINDS["resnet"].colour]
    for colour in roles:
        assert 1.05 / (luminance(colour) + 0.05) > 3  # WCAG 2.1, 1.4.11: graphical objects
    assert len(set(plots.shades(9))) == 9
    assert all(1.05 / (luminance(shade) + 0.05) > 1.7 for shade in plots.shades(9))


def test_style_sets_white_cards_and_live_text():
    plots.style()
    assert mpl.rcParams["svg.fonttype"] == "none"
    assert mpl.rcParams["figure.facecolor"] == "white"
    assert mpl.rcParams["font.family"] == ["sans-serif"]


def test_style_refuses_an_unknown_format(monkeypatch):
    monkeypatch.setenv("GEOBOOK_FIGURES", "gif")
    with pytest.raises(ValueError, match=r"GEOBOOK_FIGURES must be one of 'svg', 'png', not 'gif'"):
        plots.style()


@pytest.mark.parametrize("form", ["svg", "png"])
def test_same_bytes_twice(form):
    def drawn():
        ax = plots.tracks_2d(TRACK, np.arange(12) % 3)
        file = io.BytesIO()
        none = {"Date": None} if form == "svg" else {"Software": None}
        ax.figure.savefig(file, format=form, metadata=none)
        return file.getvalue()

    assert drawn() == drawn()


NOTEBOOK = """
from geobook import plots
plots.style()
from matplotlib import pyplot as plt
plots.tracks_2d([[[0, 0]], [[1, 1]]])
plt.show()
"""


@pytest.mark.parametrize(("form", "mime"), [("svg", "image/svg+xml"), ("png", "image/png")])
def test_a_kernel_shows_the_chosen_format(form, mime, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("GEOBOOK_FIGURES", form)
    monkeypatch.delenv("MPLBACKEND", raising=False)
    cells = [nbformat.v4.new_code_cell(NOTEBOOK) for _ in range(2)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client.NotebookClient(notebook, timeout=120).execute()
    first, second = (
        [o["data"] for o in cell.outputs if o.output_type == "display_data"]
        for cell in notebook.cells
    )
    assert len(first) == 1
    assert set(first[0]) == {mime, "text/plain"}
    assert first == second  # no date, no random ids


# ------------------------------------------------------------------ tracks


def test_tracks_2d_draws_every_point_and_names_classes():
    ax = plots.tracks_2d(
        TRACK, np.arange(12) % 3, class_names=["a", "b", "c"], axis_labels=("u", "v"), title="t"
    )
    lines = [line for line in ax.lines if len(line.get_xdata()) == 4 and line.get_ls() != "None"]
    assert len(lines) == 12
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title("left")) == ("u", "v", "t")
    drawn = sorted(tuple(line.get_xydata()[0]) for line in lines)
    assert np.allclose(drawn, sorted(map(tuple, TRACK[0])))


def test_tracks_2d_uses_the_role_and_the_given_axes():
    _, ax = plots.panels()
    assert plots.tracks_2d(torch.tensor(TRACK), ax=ax, kind="plain", straight=True) is ax
    zigzags = [line for line in ax.lines if line.get_ls() == "--"]
    assert len(zigzags) == 12
    assert {line.get_color() for line in ax.lines} == {plots.KINDS["plain"].colour}
    assert sum(line.get_ls() == ":" for line in ax.lines) == 12
    assert plots.tracks_2d(TRACK, np.zeros(12)).texts[0].get_text() == "0"


def test_many_tracks_become_pixels_inside_the_vector_figure():
    few, many = np.zeros((2, 400, 2)), np.zeros((2, 401, 2))
    assert not any(line.get_rasterized() for line in plots.tracks_2d(few).lines)
    assert all(line.get_rasterized() for line in plots.tracks_2d(many).lines)


@pytest.mark.parametrize("dimension", [3, 40])  # fewer and more dimensions than states
def test_project_finds_the_plane_that_holds_the_tracks(dimension):
    basis, _ = np.linalg.qr(SEEDED.normal(size=(dimension, 2)))
    flat = TRACK * [3.0, 1.0] @ basis.T
    states, explained = plots.project(flat)
    assert states.shape == (4, 12, 2)
    assert explained.sum() == pytest.approx(1)
    assert explained[0] > explained[1] > 0
    before = np.linalg.norm(np.diff(flat, axis=0), axis=-1)
    assert np.allclose(np.linalg.norm(np.diff(states, axis=0), axis=-1), before)


def test_project_of_degenerate_tracks():
    states, explained = plots.project(np.ones((3, 4, 5)))
    assert not states.any()
    assert explained.tolist() == [0, 0]
    line, share = plots.project(np.arange(6.0).reshape(3, 2, 1))
    assert share == pytest.approx([1, 0])
    assert np.allclose(np.diff(line[:, 0, 0]), 2)
    one, share = plots.project(np.arange(14.0).reshape(2, 1, 7))
    assert share == pytest.approx([1, 0])
    assert np.isfinite(one).all()


def test_tracks_pca_says_how_much_it_shows():
    track = np.zeros((3, 250, 6))
    track[..., 0] = SEEDED.normal(size=(3, 250)) * 3
    track[..., 1] = SEEDED.normal(size=(3, 250))
    ax = plots.tracks_pca(track, np.arange(250) % 2, points=50)
    assert ax.get_xlabel().startswith("1st principal component (")
    assert ax.get_ylabel().endswith("% of variance)")
    assert sum(len(line.get_xdata()) == 3 for line in ax.lines) == 50
    everything = plots.tracks_pca(track, points=None, kind="resnet")
    assert sum(len(line.get_xdata()) == 3 for line in everything.lines) == 250


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.tracks_2d(np.zeros((3, 4, 3))), r"\(layers, points, 2\).*tracks_pca"),
        (lambda: plots.tracks_2d(np.zeros((1, 4, 2))), "track must hold at least two layers"),
        (lambda: plots.tracks_2d(np.full((2, 4, 2), np.nan)), "track must be finite"),
        (lambda: plots.tracks_2d(TRACK, [0, 1]), "labels must hold one class for each of 12"),
        (lambda: plots.tracks_pca(TRACK, np.zeros(5)), "labels must hold one class"),
        (lambda: plots.tracks_pca(TRACK, points=0), "points must be a whole number"),
        (lambda: plots.score_curves(EPOCHS, {}, ylabel="y"), "curves must hold at least one"),
        (lambda: plots.score_curves(EPOCHS, {"a": [1]}, ylabel="y"), r"curves\['a'\].*\(5,\)"),
        (lambda: plots.score_curves([], {"a": []}, ylabel="y"), "epochs must be a non-empty"),
        (lambda: plots.scores_against([2, 1], {"a": [1, 2]}, ylabel="y"), "values must increase"),
        (lambda: plots.scores_against([1], {"a": [1]}, ylabel="y", scale="x"), "scale must be one"),
        (
            lambda: plots.scores_against([-1, 1], {"a": [1, 2]}, ylabel="y", scale="log"),
            "values must not be negative",
        ),
        (lambda: plots.segment_bars({}), "proportions must hold at least one"),
        (lambda: plots.segment_bars({"a": [1], "b": [0.5, 0.5]}), r"proportions\['b'\]"),
        (lambda: plots.training_curves({}), "histories must hold at least one"),
        (lambda: plots.training_curves({"plain": {"epoch": []}}), "must have the key 'loss'"),
        (lambda: plots.image_grid(np.zeros((4, 4))), r"images must have shape \(n, h, w\)"),
        (lambda: plots.image_grid(np.zeros((0, 4, 4))), "images must hold at least one"),
        (lambda: plots.image_grid(np.zeros((2, 4, 4)), [1]), "titles must hold 2 entries, not 1"),
        (lambda: plots.clouds(np.zeros((3, 3)), np.zeros((3, 2))), "x must have shape"),
        (lambda: plots.clouds(TRACK[0], TRACK[1], [0] * 11), "partners must hold 12 indices"),
        (lambda: plots.clouds(TRACK[0], TRACK[1], [12] * 12), "indices below 12"),
        (lambda: plots.panels(0), "rows must be a whole number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_text_instead_of_numbers_is_a_type_error():
    with pytest.raises(TypeError, match="epochs must hold numbers"):
        plots.score_curves(["one"], {"a": [1]}, ylabel="y")


def test_clouds_join_partners():
    x, y, partners = TRACK[0], TRACK[-1], np.arange(12)[::-1]
    ax = plots.clouds(x, y, partners, names=("before", "after"), title="who goes where")
    ways = [line.get_xydata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert np.allclose(ways, np.stack([x, y[partners]], axis=1))
    assert legend_of(ax) == ["before", "after"]


# ------------------------------------------------------------------ scores


def test_score_curves_show_mean_band_and_every_seed():
    seeds = np.array([[1.0, 2, 3, 4, 5], [3, 2, 5, 4, 7]])
    ax = plots.score_curves(EPOCHS, {"plain": seeds, "resnet": seeds[0]}, ylabel="LSS", best=1)
    lines = labelled_lines(ax)
    assert legend_of(ax) == ["plain network", "ResNet"]
    assert np.allclose(lines["plain network"].get_ydata(), [2, 2, 4, 4, 6])
    assert np.allclose(lines["ResNet"].get_ydata(), seeds[0])
    assert len(ax.collections) == 1  # one band, for the only entry with several seeds
    assert len(ax.lines) == 2 + 2 + 1
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "LSS")


def test_numbered_curves_are_shaded_in_order_whatever_the_order_given():
    curves = {1e-2: EPOCHS, 0.0: EPOCHS, 1e-3: EPOCHS}
    ax = plots.score_curves(EPOCHS, curves, ylabel="LSS", kind="plain", log=True, title="plain")
    lines = labelled_lines(ax)
    order = [lines[name].get_color() for name in ("λ = 0", "λ = 0.001", "λ = 0.01")]
    assert order == plots.shades(3)
    assert all(line.get_ls() == "--" for line in lines.values())
    assert ax.get_yscale() == "log"


def test_missing_scores_are_left_out_not_drawn_as_zero():
    seeds = np.array([[0.5, np.nan, 1.0], [np.nan, np.nan, 0.5]])
    ax = plots.scores_against([1, 2, 3], {"resnet": seeds}, ylabel="OTS")
    mean = labelled_lines(ax)["ResNet"].get_ydata()
    assert mean[0] == 0.5
    assert np.isnan(mean[1])
    assert mean[2] == 0.75


def test_weight_decay_axis_places_zero_left_of_the_least_positive_value():
    decays = [0, 1e-4, 3e-4, 1e-3, 1e-2]
    ax = plots.scores_against(decays, {"plain": np.ones((3, 5))}, ylabel="LSS", best=1)
    ax.figure.canvas.draw()
    assert ax.get_xscale() == "symlog"
    assert ax.get_xlabel() == "weight decay λ"
    places = ax.transData.transform(np.c_[decays, np.ones(5)])[:, 0]
    gaps = np.diff(places)
    assert (gaps > 5).all()
    assert gaps[0] < gaps.sum() / 2
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["0", "$10^{-4}$", "$10^{-3}$", "$10^{-2}$"]


def test_scale_is_chosen_by_the_spread():
    def scale(values, **how):
        ax = plots.scores_against(values, {"a": np.ones(len(values))}, ylabel="y", **how)
        ax.figure.canvas.draw()
        return ax.get_xscale(), [text.get_text() for text in ax.get_xticklabels()]

    assert scale([1, 5, 10, 15])[0] == "linear"
    assert scale([0, 1])[0] == "linear"
    assert scale([1, 100], scale="linear")[0] == "linear"
    assert scale([0.2, 0.5], scale="log") == ("log", ["0.2", "0.5"])
    assert scale([3e-3, 5e-1]) == ("log", [r"$3\cdot 10^{-3}$", r"$5\cdot 10^{-1}$"])


def test_segment_bars_are_grouped_and_marked_with_equal_steps():
    shares = {"plain": SEEDED.dirichlet(np.ones(5), 3), "resnet": np.full(5, 0.2)}
    ax = plots.segment_bars(shares, title="shares")
    heights = [bar.get_height() for bar in ax.patches]
    assert np.allclose(heights, [*shares["plain"].mean(axis=0), *shares["resnet"]])
    assert set(legend_of(ax)) == {"plain network", "ResNet", "equal steps, 1/L"}
    assert ax.lines[-1].get_ydata()[0] == pytest.approx(0.2)
    assert {bar.get_hatch() for bar in ax.patches[:5]} == {"//"}
    assert {bar.get_hatch() for bar in ax.patches[5:]} == {None}
    assert ax.get_ylabel() == "share of the track's length"


def test_training_curves():
    history = {
        "epoch": [1, 2, 3],
        "loss": [2.0, 1.0, 0.5],
        "accuracy": [20.0, 50.0, 90.0],
        "test_accuracy": [None, None, None],
        "lss": [[2.0, 4.0], None, [1.0, 2.0]],
    }
    figure = plots.training_curves({"plain": history, "resnet": history})
    labels = ["training loss", "training accuracy in %", "line-shape score LSS"]
    assert [ax.get_ylabel() for ax in figure.axes] == labels
    assert legend_of(figure.axes[0]) == ["plain network", "ResNet"]
    assert np.allclose(figure.axes[1].lines[1].get_ydata(), [20, 50, 90])
    assert np.allclose(figure.axes[2].lines[0].get_xydata(), [[1, 3], [3, 1.5]])


def test_training_curves_prefer_the_test_and_fill_a_given_figure():
    history = {"epoch": [1, 2], "loss": [1, 1], "accuracy": [10, 20], "lss": [None, None]}
    own = plt.figure()
    tested = plots.training_curves({"plain": {**history, "test_accuracy": [None, 80]}}, figure=own)
    assert tested is own
    assert tested.axes[1].get_ylabel() == "test accuracy in %"
    assert np.allclose(tested.axes[1].lines[0].get_xydata(), [[2, 80]])


# ------------------------------------------------------------------ images


def test_image_grid_shows_all_images_on_one_scale():
    images = torch.linspace(-1, 2, 11 * 8 * 8).reshape(11, 1, 8, 8)
    figure = plots.image_grid(images, list(range(11)), columns=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == 12
    assert len(shown) == 11
    assert [ax.get_title("center") for ax in shown] == [str(i) for i in range(11)]
    assert shown[0].images[0].get_array().min() == 0
    assert shown[-1].images[0].get_array().max() == 1
    assert shown[0].images[0].get_array().max() < 0.2


def test_image_grid_takes_colour_and_flat_images():
    colour = plots.image_grid(np.zeros((2, 3, 4, 5)))
    assert colour.axes[0].images[0].get_array().shape == (4, 5, 3)
    grey = plots.image_grid(np.ones((2, 4, 5)))
    assert grey.axes[0].images[0].get_array().shape == (4, 5)


def test_share_bars_stack_up_and_name_their_parts():
    ax = plots.share_bars(
        ["0", "0.1"], {"one": [0.25, np.nan], "two": [0.75, np.nan]}, xlabel="x", ylabel="share"
    )
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[0] == 0.25
    assert ax.patches[2].get_y() == 0.25
    assert ax.patches[2].get_y() + heights[2] == 1
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["one", "two"]
    assert ax.patches[0].get_hatch() != ax.patches[2].get_hatch()


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "shares must hold 1 to 7 parts, not 0"),
        ({"one": [1.0]}, r"shares\['one'\] must hold 2 numbers"),
        ({str(i): [0.1, 0.1] for i in range(8)}, "not 8"),
    ],
)
def test_bad_shares_are_named(shares, message):
    with pytest.raises(ValueError, match=message):
        plots.share_bars(["a", "b"], shares, xlabel="x", ylabel="y")
