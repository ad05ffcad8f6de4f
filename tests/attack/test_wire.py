"""Malformed requests of every kind, byte by byte, against the web under gunicorn with two processes.

Whatever comes, no answer is a 5xx, nothing is stored but what a genuine notice brings, and the service goes on.
"""

from __future__ import annotations

import functools
import gzip
import json
import threading
import zlib
from collections.abc import Iterator

import pytest

from receiver.web.answers import CARRIED
from tests.attack.conftest import Address, Door
from tests.attack.malformed import HEADS
from tests.attack.wire import chunks, exchange, post, statuses
from tests.handlers.topview_samples import notice_body
from tests.web.conftest import CREDENTIALS, KEY
from tests.web.test_server import Server

pytestmark = pytest.mark.process

UID = f"Topview-Uid: {CREDENTIALS['TOPVIEW_UID']}"
LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def address(door: Door) -> Address:
    """The callback address of a running task."""
    return door.start()


@pytest.fixture
def unharmed(door: Door, server: Server, address: Address) -> Iterator[None]:
    """After the attack nothing has been stored, and the service goes on."""
    assert address
    before = door.stored()
    yield
    assert door.stored() == before
    assert server.get("/healthz")[0].status == 200


def genuine(address: Address, **changes: object) -> bytes:
    """A notice that is taken."""
    return notice_body(taskId=address.remote_id, **changes)


def test_a_genuine_notice_is_taken_in_every_lawful_spelling(door: Door, server: Server, address: Address) -> None:
    """Declared or chunked, whole or in pieces, with trailers, an expectation, odd case, empty lines before it."""
    body, path = genuine(address), address.path
    before = door.stored()["copies"]
    whole = post(path, body, [UID])
    head, rest = whole[: -len(body)], whole[-len(body) :]
    expecting = post(path, body, [UID, "Expect: 100-continue"])
    halves = expecting[: -len(body)], expecting[-len(body) :]
    tries = [
        [whole],
        [bytes([byte]) for byte in head[:20]] + [head[20:], rest[:7], rest[7:]],
        [chunks(path, body[:5], body[5:], headers=[UID])],
        [chunks(path, body, headers=[UID], last=b"000;name=value\r\nX-Trailer: 1\r\n\r\n")],
        [whole.replace(b"Content-Length", b"cOnTeNt-LeNgTh").replace(b"Topview-Uid: ", b"TOPVIEW-UID:\t")],
        [b"\r\n" + whole],
        [post(path, body, [UID], version="1.0")],
        [post(path, body, [UID, "Content-Encoding: identity"])],
    ]
    for pieces in tries:
        assert statuses(exchange(server.port, *pieces)) == [200], pieces
    answer = exchange(server.port, *halves)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert answer.count(b"100 Continue") == 1
    assert door.stored()["copies"] == before + len(tries) + 1
    assert len(door.notices(address.task_id)) == 1


def test_requests_in_a_row_on_one_connection_are_all_answered(server: Server, address: Address) -> None:
    """Sent all at once, or the next one begun together with the first: each is answered, in order."""
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    bad = post("/callbacks/topview/x", b"{}").replace(b"Connection: close\r\n", b"")
    last = ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert statuses(exchange(server.port, ask + bad + last)) == [200, 403, 200]
    assert statuses(exchange(server.port, ask + bad[:-1], bad[-1:] + last[:9], last[9:])) == [200, 403, 200]


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", HEADS)
def test_malformed_requests_are_refused(server: Server, address: Address, name: str) -> None:
    """One refusal, a problem like any, and the connection is closed; what was smuggled in is never carried out."""
    second = post(address.path, genuine(address, uuid=f"smuggled-{name}"), [UID])
    attack = HEADS[name].replace(b"PATH", address.path.encode()).replace(b"SECOND", second)
    answer = exchange(server.port, attack)
    found = statuses(answer)
    assert len(found) == 1, found
    assert 400 <= found[0] < 500, found
    assert_written_as_a_problem(answer, found[0])


def assert_written_as_a_problem(answer: bytes, status: int) -> None:
    """Check the headers and the body of a refusal, whoever has made it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["Content-Type"] == "application/problem+json"
    assert CARRIED.items() <= headers.items()
    assert headers["X-Request-Id"]
    problem = json.loads(body)
    assert problem["type"].startswith("urn:receiver:problem:")
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]


@pytest.mark.parametrize(
    ("name", "status"),
    [("no colon", 400), ("long target", 414), ("odd expectation", 417), ("long header", 431), ("many headers", 431),
     ("endless headers", 431), ("another coding", 400)],
)  # fmt: skip
def test_what_is_no_request_has_a_status_of_its_own(server: Server, name: str, status: int) -> None:
    """A caller learns what was too large, also from what never reached the application."""
    answer = exchange(server.port, HEADS[name].replace(b"PATH", b"/v1/tasks"))
    assert statuses(answer) == [status]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:receiver:problem:unreadable"


def test_a_body_too_large_is_refused_alike_however_it_is_framed(server: Server) -> None:
    """Declared, or in chunks that the gate counts: the same problem, under the caller's own request id."""
    headers = [f"Authorization: Bearer {KEY}", "Content-Type: application/json", "X-Request-Id: mine-1"]
    body = b" " * (LIMIT + 1)
    for request in (post("/v1/tasks", body, headers), chunks("/v1/tasks", body, headers=headers)):
        head, _, said = exchange(server.port, request).partition(b"\r\n\r\n")
        assert b"\r\nX-Request-Id: mine-1\r\n" in head
        assert json.loads(said) == {
            "type": "urn:receiver:problem:too-large",
            "title": "Body too large",
            "status": 413,
            "detail": f"The body is larger than the {LIMIT} bytes that this service takes.",
        }


@functools.cache
def bomb() -> bytes:
    """50 million zeros in 50 kilobytes."""
    return gzip.compress(bytes(50_000_000), 1)


def bodies(good: bytes) -> dict[str, tuple[bytes, list[str], set[int]]]:
    """Bodies, headers that go with them, and how they are answered."""
    padded = good[:-1] + b"," + b'"pad":"' + b"x" * LIMIT + b'"}'
    million = b"{" + b",".join(b'"%x":0' % number for number in range(90_000)) + b"}"
    return {
        "too large": (padded, [], {413}),
        "a byte too large": (good + b" " * (LIMIT + 1 - len(good)), [], {413}),
        "gzip": (gzip.compress(good), ["Content-Encoding: gzip"], {415}),
        "gzip, in capitals": (gzip.compress(good), ["Content-Encoding: GZIP"], {415}),
        "deflate": (zlib.compress(good), ["Content-Encoding: deflate"], {415}),
        "bomb": (bomb(), ["Content-Encoding: gzip"], {415}),
        "several codings": (good, ["Content-Encoding: identity, br"], {415}),
        "coding in two lines": (good, ["Content-Encoding: identity", "Content-Encoding: x"], {415}),
        "gzip that nobody announced": (gzip.compress(good), [], {400}),
        "bomb that nobody announced": (bomb(), [], {400}),
        "a hundred thousand lists": (b"[" * 100_000 + b"]" * 100_000, [], {400}),
        "a hundred thousand objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, [], {400}),
        "deep inside a good one": (good[:-1] + b',"x":' + b"[" * 400_000 + b"]" * 400_000 + b"}", [], {400}),
        "a great many keys": (million, [], {400}),
        "invalid UTF-8": (good[:-1] + b',"x":"\xff"}', [], {400}),
        "cut UTF-8": (good[:-1] + b',"x":"\xe5\x9b"}', [], {400}),
        "UTF-16": (good.decode().encode("utf-16"), [], {400}),
        "surrogates in UTF-8": (good[:-1] + b',"x":"\xed\xa0\x80"}', [], {400}),
        "NUL": (good + b"\x00", [], {400}),
        "NUL in a text": (good[:-1] + b',"x":"\x00"}', [], {400}),
        "NaN": (good[:-1] + b',"x":NaN}', [], {400}),
        "infinity": (good[:-1] + b',"x":-Infinity}', [], {400}),
        "an integer of 5000 digits": (good[:-1] + b',"x":' + b"9" * 5000 + b"}", [], {400}),
        "two values": (good + good, [], {400}),
        "empty": (b"", [], {400}),
        "blank": (b" \r\n\t", [], {400}),
        "id of a megabyte": (
            json.dumps({"uuid": "u", "taskId": "x" * 900_000, "status": "success"}).encode(),
            [],
            {400},
        ),
        "about another task": (good.replace(b"remote-", b"other-"), [], {400}),
    }


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", bodies(b"{}"))
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_bodies_of_every_kind_are_refused(server: Server, address: Address, name: str, chunked: bool) -> None:
    """The genuine address and header do not help a body that is not a notice."""
    body, headers, wanted = bodies(genuine(address))[name]
    headers = [UID, *headers]
    step = 65536
    parts = [body[at : at + step] for at in range(0, len(body), step)]
    attack = chunks(address.path, *parts, headers=headers) if chunked else post(address.path, body, headers)
    found = statuses(exchange(server.port, attack))
    assert set(found) == wanted
    assert len(found) == 1


@pytest.mark.usefixtures("unharmed")
def test_compression_of_the_transfer_is_refused(server: Server, address: Address) -> None:
    """``Transfer-Encoding: gzip, chunked`` is lawful, and not inflated either."""
    attack = chunks(address.path, gzip.compress(genuine(address)), headers=[UID])
    attack = attack.replace(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked")
    assert statuses(exchange(server.port, attack)) == [415]


@pytest.mark.usefixtures("unharmed")
def test_lengths_that_lie(server: Server, address: Address) -> None:
    """Too short: the rest is no second request. Too long: refused once it is clear that no more comes."""
    good = genuine(address)
    whole = post(address.path, good, [UID])
    shorter = whole.replace(b"Content-Length: %d" % len(good), b"Content-Length: %d" % (len(good) - 1))
    longer = whole.replace(b"Content-Length: %d" % len(good), b"Content-Length: %d" % (len(good) + 1))
    huge = whole.replace(b"Content-Length: %d" % len(good), b"Content-Length: 2000000")
    assert statuses(exchange(server.port, shorter)) == [400]
    assert statuses(exchange(server.port, shorter.replace(b"Connection: close\r\n", b""), end=True)) == [400]
    assert statuses(exchange(server.port, longer, end=True)) == [400]
    assert statuses(exchange(server.port, huge)) == [413]
    cut = chunks(address.path, good, headers=[UID], last=b"")
    assert statuses(exchange(server.port, cut, end=True)) == [400]
    assert exchange(server.port, whole[:60], end=True) == b""


def test_odd_notices_that_are_notices_are_kept_as_they_came(door: Door, server: Server) -> None:
    """Lone surrogates, NUL escapes, names twice, numbers no float holds, a long uuid: taken, and shown again."""
    target = door.start()
    good = genuine(target)
    odd = [
        good[:-1] + b',"x":"\\ud800 \\u0000"}',
        good[:-1] + b',"uuid":"\\ud800\\u0000"}',
        good[:-1] + b',"x":1e400,"y":1208925819614629174706176,"z":-1e-400}',
        good[:-1] + b',"uuid":"' + b"u" * 500_000 + b'"}',
        good[:-1] + b',"status":"' + b"s" * 500_000 + b'"}',
        b"\xef\xbb\xbf" + good[:-1] + b',"uuid":"with a mark"}',
    ]
    for body in odd:
        assert statuses(exchange(server.port, post(target.path, body, [UID]))) == [200]
    assert [copies for _, copies in door.notices(target.task_id)] == [2, 1, 1, 1, 1]
    assert door.api.get(f"/v1/tasks/{target.task_id}").json["status"] == "running"


def test_fifty_copies_in_parallel_are_kept_once(door: Door, server: Server) -> None:
    """Over two processes: each is answered alike, one notice is kept, fifty are counted, one query is due."""
    target = door.start()
    request = post(target.path, genuine(target), [UID])
    together, answers = threading.Barrier(50), []

    def call() -> None:
        together.wait()
        answers.append(exchange(server.port, request, patience=30))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [statuses(answer) for answer in answers] == [[200]] * 50
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
    assert door.notices(target.task_id) == [("hint", 50)]
