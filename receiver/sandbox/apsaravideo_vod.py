"""ApsaraVideo VOD as the sandbox plays it: image-AI jobs, both generations of signing, signed callbacks.

Written from the provider's pages of SubmitAIImageJob, GetAIImageJobs, ListAIImageInfo, event notification and
signing. Assumed: the event's name and body, the words ``init`` and ``processing`` of an unfinished job, that
unknown jobs are absent from the list, and the codes so marked in the module on signing.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from flask import Blueprint, Response, jsonify, request

from ._callbacks import Notice
from ._calls import Face, accept, asked, base_url, provider_blueprint
from ._faults import Directives
from ._fields import is_web_address
from ._settings import Option, is_true
from ._vod_signing import VERSION, Gate, Received
from ._world import Refusal, Start, Task, World

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

NAME = "apsaravideo_vod"
SHORT_NAME = "vod"
MOST_IDS = 10
MOST_USER_DATA = 512
CALLBACK_TIMEOUT = 5.0
CALLBACK_DELAYS = (1.0, 1.0)

OPTIONS = (
    Option("access_key_id", "testAccessKeyId", "the AccessKey's id"),
    Option("access_key_secret", "testAccessKeySecret", "the AccessKey's secret"),
    Option("callback_key", "", "AuthKey of event notification, at most 32 characters; empty: callbacks unsigned"),
    Option("callback_url", "", "the account's own callback URL, for jobs that name none"),
    Option("events", "true", "whether event notification is on; off: no callback at all", ("true", "false")),
    Option("event_type", "AIImageComplete", "EventType of the callback"),
    Option("pending", "listed", "whether an unfinished job is in the list of jobs", ("listed", "absent")),
    Option("window", "900", "seconds that a request's timestamp may be off"),
    Option("retry_after", "", "milliseconds in x-acs-retry-after of a throttled call; empty: no such header"),
    Option(
        "shape",
        "",
        "other forms of the callback that its pages name: VideoId for MediaId, Data that is no text, a time with "
        "milliseconds",
        ("video-id", "plain-data", "milliseconds"),
        several=True,
    ),
)

_STATUS = {
    "InvalidAccessKeyId.NotFound": 404,
    "Forbidden": 403,
    "OperationDenied": 403,
    "OperationDenied.Suspended": 403,
    "InternalError": 500,
    "ServiceUnAvailable": 503,
    "ServiceUnavailable": 503,
}
"""HTTP status of the codes that are not answered with 400; throttling is."""


def takes_root(environ: WSGIEnvironment) -> bool:
    """Whether a request to ``/`` of the port is for VOD: its official clients take a host but no path."""
    return (
        "HTTP_X_ACS_ACTION" in environ
        or "Action" in parse_qs(environ.get("QUERY_STRING", ""))
        or environ["REQUEST_METHOD"] == "POST"
    )


def blueprint(world: World) -> Blueprint:
    """VOD's API, for mounting under ``/apsaravideo_vod``: every action at its one path."""
    throttled = Refusal("Throttling.User", "Request was denied due to user flow control.")
    wait = world.settings.option(NAME, "retry_after")

    def failure(error: Refusal) -> Response:
        answer = _failure(error)
        if wait and error.code.startswith("Throttling"):
            answer.headers["x-acs-retry-after"] = wait
        return answer

    routes = provider_blueprint(world, Face(NAME, failure, throttled, _action))
    desk = _Desk(world)
    routes.add_url_rule("/", view_func=desk.call, methods=["GET", "POST"], strict_slashes=False)
    return routes


class _Desk:
    """The actions, over one world."""

    def __init__(self, world: World) -> None:
        option = {o.name: world.settings.option(NAME, o.name) for o in OPTIONS}
        self._world = world
        self._option = option
        self._shape = world.settings.chosen(NAME, "shape")
        self._gate = Gate(option["access_key_id"], option["access_key_secret"], float(option["window"]))

    def call(self) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, headers, request.query_string.decode("latin-1"), request.get_data())
        self._gate.check(received, self._world.signature_now())
        given = dict(received.parameters())
        version = headers.get("x-acs-version") or given.get("Version")
        if version != VERSION:
            raise Refusal("InvalidVersion", "Specified parameter Version is not valid.")
        match _action():
            case "SubmitAIImageJob":
                return self._submit(given)
            case "GetAIImageJobs":
                return self._jobs(given)
            case "ListAIImageInfo":
                return self._images(given)
            case action:
                raise Refusal("UnsupportedOperation", f"The specified action {action} is not supported.")

    def _submit(self, given: Mapping[str, str]) -> Response:
        known = ("VideoId", "AITemplateId", "AIPipelineId", "UserData")
        job = {name: given[name] for name in known if given.get(name)}
        directives = self._world.admit(NAME, job)
        for name in ("VideoId", "AITemplateId"):
            _required(given, name)
        user_data = _read_user_data(job.get("UserData"))
        callback_url = self._callback_url(user_data)
        task = accept(self._world, self._start(job, user_data, callback_url, directives))
        return _answer({"JobId": task.id}, "SubmitAIImageJob")

    def _start(
        self,
        job: Mapping[str, str],
        user_data: Mapping[str, Any],
        callback_url: str | None,
        directives: Directives,
    ) -> Start:
        return Start(
            provider=NAME,
            operation="SubmitAIImageJob",
            input=job,
            directives=directives,
            base_url=base_url(self._world),
            callback_url=callback_url,
            data={"extend": user_data.get("Extend")},
            notice=self._notice if callback_url else None,
        )

    def _callback_url(self, user_data: Mapping[str, Any]) -> str | None:
        """Where to call: the job's own address before the account's; nowhere while notification is off."""
        if not is_true(self._option["events"]):
            return None
        wanted = _nested(user_data.get("MessageCallback"))
        if wanted is None or str(wanted.get("CallbackType", "http")).lower() != "http":
            return self._option["callback_url"] or None
        url = wanted.get("CallbackURL")
        if not is_web_address(url):
            raise Refusal("InvalidParameter", "UserData.MessageCallback.CallbackURL is not a valid URL.")
        return str(url)

    def _jobs(self, given: Mapping[str, str]) -> Response:
        ids = [job_id.strip() for job_id in _required(given, "JobIds").split(",") if job_id.strip()]
        if len(ids) > MOST_IDS:
            raise Refusal("InvalidParameter", f"JobIds may hold at most {MOST_IDS} ids.")
        found = [task for job_id in ids if (task := self._world.find(NAME, job_id)) is not None]
        jobs = []
        for task in found:
            asked(self._world, task)
            if self._option["pending"] == "listed" or task.stage(self._world.now()) == "done":
                jobs.append(self._describe(task))
        return _answer({"AIImageJobList": jobs}, "GetAIImageJobs", item="AIImageJob")

    def _images(self, given: Mapping[str, str]) -> Response:
        video = _required(given, "VideoId")
        images = []
        for task in self._world.tasks(NAME):
            if task.input["VideoId"] == video and task.stage(self._world.now()) == "done":
                images += [self._image(task, index, score) for index, score in self._scores(task)]
        return _answer({"AIImageInfoList": images}, "ListAIImageInfo", item="AIImageInfo")

    def _describe(self, task: Task) -> dict[str, Any]:
        stage = task.stage(self._world.now())
        code, message = self._verdict(task)
        status = {"queued": "init", "running": "processing", "done": "success"}[stage]
        if stage == "done" and code != "Success":
            status = "fail"
        if stage != "done" and "unknown-status" in task.directives:
            status = "archiving"
        done = stage == "done"
        return {
            "JobId": task.id,
            "VideoId": task.input["VideoId"],
            "TemplateId": task.input["AITemplateId"],
            "Status": status,
            "Code": code if done else "",
            "Message": message if done else "",
            "CreationTime": _instant(task.created_at),
            # JSON inside text, as the provider does it.
            "AIImageResult": json.dumps(self._result(task)) if done and status == "success" else "",
            "TemplateConfig": json.dumps({"Format": "png", "SetDefaultCover": "true"}),
            "UserData": task.input.get("UserData", ""),
        }

    def _verdict(self, task: Task) -> tuple[str, str]:
        if task.outcome == "fail":
            return task.detail or "InternalError", "the job failed"
        if task.outcome == "blocked":
            return "Forbidden", "the content was blocked"
        return "Success", "success"

    def _scores(self, task: Task) -> list[tuple[int, float]]:
        """The images of a job with their scores, the best first."""
        number = {"success": 3, "partial": 1}.get(task.outcome, 0)
        return [(index, round(0.98 - index * 0.11, 2)) for index in range(number)]

    def _result(self, task: Task) -> list[dict[str, Any]]:
        link = self._world.artefacts.link
        return [
            {"Score": score, "Url": link(task.base_url, task.id, index, "png", "private")}
            for index, score in self._scores(task)
        ]

    def _image(self, task: Task, index: int, score: float) -> dict[str, Any]:
        lifetime = -60.0 if "expired-url" in task.directives else 3600.0
        return {
            "AIImageInfoId": hashlib.sha256(f"{task.id}/{index}".encode()).hexdigest()[:32],
            "VideoId": task.input["VideoId"],
            "JobId": task.id,
            "FileURL": self._world.artefacts.link(task.base_url, task.id, index, "png", "key", lifetime=lifetime),
            "Format": "png",
            "Score": str(score),
            "Version": str(index + 1),
            "CreationTime": _instant(task.created_at),
        }

    def _notice(self, task: Task, forged: bool) -> Notice:
        """The event of a finished job; the headers sign the URL and the time, never the body."""
        code, message = self._verdict(task)
        ok = forged or code == "Success"
        result = self._result(task)
        if forged:
            result = [{"Score": 0.99, "Url": "http://attacker.example.test/evil.png"}]
        extend = task.data["extend"]
        data = result if ok else []
        body = {
            "EventTime": self._event_time(),
            "EventType": self._option["event_type"],
            "JobId": task.id,
            ("VideoId" if "video-id" in self._shape else "MediaId"): task.input["VideoId"],
            "Status": "success" if ok else "fail",
            "Code": "0" if ok else code,
            "Message": "OK" if ok else message,
            "Data": data if "plain-data" in self._shape else json.dumps(data),
            "Extend": extend if isinstance(extend, str) else json.dumps(extend) if extend is not None else "",
        }
        url = str(task.callback_url)
        return Notice(
            provider=NAME,
            task_id=task.id,
            url=url,
            body=json.dumps(body).encode(),
            timeout=CALLBACK_TIMEOUT,
            delays=() if forged else CALLBACK_DELAYS,
            accepted=lambda answer: answer.status == 200,
            headers=lambda: self._signed(url),
            kind="forged" if forged else "real",
        )

    def _event_time(self) -> str:
        now = self._world.now()
        if "milliseconds" not in self._shape:
            return _instant(now)
        return f"{_instant(now)[:-1]}:{int(now * 1000) % 1000:03}Z"  # a colon before them, as in the newer pages

    def _signed(self, url: str) -> dict[str, str]:
        key = self._option["callback_key"]
        if not key:
            return {}
        stamp = str(int(self._world.signature_now()))
        return {"X-VOD-TIMESTAMP": stamp, "X-VOD-SIGNATURE": callback_signature(url, stamp, key)}


def callback_signature(url: str, stamp: str, key: str) -> str:
    """``X-VOD-SIGNATURE``: md5 of URL, Unix seconds and key with bars between, in lower-case hexadecimal."""
    return hashlib.md5(f"{url}|{stamp}|{key}".encode()).hexdigest()


def _action() -> str:
    """The action of the current request, wherever its generation of signing puts it."""
    return request.headers.get("x-acs-action") or request.values.get("Action") or "-"


def _required(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "")
    if not value:
        raise Refusal("MissingParameter", f"The input parameter {name} that is mandatory is not supplied.")
    return value


def _read_user_data(text: str | None) -> Mapping[str, Any]:
    """UserData's members. Raises Refusal unless it is a short JSON object with a member that has a meaning."""
    if text is None:
        return {}
    if len(text.encode()) > MOST_USER_DATA:
        raise Refusal("InvalidParameter", f"UserData must have at most {MOST_USER_DATA} bytes.")
    members = _nested(text)
    if members is None:
        raise Refusal("InvalidParameter", "UserData must be a JSON object.")
    if not members.keys() & {"MessageCallback", "Extend"}:
        raise Refusal("InvalidParameter", "UserData must hold MessageCallback or Extend.")
    if "MessageCallback" in members and _nested(members["MessageCallback"]) is None:
        raise Refusal("InvalidParameter", "UserData.MessageCallback must be a JSON object.")
    return members


def _nested(value: object) -> Mapping[str, Any] | None:
    """An object that may have been sent as JSON text; None for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wants_xml() -> bool:
    """XML when asked for; by RPC signing also when nothing is asked for, which is its documented default."""
    default = "JSON" if "x-acs-action" in request.headers else "XML"
    return (request.values.get("Format") or default).upper() == "XML"


def _answer(content: Mapping[str, Any], action: str, *, item: str = "") -> Response:
    body = {"RequestId": str(uuid.uuid4()).upper(), **content}
    if not _wants_xml():
        return jsonify(body)
    return _xml(f"{action}Response", body, item)


def _failure(error: Refusal) -> Response:
    code = error.code or ("ServiceUnavailable" if error.http == 503 else "InternalError")
    body = {
        "RequestId": str(uuid.uuid4()).upper(),
        "HostId": request.host,
        "Code": code,
        "Message": error.message or code,
    }
    answer = _xml("Error", body, "") if _wants_xml() else jsonify(body)
    answer.status_code = _STATUS.get(code, 400)
    return answer


def _xml(root: str, body: Mapping[str, Any], item: str) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{root}>{_elements(body, item)}</{root}>'
    return Response(text, mimetype="text/xml")


def _elements(body: Mapping[str, Any], item: str) -> str:
    parts = []
    for name, value in body.items():
        if isinstance(value, list):
            inner = "".join(f"<{item}>{_elements(entry, '')}</{item}>" for entry in value)
        else:
            inner = escape(str(value))
        parts.append(f"<{name}>{inner}</{name}>")
    return "".join(parts)
