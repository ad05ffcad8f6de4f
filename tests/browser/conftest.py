"""One browser for all tests, and a running service with the sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.tab import DESKTOP, Tab
from tests.story.system import System, running

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The service and the sandbox; failed webhooks are tried again soon."""
    settings = {"RECEIVER_RETRY_SCHEDULE": "1,1,1", "SUPERAPP_POLL_SCHEDULE": "0.5", "SANDBOX_TIME_SCALE": "0.5"}
    with running(tmp_path_factory.mktemp("browser"), **settings) as system:
        yield system


@pytest.fixture
def new_tab(browser: Browser, system: System) -> Iterator[Callable[[], Tab]]:
    """Opens a tab with no cookies yet."""
    contexts = []

    def make() -> Tab:
        contexts.append(
            browser.new_context(viewport=DESKTOP, timezone_id="Europe/Berlin", locale="en-GB", reduced_motion="reduce")
        )
        return Tab(contexts[-1].new_page(), system.url)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def tab(new_tab: Callable[[], Tab], system: System) -> Tab:
    """A tab that is signed in."""
    tab = new_tab()
    tab.sign_in(system.environment["RECEIVER_API_KEY"])
    return tab
