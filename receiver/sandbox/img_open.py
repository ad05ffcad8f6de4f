"""Img Open as the sandbox plays it: drawing, image tools with callbacks, training, lists.

Written from the provider's pages of each operation. Its pages contradict each other about what the number of a
status means, so both readings can be chosen. Assumed: the answer to wrong keys, the code for a duplicate id,
the number and shape of a failure, a callback's method and body, the result of training, UTC+8 for the month.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from flask import Blueprint, Response, jsonify, request

from ._artefacts import MOST_RESULTS
from ._callbacks import Answer, Notice
from ._calls import Face, accept, asked, base_url, provider_blueprint, sent_json
from ._faults import Directives
from ._fields import Field, Problem, check_fields, is_absent, need, whole
from ._img_open_fields import ANY_TOOL, LIST_FIELDS, LISTS, STABLE_DIFFUSION, TOOLS, TRAINING, Tool
from ._settings import Option
from ._world import Refusal, Start, Task, World

NAME = "img_open"
PREFIX = "/AIGCImgOpenServ/saas"
CALLBACK_TIMEOUT = 5.0
LADDER = (3.0, 5.0, 15.0, 30.0, 60.0, 600.0, 3600.0)
MOST_RETRIES = 10

_READINGS = ("observed", "table")
OPTIONS = (
    Option("access_key_id", "demo-id", "the access key's id"),
    Option("access_key_secret", "demo-secret", "the access key's secret"),
    Option("status_v1", "observed", "numbers of queryTaskInfo V1.0: as in the samples, or as in its table", _READINGS),
    Option(
        "status_v2",
        "observed",
        "numbers of queryTaskInfo V2.0: as clients see them, the same with 3 while it runs, or as in V1.0's table",
        (*_READINGS, "three"),
    ),
    Option("month_zone", "8", "hours east of UTC in which V2.0's calendar month begins"),
    Option("more_tools", "", "tool codes, with commas between, that are taken with any fields"),
    Option("training_callback_url", "", "where results of training are reported; empty: nowhere"),
)

# How a query's number is to be read: queued, running, success, failure.
_TABLES: Mapping[tuple[str, str], tuple[int, int, int, int]] = {
    ("v1", "observed"): (0, 0, 2, 2),
    ("v1", "table"): (0, 0, 1, 2),
    ("v2", "observed"): (0, 1, 2, 2),
    ("v2", "three"): (0, 3, 2, 2),
    ("v2", "table"): (0, 0, 1, 2),
    ("tool", "observed"): (0, 0, 1, 2),
}
_UNDOCUMENTED = 77
_MESSAGES = {"400": "failure", "401": "unauthorized", "402": "task does not exist", "429": "too many requests"}


def blueprint(world: World) -> Blueprint:
    """Img Open's whole API, for mounting under ``/img_open``."""
    throttled = Refusal("429", http=429)
    routes = provider_blueprint(world, Face(NAME, _failure, throttled, _operation))
    desk = _Desk(world)
    routes.before_request(desk.authenticate)
    for path, fields in STABLE_DIFFUSION.items():
        _route(routes, path, lambda path=path, fields=fields: desk.draw(path, fields))
    for name in LISTS:
        _route(routes, f"sd/v2/{name}", lambda name=name: desk.list_models(name))
    _route(routes, "sd/queryTaskInfo", lambda: desk.drawing("v1"))
    _route(routes, "sd/v2/queryTaskInfo", lambda: desk.drawing("v2"))
    for code, tool in desk.tools.items():
        _route(routes, f"tool/{code}", lambda code=code, tool=tool: desk.use_tool(code, tool))
        _route(routes, f"tool/{code}/queryTask", lambda code=code: desk.tool_task(code))
    _route(routes, "modelTraining/submitTraining/Job", desk.train)
    routes.add_url_rule("/<path:rest>", view_func=desk.nothing_here, methods=["GET", "POST", "PUT", "DELETE"])
    return routes


class _Desk:
    """The views, over one world."""

    def __init__(self, world: World) -> None:
        option = {o.name: world.settings.option(NAME, o.name) for o in OPTIONS}
        more = {code.strip(): ANY_TOOL for code in option["more_tools"].split(",") if code.strip()}
        self.tools: Mapping[str, Tool] = {**TOOLS, **more}
        self._world = world
        self._option = option
        self._zone = timezone(timedelta(hours=float(option["month_zone"])))

    def authenticate(self) -> None:
        for header, name in (
            ("X-Request-req-accessKeyId", "access_key_id"),
            ("X-Request-req-accessKeySecret", "access_key_secret"),
        ):
            given = request.headers.get(header, "")
            if not hmac.compare_digest(given.encode(), self._option[name].encode()):
                raise Refusal("401")

    # Drawing

    def draw(self, path: str, fields: Sequence[Field]) -> Response:
        body = _json_object()
        directives = self._world.admit(NAME, body)
        _raise_for(check_fields(body, fields))
        scripts = body.get("alwayson_scripts") or {}
        chosen = scripts.get("id_task")
        if not (is_absent(chosen) or isinstance(chosen, str)):
            raise Refusal("400", "alwayson_scripts.id_task must be a string")
        caller_id = chosen or uuid.uuid4().hex
        self._start(path, body, directives, caller_id=caller_id, scope="sd", task_id=caller_id)
        return _success({"task_id": caller_id})

    def drawing(self, version: str) -> Response:
        task = self._wanted("sd")
        # V1.0 also knows what is archived; V2.0 only the current month.
        if version == "v2" and self._month(task.created_at) != self._month(self._world.now()):
            raise Refusal("402")
        asked(self._world, task)
        now = self._world.now()
        status = self._number(task, version, self._option[f"status_{version}"])
        done = task.stage(now) == "done"
        data: dict[str, Any] = {
            ("task_id" if version == "v1" else "id_task"): task.id,
            "status": status,
            "desc": ("success" if task.outcome != "fail" else task.detail or "failure") if done else "",
            "differentialImageRspList": self._images(task) if done else [],
        }
        if version == "v2":
            preview = {"progress": round(task.progress(now), 2), "previewImageUrl": self._link(task, 99)}
            data["temporaryImageDto"] = None if done else preview
        return _success(data)

    def _images(self, task: Task) -> list[dict[str, Any]]:
        if task.outcome in {"fail", "empty"}:
            return []
        given = task.input
        number = min(int(given["batch_size"]) * int(given.get("n_iter") or 1), MOST_RESULTS)
        return [self._picture(task, index) for index in range(number)]

    def _picture(self, task: Task, index: int) -> dict[str, Any]:
        """One entry; the first is held back by moderation or not drawn where a token asks for it."""
        blocked = task.outcome == "blocked" and index == 0
        missing = task.outcome == "partial" and index == 0
        dice = int.from_bytes(hashlib.sha256(f"{task.id}/{index}".encode()).digest()[:4], "big")
        seed = whole(str(task.input.get("seed", "-1")))
        return {
            "img_audit": [{"confidence": 99.1 if blocked else 0.0, "label": "porn" if blocked else "normal"}],
            "img_audit_status": not blocked,
            "image_status": 0 if missing else 1,
            "image_url": "" if blocked or missing else self._link(task, index),
            "seed": dice if seed is None else seed + index,
        }

    def list_models(self, name: str) -> Response:
        body = _json_object()
        _raise_for(check_fields(body, LIST_FIELDS))
        kind = name.removeprefix("query").removesuffix("List")
        rows = [
            {
                "id": number,
                "sdModelCheckpoint": f"sandbox-{kind.lower()}-{number}.safetensors",
                "sdModelName": f"Sandbox {kind} {number}",
                "modelBaseModel": "SD 1.5",
                "modelHash": hashlib.sha256(f"{name}{number}".encode()).hexdigest()[:10],
                "modelType": kind,
                "modelVersion": "1",
                "modelStatus": 1,
                "modelUploadStatus": 1,
                "modelImgUrl": None,
                **({"sdLoraFileSimplifyName": f"sandbox_lora_{number}"} if kind == "Lora" else {}),
            }
            for number in range(1, 13)
        ]
        for field in ("sdModelCheckpoint", "sdModelName"):
            rows = [row for row in rows if not body.get(field) or body[field] in str(row[field])]
        size, page = body["pageSize"], body["pageNum"]
        shown = rows[(page - 1) * size : page * size]
        return _success({"rows": shown, "total": len(rows), "pageSize": size, "pageNum": page})

    # Tools

    def use_tool(self, code: str, tool: Tool) -> Response:
        body = _json_object()
        directives = self._world.admit(NAME, body)
        _raise_for(check_fields(body, (*need("businessTaskId"), *tool.fields)))
        url = body.get("callbackUrl") or None
        task = self._start(
            f"tool/{code}",
            body,
            directives,
            caller_id=body["businessTaskId"],
            scope="tool",
            callback_url=url if tool.calls_back else None,
            data={"code": code, "tool": tool},
        )
        ids = {"taskId": task.id, "businessTaskId": task.caller_id}
        return _success({**ids, "status": 0})

    def tool_task(self, code: str) -> Response:
        task = self._wanted("tool")
        if task.data["code"] != code:
            raise Refusal("402")
        asked(self._world, task)
        return _success(self._tool_data(task))

    def _tool_data(self, task: Task) -> dict[str, Any]:
        data: dict[str, Any] = {
            "taskId": task.id,
            "businessTaskId": task.caller_id,
            "status": self._number(task, "tool", "observed"),
        }
        if task.stage(self._world.now()) != "done" or task.outcome == "empty":
            return data
        if task.outcome in {"fail", "blocked"}:
            return {**data, "desc": task.detail or ("content blocked" if task.outcome == "blocked" else "failure")}
        return {**data, **self._tool_result(task)}

    def _tool_result(self, task: Task) -> dict[str, Any]:
        field = task.data["tool"].result
        value: object = self._link(task, 0)
        if field == "caption":
            value = "a sun over a sky, drawn by the sandbox"
        elif field == "faces":
            value = [{"x": 120, "y": 60, "width": 80, "height": 80, "confidence": 0.98}]
        return {field: value}

    # Training

    def train(self) -> Response:
        body = _json_object()
        directives = self._world.admit(NAME, body)
        _raise_for(check_fields(body, TRAINING))
        task = self._start(
            "modelTraining",
            body,
            directives,
            caller_id=body["taskId"],
            scope="training",
            callback_url=self._option["training_callback_url"] or None,
        )
        return _success({"taskId": task.caller_id})

    # What they share

    def _start(
        self,
        operation: str,
        body: Mapping[str, Any],
        directives: Directives,
        *,
        caller_id: str,
        scope: str,
        task_id: str | None = None,
        callback_url: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Task:
        start = Start(
            provider=NAME,
            operation=operation,
            input=body,
            directives=directives,
            base_url=base_url(self._world),
            id=task_id or uuid.uuid4().hex,
            caller_id=caller_id,
            scope=scope,
            duplicate=Refusal("400", f"task id {caller_id} exists already"),
            callback_url=callback_url,
            data=data or {},
            notice=self._notice if callback_url else None,
        )
        return accept(self._world, start)

    def _wanted(self, scope: str) -> Task:
        """The task that the body asks for. Raises Refusal 402 when there is none."""
        body = _json_object()
        _raise_for(check_fields(body, need("businessTaskId")))
        task = self._world.by_caller(NAME, scope, body["businessTaskId"])
        if task is None:
            raise Refusal("402")
        return task

    def _number(self, task: Task, operation: str, reading: str) -> int:
        queued, running, success, failure = _TABLES[operation, reading]
        stage = task.stage(self._world.now())
        if stage != "done":
            known = queued if stage == "queued" else running
            return _UNDOCUMENTED if "unknown-status" in task.directives else known
        failed = task.outcome == "fail" or (task.outcome == "blocked" and operation == "tool")
        if not failed:
            return success
        asked_for = whole(task.detail)
        return failure if asked_for is None else asked_for

    def _link(self, task: Task, index: int) -> str:
        style = "private" if "expired-url" in task.directives else "open"
        return self._world.artefacts.link(task.base_url, task.id, index, "png", style)

    def _month(self, seconds: float) -> tuple[int, int]:
        day = datetime.fromtimestamp(seconds, UTC).astimezone(self._zone)
        return day.year, day.month

    def _notice(self, task: Task, forged: bool) -> Notice:
        """The call of ``callbackUrl``: the answer that the tool's query gives."""
        if task.operation == "modelTraining":
            data = {"taskId": task.caller_id, "status": 2 if task.outcome == "fail" else 1}
        else:
            data = self._tool_data(task)
        if forged:
            data = {**data, "status": 1, "outputImageUrl": "https://attacker.example.test/evil.png"}
        return Notice(
            provider=NAME,
            task_id=task.id,
            url=str(task.callback_url),
            body=json.dumps({"code": "200", "msg": "success", "data": data}).encode(),
            timeout=CALLBACK_TIMEOUT,
            delays=() if forged else (*LADDER, *([LADDER[-1]] * (MOST_RETRIES - len(LADDER)))),
            accepted=_takes,
            kind="forged" if forged else "real",
        )

    def nothing_here(self, rest: str) -> Response:
        raise Refusal("400", f"no operation {request.method} /{rest}", http=404)


def _takes(answer: Answer) -> bool:
    """Whether an answer to a callback counts: only its JSON ``code`` matters."""
    try:
        return str(json.loads(answer.body)["code"]) == "200"
    except (ValueError, KeyError, TypeError):
        return False


def _operation() -> str:
    return request.path.removeprefix(f"/{NAME}{PREFIX}/")


def _json_object() -> dict[str, Any]:
    body = sent_json()
    if not isinstance(body, dict):
        raise Refusal("400", "the body must be a JSON object, Content-Type application/json")
    return body


def _raise_for(problem: Problem | None) -> None:
    if problem is not None:
        raise Refusal("400", problem.text)


def _success(data: object) -> Response:
    return jsonify(code="200", msg="success", data=data)


def _failure(error: Refusal) -> Response:
    code = error.code or "500"
    return jsonify(code=code, msg=error.message or _MESSAGES.get(code, "failure"), data=None)


def _route(routes: Blueprint, path: str, view: Any) -> None:
    routes.add_url_rule(f"{PREFIX}/{path}", endpoint=path, view_func=view, methods=["POST"])
