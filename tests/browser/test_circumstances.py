"""The dashboard on paper, in the colours of the system, without scripts, and with very long and foreign words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.tab import DESKTOP, Tab
from tests.story.samples import SUPERAPP
from tests.story.system import System

pytestmark = pytest.mark.process

PAPER = {"width": 717, "height": 1046}
"""A4 without its margins."""
LONG = {"k" * 60: "v" * 500, "طلب": "\u202e١٠٤٢ 🧾", "a long name of many words": "and a value of many more words"}
CUT = """() => [...document.querySelectorAll('.scroll, .timeline, .plot')]
    .filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => `${box.className} ${box.scrollWidth} > ${box.clientWidth}`)"""


@pytest.fixture(scope="module")
def task(system: System) -> str:
    """The id of a task that has everything."""
    text = "صورة 🪁 " + "unbreakable" * 30
    sent = system.submit(SUPERAPP.provider, SUPERAPP.operation, {**SUPERAPP.input, "inputText": text}, metadata=LONG)
    return str(sent["id"])


def test_paper_shows_all_of_a_page_and_nothing_to_press(new_tab: Callable[[], Tab], system: System, task: str) -> None:
    """A page is printed dark on white whatever the screen is, with whole tables and charts, and the zone of its times.

    No secret is printed.
    """
    made = system.call(
        "POST", "/v1/subscribers", 201, json={"url": "http://127.0.0.1:9/" + "a" * 300, "event_types": ["*"]}
    )
    system.submit(SUPERAPP.provider, SUPERAPP.operation, SUPERAPP.input)
    tab = new_tab()
    tab.page.context.add_cookies([{"name": "theme", "value": "dark", "url": system.url}])
    tab.sign_in(system.environment["RECEIVER_API_KEY"])
    for path in (
        "/",
        "/tasks",
        f"/tasks/{task}",
        "/subscribers",
        f"/subscribers/{made['id']}",
        "/deliveries",
        "/events",
        "/keys",
    ):
        tab.page.emulate_media(media="screen", color_scheme="dark")
        tab.page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]  # a plain dict is one
        tab.open(path)
        tab.page.set_viewport_size(PAPER)  # type: ignore[arg-type]  # a plain dict is one
        tab.page.emulate_media(media="print", color_scheme="dark")
        expect(tab.page.locator("html[data-theme=dark]")).to_be_attached()
        assert tab.page.evaluate("getComputedStyle(document.body).getPropertyValue('--quiet')") == "#5a6675"
        tab.page.wait_for_timeout(300)  # charts are drawn anew
        assert tab.page.evaluate(CUT) == [], path
        expect(tab.page.get_by_role("link", name="Europe/Berlin")).to_be_visible()
        assert tab.page.locator("button:visible").evaluate_all("found => found.map(e => e.outerHTML)") == [], path
        assert made["secret"] not in tab.page.inner_text("body")
    assert tab.trouble == []
    system.call("DELETE", f"/v1/subscribers/{made['id']}", 204)


def test_long_words_leave_a_list_its_size(tab: Tab, task: str) -> None:
    """Metadata of any length and script neither widens the list of tasks nor what a phone shows of a task."""
    tab.open("/tasks")
    expect(tab.page.locator(f"a[title='{task}']")).to_be_visible()
    assert tab.page.evaluate(CUT) == []
    tab.check("tasks-long")
    tab.open(f"/tasks/{task}")
    tab.check("task-long")


def test_a_legend_keeps_its_colours_where_the_system_sets_all_others(tab: Tab) -> None:
    """Which line is which can be seen in forced colours, too."""
    tab.page.emulate_media(forced_colors="active")
    tab.open("/")
    borders = "found => found.slice(1).map(each => getComputedStyle(each).borderColor)"
    marks = tab.page.locator(".plot").first.locator(".u-marker")
    expect(marks).to_have_count(4)  # the time has one of its own, unseen
    assert len(set(marks.evaluate_all(borders))) == 3


def test_without_scripts_nothing_is_shown_that_needs_them(browser: Browser, system: System, task: str) -> None:
    """Who has turned them off reads and submits as before; no empty chart, no button that does nothing."""
    with browser.new_context(java_script_enabled=False) as context:
        tab = Tab(context.new_page(), system.url)
        tab.sign_in(system.environment["RECEIVER_API_KEY"])
        tab.open("/")
        expect(tab.page.get_by_role("heading", name="Overview")).to_be_visible()
        expect(tab.page.locator(".plot:visible")).to_have_count(0)
        tab.open(f"/tasks/{task}")
        expect(tab.page.get_by_role("heading", name="Facts")).to_be_visible()
        expect(tab.page.get_by_role("button", name="Copy")).to_have_count(0)
        expect(tab.page.locator("#theme:visible")).to_have_count(0)
        assert tab.trouble == []
