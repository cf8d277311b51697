"""Explorers: the HTML they make, what they refuse, that the bytes repeat."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from geobook.explorer import Line, Lines, explore, track_lines

PROGRAM = """
from matplotlib.figure import Figure
from geobook.explorer import Line, Lines, explore
import numpy as np

def draw(decay, depth):
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot(np.sin(np.arange(depth) + decay), "o-")
    return figure

def light(power):
    x = np.linspace(0, 1, 9)
    return Lines([Line(x, x**power, label="x to the power")], "x", "y")

one = explore(draw, alt=lambda decay, depth: f"{decay}, {depth}", decay=[0, .1], depth=[3, 5])
two = explore(light, alt=lambda power: f"power {power}", power=[1, 2])
print(one.html + two.html)
"""


class Page(HTMLParser):
    """Tags with attributes in order, and the text of scripts."""

    VOID = ("input", "img")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], {}
        self.feed(html)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        kind = self.open[-1] if self.open else ""
        self.text.setdefault(kind, []).append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self):
        return json.loads(self.text["script"][0])


def bars(decay, depth):
    figure = plt.figure(figsize=(2, 1.5))
    figure.subplots().bar([0, 1], [depth, 100 * decay])
    return figure


def alt(decay, depth):
    return f"Bars, decay {decay}, depth {depth}"


def curve(power):
    x = np.linspace(0, 1, 6)
    return Lines([Line(x, x**power, "plain", "curve"), Line([0, 1], [0, 1])], "x", "y < z")


AXES = {"decay": [0, 0.001], "depth": [1, 5, 10]}


@pytest.fixture(scope="module")
def pictures():
    return explore(
        bars,
        alt=alt,
        caption='A "caption" with <tags> & more',
        labels={"decay": "weight decay λ"},
        formats={"decay": ".0e", "depth": lambda depth: f"{depth} blocks"},
        start={"depth": 5},
        **AXES,
    )


def test_one_labelled_slider_for_every_axis(pictures):
    page = Page(pictures.html)
    sliders, labels, outputs = page.all("input"), page.all("label"), page.all("output")
    assert [label["for"] for label in labels] == [slider["id"] for slider in sliders]
    assert [output["for"] for output in outputs] == [slider["id"] for slider in sliders]
    assert page.text["label"] == ["weight decay λ", "depth"]
    assert [(s["type"], s["min"], s["max"], s["value"]) for s in sliders] == [
        ("range", "0", "1", "0"),
        ("range", "0", "2", "1"),
    ]
    assert [slider["aria-valuetext"] for slider in sliders] == ["0e+00", "5 blocks"]
    assert page.text["output"] == ["0e+00", "5 blocks"]
    assert {output["aria-live"] for output in outputs} == {"polite"}


def test_every_state_has_its_picture_and_alternative(pictures):
    page = Page(pictures.html)
    data = page.data
    states = list(itertools.product(*AXES.values()))
    assert data["alts"] == [alt(*state) for state in states] == list(pictures.alts)
    assert len(data["frames"]) == len(states)
    (image,) = page.all("img")
    assert image["alt"] == "Bars, decay 0, depth 5"
    shown = [image["src"] if uri is None else uri for uri in data["pictures"]]
    assert len(set(shown)) == len(states)
    assert data["frames"][1] == data["inline"]
    for uri in shown:
        picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert picture.size == (192, 144)
        assert picture.mode == "P"
        assert len(picture.getcolors()) <= 64
        assert "Software" not in picture.info


def test_text_is_escaped_and_says_what_is_shown(pictures):
    page = Page(pictures.html)
    assert "".join(page.text["figcaption"]) == 'A "caption" with <tags> & more'
    assert page.text["b"] == ["weight decay λ = 0e+00, depth = 5 blocks"]
    assert "one of 6 pictures" in "".join(page.text["p"])


def test_data_cannot_close_its_script():
    nasty = "</script><script>alert(1)</script> <!--"
    explorer = explore(curve, alt=lambda power: f"{nasty} {power}", power=[1, 2])
    page = Page(explorer.html)
    assert len(page.all("script")) == 2
    assert page.data["alts"][1] == f"{nasty} 2"


def test_only_our_own_scoped_code_and_no_address_outside(pictures):
    for forbidden in ("http:", "https:", "//cdn", "<link", "import(", "fetch("):
        assert forbidden not in pictures.html
    (name,) = [figure["data-explorer"] for figure in Page(pictures.html).all("figure")]
    assert pictures.html.count(f'("{name}");</script>') == 1
    style = "".join(Page(pictures.html).text["style"])
    rules = [line for line in style.split("\n") if "{" in line and not line.startswith("@media")]
    assert all("geobook-explorer" in rule for rule in rules)


def test_repr_tells_what_it_is(pictures):
    assert repr(pictures) == (
        "Explorer over weight decay λ (2) x depth (3): a figure with sliders, for a browser"
    )
    assert pictures._repr_html_() is pictures.html
    assert pictures.size == len(pictures.html.encode())


def test_equal_explorers_differ_only_in_their_number():
    one, two = (explore(curve, alt=lambda power: f"{power}", power=[1, 2]) for _ in range(2))
    names = [Page(e.html).all("figure")[0]["data-explorer"] for e in (one, two)]
    stems = [name.rsplit("-", 1) for name in names]
    assert stems[0][0] == stems[1][0]
    assert int(stems[1][1]) == int(stems[0][1]) + 1
    assert one.html.replace(names[0], names[1]) == two.html


def test_fresh_processes_make_the_same_bytes():
    def run(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "MPLBACKEND": "agg"}
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout

    first = run("1")
    assert len(first) > 10_000
    assert run("2") == first


def test_figures_are_closed_and_axes_are_accepted():
    before = plt.get_fignums()
    explorer = explore(lambda n: plt.subplots()[1], alt=lambda n: f"empty {n}", n=[1, 2])
    assert plt.get_fignums() == before
    data = Page(explorer.html).data
    assert data["pictures"] == [None]  # equal pictures are kept once
    assert data["frames"] == [0, 0]


def test_figures_are_closed_after_a_failure():
    def broken(n):
        figure = plt.figure()
        figure.text(0, 0, "$\\unknown{$")
        return figure

    before = plt.get_fignums()
    with pytest.raises(ValueError, match="unknown"):
        explore(broken, alt=lambda n: "broken", n=[1])
    assert plt.get_fignums() == before


def test_a_single_state_has_no_play_button():
    assert "<button" not in explore(curve, alt=lambda power: "a", power=[1]).html
    assert "<button" in explore(curve, alt=lambda power: "a", power=[1, 2, 3]).html


def test_strings_and_array_values():
    axes = {"decay": np.array([0.0, 0.5]), "depth": ["shallow", "deep"]}
    seen = []
    explorer = explore(
        lambda decay, depth: seen.append((decay, depth)) or curve(2),
        alt=lambda decay, depth: f"{decay} {depth}",
        start={"depth": "deep", "decay": np.float64(0.5)},
        formats={"decay": "{:.1f}"},
        **axes,
    )
    assert seen == [(0.0, "shallow"), (0.0, "deep"), (0.5, "shallow"), (0.5, "deep")]
    assert all(type(decay) is float for decay, _ in seen)
    assert [axis.start for axis in explorer.axes] == [1, 1]
    assert [axis.texts for axis in explorer.axes] == [("0.0", "0.5"), ("shallow", "deep")]


# ------------------------------------------------------------------ light figures


def places(path):
    """Absolute points of path data M x y l dx dy dx dy ..., as a browser reads it."""
    numbers = [int(n) for n in path.replace("-", " -").replace("M", " ").replace("l", " ").split()]
    return np.array(numbers).reshape(-1, 2).cumsum(axis=0)


def test_light_states_are_path_data_within_a_tenth_of_a_pixel():
    explorer = explore(curve, alt=lambda power: f"power {power}", power=[1, 2, 3])
    page = Page(explorer.html)
    drawn = [path for path in page.all("path") if "data-line" in path]
    data = page.data
    assert [path["d"] for path in drawn] == [data["paths"][n] for n in data["frames"][0]]
    assert len(data["paths"]) == 4  # the straight line is the same in every state
    assert [path.get("stroke-dasharray") for path in drawn] == ["60 50", None]
    (picture,) = [div for div in page.all("div") if div.get("role") == "img"]
    assert picture["aria-label"] == "power 1"
    assert page.text["span"][0] == "curve"
    assert "y < z" in page.text["text"]
    x = np.linspace(0, 1, 6)
    unit = (np.array([4800 - 620 - 150, -(3200 - 110 - 480)]) / 1.1)[None]
    zero = np.array([620, 3200 - 480]) + 0.05 * unit
    for power, frame in zip((1, 2, 3), data["frames"], strict=True):
        found = places(data["paths"][frame[0]])[1:]  # without the start, which comes twice
        assert np.abs(found[-6:] - (np.stack([x, x**power], axis=1) * unit + zero)).max() <= 0.5


def test_gaps_dots_and_hidden_lines():
    nan = float("nan")
    panel = Lines(
        [Line([0, 1, nan, 2, 3], [0, 1, 0, 1, 0]), Line([0, 1], [1, 1], dots=True), Line([], [])],
        "x",
        "y",
        xlim=(0, 3),
        ylim=(0, 1),
        equal=True,
    )
    explorer = explore(lambda n: panel, alt=lambda n: "gaps", n=[1])
    paths = [path["d"] for path in Page(explorer.html).all("path") if "data-line" in path]
    assert paths[0].count("M") == 2
    assert paths[1].count("h0") == 2
    assert paths[2] == ""


def test_panels_stand_side_by_side_and_stay_light():
    track = np.random.default_rng(0).normal(size=(6, 40, 2)).cumsum(axis=0)

    def draw(depth):
        panels = []
        for kind in ("plain", "resnet"):
            lines = track_lines(track[: depth + 1], np.arange(40) % 3, kind=kind)
            panels.append(Lines(lines, "first", "second", title=kind))
        return panels

    explorer = explore(draw, alt=lambda depth: f"tracks, {depth}", depth=range(1, 6))
    page = Page(explorer.html)
    assert [text for text in page.text["text"] if text in ("plain", "resnet")] == [
        "plain",
        "resnet",
    ]
    assert len(page.data["frames"][0]) == 2 * 3 * 2
    assert explorer.size < 60_000


def test_track_lines_hold_every_track():
    track = np.arange(24.0).reshape(3, 4, 2)
    lines = track_lines(track, [1, 0, 1, 0], kind="plain")
    assert [line.colour for line in lines] == [0, 0, 1, 1]
    assert [line.dashed for line in lines] == [True, False, True, False]
    assert np.array_equal(lines[2].x, [0, 8, 16, np.nan, 4, 12, 20, np.nan], equal_nan=True)
    assert np.array_equal(lines[3].y, [17, 21])
    assert [line.colour for line in track_lines(track, kind="resnet")] == ["resnet", "resnet"]


# ------------------------------------------------------------------ refusals


def test_over_budget_tells_size_states_and_what_to_thin():
    axes = {"decay": [0, 1], "depth": list(range(1, 11))}
    with pytest.raises(ValueError, match="must stay within") as caught:
        explore(bars, alt=alt, max_bytes=30_000, **axes)
    message = str(caught.value)
    assert "within 30,000 bytes, but has " in message
    assert "20 states of about " in message
    room = int(message.split("'depth', from 10 to ")[1].split()[0])
    assert 1 <= room < 10
    thinner = {**axes, "depth": axes["depth"][:room]}
    assert explore(bars, alt=alt, max_bytes=30_000, **thinner).size <= 30_000


def test_over_budget_where_thinning_cannot_help():
    with pytest.raises(ValueError, match="draw smaller or simpler pictures, or raise max_bytes"):
        explore(bars, alt=alt, max_bytes=500, **AXES)


def test_a_huge_grid_is_refused_before_drawing():
    def never(a, b):
        raise AssertionError("drawn")

    with pytest.raises(ValueError, match=r"at most 1000 states, not 1200: thin the axis 'a'.* 40"):
        explore(never, alt=lambda a, b: "x", a=range(40), b=range(30))


def sized(n):
    return Figure(figsize=(n, 1))


def text(n):
    return f"n = {n}"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: explore(sized, alt=text), ValueError, "at least one axis"),
        (lambda: explore(sized, alt=text, n=[]), ValueError, "n must have at least one value"),
        (lambda: explore(sized, alt=text, n="abc"), TypeError, "n must be a sequence"),
        (lambda: explore(sized, alt=text, n=3), TypeError, "n must be a sequence of values, not 3"),
        (lambda: explore(sized, alt=text, n=[1, 2, 1]), ValueError, "repeat a value, but 1 comes"),
        (
            lambda: explore(sized, alt=text, n=[1, 2], start={"n": 3}),
            ValueError,
            r"start\['n'\] must be one of \[1, 2\], not 3",
        ),
        (
            lambda: explore(sized, alt=text, n=[1], start={"m": 1}),
            ValueError,
            r"start must name axes \(n\), not 'm'",
        ),
        (lambda: explore(sized, alt=text, n=[1], labels={"m": ""}), ValueError, "labels must name"),
        (
            lambda: explore(sized, alt=text, n=[1], formats={"n": ".q"}),
            ValueError,
            r"formats\['n'\] cannot write 1",
        ),
        (lambda: explore(sized, alt=text, m=[1]), TypeError, "draw must accept the axes m"),
        (lambda: explore(sized, alt=lambda m: "", n=[1]), TypeError, "alt must accept the axes n"),
        (lambda: explore(sized, alt="text", n=[1]), TypeError, "alt must be callable"),
        (lambda: explore(3, alt=text, n=[1]), TypeError, "draw must be callable"),
        (lambda: explore(sized, alt=lambda n: " ", n=[1]), TypeError, "alt must return a text"),
        (lambda: explore(lambda n: "x", alt=text, n=[1]), TypeError, "draw must return a"),
        (lambda: explore(lambda n: [], alt=text, n=[1]), TypeError, "draw must return a"),
        (lambda: explore(sized, alt=text, n=[1, 2]), ValueError, "figures of one size"),
        (lambda: explore(sized, alt=text, n=[1], max_bytes=0), ValueError, "max_bytes must be"),
        (
            lambda: explore(lambda n: curve(1) if n else sized(1), alt=text, n=[0, 1]),
            TypeError,
            "for every state",
        ),
        (
            lambda: explore(lambda n: sized(1) if n else curve(1), alt=text, n=[0, 1]),
            TypeError,
            "for every state",
        ),
        (
            lambda: explore(
                lambda n: Lines([Line([0], [0], label=str(n))], "x", "y"), alt=text, n=[0, 1]
            ),
            ValueError,
            "the same lines, labels and limits",
        ),
        (
            lambda: explore(lambda n: Lines([Line([], [])], "x", "y"), alt=text, n=[0]),
            ValueError,
            "at least one finite point",
        ),
        (lambda: Line([1], [1, 2]), ValueError, "sequences of one length"),
        (lambda: Line([1], [1], colour=7), ValueError, "colour must be 0 to 6"),
        (lambda: Line([1], [1], colour="red"), ValueError, "colour must be 0 to 6"),
        (lambda: Line([1], [1], width=0), ValueError, "width must be"),
        (lambda: Lines([], "x", "y"), ValueError, "at least one Line"),
        (lambda: Lines([Line([1], [1])], "x", "y", xlim=(1, 1)), ValueError, "xlim must be two"),
        (lambda: track_lines(np.zeros((2, 3, 4))), ValueError, "track must have shape"),
        (lambda: track_lines(np.zeros((2, 3, 2)), [1]), ValueError, "labels must hold one class"),
        (lambda: track_lines(np.zeros((2, 3, 2)), kind="x"), ValueError, "kind must be one of"),
        (
            lambda: track_lines(np.zeros((2, 8, 2)), np.arange(8)),
            ValueError,
            "labels must hold at most 7 classes, not 8",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
