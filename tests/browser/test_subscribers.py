"""Somebody at the dashboard: a subscriber breaks, is seen, is mended, and gets what it missed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.tab import Tab
from tests.story.samples import SUPERAPP
from tests.story.system import System, running
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of its own, where nothing has happened yet."""
    settings = {"RECEIVER_RETRY_SCHEDULE": "0.2", "SUPERAPP_POLL_SCHEDULE": "0.5"}
    with running(tmp_path_factory.mktemp("subscribers"), **settings) as system:
        yield system


@pytest.fixture
def tab(browser: Browser, system: System) -> Iterator[Tab]:
    """A tab that is signed in."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 860}, timezone_id="Europe/Berlin", locale="en-GB", reduced_motion="reduce"
    )
    tab = Tab(context.new_page(), system.url)
    tab.sign_in(system.environment["RECEIVER_API_KEY"])
    yield tab
    context.close()


def test_a_newcomer_is_led_through_empty_pages(tab: Tab) -> None:
    """Every empty page says what it is for, and the next step."""
    for path, words in (
        ("/", "Nothing has happened yet"),
        ("/subscribers", "Nobody gets events yet"),
        ("/deliveries", "Nothing to deliver yet"),
        ("/events", "Nothing happened yet"),
        ("/keys", "from the settings"),
    ):
        tab.open(path)
        expect(tab.page.get_by_text(words).first).to_be_visible()
        tab.check(f"empty-{path.strip('/') or 'overview'}")


def test_a_subscriber_breaks_is_seen_mended_and_gets_what_it_missed(tab: Tab, system: System) -> None:
    """From the form to the replay that is watched, without a command."""
    page = tab.page
    with Subscriber(answer(500)) as hook:
        tab.open("/subscribers/new")
        page.get_by_label("URL").fill(hook.url)
        page.get_by_label("Description").fill("The shop")
        tab.check("subscriber-new")
        page.get_by_role("button", name="Register").click()
        expect(page.get_by_text(re.compile("whsec_"))).to_be_visible()
        home = page.url

        # It breaks.
        system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
        page.goto(home)
        expect(page.get_by_text("The subscriber's program failed.").first).to_be_visible(timeout=20_000)
        tab.check("subscriber-failing")
        tab.open("/")
        # Figures of up to three seconds ago are shown, and new ones after five.
        expect(page.locator(".tile.alarm").first).to_be_visible(timeout=10_000)
        expect(page.get_by_role("link", name="The shop")).to_be_visible()
        tab.check("overview-failing")
        tab.open("/deliveries?status=dead")
        page.locator("tbody a.id").first.click()
        expect(page.get_by_text("Given up.")).to_be_visible()
        expect(page.get_by_text("Answered with HTTP 500").first).to_be_visible()
        tab.check("delivery-dead")

    # It is mended: another program listens at a new address.
    with Subscriber(answer(204)) as mended:
        page.goto(home)
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("URL").fill(mended.url)
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Send a test ping").click()
        expect(page.get_by_text(re.compile("the subscriber answered 204"))).to_be_visible(timeout=20_000)
        tab.check("delivery-ping")

        # What it missed is sent again.
        page.goto(home)
        page.get_by_role("button", name="Replay").click()
        page.get_by_label("Created from").fill("2020-01-01T00:00")
        page.get_by_role("button", name="Count").click()
        expect(page.get_by_text("would be sent again")).to_be_visible()
        tab.check("replay")
        page.get_by_role("button", name=re.compile("Send .* again")).click()
        expect(page.get_by_role("heading", name="Replayed")).to_be_visible(timeout=20_000)
        expect(page.locator(".badge.is-healthy")).to_be_visible(timeout=20_000)
        tab.check("subscriber-replayed")
        tab.open("/")
        expect(page.locator(".tile.alarm")).to_have_count(0, timeout=10_000)
        tab.open("/subscribers")
        tab.check("subscribers")

        # And what it received can be checked here.
        got = mended.wait_for(1)[0]
        tab.open("/verify")
        page.get_by_label("Headers").fill("\n".join(f"{name}: {value}" for name, value in got.headers))
        page.get_by_label(re.compile("^Body")).fill(got.body.decode().replace('":', '": '))
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_text("They part at byte")).to_be_visible()
        tab.check("verify-changed")
        page.get_by_label(re.compile("^Body")).fill(got.body.decode())
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_text("This is a genuine webhook")).to_be_visible()


def test_the_other_pages(tab: Tab, system: System) -> None:
    """Lists that are filled, and a new key, hinder nobody either."""
    system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
    for path in ("/?window=week", "/deliveries", "/events", "/keys"):
        tab.open(path)
        tab.check(f"filled-{path.strip('/').partition('?')[0] or 'overview'}")
    tab.open("/events")
    tab.page.locator("tbody a.id").first.click()
    tab.check("event")


def test_a_long_name_and_shown_secrets(tab: Tab, system: System) -> None:
    """A name without spaces fits; the page that shows secrets does not say that the service is away."""
    made = system.subscribe("http://127.0.0.1:9/hook", ["*"], description="W" * 200)
    tab.open(f"/subscribers/{made['id']}")
    tab.check("subscriber-long-name")
    tab.page.get_by_role("button", name="Rotate").click()
    tab.page.get_by_role("button", name="Show all").click()
    expect(tab.page.get_by_text("Old, signs until")).to_be_visible()
    tab.page.wait_for_timeout(2_500)  # a live part of this page is read again every two seconds
    expect(tab.page.get_by_text("The service does not answer")).to_be_hidden()
    tab.check("subscriber-secrets")
