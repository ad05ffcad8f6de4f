"""Overview, subscribers, verify and keys: what a visitor sees and can do there."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from werkzeug.test import TestResponse

from receiver.models import Subscriber
from receiver.overview import ProviderView, Times
from receiver.runtime import Runtime
from receiver.subscribers import NewSubscriber
from receiver.web import create_app
from receiver.web.dashboard import frame, overview
from tests.markdown import ROOT
from tests.web.conftest import KEY, Caller, Clock, Progress
from tests.web.dashboard.conftest import HOOK, Visitor, attempt, ping, text

# --- Overview ----------------------------------------------------------------------------------------


def test_the_overview_leads_newcomers(visitor: Visitor) -> None:
    """Who has nothing yet is told the next step, with a command that works."""
    seen = text(visitor.get("/"))
    assert "Nothing has happened yet" in seen
    assert "receiver submit superapp text2image" in seen
    assert "No worker has been seen" in seen


def test_the_overview_shows_what_happened(
    visitor: Visitor, api: Caller, progress: Progress, runtime: Runtime, subscriber: Subscriber
) -> None:
    """Tasks by provider, what fails, and who gets nothing."""
    api.submit()
    progress.finish()
    attempt(runtime, 500)
    for window in ("hour", "day", "week", "nonsense"):
        answer = visitor.get(f"/?window={window}")
        assert "superapp" in text(answer)
        assert "The shop" in text(answer)
        assert "1 created" in text(answer)
        assert "data-chart" in answer.text
    assert "Nothing has happened" not in text(visitor.get("/"))


def test_what_failed_leads_to_the_tasks_that_did(visitor: Visitor, api: Caller, runtime: Runtime, clock: Clock) -> None:
    """A task that expired is found among the expired, not among the failed."""
    api.submit(deadline=1)
    clock.ahead += 60_000
    runtime.polling.end_overdue()
    assert 'tasks?provider=superapp&amp;status=expired">expired' in visitor.get("/").text


# --- Subscribers -------------------------------------------------------------------------------------


FORM = {
    "url": HOOK,
    "kinds": ["task.succeeded"],
    "patterns": "subscriber.*",
    "headers": "X-Team: a\nX-Token: hush-hush",
}


def made(visitor: Visitor, **changes: Any) -> TestResponse:
    """The form, sent."""
    return visitor.post("/subscribers/new", {**FORM, **changes})


def test_a_subscriber_is_registered_and_its_secret_shown(visitor: Visitor, runtime: Runtime, account_id: str) -> None:
    """The secret stands on the page that follows, for a while, and can be asked for later."""
    answer = made(visitor)
    address = answer.headers["Location"].removeprefix("..")
    (found,) = runtime.subscribers.list_page(account_id, 5, None).items
    assert found.event_types == ("task.succeeded", "subscriber.*")
    secret = runtime.subscribers.secrets(account_id, found.id)[0].key
    seen = visitor.follow(answer).text
    assert secret in unescape(seen)
    assert "hush-hush" not in seen
    assert found.id in address


def test_a_secret_is_not_shown_later_unless_asked_for(
    visitor: Visitor, runtime: Runtime, subscriber: Subscriber, clock: Clock
) -> None:
    """Who looks over a shoulder a day later sees none."""
    clock.ahead += 600_000
    secret = runtime.subscribers.secrets(subscriber.account_id, subscriber.id)[0].key
    assert secret not in unescape(visitor.get(f"/subscribers/{subscriber.id}").text)
    assert secret in unescape(visitor.post(f"/subscribers/{subscriber.id}/secret").text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": " "}, "A URL is needed"),
        ({"url": "ftp://example.com"}, "http"),
        ({"kinds": [], "patterns": ""}, "at least 1|Shorter|between 1"),
        ({"patterns": "nonsense.*"}, "matches no event type"),
        ({"rate_limit": "fast"}, "number"),
        ({"headers": "Host: x"}, "cannot be chosen"),
        ({"headers": "X-Team: a\nX-Team: b"}, "One name stands on two lines"),
        ({"secret": "short"}, "begins with whsec_"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_lost(
    visitor: Visitor, changes: dict[str, Any], said: str
) -> None:
    """The form comes back with all that was typed, and a sentence beside the field."""
    answer = made(visitor, **{"description": "typed before", **changes})
    assert answer.status_code == 422
    assert re.search(said, text(answer)), text(answer)
    assert 'value="typed before"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_a_subscriber_is_edited_without_losing_its_secret_headers(
    visitor: Visitor, runtime: Runtime, account_id: str
) -> None:
    """A header shown as *** stays what it was; one that is taken out is gone."""
    made(visitor)
    (found,) = runtime.subscribers.list_page(account_id, 5, None).items
    form = visitor.get(f"/subscribers/{found.id}/edit").text
    assert "X-Token: ***" in form
    answer = visitor.post(f"/subscribers/{found.id}/edit", {**FORM, "headers": "x-token: ***", "rate_limit": "2.5"})
    assert answer.status_code == 303
    changed = runtime.subscribers.get(account_id, found.id)
    assert runtime.subscribers.headers(changed) == {"x-token": "hush-hush"}
    assert changed.rate_limit == 2.5
    assert visitor.post(f"/subscribers/{found.id}/edit", {**FORM, "url": "x"}).status_code == 422


def test_a_rate_stays_the_number_that_it_is(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """Saving the form with something else changed keeps every digit; what is no number is said at its field."""
    runtime.subscribers.change(subscriber.account_id, subscriber.id, {"rate_limit": 0.12345678})
    page = visitor.get(f"/subscribers/{subscriber.id}/edit").text
    assert 'name="rate_limit" inputmode="decimal" value="0.12345678"' in page
    for odd in ("nan", "inf", "-1", "ten"):
        form = {"url": subscriber.url, "kinds": "*", "rate_limit": odd}
        assert visitor.post(f"/subscribers/{subscriber.id}/edit", form).status_code == 422
    assert runtime.subscribers.get(subscriber.account_id, subscriber.id).rate_limit == 0.12345678


def test_pause_resume_rotate_and_delete(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """What the buttons say is done, and told."""
    one = f"/subscribers/{subscriber.id}"
    assert "Paused" in text(visitor.follow(visitor.post(f"{one}/pause")))
    assert runtime.subscribers.get(subscriber.account_id, subscriber.id).disabled
    assert "Resumed" in text(visitor.follow(visitor.post(f"{one}/resume")))
    assert "new secret" in text(visitor.follow(visitor.post(f"{one}/rotate", {"overlap": "0"})))
    assert len(runtime.subscribers.secrets(subscriber.account_id, subscriber.id)) == 1
    for _ in range(10):
        visitor.post(f"{one}/rotate", {"overlap": "nonsense"})
    assert "At most 10 secrets" in text(visitor.follow(visitor.post(f"{one}/rotate")))
    assert "is deleted" in text(visitor.follow(visitor.post(f"{one}/delete")))
    assert visitor.get(one).status_code == 404


def test_a_paused_subscriber_is_not_pinged(visitor: Visitor, subscriber: Subscriber) -> None:
    """Its page says what to do first."""
    visitor.post(f"/subscribers/{subscriber.id}/pause")
    assert "enable it first" in text(visitor.follow(visitor.post(f"/subscribers/{subscriber.id}/ping")))


def test_a_test_ping_leads_to_its_answer(
    visitor: Visitor, runtime: Runtime, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page waits for the answer, and shows all of it."""
    monkeypatch.setattr(frame, "RESTS", 0)  # a slow machine is no part of this
    answer = visitor.post(f"/subscribers/{subscriber.id}/ping")
    waiting = visitor.follow(answer)
    assert "On its way" in text(waiting)
    assert "every 1000ms" in waiting.text
    attempt(runtime, 204)
    done = visitor.follow(answer)
    assert "the subscriber answered 204" in text(done)
    assert "webhook-id: evt_" in text(done)
    assert "hx-trigger" not in done.text


def test_a_failing_subscriber_says_why(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """In the list, and on its page with the words for the last failure."""
    ping(runtime, subscriber, None)
    assert "failing" in text(visitor.get("/subscribers"))
    seen = text(visitor.get(f"/subscribers/{subscriber.id}"))
    assert "Nobody listens there" in seen
    assert "1 in a row" in seen


def test_a_replay_is_counted_then_watched(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """First how many, then how far it is."""
    for _ in range(3):
        ping(runtime, subscriber, 410)
        runtime.subscribers.change(subscriber.account_id, subscriber.id, {"disabled": False})
    one = f"/subscribers/{subscriber.id}"
    assert "3 deliveries would be sent again" in text(visitor.get(f"{one}/replay?since=2000-01-01T00:00"))
    assert "0 deliveries" in text(visitor.get(f"{one}/replay?since=2000-01-01T00:00&until=2000-01-02T00:00&status=all"))
    assert "Choose a date" in text(visitor.get(f"{one}/replay?since=nonsense"))
    assert visitor.post(f"{one}/replay", {"since": ""}).status_code == 303
    running = visitor.post(f"{one}/replay", {"since": "2000-01-01T00:00", "status": "dead"})
    assert "0 of 3 attempted, 3 to go" in text(visitor.follow(running))
    attempt(runtime, 200)
    assert "3 of 3 attempted" in text(visitor.follow(running))
    again = visitor.post(f"{one}/replay", {"since": "2000-01-01T00:00"})
    assert "nothing to send again" in text(visitor.follow(again))


# --- Verify ------------------------------------------------------------------------------------------


def test_verify_compares_what_was_pasted(visitor: Visitor, runtime: Runtime, subscriber: Subscriber) -> None:
    """Genuine is called genuine; a changed body is pointed at; a file counts to the byte; secrets do not come back."""
    runtime.subscribers.ping(subscriber.account_id, subscriber.id)
    (claim,) = runtime.deliveries.turn((), 10).claims
    headers = "\n".join(f"{name}: {value}" for name, value in runtime.deliveries.request_of(claim).headers.items())
    form: dict[str, Any] = {"subscriber": subscriber.id, "headers": headers, "body": claim.body.decode()}
    assert "This is a genuine webhook" in text(visitor.post("/verify", form))
    changed = visitor.post("/verify", {**form, "body": form["body"].replace('":', '": '), "secret": "whsec_hush"})
    assert "re-serialised" in text(changed) or "wrote it again" in text(changed)
    assert "They part at byte" in text(changed)
    assert "nobody here has" in text(changed)
    assert "whsec_hush" not in changed.text
    file = (io.BytesIO(claim.body + b"\r\n"), "body.json")
    exact = visitor.post("/verify", {**form, "body": "", "file": file, "computed": "x"})
    assert "newline at the end" in text(exact)
    assert "No frequent mistake" in text(exact)
    assert visitor.post("/verify", {"subscriber": "account"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    ["webhook-id: evt_\0", '{"webhook-id": "a\\u0000"}', f"webhook-id: x\nwebhook-timestamp: {'9' * 5000}"],
)
def test_verify_takes_whatever_is_pasted(visitor: Visitor, headers: str) -> None:
    """Signs that no database stores and numbers beyond all bounds are wrong headers, and no failure of ours."""
    answer = visitor.post("/verify", {"subscriber": "account", "headers": headers, "body": "{}", "computed": "AA"})
    assert answer.status_code == 200
    assert "wrong" in answer.text


def test_verify_offers_the_functions_of_the_documentation(visitor: Visitor) -> None:
    """What is shown to be copied is what the tests run."""
    shown = unescape(visitor.get("/verify").text)
    for path in (ROOT / "docs/snippets").iterdir():
        if path.suffix != ".md" and path.name != "__pycache__":
            assert path.read_text("utf-8") in shown, path.name


# --- Keys --------------------------------------------------------------------------------------------


def test_keys_are_made_and_revoked(visitor: Visitor, runtime: Runtime, caller: Callable[..., Caller]) -> None:
    """A new key is shown once; a revoked one ends; the own one, and those of others, stay."""
    answer = visitor.post("/keys/new", {"name": "ci", "scopes": ["submit", "read"]})
    found = re.search(r"rk_[\w-]{43}", answer.text)
    assert found
    made = runtime.accounts.authenticate(found[0])
    assert made is not None
    assert found[0] not in visitor.get("/keys").text
    assert "is revoked" in text(visitor.follow(visitor.post(f"/keys/{made.id}/revoke")))
    assert runtime.accounts.authenticate(found[0]) is None
    assert visitor.post("/keys/new", {"name": "none"}).status_code == 422
    own = runtime.accounts.authenticate("rk_test_0123456789abcdefghij")
    assert own is not None
    assert visitor.post(f"/keys/{own.id}/revoke").status_code == 409
    other, _ = runtime.accounts.create_key("stranger", "x", ["manage"])
    assert visitor.post(f"/keys/{other.id}/revoke").status_code == 404
    assert other.id not in visitor.get("/keys").text


def test_the_name_of_a_key_is_one_line_of_text(visitor: Visitor, runtime: Runtime) -> None:
    """Signs that nobody sees, and that not every database stores, are left out of it."""
    assert visitor.post("/keys/new", {"name": "a\0\nb", "scopes": "read"}).status_code == 200
    assert "ab" in [key.name for key in runtime.accounts.list_keys("default")]


def test_the_signing_secret_is_shown_on_demand_and_rotated(visitor: Visitor, runtime: Runtime, account_id: str) -> None:
    """It stands on no page by itself, but after a rotation."""
    secret = runtime.accounts.signing_secrets(account_id)[0].key
    assert secret not in unescape(visitor.get("/keys").text)
    assert secret in unescape(visitor.post("/keys/secret").text)
    after = visitor.follow(visitor.post("/keys/rotate", {"overlap": "3600"}))
    assert runtime.accounts.signing_secrets(account_id)[0].key in unescape(after.text)


def test_what_a_lost_key_sealed_is_set_anew_by_hand(
    visitor: Visitor, subscriber: Subscriber, runtime: Runtime, account_id: str, build: Callable[..., Runtime]
) -> None:
    """The pages of secrets are shown without what no key opens, and rotate it where it is to end at once."""
    runtime.subscribers.change(account_id, subscriber.id, {"headers": {"X-Token": "hush-hush"}})
    changed = build(secret_keys=(b"n" * 32,))
    other = Visitor(create_app(changed).test_client())
    other.sign_in(KEY)
    for path in ("/subscribers", f"/subscribers/{subscriber.id}", f"/subscribers/{subscriber.id}/edit", "/keys"):
        assert other.get(path).status_code == 200, path
    for path in (f"/subscribers/{subscriber.id}/rotate", "/keys/rotate"):
        refused = other.follow(other.post(path, {"overlap": "3600"}))
        assert "No secret key at hand" in text(refused)
        other.post(path, {"overlap": "0"})
    assert len(changed.subscribers.secrets(account_id, subscriber.id)) == 1
    assert len(changed.accounts.signing_secrets(account_id)) == 1


def test_strangers_see_nothing(
    visitor_with: Callable[[str], Visitor], runtime: Runtime, subscriber: Subscriber
) -> None:
    """Another account's visitor gets 404 for everything that has an id, and empty lists."""
    delivery = ping(runtime, subscriber, 200)
    stranger = visitor_with(runtime.accounts.create_key("stranger", "x", ["manage"])[1])
    for path in (f"/subscribers/{subscriber.id}", f"/deliveries/{delivery.id}", f"/events/{delivery.event_id}"):
        assert stranger.get(path).status_code == 404, path
    for act in ("ping", "pause", "resume", "rotate", "secret", "delete", "edit", "replay"):
        answer = stranger.post(f"/subscribers/{subscriber.id}/{act}", {**FORM, "since": "2000-01-01T00:00"})
        assert answer.status_code == 404, act
    assert stranger.post(f"/deliveries/{delivery.id}/retry").status_code == 404
    for path in ("/subscribers", "/deliveries", "/events", "/"):
        assert HOOK not in stranger.get(path).text
    assert runtime.subscribers.get(subscriber.account_id, subscriber.id)


def test_only_what_should_have_called_back_counts_as_rescued() -> None:
    """A poll is the only way for some operations of a provider with callbacks: their results were not rescued."""
    nothing = Times(None, None)
    view = ProviderView("img_open", {}, {}, {"face_swap_v1": 4, "face_fusion": 2, "of_old": 1}, nothing, nothing)
    assert overview.rescued(view) == 2


def test_a_description_of_blanks_is_none(visitor: Visitor, runtime: Runtime, account_id: str) -> None:
    """A subscriber that was named so with the API still has a link that can be seen."""
    found, _ = runtime.subscribers.create(account_id, NewSubscriber(HOOK, ["*"], description=" \t "))
    assert re.search(rf'href="[^"]*{found.id}">{HOOK}</a>', visitor.get("/subscribers").text)
    assert "<h1>Subscriber</h1>" in visitor.get(f"/subscribers/{found.id}").text


def test_the_answer_to_a_form_is_not_read_again(visitor: Visitor, subscriber: Subscriber) -> None:
    """The page with the secrets has an address that takes forms only: read again, all would look as if it was down."""
    assert "data-live" in visitor.get(f"/subscribers/{subscriber.id}").text
    assert "data-live" not in visitor.post(f"/subscribers/{subscriber.id}/secret").text
