"""API keys of the account, and the secret that signs for its tasks' callback URLs."""

from __future__ import annotations

from collections.abc import Sequence

import flask
from flask import Response, g, request

from receiver.errors import Conflict, Invalid, NotFound
from receiver.models import ApiKey, Scope
from receiver.signing import Secret
from receiver.web.auth import account
from receiver.web.dashboard.frame import page, redirect, render
from receiver.web.dashboard.subscribers import NEW, OVERLAPS, those_that_open
from receiver.web.face import runtime
from receiver.web.schemas import USUAL_OVERLAP

LONGEST_NAME = 100


@page("GET", "/keys", nav="Keys")
def keys() -> Response:
    """Keys and secrets."""
    return _show()


def _show(
    *, made: str = "", secrets_too: bool = False, name: str = "", wrong: dict[str, list[str]] | None = None
) -> Response:
    """``made``: the text of a key that was just made."""
    secrets = those_that_open(lambda: runtime().accounts.signing_secrets(account()))
    return render(
        "keys.html",
        422 if wrong else 200,
        keys=_keys(),
        own=g.api_key.id,
        scopes={
            Scope.SUBMIT: "submit tasks and upload files",
            Scope.READ: "read everything",
            Scope.MANAGE: "everything, this dashboard too",
        },
        made=made,
        name=name,
        wrong=wrong or {"scopes": []},
        shown=secrets if secrets_too or _just_rotated(secrets) else (),
        overlaps=OVERLAPS,
    )


def _just_rotated(secrets: Sequence[Secret]) -> bool:
    """Whether the newest secret came a moment ago in place of another one, and its owner wants to see it."""
    return len(secrets) > 1 and runtime().clock() - secrets[0].created_at < NEW


def _keys() -> list[ApiKey]:
    """The account's keys, the newest first."""
    service = runtime().accounts
    return list(reversed(service.list_keys(service.get(account()).name)))


@page("POST", "/keys/new", section="keys")
def create_key() -> Response:
    """A new key; its text is shown this once."""
    service = runtime().accounts
    name = "".join(filter(str.isprintable, request.form.get("name", ""))).strip()[:LONGEST_NAME]
    try:
        _, text = service.create_key(service.get(account()).name, name, request.form.getlist("scopes"))
    except Invalid as error:
        return _show(name=name, wrong={field: list(messages) for field, messages in error.errors.items()})
    return _show(made=text)


@page("POST", "/keys/<id(key):key_id>/revoke", section="keys")
def revoke_key(key_id: str) -> Response:
    """End a key of this account; not the one of this session, which would shut its owner out."""
    if key_id not in [key.id for key in _keys()]:
        raise NotFound("There is no such API key.")
    if key_id == g.api_key.id:
        raise Conflict("You are signed in with this key. Sign in with another one to revoke it.")
    runtime().accounts.revoke_key(key_id)
    flask.flash("The key is revoked: whoever uses it gets 401 from now on.")
    return redirect("keys")


@page("POST", "/keys/secret", section="keys")
def show_signing_secret() -> Response:
    """The page with every live secret on it."""
    return _show(secrets_too=True)


@page("POST", "/keys/rotate", section="keys")
def rotate_signing_secret() -> Response:
    """A new secret; the old ones sign for a while."""
    overlap = request.form.get("overlap", "")
    seconds = int(overlap) if overlap in map(str, OVERLAPS) else USUAL_OVERLAP
    try:
        runtime().accounts.rotate_signing_secret(account(), seconds)
    except Invalid as error:
        flask.flash(" ".join(said for messages in error.errors.values() for said in messages))
    else:
        flask.flash(f"There is a new signing secret. The old one ends {OVERLAPS[seconds]}.")
    return redirect("keys")
