"""Notices: checked, kept once, and turned into what follows from them, in one transaction.

No network call happens here. A notice is a hint unless a signature covers its body: it makes the
next query due now, and the query's answer is believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from handlers import Handler, Malformed, Notice, NotSupported, Reply, TaskUpdate
from receiver import lifecycle
from receiver.bell import Bell
from receiver.errors import NotFound
from receiver.faultpoints import reached
from receiver.models import CompletedVia, StoredNotice, Task, TaskStatus, Verdict, new_id
from receiver.providers import Providers, remote_task
from receiver.signing import CallbackTokens
from receiver.store import Connection, Store, notices, tasks
from receiver.store.settling import adopt, settle


@dataclass(frozen=True, slots=True)
class Call:
    """One call at a callback URL as the web received it. ``headers``: names in lower case."""

    provider: str
    token: str | None
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """What to answer, and what became of the notice (None: a repetition of one kept already)."""

    reply: Reply
    verdict: Verdict | None


class NoticeService:
    """Takes notices in."""

    def __init__(
        self,
        store: Store,
        providers: Providers,
        tokens: CallbackTokens,
        bell: Bell,
        clock: Callable[[], int],
        *,
        public_url: str,
    ) -> None:
        """``public_url``: what callback URLs begin with. ``clock``: ms since the epoch."""
        self._store = store
        self._providers = providers
        self._tokens = tokens
        self._bell = bell
        self._clock = clock
        self._public_url = public_url

    def take(self, call: Call) -> Taken:
        """Check a call and keep it. Raises BadToken, BadSignature, Malformed, NotFound or Busy, storing nothing."""
        handler = self._providers.find(call.provider)
        if handler is None:
            raise NotFound("There is no such callback address.")
        now = self._clock()
        path = f"/callbacks/{call.provider}" + (f"/{call.token}" if call.token is not None else "")
        notice = Notice(call.headers, call.query, call.body, self._public_url + path, now)
        task: Task | None = None
        if call.token is not None:
            task_id = self._tokens.read(call.provider, call.token)
            with self._store.read() as connection:
                task = tasks.get(connection, task_id)
            if task is None:
                return Taken(handler.reply(notice), Verdict.IGNORED)  # ended and purged long ago
            notice = replace(notice, task=remote_task(task, now))
        handler.verify(notice)
        try:
            update = handler.read(notice)
        except NotSupported:
            return Taken(handler.reply(notice), Verdict.IGNORED)
        if len(update.provider_task_id or "") > _LONGEST_ID:
            raise Malformed("no provider has ids that long")
        if task is None:
            with self._store.read() as connection:
                task = tasks.find_by_provider_id(connection, call.provider, update.provider_task_id or "")
            if task is None:
                return Taken(handler.reply(notice), Verdict.IGNORED)
        verdict = self._keep(handler, notice, task.id, update, now)
        return Taken(handler.reply(notice), verdict)

    def _keep(self, handler: Handler, notice: Notice, task_id: str, update: TaskUpdate, now: int) -> Verdict | None:
        known = handler.notice_id(notice) or ""
        if not 0 < len(known) <= _LONGEST_ID:  # what an index can hold
            known = hashlib.sha256(known.encode() or notice.body).hexdigest()
        with self._store.write() as connection:
            task = tasks.get(connection, task_id)
            if task is None:
                return Verdict.IGNORED
            believed = handler.signature_covers_body or not handler.pace.confirm_notices
            if task.status.final:
                verdict = lifecycle.verdict_on_final(task, update)
            else:
                verdict = Verdict.BELIEVED if believed else Verdict.HINT
            stored = StoredNotice(
                new_id("ntc", now), handler.name, task.id, now, _worth_keeping(notice.headers), notice.body, verdict
            )
            if not notices.add(connection, stored, f"{task.id}:{known}"):
                return None
            if verdict is Verdict.BELIEVED and (update.status.final or task.status is TaskStatus.RUNNING):
                self._believe(connection, task, update, now)
            elif not task.status.final:
                self._take_hint(connection, task, update, now)
        reached("notice.kept")
        self._bell.ring()
        return verdict

    def _believe(self, connection: Connection, task: Task, update: TaskUpdate, now: int) -> None:
        change = lifecycle.apply_update(task, update, CompletedVia.CALLBACK)
        assert change is not None  # the task was live a moment ago, in this transaction
        settle(connection, task, change, now, update=update)

    def _take_hint(self, connection: Connection, task: Task, update: TaskUpdate, now: int) -> None:
        if task.status is TaskStatus.RUNNING:
            due = now if task.due_at is None else min(task.due_at, now)  # our clock may be ahead of the worker's
            tasks.move(connection, task.id, {"due_at": due}, expected=[TaskStatus.RUNNING])
        elif update.provider_task_id and (task.status is TaskStatus.SUBMITTING or task.submits):
            if task.outcome_unknown or task.status is TaskStatus.QUEUED:
                # Queued again although the provider calls back for it: it was started, and must not be again.
                adopt(connection, task, update.provider_task_id, now)
            else:  # the submission's answer is still on its way, and will find this note
                tasks.move(connection, task.id, {"noticed_id": update.provider_task_id})


_LONGEST_ID = 255
_KEPT = ("content-type", "user-agent", "date", "topview-uid", "x-vod-timestamp", "x-request-id")


def _worth_keeping(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that help to understand a notice later; signatures and cookies are not kept."""
    return {name: headers[name][:1024] for name in _KEPT if name in headers}
