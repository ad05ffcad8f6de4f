"""Who calls: API keys in ``Authorization: Bearer``, and what each scope may do."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flask import g, request

from receiver.accounts import digest_of
from receiver.models import ApiKey, Scope
from receiver.web.errors import Refused, no_such_id
from receiver.web.face import limits, lists, runtime

P = ParamSpec("P")
R = TypeVar("R")

READERS = (Scope.READ, Scope.SUBMIT)
"""Who may see tasks and providers: whoever submits must, too."""

_BEARER = re.compile(r"bearer +([!-~]{1,256})", re.IGNORECASE | re.ASCII)
_REALM = 'Bearer realm="receiver"'
_LONGEST = 86_400.0


def needs(*scopes: Scope) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only keys with one of these scopes (or ``manage``) through.

    401 without a valid key, 403 without a scope, 429 when the key (or the address, with wrong keys) asks too often.
    """

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> R:
            g.api_key = _admit(scopes)
            return view(*args, **kwargs)

        return guarded

    return decorate


def before_ids_are_judged() -> None:
    """An id that cannot be one is told to who has a key; to others it is, like any id, 401."""
    if request.routing_exception is not None and no_such_id(request.path) is not None:
        _admit(tuple(Scope))


def api_key() -> ApiKey:
    """The key of who calls, in a view behind ``needs``."""
    key: ApiKey = g.api_key
    return key


def still_admitted() -> bool:
    """Whether the calling key was not revoked while its request waited, in a view behind ``needs``."""
    return runtime().accounts.living_key(api_key().id) is not None


def admit_again() -> None:
    """Raise Refused (401) if the calling key was revoked while its request waited, in a view behind ``needs``."""
    if not still_admitted():
        raise _invalid()


def account() -> str:
    """The id of the account that calls, in a view behind ``needs``."""
    return api_key().account_id


def list_turn() -> AbstractContextManager[None]:
    """The calling key's turn to read a list, in a view behind ``needs``. Raises Refused (429), see ``lists``."""
    key = api_key()
    return lists().turn(key.id, key.account_id)


def _admit(scopes: tuple[Scope, ...]) -> ApiKey:
    given = request.headers.get("Authorization", "")
    found = _BEARER.fullmatch(given.strip())
    if found is None:
        detail = "Send an API key: Authorization: Bearer rk_…" if not given else "Authorization must be: Bearer rk_…"
        raise Refused(401, "unauthorized", detail, {"WWW-Authenticate": _REALM})
    key = identify(found[1])
    if key is None:
        raise _invalid()
    if Scope.MANAGE not in key.scopes and not key.scopes & set(scopes):
        wanted = " or ".join(dict.fromkeys([*scopes, Scope.MANAGE]))
        challenge = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scopes[0]}"'}
        raise Refused(403, "forbidden", f"This needs an API key with the scope {wanted}.", challenge)
    return key


def _invalid() -> Refused:
    challenge = {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}
    return Refused(401, "unauthorized", "This API key is not known, or was revoked.", challenge)


def identify(text: str) -> ApiKey | None:
    """The living API key of this text, or None.

    Raises Refused (429) for a key that asks too often, and for an address from which too many wrong ones came.
    """
    digest, peer = digest_of(text), request.remote_addr or ""
    held = limits().before(digest, peer, time.monotonic())
    key = runtime().accounts.authenticate(text, used_before=held > 0)  # another process may have seen it right
    if key is None:
        _hold_back(held, "Too many wrong API keys from this address.")
        limits().wrong(peer, time.monotonic())
    else:
        _hold_back(limits().right(digest, time.monotonic()), "This API key asks too often.")
    return key


def _hold_back(wait: float, why: str) -> None:
    """Refuse with 429 when there are seconds to wait."""
    if wait > 0:
        seconds = math.ceil(min(wait, _LONGEST))
        detail = f"{why} Try again in {seconds} second{'' if seconds == 1 else 's'}."
        raise Refused(429, "too-many-requests", detail, {"Retry-After": str(seconds)})
