"""A real Chromium for the tests of pages. Everything outside the machine is refused.

Without Chromium or npm, what needs them is skipped, unless GEOBOOK_REQUIRE_BROWSER=1.
"""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from npm_package import AXE, NpmUnavailableError, fetch
from offline import MATHJAX as MATHJAX_FILE

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
REQUIRED = os.environ.get("GEOBOOK_REQUIRE_BROWSER") == "1"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "http://localhost")
# Noise of the theme that no setting of ours reaches.
HARMLESS = ("Got invalid theme mode", "null (reading 'classList')")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here, so that `-m "not browser"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def missing(what: str) -> NoReturn:
    """Skip, or fail where the environment promises a browser."""
    if REQUIRED:
        pytest.fail(f"GEOBOOK_REQUIRE_BROWSER=1, but {what}")
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Give the one Chromium that all browser tests share: CHROMIUM, else from the path."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("playwright is not installed")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        missing("there is no Chromium on the path")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        except Error as error:
            missing(f"{found} does not start: {error}")
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, with what it complained about and what it asked of the outside."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def note(self, text: str) -> None:
        """Keep a complaint, unless it is expected or known to be harmless."""
        if not any(known in text for known in (*HARMLESS, *self.expected)):
            self.complaints.append(text)


Open = Callable[..., Opened]


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Give a function that opens an address in a fresh context and keeps what went wrong.

    Its keyword arguments are those of a playwright context, for example
    ``viewport={"width": 390, "height": 844}`` or ``reduced_motion="reduce"``. At the end of the
    test, no page may have complained or asked for anything outside.
    """
    contexts = []
    pages: list[Opened] = []

    def open_address(address: str, **context: Any) -> Opened:
        contexts.append(chromium.new_context(**context))
        opened = Opened(contexts[-1].new_page())
        pages.append(opened)

        def answer(route: Any) -> None:
            if route.request.url.startswith(LOCAL):
                route.continue_()
            else:
                opened.refused.append(route.request.url)
                route.abort()

        def heard(message: Any) -> None:
            if message.type in ("error", "warning"):
                opened.note(message.text)

        contexts[-1].route("**/*", answer)
        opened.page.on("console", heard)
        opened.page.on("pageerror", lambda error: opened.note(str(error)))
        opened.page.goto(address)
        return opened

    yield open_address
    for context in contexts:
        context.close()
    assert [opened.refused for opened in pages if opened.refused] == []
    assert [opened.complaints for opened in pages if opened.complaints] == []


@pytest.fixture(scope="session")
def axe() -> str:
    """Give the source of axe-core."""
    try:
        return fetch(*AXE, ROOT / "_build" / ".npm").read_text(encoding="utf-8")
    except NpmUnavailableError as error:
        missing(f"axe-core could not be had: {error}")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def need_mathjax() -> None:
    """Skip, or fail, where the pages were built without npm and so need the network."""
    if not (SITE / MATHJAX_FILE).is_file():
        missing("the pages were built without npm and take MathJax from the network")


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Give the address of the built book, served on this machine."""
    if not (SITE / "index.html").is_file():
        pytest.fail(f"no pages in {SITE}: run `make book` first")
    need_mathjax()
    handler = functools.partial(_Quiet, directory=str(SITE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
