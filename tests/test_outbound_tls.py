"""TLS to subscribers: the certificate must be valid, and for the name, not for the address dialled."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
import ssl
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from receiver import dialling
from receiver.addresses import AddressPolicy
from receiver.outbound import OutboundError, OutboundRequest, OutboundResult
from tests.subscriber import (
    Behaviour,
    Subscriber,
    Talk,
    Way,
    answer,
    close,
    drip_body,
    hang,
    huge_body,
    never_read,
    stay_on_loopback,
    way,
)

__all__ = ["way"]

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def _usage(authority: bool) -> x509.KeyUsage:
    """What Python 3.13's strict checking wants to see: authorities sign certificates, servers handshakes."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A certificate authority of these tests, and the client's context that trusts it alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        root = self._sign(self._name, self._key.public_key(), [], NOW + DAY, authority=True)
        self.trusting = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())

    def server(self, *names: str, until: dt.datetime = NOW + DAY, self_signed: bool = False) -> ssl.SSLContext:
        """A server's context with a certificate for these names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._sign(
            subject, key.public_key(), list(names), until, own=(subject, key) if self_signed else None
        )
        path = self._folder / "server.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: list[str],
        until: dt.datetime,
        *,
        authority: bool = False,
        own: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None,
    ) -> x509.Certificate:
        issuer, signer = own or (self._name, self._key)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(_usage(authority), critical=True)
        )
        if names:
            alternatives = [
                x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(signer, SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh authority; its keys lie in the test's own folder."""
    return Authority(tmp_path)


_way: list[Way] = []


@pytest.fixture(autouse=True)
def _both_ways(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is 127.0.0.1, and nothing else is dialled; requests are sent alone, and by a courier."""
    _way[:] = [way]
    stay_on_loopback(monkeypatch)
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))])
    monkeypatch.setattr(dialling, "_failed", {})


def send(url: str, tls: ssl.SSLContext | None, deadline: float = 3.0, body: bytes = b"{}") -> OutboundResult:
    """POST as a delivery does."""
    return _way[0](OutboundRequest("POST", url, {}, body, deadline), LOOPBACK, tls)


def test_a_valid_certificate_for_the_name(authority: Authority) -> None:
    """The certificate is checked for the URL's name although an address is dialled; the name goes out as SNI."""
    seen: list[str | None] = []
    server = authority.server("hooks.example")
    server.sni_callback = lambda _sock, name, _context: seen.append(name)
    with Subscriber(answer(200, body=b"ok"), tls=server) as subscriber:
        result = send(f"https://hooks.example:{subscriber.port}/hook", authority.trusting)
    assert (result.status, result.error, result.body) == (200, None, "ok")
    assert seen == ["hooks.example"]
    assert subscriber.requests[0].header("host") == f"hooks.example:{subscriber.port}"


def test_a_valid_certificate_for_the_address(authority: Authority) -> None:
    """A literal address needs a certificate for that address."""
    with Subscriber(tls=authority.server("127.0.0.1")) as subscriber:
        assert send(subscriber.url, authority.trusting).status == 200


def test_large_bodies_go_out_whole(authority: Authority) -> None:
    """A body of many TLS records arrives as it was."""
    body = bytes(range(256)) * 8000
    with Subscriber(tls=authority.server("127.0.0.1")) as subscriber:
        assert send(subscriber.url, authority.trusting, body=body).status == 200
    assert subscriber.requests[0].body == body


def test_self_signed(authority: Authority) -> None:
    """A certificate that no authority signed is refused, with the reason, and nothing is sent."""
    with Subscriber(tls=authority.server("127.0.0.1", self_signed=True)) as subscriber:
        result = send(subscriber.url, authority.trusting)
    assert (result.status, result.error) == (None, OutboundError.TLS_FAILURE)
    assert "self-signed" in result.message.replace("self signed", "self-signed")
    assert subscriber.requests == []


def test_unknown_authority_by_default(authority: Authority) -> None:
    """Without a context of the caller's the public authorities decide; nobody can switch checking off by mistake."""
    with Subscriber(tls=authority.server("127.0.0.1")) as subscriber:
        result = send(subscriber.url, None)
    assert result.error is OutboundError.TLS_FAILURE
    assert subscriber.requests == []


@pytest.mark.parametrize("names", [["other.example"], ["127.0.0.1"], ["*.hooks.example"]])
def test_wrong_host(authority: Authority, names: list[str]) -> None:
    """A valid certificate of somebody else, or for the bare address, is refused."""
    with Subscriber(tls=authority.server(*names)) as subscriber:
        result = send(f"https://hooks.example:{subscriber.port}/", authority.trusting)
    assert result.error is OutboundError.TLS_FAILURE
    assert "hooks.example" in result.message
    assert not result.message.endswith("..")
    assert subscriber.requests == []


def test_expired(authority: Authority) -> None:
    """An expired certificate is refused, with the reason."""
    with Subscriber(tls=authority.server("127.0.0.1", until=NOW - DAY)) as subscriber:
        result = send(subscriber.url, authority.trusting)
    assert result.error is OutboundError.TLS_FAILURE
    assert "expired" in result.message


def test_a_server_without_tls(authority: Authority) -> None:
    """The scheme https to a port that speaks plain http is a TLS failure, and the body stays here."""
    with Subscriber() as subscriber:
        result = send(f"https://127.0.0.1:{subscriber.port}/", authority.trusting, deadline=0.3)
    assert result.error in (OutboundError.TLS_FAILURE, OutboundError.TIMEOUT_CONNECT)
    assert subscriber.requests == []


def test_a_server_that_speaks_something_else(authority: Authority) -> None:
    """An answer to the TLS greeting that is no TLS fails at once."""
    with Subscriber(lambda talk: talk.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as subscriber:
        result = send(f"https://127.0.0.1:{subscriber.port}/", authority.trusting)
    assert (result.status, result.error) == (None, OutboundError.TLS_FAILURE)


def hang_up_on_greeting(talk: Talk) -> None:
    """Take the greeting, and close without a word of TLS."""
    talk.sock.recv(16384)


def say_farewell(talk: Talk) -> None:
    """Take the greeting, and say goodbye in TLS."""
    talk.sock.recv(16384)
    talk.send(b"\x15\x03\x03\x00\x02\x01\x00")
    talk.wait()


@pytest.mark.parametrize("deadline_and_behaviour", [(0.3, never_read), (5.0, hang_up_on_greeting), (5.0, say_farewell)])
def test_tls_that_never_begins(authority: Authority, deadline_and_behaviour: tuple[float, Behaviour]) -> None:
    """A server that hangs or closes during the TLS greeting has its own reasons, within the deadline."""
    deadline, behaviour = deadline_and_behaviour
    with Subscriber(behaviour) as subscriber:
        result = send(f"https://127.0.0.1:{subscriber.port}/", authority.trusting, deadline)
    if behaviour is never_read:
        assert result.error is OutboundError.TIMEOUT_CONNECT
    else:
        assert result.error is OutboundError.CONNECTION_RESET
        assert result.message == "127.0.0.1 closed the connection instead of beginning TLS."
    assert result.duration_ms < 5000


def test_a_server_that_wants_a_certificate_of_ours(authority: Authority, tmp_path: Path) -> None:
    """TLS 1.3 says so only after the handshake: the attempt fails by TLS and with its reason, not as a plain end."""
    server = authority.server("127.0.0.1")
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.verify_mode = ssl.CERT_REQUIRED

    def refuse(talk: Talk) -> None:
        with socket.socket(fileno=os.dup(talk.sock.fileno())):  # so that the connection stays
            with contextlib.suppress(ssl.SSLError):
                server.wrap_socket(talk.sock, server_side=True)
            talk.wait()

    with Subscriber(refuse) as subscriber:
        result = send(f"https://127.0.0.1:{subscriber.port}/", authority.trusting)
    assert (result.status, result.error) == (None, OutboundError.TLS_FAILURE)
    assert "CERTIFICATE_REQUIRED" in result.message


def test_an_address_without_tls_leaves_the_next_attempt_to_the_others(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way on which connections begin and large packets get lost is not tried for ever, where a name has another."""
    real = dialling._connect
    with Subscriber(never_read) as lost, Subscriber(tls=authority.server("hooks.example")) as subscriber:
        ports = {"127.0.0.2": lost.port, "127.0.0.1": subscriber.port}
        monkeypatch.setattr(
            dialling, "_look_up", lambda host, port: [(socket.AF_INET, (address, port)) for address in ports]
        )
        monkeypatch.setattr(
            dialling,
            "_connect",
            lambda family, sockaddr, timeout: real(family, ("127.0.0.1", ports[sockaddr[0]]), timeout),
        )
        first = send("https://hooks.example/", authority.trusting, deadline=0.3)
        second = send("https://hooks.example/", authority.trusting)
    assert (first.error, second.status) == (OutboundError.TIMEOUT_CONNECT, 200)


@pytest.mark.parametrize(
    ("behaviour", "status", "error"),
    [
        (hang, None, OutboundError.TIMEOUT),
        (close, None, OutboundError.CONNECTION_RESET),
        (drip_body(), 200, OutboundError.BODY_TOO_SLOW),
        (huge_body(), 200, None),
    ],
)
def test_the_deadline_holds_inside_tls(
    authority: Authority, behaviour: Behaviour, status: int | None, error: OutboundError | None
) -> None:
    """Encrypted misbehaviour is judged like the plain one."""
    with Subscriber(behaviour, tls=authority.server("127.0.0.1")) as subscriber:
        result = send(subscriber.url, authority.trusting, deadline=0.8)
    assert (result.status, result.error) == (status, error)
    assert result.duration_ms < 5000


def test_a_large_body_that_nobody_takes(authority: Authority) -> None:
    """Sending inside TLS ends at the deadline too."""
    with Subscriber(never_read, tls=authority.server("127.0.0.1")) as subscriber:
        result = send(subscriber.url, authority.trusting, 0.4, b"x" * 30_000_000)
    assert (result.status, result.error) == (None, OutboundError.TIMEOUT)


def test_old_tls_is_refused() -> None:
    """TLS before 1.2 is not spoken."""
    assert dialling._default_tls().minimum_version >= ssl.TLSVersion.TLSv1_2
    assert dialling._default_tls().verify_mode is ssl.CERT_REQUIRED
    assert dialling._default_tls().check_hostname


def test_no_server_chooses_how_long_a_handshake_reckons() -> None:
    """Diffie-Hellman before TLS 1.3 is over curves only: a group of the server's own, of 10,000 bits, held up all."""
    offered = dialling._default_tls().get_ciphers()
    before = {cipher["name"]: cipher["kea"] for cipher in offered if cipher["protocol"] != "TLSv1.3"}
    assert "ECDHE-RSA-AES128-GCM-SHA256" in before
    assert not {
        name for name, exchange in before.items() if exchange.startswith("kx-dhe") or "DHE" in name.replace("ECDHE", "")
    }
