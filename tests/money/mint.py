"""Four providers' sandbox, the web and workers around one database: what is bought is counted by the sandbox."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from handlers._http import ProviderSession
from receiver.models import Task
from receiver.runtime import wall_clock
from receiver.sandbox import RunningSandbox, SandboxSettings, running_sandbox
from receiver.tasks import NewTask
from receiver.web.app import build
from receiver.worker.worker import Worker
from tests.core.stage import ONE_KEY, Stage, settings_in
from tests.databases import Template
from tests.story.samples import Sample
from tests.story.system import CREDENTIALS, PROVIDERS, ROOT, Process

TIME_SCALE = 0.05
"""What takes the sandbox a second takes it 50 ms."""


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        return


class Mint(Stage):
    """A service with all four providers; ``environment``: of further worker processes."""

    def __init__(self, folder: Path, sandbox: RunningSandbox, listening: socket.socket, **variables: str) -> None:
        self.sandbox = sandbox
        self.folder = folder
        own = {
            "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{listening.getsockname()[1]}",
            **CREDENTIALS,
            **{f"{name.upper()}_BASE_URL": f"{sandbox.url}/{name}" for name in PROVIDERS},
            **{f"{name.upper()}_SUBMIT_RATE": "200" for name in PROVIDERS},
            **{f"{name.upper()}_QUERY_RATE": "200" for name in PROVIDERS},
            "IMG_OPEN_NOT_FOUND_GRACE": "0.5",
            **{f"{name.upper()}_POLL_SCHEDULE": "0.3" for name in PROVIDERS},
            "RECEIVER_DELIVERY_TIMEOUT": "0.9",
            **variables,
        }
        super().__init__(settings_in(folder, **own), wall_clock)  # type: ignore[arg-type]  # only called
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "RECEIVER_DATABASE_URL": self.settings.database_url,
            "RECEIVER_SECRET_KEYS": ONE_KEY,
            "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
            **own,
        }

    def session(self, provider: str) -> ProviderSession:
        """What this process calls a provider with."""
        parts = vars(self.runtime.providers.get(provider)).values()
        (session,) = [part for part in parts if isinstance(part, ProviderSession)]
        return session

    def calls(self) -> int:
        """How many calls have reached the providers, answered or not; those of one operation within a second."""
        paces = self.sandbox.world.paces.values()
        return sum(count for pace in paces for operation, count in pace.most().items() if operation != "*")

    def until(self, true: Callable[[], Any], seconds: float = 20.0) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, f"not true within {seconds:g} s"
            time.sleep(0.01)

    def submit(self, sample: Sample, *magic: str, **more: Any) -> Task:
        """A task as a caller creates it."""
        wanted = NewTask(sample.provider, sample.operation, sample.given(*magic), **more)
        return self.runtime.tasks.create(self.account, wanted, None)[0]

    def ended(self, task: Task, seconds: float = 30.0) -> Task:
        """The task once it is final."""
        deadline = time.monotonic() + seconds
        while not (now := self.task(task)).status.final:
            assert time.monotonic() < deadline, f"{now.provider} {now.status}: {self.steps(now)}"
            time.sleep(0.02)
        return now

    def starts(self, key: str) -> int:
        """How many tasks the providers have started under ``[sandbox:key=...]``."""
        return len(self.sandbox.world.starts().get(key, []))

    def worker(self, number: int, **more: str) -> Process:
        """A worker process of its own on the same database."""
        return Process(self.folder, f"worker-{number}", "worker", environment={**self.environment, **more})


@contextlib.contextmanager
def minting(folder: Path, template: Template, working: bool = True, **variables: str) -> Iterator[Mint]:
    """A service for the length of the block. ``working``: with a worker in this process."""
    settings = SandboxSettings(time_scale=TIME_SCALE)
    with (
        template.copy(folder) as url,
        running_sandbox(settings) as emulated,
        socket.create_server(("127.0.0.1", 0), backlog=128) as listening,
    ):
        mint = Mint(folder, emulated, listening, **{"RECEIVER_DATABASE_URL": url, **variables})
        port = listening.getsockname()[1]
        server = make_server(
            "127.0.0.1", port, build(mint.runtime), threaded=True, request_handler=_Quiet, fd=listening.fileno()
        )
        web = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        web.start()
        worker = Worker(mint.runtime)
        try:
            if working:
                worker.start()
            yield mint
        finally:
            if working:
                worker.stop(20)
            server.shutdown()
            web.join()
            server.server_close()
            mint.runtime.close()
