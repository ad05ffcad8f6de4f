"""``/v1/providers`` and ``/v1/uploads``: what can be done, and calls to a provider that a caller waits for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from flask import Response, request
from werkzeug.datastructures import FileStorage

from handlers import Upload, json_text
from receiver.errors import NO_ROOM, Invalid
from receiver.models import Scope
from receiver.web import answers
from receiver.web.api import Answer, Section
from receiver.web.auth import READERS, account
from receiver.web.errors import Refused
from receiver.web.face import alarm, runtime

section = Section("Providers", "What providers can do, and files for them.")

MAX_UPLOAD = 512 * 1024 * 1024
"""Bytes of an upload, its multipart frame included; RECEIVER_MAX_BODY does not hold for it. Spooled to a file."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")


@section.operation("GET", "/providers", Answer(200, "Providers", "All providers."), scopes=READERS)
def list_providers() -> Response:
    """List providers, with their operations and the JSON Schema of each operation's input.

    All of them, configured or not.
    """
    return answers.value({"data": runtime().providers.describe()})


@section.operation(
    "GET",
    "/providers/<name:provider>/<name:resource>",
    Answer(200, "Resource", "What the provider answers."),
    scopes=READERS,
    problems=[502],
    any_query=True,
    manual={
        "parameters": [
            {
                "in": "query",
                "name": "parameters",
                "description": "The provider's own parameters, passed on.",
                "example": {"page_size": "50"},
                "style": "form",
                "explode": True,
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            }
        ]
    },
)
def get_resource(provider: str, resource: str) -> Response:
    """Read one of a provider's lists (voices, models, credit left, ...), as the provider gives it.

    Which there are stands in `GET /v1/providers`, as `resources`.
    """
    with _seat():
        return answers.text(json_text(runtime().direct.fetch(provider, resource, request.args.to_dict())))


@section.operation(
    "POST",
    "/uploads",
    Answer(201, "UploadedFile", "The provider has the file."),
    scopes=[Scope.SUBMIT],
    problems=[400, 413, 415, 502],
    manual={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["provider", "file"],
                        "properties": {
                            "provider": {"type": "string", "description": "One that takes uploads."},
                            "file": {
                                "type": "string",
                                "contentMediaType": "application/octet-stream",
                                "description": "The file, with its name and Content-Type.",
                            },
                        },
                    },
                    "example": {"provider": "topview", "file": "the bytes of shoe.png"},
                }
            },
        }
    },
)
def upload_file() -> Response:
    """Give a provider a file, to be named in a task's input.

    The credential, the transfer and the provider's check are done for you. At most 512 MiB.
    """
    if request.mimetype != "multipart/form-data":
        raise Refused(415, "unsupported-media-type", "Send multipart/form-data with the fields provider and file.")
    with _seat(), _room():
        request.max_content_length = MAX_UPLOAD
        providers, files = request.form.getlist("provider"), request.files.getlist("file")
        others = {*request.form, *request.files} - {"provider", "file"}
        errors = {name: ["Unknown field."] for name in sorted(others)}
        if not any(providers):
            errors["provider"] = ["Missing data for required field."]
        elif len(providers) > 1:
            errors["provider"] = ["Must be given once."]
        if not files:
            errors["file"] = ["Missing data for required field (a file, with its name)."]
        elif len(files) > 1:
            errors["file"] = ["Must be given once."]
        if errors:
            raise Invalid(errors)
        return answers.value(_pass_on(providers[0], files[0]), 201)


def _pass_on(provider: str, file: FileStorage) -> dict[str, Any]:
    size = file.stream.seek(0, os.SEEK_END)
    file.stream.seek(0)
    if size == 0:
        raise Invalid({"file": ["Must not be empty."]})
    kind = file.mimetype if _MEDIA_TYPE.fullmatch(file.mimetype) else "application/octet-stream"
    done = runtime().direct.upload(provider, Upload(_name_of(file), kind, size), cast("BinaryIO", file.stream))
    return {
        "provider": done.provider,
        "file_id": done.file_id,
        "filename": done.filename,
        "size": done.size,
        "details": dict(done.details),
    }


def _name_of(file: FileStorage) -> str:
    """The last part of the name that the caller gave, without what no file name should have."""
    last = re.split(r"[/\\]", file.filename or "")[-1]
    return "".join(sign for sign in last if sign.isprintable())[-200:].strip() or "file"


@contextmanager
def _seat() -> Iterator[None]:
    """A seat for a call that may take long; without a free one the caller is asked to come back."""
    with alarm().seat(account()) as seated:
        if not seated:
            raise Refused(503, "busy", "Too many long requests are under way.", {"Retry-After": "5"})
        yield


@contextmanager
def _room() -> Iterator[None]:
    """While a file waits on the disk: without room for it the caller is asked to come back."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Refused(503, "busy", "There is no room for the file now.", {"Retry-After": "5"}) from None
