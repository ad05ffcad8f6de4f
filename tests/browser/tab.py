"""A tab of a browser that forgives nothing: what its console says, and what hinders people, fails the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Response

SCREENSHOTS = "SCREENSHOTS"
"""Environment variable: a folder for pictures of every page; none are made without it."""
NARROW = {"width": 320, "height": 568}
"""A desktop at 400 %, too (WCAG 1.4.10)."""
PHONE = {"width": 390, "height": 844}
TABLET = {"width": 768, "height": 1024}
DESKTOP = {"width": 1280, "height": 860}


class Tab:
    """A page of Playwright's, at a service. ``expected_statuses``: error statuses that are part of the test."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.trouble: list[str] = []
        self.expected_statuses: set[int] = set()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.trouble.append(f"script: {error}"))
        page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        # A failed request is judged by its status below; a violation of the policy is an error here.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.trouble.append(f"console: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected_statuses:
            self.trouble.append(f"{response.status}: {response.url}")

    def open(self, path: str) -> None:
        """Go to a page of the service."""
        self.page.goto(self.url + path)

    def sign_in(self, key: str) -> None:
        """Fill in the sign-in form."""
        self.open("/sign-in")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda address: "sign-in" not in address)

    def check(self, name: str) -> None:
        """Nothing was said in the console, and nothing on the page hinders anybody; pictures of it when wanted.

        Light, dark, and on a phone and a tablet, where nothing may need scrolling sideways.
        """
        page = self.page
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
            self._look(f"{name}-{scheme}")
            self._examine(f"{name}, {scheme}")
        page.emulate_media(color_scheme="light")
        for device, size in (("narrow", NARROW), ("phone", PHONE), ("tablet", TABLET)):
            page.set_viewport_size(size)  # type: ignore[arg-type]  # a plain dict is one
            self._look(f"{name}-{device}")
            self._fits(f"{name}, {device}")
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]  # a plain dict is one
        assert self.trouble == [], f"{name}: {self.trouble}"

    def _fits(self, name: str) -> None:
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        for _ in range(50):  # a live part may just be laid out anew
            left = self.page.evaluate(wide)
            if left <= 0:
                break
            self.page.wait_for_timeout(100)
        assert left <= 0, f"{name}: {left} pixels too wide"
        away = """links => links.filter(link => link.getBoundingClientRect().right
            > Math.min(innerWidth, link.parentElement.getBoundingClientRect().right + 1)).length"""
        assert self.page.eval_on_selector_all(".pages a", away) == 0, f"{name}: some pages are out of sight"

    def _examine(self, name: str) -> None:
        found: dict[str, Any] = Axe().run(self.page).response
        serious = [
            f"{each['id']}: {[node['html'][:160] for node in each['nodes']][:3]}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"{name}: {serious}"

    def _look(self, name: str) -> None:
        folder = os.environ.get(SCREENSHOTS)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
