"""Live parts: pages that are read again and again while somebody looks at them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from flask import Flask, g

from receiver import overview
from receiver.runtime import Runtime
from receiver.store.deliveries import Filter
from receiver.subscribers import NewSubscriber
from receiver.web import lists
from receiver.web.dashboard import exchanges, frame, tasks
from receiver.web.dashboard import overview as pages
from receiver.web.dashboard.frame import live
from tests.web.conftest import Caller
from tests.web.dashboard.conftest import HOOK, Visitor, attempt, ping
from tests.web.test_lists import none_left


@pytest.mark.parametrize("of", ["tasks", "events", "subscribers"])
def test_further_pages_begin_where_the_live_one_ends(
    visitor: Visitor, runtime: Runtime, api: Caller, account_id: str, of: str
) -> None:
    """What comes while somebody reads pushes rows off the first page; the link to older ones changes with it."""
    for _ in range(26):
        if of == "subscribers":
            runtime.subscribers.create(account_id, NewSubscriber(HOOK, ["*"]))
        else:
            runtime.tasks.cancel(account_id, api.submit()["id"])
    part, found, _ = visitor.get(f"/{of}").text.partition('id="live"')[2].partition('id="older"')
    assert found
    assert part.count("</div>") <= part.count("<div"), "the link stands behind the live part"


@pytest.mark.parametrize(("of", "narrowed"), [("tasks", "status=failed"), ("events", "type=task.failed")])
def test_empty_lists_are_live_and_narrowed_ones_are_read_less_often(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, of: str, narrowed: str
) -> None:
    """The first that comes is seen; what may pass over a long history to find few does so every ten seconds at most."""
    monkeypatch.setattr(frame, "RESTS", 0)  # the first page compiles its templates, which a slow machine feels
    assert 'hx-trigger="every 3000ms"' in visitor.get(f"/{of}").text
    assert 'hx-trigger="every 10000ms"' in visitor.get(f"/{of}?{narrowed}").text


@pytest.mark.parametrize("of", ["tasks", "deliveries", "events"])
def test_lists_wait_for_their_turn_as_those_of_the_api_do(
    app: Flask, visitor: Visitor, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Who reads too many that take long is told so on a page; the others have their threads."""
    monkeypatch.setattr(lists, "PATIENCE", 0.0)
    with none_left(app, runtime):
        answer = visitor.get(f"/{of}")
        assert answer.status_code == 429
        assert "too many lists at once" in answer.text
        assert visitor.get("/subscribers").status_code == 200
    assert visitor.get(f"/{of}").status_code == 200


def test_what_costs_much_is_read_less_often(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tab that was left open takes a tenth of a processor at most, however long a list takes to be found."""
    monkeypatch.setattr(frame, "time", SimpleNamespace(thread_time=lambda: 100.0))

    def often(seconds: float) -> str:
        with app.test_request_context("/events"):
            g.worked = 100.0 - seconds
            return live(3).partition("every ")[2].partition('"')[0]

    assert [often(0.01), often(0.4), often(1)] == ["3000ms", "6000ms", "12000ms"]


def test_the_page_of_a_task_does_not_grow_with_its_subscribers(
    visitor: Visitor, runtime: Runtime, api: Caller, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest deliveries are on it, the newest attempts with what came back; links lead to all others."""
    monkeypatch.setattr(tasks, "MOST_DELIVERIES", 3)
    monkeypatch.setattr(exchanges, "MOST_EXCHANGES", 2)
    for number in range(5):
        runtime.subscribers.create(account_id, NewSubscriber(f"{HOOK}/{number}", ["*"]))
    task = api.submit()["id"]
    runtime.tasks.cancel(account_id, task)
    while runtime.deliveries.list_page(account_id, Filter(status="pending"), 1, None).items:
        attempt(runtime, 204)
    page = visitor.get(f"/tasks/{task}").text
    assert page.count("What came back") == 2
    assert page.count(">What was sent, and what came back<") == 1
    assert page.count("&#34;type&#34;: &#34;task.canceled&#34;") == 1  # the body: with the event, not with each attempt
    (told,) = re.findall(r'<summary id="(step-\d+)">(?:(?!</li>).)*What subscribers are told', page, re.DOTALL)
    assert page.count(f'The body is <a href="#{told}">what subscribers are told</a>.') == 2
    assert f'There are 2 earlier deliveries: <a href="../deliveries?task={task}">' in page
    assert len(api.get(f"/v1/tasks/{task}/timeline").json["data"]) >= 5 + 2


def test_more_failing_subscribers_than_are_shown(
    visitor: Visitor, runtime: Runtime, account_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overview names the first, and does not say that these are all."""
    for module in (overview, pages):
        monkeypatch.setattr(module, "MOST_FAILING", 1)
    for number in range(2):
        made, _ = runtime.subscribers.create(account_id, NewSubscriber(f"{HOOK}/{number}", ["*"]))
        ping(runtime, made, 500)
    page = visitor.get("/").text
    assert '<span class="figure">over 1</span>' in page
    assert page.count(f"{HOOK}/") == 1
