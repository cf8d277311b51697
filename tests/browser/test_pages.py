"""What a reader's browser makes of every built page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from conftest import SITE, Open, need_mathjax
from playwright.sync_api import Locator, Page

import offline

PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.glob("book/*.html"))
WEIGHT_BUDGET = 1_500_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SHARED = ("/_static/", "/searchindex.js", "/_sphinx_design_static/")
every_page = pytest.mark.parametrize("name", PAGES)

# Every element of the text that shows letters of its own, with its contrast to what is behind it.
CONTRASTS = """() => {
  const channel = v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
  const parse = text => {
    const part = text.match(/[\\d.]+/g).map(Number);
    return part.length === 3 ? [...part, 1] : part;
  };
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  for (const element of document.querySelectorAll(".bd-article *")) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const seen = element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
    if (!own || !seen) continue;
    if (element.closest("svg, mjx-assistive-mml, script, style, .visually-hidden")) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const front = over(parse(style.color), behind);
    const [high, low] = [light(front), light(behind)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), bold = +style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (high + .05) / (low + .05);
    if (ratio < needed - .01)
      found.push(`${ratio.toFixed(2)} <${element.tagName} ${element.className}> `
                 + element.textContent.trim().slice(0, 40));
  }
  return [...new Set(found)];
}"""


def test_the_pages_are_there():
    assert {"book/index.html", "book/api.html", "book/statistics.html"} <= set(PAGES)


def typeset(page: Page) -> None:
    """Wait for the mathematics of a page."""
    page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("() => MathJax.startup.promise.then(() => null)")


def has_mathematics(page: Page) -> bool:
    return page.locator(".math").count() > 0


@every_page
def test_mathematics_is_typeset(name: str, site: str, open_page: Open):
    page = open_page(site + name).page
    if not has_mathematics(page):
        return
    typeset(page)
    assert page.locator(".math:not(:has(mjx-container))").count() == 0
    assert page.locator("mjx-container [data-mjx-error], mjx-merror").count() == 0


def explorers(page: Page) -> list[Locator]:
    return page.locator(".geobook-explorer").all()


def shown(explorer: Locator) -> str:
    """Return what tells one picture of an explorer from another."""
    return explorer.locator(".picture").evaluate(
        "e => e.tagName === 'IMG' ? e.src : e.ariaLabel + e.innerHTML"
    )


def move_every_slider(page: Page) -> int:
    """Move every slider of a page by mouse and by keyboard; each time the picture must change."""
    moved = 0
    for explorer in explorers(page):
        explorer.scroll_into_view_if_needed()
        for slider in explorer.locator("input[type=range]").all():
            before = shown(explorer)
            box = slider.bounding_box()
            assert box is not None
            at_start = slider.input_value() == slider.get_attribute("min")
            place = box["width"] * (0.98 if at_start else 0.02)
            page.mouse.click(box["x"] + place, box["y"] + box["height"] / 2)
            after_mouse = shown(explorer)
            assert after_mouse != before, "the mouse changed nothing"
            slider.focus()
            page.keyboard.press("ArrowLeft" if at_start else "ArrowRight")
            assert shown(explorer) != after_mouse, "the arrow key changed nothing"
            assert slider.get_attribute("aria-valuetext")
            moved += 1
    return moved


@every_page
def test_every_explorer_answers_to_mouse_and_keyboard(name: str, site: str, open_page: Open):
    page = open_page(site + name).page
    moved = move_every_slider(page)
    assert moved >= len(explorers(page))


def test_the_chapters_hold_explorers():
    text = "".join((SITE / name).read_text(encoding="utf-8") for name in PAGES)
    assert text.count('class="geobook-explorer"') >= 3


@every_page
def test_nothing_scrolls_sideways_on_a_phone(name: str, site: str, open_page: Open):
    page = open_page(site + name, **PHONE).page
    if has_mathematics(page):
        typeset(page)
    wide = page.evaluate(
        """() => [...document.querySelectorAll('.bd-article *')]
          .filter(e => e.getBoundingClientRect().right > innerWidth + 1
                  && !e.closest('pre, table, mjx-container, div.math'))
          .map(e => `${e.tagName} ${e.className}`).slice(0, 5)"""
    )
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390, f"{width} pixels wide; widest: {wide}"


def show_in(theme: str, url: str, open_page: Open) -> Page:
    page = open_page(url, color_scheme=theme).page
    page.evaluate("theme => localStorage.setItem('mode', theme)", theme)
    page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
    page.reload(wait_until="load")
    assert page.evaluate("() => document.documentElement.dataset.theme") == theme
    if has_mathematics(page):
        typeset(page)
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
@every_page
def test_text_stands_out_and_axe_finds_nothing_serious(
    name: str, theme: str, site: str, axe: str, open_page: Open
):
    page = show_in(theme, site + name, open_page)
    assert page.evaluate(CONTRASTS) == []
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{rule['id']}: {rule['help']}: {[node['target'] for node in rule['nodes']][:4]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
    assert not serious, "\n".join(serious)


@every_page
def test_weight_of_a_page(name: str, site: str, open_page: Open):
    watched = open_page("about:blank")
    sizes: dict[str, int] = {}
    watched.page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    watched.page.goto(site + name, wait_until="networkidle")
    own = {url: size for url, size in sizes.items() if not any(part in url for part in SHARED)}
    assert any(url.endswith(name) for url in own)
    heaviest = json.dumps(dict(sorted(own.items(), key=lambda kv: -kv[1])[:5]), indent=1)
    assert sum(own.values()) <= WEIGHT_BUDGET, heaviest


@every_page
def test_the_page_works_from_a_folder(name: str, tmp_path_factory, open_page: Open):
    page = open_page((offline_copy(tmp_path_factory) / name).as_uri()).page
    if has_mathematics(page):
        typeset(page)
        assert page.locator(".math:not(:has(mjx-container))").count() == 0
    assert move_every_slider(page) >= len(explorers(page))


def test_the_offline_copy_opens_at_its_start_and_searches(tmp_path_factory, open_page: Open):
    copy = offline_copy(tmp_path_factory)
    opened = open_page((copy / "index.html").as_uri())
    opened.page.wait_for_url("**/book/index.html")
    # The results are there; the excerpts under them are not, since a folder answers no fetch.
    opened.expected = ("Access to fetch at 'file:", "net::ERR_FAILED", "Failed to fetch")
    opened.page.goto((copy / "search.html").as_uri() + "?q=straight")
    opened.page.wait_for_selector("ul.search li a")


_COPIES: dict[str, Path] = {}


def offline_copy(factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked archive that `make offline` makes."""
    need_mathjax()
    if "copy" not in _COPIES:
        folder = factory.mktemp("offline")
        offline.pack(SITE, folder / "geobook-offline.zip")
        with zipfile.ZipFile(folder / "geobook-offline.zip") as archive:
            archive.extractall(folder)
        _COPIES["copy"] = folder / "geobook-offline"
    return _COPIES["copy"]
