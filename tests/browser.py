"""A browser for the tests of the built site: Debian's Chromium, driven by Playwright."""

import functools
import os
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_SECONDS

REQUIRED = os.environ.get("TSP_BROWSER") == "required"
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
TYPESET = "!window.MathJax || (MathJax.startup && MathJax.startup.promise)"
UNDRAWN = ".live[data-live]:not(:has(> .live-stage[data-drawn]))"


def needed() -> str:
    """Path of the browser; skips without one, or fails where `TSP_BROWSER` is ``required``."""
    path = next((file for name in NAMES if (file := shutil.which(name))), None)
    if path:
        return path
    why = "no Chromium: install the package `chromium` for the tests of the pages"
    if REQUIRED:
        pytest.fail(why)
    pytest.skip(why)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(folder: Path):
    """Serve a folder on this machine; gives its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Visit:
    """A page that is open, and what went wrong on it: messages, errors, requests to elsewhere."""

    def __init__(self, context, address: str) -> None:
        self.address = address
        self.page = context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE_SECONDS)
        self.wrong: list[str] = []
        self.page.on("console", self._message)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("response", self._response)
        self.page.route("**/*", self._request)

    def go(self, path: str, wait_until: str = "load") -> None:
        """Open a page of the site; wait for its files, fonts, formulas and moving figures."""
        self.page.goto(f"{self.address}/{path}", wait_until=wait_until)
        self.page.wait_for_function(TYPESET)
        self.page.evaluate("window.MathJax && MathJax.startup.promise")
        self.page.evaluate("document.fonts.ready.then(() => null)")
        self.drawn()

    def drawn(self) -> None:
        """Wait for the next frame, and until no figure has anything left to draw."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => done()))")
        self.page.wait_for_function(f"!document.querySelector('{UNDRAWN}')")

    def press(self, key: str) -> None:
        """Press a key where the focus is, and wait for what it changes."""
        self.page.keyboard.press(key)
        self.drawn()

    def click(self, button: str) -> None:
        """Click a button by its name, and wait for what it changes."""
        self.page.get_by_role("button", name=button).click()
        self.drawn()

    def _message(self, message) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.wrong.append(f"{response.status}: {response.url}")

    def _request(self, route) -> None:
        url = route.request.url
        if url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"outside: {url}")
            route.abort()
