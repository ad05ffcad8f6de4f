"""Receiving calls: what happens to every call of every provider before and after its own module sees it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response, g, request

from ._pace import Pace
from ._world import ConnectionCut, Refusal, Start, Task, World

CUT = "receiver.sandbox.cut"
"""Key of the WSGI environment that asks for the connection to be closed without an answer."""

_numbers = itertools.count(1)


@dataclass
class Call:
    """The call being answered, for the record. Holds no headers and no bodies: they carry secrets."""

    provider: str
    operation: str
    at: float
    number: int = field(default_factory=lambda: next(_numbers))
    ids: list[str] = field(default_factory=list)
    verdict: str = "ok"
    fault: str | None = None
    cut: bool = False


@dataclass(frozen=True)
class Face:
    """What the kit must know of a provider to answer in its manner.

    ``failure`` makes the provider's own error answer (a Refusal without a code asks for its usual server error).
    ``throttled`` is its answer to too many calls. ``operation`` names the operation of the current request;
    by default the path below the provider's prefix.
    """

    name: str
    failure: Callable[[Refusal], Response]
    throttled: Refusal
    operation: Callable[[], str] | None = None


def current_call() -> Call:
    """The record of the call being answered."""
    call: Call = g.sandbox_call
    return call


def sent_json() -> Any:
    """The current request's JSON; None where there is none, or none that can be read or is no Unicode."""
    try:
        value = request.get_json(silent=True)
        json.dumps(value, ensure_ascii=False).encode()  # half a character could not go into links or answers
    except (RecursionError, UnicodeEncodeError):
        return None
    return value


def base_url(world: World) -> str:
    """The sandbox's own address, without a slash at the end."""
    return (world.settings.public_url or request.host_url).rstrip("/")


def accept(world: World, start: Start) -> Task:
    """Start a task for the current call, and note it in the record; with the token ``drop`` cut the answer."""
    call = current_call()
    task = world.start(start)
    call.ids.append(task.id)
    call.cut = call.cut or "drop" in task.directives
    return task


def asked(world: World, task: Task) -> None:
    """Note a query of a task by the current call. Raises as `World.asked`."""
    current_call().ids.append(task.id)
    world.asked(task)


def provider_blueprint(world: World, face: Face) -> Blueprint:
    """A blueprint that records each call, applies queued faults and rates, and answers errors as the provider."""
    blueprint = Blueprint(face.name, __name__)
    pace = Pace(float(world.settings.option(face.name, "rate")))
    world.paces[face.name] = pace

    def before() -> Response | None:
        prefix = f"/{face.name}/"
        operation = face.operation() if face.operation else request.path.removeprefix(prefix)
        call = g.sandbox_call = Call(face.name, operation, world.now())
        if not pace.admit(operation):
            raise face.throttled
        fault = world.faults.take(face.name, operation)
        if fault is None:
            return None
        call.fault = fault.fault
        return _apply(world, face, call, fault.fault, fault.value)

    def after(answer: Response) -> Response:
        call = current_call()
        with world.lock:
            world.calls.append(_record(call, answer.status_code))
        if call.cut:
            request.environ[CUT] = True
        return answer

    def refused(error: Refusal) -> Response:
        current_call().verdict = error.code or f"HTTP {error.http}"
        answer = face.failure(error)
        if error.http is not None:
            answer.status_code = error.http
        return answer

    def cut(_: ConnectionCut) -> Response:
        call = current_call()
        call.cut = True
        return Response(status=500)

    blueprint.before_request(before)
    blueprint.after_request(after)
    blueprint.register_error_handler(Refusal, refused)
    blueprint.register_error_handler(ConnectionCut, cut)
    return blueprint


def _apply(world: World, face: Face, call: Call, fault: str, value: str) -> Response | None:
    match fault:
        case "code":
            raise Refusal(value)
        case "http":
            raise Refusal("", "asked for by a fault", http=int(value or 500))
        case "rate-limit":
            raise face.throttled
        case "slow":
            world.hold_up(float(value or 3))
        case "drop":
            call.cut = True
        case "drop-before":
            raise ConnectionCut
        case "malformed":
            call.verdict = "malformed"
            return Response("<html>this is not JSON</html>", mimetype="text/html")
    return None


def _record(call: Call, status: int) -> dict[str, Any]:
    return {
        "number": call.number,
        "at": call.at,
        "provider": call.provider,
        "operation": call.operation,
        "method": request.method,
        "ids": call.ids,
        "verdict": "cut" if call.cut else call.verdict,
        "fault": call.fault,
        "status": None if call.cut else status,
    }
