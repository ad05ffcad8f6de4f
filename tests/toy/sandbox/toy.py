"""Toy as the sandbox plays it.

The wire: calls carry X-Toy-Key and X-Toy-Sign, the lower-case hex HMAC-SHA256 of the body (POST) or of path and
query (GET) under the account's secret. ``POST /v1/jobs {prompt, callback?}`` → ``{id}``. ``GET /v1/jobs?ids=a,b``,
two at most → ``{jobs: [{id, state, progress?, picture?, reason?}]}``. States: waiting, drawing, done, broken.
Refusals are ``{code}`` with HTTP 400, 401, 402 or 503 (busy). A callback is a POST of the job, signed like a body;
HTTP 200 ends it, else it comes again after 1, 2 and 4 seconds.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request

from ._callbacks import Answer, Notice
from ._calls import Face, accept, asked, base_url, provider_blueprint
from ._settings import Option
from ._world import Refusal, Start, Task, World

NAME = "toy"
OPTIONS = (
    Option("key", "toy-key-0001", "names the account"),
    Option("secret", "toy-secret-never-shown", "signs calls and notices"),
)
_STATES = {"queued": "waiting", "running": "drawing", "done": "done"}


def blueprint(world: World) -> Blueprint:
    """The whole API."""
    routes = provider_blueprint(world, Face(NAME, _failure, Refusal("busy", http=503)))
    key, secret = (world.settings.option(NAME, name) for name in ("key", "secret"))

    def sign(message: bytes) -> str:
        return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()

    def authenticate(message: bytes) -> None:
        given = request.headers.get("X-Toy-Key", ""), request.headers.get("X-Toy-Sign", "")
        if not hmac.compare_digest("\n".join(given).encode(), f"{key}\n{sign(message)}".encode()):
            raise Refusal("bad_signature", http=401)

    def notice(task: Task, forged: bool) -> Notice | None:
        if task.callback_url is None or forged:
            return None
        body = json.dumps(_job(world, task)).encode()
        headers = {"X-Toy-Sign": sign(body)}
        return Notice(NAME, task.id, task.callback_url, body, 5.0, (1.0, 2.0, 4.0), _accepted, lambda: headers)

    @routes.post("/v1/jobs")
    def submit() -> Response:
        authenticate(request.get_data())
        body = request.get_json(silent=True)
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
            raise Refusal("bad_prompt", http=400)
        directives = world.admit(NAME, body)
        start = Start(
            provider=NAME, operation="draw", input=body, directives=directives, base_url=base_url(world),
            callback_url=body.get("callback"), notice=notice,
        )  # fmt: skip
        return jsonify(id=accept(world, start).id)

    @routes.get("/v1/jobs")
    def query() -> Response:
        authenticate(request.full_path.removeprefix(f"/{NAME}").encode())
        found = [world.find(NAME, job_id) for job_id in request.args.get("ids", "").split(",")[:2]]
        tasks = [task for task in found if task is not None]
        for task in tasks:
            asked(world, task)
        return jsonify(jobs=[_job(world, task) for task in tasks])

    return routes


def _job(world: World, task: Task) -> Mapping[str, Any]:
    state = _STATES[task.stage(world.now())]
    if state != "done":
        return {"id": task.id, "state": state, "progress": task.progress(world.now())}
    if task.outcome != "success":
        return {"id": task.id, "state": "broken", "reason": "out of paint"}
    return {"id": task.id, "state": state, "picture": world.artefacts.link(task.base_url, task.id, 0, "png", "s3")}


def _accepted(answer: Answer) -> bool:
    return answer.status == 200


def _failure(error: Refusal) -> Response:
    answer = jsonify(code=error.code or "broken_pipe")
    answer.status_code = error.http or 400
    return answer
