"""What ApsaraVideo VOD's answers and notices mean: error codes, job states and the images of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handlers._http import Answer
from handlers._reading import json_exactly, json_text, objects, text_of, unpacked, url_expiry, url_of
from handlers._records import (
    ErrorCode,
    HandlerError,
    JsonObject,
    OutcomeUnknown,
    Output,
    OutputKind,
    Rejected,
    RemoteStatus,
    TaskError,
    TaskUpdate,
    Unavailable,
)

STATUSES = {
    "success": RemoteStatus.SUCCEEDED,
    "fail": RemoteStatus.FAILED,
    # Only the two above are documented; these words for a job on its way are assumed.
    "init": RemoteStatus.RUNNING,
    "processing": RemoteStatus.RUNNING,
}

# The provider's error pages, by the first part of a code that fits; the longest comes first.
_REFUSALS: tuple[tuple[str, ErrorCode], ...] = (
    ("operationdenied.suspended", ErrorCode.INSUFFICIENT_CREDIT),
    ("operationdenied", ErrorCode.PERMISSION),
    ("forbidden", ErrorCode.PERMISSION),
    ("nopermission", ErrorCode.PERMISSION),
    ("missing", ErrorCode.INVALID_INPUT),
    ("signaturedoesnotmatch", ErrorCode.AUTHENTICATION),
    ("incompletesignature", ErrorCode.AUTHENTICATION),
    ("invalidaccesskeyid", ErrorCode.AUTHENTICATION),
    ("invalidsecuritytoken", ErrorCode.AUTHENTICATION),
    ("invalidtimestamp", ErrorCode.AUTHENTICATION),
)
# Assumed: the gateway's name for a nonce seen before; the call itself was not carried out.
_NOTHING_HAPPENED = ("throttling", "serviceunavailable", "signaturenonceused")
_TRANSIENT = (*_NOTHING_HAPPENED, "internalerror")


def error_code(code: str) -> ErrorCode:
    """Our word for an error code of the provider; unknown ones are ``provider_error``."""
    word = code.lower()
    if word.startswith("throttling"):
        return ErrorCode.RATE_LIMITED
    for start, meaning in _REFUSALS:
        if word.startswith(start):
            return meaning
    if word.endswith(".notfound"):
        return ErrorCode.NOT_FOUND
    return ErrorCode.INVALID_INPUT if word.startswith("invalid") else ErrorCode.PROVIDER_ERROR


def task_error(code: str | None, message: str | None) -> TaskError:
    """Why a call or a job failed, from the provider's ``Code`` and ``Message``."""
    said = ": ".join(part for part in (code, message) if part)
    hint = "; check this machine's clock" if (code or "").lower().startswith("invalidtimestamp") else ""
    return TaskError(
        error_code(code or ""),
        (f"ApsaraVideo VOD: {said}" if said else "ApsaraVideo VOD gave no reason") + hint,
        retryable=(code or "").lower().startswith(_TRANSIENT),
        provider_code=code,
        provider_message=message,
    )


def failure(code: str, answer: Answer, body: JsonObject, *, starts_work: bool) -> HandlerError:
    """What an answer with an error ``Code`` means; ``starts_work``: the call was a submission.

    The HTTP status decides only for unknown codes: throttling is HTTP 400 (the provider's error page). Its errors are
    4xx and 5xx, so an unknown code with HTTP 200 refuses nothing: the work may have begun.
    """
    error = task_error(code, text_of(body.get("Message")))
    word = code.lower()
    if word.startswith(_NOTHING_HAPPENED):
        return Unavailable(error.message, _retry_after(answer.headers))
    known = error.code is not ErrorCode.PROVIDER_ERROR
    if word.startswith("internalerror") or (not known and not 300 <= answer.status < 500):
        return OutcomeUnknown(error.message) if starts_work else Unavailable(error.message)
    return Rejected(error, raw=answer.text)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``x-acs-retry-after``: milliseconds, as the official SDKs read it."""
    text = headers.get("x-acs-retry-after", "").strip()
    return int(text) / 1000 if text.isascii() and text.isdecimal() and len(text) < 12 else None


def signed_images(images: Any, job_id: str) -> tuple[Output, ...]:
    """The images of a job among those of its video: ``AIImageInfoList``, with URLs that can be fetched."""
    return tuple(
        Output(
            OutputKind.IMAGE,
            url=url,
            expires_at=url_expiry(url),
            details={
                "source": "ListAIImageInfo",
                **_present(image, "AIImageInfoId", "Score", "Format", "Version", "CreationTime"),
            },
        )
        for image in objects(images)
        if text_of(image.get("JobId")) == job_id and (url := url_of(image.get("FileURL")))
    )


def plain_images(result: Any) -> tuple[Output, ...]:
    """The images in ``AIImageResult`` or a notice's ``Data``: JSON text, or the value itself.

    Their URLs carry no authorization: a private bucket refuses them (the provider's query page).
    """
    return tuple(
        Output(OutputKind.IMAGE, url=url, details={"source": "AIImageResult", **_present(image, "Score")})
        for image in _results(result)
        if (url := url_of(image.get("Url") or image.get("URL") or image.get("FileURL")))
    )


def alone(body: JsonObject, job: JsonObject, text: str) -> str:
    """The answer (``body``, as ``text``) with this job only: one task must not show another's."""
    if body.get("AIImageJobList") == [job]:
        return text
    place = next(number for number, entry in enumerate(body["AIImageJobList"]) if entry is job)
    exact = json_exactly(text.removeprefix("\ufeff"))  # as ``json_object`` reads it
    return json_text({**exact, "AIImageJobList": [exact["AIImageJobList"][place]]})


def state_of(job: JsonObject) -> RemoteStatus:
    """What the status of a job means; words that are not known mean running."""
    return STATUSES.get((text_of(job.get("Status")) or "").lower(), RemoteStatus.RUNNING)


def each_once(listed: Any) -> dict[str, JsonObject]:
    """The jobs of an answer by their ids.

    Of one that stands there twice a success counts before a failure, and that before what is said of it on its way.
    """
    order = (RemoteStatus.RUNNING, RemoteStatus.FAILED, RemoteStatus.SUCCEEDED)
    jobs = sorted(objects(listed), key=lambda job: order.index(state_of(job)))
    return {text_of(job.get("JobId")) or "": job for job in jobs}


def job_update(job: JsonObject, outputs: Sequence[Output], raw: str) -> TaskUpdate:
    """The state of one job from its entry in an answer, or from its notice.

    ``outputs``: its images. ``raw``: what to keep of the answer or notice.
    """
    word, status = text_of(job.get("Status")) or "", state_of(job)
    error = None
    if status is RemoteStatus.FAILED:
        error = task_error(text_of(job.get("Code")), text_of(job.get("Message")))
    elif status is RemoteStatus.SUCCEEDED and not outputs:
        status = RemoteStatus.FAILED
        error = TaskError(ErrorCode.EMPTY_RESULT, "the job succeeded, but names no image")
    return TaskUpdate(
        status,
        raw,
        provider_task_id=text_of(job.get("JobId")),
        outputs=tuple(outputs) if status is RemoteStatus.SUCCEEDED else (),
        error=error,
        unknown_status=word if word and word.lower() not in STATUSES else None,
    )


def _results(value: Any) -> list[dict[str, Any]]:
    """The list of images, whether it is JSON text, a list, one image or an object that holds the list."""
    value = unpacked(value)
    if isinstance(value, dict):
        inner = value.get("AIImageResult")
        return _results(inner) if inner is not None else [value]
    return objects(value)


def _present(image: JsonObject, *names: str) -> dict[str, Any]:
    return {name: image[name] for name in names if image.get(name) not in (None, "")}
