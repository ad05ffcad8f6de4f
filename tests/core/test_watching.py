"""What happened is told once, with the ids to find it by: in the log, in the counts, and in traces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from receiver import metrics, tracing, watching
from receiver.deliveries import Outcome
from receiver.models import new_id
from receiver.worker.deliver_lane import DeliverLane
from tests.core.stage import Stage, answered, broken, done

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def count(metric: Any, *labels: str) -> float:
    """What a counter shows."""
    return float(metric.labels(*labels)._value.get())


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines that were logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that were recorded; tracing is on."""
    exporter = InMemorySpanExporter()
    tracing.begin(exporter, "test", at_once=True)
    yield exporter
    tracing.end()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The spans by their names."""
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_change_of_state_is_one_line_and_one_count(stage: Stage, said: list[Any]) -> None:
    """An operator finds each step of a task by its id; what the step came from is in it."""
    before = count(metrics.TASK_CHANGES, "toy", "succeeded", "poll")
    task = stage.running()
    stage.clock.pass_by(3600)
    stage.poll(done())
    lines = [line for line in said if line["event"] == "task" and line["task"] == task.id]
    assert [(line["was"], line["status"], line["via"]) for line in lines] == [
        ("submitting", "running", None), ("running", "succeeded", "poll"),
    ]  # fmt: skip
    assert count(metrics.TASK_CHANGES, "toy", "succeeded", "poll") == before + 1


def test_a_poll_that_rescues_a_task_is_counted(stage: Stage) -> None:
    """The provider should have called back and did not: the operator learns that callbacks do not arrive."""
    before = count(metrics.TASKS_RESCUED, "toy")
    stage.running()
    stage.clock.pass_by(3600)
    stage.poll(done())
    assert count(metrics.TASKS_RESCUED, "toy") == before + 1


def test_refused_notices_cannot_fill_the_log(said: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can call there: one line in ten seconds, which says how many were not said; all are counted."""
    monkeypatch.setattr(watching, "_said", {})
    monkeypatch.setattr(watching, "SAID_EVERY", float("inf"))
    before = count(metrics.NOTICES, "toy", "bad_token")
    for _ in range(50):
        watching.notice_refused("toy", "bad_token", "req-1")
    assert len(said) == 1
    monkeypatch.setattr(watching, "SAID_EVERY", 0.0)
    watching.notice_refused("toy", "bad_token", "req-2")
    assert said[1]["unsaid"] == 49
    assert count(metrics.NOTICES, "toy", "bad_token") == before + 51


def test_polls_without_news_are_for_debugging_only(stage: Stage, said: list[Any]) -> None:
    """A thousand running tasks do not fill the log; a provider that fails does show."""
    task = stage.running()
    watching.provider_called("toy", "query", "answered", [task], 1000, 1010, news=False)
    watching.provider_called("toy", "query", "answered", [task], 1000, 1010)
    watching.provider_called("toy", "query", "unavailable", [task, task], 1000, 1010, news=False)
    lines = [line for line in said if line["event"] == "query"]
    assert [line["log_level"] for line in lines] == ["debug", "info", "warning"]
    assert (lines[0]["task"], lines[2]["tasks"]) == (task.id, [task.id, task.id])


def test_the_trace_of_a_task_is_its_id(stage: Stage, spans: InMemorySpanExporter) -> None:
    """All processes agree on it without telling each other; the task as a whole is the root of all the rest."""
    task = stage.running()
    watching.provider_called("toy", "submit", "accepted", [task], task.created_at, task.created_at + 20)
    watching.attempt_made("dlv_1", "evt_1", task.id, "sub_1", 1, created=task.created_at,
                          began=task.created_at + 30, duration_ms=5, status=500, error=None)  # fmt: skip
    stage.clock.pass_by(3600)
    stage.poll(broken())
    found = by_name(spans)
    assert {span.context.trace_id for span in found.values()} == {tracing.trace_id(task.id)}
    root = found.pop("task toy draw")
    assert root.parent is None
    assert root.start_time == task.created_at * 1_000_000
    assert {span.parent.span_id for span in found.values() if span.parent} == {root.context.span_id}
    assert set(found) == {"submit toy", "delivery attempt", "settle running", "settle failed"}
    assert found["delivery attempt"].context.span_id == tracing.span_id("dlv_1 1")
    assert not found["delivery attempt"].status.is_ok
    assert found["submit toy"].attributes == {
        "receiver.provider": "toy", "receiver.outcome": "accepted", "receiver.operation": "draw",
        "receiver.provider_task_id": "job-1",
    }  # fmt: skip


def test_a_traceparent_is_what_the_subscriber_is_told(spans: InMemorySpanExporter) -> None:
    """It names the attempt's span in the task's trace, in the form of W3C Trace Context."""
    task = new_id("task", 1_767_225_600_000)
    assert tracing.traceparent(task, "x") == f"00-{tracing.trace_id(task):032x}-{tracing.span_id('x'):016x}-01"


def test_a_subscriber_is_told_the_span_of_its_own_attempt(stage: Stage, spans: InMemorySpanExporter) -> None:
    """What it does with a repetition is seen below that repetition, and not below the attempt before it."""
    lane = DeliverLane(stage.runtime, "worker-1")
    stage.ping(stage.subscribe())
    told = []
    for _ in range(2):
        (claim,) = stage.runtime.deliveries.turn((), 1).claims
        told.append(stage.runtime.deliveries.request_of(claim).headers["traceparent"])
        stage.finish([claim], 500)
        lane.stored([Outcome(claim, stage.clock(), answered(500))])
        stage.clock.pass_by(10)
    contexts = [span.context for span in spans.get_finished_spans() if span.name == "delivery attempt"]
    assert told == [f"00-{context.trace_id:032x}-{context.span_id:016x}-01" for context in contexts]
    assert len(set(told)) == 2


def test_a_callers_trace_goes_on_in_the_request_and_leads_to_the_task(spans: InMemorySpanExporter) -> None:
    """The request's span belongs to who called; a link in it leads to the task's own trace."""
    task = new_id("task", 1_767_225_600_000)
    watching.request_answered("/v1/tasks", "POST", 202, 0.0, "req-1", task, CALLER)
    watching.request_answered("/v1/tasks", "POST", 202, 0.0, "req-1", task, "nonsense")
    watching.request_answered("/v1/tasks", "GET", 500, 0.0, "req-1")
    watching.request_answered("/healthz", "GET", 200, 0.0, "req-1")
    theirs, ours, alone = spans.get_finished_spans()
    assert f"{theirs.context.trace_id:032x}" == CALLER.split("-")[1]
    assert [link.context.trace_id for link in theirs.links] == [tracing.trace_id(task)]
    assert (ours.context.trace_id, ours.links) == (tracing.trace_id(task), ())
    assert alone.parent is None
    assert alone.context.trace_id not in (theirs.context.trace_id, ours.context.trace_id)
    assert not alone.status.is_ok


def test_the_sampler_decides_by_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_TRACES_SAMPLER a part of the tasks is traced, each of them wholly or not at all."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    exporter = InMemorySpanExporter()
    tracing.begin(exporter, "test", at_once=True)
    ids = [new_id("task", 1_767_225_600_000 + number) for number in range(200)]
    for task in ids:
        for name in ("one", "two"):
            tracing.record(name, task, 1000, 2000, {})
        tracing.record("whole", task, 1000, 2000, {}, root=True)
    traced = [span.context.trace_id for span in exporter.get_finished_spans()]
    told = {tracing.trace_id(task) for task in ids if (tracing.traceparent(task, "x") or "").endswith("-01")}
    tracing.end()
    assert 40 < len(set(traced)) < 160
    assert len(traced) == 3 * len(set(traced))
    assert set(traced) == told


def test_tracing_costs_nothing_when_nobody_asks_for_it() -> None:
    """Without an endpoint the library is not even loaded, and subscribers are told nothing."""
    code = (
        "import json, sys; from receiver import tracing; on = tracing.set_up('web'); "
        "tracing.record('x', 'task_1', 1, 2, {}); "
        "print(json.dumps([on, tracing.traceparent('task_1', 'x'), 'opentelemetry' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, None, False]


def test_traces_that_are_asked_for_but_not_installed_are_told(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> None:
    """The service starts all the same, with the command that mends it in the log."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert not tracing.set_up("web")
    assert "[otel]" in said[0]["mend"]
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing.set_up("web")
    assert len(said) == 1


def test_the_library_is_disabled_in_any_spelling_of_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``OTEL_SDK_DISABLED=True`` it records nothing, so subscribers are told of no trace either."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    monkeypatch.setattr(tracing, "begin", lambda *_: pytest.fail("it began to trace"))
    assert not tracing.set_up("web")
