"""ApsaraVideo VOD (Alibaba Cloud): image AI jobs, which make covers from a video stored there."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from handlers import _vod_answers as answers
from handlers import _vod_signing as signing
from handlers._base import Callbacks, Handler, InputSchema, Operation, Option
from handlers._http import ProviderSession, contradicted, not_understood
from handlers._options import one_of, seconds, visible
from handlers._reading import json_object, notice_object, text_of
from handlers._records import (
    BadSignature,
    ErrorCode,
    HandlerError,
    JsonObject,
    Malformed,
    Notice,
    NotSupported,
    OutcomeUnknown,
    Output,
    Receipt,
    Rejected,
    RemoteStatus,
    RemoteTask,
    Reply,
    Submission,
    TaskError,
    TaskUpdate,
    Unavailable,
)
from handlers._signatures import canonical_query, md5_hex, same

VERSION = "2017-03-21"
CALL_TIMEOUT = 8.0
LOOK_UPS = 14.0
"""A query makes up to eleven calls: seconds for each, and seconds after its first after which it begins no other.
Together they stay within the 30 s that a worker's lease lasts by default."""
USER_DATA_BYTES = 512  # of the JSON text in UTF-8 (the provider's submit page)

_REGIONS = {"cn-shanghai": "cn-shanghai", "cn-beijing": "cn-beijing", "cn-hangzhou": "cn-shanghai"}
_RESERVED = frozenset(
    ("Action", "Version", "Format", "AccessKeyId", "SecurityToken", "Timestamp",
     "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "SignatureType")
)  # fmt: skip


def region(text: str) -> str:
    """A region that has image AI jobs; ``cn-hangzhou`` is served by Shanghai, as the official SDKs do."""
    try:
        return _REGIONS[text.strip()]
    except KeyError:
        raise ValueError(
            "must be cn-shanghai or cn-beijing: image AI jobs exist only there"
            " (for another address set APSARAVIDEO_VOD_BASE_URL)"
        ) from None


def callback_keys(text: str) -> tuple[str, ...]:
    """One key, or two with a comma between them while the key is being changed."""
    keys = tuple(part.strip() for part in text.split(","))
    if len(keys) > 2 or not all(keys):
        raise ValueError("must be one key, or the old and the new one with a comma between them")
    return keys


class SubmitAIImageJob(InputSchema):
    """Input of ``submit_ai_image_job`` (the provider's submit page)."""

    VideoId = fields.String(required=True, validate=validate.Length(min=1))
    AITemplateId = fields.String(required=True, validate=validate.Length(min=1))
    AIPipelineId = fields.String()
    UserData = fields.Raw(metadata={
        "description": "Object, or JSON text of one, of at most 512 bytes; its Extend comes back in the"
        " notice. MessageCallback is set by us.",
        "type": ["object", "string"],
    })  # fmt: skip
    OwnerId = fields.String()
    OwnerAccount = fields.String()
    ResourceOwnerId = fields.String()
    ResourceOwnerAccount = fields.String()

    @validates_schema
    def check(self, data: JsonObject, **_: Any) -> None:
        """Refuse what we set ourselves, and UserData that the provider would refuse."""
        problems = {name: ["is set by us"] for name in sorted(_RESERVED & data.keys())}
        if "UserData" in data:
            user_data = _object(data["UserData"])
            if user_data is None:
                problems["UserData"] = ["must be an object or the JSON text of one"]
            elif "MessageCallback" in user_data:
                problems["UserData"] = ["MessageCallback is set by us; use callback_url for your own address"]
            elif (size := len(_compact(user_data).encode())) > USER_DATA_BYTES:
                problems["UserData"] = [f"is {size} bytes long; the provider takes {USER_DATA_BYTES}"]
        if problems:
            raise ValidationError(problems)


class ApsaraVideoVod(Handler):
    """Image AI jobs of ApsaraVideo VOD: signed calls, notices whose headers alone are signed.

    A submission has no idempotency token: one whose answer was lost is never sent again.
    """

    title = "ApsaraVideo VOD"
    docs = "https://www.alibabacloud.com/help/en/vod/developer-reference/api-vod-2017-03-21-submitaiimagejob"
    base_url = "https://vod.cn-shanghai.aliyuncs.com"
    options = (
        Option("access_key_id", "AccessKey id", parse=visible, credential=True),
        Option("access_key_secret", "AccessKey secret", parse=visible, secret=True, credential=True),
        Option("security_token", "token of a temporary AccessKey (STS)", parse=visible, secret=True),
        Option("region", "cn-shanghai or cn-beijing; chooses the address unless BASE_URL does", "cn-shanghai", region),
        Option("signing", "acs3 (header signing, V3) or rpc (RPC signing with HMAC-SHA1)", "acs3",
               one_of("acs3", "rpc")),
        Option("callback_key", "AuthKey of the event notification; two, comma-separated, while it is being changed",
               (), callback_keys, secret=True),
        Option("callback_window", "seconds by which the time stamp of a notice may be off", 300.0, seconds()),
        Option("callback_type", "CallbackType in UserData (assumed: http)", "http"),
        Option("user_data_members", "send the members of UserData as object or as text (assumed: object)",
               "object", one_of("object", "text")),
        Option("signed_urls_patience", "seconds of a task's age for which a failed look-up of its signed image URLs"
               " is tried again before the unsigned ones are taken", 600.0, seconds()),
    )  # fmt: skip
    operations: Mapping[str, Operation] = {
        "submit_ai_image_job": Operation("submit_ai_image_job", "Smart cover of a video", SubmitAIImageJob)
    }
    callbacks = Callbacks.SIGNED
    query_batch = 10
    poll_schedule = (15.0, 30.0, 60.0)
    task_deadline = 3600.0
    submit_rate = 30.0  # the provider's limits page: submit-type 30/s
    query_rate = 60.0  # and query-type 100/s; look-ups of signed URLs are counted, but only once they were made

    def __init__(self, settings: Mapping[str, Any], clock: Callable[[], float]) -> None:
        """See Handler. The base URL follows the region while it is the default one."""
        super().__init__(settings, clock)
        base_url = settings["base_url"]
        if base_url == self.base_url:
            base_url = f"https://vod.{settings['region']}.aliyuncs.com"
        self.http = ProviderSession(base_url, self.title, CALL_TIMEOUT, secrets=self.secrets)
        self._credentials = signing.Credentials(
            settings["access_key_id"], settings["access_key_secret"], settings["security_token"]
        )

    def submit(self, submission: Submission) -> Receipt:
        """Start a job.

        Raises Rejected (also when UserData has no room for the callback), Unavailable, OutcomeUnknown.
        """
        params = {name: _text(value) for name, value in submission.input.items() if name != "UserData"}
        user_data = self._user_data(submission)
        if user_data:
            params["UserData"] = user_data
        body, raw = self._call("SubmitAIImageJob", params, starts_work=True)
        job_id = text_of(body.get("JobId"))
        if job_id is None:
            raise OutcomeUnknown(f"{self.title} accepted the job, but gave no JobId")
        return Receipt(job_id, raw)

    def query(self, tasks: Sequence[RemoteTask]) -> Mapping[str, TaskUpdate]:
        """Ask for up to ten jobs. A job that is not in the answer is still running (assumed).

        Where they are refused together, half of them are asked for, by lot: one that the provider does not take
        (forgotten there, or of other credentials) must not keep the others from their results.
        """
        asked = {task.provider_task_id: task for task in tasks if task.provider_task_id}
        if not asked:
            return {}
        try:
            body, text = self._call("GetAIImageJobs", {"JobIds": ",".join(asked)}, starts_work=False)
        except Rejected as refusal:
            if len(asked) == 1 or refusal.error.code not in (ErrorCode.INVALID_INPUT, ErrorCode.NOT_FOUND):
                raise
            return self.query(random.sample(list(asked.values()), len(asked) // 2))
        updates: dict[str, TaskUpdate] = {}
        looked_up: dict[str, Any] = {}
        enough = time.monotonic() + LOOK_UPS
        for job_id, job in answers.each_once(body.get("AIImageJobList")).items():
            task = asked.get(job_id)
            if task is None or (looked_up and time.monotonic() > enough):
                continue  # not asked for, or to be asked for again: one slow query must not outlast a worker's lease
            outputs = self._images(job, task, looked_up)
            if outputs is not None:
                updates[task.task_id] = answers.job_update(job, outputs, answers.alone(body, job, text))
        failed = _failure_in(looked_up)
        if failed is not None and not updates:
            raise failed  # so that the pause it asks for is kept
        return updates

    def verify(self, notice: Notice) -> None:
        """Check ``X-VOD-SIGNATURE``, md5 of ``<URL>|<X-VOD-TIMESTAMP>|<key>``. Raises BadSignature.

        Without a ``callback_key`` there is nothing to check: the secret address of a task is taken as
        a hint, the provider-wide one is refused.
        """
        keys: tuple[str, ...] = self.settings["callback_key"]
        if not keys:
            if notice.task is None:
                raise BadSignature("no APSARAVIDEO_VOD_CALLBACK_KEY is set to check a provider-wide notice with")
            return
        stamp = notice.headers.get("x-vod-timestamp", "").strip()
        given = notice.headers.get("x-vod-signature", "").strip().lower()
        if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12):
            raise BadSignature("X-VOD-TIMESTAMP is missing or not a number of seconds")
        good = [same(given, md5_hex(f"{notice.url}|{stamp}|{key}")) for key in keys]
        if not any(good):
            raise BadSignature("X-VOD-SIGNATURE is missing or wrong")
        if abs(notice.received_at / 1000 - int(stamp)) > self.settings["callback_window"]:
            raise BadSignature("X-VOD-TIMESTAMP is too far from the present")

    def read(self, notice: Notice) -> TaskUpdate:
        """Understand an event by its ``JobId``, never by its name (not published for image jobs).

        Raises Malformed; NotSupported for an event without a JobId at the provider-wide address,
        where all events of VOD arrive.
        """
        event = notice_object(notice)
        if event is None:
            raise Malformed("the notice is not a JSON object")
        job_id = text_of(event.get("JobId"))
        if notice.task is None:
            if job_id is None:
                raise NotSupported("not an image job event")
        elif job_id is None or notice.task.provider_task_id not in (None, job_id):
            raise Malformed("the notice is not about the job of this address")
        elif "," in job_id:  # several, to a query: a job of this name would spoil it for the others in its batch
            raise Malformed("the notice names more than one job")
        data = event.get("AIImageResult") if event.get("Data") is None else event["Data"]
        update = answers.job_update(event, answers.plain_images(data), notice.body.decode())
        if update.error is not None and update.error.code is ErrorCode.EMPTY_RESULT:
            # What Data holds is assumed: a query tells whether there is nothing.
            return TaskUpdate(RemoteStatus.RUNNING, update.raw, update.provider_task_id)
        return update

    def notice_id(self, notice: Notice) -> str | None:
        """The job and its final status; None for anything else."""
        event = notice_object(notice) or {}
        job_id, status = text_of(event.get("JobId")), (text_of(event.get("Status")) or "").lower()
        known = answers.STATUSES.get(status)
        return f"{job_id}:{status}" if job_id and known is not None and known.final else None

    def reply(self, notice: Notice) -> Reply:  # noqa: ARG002 - the same for every notice
        """HTTP 200; the body is ignored (the provider's page on callbacks)."""
        return Reply(b"{}")

    def _user_data(self, submission: Submission) -> str | None:
        """UserData with our callback beside what the caller gave, as JSON text of at most 512 bytes."""
        given = dict(_object(submission.input.get("UserData")) or {})
        members = {name: value for name, value in given.items() if name != "MessageCallback"}
        if submission.callback_url:
            callback = {"CallbackURL": submission.callback_url, "CallbackType": self.settings["callback_type"]}
            members = {"MessageCallback": callback} | members
        if self.settings["user_data_members"] == "text":
            members = {name: _text(value) for name, value in members.items()}
        text = _compact(members)
        size = len(text.encode())
        if size > USER_DATA_BYTES:
            raise Rejected(TaskError(
                ErrorCode.INVALID_INPUT,
                f"UserData is {size} bytes long with our callback address in it; the provider takes"
                f" {USER_DATA_BYTES}: shorten Extend by at least {size - USER_DATA_BYTES} bytes",
            ))  # fmt: skip
        return text if members else None

    def _images(self, job: JsonObject, task: RemoteTask, looked_up: dict[str, Any]) -> Sequence[Output] | None:
        """The images of a job that succeeded; None when a later query should ask again.

        ``looked_up``: answers of this query by VideoId, since jobs of one video share them.
        """
        if answers.state_of(job) is not RemoteStatus.SUCCEEDED:
            return ()
        video_id = text_of(job.get("VideoId")) or text_of(task.input.get("VideoId")) or ""
        patient = task.age < self.settings["signed_urls_patience"]
        if video_id not in looked_up:
            if patient and _failure_in(looked_up) is not None:
                return None  # one that failed for now is enough
            try:
                body, _ = self._call("ListAIImageInfo", {"VideoId": video_id}, starts_work=False)
                looked_up[video_id] = body.get("AIImageInfoList") or []
            except HandlerError as error:  # the job's own answer must not be lost with it
                looked_up[video_id] = error
        found = looked_up[video_id]
        if isinstance(found, Unavailable) and patient:
            return None
        signed = answers.signed_images(found, str(task.provider_task_id))
        return signed or answers.plain_images(job.get("AIImageResult"))

    def _call(self, action: str, params: Mapping[str, str], *, starts_work: bool) -> tuple[dict[str, Any], str]:
        """Sign and make one call; gives its JSON and its text. Raises what the error ``Code`` means."""
        nonce = secrets.token_hex(16)
        headers = {"Accept": "application/json"}
        if self.settings["signing"] == "acs3":
            headers |= signing.acs3_headers(
                self._credentials, self.http.host, action, VERSION, params, now=self.clock(), nonce=nonce
            )
        else:
            params = signing.rpc_params(self._credentials, action, VERSION, params, now=self.clock(), nonce=nonce)
        answer = self.http.post("/?" + canonical_query(params), starts_work=starts_work, headers=headers)
        body = answer.json_object()
        if body is None:
            raise not_understood(answer, self.title, starts_work=starts_work)
        code = text_of(body.get("Code"))
        if code and not any(body.get(name) for name in ("JobId", "AIImageJobList", "AIImageInfoList")):
            raise answers.failure(code, answer, body, starts_work=starts_work)
        if answer.status != 200:
            meaning = contradicted if text_of(body.get("JobId")) else not_understood
            raise meaning(answer, self.title, starts_work=starts_work)
        return body, answer.text


def _failure_in(looked_up: Mapping[str, Any]) -> Unavailable | None:
    """Why a look-up among these failed for now, if one did."""
    return next((found for found in looked_up.values() if isinstance(found, Unavailable)), None)


def _object(value: Any) -> JsonObject | None:
    """An object, given as such or as JSON text, with nothing in it that cannot be sent."""
    return json_object(value if isinstance(value, str) else json.dumps(value))


def _text(value: Any) -> str:
    """A parameter as the gateway takes it: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else _compact(value)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be signed


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
