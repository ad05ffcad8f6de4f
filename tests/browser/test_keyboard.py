"""Somebody without a mouse, and somebody who reads while a page renews itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.tab import DESKTOP, PHONE, Tab
from tests.story.samples import SUPERAPP
from tests.story.system import System
from tests.subscriber import Subscriber, answer

pytestmark = pytest.mark.process

LOW = {"width": 640, "height": 430}
"""A laptop at 200 %."""
HIDDEN = """() => {
  const box = document.activeElement.getBoundingClientRect(), frame = document.querySelector(".top");
  const under = frame.getBoundingClientRect();
  return !frame.contains(document.activeElement) && document.activeElement !== document.body
    && getComputedStyle(frame).position === "sticky" && box.top < under.bottom && box.bottom > under.top;
}"""
SEEN = """() => {
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(document.activeElement);
  return outlineStyle === "solid" && parseFloat(outlineWidth) >= 2 && /^rgb\\(/.test(outlineColor);
}"""
RENEWED = """() => new Promise((done, fail) => {
  setTimeout(() => fail("no part came anew"), 60000);
  document.addEventListener("htmx:afterSwap", () => {
    done(document.querySelectorAll(".plot .uplot").length);
  }, { once: true });
})"""
"""Waits a minute at most until a part came anew; how many charts are drawn then."""


def test_what_was_shut_stays_shut(tab: Tab, system: System) -> None:
    """A live part that comes anew opens nothing that its reader has shut."""
    with Subscriber(answer(503, {"Retry-After": "60"})) as hook:
        subscriber = system.subscribe(hook.url, ["task.succeeded"])
        task = system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
        hook.wait_for(1)
        wanted = f"/v1/deliveries?subscriber={subscriber['id']}&task={task['id']}"
        delivery = system.call("GET", wanted)["data"][0]["id"]
        tab.open(f"/deliveries/{delivery}")
        attempt = tab.page.locator("#attempt-1")
        expect(attempt).to_have_attribute("open", "", timeout=15_000)
        attempt.locator("summary").focus()
        tab.page.keyboard.press("Enter")
        tab.page.evaluate(RENEWED)
        expect(attempt).not_to_have_attribute("open", "")
        expect(attempt.locator("summary")).to_be_focused()
        system.call("DELETE", f"/v1/subscribers/{subscriber['id']}", 204)


def test_charts_neither_flicker_nor_jump(tab: Tab, system: System) -> None:
    """They are drawn again before the browser paints what came anew."""
    system.finished(system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given()))
    tab.open("/")
    expect(tab.page.locator(".plot .uplot")).to_have_count(2)
    assert tab.page.evaluate(RENEWED) == 2


def test_the_keyboard_is_at_what_came_of_an_action(tab: Tab, system: System) -> None:
    """A button that is pressed and gone leaves the keyboard at what was done, not at the frame's top."""
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("duration=600"))
    tab.open(f"/tasks/{task['id']}")
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.get_by_role("button", name="Cancel").press("Enter")
    expect(tab.page.locator(".flash")).to_be_focused()
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_role("button", name="Submit another like this")).to_be_focused()


def test_what_goes_while_the_keyboard_is_at_it_leaves_it_nearby(tab: Tab, system: System) -> None:
    """A task that ends takes its button to cancel it away: the keyboard goes on to what stands next to it."""
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("duration=600"))
    tab.open(f"/tasks/{task['id']}")
    tab.page.get_by_role("button", name="Cancel").focus()
    system.call("POST", f"/v1/tasks/{task['id']}/cancel")
    expect(tab.page.get_by_role("button", name="Cancel")).to_have_count(0, timeout=15_000)
    expect(tab.page.locator(".timeline a").first).to_be_focused()


def test_a_refused_form_has_the_keyboard_at_what_is_wrong(tab: Tab) -> None:
    """The first field in red, as browsers do it with what they refuse themselves, however long the form is."""
    page = tab.page
    tab.expected_statuses = {422}
    tab.open("/new-task/superapp/text2image")
    page.get_by_label("inputText").fill("a lighthouse")
    page.get_by_role("button", name="Submit the task").press("Enter")
    expect(page.get_by_label("width")).to_be_focused()
    tab.open("/keys")
    page.get_by_label("Name").fill("nothing may it")
    page.get_by_label("submit").uncheck()
    page.get_by_role("button", name="Make a key").press("Enter")
    expect(page.get_by_role("group", name="May")).to_be_focused()
    tab.open("/subscribers/new")
    page.get_by_label("URL").fill("ftp://example.com")
    page.get_by_role("button", name="Register").press("Enter")
    expect(page.get_by_label("URL")).to_be_focused()


def test_the_keyboard_is_at_what_is_shown_only_now(tab: Tab) -> None:
    """A new key, a new secret, and what was found about a webhook are read first, and copied at the next press."""
    page = tab.page
    tab.open("/keys")
    page.get_by_label("Name").fill("for the keyboard")
    page.get_by_role("button", name="Make a key").press("Enter")
    expect(page.get_by_role("status").filter(has_text="Your new key")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("pre", has_text="rk_")).to_be_focused()
    tab.open("/keys")
    page.get_by_role("button", name="Rotate").press("Enter")
    expect(page.locator("#secret pre").first).to_be_visible()
    expect(page.locator("#secret")).to_be_focused()
    tab.open("/verify")
    page.get_by_role("button", name="Compare").press("Enter")
    expect(page.locator("#findings")).to_be_focused()


def test_a_mark_of_the_timeline_leads_the_keyboard_to_its_step(tab: Tab, system: System) -> None:
    """And it stays there when the page renews itself."""
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("duration=600"))
    tab.open(f"/tasks/{task['id']}")
    tab.page.locator('.timeline a[href="#step-1"]').press("Enter")
    step = tab.page.locator("summary#step-1")
    expect(step).to_be_focused()
    tab.page.evaluate(RENEWED)
    expect(step).to_be_focused()
    tab.page.keyboard.press("Tab")
    expect(tab.page.locator("#details-1 pre").first).to_be_focused()
    system.call("POST", f"/v1/tasks/{task['id']}/cancel")


def test_a_button_that_was_pressed_comes_anew_only_when_all_is_over(tab: Tab, system: System) -> None:
    """A live part waits while a form in it is on its way, so that it is not sent twice."""
    task = system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given("duration=600"))
    tab.open(f"/tasks/{task['id']}")
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.evaluate("document.addEventListener('submit', event => event.preventDefault())")  # as if it took long
    cancel = tab.page.get_by_role("button", name="Cancel")
    cancel.click()
    for _ in range(2):
        with tab.page.expect_response(lambda answer: task["id"] in answer.url):
            pass
        tab.page.wait_for_timeout(100)
        expect(cancel).to_be_disabled()
    system.call("POST", f"/v1/tasks/{task['id']}/cancel")


def test_stopping_a_page_frees_the_button_that_was_pressed(tab: Tab, system: System) -> None:
    """Whoever stops what takes too long can press again."""
    subscriber = system.subscribe("http://127.0.0.1:9/hook", ["*"])
    tab.open(f"/subscribers/{subscriber['id']}")
    tab.page.route("**/ping", lambda _: None)
    tab.page.evaluate("setTimeout(() => window.stop(), 500)")
    ping = tab.page.get_by_role("button", name="Send a test ping")
    ping.click(no_wait_after=True)
    expect(ping).to_be_enabled(timeout=15_000)
    system.call("DELETE", f"/v1/subscribers/{subscriber['id']}", 204)


def test_a_day_is_seen_in_forced_colours(tab: Tab, system: System) -> None:
    """What only a colour says keeps it where the system sets all others."""
    subscriber = system.subscribe("http://127.0.0.1:9/hook", ["*"])
    tab.page.emulate_media(forced_colors="active")
    tab.open("/subscribers")
    seen = "all => new Set(all.map(one => Object.values(getComputedStyle(one, null).background).join(''))).size"
    assert tab.page.eval_on_selector_all(".swatch", seen) == 5
    system.call("DELETE", f"/v1/subscribers/{subscriber['id']}", 204)


@pytest.mark.parametrize("window", [DESKTOP, LOW, PHONE], ids=["desktop", "200 %", "phone"])
def test_what_the_keyboard_is_at_is_never_hidden(tab: Tab, system: System, window: dict[str, int]) -> None:
    """Tab and Shift+Tab through a long list: the frame's top covers nothing, and the ring is drawn in full colour."""
    for _ in range(26):
        system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.given())
    tab.page.set_viewport_size(window)  # type: ignore[arg-type]  # a plain dict is one
    tab.open("/tasks?operation=text2image")
    tab.page.get_by_role("button", name="Older").focus()
    for key in ["Tab"] + ["Shift+Tab"] * 40:
        tab.page.keyboard.press(key)
        at = tab.page.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        assert not tab.page.evaluate(HIDDEN), at
        if not at.startswith("<body") and "datetime-local" not in at:  # those mark a part of themselves
            assert tab.page.evaluate(SEEN), at
