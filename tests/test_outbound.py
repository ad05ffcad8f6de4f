"""What goes out to a subscriber, and what comes back when it behaves."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from receiver import dialling
from receiver.addresses import AddressPolicy
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult, post
from receiver.signing import new_secret, signature_header
from tests.subscriber import Subscriber, Talk, answer, redirect, say, stay_on_loopback

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_on_loopback(monkeypatch)


def send(url: str, body: bytes = b"{}", headers: dict[str, str] | None = None, **more: Any) -> OutboundResult:
    """POST as a delivery does, with a deadline that a test can wait for."""
    deadline = more.pop("deadline", 5.0)
    return post(OutboundRequest("POST", url, headers or {}, body, deadline), LOOPBACK, **more)


def test_the_request_is_exactly_what_was_asked_for() -> None:
    """Method, path, query, headers and body arrive byte for byte, with nothing added that was not named."""
    body = '{"text": "打开"}'.encode()
    with Subscriber() as subscriber:
        result = send(subscriber.url + "?a=b%2Fc&d", body, {"content-type": "application/json", "X-Own": "ü"})
    assert (result.status, result.error) == (200, None)
    head = (
        f"POST /hook?a=b%2Fc&d HTTP/1.1\r\nHost: 127.0.0.1:{subscriber.port}\r\nAccept-Encoding: identity\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n"
        "content-type: application/json\r\nX-Own: ü\r\nAccept: */*\r\n\r\n"
    )
    assert subscriber.requests[0].raw == head.encode("latin-1") + body


def test_the_callers_accept_header_counts() -> None:
    """A subscriber's own Accept header goes out instead of ours, not beside it."""
    with Subscriber() as subscriber:
        send(subscriber.url, headers={"Accept": "text/plain"})
    assert subscriber.requests[0].header("accept") == "text/plain"


def test_what_is_signed_is_what_arrives() -> None:
    """The published libraries verify a delivery as it came off the wire."""
    secret, body = new_secret(), b'{"type":"task.succeeded"}'
    with Subscriber() as subscriber:
        at = int(time.time())
        headers = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(at),
            "webhook-signature": signature_header([secret], "evt_1", at, body),
        }
        send(subscriber.url, body, headers)
    subscriber.requests[0].verify(secret)
    assert not subscriber.requests[0].is_verified_by(new_secret())


@pytest.mark.parametrize("status", [200, 204, 299, 400, 404, 410, 429, 500, 503, 999])
def test_any_status_is_an_answer(status: int) -> None:
    """A status is reported and not judged here."""
    with Subscriber(answer(status)) as subscriber:
        result = send(subscriber.url)
    assert (result.status, result.error) == (status, None)
    assert str(status) in result.message


def test_what_is_kept_of_an_answer() -> None:
    """Headers of note in lower case, cut to 1 KiB; the body as text that every database takes."""
    headers = {"Content-Type": "text/plain", "RETRY-AFTER": "120", "Server": "s" * 2000, "Set-Cookie": "a=b"}
    with Subscriber(answer(503, headers, b"a\x00b\xff\xc3\xa4")) as subscriber:
        result = send(subscriber.url)
    assert result.headers["content-type"] == "text/plain"
    assert result.headers["retry-after"] == "120"
    assert len(result.headers["server"]) == 1024
    assert "set-cookie" not in result.headers
    assert result.body == "a\ufffdb\ufffdä"


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", "abcde"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok and more", "ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\nnot a body", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\nall", "all"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (
            b"HTTP/1.1 102 A\r\n\r\nHTTP/1.1 103 B\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
    ],
)
def test_every_form_of_a_good_answer_is_read(said: bytes, body: str) -> None:
    """Chunked, to the end of the connection, with interim answers before: the final answer counts."""
    with Subscriber(say(said)) as subscriber:
        result = send(subscriber.url)
    assert (result.status in (200, 204), result.error, result.body) == (True, None, body)


@pytest.mark.parametrize("length", [b"2", b"2, 2"])
def test_a_kept_connection_is_not_waited_for(length: bytes) -> None:
    """An answer is complete when its length is there, also if the other side keeps the connection open.

    The same length twice is that length (RFC 9110 §8.6); proxies write it so.
    """
    with Subscriber(say(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nok" % length, then_hang=True)) as subscriber:
        result = send(subscriber.url)
    assert (result.error, result.body) == (None, "ok")


def test_switching_protocols_is_an_answer() -> None:
    """A 101, for which nobody asked, ends the exchange instead of waiting for more."""
    with Subscriber(say(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", then_hang=True)) as subscriber:
        result = send(subscriber.url)
    assert (result.status, result.error) == (101, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    """A redirect is reported with its target; the target is never visited."""
    with Subscriber() as target, Subscriber(redirect(target.url, status)) as subscriber:
        result = send(subscriber.url)
    assert (result.status, result.error) == (status, None)
    assert result.headers["location"] == target.url
    assert target.connections == 0


def test_proxies_and_netrc_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A delivery goes straight to its subscriber, and no password of this machine goes with it."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    with Subscriber() as proxy, Subscriber() as subscriber:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.origin)
            monkeypatch.setenv(name.upper(), proxy.origin)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        result = send(subscriber.url)
    assert result.error is None
    assert proxy.connections == 0
    assert subscriber.requests[0].header("authorization") is None
    assert subscriber.requests[0].target == "/hook"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-Evil: 1"),
        ("X-A", "b\nX-Evil: 1"),
        ("X-A", "b\r X-Evil: 1"),
        ("X-A", "b\n continued"),
        ("X-A", "\x00"),
        ("X-A", "\x85"),
        ("X-A", "打开"),
        ("X-A\r\nX-Evil", "1"),
        ("X A", "1"),
        ("X-A:", "1"),
        ("", "1"),
        ("ü", "1"),
        ("Host", "evil.example"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Expect", "100-continue"),
    ],
)
def test_no_header_can_change_the_request(name: str, value: str) -> None:
    """A header that would begin a line of its own, or replace one of ours, ends the attempt before it is sent."""
    with Subscriber() as subscriber:
        result = send(subscriber.url, headers={name: value})
    assert (result.status, result.error) == (None, OutboundError.INVALID_REQUEST)
    assert subscriber.connections == 0


def test_an_unusable_url_is_a_result() -> None:
    """A stored URL that is no longer acceptable fails its attempt with the sentence for its owner."""
    result = send("https://user:pass@example.com/")
    assert result.error is OutboundError.INVALID_REQUEST
    assert "user name" in result.message


def test_large_bodies_go_out_whole() -> None:
    """A body of many packets arrives as it was."""
    body = bytes(range(256)) * 20_000
    with Subscriber() as subscriber:
        result = send(subscriber.url, body)
    assert result.error is None
    assert subscriber.requests[0].body == body


@pytest.mark.parametrize("politely", [True, False])
def test_an_early_answer_to_a_large_body_is_heard(politely: bool) -> None:
    """A subscriber that refuses a large body gets its 413 through, also if it closes with the body half taken."""

    def refuse(talk: Talk) -> None:
        talk.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        while politely and talk.sock.recv(65536):
            pass

    with Subscriber(refuse) as subscriber:
        result = send(subscriber.url, b"x" * 5_000_000)
    assert (result.status, result.error) == (413, None)


def test_a_file_is_put_where_it_belongs() -> None:
    """An upload's file goes out with its own size, from where it stands, and not beyond."""
    content = b"skipped" + b"p" * 200_000 + b"not sent"
    file = io.BytesIO(content)
    file.seek(7)
    with Subscriber() as subscriber:
        request = OutboundRequest("PUT", subscriber.url, {"content-type": "image/png"}, file, 5.0, body_size=200_000)
        result = post(request, LOOPBACK)
    assert result.error is None
    received = subscriber.requests[0]
    assert (received.method, received.header("content-length")) == ("PUT", "200000")
    assert received.body == b"p" * 200_000


def test_a_file_that_is_too_short_is_the_callers_error() -> None:
    """A wrong size is a programming error, never reported as the other side's fault."""
    with Subscriber() as subscriber, pytest.raises(ValueError, match="ended before"):
        post(OutboundRequest("PUT", subscriber.url, {}, io.BytesIO(b"ab"), 5.0, body_size=3), LOOPBACK)
    with pytest.raises(ValueError, match="body_size"):
        OutboundRequest("PUT", "https://example.com/", {}, io.BytesIO(b"ab"))
    with pytest.raises(ValueError, match="POST or PUT"):
        OutboundRequest("GET", "https://example.com/", {}, b"")  # type: ignore[arg-type]  # that is the point


def test_the_deadline_holds_for_a_file_that_is_read_slowly() -> None:
    """A disk that crawls does not keep a request beyond its deadline, however fast the other side takes it."""

    class Crawling(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            time.sleep(0.02)
            return super().read(size)

    file = Crawling(bytes(200 * 65_536))
    with Subscriber() as subscriber:
        result = post(OutboundRequest("PUT", subscriber.url, {}, file, 0.2, body_size=200 * 65_536), LOOPBACK)
    assert result.error is OutboundError.TIMEOUT
    assert file.tell() <= 11 * 65_536


def test_a_trusted_origin_is_dialled_whatever_the_policy() -> None:
    """The origin that the operator configured is reached inside a closed network; its neighbours are not."""
    closed = AddressPolicy()
    with Subscriber() as trusted, Subscriber() as other:
        request = OutboundRequest("PUT", trusted.url, {}, b"x", 5.0)
        assert post(request, closed, trusted_origin=trusted.origin).status == 200
        assert post(request, closed).error is OutboundError.FORBIDDEN_ADDRESS
        assert post(request, closed, trusted_origin=other.origin).error is OutboundError.FORBIDDEN_ADDRESS
    assert (trusted.connections, other.connections) == (1, 0)


def test_many_threads_at_once() -> None:
    """Requests of many threads do not mix their answers."""

    def echo(talk: Talk) -> None:
        request = talk.read()
        assert request is not None
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request.body), request.body))

    with Subscriber(echo) as subscriber, ThreadPoolExecutor(16) as pool:
        bodies = [f"body {number}" for number in range(100)]
        results = list(pool.map(lambda body: send(subscriber.url, body.encode()), bodies))
    assert [result.body for result in results] == bodies


def test_nothing_is_left_open() -> None:
    """Neither threads nor sockets remain after requests, good or bad."""
    before = threading.active_count()
    with Subscriber(answer(), say(b"nonsense\r\n\r\n")) as subscriber:
        send(subscriber.url)
        send(subscriber.url)
    assert threading.active_count() <= before


def test_who_was_turned_away_looks_up_once_a_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that finds all look-ups taken goes on as soon as one of them ends, not at its own deadline."""
    go_on = threading.Event()

    def look_up(host: str, port: int) -> list[dialling._Place]:
        if host == "slow.example":
            go_on.wait(30)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(dialling, "_look_up", look_up)
    monkeypatch.setattr(dialling, "_MAX_LOOKUPS", 1)
    with Subscriber() as subscriber, ThreadPoolExecutor() as pool:
        slow, quick = (f"http://{name}.example:{subscriber.port}/" for name in ("slow", "quick"))
        first = pool.submit(send, slow, deadline=30.0)
        _until(lambda: "slow.example" in dialling._lookups)
        second = pool.submit(send, quick, deadline=10.0)
        _until(lambda: bool(dialling._turned_away))
        go_on.set()
        assert (first.result().status, second.result().status) == (200, 200)


def test_names_that_were_found_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, of the latest alone it is known that they were found."""
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
    monkeypatch.setattr(dialling, "_FOUND", 2)
    monkeypatch.setattr(dialling, "_found", {})
    with Subscriber() as subscriber:
        for number in range(4):
            assert send(f"http://n{number}.example:{subscriber.port}/").status == 200
    assert list(dialling._found) == ["n2.example", "n3.example"]


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_head_that_comes_in_two_pieces_is_read(cut: int) -> None:
    """Wherever its end is cut, it is found."""
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def behave(talk: Talk) -> None:
        talk.read()
        talk.send(said[:-cut])
        time.sleep(0.05)
        talk.send(said[-cut:])
        talk.sock.recv(1)

    with Subscriber(behave) as subscriber:
        assert send(subscriber.url).status == 200


def _until(true: Callable[[], bool]) -> None:
    patience = time.monotonic() + 10
    while not true():
        assert time.monotonic() < patience
        time.sleep(0.01)
