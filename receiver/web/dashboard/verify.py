"""Verify me: why a webhook does not verify at somebody's, and functions to copy that do it right."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from flask import Response, request

from receiver.inspections import Inspection, Received
from receiver.models import id_pattern
from receiver.verifying import read_headers
from receiver.web.auth import account
from receiver.web.dashboard.frame import page, render
from receiver.web.dashboard.subscribers import to_choose_from
from receiver.web.face import runtime

ACCOUNT = "account"
"""Stands for what goes to tasks' callback URLs, which the account signs."""
_SUBSCRIBER = re.compile(id_pattern("sub"))
_TYPED = ("subscriber", "headers", "body", "secret", "computed")
_SNIPPETS = (
    ("Python", "standard_library.py"),
    ("Python, with a library", "library.py"),
    ("Node", "verify.mjs"),
    ("Go", "verify.go"),
    ("Java", "Webhooks.java"),
    ("PHP", "verify.php"),
    ("Ruby", "verify.rb"),
    ("Shell", "verify.sh"),
)


@cache
def snippets() -> tuple[tuple[str, str, str], ...]:
    """(language, name of the file, text) of each verification function; the tests run them."""
    folder = Path(__file__).parent / "snippets"
    return tuple((language, name, (folder / f"{name}.txt").read_text("utf-8")) for language, name in _SNIPPETS)


@page("GET", "/verify", nav="Verify")
def verify() -> Response:
    """The form."""
    return _show({**dict.fromkeys(_TYPED, ""), "subscriber": request.args.get("subscriber", "")}, None)


@page("POST", "/verify", section="verify")
def inspect() -> Response:
    """The form with what was found."""
    typed = {name: request.form.get(name, "") for name in _TYPED}
    file = request.files.get("file")
    exact = file.read() if file is not None and file.filename else None
    # A browser sends the line ends of a text field as CRLF, whatever was pasted; events have LF, if any.
    body = typed["body"].replace("\r\n", "\n").encode("utf-8", "surrogatepass") if exact is None else exact
    received = Received(read_headers(typed["headers"]), body, typed["secret"], typed["computed"])
    chosen = typed["subscriber"] if _SUBSCRIBER.fullmatch(typed["subscriber"]) else None
    found = runtime().inspections.inspect(account(), chosen, received)
    return _show({**typed, "secret": ""}, found, pasted=exact is None)


def _show(typed: dict[str, str], found: Inspection | None, *, pasted: bool = True) -> Response:
    return render(
        "verify.html",
        typed=typed,
        found=found,
        pasted=pasted,
        account_choice=ACCOUNT,
        subscribers=to_choose_from(typed["subscriber"] if _SUBSCRIBER.fullmatch(typed["subscriber"]) else None),
        snippets=snippets(),
    )
