"""The core without web, worker and network.

Services on a database of their own, a clock that is set by hand,
and the toy provider, whose answers and notices are made up here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, text

from handlers import ErrorCode, Handler, Output, OutputKind, Receipt, RemoteStatus, TaskError, TaskUpdate
from handlers._signatures import hmac_sha256_hex
from receiver.config import Settings, read_settings
from receiver.deliveries import Outcome
from receiver.dialling import OutboundError
from receiver.events import ping_body
from receiver.models import Delivery, Event, EventType, StoredNotice, Subscriber, Task
from receiver.notices import Call, Taken
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from receiver.sealing import new_secret_key
from receiver.store import deliveries, events, notices
from receiver.store.claiming import Claim
from receiver.store.settling import publish
from receiver.submissions import Start
from receiver.subscribers import NewSubscriber
from receiver.tasks import NewTask
from tests import asking
from tests.databases import Template, empty
from tests.toy import KEY, SECRET, visible

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
PICTURE = "https://cdn.example.test/cat.png"
HOOK = "http://127.0.0.1:9/hook"
ONE_KEY = new_secret_key()


class Clock:
    """Milliseconds since the epoch, as far as the tests have let time pass."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def pass_by(self, seconds: float) -> int:
        """Let time pass; the time after it."""
        self.now += round(seconds * 1000)
        return self.now


def settings_in(folder: Path, **more: str) -> Settings:
    """Settings with the toy as the only provider and the database in a folder. ``more``: environment variables."""
    environment = {
        "RECEIVER_DATABASE_URL": f"sqlite:///{folder}/receiver.db",
        "RECEIVER_PUBLIC_URL": "https://receiver.example.test",
        "RECEIVER_SECRET_KEYS": ONE_KEY,
        "RECEIVER_ALLOWED_NETWORKS": "127.0.0.0/8",
        "RECEIVER_RETRY_SCHEDULE": "5,300,1800",
        "TOY_KEY": KEY,
        "TOY_SECRET": SECRET,
        "TOY_SUBMIT_RATE": "1000",
        "TOY_QUERY_RATE": "1000",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return read_settings()


class Stage:
    """One process of the service, and shorthands for what its faces and lanes would do."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.runtime = Runtime.build(settings, clock)
        self.runtime.prepare()
        with self.runtime.store.read() as connection:
            self.account = connection.execute(text("SELECT id FROM accounts WHERE name = 'default'")).scalar_one()

    @property
    def handler(self) -> Handler:
        """The toy; set its class attributes on it to make it another kind of provider."""
        return self.runtime.providers.get("toy")

    # Tasks ------------------------------------------------------------------------------------------

    def create(self, prompt: str = "a cat", key: str | None = None, **more: Any) -> Task:
        """A task as a caller creates it."""
        wanted = NewTask("toy", "draw", {"prompt": prompt}, **more)
        return self.runtime.tasks.create(self.account, wanted, key)[0]

    def claim(self, room: int = 100) -> list[Start]:
        """What a submit lane would hand over now, lost submissions first."""
        submissions = self.runtime.submissions
        lost = submissions.claim_lost("toy", room)
        return lost + submissions.claim("toy", room - len(lost))

    def claim_one(self) -> Start:
        """The only task to hand over."""
        (start,) = self.claim()
        return start

    def running(self, job: str = "job-1", **more: Any) -> Task:
        """A task that the toy has taken under this id."""
        task = self.create(**more)
        (start,) = [found for found in self.claim() if found.task.id == task.id]
        self.accept(start, job)
        return self.task(task)

    def accept(self, start: Start, job: str = "job-1", update: TaskUpdate | None = None) -> None:
        """The toy takes a task."""
        raw = json.dumps({"id": job})
        self.runtime.submissions.accepted(start.task, Receipt(job, raw, {"from": "receipt"}, update))

    def task(self, task: Task | str) -> Task:
        """The task as it is now."""
        return self.runtime.tasks.get(self.account, task if isinstance(task, str) else task.id)

    def asked_for(self) -> list[Task]:
        """The tasks that a query lane would ask after now."""
        return [task for _, batch in asking.claim(self.runtime.polling, "toy", 50) for task in batch]

    def poll(self, *updates: TaskUpdate | None) -> list[Task]:
        """Let the tasks that are due be asked after; they get these answers in order. The tasks asked for."""
        claimed = self.asked_for()
        assert len(claimed) == len(updates), f"{len(claimed)} tasks were due, not {len(updates)}"
        said = {task.id: update for task, update in zip(claimed, updates, strict=True) if update is not None}
        if claimed:
            asking.answered(self.runtime.polling, claimed, said)
        return [self.task(task) for task in claimed]

    def wait_until_due(self, task: Task) -> None:
        """Let time pass until a worker must look at the task."""
        due = self.task(task).due_at
        assert due is not None
        self.clock.now = max(self.clock.now, due)

    def notice(self, task: Task | str | None, job: str = "job-1", state: str = "done", **more: Any) -> Taken:
        """The toy calls back, properly signed; at the provider-wide address when ``task`` is None."""
        body = json.dumps({"id": job, "state": state, **({"picture": PICTURE} if state == "done" else {}), **more})
        return self.call(task, body.encode())

    def call(self, task: Task | str | None, body: bytes, sign: str | None = None, provider: str = "toy") -> Taken:
        """Somebody calls the callback URL of a task. ``sign``: instead of the right signature."""
        token = None
        if task is not None:
            task_id = task if isinstance(task, str) else task.id
            token = self.runtime.submissions._tokens.make("toy", task_id)
        headers = {"x-toy-sign": hmac_sha256_hex(SECRET, body) if sign is None else sign, "user-agent": "toy/1"}
        return self.runtime.notices.take(Call(provider, token, headers, {}, body))

    # What came of it --------------------------------------------------------------------------------

    def events(self, task: Task | None = None) -> list[Event]:
        """Events of a task, or all of the account, in order."""
        with self.runtime.store.read() as connection:
            if task is not None:
                return list(events.of_task(connection, task.id))
            return list(events.after(connection, self.account, 0, 1000)[0])

    def event_types(self, task: Task) -> list[EventType]:
        """What subscribers were told of a task."""
        return [event.type for event in self.events(task)]

    def notices(self, task: Task) -> list[StoredNotice]:
        """The notices kept of a task."""
        with self.runtime.store.read() as connection:
            return list(notices.of_task(connection, task.id))

    def steps(self, task: Task, kind: str | None = None) -> list[dict[str, Any]]:
        """The timeline's details, of one kind or of all."""
        lines, _ = self.runtime.tasks.timeline(self.account, task.id)
        return [dict(line.detail) for line in lines if kind in (None, line.kind)]

    def rows(self, query: str, **values: Any) -> list[Row[Any]]:
        """What a query finds in the database."""
        with self.runtime.store.read() as connection:
            return list(connection.execute(text(query), values))

    # Deliveries -------------------------------------------------------------------------------------

    def subscribe(self, url: str = HOOK, *types: str, **more: Any) -> Subscriber:
        """A registered webhook."""
        wanted = NewSubscriber(url, types or ("*",), **more)
        return self.runtime.subscribers.create(self.account, wanted)[0]

    def ping(self, subscriber: Subscriber) -> Delivery:
        """One delivery that a caller asks for: it goes before what waits."""
        return self.runtime.subscribers.ping(self.account, subscriber.id)

    def tell(self, subscriber: Subscriber) -> Delivery:
        """One delivery in its turn, also for a subscriber that is disabled, which cannot be pinged."""
        now = self.runtime.clock()
        body = ping_body(subscriber, now)
        with self.runtime.store.write() as connection:
            (told,) = publish(connection, self.account, EventType.SUBSCRIBER_PING, body, [subscriber], now)
        self.runtime.bell.ring()
        return told

    def delivery(self, delivery: Delivery | str) -> Delivery:
        """The delivery as it is now."""
        delivery_id = delivery if isinstance(delivery, str) else delivery.id
        return self.runtime.deliveries.get(self.account, delivery_id)[0]

    def deliveries_of(self, task: Task) -> list[Delivery]:
        """All deliveries of a task's events."""
        with self.runtime.store.read() as connection:
            return list(deliveries.of_task(connection, task.id))

    def attempt(self, status: int | None = 200, room: int = 100, **headers: str) -> list[Claim]:
        """Let what is due be attempted, all with this answer (None: no connection). The claims made."""
        claims = list(self.runtime.deliveries.turn((), room).claims)
        self.finish(claims, status, **headers)
        return claims

    def finish(self, claims: list[Claim], status: int | None = 200, **headers: str) -> None:
        """The attempts of these claims end so; ``retry_after="7"`` gives the header Retry-After."""
        result = answered(status, **headers)
        self.runtime.deliveries.turn([Outcome(claim, self.clock(), result) for claim in claims], 0)

    def subscriber(self, subscriber: Subscriber) -> Subscriber:
        """The subscriber as it is now."""
        return self.runtime.subscribers.get(self.account, subscriber.id)


def answered(status: int | None, **headers: str) -> OutboundResult:
    """An attempt that got this answer, or none."""
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    error = None if status is not None else OutboundError.CONNECTION_REFUSED
    return OutboundResult(status, shown, "", error, "As the test says.", 12)


def still(progress: float | None = None) -> TaskUpdate:
    """The toy is at it."""
    return TaskUpdate(RemoteStatus.RUNNING, '{"state":"drawing"}', "job-1", progress)


def done(job: str = "job-1") -> TaskUpdate:
    """The toy has drawn the picture."""
    outputs = (Output(OutputKind.IMAGE, url=PICTURE, name="picture"),)
    return TaskUpdate(RemoteStatus.SUCCEEDED, '{"state":"done"}', job, outputs=outputs)


def broken() -> TaskUpdate:
    """The toy has failed."""
    error = TaskError(ErrorCode.PROVIDER_ERROR, "out of paint")
    return TaskUpdate(RemoteStatus.FAILED, '{"state":"broken"}', "job-1", error=error)


@pytest.fixture(scope="session")
def migrated(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """A database with the present schema and an account, to be copied."""
    folder = tmp_path_factory.mktemp("migrated")
    with empty(database, folder) as url:
        with visible():
            Stage(settings_in(folder, RECEIVER_DATABASE_URL=url), Clock()).runtime.close()
        yield Template(url)


@pytest.fixture
def clock() -> Clock:
    """The clock of a test."""
    return Clock()


@pytest.fixture
def toy() -> Iterator[None]:
    """The toy provider is there."""
    with visible():
        yield


@pytest.fixture
def build(tmp_path: Path, migrated: Template, clock: Clock, toy: None) -> Iterator[Any]:
    """Makes stages that share one database and the clock (``at``). Keywords are settings' fields or variables."""
    made: list[Stage] = []

    def make(at: Any = clock, **changes: Any) -> Stage:
        variables = {name: str(value) for name, value in changes.items() if name.isupper()}
        fields = {name: value for name, value in changes.items() if not name.isupper()}
        settings = settings_in(tmp_path, **{"RECEIVER_DATABASE_URL": url, **variables})
        made.append(Stage(replace(settings, **fields), at))
        return made[-1]

    with migrated.copy(tmp_path) as url:
        yield make
        for stage in made:
            stage.runtime.close()


@pytest.fixture
def stage(build: Any) -> Stage:
    """One process with the settings of every day."""
    made: Stage = build()
    return made
