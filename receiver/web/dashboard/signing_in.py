"""Signing in with an API key, signing out, and what a visitor prefers."""

from __future__ import annotations

import re

import flask
from flask import Response, g, request

from receiver.models import Scope
from receiver.web import auth
from receiver.web.dashboard import formatting, sessions
from receiver.web.dashboard.frame import THEMES, ask_again, ask_key, page, redirect, relative, render

_LOCAL = re.compile(r"/(?![/\\])[^\\\x00-\x20]{0,2000}")
_YEAR = 365 * 86_400


@page("GET", "/sign-in", signed_in=False)
def sign_in() -> Response:
    """The form; who is signed in already goes on."""
    if sessions.key_of_visitor() is not None:
        return _onward()
    return ask_key(_wanted())


@page("POST", "/sign-in", signed_in=False)
def check_key() -> Response:
    """Begin a session with a key that may manage; wrong keys are held back as in the API."""
    text, form = request.form.get("key", "").strip(), request.form.get("form", "")
    key = auth.identify(text) if text else None
    if key is None:
        wrong = "This API key is not known, or was revoked." if text else "Paste an API key."
    elif Scope.MANAGE not in key.scopes:
        wrong = "This API key lacks the scope manage, which the dashboard needs."
    else:
        sessions.begin(key)
        g.api_key = key
        return ask_again(_wanted(), form) if sessions.fields_of(form) else _onward()
    return ask_key(_wanted(), form, wrong)


@page("POST", "/sign-out")
def sign_out() -> Response:
    """End the session."""
    sessions.end()
    return redirect("sign_in")


@page("GET", "/preferences")
def preferences() -> Response:
    """Time zone and colours."""
    return render("preferences.html", zones=formatting.zones())


@page("POST", "/preferences")
def prefer() -> Response:
    """Keep what was chosen, in cookies of this browser."""
    response = redirect("preferences")
    zone, theme = request.form.get("zone"), request.form.get("theme")
    if zone in formatting.zones():
        response.set_cookie(formatting.ZONE_COOKIE, zone, max_age=_YEAR, samesite="Lax")
    if theme in THEMES:
        response.set_cookie("theme", theme, max_age=_YEAR, samesite="Lax")
    flask.flash("Saved for this browser.")
    return response


def _onward() -> Response:
    """To the page that was asked for before."""
    return Response(status=303, headers={"Location": relative(_wanted())})


def _wanted() -> str:
    """What was asked for before, if it is one of our pages; else the first of them."""
    wanted = request.values.get("next", "/")
    return wanted if _LOCAL.fullmatch(wanted) else "/"
