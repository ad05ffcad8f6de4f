"""``/callbacks/…``: where providers call. A slim path: raw bytes in, the handler's reply out, no call to anyone."""

from __future__ import annotations

import time

from flask import Blueprint, Response, g, request

import handlers
from handlers import BadSignature, Malformed
from receiver import watching
from receiver.errors import Busy, NotFound
from receiver.notices import Call
from receiver.signing import BadToken
from receiver.web.bodies import read_body
from receiver.web.errors import Refused, problem
from receiver.web.face import runtime

blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")
ROUTE = "/callbacks/<provider>/<token>"
"""The address of a task, as it is counted."""
REFUSAL = "receiver.refusal"
"""Where the environ has the exception with which a call was refused before it came here (see ``express``)."""


@blueprint.post("/<provider>")
@blueprint.post("/<provider>/<token>")
def take(provider: str, token: str | None = None) -> Response:
    """Take a notice. 401, 403 and 404 store nothing; 503 asks the provider to try again."""
    known = provider if provider in handlers.available() else "unknown"
    try:
        if REFUSAL in request.environ:
            raise request.environ[REFUSAL]
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(provider, token, headers, request.args.to_dict(), read_body())
        taken = runtime().notices.take(call)
    except (BadToken, BadSignature, Malformed, NotFound, Busy, Refused) as error:
        watching.notice_refused(known, _VERDICTS[type(error)], g.request_id)
        return _answer(error)
    except Exception:
        watching.notice_refused(known, "error", g.request_id)
        raise
    g.task_id = taken.task_id or ""
    spent = time.monotonic() - g.began
    watching.notice_taken(known, taken.verdict or "repetition", taken.task_id, g.request_id, spent)
    reply = taken.reply
    return Response(reply.body, reply.status, content_type=reply.content_type)


_VERDICTS: dict[type[Exception], str] = {
    BadToken: "bad_token",
    BadSignature: "bad_signature",
    Malformed: "malformed",
    NotFound: "no_such_provider",
    Busy: "busy",
    Refused: "bad_body",
}


def _answer(error: Exception) -> Response:
    match error:
        case BadToken():
            return problem(403, "bad-notice", "This callback address was not made by this service.")
        case BadSignature():
            challenge = {"WWW-Authenticate": "Signature"}
            return problem(401, "bad-notice", "The provider's signature is missing or wrong.", challenge)
        case Malformed():
            return problem(400, "bad-notice", "This is not what the provider sends.")
        case Refused():
            return error.response
        case _:
            raise error
