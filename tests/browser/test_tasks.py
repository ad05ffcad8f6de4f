"""Somebody at the dashboard: signs in, submits a task, watches it end, and looks behind each step."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.tab import DESKTOP, PHONE, Tab
from tests.story.samples import ALL, SUPERAPP, TOPVIEW, Sample
from tests.story.system import System
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process


def test_signing_in(new_tab: Callable[[], Tab], system: System) -> None:
    """A wrong key is explained, a right one leads to the page that was asked for, and signing out ends it."""
    tab = new_tab()
    tab.expected_statuses = {422}
    tab.open("/tasks")
    tab.check("sign-in")
    tab.page.get_by_label("API key").fill("rk_wrong")
    tab.page.get_by_role("button", name="Sign in").click()
    expect(tab.page.get_by_text("not known, or was revoked")).to_be_visible()
    tab.check("sign-in-wrong")
    tab.page.get_by_label("API key").fill(system.environment["RECEIVER_API_KEY"])
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    tab.page.get_by_role("button", name="Sign out").click()
    expect(tab.page.get_by_role("heading", name="Sign in")).to_be_visible()
    tab.open("/tasks")
    expect(tab.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_first_task_is_submitted_from_a_form_and_watched(tab: Tab, system: System) -> None:
    """From the empty list to the picture, without touching the keyboard's reload key."""
    page = tab.page
    tab.open("/tasks")
    page.get_by_role("button", name="New task").click()
    tab.check("choose-operation")
    page.get_by_role("link", name="Text to image").first.click()
    page.goto(system.url + "/new-task/superapp/text2image")
    tab.expected_statuses = {422}
    page.get_by_label("width").fill("wide")
    page.get_by_role("button", name="Submit the task").click()
    expect(page.get_by_text("Nothing was submitted")).to_be_visible()
    expect(page.get_by_label("width")).to_have_value("wide")
    tab.check("new-task-wrong")
    page.get_by_label("inputText").fill("a lighthouse at dawn [sandbox:duration=5]")
    page.get_by_label("width").fill("640")
    page.get_by_label("height").fill("480")
    page.get_by_text("Metadata, callback URL, deadline").click()
    page.get_by_label("Metadata").fill("order=4711")
    page.get_by_role("button", name="Submit the task").click()
    page.wait_for_url(re.compile(r"/tasks/task_"))
    expect(page.locator(".badge.is-running")).to_be_visible(timeout=15_000)
    tab.check("task-running")
    expect(page.locator(".badge.is-succeeded")).to_be_visible(timeout=30_000)
    picture = page.locator(".outputs img").first
    expect(picture).to_be_visible()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    tab.check("task-succeeded")
    tab.open("/tasks?metadata=order%3D4711")
    expect(page.locator("tbody tr")).to_have_count(1)


@pytest.mark.parametrize("without", ["", "delete Navigator.prototype.clipboard"])
def test_a_text_is_copied(tab: Tab, without: str) -> None:
    """At one press, also where the page came without https and the browser has no clipboard for it."""
    page = tab.page
    tab.open("/verify")
    page.evaluate(without)
    snippet = page.locator("#snippet-1")
    snippet.locator("summary").click()
    snippet.get_by_role("button", name="Copy").click()
    expect(snippet.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("getSelection().isCollapsed")  # a part that is live would stand still as long as it is not
    body = page.locator("textarea[name=body]")
    body.focus()
    page.keyboard.press("Control+V")
    assert "def verified(" in body.input_value()


def test_the_timeline_leads_to_what_was_said(tab: Tab, system: System) -> None:
    """Each mark opens its step; behind it stands the exchange, with a command to copy, and no secret."""
    with Subscriber(answer(500), answer(204)) as hook:
        system.subscribe(hook.url, ["task.succeeded"])
        task = system.finished(system.submit(TOPVIEW.provider, TOPVIEW.operation, TOPVIEW.given("duration=3")))
        page = tab.page
        tab.open(f"/tasks/{task['id']}")
        expect(page.locator(".steps").get_by_text("attempt 2: 204")).to_be_visible(timeout=30_000)
        page.locator(".timeline a").last.click()
        expect(page.locator(".steps details[open] pre").first).to_be_visible()
        text = page.locator(".steps details[open]").inner_text()
        assert "webhook-id" in text
        assert "$RECEIVER_API_KEY" in text
        assert system.environment["RECEIVER_API_KEY"] not in page.content()
        page.locator(".steps details[open]").get_by_role("link", name="what subscribers are told").last.click()
        expect(page.get_by_text('"type": "task.succeeded"')).to_be_visible()
        page.locator(".steps").get_by_text("The provider called").first.click()
        tab.check("task-timeline")


def test_a_failure_is_told_in_plain_words(tab: Tab, system: System) -> None:
    """What it means, and what to do."""
    task = system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("fail")))
    tab.open(f"/tasks/{task['id']}")
    expect(tab.page.get_by_text("What to do:")).to_be_visible()
    tab.check("task-failed")


def test_long_names_leave_room_for_what_they_name(tab: Tab, system: System) -> None:
    """A metadata key as long as the API takes it: its value stands beside it, and not letter below letter."""
    metadata = {"k" * 64: "a value " * 60}
    task = system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given(), metadata=metadata))
    tab.open(f"/tasks/{task['id']}")
    box = tab.page.get_by_title("All tasks with it").bounding_box()
    assert box is not None
    assert box["width"] > 150
    tab.check("task-long-names")


def test_long_addresses_and_searches_stay_in_the_window(tab: Tab, system: System) -> None:
    """A webhook's address may be a long word: its steps, and a search that finds nothing, break it into lines."""
    far = f"http://127.0.0.1:9/{'a' * 900}"
    task = system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given(), callback_url=far))
    tab.open(f"/tasks/{task['id']}")
    attempt = tab.page.locator(".steps li", has_text="Webhook task.running").first
    attempt.locator("summary").click()
    expect(attempt.locator(".behind code", has_text="9/aaa").first).to_be_visible()
    tab.check("task-long-address")
    tab.open(f"/tasks?q={'x' * 900}")
    expect(tab.page.get_by_text("x" * 900)).to_be_visible()
    tab.check("tasks-long-search")


def test_a_long_wait_leaves_the_timeline_readable(tab: Tab, system: System) -> None:
    """However long a step waited, its time does not run into what stands beside it, on a phone either."""
    task = system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
    tab.open(f"/tasks/{task['id']}")
    offset = tab.page.locator(".steps .offset").last
    offset.evaluate("element => element.textContent = '+13 h 29 min'")
    for window in (DESKTOP, PHONE):
        tab.page.set_viewport_size(window)  # type: ignore[arg-type]  # a plain dict is one
        assert offset.evaluate("element => element.scrollWidth <= element.clientWidth"), window


def test_a_task_can_be_canceled(tab: Tab, system: System) -> None:
    """After a question; the page says what that means."""
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("duration=60"))
    tab.open(f"/tasks/{task['id']}")
    tab.page.once("dialog", lambda dialog: dialog.accept())
    tab.page.get_by_role("button", name="Cancel").click()
    expect(tab.page.get_by_text("The task is canceled.")).to_be_visible()
    tab.check("task-canceled")


@pytest.mark.parametrize("sample", ALL, ids=str)
def test_results_of_every_provider_can_be_seen(tab: Tab, system: System, sample: Sample) -> None:
    """Whatever kind of output it is."""
    task = system.finished(system.submit(sample.provider, sample.operation, sample.given()))
    tab.open(f"/tasks/{task['id']}")
    expect(tab.page.locator(".outputs figure").first).to_be_visible()
    tab.check(f"task-of-{sample}")


def test_the_list_is_live_and_works_with_the_keyboard(tab: Tab, system: System) -> None:
    """A new task appears by itself; it is reached and opened without a mouse."""
    tab.open("/tasks")
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given())
    link = tab.page.locator(f"a[title='{task['id']}']")
    expect(link).to_be_visible(timeout=15_000)
    tab.check("tasks")
    link.focus()
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", name=SUPERAPP.operation)).to_be_visible()


def test_a_live_part_leaves_its_reader_where_they_are(tab: Tab, system: System) -> None:
    """A part that comes anew takes neither the place of the keyboard nor how far a table was scrolled."""
    system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
    tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # a plain dict is one
    tab.open("/tasks")
    link = tab.page.locator("td a.id").first
    link.focus()
    tab.page.evaluate("document.querySelector('.scroll').scrollLeft = 150")
    name = link.get_attribute("title")
    for _ in range(2):  # the second time it is an element that came anew itself
        task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given())
        expect(tab.page.locator(f"a[title='{task['id']}']")).to_be_attached(timeout=15_000)
        expect(tab.page.locator(f"a[title='{name}']")).to_be_focused()
        assert tab.page.evaluate("document.querySelector('.scroll').scrollLeft") == 150


def test_a_service_that_hangs_is_told(tab: Tab) -> None:
    """What takes a question and never answers it does not pass for quiet; once it is back, that is seen too."""
    tab.open("/tasks")
    tab.page.route("**/tasks", lambda _: None)
    told = tab.page.get_by_text("The service does not answer")
    expect(told).to_be_visible(timeout=30_000)
    tab.page.unroute("**/tasks")
    expect(told).to_be_hidden(timeout=30_000)


def test_the_keyboard_is_seen_wherever_it_is(tab: Tab) -> None:
    """Whatever Tab leads to on the way through a page is marked, buttons without a frame too."""
    tab.open("/tasks")
    for _ in range(16):
        tab.page.keyboard.press("Tab")
        marked = "(e => getComputedStyle(e).outlineStyle !== 'none' || getComputedStyle(e).boxShadow !== 'none')"
        assert tab.page.evaluate(f"{marked}(document.activeElement)"), tab.page.evaluate(
            "document.activeElement.outerHTML.slice(0, 200)"
        )


def test_preferences_and_errors(tab: Tab, system: System) -> None:
    """The browser's zone is taken at first, another one when chosen; a mistyped address says what to do."""
    tab.open("/preferences")
    expect(tab.page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    tab.check("preferences")
    tab.page.get_by_label("Time zone").select_option("Asia/Kathmandu")
    tab.page.get_by_role("radio", name="Dark").check()
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_role("link", name="Asia/Kathmandu")).to_be_visible()
    expect(tab.page.locator("html[data-theme=dark]")).to_be_visible()
    tab.expected_statuses = {404}
    tab.open("/tasks/task_01kahx3mt5k0c4z7d6q8r9w2ve")
    expect(tab.page.get_by_role("heading", name="Not found")).to_be_visible()
    tab.check("not-found")


def test_the_keyboard_stays_at_the_link_to_older_tasks(tab: Tab, system: System) -> None:
    """What it leads to changes with every task that comes: older ones begin where the first page ends."""
    for _ in range(26):
        system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.input)
    tab.open("/tasks")
    older = tab.page.get_by_role("button", name="Older")
    older.focus()
    before = older.get_attribute("href") or ""
    system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.input)
    expect(older).not_to_have_attribute("href", before, timeout=15_000)
    expect(older).to_be_focused()
