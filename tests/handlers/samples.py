"""The samples a provider's test supplies, random damage to them, and what any result must satisfy."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handlers
from handlers import ErrorCode, HandlerError, Notice, RemoteStatus, RemoteTask, Reply, TaskUpdate
from tests.handlers.fake_provider import Answer

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z, what the clock says in every test
CALLBACK_URL = "https://receiver.example.test/callbacks/provider/token-1"

Meaning = type[HandlerError] | ErrorCode | RemoteStatus | None


@dataclass(frozen=True)
class SubmitSample:
    """One valid task. ``path``: of the call that starts the work, checked if given."""

    operation: str
    input: Mapping[str, Any]
    answers: Sequence[Answer]
    provider_task_id: str
    path: str | None = None
    starts_work: Sequence[bool] | None = None
    callback_url: str | None = None

    @property
    def starting(self) -> Sequence[bool]:
        """For each call whether it starts work."""
        return self.starts_work or [False] * (len(self.answers) - 1) + [True]


@dataclass(frozen=True)
class QuerySample:
    """One answer to a query, and what it means."""

    operation: str
    answer: Answer
    status: RemoteStatus
    provider_task_id: str = "remote-1"
    state: Mapping[str, Any] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    age: float = 60.0
    kinds: Sequence[str] = ()
    error: ErrorCode | None = None

    @property
    def task(self) -> RemoteTask:
        """The task that is asked for."""
        return RemoteTask("task_1", self.operation, self.provider_task_id, self.state, self.input, self.age)


@dataclass(frozen=True)
class ErrorSample:
    """One failure of a call, and what it means."""

    answer: Answer
    on_submit: Meaning = None
    on_query: Meaning = None
    retry_after: float | None = None


@dataclass(frozen=True)
class NoticeSample:
    """One notice, and what it means. ``task``: what the address names; None: the provider-wide one."""

    body: bytes
    status: RemoteStatus
    task: RemoteTask | None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    url: str = CALLBACK_URL
    received_at: int = int(NOW * 1000)
    kinds: Sequence[str] = ()
    error: ErrorCode | None = None
    reply: Reply | None = None

    @property
    def notice(self) -> Notice:
        """As the handler sees it."""
        return Notice(
            {"content-type": "application/json", **self.headers},
            dict(self.query), self.body, self.url, self.received_at, self.task,
        )  # fmt: skip


def json_schema(schema: Any) -> dict[str, Any]:
    """The JSON Schema of a marshmallow schema, as the API publishes it."""
    converter = OpenAPIConverter("3.1.0", schema_name_resolver=lambda _: None, spec=None)  # type: ignore[arg-type]  # no references are made
    return converter.schema2jsonschema(schema())


def hurried(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[[Any], None]], None]:
    """Run the decorated check at once on few examples, without a clock: these tests share two cores."""

    def run(check: Callable[[Any], None]) -> None:
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(strategy)
        def one(value: Any) -> None:
            check(value)

        one()

    return run


def dump(value: Any) -> bytes:
    """A JSON value as a sloppy sender would write it."""
    return json.dumps(value).encode()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**15, max_value=10**40)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["", " ", "\0", "\ud800", "http://[", "https://x.test/a?Expires=99999999999999999", "success", "0"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutations(draw: st.DrawFn, sample: Any) -> Any:
    """The sample with one to three of its parts removed or replaced by any JSON value."""
    value = copy.deepcopy(sample)
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_of(value))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            parent[key] = draw(VALUES)
        else:
            del parent[key]
    return value


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places_of(value[key])


def texts_in(value: Any) -> Iterator[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    for _, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from texts_in(inner)


def sendable(value: Any) -> bool:
    """Whether every database and every JSON parser would take this."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, default=lambda o: {s: getattr(o, s) for s in o.__slots__}
    )
    text.encode("utf-8")
    return "\\u0000" not in text or "\\\\u0000" in text


def sane(update: TaskUpdate) -> bool:
    """Whether an update keeps the kit's promises about its parts."""
    assert isinstance(update.raw, str)
    assert "\0" not in update.raw
    assert update.progress is None or 0 <= update.progress <= 1
    assert (update.error is not None) == (update.status is RemoteStatus.FAILED)
    good = [output for output in update.outputs if output.status is handlers.OutputStatus.OK]
    assert good or update.status is not RemoteStatus.SUCCEEDED
    assert update.provider_task_id is None or isinstance(update.provider_task_id, str)
    for output in update.outputs:
        if output.status is handlers.OutputStatus.OK:
            assert [output.url, output.text, output.data].count(None) == 2, output
        assert output.url is None or isinstance(output.url, str)
        assert output.expires_at is None or 0 < output.expires_at < 10**15
        assert sendable([output.kind, output.url, output.text, output.data, output.name, dict(output.details)])
    return sendable([update.provider_task_id, update.unknown_status, update.error])
