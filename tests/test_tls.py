"""TLS of servers that make work: what they send is counted as it is on the wire, and taken in small pieces."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from receiver import courier as courier_module
from receiver import dialling, reactor
from receiver.addresses import AddressPolicy
from receiver.courier import Courier
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult
from receiver.tls import Tls
from tests.subscriber import Subscriber, Talk, answer, carry, hang, stay_on_loopback
from tests.test_outbound_tls import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HASHES = {"TLS_AES_256_GCM_SHA384": ("sha384", 32), "TLS_AES_128_GCM_SHA256": ("sha256", 16)}


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_on_loopback(monkeypatch)
    monkeypatch.setattr(courier_module, "QUIET", 0.0)  # requests follow each other at once here


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh authority."""
    return Authority(tmp_path)


@pytest.fixture
def courier(authority: Authority) -> Iterator[Courier]:
    """A courier that trusts it."""
    made = Courier("courier", AddressPolicy((ip_network("127.0.0.0/8"),)), authority.trusting)
    yield made
    made.close()


def send(courier: Courier, subscriber: Subscriber) -> OutboundResult:
    """Send a request and wait for its result."""
    return carry(courier, OutboundRequest("POST", subscriber.url, {}, b"{}", 10.0)).result(20)


class Forger:
    """Writes records of TLS 1.3 as this server would, from the secret that it writes to its key log."""

    def __init__(self, cipher: str, secret: bytes) -> None:
        self._hash, self._size = HASHES[cipher]
        self._secret = secret

    def new_keys(self, count: int) -> bytes:
        """So many KeyUpdate messages, one after the other, each in a record."""
        made = []
        for _ in range(count):
            made.append(self.record(b"\x18\x00\x00\x01\x00", 22))
            self._secret = self._expand(b"traffic upd", hashlib.new(self._hash).digest_size)
        return b"".join(made)

    def record(self, said: bytes, kind: int = 23) -> bytes:
        """The first record under the present keys."""
        header = b"\x17\x03\x03" + (len(said) + 17).to_bytes(2, "big")
        key, nonce = self._expand(b"key", self._size), self._expand(b"iv", 12)
        return header + AESGCM(key).encrypt(nonce, said + bytes([kind]), header)

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446, section 7.1), of one block."""
        told = size.to_bytes(2, "big") + bytes([len(label) + 6]) + b"tls13 " + label + b"\x00\x01"
        return hmac.new(self._secret, told, self._hash).digest()[:size]


def forging(log: Path, say: Callable[[Forger], bytes]) -> Callable[[Talk], None]:
    """Take a request, and answer with records of one's own."""

    def behave(talk: Talk) -> None:
        talk.read()
        assert isinstance(talk.sock, ssl.SSLSocket)
        cipher = talk.sock.cipher()
        assert cipher is not None
        lines = [line.split() for line in log.read_text().splitlines()]
        (secret,) = (line[2] for line in lines if line[0] == "SERVER_TRAFFIC_SECRET_0")
        with socket.socket(fileno=os.dup(talk.sock.fileno())) as beside, contextlib.suppress(OSError):
            beside.sendall(say(Forger(cipher[0], bytes.fromhex(secret))))
            talk.wait()

    return behave


def forged(authority: Authority, folder: Path, courier: Courier, say: Callable[[Forger], bytes]) -> OutboundResult:
    """What a courier makes of such an answer."""
    server = authority.server("127.0.0.1")
    server.num_tickets = 0  # which would be records under the first keys
    server.keylog_filename = str(folder / "keys")
    with Subscriber(forging(folder / "keys", say), tls=server) as subscriber:
        return send(courier, subscriber)


def test_a_server_may_change_its_keys(authority: Authority, tmp_path: Path, courier: Courier) -> None:
    """A few new keys before the answer are nothing special."""
    result = forged(authority, tmp_path, courier, lambda forger: forger.new_keys(30) + forger.record(OK))
    assert (result.status, result.error, result.body) == (200, None, "ok")


def test_new_keys_without_end_end_the_exchange(authority: Authority, tmp_path: Path, courier: Courier) -> None:
    """Housekeeping of TLS counts like headers: whoever floods with it is hung up on, and holds nobody up."""
    result = forged(authority, tmp_path, courier, lambda forger: forger.new_keys(3000) + forger.record(OK))
    assert (result.status, result.error) == (None, OutboundError.INVALID_RESPONSE)


def test_tiny_records_count_as_they_are_on_the_wire(authority: Authority, courier: Courier) -> None:
    """A byte in each record is no way to make the work of megabytes out of 64 KiB."""

    def crumble(talk: Talk) -> None:
        talk.read()
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000 + b"\r\n\r\n":
                talk.send(bytes([byte]))

    with Subscriber(crumble, tls=authority.server("127.0.0.1")) as subscriber:
        assert send(courier, subscriber).error is OutboundError.INVALID_RESPONSE


def test_whoever_sends_without_end_takes_turns() -> None:
    """Between two pieces everybody else is asked, also when the next piece is there already."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.send(b"x" * 10)
        steps = reactor.receive(near, 4, time.monotonic() + 10)
        assert steps.send(None) == (near, reactor.READ, pytest.approx(time.monotonic() + 10, abs=5))
        with pytest.raises(StopIteration) as end:
            steps.send(None)
        assert end.value.value == b"xxxx"


def test_a_handshake_holds_nobody_up(authority: Authority, courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server can choose numbers that take long to reckon with: that happens beside the thread that carries all."""
    reckoners = []
    shake_hands = Tls.shake_hands

    def watched(tls: Tls, came: bytes) -> bool:
        reckoners.append(threading.current_thread().name)
        return shake_hands(tls, came)

    monkeypatch.setattr(Tls, "shake_hands", watched)
    with Subscriber(tls=authority.server("127.0.0.1")) as subscriber:
        assert send(courier, subscriber).status == 200
    assert reckoners
    assert all(name.startswith("handshake") for name in reckoners)


def test_a_handshake_without_end_ends(authority: Authority, courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server may send before TLS has begun is bounded, too."""
    monkeypatch.setattr(dialling, "_MAX_HANDSHAKE", 100)
    with Subscriber(tls=authority.server("127.0.0.1")) as subscriber:
        result = send(courier, subscriber)
    assert (result.error, subscriber.requests) == (OutboundError.TLS_FAILURE, [])


def test_a_kept_session_that_ends_costs_no_attempt(authority: Authority, courier: Courier) -> None:
    """TLS's own farewell, tickets and all, is no answer: the request goes out anew on a fresh connection."""

    def leave(talk: Talk) -> None:
        talk.read()
        talk.send(OK)
        talk.read()  # the second request is taken, and not answered
        assert isinstance(talk.sock, ssl.SSLSocket)
        talk.sock.settimeout(1)
        with contextlib.suppress(OSError):
            talk.sock.unwrap()

    def stay(talk: Talk) -> None:
        talk.read()
        talk.send(OK)

    with Subscriber(leave, stay, tls=authority.server("127.0.0.1")) as subscriber:
        results = [send(courier, subscriber) for _ in range(2)]
    assert [(result.status, result.error) for result in results] == [(200, None)] * 2
    assert subscriber.connections == 2
    assert len(subscriber.requests) == 3


def test_connections_that_died_without_a_word_cost_one_attempt(authority: Authority, courier: Courier) -> None:
    """Once one has gone silent, the other kept ones are not tried in turn: the next attempt begins a fresh one."""
    all_here = threading.Barrier(3)

    def die(talk: Talk) -> None:
        talk.read()
        all_here.wait(10)
        talk.send(OK)
        hang(talk)

    with Subscriber(die, die, die, answer(200), tls=authority.server("127.0.0.1")) as subscriber:

        def attempt(deadline: float) -> Future[OutboundResult]:
            return carry(courier, OutboundRequest("POST", subscriber.url, {}, b"{}", deadline))

        assert [came.result(20).status for came in [attempt(10.0) for _ in range(3)]] == [200] * 3
        first, second = attempt(0.5).result(20), attempt(10.0).result(20)
    assert (first.status, first.error) == (None, OutboundError.TIMEOUT)
    assert (second.status, second.error) == (200, None)
    assert subscriber.connections == 4


def test_a_farewell_right_behind_the_answer_ends_the_connection(authority: Authority, courier: Courier) -> None:
    """No request is given to a server that has said that it is done, though its connection still stands."""

    def leave(talk: Talk) -> None:
        talk.read()
        assert isinstance(talk.sock, ssl.SSLSocket)
        talk.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        talk.send(OK)
        talk.sock.settimeout(1)
        with contextlib.suppress(OSError):
            talk.sock.unwrap()

    with Subscriber(leave, tls=authority.server("127.0.0.1")) as subscriber:
        results = [send(courier, subscriber) for _ in range(2)]
    assert [(result.status, result.error) for result in results] == [(200, None)] * 2
    assert len(subscriber.requests) == 2


def test_an_answer_before_an_error_counts(authority: Authority, tmp_path: Path, courier: Courier) -> None:
    """What came whole came, whatever follows it; and the connection serves nobody else."""
    result = forged(
        authority, tmp_path, courier, lambda forger: forger.record(OK) + b"\x17\x03\x03\x00\x20" + b"x" * 32
    )
    assert (result.status, result.error, result.body) == (200, None, "ok")
    assert courier._connections._count == 0
