"""SuperApp as the sandbox plays it: three workflows, signed requests, polling only.

Written from the provider's pages of ``submitTask`` and ``queryTask``. Assumed: how a query is signed (the
option ``query_sign``), the clock window, HTTP 200 for errors, the answer for an unknown task, and throttling
by HTTP 429.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request

from ._calls import Face, accept, asked, base_url, provider_blueprint, sent_json
from ._fields import Field, Problem, check_fields, need, whole
from ._settings import Option
from ._world import Refusal, Start, Task, World

NAME = "superapp"
AUTH = "INTCNN_COMMON_AUTH_CHECK_ERROR"
NOT_FOUND = "INTCNN_COMMON_NOT_FOUND"
INVALID = "INTCNN_COMMON_PARAM_VALID_ERROR"
SYSTEM = "INTCNN_COMMON_SYS_ERROR"
FAILURES = (
    "AIGC_ERROR",
    "LW_REQUEST_ERROR",
    "LW_RESULT_ERROR",
    "TIMEOUT",
    "FC_ERROR",
    "UNKNOWN_ERROR",
    "SUBMIT_ERROR",
)

OPTIONS = (
    Option("access_key", "ak-demo", "the access key id"),
    Option("secret_key", "sk-demo", "the secret that requests are signed with"),
    Option(
        "query_sign",
        "default",
        "how a query is signed: as a submit with an empty body, without base64, or over the path with its query",
        ("default", "hex", "path_with_query"),
    ),
    Option("window", "900", "seconds that a request's timestamp may be off"),
    Option("size_min", "64", "smallest width and height of a picture"),
    Option("size_max", "4096", "largest width and height of a picture"),
    Option(
        "shape",
        "",
        "other forms that its pages name: an empty text as the ossPath of nothing",
        ("blank-path",),
        several=True,
    ),
)

_MESSAGES = {
    AUTH: "signature check failed",
    NOT_FOUND: "the operation does not exist",
    INVALID: "parameter check failed",
    SYSTEM: "unknown server error",
}


def sign(method: str, uri: str, body: bytes, timestamp: str, access_key: str, secret_key: str) -> str:
    """The 40 lower-case hexadecimal characters that a request is signed with, over the bytes as sent."""
    content = f"{method} {uri}\n".encode() + body + f".{timestamp}.{access_key}".encode()
    return hmac.new(secret_key.encode(), content, hashlib.sha1).hexdigest()


def blueprint(world: World) -> Blueprint:
    """SuperApp's whole API, for mounting under ``/superapp``."""
    throttled = Refusal(SYSTEM, "too many requests", http=429)
    routes = provider_blueprint(world, Face(NAME, _failure, throttled))
    desk = _Desk(world)
    routes.add_url_rule("/openapi/v1/aigc/submitTask", view_func=desk.submit, methods=["POST"])
    routes.add_url_rule("/openapi/v1/aigc/queryTask", view_func=desk.query, methods=["GET"])
    routes.add_url_rule("/<path:rest>", view_func=desk.nothing_here, methods=["GET", "POST", "PUT", "DELETE"])
    return routes


class _Desk:
    """The views, over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._access_key = world.settings.option(NAME, "access_key")
        self._secret_key = world.settings.option(NAME, "secret_key")
        self._query_sign = world.settings.option(NAME, "query_sign")
        self._shape = world.settings.chosen(NAME, "shape")
        self._window = float(world.settings.option(NAME, "window"))
        low, high = (float(world.settings.option(NAME, f"size_{end}")) for end in ("min", "max"))
        size = [Field(name, "integer", required=True, low=low, high=high) for name in ("width", "height")]
        text = Field("inputText", required=True, longest=500)
        self._fields: Mapping[str, Sequence[Field]] = {
            "IMAGE2VIDEO": (text, *need("inputImage", kind="link")),
            "TEXT2IMAGE": (text, *size),
            "CATVTON": (
                *need("modelImage", "garmentImage", kind="link"),
                Field("category", required=True, choices=("upper", "lower", "overall")),
                Field("seed", "integer", required=True, low=0, high=2147483647),
            ),
        }

    def submit(self) -> Response:
        self._authenticate(("x-acs-request-id",))
        body = sent_json()
        if not isinstance(body, dict):
            raise Refusal(INVALID, "the body must be a JSON object, Content-Type application/json")
        directives = self._world.admit(NAME, body)
        fields = (*need("workflow", "version"), Field("algoInput", "object", required=True))
        _raise_for(check_fields(body, fields))
        workflow, given = body["workflow"], body["algoInput"]
        if workflow not in self._fields:
            raise Refusal(INVALID, f"workflow must be one of {', '.join(self._fields)}")
        _raise_for(check_fields(given, self._fields[workflow]))
        if "fail" in directives and directives.text("fail", FAILURES[0]) not in FAILURES:
            raise Refusal(INVALID, f"[sandbox:fail=...] takes one of {', '.join(FAILURES)}")
        start = Start(
            provider=NAME,
            operation=workflow,
            input=body,
            directives=directives,
            base_url=base_url(self._world),
            id=str(uuid.uuid4()),
        )
        return _answer(success=True, model=accept(self._world, start).id)

    def query(self) -> Response:
        self._authenticate(("x-acs-request-id", "X-Request-Id"))
        task_id = request.args.get("taskId", "")
        task = self._world.find(NAME, task_id)
        if task is None:
            raise Refusal(INVALID, "taskId is required" if not task_id else "no such task")
        asked(self._world, task)
        model: dict[str, Any] = {"taskId": task.id, "status": self._status(task)}
        if model["status"] == "SUCCESS":
            model["ossPath"] = self._oss_path(task)
        return _answer(success=True, model=model)

    def nothing_here(self, rest: str) -> Response:
        raise Refusal(NOT_FOUND, f"no operation {request.method} /{rest}")

    def _status(self, task: Task) -> str:
        stage = task.stage(self._world.now())
        if stage != "done":
            known = {"queued": "WAITING", "running": "RUNNING"}[stage]
            return "ARCHIVING" if "unknown-status" in task.directives else known
        if task.outcome in {"fail", "blocked"}:
            return task.detail or ("LW_RESULT_ERROR" if task.outcome == "blocked" else FAILURES[0])
        return "SUCCESS"

    def _oss_path(self, task: Task) -> str:
        lifetime = -60.0 if "expired-url" in task.directives else 3600.0
        extension = "mp4" if task.operation == "IMAGE2VIDEO" else "png"
        link = self._world.artefacts.link(task.base_url, task.id, 0, extension, "oss", lifetime=lifetime)
        if task.outcome in {"empty", "partial"}:
            if "blank-path" in self._shape:
                return ""
            # As in the provider's own sample: an empty list, printed as the object's key.
            folder, _, query = link.partition("?")
            return f"{folder.rpartition('/')[0]}/%5B%5D?{query}"
        return link

    def _authenticate(self, request_ids: Sequence[str]) -> None:
        """Check the three headers, a request id, the clock and the signature over the bytes received."""
        access_key = request.headers.get("X-Access-Key", "")
        timestamp = request.headers.get("X-Request-Timestamp", "")
        milliseconds = whole(timestamp)
        given = request.headers.get("X-Request-Sign", "")
        if not any(request.headers.get(name) for name in request_ids):
            raise Refusal(AUTH, f"header {request_ids[0]} is required")
        if milliseconds is None:
            raise Refusal(AUTH, "X-Request-Timestamp must be milliseconds since the epoch")
        if abs(milliseconds / 1000 - self._world.signature_now()) > self._window:
            raise Refusal(AUTH, "X-Request-Timestamp is too far from now")
        expected = self._expected(timestamp)
        if not (_same(access_key, self._access_key) and _same(given, expected)):
            raise Refusal(AUTH)

    def _expected(self, timestamp: str) -> str:
        form = self._query_sign if request.method == "GET" else "default"
        uri = request.path.removeprefix(f"/{NAME}")
        if form == "path_with_query":
            uri += "?" + request.query_string.decode("latin-1")
        body = b"" if request.method == "GET" else request.get_data()
        plain = sign(request.method, uri, body, timestamp, self._access_key, self._secret_key)
        return plain if form == "hex" else base64.b64encode(plain.encode()).decode()


def _raise_for(problem: Problem | None) -> None:
    if problem is not None:
        raise Refusal(INVALID, problem.text)


def _answer(*, success: bool, model: object = None, code: str | None = None, text: str | None = None) -> Response:
    return jsonify(success=success, model=model, errorCode=code, errorMsg=text)


def _failure(error: Refusal) -> Response:
    code = error.code or SYSTEM
    return _answer(success=False, code=code, text=error.message or _MESSAGES.get(code, "error"))


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())
