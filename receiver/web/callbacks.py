"""``/callbacks/…``: where providers call. A slim path: raw bytes in, the handler's reply out, no call to anyone."""

from __future__ import annotations

from flask import Blueprint, Response, request

import handlers
from handlers import BadSignature, Malformed
from receiver import metrics
from receiver.errors import Busy, NotFound
from receiver.notices import Call
from receiver.signing import BadToken
from receiver.web.bodies import read_body
from receiver.web.errors import Refused, problem
from receiver.web.face import runtime

blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")


@blueprint.post("/<provider>")
@blueprint.post("/<provider>/<token>")
def take(provider: str, token: str | None = None) -> Response:
    """Take a notice. 401, 403 and 404 store nothing; 503 asks the provider to try again."""
    known = provider if provider in handlers.available() else "unknown"
    try:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(provider, token, headers, request.args.to_dict(), read_body())
        taken = runtime().notices.take(call)
    except (BadToken, BadSignature, Malformed, NotFound, Busy, Refused) as error:
        metrics.observe_notice(known, _VERDICTS[type(error)])
        return _answer(error)
    except Exception:
        metrics.observe_notice(known, "error")
        raise
    metrics.observe_notice(known, taken.verdict or "repetition")
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
