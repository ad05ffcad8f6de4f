"""A provider that only says that all still run, and notes when it was asked for which task; a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection

from tests.benchmarks.callbacks import KEY
from tests.benchmarks.outside import Http

_KEY = re.compile(KEY)


class _Side(Http):
    """TopView's query and VOD's, told apart by their method."""

    def __init__(self, answer_after: float, calls: list[tuple[float, Sequence[str]]]) -> None:
        super().__init__()
        self._answer_after = answer_after
        self._calls = calls

    def handle(self, head: bytes, body: bytes) -> None:
        keys = [key.decode() for key in _KEY.findall(head.partition(b"\r\n")[0])]
        self._calls.append((time.time(), keys))
        if head.startswith(b"POST"):
            said: dict[str, object] = {
                "RequestId": "1",
                "AIImageJobList": [{"JobId": key, "Status": "Processing"} for key in keys],
            }
        else:
            said = {"code": "200", "message": "Success", "result": {"taskId": keys[0], "status": "running"}}
        answer = partial(self.answer, b"200 OK", json.dumps(said).encode())
        asyncio.get_running_loop().call_later(self._answer_after, answer)


@dataclass(frozen=True)
class Provider:
    """The running provider. ``port``: on this machine."""

    port: int
    _pipe: Connection

    def seen(self) -> list[tuple[float, Sequence[str]]]:
        """The calls since this was last asked: seconds since the epoch, and the provider's ids of the tasks."""
        self._pipe.send("seen")
        calls: list[tuple[float, Sequence[str]]] = self._pipe.recv()
        return calls


def _serve(answer_after: float, pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        calls: list[tuple[float, Sequence[str]]] = []
        server = await loop.create_server(lambda: _Side(answer_after, calls), "127.0.0.1", 0, backlog=100)
        pipe.send(server.sockets[0].getsockname()[1])
        with contextlib.suppress(EOFError):
            while await loop.run_in_executor(None, pipe.recv):
                pipe.send(list(calls))
                calls.clear()

    asyncio.run(serve())


@contextlib.contextmanager
def provider(answer_after: float) -> Iterator[Provider]:
    """A provider that answers each call after so many seconds."""
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(answer_after, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Provider(ours.recv(), ours)
    finally:
        ours.close()
        process.join(10)
