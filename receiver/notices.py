"""Notices: checked, kept once, and turned into what follows from them; many of them in one transaction.

No network call happens here. A notice is a hint unless a signature covers its body: it makes the
next query due now, and the query's answer is believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from handlers import Handler, Malformed, Notice, NotSupported, Reply, TaskUpdate, record
from receiver import lifecycle
from receiver.bell import Bell
from receiver.errors import Busy, NotFound
from receiver.faultpoints import reached
from receiver.models import LONGEST_ID, CompletedVia, StoredNotice, Task, TaskStatus, Verdict, new_id
from receiver.providers import Providers, remote_task
from receiver.signing import CallbackTokens
from receiver.store import Connection, Store, notices, tasks
from receiver.store.settling import Move, adoption, at_once, settle
from receiver.waking import lanes_after


@record
class Call:
    """One call at a callback URL as the web received it. ``headers``: names in lower case."""

    provider: str
    token: str | None
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@record
class Taken:
    """What to answer, and what became of the notice (None: a repetition of one kept already).

    ``task_id``: of the task that it is about, if there is such a task.
    """

    reply: Reply
    verdict: Verdict | None
    task_id: str | None = None


@record
class _Opened:
    """A call at an address of ours. ``task_id``: as its token says; None at the provider-wide address."""

    handler: Handler
    call: Call
    url: str
    task_id: str | None


@record
class _Understood:
    """A notice that its provider sent. ``key``: what its repetitions share."""

    handler: Handler
    notice: Notice
    task_id: str
    update: TaskUpdate
    reply: Reply
    key: str


Result = Taken | Exception
"""What a call came to: an answer, or what ``NoticeService.take`` would raise."""
A = TypeVar("A")
B = TypeVar("B")


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
        (result,) = self.take_all([call])
        assert result is not None  # the first is never left
        if isinstance(result, Exception):
            raise result
        return result

    def take_all(self, calls: Sequence[Call]) -> list[Result | None]:
        """Check calls and keep them together; for each what ``take`` gives or raises, whatever becomes of the others.

        One transaction for all; a result that is no exception is given when it is committed. None: so many subscribers
        hear of them that this one was left for the next transaction; it is to be given once more. The first never is.
        Raises Busy when the database cannot even be read: then nothing was stored.
        """
        now = self._clock()
        results: dict[int, Result] = {}
        opened = _step(dict(enumerate(calls)), self._open, results)
        named = {each.task_id for each in opened.values() if each.task_id is not None}
        known = self._store.ask(lambda connection: tasks.get_all(connection, named))
        understood = _step(opened, lambda each: self._understand(each, known, now), results)
        self._keep_all(understood, now, results)
        return [results.get(place) for place in range(len(calls))]

    def _open(self, call: Call) -> _Opened:
        handler = self._providers.find(call.provider)
        if handler is None:
            raise NotFound("There is no such callback address.")
        path = f"/callbacks/{call.provider}" + (f"/{call.token}" if call.token is not None else "")
        task_id = None if call.token is None else self._tokens.read(call.provider, call.token)
        return _Opened(handler, call, self._public_url + path, task_id)

    def _understand(self, opened: _Opened, known: Mapping[str, Task], now: int) -> _Understood | Taken:
        """Verify and read a notice, before any transaction: what providers send may take long to read."""
        handler, call = opened.handler, opened.call
        task = None if opened.task_id is None else known.get(opened.task_id)
        asked = None if task is None else remote_task(task, now)
        notice = Notice(call.headers, call.query, call.body, opened.url, now, asked)
        if opened.task_id is not None and task is None:
            return Taken(handler.reply(notice), Verdict.IGNORED)  # ended and purged long ago
        handler.verify(notice)
        try:
            update = handler.read(notice)
        except NotSupported:
            return Taken(handler.reply(notice), Verdict.IGNORED)
        if len(update.provider_task_id or "") > LONGEST_ID:
            raise Malformed("no provider has ids that long")
        task_id = opened.task_id or self._task_of(handler, update)
        if task_id is None:
            return Taken(handler.reply(notice), Verdict.IGNORED)
        key = handler.notice_id(notice) or ""
        if not 0 < len(key) <= LONGEST_ID:  # what an index can hold
            key = hashlib.sha256(key.encode() or notice.body).hexdigest()
        return _Understood(handler, notice, task_id, update, handler.reply(notice), f"{task_id}:{key}")

    def _task_of(self, handler: Handler, update: TaskUpdate) -> str | None:
        with self._store.read() as connection:
            task = tasks.find_by_provider_id(connection, handler.name, update.provider_task_id or "")
        return None if task is None else task.id

    def _keep_all(self, understood: Mapping[int, _Understood], now: int, results: dict[int, Result]) -> None:
        """Keep notices in one transaction, or some of many; where one makes it fail, each in one of its own."""
        try:
            results.update(self._keep(understood, now))
        except Exception as error:  # noqa: BLE001  whatever it is, the other notices must not suffer from it
            if len(understood) == 1 or isinstance(error, Busy):
                results.update(dict.fromkeys(understood, error))
                return
            for place, each in understood.items():
                self._keep_all({place: each}, now, results)

    def _keep(self, understood: Mapping[int, _Understood], now: int) -> dict[int, Taken]:
        if not understood:
            return {}
        verdicts: dict[int, Verdict | None] = {}
        with self._store.write() as connection:
            held = tasks.hold(connection, {each.task_id for each in understood.values()})
            kept = _some(connection, understood, held, now)
            for each_once in _rounds(kept):
                verdicts.update(self._keep_round(connection, each_once, held, now))
        reached("notice.kept")
        self._bell.ring(*lanes_after(held.values(), self._providers))
        return {place: Taken(each.reply, verdicts[place], each.task_id) for place, each in kept.items()}

    def _keep_round(
        self, connection: Connection, understood: Mapping[int, _Understood], held: dict[str, Task], now: int
    ) -> dict[int, Verdict | None]:
        """Keep notices about different tasks, and bring ``held`` up to date."""
        verdicts: dict[int, Verdict | None] = {}
        new: dict[int, tuple[StoredNotice, str]] = {}
        for place, each in understood.items():
            task = held.get(each.task_id)
            if task is None:
                verdicts[place] = Verdict.IGNORED
                continue
            verdict = verdicts[place] = _verdict(task, each)
            kept = _worth_keeping(each.notice.headers)
            name, body = each.handler.name, each.notice.body
            new[place] = StoredNotice(new_id("ntc", now), name, task.id, now, kept, body, verdict), each.key
        added = notices.add(connection, list(new.values()))
        moves: list[Move] = []
        for place, (notice, key) in new.items():
            if notice.id in added:
                each = understood[place]
                moves += _consequence(held[each.task_id], each.update, notice.verdict, now)
            else:
                notices.count_copy(connection, notice.provider, key)
                verdicts[place] = None
        held.update({task.id: task for task in settle(connection, moves, now)})
        return verdicts


def _step(items: Mapping[int, A], work: Callable[[A], B | Taken], results: dict[int, Result]) -> dict[int, B]:
    """Do one step with each; one that fails in it, or is answered by it, has its result and goes no further."""
    further: dict[int, B] = {}
    for place, item in items.items():
        try:
            outcome = work(item)
        except Exception as error:  # noqa: BLE001  told to whoever called
            results[place] = error
        else:
            if isinstance(outcome, Taken):
                results[place] = outcome
            else:
                further[place] = outcome
    return further


def _some(
    connection: Connection, understood: Mapping[int, _Understood], held: Mapping[str, Task], now: int
) -> dict[int, _Understood]:
    """Those that this transaction is for, in order; of a task that has some left, the first ones."""
    news = [place for place, each in understood.items() if _is_news(held.get(each.task_id), each, now)]
    chosen = {news[number] for number in at_once(connection, [held[understood[place].task_id] for place in news])}
    later = set(news) - chosen
    left: set[str] = set()
    some: dict[int, _Understood] = {}
    for place, each in understood.items():
        if place in later or each.task_id in left:
            left.add(each.task_id)
        else:
            some[place] = each
    return some


def _is_news(task: Task | None, each: _Understood, now: int) -> bool:
    """Whether subscribers may hear of it."""
    moves = () if task is None else _consequence(task, each.update, _verdict(task, each), now)
    return any(move.change is not None and move.change.event is not None for move in moves)


def _rounds(understood: Mapping[int, _Understood]) -> Iterator[dict[int, _Understood]]:
    """All in order, in rounds that name no task twice: its second notice is judged after the first took effect."""
    left = dict(understood)
    while left:
        first = {each.task_id: place for place, each in reversed(left.items())}
        yield {place: left.pop(place) for place in sorted(first.values())}


def _verdict(task: Task, each: _Understood) -> Verdict:
    if task.status.final:
        return lifecycle.verdict_on_final(task, each.update)
    believed = each.handler.signature_covers_body or not each.handler.pace.confirm_notices
    return Verdict.BELIEVED if believed else Verdict.HINT


def _consequence(task: Task, update: TaskUpdate, verdict: Verdict, now: int) -> list[Move]:
    """What a new notice does to its task: at most one move."""
    if task.status.final:
        return []
    if verdict is Verdict.BELIEVED and (update.status.final or task.status is TaskStatus.RUNNING):
        return [Move(task, lifecycle.apply_update(task, update, CompletedVia.CALLBACK), update)]
    if task.status is TaskStatus.RUNNING:
        due = now if task.due_at is None else min(task.due_at, now)  # our clock may be ahead of the worker's
        return [Move(task, None, values={"due_at": due})]
    if update.provider_task_id and (task.status is TaskStatus.SUBMITTING or task.submits):
        if task.outcome_unknown or task.status is TaskStatus.QUEUED:
            # Queued again although the provider calls back for it: it was started, and must not be again.
            return [adoption(task, update.provider_task_id, now)]
        # The submission's answer is still on its way, and will find this note.
        return [Move(task, None, values={"noticed_id": update.provider_task_id})]
    return []


_KEPT = ("content-type", "user-agent", "date", "topview-uid", "x-vod-timestamp", "x-request-id")


def _worth_keeping(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that help to understand a notice later; signatures and cookies are not kept."""
    return {name: headers[name][:1024] for name in _KEPT if name in headers}
