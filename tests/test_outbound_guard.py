"""A forbidden address is never dialled. Dialling itself is stubbed: nothing here leaves the machine."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from receiver import dialling
from receiver.addresses import AddressPolicy, BadUrl, check_url
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult, post
from tests.subscriber import Subscriber, refused_port

PUBLIC_ONLY = AddressPolicy()
LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"), ip_network("::1/128")))


class Dialled(list[str]):
    """The addresses that were dialled; every dial fails."""

    def __call__(self, _family: socket.AddressFamily, sockaddr: tuple[Any, ...], _timeout: float) -> socket.socket:
        self.append(sockaddr[0])
        raise ConnectionRefusedError


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    """What would have been dialled, were dialling not stubbed."""
    stub = Dialled()
    monkeypatch.setattr(dialling, "_connect", stub)
    return stub


@pytest.fixture(autouse=True)
def _no_real_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a real name server, nor knows what failed in another."""
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: pytest.fail("a real look-up"))
    monkeypatch.setattr(dialling, "_failed", {})


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names resolve to these addresses, one list per look-up, the last repeats; gives the names asked."""
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[dialling._Place]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [
            (socket.AF_INET6, (text, port, 0, 0)) if ":" in text else (socket.AF_INET, (text, port)) for text in found
        ]

    monkeypatch.setattr(dialling, "_look_up", look_up)
    return asked


def send(url: str, policy: AddressPolicy = PUBLIC_ONLY, deadline: float = 5.0) -> OutboundResult:
    """POST as a delivery does."""
    return post(OutboundRequest("POST", url, {}, b"{}", deadline), policy)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.169.254",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "localhost",
        "hook.localhost",
        "１２７.0.0.1",
        "127。0。0。1",
    ],
)
def test_literal_addresses_are_judged(host: str, dialled: Dialled) -> None:
    """A literal address that is not public is refused, in any spelling, without dialling."""
    result = send(f"https://{host}/")
    assert (result.status, result.error) == (None, OutboundError.FORBIDDEN_ADDRESS)
    assert dialled == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80\\@good.example/",
        "http://good.example@127.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://①②⑦.1/",
        "http://127.0.0.1%2f@good.example/",
        "http://good.example#@127.0.0.1/",
        "http://127.0.0.1\t.good.example/",
    ],
)
def test_what_parsers_disagree_about_is_not_sent(url: str, dialled: Dialled) -> None:
    """A URL that two parsers may read differently is refused, so there is nothing to disagree about."""
    assert send(url, AddressPolicy(allow_http=True)).error is OutboundError.INVALID_REQUEST
    assert dialled == []


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["fd00:ec2::254"],
        ["::ffff:192.168.0.1"],
        ["64:ff9b::a00:1"],
        ["fe80::1%eth0"],
        ["93.184.216.34", "127.0.0.1"],
        ["10.0.0.1", "93.184.216.34"],
        ["2606:4700:4700::1111", "93.184.216.34", "::1"],
        ["93.184.216.34"] * 20 + ["192.168.1.1"],
    ],
)
def test_names_are_judged_by_every_answer(
    answers: list[str], dialled: Dialled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One forbidden address among a name's answers, wherever its alias led, and none of them is dialled."""
    asked = resolve(monkeypatch, answers)
    result = send("https://hooks.example/")
    assert result.error is OutboundError.FORBIDDEN_ADDRESS
    assert asked == ["hooks.example"]
    assert dialled == []
    assert "RECEIVER_ALLOWED_NETWORKS" in result.message
    assert not any(answer in result.message for answer in answers)


def test_a_name_that_changes_its_address_gains_nothing(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is asked once per attempt and what was judged is what is dialled; the next attempt judges anew."""
    asked = resolve(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    assert send("https://rebind.example/").error is OutboundError.CONNECTION_REFUSED
    assert (asked, dialled) == (["rebind.example"], ["93.184.216.34"])
    assert send("https://rebind.example/").error is OutboundError.FORBIDDEN_ADDRESS
    assert dialled == ["93.184.216.34"]


def test_public_addresses_are_dialled_in_order(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address of a name, of both families, gets its chance before the attempt fails."""
    resolve(monkeypatch, ["2606:4700:4700::1111", "93.184.216.34", "8.8.8.8"])
    result = send("https://hooks.example/")
    assert result.error is OutboundError.CONNECTION_REFUSED
    assert dialled == ["2606:4700:4700::1111", "93.184.216.34", "8.8.8.8"]


def test_the_address_that_failed_last_is_dialled_last(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead address costs one attempt its share of the time, not each; and none is given up for good."""
    resolve(monkeypatch, ["8.8.8.8"], ["8.8.8.8", "93.184.216.34"])
    for _ in range(3):
        send("https://hooks.example/")
    assert dialled == ["8.8.8.8", *["93.184.216.34", "8.8.8.8"], *["93.184.216.34", "8.8.8.8"]]


def test_plain_http_to_a_name_needs_an_allowed_network(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name over http passes registration in doubt, and is refused when it turns out to be public."""
    inside = AddressPolicy((ip_network("10.0.0.0/8"),))
    assert check_url("http://hooks.example/", inside)
    resolve(monkeypatch, ["93.184.216.34"], ["10.0.0.1"])
    assert send("http://hooks.example/", inside).error is OutboundError.FORBIDDEN_ADDRESS
    assert dialled == []
    assert send("http://hooks.example/", inside).error is OutboundError.CONNECTION_REFUSED
    assert dialled == ["10.0.0.1"]


def test_metadata_stays_shut_in_a_large_allowed_network(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening the whole world does not open the credentials of the machine; naming the address does."""
    world = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    resolve(monkeypatch, ["169.254.169.254"])
    assert send("http://metadata.example/", AddressPolicy(world)).error is OutboundError.FORBIDDEN_ADDRESS
    assert dialled == []
    named = AddressPolicy((ip_network("169.254.169.254/32"),))
    assert send("http://metadata.example/", named).error is OutboundError.CONNECTION_REFUSED
    assert dialled == ["169.254.169.254"]


def test_localhost_asks_no_name_server() -> None:
    """In an allowed network localhost works, and as 127.0.0.1 wherever /etc/hosts points."""
    with Subscriber() as subscriber:
        result = send(f"http://localhost:{subscriber.port}/hook", LOOPBACK)
    assert result.status == 200
    assert subscriber.requests[0].header("host") == f"localhost:{subscriber.port}"


def test_the_host_header_stays_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is dialled, but the subscriber is addressed by its name."""
    resolve(monkeypatch, ["127.0.0.1"])
    with Subscriber() as subscriber:
        result = send(f"http://Hooks.Example.:{subscriber.port}/hook", LOOPBACK)
    assert result.status == 200
    assert subscriber.requests[0].header("host") == f"hooks.example:{subscriber.port}"


def test_the_second_address_answers_when_the_first_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dead address of one family and a live one of the other is delivered to."""
    with Subscriber() as subscriber:
        resolve(monkeypatch, ["::1", "127.0.0.2", "127.0.0.1"])  # the subscriber listens at the last only
        result = send(f"http://hooks.example:{subscriber.port}/hook", LOOPBACK)
    assert (result.status, result.error) == (200, None)


def test_a_silent_address_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that swallows packets takes its share of the deadline, not all of it."""
    shares: list[float] = []

    def silent(_family: socket.AddressFamily, _sockaddr: tuple[Any, ...], timeout: float) -> socket.socket:
        shares.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(dialling, "_connect", silent)
    resolve(monkeypatch, ["93.184.216.34", "8.8.8.8"])
    assert send("https://hooks.example/", deadline=100).error is OutboundError.TIMEOUT_CONNECT
    assert shares[0] <= 50 < shares[1]


def test_an_address_that_never_answers_is_left_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that swallows packets holds no attempt for longer than its deadline."""
    waits: list[float] = []

    async def silent(_sock: socket.socket, _what: int, until: float) -> None:
        waits.append(until)
        raise TimeoutError

    monkeypatch.setattr(dialling, "ready", silent)
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = send(f"http://127.0.0.1:{server.getsockname()[1]}/", LOOPBACK, deadline=5)
    assert result.error is OutboundError.TIMEOUT_CONNECT
    (until,) = waits
    assert until <= time.monotonic() + 5


def test_an_address_without_a_route_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is down fails the attempt as connection_failed, with the system's reason."""

    def unreachable(_family: socket.AddressFamily, _sockaddr: tuple[Any, ...], _timeout: float) -> socket.socket:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(dialling, "_connect", unreachable)
    resolve(monkeypatch, ["93.184.216.34"])
    result = send("https://hooks.example/")
    assert result.error is OutboundError.CONNECTION_FAILED
    assert "Network is unreachable" in result.message


def test_a_family_without_an_address_here_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where IPv6 is switched off the system says the same as when ports are used up: the other address is dialled."""

    class Switched(socket.socket):
        def connect_ex(self, address: Any) -> int:
            return errno.EADDRNOTAVAIL if self.family == socket.AF_INET6 else super().connect_ex(address)

    monkeypatch.setattr(dialling, "socket", SimpleNamespace(**{**vars(socket), "socket": Switched}))
    with Subscriber() as subscriber:
        resolve(monkeypatch, ["::1", "127.0.0.1"])
        assert send(f"http://hooks.example:{subscriber.port}/", LOOPBACK).status == 200
    resolve(monkeypatch, ["::1"])
    assert send("http://hooks.example/", LOOPBACK).error is OutboundError.CONNECTION_FAILED


def test_the_resolver_is_asked_for_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver is asked for TCP addresses of any family, and its order is kept."""
    monkeypatch.undo()
    calls: list[tuple[object, ...]] = []

    def getaddrinfo(*args: object, **kinds: object) -> list[tuple[Any, ...]]:
        calls.append((args, kinds))
        return [(socket.AF_INET6, 1, 6, "", ("::1", 443, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 443))]

    monkeypatch.setattr(dialling.socket, "getaddrinfo", getaddrinfo)
    places = dialling._look_up("hooks.example", 443)
    assert calls == [(("hooks.example", 443), {"type": socket.SOCK_STREAM, "proto": socket.IPPROTO_TCP})]
    assert [ip_address(sockaddr[0]).version for _, sockaddr in places] == [6, 4]


@pytest.mark.parametrize(
    "problem", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("label too long")]
)
def test_a_name_without_address_is_a_result(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist fails its attempt as dns_failure."""

    def fail(host: str, port: int) -> list[dialling._Place]:
        raise problem

    monkeypatch.setattr(dialling, "_look_up", fail)
    result = send("https://nowhere.example/")
    assert result.error is OutboundError.DNS_FAILURE
    assert "nowhere.example has no address" in result.message


def test_an_empty_answer_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that finds nothing at all is dns_failure too."""
    resolve(monkeypatch, [])
    assert send("https://nowhere.example/").error is OutboundError.DNS_FAILURE


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """A resolver that hangs on names with "slow" in them; gives how many it was asked."""
    released = threading.Event()
    asked: list[str] = []

    def look_up(host: str, port: int) -> list[dialling._Place]:
        asked.append(host)
        if "slow" in host:
            released.wait(10)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(dialling, "_look_up", look_up)
    monkeypatch.setattr(dialling, "_MAX_LOOKUPS", 3)

    yield lambda: len(asked)
    released.set()
    patience = time.monotonic() + 10
    while dialling._lookups:
        assert time.monotonic() < patience
        time.sleep(0.01)


def test_a_hanging_resolver_ends_at_the_deadline(hanging: Callable[[], int]) -> None:
    """The deadline holds for the look-up too, which the system cannot be told to stop."""
    result = send("https://slow.example/", deadline=0.2)
    assert result.error is OutboundError.DNS_TIMEOUT
    assert 150 <= result.duration_ms < 5000


def test_a_hanging_name_does_not_block_the_others(hanging: Callable[[], int]) -> None:
    """However many requests wait for a name whose servers hang, other names resolve meanwhile."""
    for _ in range(5):
        assert send("https://slow.example/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
    assert hanging() == 1
    with refused_port() as port:
        assert send(f"http://quick.example:{port}/", LOOPBACK).error is OutboundError.CONNECTION_REFUSED


def test_look_ups_are_bounded(hanging: Callable[[], int]) -> None:
    """When as many look-ups hang as there may be, no further thread is started; the deadline still holds."""
    for number in range(5):
        assert send(f"https://slow{number}.example/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
    assert hanging() == 3


def test_a_hanging_name_costs_one_look_up_whatever_its_ports(hanging: Callable[[], int]) -> None:
    """Subscribers at many ports of a name whose servers hang wait for it together, and take no room from others."""
    for port in range(1, 6):
        assert send(f"https://slow.example:{port}/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
    assert hanging() == 1


def test_each_request_dials_its_own_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to two ports of a name that share a look-up go each to its own, with IPv6 too."""
    begun, go_on = threading.Event(), threading.Event()
    dialled: list[tuple[Any, ...]] = []

    def connect(_family: socket.AddressFamily, sockaddr: tuple[Any, ...], _timeout: float) -> socket.socket:
        dialled.append(sockaddr)
        raise ConnectionRefusedError

    def look_up(host: str, port: int) -> list[dialling._Place]:
        begun.set()
        go_on.wait(10)
        return [(socket.AF_INET6, ("2606:4700::1111", port, 0, 0)), (socket.AF_INET, ("1.1.1.1", port))]

    monkeypatch.setattr(dialling, "_look_up", look_up)
    monkeypatch.setattr(dialling, "_connect", connect)
    first = threading.Thread(target=send, args=["https://both.example:8443/"])
    first.start()
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()
    send("https://both.example:9443/")
    first.join()
    there = [("1.1.1.1", port) for port in (8443, 9443)]
    assert sorted(dialled) == [*there, *(("2606:4700::1111", port, 0, 0) for port in (8443, 9443))]


def test_names_that_hang_leave_room_for_those_that_do_not(
    hanging: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of names whose servers hang: one that was found before is found again in time."""
    monkeypatch.setattr(dialling, "_MAX_LOOKUPS", 8)
    with refused_port() as port:
        known = f"http://known.example:{port}/"
        assert send(known, LOOPBACK).error is OutboundError.CONNECTION_REFUSED
        for number in range(12):
            assert send(f"https://slow{number}.example/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
        assert send(known, LOOPBACK).error is OutboundError.CONNECTION_REFUSED
        assert send(known, LOOPBACK).error is OutboundError.CONNECTION_REFUSED
    assert send("https://new.example/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
    assert hanging() == 6 + 3


def test_a_name_that_was_found_and_hangs_now_is_one_that_hangs(hanging: Callable[[], int]) -> None:
    """Nobody keeps the places of names that were found with names that were made to hang later."""
    dialling._found["slow.example"] = None
    assert send("https://slow.example/", deadline=0.05).error is OutboundError.DNS_TIMEOUT
    assert hanging() == 1
    assert "slow.example" not in dialling._found


def test_registration_and_delivery_agree(dialled: Dialled) -> None:
    """What registration accepts as a literal address is dialled, what it refuses is not."""
    for url in ("https://8.8.8.8/", "https://10.0.0.1/", "https://[::1]/", "http://8.8.8.8/", "http://127.0.0.1/"):
        dialled.clear()
        send(url, LOOPBACK)
        try:
            check_url(url, LOOPBACK)
        except BadUrl:
            assert dialled == [], url
        else:
            assert len(dialled) == 1, url
