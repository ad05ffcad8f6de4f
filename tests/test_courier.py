"""The courier: many requests in one thread, over connections that are kept and that never spoil an attempt."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from ipaddress import ip_network
from typing import Any

import pytest

from receiver import courier as courier_module
from receiver import dialling
from receiver.addresses import AddressPolicy, Target
from receiver.answers import MAX_BODY
from receiver.courier import Courier
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult
from receiver.reactor import READ, Reactor
from tests.subscriber import Behaviour, Subscriber, Talk, answer, carry, hang, stay_on_loopback

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TOO_FAR = b"HTTP/1.1 500 Used Again\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    stay_on_loopback(monkeypatch)
    monkeypatch.setattr(courier_module, "QUIET", 0.0)  # requests follow each other at once here


@pytest.fixture
def courier() -> Iterator[Courier]:
    """A courier, sent home at the end."""
    made = Courier("courier", LOOPBACK)
    yield made
    made.close()


def begin(
    courier: Courier, url: str, body: bytes = b"{}", deadline: float = 5.0, owner: str = ""
) -> Future[OutboundResult]:
    """Send a request; its result when it comes."""
    return carry(courier, OutboundRequest("POST", url, {}, body, deadline, owner=owner))


def send(courier: Courier, url: str, body: bytes = b"{}", deadline: float = 5.0) -> OutboundResult:
    """Send a request and wait for its result."""
    return begin(courier, url, body, deadline).result(deadline + 10)


def keep(*said: bytes, then: Behaviour | None = None) -> Behaviour:
    """Answer one request after the other on one connection, and then hang up or do something else."""

    def behave(talk: Talk) -> None:
        for each in said:
            if talk.read() is None:
                return
            talk.send(each)
        (then or (lambda talk: None))(talk)

    return behave


def wait_for_end(talk: Talk) -> None:
    """Keep the connection until the other side hangs up."""
    talk.sock.recv(1)


def test_a_connection_serves_one_request_after_the_other(courier: Courier) -> None:
    """Three requests, one connection; no Connection header asks for it to be closed."""
    with Subscriber(keep(OK, OK, OK, then=wait_for_end)) as subscriber:
        results = [send(courier, subscriber.url) for _ in range(3)]
        courier.close()
    assert [(result.status, result.error, result.body) for result in results] == [(200, None, "ok")] * 3
    assert subscriber.connections == 1
    assert {request.header("connection") for request in subscriber.requests} == {None}


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Planted\r\n\r\n",
        OK + b"HTTP/1.1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: identity\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * MAX_BODY,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_an_answer_whose_end_is_in_doubt_ends_its_connection(courier: Courier, said: bytes) -> None:
    """Nothing that one answer leaves behind can be taken for the answer to the next request."""
    with Subscriber(keep(said, TOO_FAR), answer(204)) as subscriber:
        first, second = send(courier, subscriber.url), send(courier, subscriber.url)
    assert first.error is None
    assert second.status == 204
    assert subscriber.connections == 2


def test_an_answer_before_all_of_a_request_was_taken_ends_its_connection(courier: Courier) -> None:
    """What was not read of the one must not be read as the beginning of the next."""
    said = threading.Event()

    def without_reading(talk: Talk) -> None:
        talk.send(OK)
        said.wait(10)

    with Subscriber(without_reading, answer(204)) as subscriber:
        first = send(courier, subscriber.url, b"x" * 20_000_000, deadline=0.5)
        second = send(courier, subscriber.url)
        said.set()
    assert (first.status, first.error, second.status) == (200, None, 204)
    assert subscriber.connections == 2


def test_what_came_unasked_is_no_answer_to_the_next_request(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that lie on a kept connection end it, also when the next request comes before anybody saw them."""
    monkeypatch.setattr(courier._connections, "_drop", lambda *_: None)  # the reactor has not come to it yet

    answered = threading.Event()

    def plant(talk: Talk) -> None:
        answered.wait(10)
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted")
        wait_for_end(talk)

    with Subscriber(keep(OK, then=plant), answer(204)) as subscriber:
        send(courier, subscriber.url)
        answered.set()
        (kept,) = courier._connections._idle["", "http", "127.0.0.1", subscriber.port]
        assert select.select([kept.sock], [], [], 10)[0]
        second = send(courier, subscriber.url)
    assert (second.status, subscriber.connections) == (204, 2)


def test_an_answer_too_many_is_nobody_elses(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers a request twice does not answer the next one by that: a connection is silent first."""
    monkeypatch.setattr(courier_module, "QUIET", 30.0)

    def twice(talk: Talk) -> None:
        talk.read()
        talk.send(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        talk.read()  # the next request, should it come this way
        talk.send(OK)

    with Subscriber(twice) as subscriber:
        assert [send(courier, subscriber.url).status for _ in range(5)] == [500] * 5
        courier.close()


def test_news_of_a_closed_connection_wakes_nobody_else() -> None:
    """Its number may be that of a new one already: what was seen of the old one says nothing of that."""
    reactor = Reactor("reactor")
    (old, far), (other, further) = socket.socketpair(), socket.socketpair()
    number, set_up = old.fileno(), threading.Event()
    woken: list[bool] = []
    until = time.monotonic() + 30

    def replace(_: bool) -> None:
        reactor.unwatch(old)
        spare, _ = pair = socket.socketpair()
        old.detach()
        os.dup2(spare.fileno(), number)
        sockets.extend((*pair, socket.socket(fileno=number)))
        reactor.watch(sockets[-1], READ, until, woken.append)
        set_up.set()

    async def watch_both() -> None:
        reactor.watch(other, READ, until, replace)
        reactor.watch(old, READ, until, woken.append)
        further.send(b"x")
        far.send(b"x")

    sockets = [far, other, further]
    reactor.start(watch_both, lambda *_: None)
    assert set_up.wait(10)
    time.sleep(0.1)
    reactor.close()
    for sock in sockets:
        sock.close()
    assert woken == []


def test_a_connection_serves_one_owner_only(courier: Courier) -> None:
    """Two subscribers behind one address share no connection: what one's server says too much is not the other's."""
    with Subscriber(keep(*[OK] * 4)) as subscriber:  # one connection would do
        for owner in ("sub_1", "sub_2", "sub_1", "sub_2"):
            assert begin(courier, subscriber.url, owner=owner).result(15).status == 200
        courier.close()
    assert subscriber.connections == 2


@pytest.mark.parametrize("odd", [b"Content-Length: 38", b"Transfer-Encoding: chunked"])
def test_who_announces_a_body_that_cannot_be_gets_a_new_connection(courier: Courier, odd: bytes) -> None:
    """204 and 304 have no body; after one that says otherwise nobody knows where the next answer begins."""
    with Subscriber(keep(b"HTTP/1.1 204 No Content\r\n" + odd + b"\r\n\r\n", TOO_FAR), answer(200)) as subscriber:
        assert [send(courier, subscriber.url).status for _ in range(2)] == [204, 200]
    assert subscriber.connections == 2


def test_chunked_answers_keep_the_connection(courier: Courier) -> None:
    """An answer that has come to its last chunk has a certain end."""
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"
    with Subscriber(keep(said, said, then=wait_for_end)) as subscriber:
        assert [send(courier, subscriber.url).body for _ in range(2)] == ["ok", "ok"]
        courier.close()
    assert subscriber.connections == 1


@pytest.mark.parametrize("politely", [True, False])
def test_a_connection_that_was_closed_while_idle_costs_no_attempt(courier: Courier, politely: bool) -> None:
    """The request that meets the end of a kept connection goes out anew on a fresh one, in the same attempt."""

    def hang_up(talk: Talk) -> None:
        talk.read()  # the second request is taken, and not answered
        if not politely:
            talk.reset()

    with Subscriber(keep(OK, then=hang_up), answer(200)) as subscriber:
        assert send(courier, subscriber.url).status == 200
        again = send(courier, subscriber.url)
    assert (again.status, again.error) == (200, None)
    assert subscriber.connections == 2


def test_an_answer_that_breaks_off_on_a_kept_connection_fails(courier: Courier) -> None:
    """Once the first byte of an answer is there, the attempt has been made: nothing is sent a second time."""
    with Subscriber(keep(OK, b"HTTP/1.1 200 OK\r\nContent-"), answer(200)) as subscriber:
        send(courier, subscriber.url)
        broken = send(courier, subscriber.url)
    assert (broken.status, broken.error) == (None, OutboundError.CONNECTION_RESET)
    assert subscriber.connections == 1


def test_the_deadline_holds_over_both_connections(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh connection after a closed one gets what is left of the time, not a new allowance."""
    left: list[float] = []
    dial = courier._connections.dial

    def note_and_dial(target: Target, until: float) -> Any:
        left.append(until - time.monotonic())
        return dial(target, until)

    late = keep(OK, then=lambda talk: (talk.read(), time.sleep(0.5))[1])
    with Subscriber(late, answer(200)) as subscriber:
        send(courier, subscriber.url)
        monkeypatch.setattr(courier._connections, "dial", note_and_dial)
        assert send(courier, subscriber.url, deadline=30).status == 200
    assert [seconds <= 29.5 for seconds in left] == [True]


def until(happened: Callable[[], Any]) -> None:
    """Wait until something is true."""
    patience = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < patience
        time.sleep(0.005)


@pytest.mark.parametrize("limit", ["IDLE", "AGE"])
def test_connections_are_not_kept_for_long(courier: Courier, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Neither without a request nor with them: the name's address is asked anew after a while."""
    monkeypatch.setattr(courier_module, limit, 0.1)
    ended = threading.Event()
    with Subscriber(keep(OK, then=lambda talk: (talk.sock.recv(1), ended.set())[1]), answer(200)) as subscriber:
        send(courier, subscriber.url)
        assert ended.wait(10), "it was not hung up"
        send(courier, subscriber.url)
    assert subscriber.connections == 2


def test_idle_connections_are_bounded(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests went to one place at once, only some of their connections stay open."""
    monkeypatch.setattr(courier_module, "IDLE_EACH", 2)
    all_here = threading.Barrier(5)
    ended = threading.Semaphore(0)

    def behave(talk: Talk) -> None:
        talk.read()
        all_here.wait(10)
        talk.send(OK)
        talk.sock.recv(1)
        ended.release()

    with Subscriber(behave) as subscriber:
        waiting = [begin(courier, subscriber.url) for _ in range(5)]
        assert [came.result(10).status for came in waiting] == [200] * 5
        for _ in range(3):
            assert ended.acquire(timeout=10)
        assert len(courier._connections._idle["", "http", "127.0.0.1", subscriber.port]) == 2
        courier.close()
    assert not courier._connections._idle, "a place without connections is forgotten"


def test_all_idle_connections_together_are_bounded(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they lead; one that serves again counts once, however often it does."""
    monkeypatch.setattr(courier_module, "IDLE_ALL", 1)
    with Subscriber(keep(OK, OK, OK, OK)) as first, Subscriber(keep(OK, OK)) as second:
        for _ in range(3):
            send(courier, first.url)
        assert first.connections == 1
        for _ in range(2):
            send(courier, second.url)
        assert second.connections == 2
        courier.close()


def test_a_kept_connection_is_used_for_its_own_place_only(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name at the same address and port gets a connection of its own, judged by itself."""
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
    with Subscriber(keep(OK, OK)) as subscriber:  # one connection would do
        send(courier, f"http://one.example:{subscriber.port}/")
        send(courier, f"http://two.example:{subscriber.port}/")
        courier.close()
    assert subscriber.connections == 2


def test_hundreds_that_are_slow_need_one_thread(courier: Courier) -> None:
    """All are in flight at once, in one thread, and none waits for another."""
    here = threading.Semaphore(0)
    go = threading.Event()

    def behave(talk: Talk) -> None:
        talk.read()
        here.release()
        go.wait(20)
        talk.send(OK)

    before = threading.active_count()
    with Subscriber(behave) as subscriber:
        waiting = [begin(courier, subscriber.url, deadline=30.0) for _ in range(200)]
        for _ in range(200):
            assert here.acquire(timeout=20)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("courier") == 1
        assert threading.active_count() - before <= 202, "the subscriber's own, one for each connection"
        go.set()
        assert {came.result(20).status for came in waiting} == {200}


def test_a_mistake_of_ours_is_told_and_harms_nobody(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is no failing network is given to who has sent the request; the thread works on."""
    with Subscriber() as subscriber:
        with monkeypatch.context() as patch:
            patch.setattr("receiver.outbound.receive", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                send(courier, subscriber.url)
        assert send(courier, subscriber.url).status == 200


def test_a_limit_of_the_machine_costs_one_request(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel watches no further socket, that exchange fails; the thread and all others go on."""
    with Subscriber(hang) as slow, Subscriber() as subscriber:
        waiting = begin(courier, slow.url, deadline=1.0)
        slow.wait_for(1)
        with monkeypatch.context() as patch:
            full = OSError(28, "No space left on device")
            patch.setattr(courier._reactor._selector, "register", lambda *_: (_ for _ in ()).throw(full))
            with pytest.raises(OSError, match="No space"):
                send(courier, subscriber.url)
        assert send(courier, subscriber.url).status == 200
        assert waiting.result(5).error is OutboundError.TIMEOUT


def test_a_look_up_that_cannot_start_is_begun_by_the_next(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads a request fails; nobody after it waits for an answer that never comes."""
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "look-up":
            raise RuntimeError("can't start new thread")
        start(thread)

    with Subscriber() as subscriber:
        url = f"http://many.example.test:{subscriber.port}/"
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                send(courier, url)
        assert send(courier, url).status == 200


def test_many_threads_may_send(courier: Courier) -> None:
    """Requests from anywhere reach the one thread, and each its own answer."""

    def echo(talk: Talk) -> None:
        while (request := talk.read()) is not None:
            talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(request.body), request.body))

    answers: dict[str, str] = {}

    def work(name: str, url: str) -> None:
        for number in range(20):
            answers[f"{name}-{number}"] = send(courier, url, f"{name}-{number}".encode()).body

    with Subscriber(echo) as subscriber:
        threads = [threading.Thread(target=work, args=(str(each), subscriber.url)) for each in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        courier.close()
    assert len(answers) == 160
    assert all(name == body for name, body in answers.items())
    assert subscriber.connections <= 8
