"""A headless Chromium that opens one page: what it logs, what scripts in it return, how it looks."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"]


def chromium() -> str | None:
    """Path of the system's browser; None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """A page in a browser of its own; use it as a context."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self.milliseconds = 1000 * seconds

    def __enter__(self) -> Page:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        self._page = self._browser.new_page(viewport={"width": 1200, "height": 900})
        self._page.set_default_timeout(self.milliseconds)
        self._page.on("request", lambda request: self.requests.append(request.url))
        self._page.on("pageerror", lambda error: self.console.append(str(error)))
        self._page.on("console", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def open(self, path: Path, fragment: str = "") -> float:
        """Open a file and wait until it is loaded; returns the seconds that took."""
        start = time.perf_counter()
        self._page.goto("about:blank")
        self._page.goto(path.absolute().as_uri() + fragment)
        return time.perf_counter() - start

    def click(self, selector: str) -> None:
        """Click the first element of a CSS selector, as a user does."""
        self._page.locator(selector).first.click()

    def click_at(self, x: float, y: float) -> None:
        """Click a place of the window."""
        self._page.mouse.click(x, y)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._page.set_viewport_size({"width": width, "height": height})

    def dark(self, chosen: bool) -> None:
        """Show pages as a user sees them who prefers dark ones."""
        self._page.emulate_media(color_scheme="dark" if chosen else "light")

    def follow(self, selector: str) -> None:
        """Click a link and wait until the page to which it leads is loaded."""
        with self._page.expect_navigation():
            self.click(selector)

    def run(self, script: str) -> Any:
        """Evaluate JavaScript, wait for what it promises, return its value."""
        return self._page.evaluate(script)

    def screenshot(self, path: Path) -> None:
        """Save how the whole page looks."""
        self._page.screenshot(path=path, full_page=True)

    def pdf(self) -> bytes:
        """Return the page as it would be printed."""
        return self._page.pdf(format="A4")

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "assert"):
            self.console.append(message.text)
