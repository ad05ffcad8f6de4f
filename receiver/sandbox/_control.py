"""``/_sandbox``: what the sandbox has seen, and the knobs that are turned by hand."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Blueprint, Response, jsonify, request
from werkzeug.datastructures import MultiDict

from ._artefacts import Refused
from ._calls import base_url
from ._discovery import provider_modules
from ._faults import QUEUED, TOKENS, QueuedFault
from ._world import Task, World

_T = TypeVar("_T")

_FARTHEST = 1_500_000_000
"""How far in seconds the clock can be moved: about 47 years, which every kind of time stamp can hold."""
_SLOWEST = 86_400
"""The longest time in seconds that an answer can be held up: a day."""

_LINKS = {
    "calls": "GET: every call received; ?provider=&operation=&limit=",
    "tasks": "GET: every task; ?provider=&limit=; tasks/<id> one; POST tasks/<id>/finish {outcome, detail}",
    "starts": "GET: how many tasks were started; ?key= for one caller id, callback URL or [sandbox:key=...]",
    "callbacks": "GET: every callback attempt; ?task_id=&limit=",
    "faults": "GET: what is queued; POST {fault, value, times, provider, operation}",
    "answer": "any method, answer/<status>: that status, as a subscriber might answer",
    "clock": "GET; POST {shift: seconds} moves the calendar, {signature_skew: seconds} what stamps are checked by",
    "reset": "POST: forget everything",
}


class BadRequest(Exception):
    """The control API was used wrongly: HTTP 400 with the text."""


def control_blueprint(world: World) -> Blueprint:
    """The ``/_sandbox`` API of one world."""
    blueprint = Blueprint("_sandbox", __name__)
    blueprint.register_error_handler(BadRequest, lambda error: (jsonify(error=str(error)), 400))
    _add_reads(blueprint, world)
    _add_knobs(blueprint, world)
    _add_stand_ins(blueprint, world)
    return blueprint


def describe(world: World, task: Task) -> dict[str, Any]:
    """A task as ``/_sandbox/tasks`` shows it."""
    now = world.now()
    return {
        "id": task.id,
        "provider": task.provider,
        "operation": task.operation,
        "caller_id": task.caller_id,
        "start_key": task.start_key,
        "stage": task.stage(now),
        "progress": round(task.progress(now), 3),
        "outcome": task.outcome,
        "detail": task.detail,
        "created_at": _instant(task.created_at),
        "done_at": None if task.done_at is None else _instant(task.done_at),
        "queries": task.queries,
        "callback_url": task.callback_url,
        "faults": task.directives.names(),
        "input": task.input,
    }


def _add_reads(blueprint: Blueprint, world: World) -> None:
    @blueprint.get("/")
    def index() -> Response:
        base = base_url(world)
        return jsonify(
            service="provider sandbox",
            python=platform.python_version(),
            providers={name: f"{base}/{name}" for name in provider_modules()},
            links={name: {"url": f"{base}/_sandbox/{name}", "does": text} for name, text in _LINKS.items()},
            magic_tokens={f"[sandbox:{name}]": text for name, text in TOKENS.items()},
            time_scale=world.settings.time_scale,
        )

    @blueprint.get("/calls")
    def calls() -> Response:
        with world.lock:
            found = [
                {**call, "at": _instant(call["at"])}
                for call in world.calls
                if request.args.get("provider") in (None, call["provider"])
                and request.args.get("operation") in (None, call["operation"])
            ]
        paces = {name: {"limit": p.limit, "max_per_second": p.most()} for name, p in world.paces.items()}
        return jsonify(total=len(found), rates=paces, data=_last(found, request.args))

    @blueprint.get("/tasks")
    def tasks() -> Response:
        found = world.tasks(request.args.get("provider"))
        return jsonify(total=len(found), data=[describe(world, task) for task in _last(found, request.args)])

    @blueprint.get("/tasks/<path:task_id>")
    def one_task(task_id: str) -> Response | tuple[Response, int]:
        task = _find(world, task_id)
        return jsonify(describe(world, task)) if task else (jsonify(error="no such task"), 404)

    @blueprint.get("/starts")
    def starts() -> Response:
        by_key = world.starts()
        key = request.args.get("key")
        if key is not None:
            ids = by_key.get(key, [])
            return jsonify(key=key, starts=len(ids), task_ids=ids)
        counts = {name: len(ids) for name, ids in by_key.items()}
        return jsonify(total=sum(counts.values()), by_key=counts)

    @blueprint.get("/callbacks")
    def callbacks() -> Response:
        wanted = request.args.get("task_id")
        found = [
            {**attempt, "at": _instant(attempt["at"])}
            for attempt in world.callbacks.attempts()
            if wanted in (None, attempt["task_id"])
        ]
        return jsonify(total=len(found), data=_last(found, request.args))


def _add_knobs(blueprint: Blueprint, world: World) -> None:
    @blueprint.get("/faults")
    def faults() -> Response:
        return jsonify(data=[asdict(fault) for fault in world.faults.waiting()])

    @blueprint.post("/faults")
    def add_fault() -> tuple[Response, int]:
        fault = _read_fault(_body())
        world.faults.add(fault)
        return jsonify(asdict(fault)), 201

    @blueprint.post("/tasks/<path:task_id>/finish")
    def finish(task_id: str) -> Response | tuple[Response, int]:
        task, body = _find(world, task_id), _body()
        if task is None:
            return jsonify(error="no such task"), 404
        try:
            world.finish(task, str(body.get("outcome", "success")), str(body.get("detail", "")))
        except ValueError as error:
            raise BadRequest(str(error)) from error
        return jsonify(describe(world, task))

    @blueprint.get("/clock")
    def clock() -> Response:
        return jsonify(now=_instant(world.now()), shift=world.offset, signature_skew=world.skew)

    @blueprint.post("/clock")
    def set_clock() -> Response:
        body = _body()
        if not body.keys() & {"shift", "signature_skew"}:
            raise BadRequest("shift or signature_skew is required: seconds")
        shift = _number(body, "shift", -_FARTHEST, _FARTHEST)
        skew = _number(body, "signature_skew", -_FARTHEST, _FARTHEST)
        with world.lock:
            if abs(world.offset + shift) > _FARTHEST:
                raise BadRequest(f"all shifts together must be from {-_FARTHEST} to {_FARTHEST} seconds")
            if "signature_skew" in body:
                world.skew = skew
            world.shift(shift)
        return clock()

    @blueprint.post("/reset")
    def reset() -> tuple[str, int]:
        world.reset()
        return "", 204


def _add_stand_ins(blueprint: Blueprint, world: World) -> None:
    """What stands in for others: a subscriber that answers, and the store of files that results and uploads lie in."""

    @blueprint.route("/answer/<int:status>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def answer(status: int) -> tuple[str, int]:
        if not 200 <= status <= 599:
            raise BadRequest("the status must be from 200 to 599")
        return "", status

    @blueprint.get("/files/<name>")
    def file(name: str) -> Response | tuple[Response, int]:
        return _guarded(lambda: Response(*_typed(world.artefacts.open(name, request.args))))

    @blueprint.put("/uploads/<file_id>")
    def upload(file_id: str) -> Response | tuple[Response, int]:
        # An object store takes one proof of identity, not two: the provider's headers do not belong here.
        if "Authorization" in request.headers:
            return _denied("InvalidArgument: only one auth mechanism allowed", 400)

        def take() -> Response:
            world.artefacts.check_upload(file_id, request.args)
            with world.lock:
                if file_id not in world.uploads:
                    raise Refused("no such upload")
                world.uploads[file_id] = len(request.get_data())
            return Response(status=200)

        return _guarded(take)


def _guarded(make: Callable[[], Response]) -> Response | tuple[Response, int]:
    try:
        return make()
    except Refused as error:
        return _denied(f"AccessDenied: {error}", 403)


def _denied(text: str, status: int) -> tuple[Response, int]:
    code, _, message = text.partition(": ")
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, mimetype="application/xml"), status


def _typed(content: tuple[bytes, str]) -> tuple[bytes, int, dict[str, str]]:
    return content[0], 200, {"Content-Type": content[1], "Cache-Control": "no-store"}


def _read_fault(body: Mapping[str, Any]) -> QueuedFault:
    fault, value, times = body.get("fault"), body.get("value", ""), body.get("times", 1)
    if not isinstance(fault, str) or fault not in QUEUED:
        raise BadRequest(f"fault must be one of {', '.join(sorted(QUEUED))}")
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise BadRequest("times must be a whole number from 1")
    if fault == "http" and not (re.fullmatch("[0-9]{3}", str(value)) and 400 <= int(value) <= 599):
        raise BadRequest("value must be an HTTP status from 400 to 599")
    if fault == "slow":
        _number(body, "value", 0, _SLOWEST)
    if fault == "code" and not value:
        raise BadRequest("value must be the provider's code")
    provider, operation = body.get("provider"), body.get("operation")
    if not isinstance(operation, str | None):
        raise BadRequest("operation must be the name of one, or a pattern with *")
    if provider is not None and provider not in list(provider_modules()):
        raise BadRequest(f"provider must be one of {', '.join(provider_modules())}")
    return QueuedFault(str(fault), str(value), times, provider, operation)


def _body() -> dict[str, Any]:
    body = request.get_json(force=True, silent=True) if request.get_data() else {}
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _number(body: Mapping[str, Any], name: str, low: int, high: int) -> float:
    value = body.get(name, 0)
    # NaN is not between any two numbers, so this refuses it too.
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{name} must be a number of seconds from {low} to {high}")
    return float(value)


def _find(world: World, task_id: str) -> Task | None:
    """A task by its provider's id, or by the id that its caller chose; the newest if several have it."""
    for task in reversed(world.tasks()):
        if task_id in (task.id, task.caller_id):
            return task
    return None


def _last(found: list[_T], args: MultiDict[str, str]) -> list[_T]:
    limit = args.get("limit", 1000, type=int)
    return found[-limit:] if limit > 0 else []


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
