"""Deliveries and events: what a visitor sees of them, and sending again."""

from __future__ import annotations

from html import unescape

import pytest

from receiver.dialling import OutboundError
from receiver.models import Subscriber
from receiver.runtime import Runtime
from receiver.subscribers import NewSubscriber
from receiver.web.dashboard import subscribers
from receiver.web.dashboard.troubles import REASONS, explained
from tests.markdown import page
from tests.web.conftest import Caller, Clock
from tests.web.dashboard.conftest import Visitor, attempt, ping, text


def test_deliveries_are_narrowed_down(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """By status, subscriber, event and task; nonsense is left out."""
    dead = ping(runtime, subscriber, 410)
    runtime.subscribers.change(subscriber.account_id, subscriber.id, {"disabled": False})
    good = ping(runtime, subscriber, 200)
    shown = visitor.get("/deliveries?status=dead").text
    assert dead.id in shown
    assert good.id not in shown
    assert REASONS["gone"] in unescape(shown)
    for query in (
        f"subscriber={subscriber.id}",
        "event_type=subscriber.ping",
        "status=x&task=y&subscriber=z",
        "cursor=zzz",
    ):
        assert dead.id in visitor.get(f"/deliveries?{query}").text, query
    assert "No such deliveries" in text(visitor.get("/deliveries?event_type=task.failed"))


def test_many_are_sent_again_at_once(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """Those that are ticked, or all dead ones of a filter; what cannot be sent is told."""
    dead = []
    for _ in range(3):
        dead.append(ping(runtime, subscriber, 410))
        runtime.subscribers.change(subscriber.account_id, subscriber.id, {"disabled": False})
    ticked = visitor.post("/deliveries/retry", {"delivery": [dead[0].id, "nonsense"], "status": "dead"})
    assert "1 delivery is sent again" in text(visitor.follow(ticked))
    every = visitor.post("/deliveries/retry", {"every": "1", "status": "dead"})
    assert "2 deliveries are sent again" in text(visitor.follow(every))
    assert "tick deliveries first" in text(visitor.follow(visitor.post("/deliveries/retry")))
    runtime.subscribers.change(subscriber.account_id, subscriber.id, {"disabled": True})
    refused = visitor.post("/deliveries/retry", {"delivery": [dead[0].id]})
    assert "1 not sent: The subscriber is disabled" in text(visitor.follow(refused))
    assert "is disabled" in text(visitor.follow(visitor.post(f"/deliveries/{dead[0].id}/retry")))


def test_a_delivery_tells_what_was_sent_and_what_came_back(
    visitor: Visitor, runtime: Runtime, subscriber: Subscriber
) -> None:
    """Each attempt with its words, its answer, and what to do."""
    delivery = ping(runtime, subscriber, 401, None)
    seen = text(visitor.get(f"/deliveries/{delivery.id}"))
    assert "Not delivered yet" in seen
    assert "Check its secret on the page Verify" in seen
    assert "Nobody listens there" in seen
    assert "subscriber.ping" in seen
    sent = visitor.follow(visitor.post(f"/deliveries/{delivery.id}/retry"))
    assert "sent again now" in text(sent)
    assert "Send now" in visitor.get(f"/deliveries/{delivery.id}").text
    runtime.subscribers.delete(subscriber.account_id, subscriber.id)
    seen = visitor.get(f"/deliveries/{delivery.id}").text
    assert "Given up" in seen
    assert "Send now" not in seen, "nobody is there to send it to"


def test_events_show_their_body_and_where_they_went(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """From the list to one event, to its deliveries."""
    delivery = ping(runtime, subscriber, 200)
    assert delivery.event_id in visitor.get("/events?type=subscriber.ping").text
    assert "No such events" in text(visitor.get("/events?type=task.failed"))
    shown = visitor.get(f"/events/{delivery.event_id}")
    assert delivery.id in shown.text
    assert "nothing happened" in text(shown)


def test_every_way_to_fail_has_words() -> None:
    """No attempt and no dead letter is left without an explanation and a next step."""
    for error in OutboundError:
        assert all(explained(None, error)), error
    for status in (302, 400, 401, 403, 404, 405, 410, 413, 415, 418, 429, 500, 503):
        assert all(explained(status, "http_status")), status
    assert explained(200, None) == ("", "")
    assert set(REASONS) <= set(page("docs/webhooks.md").section("Retries").terms)


def test_what_waits_for_its_subscriber_says_so(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """No time is named at which nothing will happen: a paused subscriber's deliveries wait until it is resumed."""
    tried = runtime.subscribers.ping(subscriber.account_id, subscriber.id)
    attempt(runtime, 500)
    untried = runtime.subscribers.ping(subscriber.account_id, subscriber.id)
    visitor.post(f"/subscribers/{subscriber.id}/pause")
    for delivery in (tried, untried):
        seen = text(visitor.get(f"/deliveries/{delivery.id}"))
        assert "it waits until it is resumed" in seen
        assert "next attempt" not in seen
    for path in ("/deliveries", f"/subscribers/{subscriber.id}"):
        seen = text(visitor.get(path))
        assert seen.count("waits until its subscriber is resumed") == 2
        assert "due" not in seen


def test_what_waits_at_a_callback_url_names_no_subscriber(visitor: Visitor, runtime: Runtime, api: Caller) -> None:
    """Nobody could resume the hidden one behind it: its pages say what helps instead."""
    first, second = (api.submit(callback_url="http://127.0.0.1:9/hook")["id"] for _ in range(2))
    api.post(f"/v1/tasks/{first}/cancel")
    attempt(runtime, 410)
    api.post(f"/v1/tasks/{second}/cancel")
    (delivery,) = api.get("/v1/deliveries?status=pending").json["data"]
    for path in ("/deliveries", f"/deliveries/{delivery['id']}"):
        seen = text(visitor.get(path))
        assert "address is given up" in seen, path
        assert "until" not in seen, path


def test_the_next_attempt_is_not_before_the_subscriber_is_ready(
    visitor: Visitor, runtime: Runtime, subscriber: Subscriber, clock: Clock
) -> None:
    """While failures hold a subscriber, its deliveries are told to come when the hold ends, not in the past."""
    made = [runtime.subscribers.ping(subscriber.account_id, subscriber.id) for _ in range(6)]
    for each in made[:5]:
        runtime.deliveries.retry(subscriber.account_id, each.id)
        attempt(runtime, 500)
    held = runtime.subscribers.get(subscriber.account_id, subscriber.id).ready_at - clock()
    assert held > 120_000
    clock.ahead += 60_000  # the schedule's next attempts have fallen due, and the hold goes on
    for each in made:
        seen = text(visitor.get(f"/deliveries/{each.id}"))
        assert "attempt comes in" in seen
        assert "ago" not in seen.partition("Attempts")[0].partition("attempt comes")[2].partition("Status")[0]
    assert "due in" in text(visitor.get("/deliveries"))


def test_a_chosen_subscriber_stays_chosen_however_many_there_are(
    visitor: Visitor, runtime: Runtime, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the newest ones of a list, too: no filter is dropped, and no other one's secret is compared with."""
    monkeypatch.setattr(subscribers, "MOST_CHOICES", 1)
    runtime.subscribers.create(subscriber.account_id, NewSubscriber("http://127.0.0.1:9/newer", ["*"]))
    for path in ("/deliveries", "/verify"):
        assert f'value="{subscriber.id}" selected' in visitor.get(f"{path}?subscriber={subscriber.id}").text
        assert "selected" not in visitor.get(f"{path}?subscriber=sub_00000000000000000000000000").text
