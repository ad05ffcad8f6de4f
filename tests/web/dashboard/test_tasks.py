"""The pages of tasks: what they show, whom they show it to, and what their forms do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest

from handlers import ErrorCode, TaskError
from receiver.accounts import AccountService
from receiver.deliveries import Outcome
from receiver.models import Subscriber
from receiver.runtime import Runtime
from receiver.web.dashboard.words import _ADVICE
from tests.core.stage import answered
from tests.web.conftest import KEY, Caller, Clock, Progress
from tests.web.dashboard.conftest import Visitor

FORM = "/new-task/superapp/text2image"
FILLED = {"input.inputText": "a cat", "input.width": "512", "input.height": "512", "once": "form-1"}


def shown(visitor: Visitor, query: str = "") -> list[str]:
    """Ids of the tasks in the list."""
    answer = visitor.get(f"/tasks{query}")
    assert answer.status_code == 200
    return re.findall(r'class="id" href="[^"]+" title="(task_\w+)"', answer.text)


def only_task(runtime: Runtime, api: Caller) -> Any:
    """The one task there is."""
    (task,) = api.get("/v1/tasks").json["data"]
    return task


# --- the list ----------------------------------------------------------------------------------------


def test_a_newcomer_is_told_the_next_step(visitor: Visitor) -> None:
    """An empty list says what a task is and leads to the form; an empty result leads back."""
    assert "Submit a task" in visitor.get("/tasks").text
    assert "Nothing found" in visitor.get("/tasks?status=failed").text


def test_the_list_is_narrowed_down_by_all_that_the_api_filters_by(
    visitor: Visitor, api: Caller, progress: Progress
) -> None:
    """Status, provider, operation, times in the visitor's zone, pairs of metadata."""
    done = api.submit(metadata={"order": "4711", "team": "a"})["id"]
    progress.finish()
    waiting = api.submit(metadata={"order": "4712"})["id"]
    assert shown(visitor) == [waiting, done]
    for query, found in (
        ("?status=succeeded", [done]),
        ("?status=queued&provider=superapp&operation=text2image", [waiting]),
        ("?provider=topview", []),
        ("?operation=nothing", []),
        ("?metadata=order%3D4711", [done]),
        ("?metadata=order%3D4711%26team%3Db", []),
        ("?after=2026-01-01T00:00", [waiting, done]),
        ("?before=2026-01-01T00:00", []),
        ("?status=nonsense", [waiting, done]),
    ):
        assert shown(visitor, query) == found, query


def test_every_pair_of_a_task_leads_to_the_tasks_that_have_it(visitor: Visitor, api: Caller) -> None:
    """Signs that addresses and pairs are made of change nothing, in links and typed; others are not found with it."""
    odd = {"mail": "me+you@example.com", "100%": "a&b=c", "q=1": "%2B;", "x": "ü v"}
    ours = api.submit(metadata=odd)["id"]
    api.submit(metadata={"mail": "me you@example.com", "100%": "a", "q": "1"})
    page = visitor.get(f"/tasks/{ours}").text
    links = [unescape(found) for found in re.findall(r'href="\.\./(tasks\?metadata=[^"]+)"', page)]
    assert len(links) == len(odd)
    for link in links:
        assert shown(visitor, link.removeprefix("tasks")) == [ours], link
    assert shown(visitor, "?" + urlencode({"metadata": "mail=me+you@example.com"})) == [ours]


@pytest.mark.parametrize("path", ["/tasks", "/deliveries", "/events", "/subscribers"])
def test_a_place_that_is_none_is_the_beginning(visitor: Visitor, api: Caller, path: str) -> None:
    """A cursor that was cut or made up shows the list from its start, on every database."""
    api.submit()
    for place in ("%00", "task_", "x", "task_01kahx3mt5k0c4z7d6q8r9w2ve%00"):
        assert visitor.get(f"{path}?cursor={place}").status_code == 200
    assert visitor.get("/new-task/superapp/text2image?like=%00").status_code == 404


def test_what_cannot_be_understood_is_said_at_its_field(visitor: Visitor) -> None:
    """A time that is none, pairs that are none; nothing fails."""
    text = visitor.get("/tasks?after=yesterday&metadata=%3D%00&operation=%00&q=%00").text
    assert "Nothing found" in text
    text = visitor.get("/tasks?after=yesterday&metadata=%00").text
    assert "Write a time like" in text
    assert "Write pairs like" in text


def test_long_lists_come_in_pages(visitor: Visitor, api: Caller) -> None:
    """By a cursor, with the filters kept; only the first page refreshes itself."""
    ids = [api.submit()["id"] for _ in range(30)]
    first = visitor.get("/tasks?provider=superapp").text
    assert "data-live" in first
    (older,) = re.findall(r'href="([^"]+)" rel="next"', first)
    assert "provider=superapp" in older
    rest = visitor.get(unescape(older).removeprefix("."))
    assert "data-live" not in rest.text
    assert ids[0] in rest.text
    assert "Newest" in rest.text


def test_a_task_is_found_by_any_id(visitor: Visitor, api: Caller, progress: Progress) -> None:
    """Ours and the provider's lead straight to it."""
    task = api.submit()["id"]
    progress.hand_over(provider_task_id="remote-77")
    for identity in (task, "remote-77"):
        answer = visitor.get("/tasks", query_string={"q": f" {identity} "})
        assert answer.headers["Location"] == f"./tasks/{task}"
    assert "remote-78" in visitor.get("/tasks?q=remote-78").text


def test_what_belongs_to_others_is_not_there(
    api: Caller, progress: Progress, runtime: Runtime, visitor_with: Callable[[str], Visitor]
) -> None:
    """Not in the list, not by an id, not behind an address or a form of another account."""
    task = api.submit()["id"]
    progress.hand_over(provider_task_id="remote-77")
    stranger = visitor_with(runtime.accounts.create_key("stranger", "x", ["manage"])[1])
    assert shown(stranger) == []
    for query in (f"?q={task}", "?q=remote-77"):
        assert "Nothing found" in stranger.get(f"/tasks{query}").text
    for answer in (
        stranger.get(f"/tasks/{task}"),
        stranger.get(f"{FORM}?like={task}"),
        stranger.post(f"/tasks/{task}/cancel"),
    ):
        assert answer.status_code == 404
    assert only_task(runtime, api)["status"] == "running"


# --- one task ----------------------------------------------------------------------------------------


def test_a_task_shows_what_was_said(visitor: Visitor, api: Caller, progress: Progress) -> None:
    """Input, results, the provider's answers behind the steps, commands without the key."""
    task = api.submit(metadata={"order": "4711"}, callback_url="http://127.0.0.1:9/hook")["id"]
    progress.finish(raw='{"done": 1.10}')
    page = visitor.get(f"/tasks/{task}")
    assert page.status_code == 200
    text = unescape(page.text)
    for part in ("a cat", "https://cdn.example.test/a.png", '"accepted": true', '"done": 1.10', "order%3D4711",
                 "task.succeeded", 'referrerpolicy="no-referrer"', "$RECEIVER_API_KEY", "found by asking"):  # fmt: skip
        assert part in text, part
    assert KEY not in text
    assert "data-live" in text, "deliveries still wait"


def test_what_strangers_wrote_is_text(visitor: Visitor, api: Caller, progress: Progress) -> None:
    """Nothing that a caller or a provider sends becomes a part of the page, nor an address that runs."""
    evil = "<script>alert(1)</script>\"'onload=x"
    task = api.submit(input={"inputText": evil, "width": 64, "height": 64}, metadata={"a<b>": evil})["id"]
    progress.hand_over(provider_task_id=evil)
    for path in ("/tasks", f"/tasks/{task}", f"{FORM}?like={task}"):
        text = visitor.get(path).text
        assert "<script>alert" not in text
        assert "<b>" not in text


def test_outputs_with_odd_addresses_are_not_linked(visitor: Visitor, api: Caller, progress: Progress) -> None:
    """Only http and https can be opened or loaded."""
    task = api.submit()["id"]
    progress.finish()
    with progress.runtime.store.write() as connection:
        outputs = [
            {"kind": kind, "url": "javascript:alert(1)", "text": None, "data": None, "name": "n", "status": "ok",
             "expires_at": None, "details": {}}
            for kind in ("image", "video", "audio", "data")
        ]  # fmt: skip
        connection.exec_driver_sql(
            "UPDATE tasks SET outputs_json = " + "'" + json.dumps(outputs).replace("'", "''") + "'"
        )
    text = visitor.get(f"/tasks/{task}").text
    assert 'href="javascript' not in text
    assert 'src="javascript' not in text


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_says_what_to_do(visitor: Visitor, api: Caller, progress: Progress, code: ErrorCode) -> None:
    """What it means, what the provider said, what to do, and whether the same may succeed."""
    task = api.submit()["id"]
    (start,) = progress.runtime.submissions.claim("superapp", 1)
    error = TaskError(code, "It said no.", retryable=code is ErrorCode.TIMEOUT, provider_code="E42")
    progress.runtime.submissions.rejected(start.task, error, '{"no": 1}')
    text = unescape(visitor.get(f"/tasks/{task}").text)
    for part in (_ADVICE[code].meaning, _ADVICE[code].step, "It said no.", "E42", '"no": 1', code.value):
        assert part in text, part
    assert ("The same task may succeed" in text) is (code is ErrorCode.TIMEOUT)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_no_advice_speaks_against_itself(visitor: Visitor, api: Caller, progress: Progress, code: ErrorCode) -> None:
    """An error never says both to submit again and that this will fail; of a lost submission nobody knows."""
    task = api.submit()["id"]
    (start,) = progress.runtime.submissions.claim("superapp", 1)
    progress.runtime.submissions.rejected(start.task, TaskError(code, "It said no."), "{}")
    text = unescape(visitor.get(f"/tasks/{task}").text)
    doomed = "will most likely fail again" in text
    assert doomed is (code is not ErrorCode.SUBMISSION_UNKNOWN)
    if code in (ErrorCode.PROVIDER_ERROR, ErrorCode.EMPTY_RESULT):
        assert "ubmit again" not in text


def test_a_task_that_expired_says_what_to_do(visitor: Visitor, api: Caller, runtime: Runtime, clock: Clock) -> None:
    """Its page is there, though nobody named an error: the deadline passed."""
    task = api.submit(deadline=1)["id"]
    clock.ahead += 60_000
    runtime.polling.end_overdue()
    answer = visitor.get(f"/tasks/{task}")
    assert answer.status_code == 200
    for part in ("The deadline passed", "Submit again with a later deadline", "The same task may succeed"):
        assert part in answer.text
    assert "The provider said" not in answer.text


def test_a_task_is_canceled_once(visitor: Visitor, api: Caller) -> None:
    """The second time the page says that it has ended, and nothing fails."""
    task = api.submit()["id"]
    for said in ("The task is canceled", "has ended already"):
        answer = visitor.follow(visitor.post(f"/tasks/{task}/cancel"))
        assert said in answer.text
    assert api.get(f"/v1/tasks/{task}").json["status"] == "canceled"


# --- a new one ---------------------------------------------------------------------------------------


def test_operations_to_choose_from(visitor: Visitor, api: Caller) -> None:
    """All of all configured providers, and each has its form."""
    text = visitor.get("/new-task").text
    for provider in api.get("/v1/providers").json["data"]:
        for operation in provider["operations"]:
            path = f"/new-task/{provider['name']}/{operation['name']}"
            assert f'href=".{path}"' in text
            assert visitor.get(path).status_code == 200, path
    for path in ("/new-task/nobody/x", "/new-task/superapp/nothing"):
        assert visitor.get(path).status_code == 404


def test_the_form_submits_a_task(visitor: Visitor, api: Caller, runtime: Runtime) -> None:
    """With all that was typed, in the types of the schema, and leads to its page."""
    more = {
        "metadata": "order = 4711\n\nteam=a=b", "callback_url": "https://hooks.example.test/x", "deadline": "600",
        "further": '{"seed": 7}',
    }  # fmt: skip
    answer = visitor.post(FORM, {**FILLED, **more})
    task = only_task(runtime, api)
    assert answer.headers["Location"] == f"../../tasks/{task['id']}"
    assert task["input"] == {"inputText": "a cat", "width": 512, "height": 512, "seed": 7}
    assert task["metadata"] == {"order": "4711", "team": "a=b"}
    assert task["callback_url"] == "https://hooks.example.test/x"


def test_a_double_click_makes_one_task(visitor: Visitor, api: Caller, runtime: Runtime) -> None:
    """The same form sent twice; sent again with something else in it, it asks first."""
    places = {visitor.post(FORM, FILLED).headers["Location"] for _ in range(3)}
    assert len(places) == 1
    changed = visitor.post(FORM, {**FILLED, "input.width": "640"})
    assert changed.status_code == 422
    assert "sent already" in changed.text
    assert only_task(runtime, api)["input"]["width"] == 512
    (once,) = re.findall(r'name="once" value="([^"]+)"', changed.text)
    assert visitor.post(FORM, {**FILLED, "input.width": "640", "once": once}).status_code == 303
    assert len(api.get("/v1/tasks").json["data"]) == 2


def test_mistakes_are_said_at_their_fields_and_nothing_is_lost(visitor: Visitor, api: Caller) -> None:
    """All at once, in the words of the API; what was typed is still there, and nothing was submitted."""
    typed = {
        "input.inputText": "x" * 501, "input.width": "wide", "further": "{nonsense", "metadata": "no pair",
        "callback_url": "ftp://x", "deadline": "soon", "once": "form-1",
    }  # fmt: skip
    answer = visitor.post(FORM, typed)
    assert answer.status_code == 422
    text = unescape(answer.text)
    for name, value in typed.items():
        assert value in text, name
    for name in ("further", "metadata", "deadline"):
        assert f'id="said-{name}"' in text, name
    text = unescape(visitor.post(FORM, {**FILLED, "metadata": "order=1\norder=2"}).text)
    assert "order=1\norder=2" in text
    assert "One name stands on two lines" in text
    fields = {**typed, "further": "", "metadata": "", "deadline": ""}
    text = unescape(visitor.post(FORM, fields).text)
    for name in ("input.inputText", "input.width", "input.height", "callback_url"):
        assert f'id="said-{name}"' in text, name
        assert f'aria-describedby="said-{name}"' in text, name
    assert api.get("/v1/tasks").json["data"] == []


def test_a_task_can_be_made_again(visitor: Visitor, api: Caller) -> None:
    """Its input stands in the form, the fields that the form does not know as JSON."""
    task = api.submit(
        input={"inputText": "a cat", "width": 512, "height": 512, "seed": [1]}, metadata={"order": "4711"}
    )
    text = unescape(visitor.get(f"{FORM}?like={task['id']}").text)
    for part in ("a cat", 'value="512"', '"seed": [', "order=4711"):
        assert part in text, part


def test_a_session_asks_the_database_for_its_key_alone(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page does not look the key's text up again, nor write its use."""
    monkeypatch.setattr(AccountService, "authenticate", None)
    assert visitor.get("/tasks").status_code == 200


def test_another_one_like_it_reports_to_the_same_address(visitor: Visitor, api: Caller) -> None:
    """Submitted again from its page, a task is told to the callback URL of the first one, too."""
    task = api.submit(callback_url="https://shop.example.com/hook")
    assert 'value="https://shop.example.com/hook"' in visitor.get(f"{FORM}?like={task['id']}").text


@pytest.mark.parametrize(
    "metadata", [{"order": "4711", "b": "x=y"}, {"a=b": "c"}, {"note": "one\nx=y"}, {" a": "b "}, {'{"a"': "1}"}, {}]
)
def test_another_one_like_it_has_the_same_metadata(visitor: Visitor, api: Caller, metadata: dict[str, str]) -> None:
    """Pairs that lines cannot tell apart stand there as JSON; none becomes another one silently."""
    first = api.submit(metadata=metadata)["id"]
    text = visitor.get(f"{FORM}?like={first}").text
    typed = re.findall(r'<textarea name="metadata"[^>]*>\n(.*?)</textarea>', text, re.DOTALL)
    fields = {"input.inputText": "x", "input.width": "64", "input.height": "64", "metadata": unescape(typed[0])}
    sent = visitor.post(FORM, fields)
    assert sent.status_code == 303, sent.text
    assert api.get(f"/v1/tasks/{sent.headers['Location'].rpartition('/')[2]}").json["metadata"] == metadata


# --- texts that no page can carry ----------------------------------------------------------------------


@pytest.mark.parametrize("who", ["provider", "subscriber"])
def test_half_a_character_from_outside_leaves_every_page_readable(
    visitor: Visitor, api: Caller, runtime: Runtime, subscriber: Subscriber, progress: Progress, who: str
) -> None:
    r"""JSON may hold ``\ud83d``, half of an emoji that was cut: the pages show it as it came, and never fail."""
    cut = r'{"said": "a cut \ud83d", "\udc00": 1}'
    task = api.submit()["id"]
    progress.finish(raw=cut if who == "provider" else "{}")
    answer = replace(answered(200), body=cut if who == "subscriber" else "")
    claims = runtime.deliveries.turn((), 100).claims
    runtime.deliveries.turn([Outcome(claim, runtime.clock(), answer) for claim in claims], 0)
    delivery, event = (api.get(f"/v1/{noun}").json["data"][0]["id"] for noun in ("deliveries", "events"))
    pages = {f"/tasks/{task}": True, f"/deliveries/{delivery}": True, f"/events/{event}": who == "provider"}
    for address, has_it in pages.items():
        page = visitor.get(address)
        assert page.status_code == 200, address
        assert (r"a cut \ud83d" in page.text) == has_it, address


def test_half_a_character_in_a_form_is_refused_where_it_stands(visitor: Visitor) -> None:
    """What was typed comes back with what is wrong, like any other mistake."""
    answer = visitor.post(FORM, {**FILLED, "metadata": r'{"\udc00": "x"}'})
    assert answer.status_code == 422
    assert "a cat" in answer.text
