"""Nobody gets us to talk to our own network: at registration, at sending, and by what a provider's answer names."""

from __future__ import annotations

import ast
import http.server
import io
import json
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

import handlers
from handlers import Upload
from receiver import dialling
from receiver.addresses import AddressPolicy
from receiver.errors import Invalid, ProviderFailed
from receiver.models import DeliveryStatus, TaskStatus
from receiver.providers import Providers
from receiver.runtime import wall_clock
from receiver.uploads import DirectCalls
from tests.core.stage import HOOK, Stage
from tests.databases import Template
from tests.hostile.plant import Plant, working
from tests.subscriber import Subscriber, answer, redirect, stay_on_loopback

ROOT = Path(__file__).resolve().parents[2]
CAT = Upload("cat.png", "image/png", 3)

INSIDE = (
    "https://127.0.0.1/hook",
    "https://localhost/hook",
    "https://[::1]/hook",
    "https://[::ffff:10.0.0.1]/hook",
    "https://[64:ff9b::a9fe:a9fe]/hook",
    "https://10.1.2.3/hook",
    "https://192.168.0.1/hook",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.100.100.200/latest/meta-data/",
    "https://2130706433/hook",
    "https://0x7f.1/hook",
    "https://0177.0.0.1/hook",
    "https://127.1/hook",
    "https://0/hook",
    "https://127.0.0.1\\@good.example/hook",
    "https://user:secret@good.example/hook",
    "http://good.example/hook\r\nX: y",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "//127.0.0.1/hook",
    "https://",
    "",
)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything that somebody tried to dial; all of it refused."""
    attempts: list[Any] = []

    def connect(family: Any, sockaddr: Any, timeout: float) -> socket.socket:
        attempts.append(sockaddr)
        raise ConnectionRefusedError

    monkeypatch.setattr(dialling, "_connect", connect)
    return attempts


@pytest.mark.parametrize("url", INSIDE)
def test_registration(build: Any, dialled: list[Any], url: str) -> None:
    """A webhook, its change, and a task's callback URL are refused alike, with the field named and nothing stored."""
    stage: Stage = build(RECEIVER_ALLOWED_NETWORKS="")
    with pytest.raises(Invalid) as caught:
        stage.subscribe(url)
    assert set(caught.value.errors) == {"url"}
    good = stage.subscribe("https://good.example/hook")
    with pytest.raises(Invalid) as caught:
        stage.runtime.subscribers.change(stage.account, good.id, {"url": url})
    assert set(caught.value.errors) == {"url"}
    with pytest.raises(Invalid) as caught:
        stage.create(callback_url=url)
    assert set(caught.value.errors) == {"callback_url"}
    assert [row.url for row in stage.rows("SELECT url FROM subscribers")] == [good.url]
    assert stage.rows("SELECT id FROM tasks") == []
    assert dialled == []


@pytest.fixture
def closed(tmp_path: Path, migrated: Template, toy: None) -> Iterator[Plant]:
    """A working service that may reach public addresses only."""
    with working(tmp_path, migrated, RECEIVER_ALLOWED_NETWORKS="", RECEIVER_RETRY_SCHEDULE="3600") as plant:
        yield plant


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["169.254.169.254"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["64:ff9b::7f00:1"], ["0.0.0.0"]],
    ids=",".join,
)
def test_a_name_that_leads_inside(
    closed: Plant, dialled: list[Any], monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """Registered in good faith, judged when it is sent: not dialled, said why, tried again as any failure is."""
    families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
    places = [(family, (address, 443)) for family, address in zip(families, addresses, strict=True)]
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: places)
    delivery = closed.ping(closed.subscribe("https://hooks.shop.example/"))
    after, (attempt,) = closed.attempted(delivery)
    assert dialled == []
    assert (attempt.response_status, attempt.error) == (None, "forbidden_address")
    assert not any(address in attempt.message for address in addresses), "what inner names lead to is told to nobody"
    assert after.status is DeliveryStatus.PENDING, "the name may be put right"


def test_a_callback_url_that_leads_inside(closed: Plant, dialled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds for the address that a task names: its event waits, and nothing is dialled."""
    monkeypatch.setattr(dialling, "_look_up", lambda host, port: [(socket.AF_INET, ("10.0.0.1", port))])
    task = closed.create(callback_url="https://hooks.shop.example/")
    closed.runtime.tasks.cancel(closed.account, task.id)
    (delivery,) = closed.deliveries_of(task)
    _, (attempt,) = closed.attempted(delivery)
    assert attempt.error == "forbidden_address"
    assert dialled == []
    assert closed.task(task).status is TaskStatus.CANCELED


def test_an_address_that_was_allowed_once(build: Any, dialled: list[Any], tmp_path: Path) -> None:
    """What was registered while a network was allowed is not dialled any more once it is not."""
    before: Stage = build(at=wall_clock, RECEIVER_RETRY_SCHEDULE="none")  # not so old that it is purged when it ends
    delivery = before.ping(before.subscribe(HOOK))
    database = before.settings.database_url
    after = Plant(
        tmp_path, RECEIVER_DATABASE_URL=database, RECEIVER_ALLOWED_NETWORKS="", RECEIVER_RETRY_SCHEDULE="none"
    )
    after.worker.start()
    try:
        assert after.outcome(delivery)[1].error == "forbidden_address"
        assert dialled == []
    finally:
        assert after.worker.stop(10)
        after.runtime.close()


# What a provider's answer names -------------------------------------------------------------------------


class Storefront:
    """A provider's HTTP face that hands out whatever upload address it is told to."""

    def __init__(self) -> None:
        self.upload_url = ""
        self.asked: list[str] = []
        front = self

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                front.asked.append(self.path)
                credential: Any = {"fileId": "f-1", "uploadUrl": front.upload_url, "fileName": "cat.png"}
                result = True if "check" in self.path else credential
                body = json.dumps({"code": "200", "message": "Success", "result": result}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def storefront() -> Iterator[Storefront]:
    """A provider on this machine that cannot be trusted with addresses."""
    front = Storefront()
    yield front
    front.close()


def uploads_to(front: Storefront, *allowed: str) -> DirectCalls:
    """Uploads to TopView at this front, from a service that may reach public addresses and these networks."""
    given = {"uid": "demo-uid", "api_key": "sk-demo", "base_url": front.url}
    return DirectCalls(Providers({"topview": given}, wall_clock), AddressPolicy(tuple(map(ip_network, allowed))))


@pytest.mark.parametrize("url", [url for url in INSIDE if url.startswith("http")])
def test_an_upload_address_inside(storefront: Storefront, dialled: list[Any], url: str) -> None:
    """A credential that points inside, or is no address, is not followed; the caller is told that storage failed."""
    storefront.upload_url = url
    with pytest.raises(ProviderFailed) as caught:
        uploads_to(storefront).upload("topview", CAT, io.BytesIO(b"cat"))
    assert caught.value.temporary
    assert "TopView" in caught.value.detail
    assert dialled == []
    assert not any("check" in path for path in storefront.asked)


def test_an_upload_that_is_sent_elsewhere(storefront: Storefront, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage that redirects is not followed: the file goes to the credential's address or nowhere."""
    stay_on_loopback(monkeypatch)
    with Subscriber(answer(200)) as trap, Subscriber(redirect(trap.url, 307)) as storage:
        storefront.upload_url = storage.url
        with pytest.raises(ProviderFailed, match="307"):
            uploads_to(storefront, "127.0.0.0/8").upload("topview", CAT, io.BytesIO(b"cat"))
        assert len(storage.requests) == 1
        assert trap.requests == []
    assert not any("check" in path for path in storefront.asked)


def test_only_two_places_can_dial() -> None:
    """Addresses of subscribers and of provider's answers go through the guard; handlers call their base URL alone.

    Whoever adds a third way out has to add it here, and to say what keeps it from inner addresses.
    """
    network = ("socket", "ssl", "http.client", "requests", "urllib3", "urllib.request", "ftplib", "smtplib", "asyncio")
    found: dict[str, set[str]] = {}
    for path in sorted([*ROOT.glob("handlers/**/*.py"), *ROOT.glob("receiver/**/*.py"), ROOT / "wsgi.py"]):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(("receiver/cli/", "receiver/sandbox/", "receiver/web/")):
            continue  # the user's own terminal, the providers' side of the wire, and what only listens
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                names = [node.module]
            for name in names:
                for known in network:
                    if name == known or name.startswith(known + "."):
                        found.setdefault(place, set()).add(known)
    assert found == {
        "handlers/_http.py": {"requests", "urllib3"},  # below the base URL that the operator set; no redirects
        "handlers/_deadline.py": {"http.client", "socket", "ssl", "requests", "urllib3"},  # its transport
        "receiver/dialling.py": {"socket", "ssl"},  # the guard
        "receiver/outbound.py": {"socket", "ssl"},  # on connections of the guard
        "receiver/answers.py": {"socket", "ssl"},  # on connections of the guard
        "receiver/tls.py": {"ssl"},  # between bytes in memory
        "receiver/courier.py": {"ssl"},  # a type
        "receiver/reactor.py": {"socket"},  # waits for connections of the guard
        "receiver/bell.py": {"socket"},  # Unix sockets of this machine
        "receiver/store/silence.py": {"socket"},  # ends connections of the database's driver
        "receiver/metrics.py": {"socket"},  # listens
        "receiver/worker/worker.py": {"socket"},  # the machine's name
    }
    listening = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("receiver/web/*.py"))
    waiting = ("receiver/answers.py", "receiver/courier.py", "receiver/outbound.py", "receiver/reactor.py")
    for place in (*waiting, "receiver/tls.py", "receiver/worker/worker.py", "receiver/bell.py", *listening):
        text = (ROOT / place).read_text()
        assert "create_connection" not in text
        assert "HTTPConnection" not in text
        assert "AF_INET" not in text
        assert "import requests" not in text
        assert "socket.socket(" not in text or place == "receiver/bell.py"


def test_handlers_call_below_their_base_url_alone() -> None:
    """No handler makes a session of its own, or gives its session anything but a path."""
    calling = set()
    for path in sorted(ROOT.glob("handlers/*.py")):
        if path.name in ("_http.py", "_deadline.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if ast.unparse(node.func) not in ("self.http.get", "self.http.post"):
                continue
            first = node.args[0]
            assert not (isinstance(first, ast.Constant) and not str(first.value).startswith("/")), ast.unparse(node)
            calling.add(path.stem)
    assert calling == set(handlers.available())
    for name, credentials in (("topview", {"uid": "demo-uid", "api_key": "sk-demo"}),):
        paths: dict[str, str] = handlers.load(name, credentials).paths  # type: ignore[attr-defined]  # TopView's own
        assert all(path.startswith("/") for path in paths.values())
