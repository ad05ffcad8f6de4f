"""Plain callbacks: told from all else, and answered as the application answers them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask import Flask

from receiver.errors import Busy
from receiver.notices import Call, NoticeService, Result
from receiver.web.express import Express
from receiver.web.plain import LARGEST, plain_call
from tests.handlers.topview_samples import notice_body
from tests.web import test_callbacks
from tests.web.conftest import Caller
from tests.web.test_callbacks import UID, verdicts

running = test_callbacks.running  # the fixture
HEAD = b"POST /callbacks/topview/abc.DEF_1-2 HTTP/1.1\r\nHost: x\r\nTopview-Uid:  u \r\nContent-Length: 2\r\n\r\n"


def test_a_plain_call_is_read() -> None:
    """Provider, token, headers in lower case without the spaces around them, and an id of its own."""
    plain = plain_call(HEAD, b"{}")
    assert plain is not None
    assert (plain.provider, plain.token, plain.body, plain.keep_alive) == ("topview", "abc.DEF_1-2", b"{}", True)
    assert plain.headers == {"host": "x", "topview-uid": "u", "content-length": "2"}
    assert len(plain.request_id) == 24
    named = plain_call(HEAD.replace(b"Host: x", b"X-Request-Id: mine\r\nConnection: Close"), b"{}")
    assert named is not None
    assert (named.request_id, named.keep_alive) == ("mine", False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"GET"), (b"POST /callbacks", b"POST /v1"), (b"abc.DEF_1-2", b"abc?x=1"), (b"abc.DEF_1-2", b"a/b"),
        (b"/abc.DEF_1-2", b""), (b"HTTP/1.1", b"HTTP/1.0"), (b"Host: x", b"Host: x\r\nhost: y"), (b": x", b" : x"),
        (b"Host: x", b"Host: x\r\n folded"), (b"Host: x", b"Ho_st: x"), (b"Host: x", b"Host: \x00"),
        (b"Length: 2", b"Length: 3"), (b"Length: 2", b"Length: +2"), (b"Length: 2", b"Length: 02"),
        (b"Content-Length: 2", b"Transfer-Encoding: chunked"), (b"Host: x", b"Expect: 100-continue"),
        (b"Host: x", b"Content-Encoding: gzip"), (b"Host: x", b"Connection: upgrade"), (b"Host: x", b"Upgrade: h2c"),
        (b"Host: x", b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off"), (b"Host: x\r\n", b"Host: x\n"),
        (b"Host: x", b"\r\n".join(b"X-%d: y" % number for number in range(80))), (b"Host: x", b"X: " + b"y" * 5000),
    ],
)  # fmt: skip
def test_whatever_is_odd_is_left_to_the_application(old: bytes, new: bytes) -> None:
    """Other methods, addresses, framings, headers that stand twice or are no headers: nothing is guessed here."""
    assert old in HEAD
    assert plain_call(HEAD.replace(old, new, 1), b"{}") is None


def test_a_large_body_is_not_plain() -> None:
    """Reading it would hold up the others."""
    head = HEAD.replace(b"Length: 2", b"Length: %d" % (LARGEST + 1))
    assert plain_call(head, b"x" * (LARGEST + 1)) is None


@pytest.fixture
def send(app: Flask) -> Callable[[str, bytes, dict[str, str]], tuple[int, dict[str, str], bytes]]:
    """Sends a plain call the express way; status, headers and body of its answer."""
    answers: queue.Queue[Sequence[tuple[int, bytes]]] = queue.Queue()
    express: Express[int] = Express(app, answers.put)
    express.start()

    def call(path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n"
        plain = plain_call(head, body)
        assert plain is not None
        express.put(7, plain)
        ((ticket, answer),) = answers.get(timeout=20)
        assert ticket == 7
        top, _, content = answer.partition(b"\r\n\r\n")
        first, *rest = top.decode().split("\r\n")
        said = dict(line.split(": ", 1) for line in rest)
        assert first.startswith("HTTP/1.1 ")
        return int(first[9:12]), said, content

    return call


@pytest.mark.parametrize("case", ["taken", "token", "signature", "malformed", "provider"])
def test_both_ways_give_the_same_answer(
    app: Flask,
    send: Any,
    running: tuple[str, str],
    case: str,
) -> None:
    """Status, every header and the body, whatever becomes of the call."""
    path = {"token": running[1][:-1], "provider": "/callbacks/nobody/x"}.get(case, running[1])
    headers = {"X-Request-Id": "mine", **({} if case == "signature" else UID)}
    body = b"[]" if case == "malformed" else notice_body(taskId="tv-1")
    status, said, content = send(path, body, headers)
    answer = app.test_client().post(path, data=body, headers=headers)
    for way in ("Date", "Connection"):  # the server's own, not the application's
        assert said.pop(way)
    assert (status, content) == (answer.status_code, answer.data)
    assert said == dict(answer.headers)


@pytest.mark.parametrize(
    ("pause", "sizes"),
    [(60.0, [3, 3]), (0.0, [3, 1, 1, 1])],  # seconds
)
def test_as_many_as_last_are_waited_for_a_moment(
    app: Flask,
    running: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    pause: float,
    sizes: Sequence[int],
) -> None:
    """Who was answered together shares the next transaction as well; but nobody waits longer than the pause."""
    monkeypatch.setattr("receiver.web.express.PAUSE", pause)
    answers: queue.Queue[Sequence[tuple[int, bytes]]] = queue.Queue()
    express: Express[int] = Express(app, answers.put)
    plain = plain_call(HEAD.replace(b"topview/abc.DEF_1-2", running[1].removeprefix("/callbacks/").encode()), b"{}")
    assert plain is not None
    for ticket in range(3):
        express.put(ticket, plain)
    express.start()
    found = [len(answers.get(timeout=20))]
    for ticket in range(3):
        express.put(ticket, plain)
        if not pause:
            found.append(len(answers.get(timeout=20)))
    found += [len(answers.get(timeout=20))] if pause else []
    assert found == sizes


def test_what_was_left_is_answered_after_the_next_transaction(
    app: Flask, running: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many subscribers are to be told of each: all are taken in, and those before them need not wait."""
    answers: queue.Queue[Sequence[tuple[int, bytes]]] = queue.Queue()
    express: Express[int] = Express(app, answers.put)
    plain = plain_call(HEAD.replace(b"topview/abc.DEF_1-2", running[1].removeprefix("/callbacks/").encode()), b"{}")
    assert plain is not None
    take_all = NoticeService.take_all

    def take_some(service: NoticeService, calls: Sequence[Call]) -> Sequence[Result | None]:
        return [*take_all(service, calls[:2]), *[None for _ in calls[2:]]]

    monkeypatch.setattr(NoticeService, "take_all", take_some)
    for ticket in range(5):
        express.put(ticket, plain)
    express.start()
    assert [[ticket for ticket, _ in answers.get(timeout=20)] for _ in range(3)] == [[0, 1], [2, 3], [4]]


def test_a_call_that_comes_the_express_way_is_kept(
    api: Caller,
    send: Any,
    running: tuple[str, str],
) -> None:
    """Once, however often it comes."""
    for _ in range(2):
        assert send(running[1], notice_body(taskId="tv-1"), dict(UID))[0] == 200
    assert verdicts(api, running[0]) == [("hint", 2)]


def test_trouble_is_told_as_the_application_tells_it(
    send: Any,
    running: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503 with Retry-After when the database is away, 500 for a mistake of ours; never a 200, never silence."""

    def fail(error: Exception) -> Any:
        def take_all(*_: Any) -> Any:
            raise error

        return take_all

    monkeypatch.setattr(NoticeService, "take_all", fail(Busy("secret-host is down")))
    status, said, content = send(running[1], notice_body(), dict(UID))
    assert (status, said["Retry-After"], b"secret" in content) == (503, "1", False)
    monkeypatch.setattr(NoticeService, "take_all", fail(RuntimeError("secret detail")))
    status, _, content = send(running[1], notice_body(), dict(UID))
    assert (status, b"secret" in content) == (500, False)


def test_a_call_that_cannot_be_answered_costs_the_next_one_nothing(
    app: Flask, running: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails about one callback, those behind it are answered; its own connection is closed."""
    answers: queue.Queue[Sequence[tuple[int, bytes]]] = queue.Queue()
    express: Express[int] = Express(app, answers.put)
    express.start()
    body = notice_body(taskId="tv-1")
    head = f"POST {running[1]} HTTP/1.1\r\nTopview-Uid: {UID['TopView-Uid']}\r\nContent-Length: {len(body)}\r\n\r\n"
    plain = plain_call(head.encode(), body)
    assert plain is not None
    with monkeypatch.context() as patch:
        patch.setattr("receiver.watching.notice_taken", lambda *_: 1 / 0)
        express.put(1, plain)
        assert answers.get(timeout=20) == [(1, b"")]
    with monkeypatch.context() as patch:
        patch.setattr(NoticeService, "take_all", lambda *_: [])
        express.put(2, plain)
        assert answers.get(timeout=20) == [(2, b"")]
    express.put(3, plain)
    ((ticket, answer),) = answers.get(timeout=20)
    assert (ticket, answer[:12]) == (3, b"HTTP/1.1 200")
