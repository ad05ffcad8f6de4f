"""Subscribers that behave badly: each is a failed result with its own reason, within the deadline."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from receiver.addresses import AddressPolicy
from receiver.answers import MAX_BODY
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult
from tests.subscriber import (
    Behaviour,
    Subscriber,
    Talk,
    Way,
    answer,
    close,
    drip_body,
    drip_headers,
    drip_read,
    hang,
    huge_body,
    informational_flood,
    never_read,
    pour,
    refused_port,
    reset,
    say,
    slowly,
    stay_on_loopback,
    way,
)

__all__ = ["way"]

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
DEADLINE = 0.5
LATE = 5.0  # seconds on a busy machine; without the deadline these would take 10 or for ever


_way: list[Way] = []


@pytest.fixture(autouse=True)
def _both_ways(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs twice: with requests that are sent alone, and with a courier's."""
    stay_on_loopback(monkeypatch)
    _way[:] = [way]


def send(url: str, body: bytes = b"{}", deadline: float = DEADLINE) -> OutboundResult:
    """POST as a delivery does, with a short deadline that must hold."""
    started = time.monotonic()
    result = _way[0](OutboundRequest("POST", url, {}, body, deadline), LOOPBACK, None)
    assert time.monotonic() - started < deadline + LATE
    assert result.message[0].isupper() or result.message.startswith("127.0.0.1")
    assert result.message.endswith(".")
    return result


def test_refused() -> None:
    """Nobody listens: connection_refused, with the port in the sentence."""
    with refused_port() as port:
        result = send(f"http://127.0.0.1:{port}/")
    assert (result.status, result.error) == (None, OutboundError.CONNECTION_REFUSED)
    assert str(port) in result.message


@pytest.mark.parametrize("status", [200, 410, 429])
def test_an_answer_counts_though_the_request_was_not_read(status: int) -> None:
    """Who answers a large request at once, and never takes the rest of it, has answered all the same."""

    def behave(talk: Talk) -> None:
        talk.sock.recv(1000)
        talk.send(b"HTTP/1.1 %d Whatever\r\nRetry-After: 77\r\nContent-Length: 2\r\n\r\nok" % status)
        talk.wait()

    with Subscriber(behave, answer(204)) as subscriber:
        result = send(subscriber.url, b"x" * 16_000_000)
        assert (result.status, result.error, result.body) == (status, None, "ok")
        assert result.headers["retry-after"] == "77"
        assert send(subscriber.url).status == 204


FRAMED = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("behaviour", "status", "error"),
    [
        pytest.param(hang, None, OutboundError.TIMEOUT, id="hangs"),
        pytest.param(slowly(5), None, OutboundError.TIMEOUT, id="too late"),
        pytest.param(reset, None, OutboundError.CONNECTION_RESET, id="resets"),
        pytest.param(close, None, OutboundError.CONNECTION_RESET, id="closes"),
        pytest.param(drip_headers(), None, OutboundError.TIMEOUT, id="drips headers"),
        pytest.param(pour(b"H", every=0.02), None, OutboundError.TIMEOUT, id="drips a status line"),
        pytest.param(drip_body(), 200, OutboundError.BODY_TOO_SLOW, id="drips a body"),
        pytest.param(pour(b"1\r\n.\r\n", CHUNKED, 0.02), 200, OutboundError.BODY_TOO_SLOW, id="drips chunks"),
        pytest.param(pour(b"0", CHUNKED, 0.02), 200, OutboundError.BODY_TOO_SLOW, id="drips a chunk size"),
        pytest.param(
            pour(b"X: y\r\n", CHUNKED + b"0\r\n", 0.02), 200, OutboundError.BODY_TOO_SLOW, id="drips trailers"
        ),
        pytest.param(
            pour(b".", b"HTTP/1.1 200 OK\r\n\r\n", 0.02), 200, OutboundError.BODY_TOO_SLOW, id="drips without length"
        ),
        pytest.param(say(FRAMED, then_hang=True), 200, OutboundError.BODY_TOO_SLOW, id="hangs before the body"),
        pytest.param(say(FRAMED + b"half"), 200, OutboundError.BODY_CUT, id="cuts the body"),
        pytest.param(say(CHUNKED + b"5\r\nab"), 200, OutboundError.BODY_CUT, id="cuts a chunk"),
        pytest.param(say(CHUNKED + b"2\r\nab\r\n"), 200, OutboundError.BODY_CUT, id="no last chunk"),
        pytest.param(say(CHUNKED + b"zz\r\nab\r\n"), 200, OutboundError.BODY_CUT, id="nonsense chunk"),
        pytest.param(say(b"\x00\xff" * 500), None, OutboundError.INVALID_RESPONSE, id="garbage"),
        pytest.param(say(b"<html>hello</html>\r\n"), None, OutboundError.INVALID_RESPONSE, id="HTTP/0.9"),
        pytest.param(say(b"SSH-2.0-OpenSSH_9.2\r\n"), None, OutboundError.INVALID_RESPONSE, id="another protocol"),
        pytest.param(say(b"HTTP/2.0 200 OK\r\n\r\n"), None, OutboundError.INVALID_RESPONSE, id="HTTP/2"),
        pytest.param(say(b"HTTP/1.1 20\r\n\r\n"), None, OutboundError.INVALID_RESPONSE, id="no such status"),
        pytest.param(
            pour(b"X: yyyyyyyyyyyyyyyyyyyy\r\n", b"HTTP/1.1 200 OK\r\n"),
            None,
            OutboundError.INVALID_RESPONSE,
            id="header bomb",
        ),
        pytest.param(
            pour(b"y" * 1000, b"HTTP/1.1 200 OK\r\nX: "), None, OutboundError.INVALID_RESPONSE, id="endless header"
        ),
        pytest.param(pour(b"y" * 1000), None, OutboundError.INVALID_RESPONSE, id="endless status line"),
        pytest.param(informational_flood(100), None, OutboundError.INVALID_RESPONSE, id="flood of 100"),
        pytest.param(informational_flood(103), None, OutboundError.INVALID_RESPONSE, id="flood of 103"),
        pytest.param(informational_flood(100, 0.02), None, OutboundError.TIMEOUT, id="drips 100s"),
        pytest.param(informational_flood(102, 0.02), None, OutboundError.TIMEOUT, id="drips 102s"),
    ],
)
def test_each_misbehaviour_has_its_reason(behaviour: Behaviour, status: int | None, error: OutboundError) -> None:
    """The attempt fails in time, tells why, and keeps the status if there was one."""
    waits = error in (OutboundError.TIMEOUT, OutboundError.BODY_TOO_SLOW)
    with Subscriber(behaviour) as subscriber:
        result = send(subscriber.url, deadline=DEADLINE if waits else 5.0)
    assert (result.status, result.error) == (status, error)


def test_what_came_before_the_body_broke_is_kept() -> None:
    """Headers and the part of a body that came are shown to whoever looks for the cause."""
    with Subscriber(say(FRAMED.replace(b"\r\n\r\n", b"\r\nServer: x\r\n\r\n") + b"half")) as subscriber:
        result = send(subscriber.url, deadline=5.0)
    assert (result.headers["server"], result.body) == ("x", "half")


@pytest.mark.parametrize("behaviour", [never_read, drip_read])
def test_a_subscriber_that_does_not_read(behaviour: Behaviour) -> None:
    """A large body that nobody takes, or only in drips, ends at the deadline."""
    with Subscriber(behaviour) as subscriber:
        result = send(subscriber.url, b"x" * 50_000_000)
    assert (result.status, result.error) == (None, OutboundError.TIMEOUT)
    assert "not taken" in result.message


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(huge_body(), id="10 GB"),
        pytest.param(pour(b"x" * 65536, b"HTTP/1.1 200 OK\r\n\r\n"), id="no length"),
        pytest.param(pour(b"10000\r\n" + b"x" * 65536 + b"\r\n", CHUNKED), id="chunks"),
        pytest.param(pour(b"x" * 65536, CHUNKED + b"ffffffffff\r\n"), id="a 1 TB chunk"),
        pytest.param(pour(b"1\r\nx\r\n", CHUNKED), id="tiny chunks"),
        pytest.param(pour(b"x" * 65536, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n"), id="9s"),
    ],
)
def test_a_huge_body_is_read_up_to_16_kib(behaviour: Behaviour) -> None:
    """Reading stops at 16 KiB, in little memory; the answer counts, since its status is known."""
    tracemalloc.start()
    try:
        with Subscriber(behaviour) as subscriber:
            result = send(subscriber.url, deadline=5.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result.status, result.error) == (200, None)
    assert result.body == "x" * MAX_BODY
    assert peak < 4_000_000


def test_chunk_framing_is_bounded_too() -> None:
    """Kilobytes of framing around single bytes do not keep the connection busy."""
    extension = b"1;" + b"e" * 60_000 + b"\r\nx\r\n"
    with Subscriber(pour(extension, CHUNKED)) as subscriber:
        result = send(subscriber.url, deadline=5.0)
    assert (result.status, result.error) == (200, None)
    assert 0 < len(result.body) < 20


def test_a_gzip_bomb_stays_packed() -> None:
    """Compressed answers are not asked for, and never unpacked."""
    bomb = gzip.compress(b"\x00" * 50_000_000)
    with Subscriber(answer(200, {"Content-Encoding": "gzip"}, bomb)) as subscriber:
        result = send(subscriber.url, deadline=5.0)
    assert (result.status, result.error) == (200, None)
    assert result.headers["content-encoding"] == "gzip"
    assert len(result.body) <= MAX_BODY
    assert subscriber.requests[0].header("accept-encoding") == "identity"


def test_slow_subscribers_do_not_slow_the_others() -> None:
    """While requests hang in other threads, a good subscriber is served at once."""
    with ThreadPoolExecutor(8) as pool, Subscriber() as quick, Subscriber(hang) as slow:
        waiting = [pool.submit(send, slow.url, deadline=30.0) for _ in range(8)]
        slow.wait_for(8)
        assert send(quick.url, deadline=5.0).status == 200
        assert not any(future.done() for future in waiting)
    assert {future.result().error for future in waiting} == {OutboundError.CONNECTION_RESET}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda lines, body: b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body,
        st.lists(
            st.binary(max_size=20)
            | st.sampled_from(
                [
                    b"Content-Length: 5",
                    b"Content-Length: -1",
                    b"Content-Length: 1, 2",
                    b"Transfer-Encoding: chunked",
                    b"Content-Type: =?utf-8?b?//?=; charset=x",
                    b" folded",
                    b"Server: \x00\xff",
                    b":",
                ]
            ),
            max_size=4,
        ),
        st.binary(max_size=20),
    )
)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
def test_no_answer_is_a_surprise(said: bytes) -> None:
    """Whatever bytes come back, the result is one that can be stored, and nothing is raised."""
    with Subscriber(say(said)) as subscriber:
        result = send(subscriber.url, deadline=3.0)
    assert (result.status is None) <= (result.error is not None)
    stored = result.body + result.message + "".join(result.headers.values())
    assert "\x00" not in stored
    stored.encode()
