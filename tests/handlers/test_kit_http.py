"""The kit's calls: bounded in time and size, honest about failure."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from handlers import ErrorCode, HandlerError, OutcomeUnknown, Rejected, Unavailable, _deadline
from handlers import _http as http
from tests.handlers.fake_provider import (
    Answer,
    Close,
    Cut,
    Drip,
    FakeProvider,
    Hang,
    Interim,
    Reset,
    Stall,
    json_answer,
    unreachable_url,
)

Result = TypeVar("Result")
LONG = 1.5 * http.TOTAL_TIMEOUT
"""Seconds that two calls take if they do not keep to a time of their own; a machine that stands still takes less."""


@pytest.fixture
def remote() -> Iterator[FakeProvider]:
    """The provider's side."""
    with FakeProvider() as provider:
        yield provider


def session(remote: FakeProvider, seconds: float = 10) -> http.ProviderSession:
    """A session with this patience."""
    return http.ProviderSession(remote.url, "Somebody", seconds)


@pytest.mark.parametrize(
    "fault",
    [Reset(), Close(), Hang(), Cut(json_answer({"a": 1})), Stall(json_answer({"a": 1})), Drip(), Drip(headers=True)],
    ids=lambda fault: type(fault).__name__,
)
def test_a_lost_answer_is_told_by_what_the_call_would_have_started(remote: FakeProvider, fault: Any) -> None:
    """The same failure is an unknown outcome for a purchase and try-again for a question, within its time."""
    remote.answer(fault)
    caller = session(remote, 0.25)
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        sent(lambda: caller.post("/buy", body=b"{}", starts_work=True))
    with pytest.raises(Unavailable):
        caller.get("/ask")
    with pytest.raises(Unavailable):
        caller.post("/ask", body=b"{}", starts_work=False)
    assert time.monotonic() - began < LONG


def sent(call: Callable[[], Result]) -> Result:
    """What came of a call that went out. One is given up before that when the machine stands still for a moment."""
    for _ in range(5):
        with contextlib.suppress(Unavailable):
            return call()
    return call()


def test_nothing_was_started_where_nobody_listens() -> None:
    """A refused connection is try-later even for a purchase, and is told as what it is."""
    with pytest.raises(Unavailable, match=r"^Somebody cannot be reached: no connection \(Connection refused\)$"):
        http.ProviderSession(unreachable_url(), "Somebody").post("/buy", starts_work=True)


def test_nothing_was_started_where_the_name_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is try-later even for a purchase."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unavailable, match=r"its name could not be looked up \(Name or service not known\)$"):
        http.ProviderSession("http://name.invalid", "Somebody").post("/buy", starts_work=True)


@pytest.mark.parametrize("look_up", [0.0, 0.7, 1.6])
def test_a_request_goes_out_only_while_its_answer_can_be_waited_for(
    remote: FakeProvider, monkeypatch: pytest.MonkeyPatch, look_up: float
) -> None:
    """Nothing is bought whose answer nobody reads: addresses that stay silent share the time for connecting."""
    found, good = socket.getaddrinfo, remote.url.rpartition(":")[2]
    with silent_port() as silent:

        def several(*_: object, **__: object) -> list[Any]:
            time.sleep(look_up)
            return [found("127.0.0.1", port, type=socket.SOCK_STREAM)[0] for port in [silent] * 3 + [good]]

        shares: list[float] = []
        dial = _deadline._Connection._dial

        def dial_and_note(self: Any, sock: socket.socket, address: Any, seconds: float) -> socket.socket:
            shares.append(seconds)
            return dial(self, sock, address, seconds)

        monkeypatch.setattr(_deadline._Connection, "_dial", dial_and_note)
        monkeypatch.setattr(socket, "getaddrinfo", several)
        monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.6)
        remote.answer(json_answer({"a": 1}))
        caller = http.ProviderSession(f"http://provider.test:{good}", "Somebody", 1.5)
        if look_up < 1.5:
            assert sent(lambda: caller.post("/buy", starts_work=True)).json_object() == {"a": 1}
            assert shares[0] <= 0.6 / 4, "the first takes no more than its share, however far away the last one is"
            return
        with pytest.raises(Unavailable):
            caller.post("/buy", starts_work=True)
    assert remote.requests == []


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port of this machine where connecting gets no answer: more wait to be accepted than it has room for."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_an_answer_that_never_ends_is_cut_off(remote: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """More bytes than any answer needs are not kept in memory."""
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    remote.answer(Answer(b"x" * 1001))
    with pytest.raises(Unavailable, match="larger"):
        session(remote).get("/")
    remote.answer(Answer(b"x" * 1000))
    assert session(remote).get("/").body == b"x" * 1000


@pytest.mark.parametrize(
    ("given", "seconds"), [("7", 7), ("0.5", 0.5), ("-1", 0), ("soon", None), ("nan", None), ("inf", None)]
)
def test_429_says_when_to_come_back(remote: FakeProvider, given: str, seconds: float | None) -> None:
    """Retry-After in seconds is handed on; anything else is left to the caller's own plan."""
    remote.answer(Answer(b"", 429, {"Retry-After": given}))
    with pytest.raises(Unavailable) as caught:
        session(remote).post("/buy", starts_work=True)
    assert caught.value.retry_after == seconds


def test_a_server_error_in_the_providers_own_form_is_for_its_handler(remote: FakeProvider) -> None:
    """An HTTP 500 with a JSON object may say precisely what was wrong, so it is handed on."""
    remote.answer(json_answer({"code": "x"}, 500))
    assert session(remote).post("/buy", starts_work=True).json_object() == {"code": "x"}
    remote.answer(Answer(b"[]", 500))
    with pytest.raises(OutcomeUnknown):
        session(remote).post("/buy", starts_work=True)


def test_redirects_proxies_and_cookies_are_not_followed(remote: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials go to the configured address, whatever an answer or the environment says."""
    monkeypatch.setenv("HTTP_PROXY", unreachable_url())
    monkeypatch.setenv("ALL_PROXY", unreachable_url())
    remote.answer(Answer(b"{}", 302, {"Location": unreachable_url(), "Set-Cookie": "track=1; Path=/"}))
    caller = session(remote)
    assert caller.get("/").status == 302
    assert caller.get("/").status == 302
    assert len(remote.requests) == 2
    assert remote.last.header("Cookie") is None


def test_the_body_and_the_target_are_sent_as_given(remote: FakeProvider) -> None:
    """What was signed is what travels: bytes unchanged, percent-encoding untouched."""
    body = b'{"a": "\xe7\x8c\xab"}\n'
    session(remote).post("/p?x=a%2Fb&y=%E7%8C%AB", body=body, starts_work=True, headers={"X-Odd-Case": "v"})
    assert (remote.last.target, remote.last.body) == ("/p?x=a%2Fb&y=%E7%8C%AB", body)
    assert ("X-Odd-Case", "v") in remote.last.headers


def test_requests_are_what_the_library_would_send(remote: FakeProvider) -> None:
    """Put together by hand for speed, byte for byte like requests' own: targets, parameters, lengths, usual headers."""
    caller = session(remote)
    cases: list[tuple[str, str, dict[str, str] | None, bytes | None]] = [
        ("GET", "/ask", None, None),
        ("GET", "/ask", {}, None),
        ("GET", "/ask", {"a": "1 &=/~+", "ü": "猫"}, None),
        ("GET", "/ask?x=a%2Fb", {"y": ""}, None),
        ("GET", "/with space/ü?q=a b", None, None),
        ("POST", "/buy", None, b""),
        ("POST", "/buy?a=b", None, b'{"a": "\xe7\x8c\xab"}'),
    ]
    given = {"X-Odd-Case": "v", "accept-encoding": "br"}
    for method, path, params, body in cases:
        whole = requests.Request(method, remote.url + path, params=params, data=body, headers={**http._USUAL, **given})
        expected = whole.prepare()
        if method == "GET":
            caller.get(path, params=params, headers=given)
        else:
            caller.post(path, body=body or b"", headers=given, starts_work=True)
        assert (remote.last.method, remote.last.target) == (method, expected.path_url)
        sent = {name.lower(): value for name, value in remote.last.headers if name.lower() != "host"}
        assert sent == {name.lower(): value for name, value in expected.headers.items()}
        assert remote.last.body == (body or b"")


@pytest.mark.parametrize("headers", [{"X-Key": "a\r\nX-Other: b"}, {"X-Key": " a"}, {"X-Key\n": "a"}])
def test_a_header_that_would_be_two_is_not_sent(remote: FakeProvider, headers: dict[str, str]) -> None:
    """A setting or an id with a line break in it cannot add a header of its own."""
    with pytest.raises(Unavailable):
        session(remote).get("/ask", headers=headers)
    assert remote.requests == []


@pytest.mark.parametrize(
    ("status", "buying", "asking"),
    [
        (200, OutcomeUnknown, Unavailable),
        (300, Unavailable, Unavailable),
        (301, Unavailable, Unavailable),
        (303, OutcomeUnknown, Unavailable),
        (400, ErrorCode.INVALID_INPUT, Unavailable),
        (401, ErrorCode.AUTHENTICATION, ErrorCode.AUTHENTICATION),
        (403, ErrorCode.PERMISSION, ErrorCode.PERMISSION),
        (404, ErrorCode.NOT_FOUND, Unavailable),
        (408, Unavailable, Unavailable),
        (413, ErrorCode.INVALID_INPUT, Unavailable),
        (425, Unavailable, Unavailable),
        (500, OutcomeUnknown, Unavailable),
    ],
)
def test_answers_in_a_strange_form_are_judged_by_their_status(status: int, buying: Any, asking: Any) -> None:
    """A gateway's page never ends a task that is asked for, and never hides that a purchase may have happened."""
    answer = http.Answer(status, {}, b"<html>")
    for expected, starts_work in ((buying, True), (asking, False)):
        error = http.not_understood(answer, "Somebody", starts_work=starts_work)
        if isinstance(expected, ErrorCode):
            assert isinstance(error, Rejected)
            assert error.error.code is expected
        else:
            assert type(error) is expected


@pytest.mark.parametrize(
    ("status", "code"), [(401, ErrorCode.AUTHENTICATION), (403, ErrorCode.PERMISSION), (404, None), (500, None)]
)
def test_a_success_that_its_status_contradicts_is_not_repeated(status: int, code: ErrorCode | None) -> None:
    """Only what is said of our credentials is believed: anything else may have started the task."""
    error = http.contradicted(http.Answer(status, {}, b"{}"), "Somebody", starts_work=True)
    assert isinstance(error, Rejected if code else OutcomeUnknown)
    assert code is None or (isinstance(error, Rejected) and error.error.code is code)
    assert not isinstance(http.contradicted(http.Answer(404, {}, b"{}"), "Somebody", starts_work=False), Rejected)


def test_one_session_serves_many_threads(remote: FakeProvider) -> None:
    """Answers do not get mixed up between the threads of a worker."""
    remote.answer(lambda request: json_answer({"path": request.path}))
    caller = session(remote)
    with ThreadPoolExecutor(8) as pool:
        paths = [f"/{number}" for number in range(80)]
        answers = list(pool.map(lambda path: caller.get(path).json_object(), paths))
    assert [answer["path"] if answer else None for answer in answers] == paths


def test_a_call_goes_to_the_host_that_the_session_has_now(remote: FakeProvider) -> None:
    """Connections are kept for each host, so that nothing, a key least of all, ever reaches another one."""
    with FakeProvider() as other:
        caller = session(remote)
        for turn, provider in enumerate((remote, other, remote)):
            caller.base_url = provider.url
            provider.answer(json_answer({}))
            assert caller.get(f"/{turn}").status == 200
            assert provider.last.path == f"/{turn}"


def test_a_connection_that_was_closed_meanwhile_is_not_used(remote: FakeProvider) -> None:
    """A pooled connection that the provider has dropped costs no purchase an unknown outcome."""
    caller = session(remote)
    remote.answer(Answer(b"{}", hang_up=True), Answer(b"{}"))
    caller.get("/")
    assert remote.hung_up.wait(5)
    assert caller.post("/buy", starts_work=True).status == 200


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_is_not_used_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    """No purchase goes out just when the provider tires of waiting; without a pause connections are kept."""
    context, certificate = self_signed(tmp_path)
    with FakeProvider(tls=context if tls else None) as remote:
        caller = session(remote)
        caller._verify = certificate
        remote.answer(Answer(b"{}"))
        for _ in range(3):
            assert caller.post("/buy", starts_work=True).status == 200
        assert remote.accepted == 1
        monkeypatch.setattr(_deadline, "IDLE", 0.0)
        assert caller.post("/buy", starts_work=True).status == 200
        assert (remote.accepted, len(remote.requests)) == (2, 4)


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
def test_an_interim_answer_is_not_taken_for_the_answer(remote: FakeProvider, status: int) -> None:
    """Nobody is given the answer to the call before: what a provider says meanwhile (1xx) is passed over."""
    caller = session(remote)
    for number in range(3):
        remote.answer(Interim(status, json_answer({"number": number}), times=1 if status == 101 else 1 + number))
        answer = caller.post("/buy", starts_work=True)
        assert answer.json_object() == (None if status == 101 else {"number": number})
        assert (answer.status == 101) == (status == 101)


def test_deadlines_hold_over_tls_and_certificates_are_checked(tmp_path: Path) -> None:
    """Over TLS a stalling answer ends in time too, and a certificate that nobody vouches for is refused."""
    context, certificate = self_signed(tmp_path)
    with FakeProvider(tls=context) as remote:
        remote.answer(json_answer({"a": 1}), Stall(json_answer({"a": 1})), Drip(headers=True))
        caller = session(remote)
        with pytest.raises(HandlerError):
            caller.get("/")
        with pytest.raises(Unavailable, match="self-signed certificate"):  # not a byte was sent: it may be tried again
            caller.post("/buy", starts_work=True)
        assert remote.requests == []
        caller._verify = certificate
        assert caller.get("/").json_object() == {"a": 1}
        caller.total_timeout = 0.25
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                sent(lambda: caller.post("/buy", starts_work=True))
            assert time.monotonic() - began < http.TOTAL_TIMEOUT


def test_whom_the_system_believes_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's own authority is as good for providers as for subscribers and `receiver check`; names still count."""
    context, certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    monkeypatch.setattr(_deadline, "_usual_trust", _deadline._usual_trust.__wrapped__)
    with FakeProvider(tls=context) as remote:
        remote.answer(json_answer({"a": 1}))
        assert session(remote).get("/").json_object() == {"a": 1}
        with pytest.raises(Unavailable):
            http.ProviderSession(remote.url.replace("127.0.0.1", "localhost"), "Somebody").get("/")
        assert len(remote.requests) == 1


def self_signed(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS context for 127.0.0.1, and the path of the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, str(public)


def test_hosts_are_written_as_in_the_host_header() -> None:
    """Signatures that cover the Host need it exactly as it is sent."""
    hosts = {
        "https://a.test": "a.test",
        "https://a.test:443": "a.test",
        "http://a.test:443": "a.test:443",
        "http://[::1]:8000/x": "[::1]:8000",
    }
    assert {url: http.ProviderSession(url, "x").host for url in hosts} == hosts


def test_bodies_are_ascii_json() -> None:
    """No charset can change a signed body; what JSON cannot say is the caller's mistake."""
    assert http.json_body({"a": "猫", "b": [1, None]}) == b'{"a":"\\u732b","b":[1,null]}'
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), float("inf"), {"a": {1}}, deep):
        with pytest.raises(Rejected):
            http.json_body(value)
