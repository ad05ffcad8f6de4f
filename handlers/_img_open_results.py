"""What Img Open's answers mean: its status numbers, which images can be used, and what a tool made.

The provider's pages contradict each other about the numbers, so each kind of query has its own table
of rules, and an operator can replace each table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from handlers._reading import objects, text_of, unpacked, url_expiry, url_of
from handlers._records import (
    ErrorCode,
    JsonObject,
    Output,
    OutputKind,
    OutputStatus,
    RemoteStatus,
    TaskError,
    TaskUpdate,
)

# Fields of an answer that say something of the task, not what it made.
_NO = ("false", "0", "0.0")  # img_audit_status is documented as true or false, whatever type it comes in
_ABOUT_THE_TASK = frozenset(("taskId", "task_id", "businessTaskId", "id_task", "status", "desc", "code", "msg"))


class Rule(StrEnum):
    """What a status number means. ``success_if_usable``: success if an output is usable, else failure."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    SUCCESS_IF_USABLE = "success_if_usable"
    FAILED = "failed"


Rules = Mapping[str, Rule]


def status_rules(text: str) -> Rules:
    """A table like ``0=queued,1=running,2=success_if_usable``; ``*`` stands for every other number."""
    rules: dict[str, Rule] = {}
    for part in text.split(","):
        number, equals, word = (piece.strip() for piece in part.partition("="))
        if not number or not equals or word not in list(Rule):
            raise ValueError("must be like 0=queued,1=running,2=success,*=failed with the words " + ", ".join(Rule))
        rules[number] = Rule(word)
    return rules


def result_fields(text: str) -> Mapping[str, OutputKind]:
    """A table like ``outputImageUrl=image,caption=text``: in which fields a tool gives what."""
    kinds: dict[str, OutputKind] = {}
    for part in text.split(","):
        name, equals, kind = (piece.strip() for piece in part.partition("="))
        if not name or not equals or kind not in list(OutputKind):
            raise ValueError("must be like outputImageUrl=image,caption=text with the kinds " + ", ".join(OutputKind))
        kinds[name] = OutputKind(kind)
    return kinds


def data_of(envelope: JsonObject) -> JsonObject | None:
    """An envelope's ``data``: an object, also as JSON text or alone in a list (both assumed); None for all else."""
    data = unpacked(envelope.get("data"))
    if isinstance(data, list) and len(data) == 1:  # of several nobody knows which is ours
        data = unpacked(data[0])
    return data if isinstance(data, dict) else None


def task_update(data: JsonObject, rules: Rules, outputs: Sequence[Output], task_id: str, raw: str) -> TaskUpdate:
    """The state of a task from an answer's ``data``; ``desc`` is free text and never decides."""
    number = text_of(data.get("status"))
    rule = rules.get(number or "") or (rules.get("*") if number else None)
    status, error = _judge(rule, outputs)
    if error:
        error = TaskError(error.code, error.message, error.retryable, number, text_of(data.get("desc")))
    return TaskUpdate(
        status,
        raw,
        provider_task_id=task_id,
        progress=None if status.final else progress(data.get("temporaryImageDto")),
        outputs=tuple(outputs) if status.final else (),
        error=error,
        unknown_status=number if rule is None else None,
    )


def _judge(rule: Rule | None, outputs: Sequence[Output]) -> tuple[RemoteStatus, TaskError | None]:
    match rule:
        case Rule.QUEUED:
            return RemoteStatus.QUEUED, None
        case Rule.FAILED:
            return RemoteStatus.FAILED, TaskError(ErrorCode.PROVIDER_ERROR, "the provider says that the task failed")
        case Rule.SUCCESS | Rule.SUCCESS_IF_USABLE:
            states = {output.status for output in outputs}
            if OutputStatus.OK in states:
                return RemoteStatus.SUCCEEDED, None
            if OutputStatus.BLOCKED in states:
                return RemoteStatus.FAILED, TaskError(
                    ErrorCode.CONTENT_POLICY, "the provider's moderation withheld every image"
                )
            if rule is Rule.SUCCESS:
                return RemoteStatus.FAILED, TaskError(
                    ErrorCode.EMPTY_RESULT, "the provider says success, but gives no usable result"
                )
            # The provider uses this number for failure, too.
            return RemoteStatus.FAILED, TaskError(ErrorCode.PROVIDER_ERROR, "the task ended without a usable image")
    return RemoteStatus.RUNNING, None


def progress(preview: Any) -> float | None:
    """``temporaryImageDto.progress`` as 0..1; numbers above 1 are taken as percent (assumed)."""
    value = preview.get("progress") if isinstance(preview, Mapping) else None
    try:
        share = float(str(value).strip().removesuffix("%")) if value is not None else math.nan
    except ValueError:
        return None
    if share > 1 or (isinstance(value, str) and "%" in value):
        share /= 100
    return share if 0 <= share <= 1 else None


def sd_images(data: JsonObject) -> tuple[Output, ...]:
    """The images of a Stable Diffusion task, usable or not.

    Usable: it has a URL, ``image_status`` is 1 and ``img_audit_status`` is not false. A picture that
    moderation withheld keeps the provider's reasons, not its URL.
    """
    return tuple(_sd_image(image) for image in objects(data.get("differentialImageRspList")))


def _sd_image(image: JsonObject) -> Output:
    url = url_of(image.get("image_url"))
    details = {name: image[name] for name in ("seed", "image_status", "img_audit_status", "img_audit") if name in image}
    if str(image.get("img_audit_status")).strip().lower() in _NO:
        return Output(OutputKind.IMAGE, status=OutputStatus.BLOCKED, details=details)
    if url is None or text_of(image.get("image_status")) != "1":
        return Output(OutputKind.IMAGE, status=OutputStatus.FAILED, details=details)
    return Output(OutputKind.IMAGE, url=url, expires_at=url_expiry(url), details=details)


def tool_outputs(data: JsonObject, fields: Mapping[str, OutputKind], *, anything: bool) -> tuple[Output, ...]:
    """What a tool made, from the result fields.

    ``anything``: the provider documents no result field for this tool, so whatever else the answer
    holds is the result, as data.
    """
    found: list[Output] = []
    for name, kind in fields.items():
        value = data.get(name)
        for item in value if isinstance(value, list) else [value]:
            output = _READERS.get(kind, _address)(kind, name, item)
            if output is not None:
                found.append(output)
    if found or not anything:
        return tuple(found)
    rest = {name: value for name, value in data.items() if name not in _ABOUT_THE_TASK and value not in (None, "")}
    return (Output(OutputKind.DATA, data=rest),) if rest else ()


def _address(kind: OutputKind, name: str, value: Any) -> Output | None:
    url = url_of(value)
    return Output(kind, url=url, name=name, expires_at=url_expiry(url)) if url else None


def _words(kind: OutputKind, name: str, value: Any) -> Output | None:
    text = text_of(value)
    return Output(kind, text=text, name=name) if text else None


def _value(kind: OutputKind, name: str, value: Any) -> Output | None:
    return Output(kind, data=value, name=name) if value not in (None, "") else None


_READERS: Mapping[OutputKind, Callable[[OutputKind, str, Any], Output | None]] = {
    OutputKind.TEXT: _words,
    OutputKind.DATA: _value,
}
