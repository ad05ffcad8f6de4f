"""Traces for OpenTelemetry: what happened to one task, over all processes, as one trace. Off unless asked for.

The trace of a task is the task's own id: both have 128 bits, so every process knows the trace without being
told, weeks later as well, and nobody has to store or to pass on anything. Its root, the task from creation to
end, is written when the task ends. Other things that happen (a ping, a request that is about no task) have
traces of their own.

It is on with the extra ``otel`` and one of the usual variables, ``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``; every other ``OTEL_…`` variable of the SDK works too. When it is off,
nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from receiver import __version__, logs
from receiver.models import ALPHABET

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | int | float | bool | Sequence[str]

log = logs.get("tracing")

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_DIGITS = {digit: value for value, digit in enumerate(ALPHABET)}
_HALF = (1 << 64) - 1
_NAMESPACE = "receiver."

_provider: TracerProvider | None = None
_forced: ContextVar[tuple[int, int]] = ContextVar("ids of the span that is being made", default=(0, 0))


def set_up(role: str) -> bool:
    """Begin to trace in this process, if the environment asks for it; whether it does. ``role``: web or worker."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"  # as the SDK reads it
    if disabled or not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("traces are asked for, but not installed", mend="pip install 'callback-receiver[otel]'")
        return False
    begin(OTLPSpanExporter(), role)
    return True


def begin(exporter: SpanExporter, role: str, *, at_once: bool = False) -> None:
    """Begin to trace to an exporter. ``at_once``: each span by itself, not in batches behind the work."""
    global _provider  # noqa: PLW0603  one for the process
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, unless the span that is being made has some of its own."""

        def generate_trace_id(self) -> int:
            return _forced.get()[0] or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return _forced.get()[1] or super().generate_span_id()

    who = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "callback-receiver"}
    resource = Resource.create({**who, "service.version": __version__, "receiver.role": role})
    provider = TracerProvider(resource=resource, id_generator=Ids())
    provider.add_span_processor((SimpleSpanProcessor if at_once else BatchSpanProcessor)(exporter))
    _provider = provider


def end() -> None:
    """Send what waits, and trace no more."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


def on() -> bool:
    """Whether this process traces."""
    return _provider is not None


def trace_id(subject: str) -> int:
    """The trace of a task, or of an event that belongs to none: its id as a number (128 bits)."""
    number = 0
    for digit in subject.rpartition("_")[2]:
        number = number << 5 | _DIGITS[digit]
    return number


def span_id(part: str) -> int:
    """The id of a span that others must know before it is recorded: made from what it is (64 bits)."""
    return int.from_bytes(hashlib.sha256(part.encode()).digest()[:8]) or 1


def traceparent(subject: str, part: str) -> str | None:
    """What tells another service that its work belongs to a span of ours (W3C Trace Context); None when off.

    ``part``: as given to ``record``.
    """
    if _provider is None:
        return None
    trace = trace_id(subject)
    return f"00-{trace:032x}-{span_id(part):016x}-{'01' if _sampled(_provider, trace) else '00'}"


def record(
    name: str,
    subject: str,
    began: int,
    ended: int,
    attributes: Mapping[str, Value | None],
    *,
    kind: Kind = "internal",
    failed: bool = False,
    root: bool = False,
    part: str | None = None,
    caller: str | None = None,
) -> None:
    """Record something that happened, as a span; nothing when tracing is off.

    ``subject``: the id of the task (or event) that it is about; empty: none, it gets a trace of its own.
    ``began``, ``ended``: ms since the epoch. ``root``: it is the subject as a whole. ``part``: names the span where
    others are told of it. ``caller``: a ``traceparent`` that came with the request, whose trace goes on in this span;
    the subject's trace is linked to it.
    """
    if _provider is None:
        return
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        StatusCode,
        TraceFlags,
        get_current_span,
        set_span_in_context,
    )

    provider = _provider
    trace = trace_id(subject) if subject else 0
    parent, links = _remote(caller), []
    if trace:
        flags = TraceFlags(TraceFlags.SAMPLED if _sampled(provider, trace) else TraceFlags.DEFAULT)
        whole = SpanContext(trace, trace & _HALF or 1, is_remote=True, trace_flags=flags)
        if get_current_span(parent).get_span_context().is_valid:
            links = [Link(whole)]
        elif not root:
            parent = set_span_in_context(NonRecordingSpan(whole), parent)
    forced = _forced.set((trace, (trace & _HALF or 1) if root else span_id(part) if part else 0))
    try:
        span = provider.get_tracer("receiver", __version__).start_span(
            name,
            context=parent,
            kind=SpanKind[kind.upper()],
            attributes={_key(key): value for key, value in attributes.items() if value is not None},
            links=links,
            start_time=began * 1_000_000,
        )
    finally:
        _forced.reset(forced)
    if failed:
        span.set_status(StatusCode.ERROR)
    span.end(end_time=max(began, ended) * 1_000_000)


def _key(name: str) -> str:
    """Attributes with a dot are those of the conventions; the others are ours."""
    return name if "." in name else _NAMESPACE + name


def _sampled(provider: TracerProvider, trace: int) -> bool:
    """Whether the sampler of the environment takes this trace: asked of the trace alone, so all processes agree."""
    decision = provider.sampler.should_sample(None, trace, "task").decision
    return bool(decision.is_sampled())  # type: ignore[no-untyped-call]  # the library leaves it untyped


def _remote(caller: str | None) -> Context:
    """The context that a ``traceparent`` names; an empty one for none, or for nonsense."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": caller} if caller else {}, context=Context())
