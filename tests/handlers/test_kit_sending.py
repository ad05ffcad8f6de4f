"""Whether anything of a call was sent, and for how long it is: what decides if it may be made again."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from handlers import OutcomeUnknown, Unavailable, _deadline
from handlers import _http as http
from tests.handlers.fake_provider import Answer, FakeProvider, json_answer
from tests.handlers.test_kit_http import self_signed


@pytest.mark.parametrize("when", ["first call", "later"])
def test_nothing_was_started_where_no_certificate_can_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Authorities that cannot be read, as while their package is renewed, cost no task: the call was never sent."""
    context, certificate = self_signed(tmp_path)
    monkeypatch.setattr(_deadline, "IDLE", 0.0)
    with FakeProvider(tls=context) as remote:
        remote.answer(json_answer({"a": 1}))
        caller = http.ProviderSession(remote.url, "Somebody", 10)
        caller._verify = certificate
        if when == "later":
            assert caller.post("/buy", starts_work=True).status == 200
        hidden = Path(certificate).rename(tmp_path / "hidden.pem")
        with pytest.raises(Unavailable):
            caller.post("/buy", starts_work=True)
        hidden.rename(certificate)
        assert caller.post("/buy", starts_work=True).status == 200
        assert len(remote.requests) == (2 if when == "later" else 1)


@pytest.mark.parametrize("fault", [b"", b"HTTP/1.1 503 Busy\r\n\r\n", None], ids=["closed", "not TLS", "silent"])
def test_nothing_was_started_where_no_tls_began(monkeypatch: pytest.MonkeyPatch, fault: bytes | None) -> None:
    """A purchase that was never sent is try-later: a provider too busy for TLS costs no task."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as other_side:
        place = f"https://127.0.0.1:{listener.getsockname()[1]}"
        call = other_side.submit(http.ProviderSession(place, "Somebody").post, "/buy", starts_work=True)
        connection, _ = listener.accept()
        with connection:
            if fault is not None:
                connection.recv(65536)
                connection.sendall(fault)
                connection.close()
            with pytest.raises(Unavailable, match=r"cannot be reached: TLS failed \([\w ]+\)$"):
                call.result(5)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed (EOF) (_ssl.c:992)"), "the other side closed"),
        (ssl.SSLEOFError(8, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred (_ssl.c:992)"), "the other side closed"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
    ],
)
def test_an_end_during_the_greeting_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    """Which of these comes is chance; none shows a place in a library's source."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("urllib3.connection._ssl_wrap_socket_and_match_hostname", fail)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"cannot be reached: TLS failed \({said}[\w ]*\)$"):
            http.ProviderSession(place, "Somebody").post("/buy", starts_work=True)


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "ключ"], ids=["two headers", "not latin-1"])
def test_nothing_was_started_by_a_request_that_cannot_be_written(value: str) -> None:
    """A key that no header can hold costs no task: its caller is not told that the task may have been charged."""
    with FakeProvider() as remote:
        with pytest.raises(Unavailable):
            http.ProviderSession(remote.url, "Somebody").post("/buy", headers={"X-Key": value}, starts_work=True)
        assert remote.requests == []


def test_a_part_of_a_request_that_has_left_may_have_started_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line breaks while the head is written: how much of it arrived nobody knows, so nothing is repeated."""

    def broken(_connection: HTTPConnection, _data: Any) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(HTTPConnection, "send", broken)
    with FakeProvider() as remote, pytest.raises(OutcomeUnknown):
        http.ProviderSession(remote.url, "Somebody").post("/buy", starts_work=True)


BODY = b"x" * 16_000_000


@pytest.mark.parametrize("kind", ["plain", "kept", "tls"])
def test_sending_may_take_longer_than_connecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A large purchase over a slow line is not given up half-way while its call has time, TLS or a kept connection."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.3)
    with listener(tmp_path, kind) as (provider, caller), sent(provider, caller, kind) as (line, call):
        time.sleep(0.8)
        with line.makefile("rb") as request:
            reply(line, request, len(BODY))
            assert call.result(20).status == 200


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_provider_that_reads_slowly_cannot_hold_a_call(tmp_path: Path, kind: str) -> None:
    """Sending ends with the call's time, however the bytes are taken: else its worker's lease would end before it."""
    with listener(tmp_path, kind) as (provider, caller):
        caller.total_timeout = 1.0
        began = time.monotonic()
        with sent(provider, caller, kind) as (line, call):
            line.settimeout(5)
            while not call.done() and time.monotonic() - began < 8:
                line.recv(16_384)
                time.sleep(0.05)
            with pytest.raises(OutcomeUnknown):
                call.result(0)


@contextmanager
def listener(folder: Path, kind: str) -> Iterator[tuple[Any, http.ProviderSession]]:
    """A provider's open port, and a session with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        scheme = "https" if kind == "tls" else "http"
        caller = http.ProviderSession(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", "Somebody")
        if kind == "tls":
            context, caller._verify = self_signed(folder)
            with context.wrap_socket(server, server_side=True) as provider:
                yield provider, caller
        else:
            yield server, caller


@contextmanager
def sent(provider: Any, caller: http.ProviderSession, kind: str) -> Iterator[tuple[socket.socket, Future[Any]]]:
    """A large purchase on its way, of which nothing was read, on a connection that was used before when ``kept``."""
    with ThreadPoolExecutor(1) as other_side:
        first = other_side.submit(caller.get, "/") if kind == "kept" else None
        call = other_side.submit(caller.post, "/buy", body=BODY, starts_work=True)
        with provider.accept()[0] as line:
            if first is not None:
                with line.makefile("rb") as request:
                    reply(line, request, 0)
                assert first.result(5).status == 200
            try:
                yield line, call
            finally:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)


def reply(line: socket.socket, request: Any, length: int) -> None:
    """Read a request whose body has this length, and answer it."""
    while request.readline().strip():
        pass
    assert len(request.read(length)) == length
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class TooLong(Answer):
    """An answer whose header does not count the last 40 bytes."""

    def head(self, length: int) -> bytes:
        """The head of an answer that is shorter."""
        return super().head(length - 40)


@pytest.mark.parametrize("tls", [False, True])
def test_what_an_answer_has_too_much_is_not_the_next_answer(tmp_path: Path, tls: bool) -> None:
    """A provider that counts its bytes wrongly cannot make one call's answer that of another, TLS or not."""
    context, certificate = self_signed(tmp_path)
    with FakeProvider(tls=context if tls else None) as remote:
        caller = http.ProviderSession(remote.url, "Somebody", 10)
        caller._verify = certificate
        wrong = b"HTTP/1.1 200 OK\r\nContent-Length:  1\r\n\r\n2"
        remote.answer(TooLong(b"1" * 9000 + wrong), json_answer({"right": True}))
        assert caller.get("/ask").body == b"1" * 9000
        assert caller.post("/buy", starts_work=True).json_object() == {"right": True}


def test_an_address_where_tls_does_not_begin_fails_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way on which connections begin and large packets get lost is not tried for ever, where a name has another."""
    context, certificate = self_signed(tmp_path)
    found = socket.getaddrinfo
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.5)
    with FakeProvider(tls=context) as remote, socket.create_server(("127.0.0.1", 0)) as lost:
        remote.answer(json_answer({"a": 1}))
        ports = [lost.getsockname()[1], int(remote.url.rpartition(":")[2])]
        both = [found("127.0.0.1", port, type=socket.SOCK_STREAM)[0] for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        caller = http.ProviderSession("https://127.0.0.1", "Somebody")
        caller._verify = certificate
        with pytest.raises(Unavailable):
            caller.get("/")
        monkeypatch.setattr(http, "CONNECT_TIMEOUT", 10.0)
        assert caller.get("/").json_object() == {"a": 1}


def test_a_name_server_that_does_not_answer_ends_no_later_than_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that hangs keeps no call beyond its time, and so beyond its lease; many leave one thread behind."""
    asked: list[object] = []
    answers = threading.Event()

    def hang(*args: object, **_: object) -> list[Any]:
        asked.append(args)
        answers.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    with FakeProvider() as remote, ThreadPoolExecutor(4) as callers:
        remote.answer(json_answer({"a": 1}))
        port = remote.url.rpartition(":")[2]
        caller = http.ProviderSession(f"http://provider.test:{port}", "Somebody", 0.3)
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        began = time.monotonic()
        calls = [callers.submit(caller.post, "/buy", starts_work=True) for _ in range(4)]
        try:
            for call in calls:
                with pytest.raises(Unavailable):
                    call.result(5)
            assert time.monotonic() - began < 5
            assert len(asked) == 1
        finally:
            answers.set()
        assert remote.requests == [], "nothing goes out once nobody waits for it"
        patient = http.ProviderSession(f"http://provider.test:{port}", "Somebody", 5)
        assert patient.post("/buy", starts_work=True).status == 200
