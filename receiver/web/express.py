"""Callbacks without a thread each: plain ones are taken in together, as many as have come.

A thread for each request costs more than what a callback needs of it, and its share of a slow disk's flushes
would be bounded by their number. Only what providers usually send goes this way: a POST to a callback address,
small, its length declared. Whatever is odd goes to the application, as all other requests do. An answer is the
same on both ways: all but the plain yes is made by the application itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from receiver import logs, watching
from receiver.notices import Call, Result, Taken
from receiver.web.answers import CARRIED
from receiver.web.callbacks import REFUSAL, ROUTE
from receiver.web.face import face_of
from receiver.web.plain import Plain

MOST = 256
"""Calls in one transaction."""
PAUSE = 0.003
"""Seconds to wait for as many calls as came last: who was answered just now is sending the next one, and those who
are a moment earlier would have a transaction, and a flush of the disk, almost for themselves."""

log = logs.get("web")
T = TypeVar("T")


class Express(Generic[T]):
    """One thread that takes plain calls in, as many as wait at once."""

    def __init__(self, app: Flask, answered: Callable[[Sequence[tuple[T, bytes]]], None]) -> None:
        """``answered``: told what each of some calls is answered, with whatever was given with it."""
        self._app = app
        self._notices = face_of(app).runtime.notices
        self._answered = answered
        self._waiting: SimpleQueue[tuple[T, Plain]] = SimpleQueue()
        self._date = (0, "")

    def start(self) -> None:
        """Begin. To be called in the process that takes the calls in."""
        threading.Thread(target=self._run, name="callbacks", daemon=True).start()

    def put(self, ticket: T, plain: Plain) -> None:
        """Have a call taken in; its answer is told with the same ticket."""
        self._waiting.put((ticket, plain))

    def _run(self) -> None:
        last = 1
        left: list[tuple[T, Plain]] = []
        while True:
            batch = self._gather(left, last)
            last = len(batch)
            answers: Sequence[bytes | None] = [b""] * last
            try:
                answers = self._take_in([plain for _, plain in batch])
            except Exception:  # their connections are closed; the thread goes on, whatever fails
                log.exception("callbacks could not be taken in")
            left = [one for one, answer in zip(batch, answers, strict=True) if answer is None]
            told = zip(batch, answers, strict=True)
            self._answered([(ticket, answer) for (ticket, _), answer in told if answer is not None])

    def _gather(self, again: Sequence[tuple[T, Plain]], last: int) -> list[tuple[T, Plain]]:
        """These and all that wait, at least one; for a moment also those that are missing to as many as last."""
        batch = [*again] or [self._waiting.get()]
        until = time.monotonic() + PAUSE
        try:
            while len(batch) < MOST:
                left = until - time.monotonic() if len(batch) < last else 0.0
                batch.append(self._waiting.get(timeout=left) if left > 0 else self._waiting.get_nowait())
        except Empty:
            pass
        return batch

    def _take_in(self, calls: Sequence[Plain]) -> list[bytes | None]:
        """The answers; None for a call that is to be taken in once more."""
        results: Sequence[Result | None]
        try:
            results = self._notices.take_all(
                [Call(plain.provider, plain.token, plain.headers, {}, plain.body) for plain in calls]
            )
        except Exception as error:  # noqa: BLE001  the application says it to each, and logs it
            results = [error] * len(calls)
        answers = zip(calls, results, strict=True)
        return [None if result is None else self._answer(plain, result) for plain, result in answers]

    def _answer(self, plain: Plain, result: Result) -> bytes:
        try:
            return self._taken(plain, result) if isinstance(result, Taken) else self._refusal(plain, result)
        except Exception:  # the thread goes on, whatever fails
            log.exception("a callback could not be answered", request=plain.request_id)
            return b""

    def _taken(self, plain: Plain, taken: Taken) -> bytes:
        self._tell(plain, taken)
        reply = taken.reply
        headers = {"Content-Type": reply.content_type, "X-Request-Id": plain.request_id, **CARRIED}
        return self._written(plain, HTTPStatus(reply.status), headers, reply.body)

    def _tell(self, plain: Plain, taken: Taken) -> None:
        task = taken.task_id or ""
        spent = time.monotonic() - plain.began
        watching.notice_taken(plain.provider, taken.verdict or "repetition", taken.task_id, plain.request_id, spent)
        caller = plain.headers.get("traceparent")
        watching.request_answered(ROUTE, "POST", taken.reply.status, plain.began, plain.request_id, task, caller)

    def _refusal(self, plain: Plain, error: Exception) -> bytes:
        headers: dict[str, str] = {**plain.headers, "x-request-id": plain.request_id}
        path = f"/callbacks/{plain.provider}/{plain.token}"
        builder = EnvironBuilder(
            path, method="POST", headers=list(headers.items()), data=plain.body, environ_base={REFUSAL: error}
        )
        pieces, status, said = run_wsgi_app(self._app, builder.get_environ(), buffered=True)
        kept = {name: value for name, value in said.items() if name != "Content-Length"}
        return self._written(plain, HTTPStatus(int(status[:3])), kept, b"".join(pieces))

    def _written(self, plain: Plain, status: HTTPStatus, headers: Mapping[str, str], body: bytes) -> bytes:
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, formatdate(second, usegmt=True)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Date: {self._date[1]}",
            f"Connection: {'keep-alive' if plain.keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in headers.items()),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
