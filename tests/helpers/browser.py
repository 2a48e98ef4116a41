"""Debian's Chromium without a window, driven by playwright."""

import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str | None:
    """Where a Chromium or Chrome is installed, if one is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser with one page open. `requests` holds every address that the page asked for."""

    def __init__(self, program: str) -> None:
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        self.requests: list[str] = []

    def open(self, page: Path, width: int = 1280, height: int = 800, scripts: bool = True) -> None:
        """Load a file in a window of that many CSS pixels; narrow ones are phones."""
        for context in self._browser.contexts:
            context.close()
        self.requests.clear()
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            is_mobile=width < 500,
            java_script_enabled=scripts,
        )
        self._page = context.new_page()
        self._page.on("request", lambda request: self.requests.append(request.url))
        self._page.goto(page.resolve().as_uri())

    def run(self, script: str) -> Any:
        """The value of an expression in the page, promises awaited."""
        return self._page.evaluate(script)

    def move(self, x: float, y: float) -> None:
        """The mouse."""
        self._page.mouse.move(x, y)

    def click(self, x: float, y: float) -> None:
        """The mouse's left button."""
        self._page.mouse.click(x, y)

    def key(self, name: str) -> None:
        """A key: "Tab", "Enter", "Escape"."""
        self._page.keyboard.press(name)

    def close(self) -> None:
        """End the browser."""
        self._browser.close()
        self._playwright.stop()
