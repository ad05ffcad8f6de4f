"""Two hundred slow connections hang while a normal callback is answered in time: gunicorn alone, and behind nginx."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.attack.conftest import Address, Door
from tests.attack.wire import chunks, exchange, post, statuses
from tests.handlers.topview_samples import notice_body
from tests.story.system import free_port
from tests.web.conftest import CREDENTIALS, KEY
from tests.web.test_server import Server

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CROWD = 200
IN_TIME = 20.0  # seconds; who had to wait for one that is slow would wait for thirty
UID = f"Topview-Uid: {CREDENTIALS['TOPVIEW_UID']}"
UPLOAD = b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"

SLOW: dict[str, bytes] = {
    "nothing": b"",
    "a byte": b"P",
    "request line": b"POST /callbacks/topview/x HT",
    "headers": b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nX: ",
    "body": b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n{",
    "chunk": b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n{",
    "chunk size": b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0",
    "trailers": b"POST /callbacks/topview/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    "second request": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT",
    "upload": UPLOAD + b"Content-Length: 90000000\r\n\r\n--b\r\n",
    "upload in chunks": UPLOAD + b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n--b\r\n",
    "body that nobody reads": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n\r\n{",
    "answered, but does not hang up": b"GET /healthz HTTP/1.0\r\n\r\n",
    "too large, and does not hang up": b"POST /callbacks/topview/x HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n{",
    "does not read": b"GET /static/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n",
}
NOT_READING = ("does not read",)


@contextlib.contextmanager
def crowd(port: int, begin: bytes, drip: bool = True) -> Iterator[None]:
    """Two hundred connections that begin so and then send a byte now and then. Each is replaced when it is closed."""
    stopped = threading.Event()
    connections: list[socket.socket] = []

    def connect() -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        connection.connect(("127.0.0.1", port))
        connection.sendall(begin)
        return connection

    def keep_dripping() -> None:
        while not stopped.wait(0.3):
            for number, connection in enumerate(connections):
                try:
                    connection.sendall(b"1" if drip else b"")
                except OSError:
                    connection.close()
                    with contextlib.suppress(OSError):
                        connections[number] = connect()

    connections.extend(connect() for _ in range(CROWD))
    dripping = threading.Thread(target=keep_dripping)
    dripping.start()
    try:
        time.sleep(0.5)  # until all threads would be taken
        yield
    finally:
        stopped.set()
        dripping.join()
        for connection in connections:
            connection.close()


def assert_answered_in_time(port: int, address: Address) -> None:
    """Several genuine callbacks in a row, each answered long before the patience with a slow one ends."""
    notice = post(address.path, notice_body(taskId=address.remote_id), [UID])
    for _ in range(4):
        began = time.monotonic()
        assert statuses(exchange(port, notice, patience=IN_TIME)) == [200]
        assert time.monotonic() - began < IN_TIME


@pytest.fixture(scope="module")
def address(door: Door) -> Address:
    """The callback address of a running task."""
    return door.start()


@pytest.mark.parametrize("kind", SLOW)
def test_slow_connections_cost_the_others_nothing(server: Server, address: Address, kind: str) -> None:
    """Whatever two hundred clients are slow at, a callback is answered at once, without a proxy in front."""
    with crowd(server.port, SLOW[kind], drip=kind not in NOT_READING):
        assert_answered_in_time(server.port, address)


# -- behind nginx ------------------------------------------------------------------------------------


class Proxy:
    """nginx with our configuration in front of the web. ``plain``: a port without TLS, ``secure``: one with it."""

    def __init__(self, folder: Path, service: int) -> None:
        self.plain, self.secure = free_port(), free_port()
        key, certificate = self_signed(folder)
        ours = (ROOT / "deploy" / "nginx.conf").read_text()
        for old, new in {
            "127.0.0.1:8000": f"127.0.0.1:{service}",
            "listen 443 ssl": f"listen 127.0.0.1:{self.secure} ssl",
            "listen [::]:443 ssl": f"listen 127.0.0.1:{self.plain}",
            "/etc/ssl/receiver.example.com/fullchain.pem": str(certificate),
            "/etc/ssl/receiver.example.com/privkey.pem": str(key),
            "/var/log/nginx/receiver.log": str(folder / "access.log"),
        }.items():
            assert old in ours, f"deploy/nginx.conf has no {old!r} any more"
            ours = ours.replace(old, new)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        self.log = folder / "error.log"
        main = folder / "nginx.conf"
        main.write_text(
            f"daemon off; {'user root;' if os.getuid() == 0 else ''} worker_processes 1; pid {folder}/nginx.pid;\n"
            f"events {{ worker_connections 768; }}\nhttp {{ {temporary}\n{ours}\n}}\n"
        )
        assert NGINX is not None
        self.command = [NGINX, "-c", str(main), "-p", str(folder), "-e", str(self.log)]
        self.process = subprocess.Popen(self.command)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.plain), 1).close()
                return
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def close(self) -> None:
        """Stop."""
        self.process.terminate()
        self.process.wait(10)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for the example's name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver.example.com")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
    ).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    paths = folder / "key.pem", folder / "certificate.pem"
    paths[0].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    paths[1].write_bytes(certificate.public_bytes(pem))
    return paths


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy, in front of the web."""
    if NGINX is None:
        pytest.skip("nginx is not installed; it is optional, and tests/attack/ensure_nginx.sh installs it on Debian")
    up = Proxy(tmp_path_factory.mktemp("nginx"), server.port)
    yield up
    up.close()


@pytest.mark.parametrize("kind", ["nothing", "headers", "body", "chunk", "upload", "does not read"])
def test_slow_connections_behind_nginx_cost_the_others_nothing(proxy: Proxy, address: Address, kind: str) -> None:
    """With our configuration of nginx: the same, and the slow ones do not even reach the service."""
    with crowd(proxy.plain, SLOW[kind], drip=kind not in NOT_READING):
        assert_answered_in_time(proxy.plain, address)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_slow_readers_of_events_behind_nginx_cost_the_others_nothing(proxy: Proxy, door: Door, accept: str) -> None:
    """With our configuration of nginx: pages of events that nobody reads keep no thread from other requests."""
    while len(door.api.get("/v1/events?limit=100").data) < 5_000_000:
        door.start(padding="x" * 1_000_000)
    other = (
        f"GET /v1/providers HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    )
    asked = f"GET /v1/events?after=&limit=100 HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
    with crowd(proxy.plain, f"{asked}Authorization: Bearer {KEY}\r\n\r\n".encode(), drip=False):
        for _ in range(4):
            began = time.monotonic()
            assert statuses(exchange(proxy.plain, other, patience=IN_TIME)) == [200]
            assert time.monotonic() - began < IN_TIME


def test_nginx_passes_callbacks_on_unchanged(proxy: Proxy, door: Door) -> None:
    """Chunked, compressed, too large: the service's own verdict comes through; the secret stays out of the log."""
    target = door.start()
    body = notice_body(taskId=target.remote_id)
    assert statuses(exchange(proxy.plain, post(target.path, body, [UID]))) == [200]
    assert statuses(exchange(proxy.plain, chunks(target.path, body[:9], body[9:], headers=[UID]))) == [200]
    coded = post(target.path, body, [UID, "Content-Encoding: gzip"])
    assert statuses(exchange(proxy.plain, coded)) == [415]
    large = post(target.path, body + b" " * 2_000_000, [UID])
    assert statuses(exchange(proxy.plain, large, patience=20)) == [413]
    assert door.notices(target.task_id) == [("hint", 2)]
    context = ssl.create_default_context(cafile=str(Path(proxy.command[4]) / "certificate.pem"))
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", proxy.secure), 10) as bare,
        context.wrap_socket(bare) as secured,
    ):
        secured.sendall(post(target.path, body, [UID]))
        assert secured.recv(65536).startswith(b"HTTP/1.1 200 ")
    log = (Path(proxy.command[4]) / "access.log").read_text()
    assert "/callbacks/topview/***" in log
    assert target.path not in log
