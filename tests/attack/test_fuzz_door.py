"""Generated calls at the callback door: never a failure, and nothing stored from what is refused."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.runtime import Runtime
from receiver.web import create_app
from tests.attack.conftest import Address, Door
from tests.attack.effort import effort
from tests.handlers.samples import VALUES, mutations
from tests.handlers.topview_samples import notice_body
from tests.web.conftest import CREDENTIALS

CALLING = ("topview", "apsaravideo_vod", "img_open")
TAKEN = {200}
REFUSED = {400, 401, 403, 404, 405, 413, 415}


def notice(provider: str, remote_id: str) -> dict[str, Any]:
    """A notice of a success."""
    url = "https://cdn.example.test/a.png"
    match provider:
        case "topview":
            found: dict[str, Any] = json.loads(notice_body(taskId=remote_id))
            return found
        case "apsaravideo_vod":
            images = [{"Url": url, "Score": 0.5}]
            return {"EventType": "AIImage", "JobId": remote_id, "Status": "success", "Data": json.dumps(images)}
        case _:
            return {"code": "200", "data": {"businessTaskId": remote_id, "status": 1, "outputImageUrl": url}}


def genuine_headers(provider: str, path: str) -> dict[str, str]:
    """What the provider authenticates itself with."""
    stamp = str(int(time.time()))
    signed = f"https://gw.example.test{path}|{stamp}|{CREDENTIALS['APSARAVIDEO_VOD_CALLBACK_KEY']}"
    return {
        "topview": {"Topview-Uid": CREDENTIALS["TOPVIEW_UID"]},
        "apsaravideo_vod": {"X-VOD-TIMESTAMP": stamp, "X-VOD-SIGNATURE": hashlib.md5(signed.encode()).hexdigest()},
    }.get(provider, {})


HEADER_TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Topview-Uid", "X-VOD-TIMESTAMP", "X-VOD-SIGNATURE", "Content-Type", "Content-Encoding", "X-Request-Id",
         "Transfer-Encoding", "User-Agent", "Date", "Cookie", "Host", "X-Forwarded-For", "Accept"]
    ),
    HEADER_TEXT | st.sampled_from(["gzip", "-1", "9" * 12, "9" * 13, "1.5", "multipart/form-data; boundary=x"]),
    max_size=3,
)  # fmt: skip
QUERY = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2) | st.sampled_from(["%ff=%00", "&&=", "?"])
METHODS = st.sampled_from(["POST"] * 9 + ["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "X"])
# What json.dumps does not write.
SPOILED = (
    b"NaN",
    b"1e400",
    b"-1e-400",
    b"9" * 5000,
    b'"\\ud800"',
    b'"\xff"',
    b"[" * 5000,
    b"{}{}",
    b"",
    b'{"a":1,"a":2}',
)


@st.composite
def bodies(draw: st.DrawFn, provider: str, remote_id: str) -> bytes:
    """A notice with faults, any JSON, or any bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        return json.dumps(draw(VALUES)).encode()
    good = json.dumps(draw(mutations(notice(provider, remote_id)))).encode()
    if kind == 2 and good:
        place = draw(st.integers(0, len(good)))
        return good[:place] + draw(st.sampled_from(SPOILED)) + good[place:]
    if kind == 3 and good.endswith(b"}"):
        return good[:-1] + b', "more": ' + draw(st.sampled_from(SPOILED)) + b"}"
    return good


@pytest.fixture(scope="module")
def addresses(door: Door) -> dict[str, Address]:
    """A running task of each provider that calls back."""
    return {provider: door.start(provider) for provider in CALLING}


@effort(250)
@given(st.data())
def test_no_call_breaks_the_door(door: Door, addresses: dict[str, Address], data: st.DataObject) -> None:
    """Any method, address, header, query and body: a known answer, and nothing stored unless it is a taken notice."""
    provider = data.draw(st.sampled_from(CALLING))
    address = addresses[provider]
    path = data.draw(
        st.sampled_from([address.path] * 6 + [other.path for other in addresses.values()])
        | st.sampled_from(
            [f"/callbacks/{provider}", "/callbacks/superapp", "/callbacks/nobody/x", f"/callbacks/{provider}/",
             address.path + "/", address.path[:-2], address.path.upper(), f"//callbacks/{provider}/x"]
        )
        | st.text(max_size=12).map(lambda text: f"/callbacks/{provider}/{quote(text, safe='/%')}")
    )  # fmt: skip
    headers = data.draw(HEADERS)
    if data.draw(st.integers(0, 4)):
        headers = {**headers, **genuine_headers(provider, path)}
    before = door.stored()
    answer = door.app.test_client().open(
        path,
        method=data.draw(METHODS),
        headers=headers,
        query_string=data.draw(QUERY),
        data=data.draw(bodies(provider, address.remote_id)),
    )
    assert answer.status_code in TAKEN | REFUSED, answer.text
    after = door.stored()
    if answer.status_code not in TAKEN:
        assert after == before
    grown = {name for name in after if after[name] != before[name]}
    assert grown <= {"notices", "copies"}  # hints: no notice of these can end a task


@pytest.fixture(scope="module")
def believing(door: Door) -> Iterator[Door]:
    """A door that takes the word of notices for the result, on the same database."""
    settings = door.runtime.settings
    providers = {name: {**texts, "confirm_notices": "false"} for name, texts in settings.providers.items()}
    runtime = Runtime.build(replace(settings, providers=providers))
    yield Door(runtime, create_app(runtime))
    runtime.close()


@pytest.mark.parametrize("provider", CALLING)
def test_no_believed_notice_breaks_anything(believing: Door, provider: str) -> None:
    """Where notices are believed, whatever they hold: the task, its timeline and its events stay readable JSON."""
    door = believing
    address = [door.start(provider)]

    @effort(60)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        body = data.draw(bodies(provider, address[0].remote_id))
        path = address[0].path
        answer = door.app.test_client().post(path, data=body, headers=genuine_headers(provider, path))
        assert answer.status_code in TAKEN | REFUSED, answer.text
        task = door.api.get(f"/v1/tasks/{address[0].task_id}")
        assert json.loads(task.text, parse_constant=pytest.fail)["id"] == address[0].task_id
        if task.json["status"] != "running":
            (event,) = door.api.get("/v1/events", query_string={"limit": 1}).json["data"]
            assert event["data"]["status"] == task.json["status"]
            assert door.api.get(f"/v1/tasks/{address[0].task_id}/timeline").status_code == 200
            address[0] = door.start(provider)

    run()
