"""What TopView's answers mean: its codes, its statuses, and what a finished task holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from handlers._reading import kind_of_url, objects, text_of, url_expiry, url_of
from handlers._records import ErrorCode, Output, OutputKind, OutputStatus, RemoteStatus, TaskError, TaskUpdate
from handlers._topview_table import URL_FIELDS, Artefacts


class Meaning(NamedTuple):
    """What a code means. ``wait``: the setting that says when to come back, for calls that did nothing.

    ``broke``: the provider failed while working on the call, so it may have taken effect.
    """

    code: ErrorCode
    wait: str | None = None
    broke: bool = False


# The provider's code table; 401 from its client. That 4006 is about permission is assumed.
CODES: Mapping[str, Meaning] = {
    "401": Meaning(ErrorCode.AUTHENTICATION),
    "403": Meaning(ErrorCode.PERMISSION),
    "404": Meaning(ErrorCode.NOT_FOUND),
    "429": Meaning(ErrorCode.RATE_LIMITED, wait="busy_wait"),
    "4000": Meaning(ErrorCode.INVALID_INPUT),
    "4001": Meaning(ErrorCode.INVALID_INPUT),
    "4002": Meaning(ErrorCode.AUTHENTICATION),
    "4003": Meaning(ErrorCode.INVALID_INPUT),
    "4004": Meaning(ErrorCode.NOT_FOUND),
    "4005": Meaning(ErrorCode.INVALID_INPUT),
    "4006": Meaning(ErrorCode.PERMISSION),
    "4007": Meaning(ErrorCode.RATE_LIMITED, wait="unfinished_wait"),
    "4100": Meaning(ErrorCode.INSUFFICIENT_CREDIT),
    "5000": Meaning(ErrorCode.PROVIDER_ERROR, broke=True),
    "5001": Meaning(ErrorCode.PROVIDER_ERROR, broke=True),
    "5003": Meaning(ErrorCode.RATE_LIMITED, wait="busy_wait"),
    "5004": Meaning(ErrorCode.PROVIDER_ERROR, broke=True),
    "5005": Meaning(ErrorCode.PROVIDER_ERROR, broke=True),
    "6001": Meaning(ErrorCode.CONTENT_POLICY),
}

STATUSES: Mapping[str, RemoteStatus] = {
    "init": RemoteStatus.QUEUED,
    "running": RemoteStatus.RUNNING,
    "success": RemoteStatus.SUCCEEDED,
    "fail": RemoteStatus.FAILED,
    "failed": RemoteStatus.FAILED,
    # Not documented; other clients expect them (assumed).
    "queued": RemoteStatus.RUNNING,
    "waiting": RemoteStatus.RUNNING,
    "processing": RemoteStatus.RUNNING,
}
LONGEST_VIDEO = 3600  # seconds; what the provider makes takes minutes, so more is another unit


def meaning_of(code: str) -> Meaning:
    """What a code means: as the table says, else 5xx and 5xxx are failures of the provider, all others refusals."""
    if code in CODES:
        return CODES[code]
    if code.startswith("5") and len(code) in (3, 4):
        return Meaning(ErrorCode.PROVIDER_ERROR, broke=True)
    return Meaning(ErrorCode.INVALID_INPUT if code.startswith("4") else ErrorCode.PROVIDER_ERROR)


def status_of(result: Mapping[str, Any]) -> str:
    """The word for a task's state: ``status``, or ``taskStatus`` where an operation calls it so."""
    return text_of(result.get("status")) or text_of(result.get("taskStatus")) or ""


def failed(result: Mapping[str, Any], raw: str, task_id: str | None) -> TaskUpdate:
    """A task that the provider calls failed, with its reason."""
    code, message = text_of(result.get("errorCode")), text_of(result.get("errorMsg"))
    meaning = meaning_of(code).code if code else ErrorCode.PROVIDER_ERROR
    error = TaskError(
        meaning,
        f"The task failed at the provider: {message or code or 'no reason given'}",
        retryable=meaning in (ErrorCode.PROVIDER_ERROR, ErrorCode.RATE_LIMITED),
        provider_code=code,
        provider_message=message,
    )
    return TaskUpdate(RemoteStatus.FAILED, raw, task_id, error=error)


def succeeded(artefacts: Artefacts, result: Any, raw: str, task_id: str | None) -> TaskUpdate:
    """A task that the provider calls done: succeeded if there is anything good in it."""
    outputs = tuple(outputs_of(artefacts, result))
    if any(output.status is OutputStatus.OK for output in outputs):
        return TaskUpdate(RemoteStatus.SUCCEEDED, raw, task_id, outputs=outputs)
    messages = (text_of(output.details.get("errorMsg")) for output in outputs)
    blocked = any(output.status is OutputStatus.BLOCKED for output in outputs)
    error = TaskError(
        ErrorCode.CONTENT_POLICY if blocked else ErrorCode.EMPTY_RESULT,
        "The provider reports success, but nothing in the result can be used",
        retryable=not blocked,
        provider_message=next((message for message in messages if message), None),
    )
    return TaskUpdate(RemoteStatus.FAILED, raw, task_id, outputs=outputs, error=error)


def outputs_of(artefacts: Artefacts, result: Any) -> Iterator[Output]:
    """Every artefact of a result, failed ones included, placeholders left out."""
    if artefacts.kind is OutputKind.DATA and not artefacts.page:
        yield from _data(artefacts, result)
    elif not isinstance(result, dict):
        return
    elif artefacts.page:
        yield from _page(result)
    elif artefacts.lists:
        yield from _listed(artefacts, result)
    else:
        if artefacts.things:
            yield from _data(artefacts, result)
        yield from _single(artefacts, result)


def _data(artefacts: Artefacts, result: Any) -> Iterator[Output]:
    """What is worth having without a URL: an avatar, a voice, a script."""
    if isinstance(result, dict):
        found = {name: result[name] for name in artefacts.things if _holds(result.get(name))}
        if not found and artefacts.guess and not artefacts.urls:
            found = {name: value for name, value in _bare(result).items() if _holds(value)}
    else:
        listed = artefacts.guess and isinstance(result, list) and _holds(result)
        found = {name: result for name in artefacts.things if listed}
    if found:
        name, value = next(iter(found.items()))
        yield Output(OutputKind.DATA, data=value if len(found) == 1 and isinstance(value, dict) else found, name=name)


def _holds(value: Any) -> bool:
    """Whether a value holds anything: a placeholder has all its fields, each of them empty or 0."""
    if isinstance(value, dict | list):
        return any(_holds(item) for item in (value.values() if isinstance(value, dict) else value))
    return bool(value)


def _page(result: Mapping[str, Any]) -> Iterator[Output]:
    """A product page: its words, then its pictures and clips (texts or objects, which is not documented)."""
    words = {name: value for name in ("productName", "productDescription") if (value := result.get(name))}
    if words:
        yield Output(OutputKind.DATA, data={"productLink": result.get("productLink"), **words}, name="product")
    for name, kind in (("productImages", OutputKind.IMAGE), ("productVideos", OutputKind.VIDEO)):
        entries = result.get(name)
        for entry in entries if isinstance(entries, list) else ():
            item = entry if isinstance(entry, dict) else {"url": entry}
            yield from (found for found in _item(Artefacts(kind, URL_FIELDS), item) if found.url)


def _listed(artefacts: Artefacts, result: Mapping[str, Any]) -> Iterator[Output]:
    """The items of the first list that is there; where names are a guess, of any list."""
    found = [name for name in artefacts.lists if isinstance(result.get(name), list)]
    if found:
        for item in objects(result[found[0]]):
            yield from _item(artefacts, item)
    elif artefacts.guess:
        yield from _guessed(artefacts, result)


def _single(artefacts: Artefacts, result: Mapping[str, Any]) -> Iterator[Output]:
    """The one artefact that the result itself (or the object inside it) names."""
    output = next((output for output in _item(artefacts, _bare(result)) if output.url), None)
    if output is not None:
        yield output
    elif artefacts.guess:
        yield from _guessed(artefacts, result)


def _guessed(artefacts: Artefacts, result: Mapping[str, Any]) -> Iterator[Output]:
    """Whatever looks like an artefact: items of lists, else objects, else the result itself."""
    looser = Artefacts(artefacts.kind, tuple(dict.fromkeys((*artefacts.urls, *URL_FIELDS))))
    outputs = [output for value in result.values() for item in objects(value) for output in _item(looser, item)]
    if not outputs:
        inner = [*(value for value in result.values() if isinstance(value, dict)), _bare(result)]
        outputs = [output for item in inner for output in _item(looser, item) if output.url]
    yield from outputs


def _bare(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result without what belongs to the task."""
    return {name: value for name, value in result.items() if name not in ("status", "taskStatus", "taskId")}


def _item(artefacts: Artefacts, item: Mapping[str, Any]) -> Iterator[Output]:
    """One item: good with a URL and status success (or none), a placeholder with neither and no reason."""
    inner = item.get(artefacts.inner) if artefacts.inner else None
    holder = inner if isinstance(inner, dict) else item
    found = ((name, url) for name in artefacts.urls if (url := url_of(holder.get(name))))
    name, url = next(found, (None, None))
    word, code = (text_of(item.get("status")) or "").lower(), text_of(item.get("errorCode"))
    details = _details({key: value for key, value in {**item, **holder}.items() if key not in (name, artefacts.inner)})
    if url and word in ("", "success"):
        kind = kind_of_url(url, artefacts.kind)
        yield Output(kind, url=url, name=name, expires_at=url_expiry(url), details=details)
    elif word or code or text_of(item.get("errorMsg")):
        blocked = code is not None and meaning_of(code).code is ErrorCode.CONTENT_POLICY
        status = OutputStatus.BLOCKED if blocked else OutputStatus.FAILED
        yield Output(artefacts.kind, status=status, details=details)


def _details(item: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of an item. A duration is given in seconds, and only when it can be one.

    The provider documents milliseconds, but its own sample only makes sense in microseconds.
    """
    details = dict(item)
    if "videoDuration" in details:
        value = details.pop("videoDuration")
        if isinstance(value, int | float) and 0 < value <= LONGEST_VIDEO * 1_000_000:
            seconds = next((value / unit for unit in (1e3, 1e6) if value / unit <= LONGEST_VIDEO), None)
            if seconds is not None:
                details["videoDurationSeconds"] = seconds
    return details
