"""TopView as the sandbox plays it: string codes in HTTP 200, fourteen kinds of task, notices, uploads.

Written from the provider's pages of each operation, of the notice address and of uploads. Assumed: the HTTP
status of errors, the retry table of notices, that a notice's ``result`` is the query's inner object, that an
export and a script update have task ids of their own, and the paths so marked in the table.
"""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request

from ._callbacks import Answer, Notice
from ._calls import Face, accept, asked, base_url, provider_blueprint, sent_json
from ._faults import Directives
from ._fields import Problem, check_fields, is_absent, is_web_address, is_yes, whole
from ._settings import Option, is_true
from ._topview_results import View, m2v_script
from ._topview_table import FLOWS, MESSAGES, Flow
from ._world import Refusal, Start, Task, World

NAME = "topview"
FORMATS = ("png", "jpg", "jpeg", "bmp", "webp", "mp3", "wav", "m4a", "mp4", "avi", "mov")
NOTICE_TIMEOUT = 10.0
NOTICE_DELAYS = (30.0, 120.0, 600.0)

OPTIONS = (
    Option("uid", "demo-uid", "the account's uid"),
    Option("api_key", "sk-demo", "the account's API key"),
    Option("one_at_a_time", "false", "answer 4007 while another task is unfinished", ("true", "false")),
    Option("strict_references", "false", "answer 4004 to files, tasks and keys not made here", ("true", "false")),
    Option(
        "shape",
        "",
        "other forms that its pages and clients name: a notice's result as JSON text or as the whole envelope, codes "
        "as numbers, the word failed",
        ("text-result", "envelope", "number-code", "failed"),
        several=True,
    ),
    Option("credit", "0", "tasks that the account can pay for, then 4100; 0: no end"),
)


def blueprint(world: World) -> Blueprint:
    """TopView's whole API, for mounting under ``/topview``."""
    throttled = Refusal("5003")
    desk = _Desk(world)
    routes = provider_blueprint(world, Face(NAME, desk.failure, throttled))
    routes.before_request(desk.authenticate)
    for flow in FLOWS:
        _route(routes, flow.submit, "POST", lambda flow=flow: desk.submit(flow))
    for path in sorted({flow.query for flow in FLOWS}):
        _route(routes, path, "GET", lambda path=path: desk.query(path))
    _route(routes, "/notice/notice_url/check", "POST", desk.check_notice_url)
    _route(routes, "/v1/upload/credential", "GET", desk.upload_credential)
    _route(routes, "/v1/upload/check", "GET", desk.upload_check)
    for path, result in _READS.items():
        _route(routes, path, "GET", lambda result=result: desk.success(result))
    _route(routes, "/user/credit/detail", "GET", desk.credit_detail)
    _route(routes, "/<path:rest>", "*", desk.nothing_here)
    return routes


_READS: Mapping[str, Any] = {
    "/user/credit/logs": {"total": 0, "data": []},
    "/v1/voice/query": {
        "total": 1,
        "data": [{"voiceId": "voice-demo", "voiceName": "Demo", "language": "en", "gender": "female"}],
    },
    "/v1/caption/list": [{"captionId": "caption-demo", "thumbnail": None}],
    "/v1/product_avatar/category/list": [{"categoryId": 1, "categoryName": "Demo"}],
    "/v1/product_avatar/public_avatar/query": {
        "total": 1,
        "data": [{"avatarId": "avatar-demo", "avatarImagePath": None}],
    },
    "/v1/product_anyShoot/template/list": {"total": 1, "data": [{"templateId": "template-demo"}]},
}
"""Reads whose answers are fixed; the fields' names are assumed."""


class _Desk:
    """The views, over one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._uid = world.settings.option(NAME, "uid")
        self._key = world.settings.option(NAME, "api_key")
        self._one_at_a_time = is_true(world.settings.option(NAME, "one_at_a_time"))
        self._strict_references = is_true(world.settings.option(NAME, "strict_references"))
        self._shape = world.settings.chosen(NAME, "shape")
        self._fail = "failed" if "failed" in self._shape else "fail"
        self._credit = int(world.settings.option(NAME, "credit"))

    def authenticate(self) -> None:
        uid = request.headers.get("Topview-Uid", "")
        bearer = request.headers.get("Authorization", "")
        if not (_same(uid, self._uid) and _same(bearer, f"Bearer {self._key}")):
            raise Refusal("401")

    def success(self, result: object) -> Response:
        return jsonify(self._envelope("200", MESSAGES["200"], result))

    def failure(self, error: Refusal) -> Response:
        code = error.code or "5000"
        return jsonify(self._envelope(code, error.message or MESSAGES.get(code, "Error"), None))

    def _envelope(self, code: str, message: str, result: object) -> dict[str, Any]:
        number = "number-code" in self._shape and code.isdigit()
        return {"code": int(code) if number else code, "message": message, "result": result}

    # Tasks

    def submit(self, flow: Flow) -> Response:
        body = _json_object()
        directives = self._world.admit(NAME, body)
        _raise_for(check_fields(body, flow.fields) or flow.rule(body))
        self._check_face(body)
        if flow.biz_type == "M2V_PREVIEW" and not is_yes(body.get("preview")):
            flow = next(other for other in FLOWS if other.biz_type == "M2V_EXPORT")
        task = accept(self._world, self._start(flow, body, directives))
        result = {
            "taskId": task.id,
            # The acceptance, not the task's state: the provider answers so at once.
            "status": "success",
            "errorMsg": None,
            "noticeUuid": task.data["uuid"],
        }
        return self.success(result)

    def query(self, path: str) -> Response:
        task_id = request.args.get("taskId", "")
        if not task_id:
            raise Refusal("4003")
        task = self._world.find(NAME, task_id)
        if task is None or not _answers(path, task):
            raise Refusal("4004")
        asked(self._world, task)
        cdn = is_yes(request.args.get("needCloudFrontUrl"))
        return self.success(self._result(task, path=path, cdn=cdn))

    def _start(self, flow: Flow, body: Mapping[str, Any], directives: Directives) -> Start:
        notice_url, script = body.get("noticeUrl") or None, whole(str(body.get("scriptId", "")))
        data = {
            "flow": flow,
            "uuid": uuid.uuid4().hex if notice_url else None,
            "script_id": 1 if script is None else script,
        }
        return Start(
            provider=NAME,
            operation=flow.submit.strip("/"),
            input=body,
            directives=directives,
            base_url=base_url(self._world),
            guard=lambda: self._check_account(body),
            callback_url=notice_url,
            data=data,
            notice=self._notice if notice_url else None,
        )

    def _check_account(self, body: Mapping[str, Any]) -> None:
        now = self._world.now()
        if self._one_at_a_time and any(task.stage(now) != "done" for task in self._world.tasks(NAME)):
            raise Refusal("4007")
        if self._credit and self._left() < 1:
            raise Refusal("4100")
        if self._strict_references:
            self._check_references(body)

    def _check_references(self, body: Mapping[str, Any]) -> None:
        files = [v for name, v in body.items() if name.endswith("FileId") and not is_absent(v)]
        for name in ("fileIds", "referenceImageFileIds"):
            files += body.get(name) or []
        tasks = [*([body["taskId"]] if "taskId" in body else []), *_pictured(body)]
        if any(self._world.uploads.get(file) is None for file in files):
            raise Refusal("4004")
        if any(self._world.find(NAME, task) is None for task in tasks):
            raise Refusal("4004")

    def _check_face(self, body: Mapping[str, Any]) -> None:
        """A picture without a face is animated by one mode only."""
        pictures = [self._world.find(NAME, task) for task in _pictured(body)]
        faceless = any(picture and "no-face" in picture.directives for picture in pictures)
        if faceless and body.get("mode") != "avatar2":
            raise Refusal("4000", "the picture shows no face: mode must be avatar2")

    def _result(self, task: Task, *, path: str = "", cdn: bool = False) -> dict[str, Any]:
        """What a query shows: the state, what went wrong, and the operation's own fields."""
        flow: Flow = task.data["flow"]
        stage = task.stage(self._world.now())
        failed = stage == "done" and task.outcome in {"fail", "blocked"}
        lifetime = -1.0 if "expired-url" in task.directives else 86400.0

        def link(extension: str, index: int) -> str:
            style = "amz" if not cdn else "open" if lifetime > 0 else "private"
            return self._world.artefacts.link(task.base_url, task.id, index, extension, style, lifetime=lifetime)

        shape = m2v_script if path.endswith("/script/list") else flow.shape
        view = View(task, stage == "done", task.outcome, link)
        state = {"queued": "init", "running": "running", "done": self._fail if failed else "success"}[stage]
        if "unknown-status" in task.directives and stage != "done":
            state = "archiving"
        code = ("6001" if task.outcome == "blocked" else task.detail or "5000") if failed else None
        return {
            "taskId": task.id,
            flow.status: state,
            "errorMsg": MESSAGES.get(code, code) if code else None,
            **({"errorCode": code} if code else {}),
            "costCredit": 1.0 if view.ok else 0.0,
            **shape(view),
        }

    # Notices

    def _notice(self, task: Task, forged: bool) -> Notice:
        """The call of ``noticeUrl``: the query's result under the submit's uuid."""
        result = self._result(task)
        flow: Flow = task.data["flow"]
        failed = result[flow.status] == self._fail and not forged
        if forged:
            attack = "https://attacker.example.test/evil"
            done = View(task, True, "success", lambda extension, index: f"{attack}-{index}.{extension}")
            result = {**result, flow.status: "success", "errorMsg": None, **flow.shape(done)}
        shown: Any = result
        if "envelope" in self._shape:
            shown = self._envelope("200", MESSAGES["200"], shown)
        if "text-result" in self._shape:
            shown = json.dumps(shown)
        body = {
            "uuid": task.data["uuid"],
            "bizType": flow.biz_type,
            "taskId": task.id,
            "status": "fail" if failed else "success",
            "errorMsg": result["errorMsg"],
            "result": shown,
        }
        return Notice(
            provider=NAME,
            task_id=task.id,
            url=str(task.callback_url),
            body=json.dumps(body).encode(),
            timeout=NOTICE_TIMEOUT,
            delays=() if forged else NOTICE_DELAYS,
            accepted=lambda answer: _takes(answer, task.data["uuid"]),
            headers=lambda: {"Topview-Uid": self._uid},
            kind="forged" if forged else "real",
        )

    def check_notice_url(self) -> Response:
        body = _json_object()
        self._world.admit(NAME, body)
        if is_absent(body.get("noticeUrl")):
            raise Refusal("4003")
        if not is_web_address(body["noticeUrl"]):
            raise Refusal("4000")
        return self.success(True)

    # Uploads and the account

    def upload_credential(self) -> Response:
        extension = request.args.get("format", "")
        if not extension:
            raise Refusal("4003")
        if extension.lower() not in FORMATS:
            raise Refusal("4000", f"format must be one of {', '.join(FORMATS)}")
        file_id = uuid.uuid4().hex
        with self._world.lock:
            self._world.uploads[file_id] = None
            while len(self._world.uploads) > self._world.settings.max_tasks:
                self._world.uploads.popitem(last=False)
        link = self._world.artefacts.upload_link(base_url(self._world), file_id)
        return self.success({"fileId": file_id, "uploadUrl": link, "fileName": f"{file_id}.{extension.lower()}"})

    def upload_check(self) -> Response:
        file_id = request.args.get("fileId", "")
        if not file_id:
            raise Refusal("4003")
        with self._world.lock:
            if file_id not in self._world.uploads:
                raise Refusal("4004")
            return self.success(self._world.uploads[file_id] is not None)

    def credit_detail(self) -> Response:
        return self.success({"remainCredit": self._left() if self._credit else 100000, "expiredTime": None})

    def nothing_here(self, rest: str) -> Response:
        raise Refusal("4004", f"no operation {request.method} /{rest}", http=404)

    def _left(self) -> int:
        """Tasks that can still be paid for; failed ones cost nothing."""
        now = self._world.now()
        failed = {"fail", "blocked"}
        paid = sum(1 for t in self._world.tasks(NAME) if not (t.stage(now) == "done" and t.outcome in failed))
        return self._credit - paid


def _answers(path: str, task: Task) -> bool:
    """Whether a query path knows a task: its own operation's, and scripts for every marketing video."""
    flow: Flow = task.data["flow"]
    return flow.query == path or (path.endswith("/script/list") and flow.query.startswith("/v1/m2v/"))


def _pictured(body: Mapping[str, Any]) -> list[str]:
    """Ids of the tasks whose pictures a video is to be made of."""
    ids = (("productReplaceResultKey", "/"), ("replaceProductTaskImageId", "-"))
    return [str(body[name]).rpartition(separator)[0] for name, separator in ids if name in body]


def _takes(answer: Answer, notice_uuid: str) -> bool:
    """Whether an answer to a notice counts: code "200", the same uuid, and success."""
    try:
        body = json.loads(answer.body)
        result = body["result"]
        return (
            answer.status == 200
            and body["code"] == "200"
            and result["uuid"] == notice_uuid
            and result["result"] == "success"
        )
    except (ValueError, KeyError, TypeError):
        return False


def _json_object() -> dict[str, Any]:
    body = sent_json()
    if not isinstance(body, dict):
        raise Refusal("4001")
    return body


def _raise_for(problem: Problem | None) -> None:
    if problem is not None:
        code = "4003" if problem.absent else "4000"
        raise Refusal(code, f"{MESSAGES[code]} ({problem.text})")


def _route(routes: Blueprint, path: str, method: str, view: Any) -> None:
    methods = ["GET", "POST", "PUT", "DELETE"] if method == "*" else [method]
    routes.add_url_rule(path, endpoint=f"{method} {path}".replace(".", "_"), view_func=view, methods=methods)


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())
