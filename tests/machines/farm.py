"""Webs and workers as on machines of their own: processes that share one PostgreSQL, an address, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from collections import Counter
from pathlib import Path

from receiver.submissions import LATE_ANSWER
from tests.crash.plant import Group, Plant, until
from tests.story.system import ROOT, free_port

LEASE = 16
GRACE = 30
REST = LEASE + GRACE + LATE_ANSWER / 1000 + 40
"""Seconds after which all is done: a killed worker's submission that may be repeated (Img Open) is taken up after lease
and grace, and when its deadline is over then, it ends a late answer's time after that."""

WRONG_CLOCK = """
import time
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {seconds}
time.time_ns = lambda: right_ns() + round({seconds} * 1e9)
"""
"""Python runs it first: every clock of the process, but for those that only measure, goes wrong."""


class Balancer:
    """A load balancer of TCP connections: each goes to the next web that takes it."""

    def __init__(self) -> None:
        self.webs: list[int] = []
        self.taken: Counter[int] = Counter()
        self._turn = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        web = self._next_web()
        if web is None:
            client.close()
            return
        back = threading.Thread(target=_pump, args=(web, client), daemon=True)
        back.start()
        _pump(client, web)
        back.join()
        client.close()
        web.close()

    def _next_web(self) -> socket.socket | None:
        webs, turn = list(self.webs), next(self._turn)
        for place in range(len(webs)):
            port = webs[(turn + place) % len(webs)]
            with contextlib.suppress(OSError):
                web = socket.create_connection(("127.0.0.1", port), 5)
                web.settimeout(None)
                self.taken[port] += 1
                return web
        return None


def _pump(source: socket.socket, drain: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            drain.sendall(piece)
    with contextlib.suppress(OSError):
        drain.shutdown(socket.SHUT_WR)


class Farm(Plant):
    """Sandbox, balancer, and as many webs and workers as are started.

    Calls are waited for so long that a busy machine is not taken for a dead one: its deliveries would come twice.
    """

    def __init__(self, folder: Path, database_url: str, **more: str) -> None:
        """``more``: environment variables of all machines."""
        self.balancer = Balancer()
        super().__init__(
            folder,
            **{
                "RECEIVER_DATABASE_URL": database_url,
                "RECEIVER_PUBLIC_URL": self.balancer.url,
                "RECEIVER_DELIVERY_TIMEOUT": "10",
                "RECEIVER_LEASE": str(LEASE),
                "IMG_OPEN_NOT_FOUND_GRACE": str(GRACE),
                **more,
            },
        )

    def web(self, name: str, clock: float = 0.0) -> Group:
        """Start a web, and let it take connections when it is ready. ``clock``: seconds by which it is ahead."""
        port = free_port()
        group = self.start(name, "web", RECEIVER_BIND=f"127.0.0.1:{port}", **self._own(name, clock))

        def is_ready() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
            assert group.popen.poll() is None, group.tail()
            return False

        until(is_ready, 40, f"{name} does not answer")
        self.balancer.webs.append(port)
        return group

    def worker(self, name: str, clock: float = 0.0) -> Group:
        """Start a worker. ``clock``: seconds by which it is ahead."""
        group = self.start(name, "worker", **self._own(name, clock))
        until(lambda: "worker started" in group.log.read_text(), 40, f"{name} does not start:\n{group.tail()}")
        return group

    def _own(self, name: str, clock: float) -> dict[str, str]:
        home = self.folder / f"home-{name}"
        home.mkdir()
        own = {"HOME": str(home), "TMPDIR": str(home)}
        if clock:
            (home / "sitecustomize.py").write_text(WRONG_CLOCK.format(seconds=clock))
            own["PYTHONPATH"] = f"{home}:{ROOT}"
        return own

    def close(self) -> None:
        """End everything."""
        super().close()
        self.balancer.close()


def told(group: Group, what: str) -> int:
    """How many lines of this kind a machine has written to its log."""
    count = 0
    for line in group.log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            count += json.loads(line).get("event") == what
    return count
