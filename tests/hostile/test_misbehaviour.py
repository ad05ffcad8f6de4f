"""Every way in which a subscriber can misbehave, through a worker: a reason each, in time, and nobody else suffers."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import socket
from pathlib import Path
from typing import Any

import pytest

from receiver import dialling
from receiver.answers import MAX_BODY
from receiver.models import DeliveryStatus
from tests.hostile.plant import Plant
from tests.subscriber import (
    Behaviour,
    Subscriber,
    answer,
    close,
    drip_body,
    drip_headers,
    hang,
    huge_body,
    informational_flood,
    never_read,
    pour,
    redirect,
    refused_port,
    reset,
    say,
    stay_on_loopback,
)
from tests.test_outbound_tls import Authority

DEADLINE = 3000
LATE = 6000
"""ms that an attempt may end after its deadline, on a machine with much else to do; without one none of them ends."""

BOMB = gzip.compress(b"\0" * 10_000_000)
FRAMED = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"

FAILING: dict[str, tuple[Behaviour, int | None, str]] = {
    "hangs": (hang, None, "timeout"),
    "never reads": (never_read, None, "timeout"),
    "closes": (close, None, "connection_reset"),
    "resets": (reset, None, "connection_reset"),
    "drips its headers": (drip_headers(), None, "timeout"),
    "drips its body": (drip_body(), 200, "body_too_slow"),
    "promises a body and hangs": (say(FRAMED, then_hang=True), 200, "body_too_slow"),
    "cuts its body": (say(FRAMED + b"half"), 200, "body_cut"),
    "bombs with headers": (pour(b"X: yyyyyyyyyyyyyyyyyyy\r\n", b"HTTP/1.1 200 OK\r\n"), None, "invalid_response"),
    "never ends a header": (pour(b"y" * 1000, b"HTTP/1.1 200 OK\r\nX: "), None, "invalid_response"),
    "talks garbage": (say(b"\x00\xff\x80" * 500), None, "invalid_response"),
    "talks HTTP/0.9": (say(b"<html>hello</html>\r\n"), None, "invalid_response"),
    "floods with 100": (informational_flood(100), None, "invalid_response"),
    "floods with 103": (informational_flood(103), None, "invalid_response"),
    "drips 102": (informational_flood(102, 0.02), None, "timeout"),
    "redirects": (redirect("http://127.0.0.1:1/"), 302, "http_status"),
    "fails with 10 GB": (
        pour(b"x" * 65536, b"HTTP/1.1 500 No\r\nContent-Length: 10737418240\r\n\r\n"),
        500,
        "http_status",
    ),
    "fails with a bomb": (answer(500, {"Content-Encoding": "gzip"}, BOMB), 500, "http_status"),
}

TAKEN: dict[str, Behaviour] = {
    "takes it and sends 10 GB": huge_body(),
    "takes it and sends a gzip bomb": answer(200, {"Content-Encoding": "gzip"}, BOMB),
    "takes it and sends chunks without end": pour(
        b"1000\r\n" + b"x" * 4096 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
}


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names ending in .test are this machine, all others do not exist, and nothing else is dialled."""
    stay_on_loopback(monkeypatch)

    def look_up(host: str, port: int) -> list[Any]:
        if host.endswith(".test"):
            return [(socket.AF_INET, ("127.0.0.1", port))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dialling, "_look_up", look_up)


def test_each_misbehaviour_costs_its_own_attempt_and_nothing_else(plant: Plant) -> None:
    """All at once: each attempt fails in time for its own reason, and a good subscriber is served meanwhile."""
    with contextlib.ExitStack() as stack:
        sent = {
            name: plant.ping(plant.subscribe(stack.enter_context(Subscriber(behaviour)).url))
            for name, (behaviour, _, _) in FAILING.items()
        }
        good = stack.enter_context(Subscriber(answer(200)))
        ended, attempt = plant.outcome(plant.ping(plant.subscribe(good.url)))
        assert (ended.status, attempt.response_status) == (DeliveryStatus.DELIVERED, 200)
        found = {}
        for name, delivery in sent.items():
            ended, attempt = plant.outcome(delivery)
            assert (ended.status, ended.reason) == (DeliveryStatus.DEAD, "exhausted"), name
            assert attempt.duration_ms < DEADLINE + LATE, name
            assert len(attempt.response_body.encode()) <= 4 * MAX_BODY, name
            assert attempt.message.endswith("."), name
            found[name] = (attempt.response_status, attempt.error)
        assert found == {name: (status, error) for name, (_, status, error) in FAILING.items()}
        again, _ = plant.outcome(plant.ping(plant.subscribe(good.url)))
        assert again.status is DeliveryStatus.DELIVERED, "and the worker is unharmed"


def test_an_endless_answer_does_not_undo_a_success(plant: Plant) -> None:
    """2xx is 2xx: what is sent after it is read up to 16 KiB, packed as it is, and then hung up on."""
    with contextlib.ExitStack() as stack:
        sent = {
            name: plant.ping(plant.subscribe(stack.enter_context(Subscriber(behaviour)).url))
            for name, behaviour in TAKEN.items()
        }
        for name, delivery in sent.items():
            ended, attempt = plant.outcome(delivery)
            assert (ended.status, attempt.response_status, attempt.error) == (DeliveryStatus.DELIVERED, 200, None), name
            assert attempt.duration_ms < DEADLINE + LATE, name
            assert 0 < len(attempt.response_body) <= MAX_BODY, name


def test_nobody_there(plant: Plant) -> None:
    """A closed port and a name that does not exist have reasons of their own."""
    with refused_port() as port:
        refused = plant.ping(plant.subscribe(f"http://127.0.0.1:{port}/"))
        nowhere = plant.ping(plant.subscribe("https://nowhere.example.invalid/hook"))
        assert plant.outcome(refused)[1].error == "connection_refused"
        assert plant.outcome(nowhere)[1].error == "dns_failure"


def test_certificates(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired, of somebody else, self-signed, or of an unknown authority: nothing is sent, and the message says why."""
    folder = tmp_path / "keys"
    folder.mkdir()
    authority, stranger = Authority(folder), Authority(folder)
    monkeypatch.setattr(dialling, "_default_tls", lambda: authority.trusting)
    name = "hooks.shop.test"
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    contexts = {
        "has expired": authority.server(name, until=past),
        "mismatch": authority.server("other.shop.test"),
        "self-signed": authority.server(name, self_signed=True),
        "unable to get local issuer": stranger.server(name),
    }
    with contextlib.ExitStack() as stack:
        bad = {why: stack.enter_context(Subscriber(answer(200), tls=context)) for why, context in contexts.items()}
        good = stack.enter_context(Subscriber(answer(200), tls=authority.server(name)))
        sent = {
            why: plant.ping(plant.subscribe(f"https://{name}:{subscriber.port}/")) for why, subscriber in bad.items()
        }
        for why, delivery in sent.items():
            _, attempt = plant.outcome(delivery)
            assert (attempt.response_status, attempt.error) == (None, "tls_failure"), why
            assert why in attempt.message
            assert bad[why].requests == []
        ended, _ = plant.outcome(plant.ping(plant.subscribe(f"https://{name}:{good.port}/")))
        assert ended.status is DeliveryStatus.DELIVERED
