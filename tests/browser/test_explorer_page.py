"""Explorers in a real browser: mouse, keyboard, play, print, phone, no JavaScript."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from geobook.explorer import Line, Lines, explore

pytestmark = pytest.mark.browser


def bars(decay: float, depth: int) -> Figure:
    figure = Figure(figsize=(3, 2))
    figure.subplots().bar([0, 1], [depth, 100 * decay])
    return figure


def curve(power: int) -> Lines:
    x = [i / 10 for i in range(11)]
    return Lines([Line(x, [v**power for v in x], "plain", "x to the power")], "x", "y")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A bare page with a picture explorer and two equal light ones."""
    pictures = explore(
        bars,
        alt=lambda decay, depth: f"Bars for decay {decay} and depth {depth}.",
        labels={"decay": "weight decay λ"},
        start={"depth": 5},
        caption="Two bars & <nothing> else",
        decay=[0, 0.001, 0.01],
        depth=[1, 5, 10, 20],
    )
    light = [
        explore(curve, alt=lambda power: f"Curve of power {power}.", power=range(1, 8))
        for _ in range(2)
    ]
    body = "".join(explorer.html for explorer in (pictures, *light))
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Explorers</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f'<body><p>before</p>{body}<input id="after"></body></html>',
        encoding="utf-8",
    )
    return path.as_uri()


@pytest.fixture
def opened(open_page, address):
    opened = open_page(address)
    yield opened
    assert opened.complaints == []
    assert opened.refused == []


def test_ids_are_distinct_and_all_start(opened):
    ids = opened.page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids)) == 5
    assert opened.page.locator(".geobook-explorer[data-ready]").count() == 3
    names = opened.page.eval_on_selector_all("figure", "all => all.map(e => e.dataset.explorer)")
    assert len(set(names)) == 3


def test_mouse_changes_picture_text_and_alternative(opened):
    page = opened.page
    image, slider = page.locator("img"), page.get_by_label("weight decay λ").first
    before = image.get_attribute("src")
    assert image.get_attribute("alt") == "Bars for decay 0 and depth 5."
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    assert image.get_attribute("src") != before
    assert image.get_attribute("alt") == "Bars for decay 0.01 and depth 5."
    assert slider.get_attribute("aria-valuetext") == "0.01"
    assert page.locator("output").first.inner_text() == "0.01"
    assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") == 288
    page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
    assert image.get_attribute("src") == before


def test_keys_reach_every_state_and_stop_at_the_ends(opened):
    page = opened.page
    depth = page.get_by_label("depth").first
    depth.focus()
    alts = set()
    for key in ("Home", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
        alts.add(page.locator("img").get_attribute("alt"))
    assert alts == {f"Bars for decay 0 and depth {d}." for d in (1, 5, 10, 20)}
    for key, value in (("ArrowLeft", "10"), ("PageDown", "5"), ("PageUp", "10"), ("End", "20"),
                       ("ArrowDown", "10"), ("Home", "1"), ("ArrowLeft", "1")):  # fmt: skip
        page.keyboard.press(key)
        assert depth.get_attribute("aria-valuetext") == value, key


def test_keys_do_not_reach_the_notebook_but_shortcuts_do(opened):
    page = opened.page
    page.evaluate(
        "window.heard = []; document.addEventListener('keydown', e => window.heard.push(e.key))"
    )
    page.get_by_label("depth").first.focus()
    for key in ("ArrowDown", "Home", "Control+ArrowRight", "a"):
        page.keyboard.press(key)
    heard = page.evaluate("window.heard")
    assert "ArrowDown" not in heard
    assert "Home" not in heard
    assert heard[-2:] == ["ArrowRight", "a"]


def test_equal_explorers_move_apart(opened):
    page = opened.page
    first, second = page.locator("figure").nth(1), page.locator("figure").nth(2)
    paths = [figure.locator("path[data-line]") for figure in (first, second)]
    before = paths[0].get_attribute("d")
    assert paths[1].get_attribute("d") == before
    second.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert paths[0].get_attribute("d") == before
    assert paths[1].get_attribute("d") != before
    labels = [f.locator(".picture").get_attribute("aria-label") for f in (first, second)]
    assert labels == ["Curve of power 1.", "Curve of power 2."]


def test_play_steps_to_the_end_and_stops(opened):
    page = opened.page
    page.clock.install()
    page.reload()
    button = page.get_by_role("button", name="Play: step through power").first
    output = page.locator("figure").nth(1).locator("output")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.clock.run_for(1500)
    assert output.inner_text() == "3"
    button.click()
    page.clock.run_for(3000)
    assert output.inner_text() == "3"
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    page.clock.run_for(10_000)
    assert output.inner_text() == "7"
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert output.inner_text() == "1"


def test_reduced_motion_hides_play_and_stops_it(open_page, address):
    page = open_page(address).page
    button = page.locator("button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.emulate_media(reduced_motion="reduce")
    button.wait_for(state="hidden", timeout=5000)
    assert button.get_attribute("aria-pressed") == "false"


def test_a_phone_scrolls_only_down(open_page, address):
    page = open_page(address, viewport={"width": 390, "height": 844}, has_touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.locator(kind).first.bounding_box() for kind in ("label", "output", "input")]
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=4)  # value beside its label
    assert boxes[2]["width"] > 300
    assert boxes[2]["height"] >= 44


def test_print_shows_the_picture_and_says_which(opened):
    page = opened.page
    page.get_by_label("depth").first.focus()
    page.keyboard.press("End")
    page.emulate_media(media="print")
    figure = page.locator("figure").first
    assert figure.locator("img").is_visible()
    assert figure.locator(".controls").is_hidden()
    assert figure.locator(".shown").inner_text() == (
        "Shown: weight decay λ = 0, depth = 20, one of 12 pictures."
    )


def test_without_javascript_the_starting_picture_stands(open_page, address):
    page = open_page(address, java_script_enabled=False).page
    figure = page.locator("figure").first
    assert figure.locator("img").is_visible()
    assert figure.locator(".controls").is_hidden()
    text = figure.locator(".shown").inner_text()
    assert text.startswith("Shown: weight decay λ = 0, depth = 5, one of 12 pictures.")
    assert "JavaScript" in text


def test_focus_is_visible(opened):
    page = opened.page
    page.keyboard.press("Tab")
    focused = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert page.evaluate("document.activeElement.type") == "range"
    assert focused == "solid"


def test_light_figures_follow_a_dark_page(opened):
    page = opened.page
    path = page.locator("path[data-line]").first
    light = path.evaluate("p => getComputedStyle(p).stroke")
    page.evaluate(
        "document.documentElement.dataset.theme = 'dark';"
        "document.documentElement.style.setProperty('--pst-color-text-base', '#ced6dd');"
        "document.documentElement.style.setProperty('--pst-color-background', '#14181e')"
    )
    assert path.evaluate("p => getComputedStyle(p).stroke") != light
    text = page.locator("figure svg text").first
    assert text.evaluate("t => getComputedStyle(t).fill") == "rgb(206, 214, 221)"
    card = page.locator("img").evaluate("i => getComputedStyle(i).backgroundColor")
    assert card == "rgb(255, 255, 255)"
