"""Who is signed in: a signed cookie that names an API key, and the token that guards forms.

The cookie is Flask's own session: signed with a key derived from the first of RECEIVER_SECRET_KEYS, read with any of
them, unreadable for scripts. It holds the id of the key, never the key; every request looks the key up again, so a
key that is revoked ends its sessions at once.
"""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import timedelta

from flask import Flask, request, session

from receiver.models import ApiKey, Scope
from receiver.runtime import Runtime
from receiver.web.errors import Refused
from receiver.web.face import runtime

LIFETIME = timedelta(hours=12)
"""A working day; then the key is asked for again."""


def attach(app: Flask, runtime: Runtime) -> None:
    """Set Flask's session up: its keys and the attributes of its cookie."""
    keys = [hmac.digest(key, b"dashboard session", "sha256") for key in runtime.settings.secret_keys]
    app.secret_key = keys[0]
    app.config.update(
        SECRET_KEY_FALLBACKS=keys[1:],
        SESSION_COOKIE_NAME="receiver_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=runtime.settings.public_url.startswith("https:"),
        SESSION_REFRESH_EACH_REQUEST=False,  # a page that refreshes itself must not keep an empty desk signed in
        PERMANENT_SESSION_LIFETIME=LIFETIME,
    )


def begin(key: ApiKey) -> None:
    """Sign in with a key, forgetting all that was before."""
    session.clear()
    session.permanent = True
    session["key"] = key.id
    session["until"] = runtime().clock() + LIFETIME // timedelta(milliseconds=1)


def end() -> None:
    """Sign out."""
    session.clear()


def key_of_visitor() -> ApiKey | None:
    """The living key that this request is signed in with, None without one that may manage.

    The time of signing in counts: whatever is changed in a session, such as a message, makes its cookie a new one.
    """
    key_id, until = session.get("key"), session.get("until", 0)
    if not isinstance(key_id, str) or runtime().clock() >= until:
        return None
    key = runtime().accounts.living_key(key_id)
    return key if key is not None and Scope.MANAGE in key.scopes else None


def csrf_token() -> str:
    """The token that every form of this session carries."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    token: str = session["csrf"]
    return token


class StaleForm(Refused):
    """A form that this session did not give out: an old one mostly, sent after signing in anew."""

    def __init__(self) -> None:
        super().__init__(403, "forbidden", "It was made before you signed in anew, or in another browser.")


def check_form() -> None:
    """Refuse (403) a form that does not come from a page of this session."""
    expected = session.get("csrf", "")
    given = request.form.get("csrf", "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode(errors="replace")):
        raise StaleForm


def sent_form() -> str:
    """What was typed into the form that is sent, as JSON, to be given back; empty when there is nothing to give.

    Only of a form that stood on a page of ours, by the word of the browser (which it does not give over plain http,
    but for localhost): no other site puts words into a form here. Files are not given back, nor is what is so long
    that it could not be sent a second time.
    """
    if request.headers.get("Sec-Fetch-Site") != "same-origin" or any(file.filename for file in request.files.values()):
        return ""
    fields = [pair for pair in request.form.items(multi=True) if pair[0] != "csrf"]
    text = json.dumps(fields, ensure_ascii=False) if any(value for _, value in fields) else ""
    return text if len(text) <= runtime().settings.max_body // 10 else ""


def fields_of(form: str) -> list[tuple[str, str]]:
    """The fields of what ``sent_form`` returned; none of anything else."""
    try:
        return [(name, value) for name, value in json.loads(form) if isinstance(name, str) and isinstance(value, str)]
    except (ValueError, TypeError, RecursionError):
        return []
