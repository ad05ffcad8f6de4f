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
