"""A callback token is known to us and the provider alone, even where the provider repeats our callback URL."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from receiver import logs
from receiver.models import new_id
from receiver.runtime import Runtime
from receiver.signing import CallbackTokens, without_tokens
from tests.web.conftest import Caller, Progress

TOKEN = CallbackTokens([b"k" * 32]).make("topview", new_id("task", 1_767_225_600_000))
URL = f"https://gw.example.test/callbacks/topview/{TOKEN}"


@pytest.mark.parametrize(
    "text",
    [URL, TOKEN, json.dumps({"a": json.dumps({"url": URL})}), URL.replace("/", "\\/"), quote(URL, safe=""),
     quote(URL, safe="").lower().replace(TOKEN.lower(), TOKEN), f"{URL} {URL}",
     URL.replace("/", "%252f"), URL.replace("/", r"\u002f"), URL.replace("/", r"\x2f")],
    ids=range(10),
)  # fmt: skip
def test_a_token_is_left_out_however_it_is_written(text: str) -> None:
    """Alone, in a URL, in JSON within JSON, with escaped slashes, in a query: it goes, and the rest stays."""
    shown = without_tokens(text)
    assert TOKEN not in shown
    assert shown.replace("***", TOKEN) == text
    assert logs.blank(f"before {text} after").startswith("before ")
    assert TOKEN not in logs.blank(text)


@pytest.mark.parametrize(
    "text",
    ["task_01kahx3mt5k0c4z7d6q8r9w2ve", "01kahx3mt5k0c4z7d6q8r9w2ve.png", "https://cdn.example.test/a.b?c=d", ""],
)
def test_what_is_no_token_stays(text: str) -> None:
    """Ids of ours, file names and addresses are left as they are."""
    assert without_tokens(text) == text


def test_long_answers_are_gone_through_quickly() -> None:
    """Megabytes without a break, as of a picture in base32 or hexadecimal, take no noticeable time."""
    began = time.thread_time()
    without_tokens("0123456789abcdef" * 250_000)
    assert time.thread_time() - began < 5


def test_an_answer_that_repeats_our_address_gives_no_token_away(
    api: Caller, runtime: Runtime, progress: Progress
) -> None:
    """Neither in the task, nor in its event, its timeline or the database; all else of the answer is kept."""
    task = api.submit()
    progress.finish(raw=json.dumps({"callback": URL, "model": "m"}))
    found = api.get(f"/v1/tasks/{task['id']}")
    assert found.json["provider_response"] == {"callback": URL.replace(TOKEN, "***"), "model": "m"}
    event = api.get("/v1/events").json["data"][0]
    assert event["data"]["provider_response"] == found.json["provider_response"]
    assert TOKEN not in api.get(f"/v1/tasks/{task['id']}/timeline").text
    with runtime.store.read() as connection:
        rows = [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("tasks", "events", "steps")]
    assert TOKEN not in str(rows)
