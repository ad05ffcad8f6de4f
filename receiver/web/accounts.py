"""``/v1/signing-secret``: what signs the events that go to tasks' ``callback_url``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response

from receiver.models import Scope
from receiver.web.api import Answer, Section
from receiver.web.auth import account
from receiver.web.face import runtime
from receiver.web.schemas import Overlap
from receiver.web.subscribers import secrets_answer

section = Section("Signing secret", "Signs what goes to tasks' `callback_url`.")


@section.operation(
    "GET", "/signing-secret", Answer(200, "Secrets", "The secrets that sign now."),
    scopes=[Scope.MANAGE], problems=[409],
)  # fmt: skip
def get_signing_secret() -> Response:
    """Read the secrets that sign what goes to tasks' callback URLs.

    During a rotation there are several: each request carries a signature by each of them. 409 when no secret key of
    the service opens them any more.
    """
    return secrets_answer(runtime().accounts.signing_secrets(account()))


@section.operation(
    "POST", "/signing-secret/rotate", Answer(200, "Secrets", "The secrets that sign from now on."),
    scopes=[Scope.MANAGE], body=Overlap,
)  # fmt: skip
def rotate_signing_secret(body: Mapping[str, Any]) -> Response:
    """Replace the account's signing secret; the old ones sign beside the new one for a while.

    `overlap` says for how many seconds; 0 ends the old ones at once.
    """
    return secrets_answer(runtime().accounts.rotate_signing_secret(account(), body["overlap"]))
