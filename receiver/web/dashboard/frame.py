"""The frame around every page: who may see it, how it is answered, and what its template can use."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask
from flask import Blueprint, Flask, Response, g, request, url_for
from jinja2 import StrictUndefined
from markupsafe import Markup

from receiver import __version__
from receiver.models import id_pattern
from receiver.runtime import Runtime
from receiver.web import errors
from receiver.web.dashboard import formatting, sessions
from receiver.web.face import runtime

blueprint = Blueprint(
    "dashboard", __name__, template_folder="templates", static_folder="static", static_url_path="/assets"
)

View = Callable[..., Response]
RESTS = 10
"""A live part is left alone for so many times as long as a processor works on it, at least."""
THEMES = ("auto", "light", "dark")
_NAVIGATION: list[tuple[str, str]] = []  # (name of the view, words)
_SECTIONS: dict[str, str] = {}  # name of a view → name of the view in the navigation that it belongs to
_POLICY = "receiver-page-policy"


def page(
    method: str, path: str, *, nav: str | None = None, section: str | None = None, signed_in: bool = True
) -> Callable[[View], View]:
    """Make a view of a function that returns ``render(…)`` or ``redirect(…)``; its name is the name of the view.

    ``nav``: its words in the navigation. ``section``: the view in the navigation that it belongs to. ``signed_in``:
    without a session the visitor is sent to sign in, and back. A POST without the session's token is refused.
    """

    def register(view: View) -> View:
        @wraps(view)
        def answer(**parts: Any) -> Response:
            request.max_content_length = request.max_form_memory_size = runtime().settings.max_body
            if signed_in:
                key = sessions.key_of_visitor()
                if key is None:
                    return _to_sign_in()
                g.api_key = key
            if method == "POST":
                try:
                    sessions.check_form()
                except sessions.StaleForm:
                    if signed_in and (form := sessions.sent_form()):
                        return ask_again(_here(), form, 403)
                    raise
            return view(**parts)

        name = view.__name__
        if nav is not None:
            _NAVIGATION.append((name, nav))
        _SECTIONS[name] = section or name
        blueprint.add_url_rule(path, name, answer, methods=[method])
        return view

    return register


def render(template: str, status: int = 200, **values: Any) -> Response:
    """A page as an answer. Half a character, which JSON may hold and UTF-8 cannot, is shown as JSON escapes it."""
    text = flask.render_template(template, **values).encode("utf-8", "backslashreplace")
    response = flask.make_response(text, status)
    response.headers["Content-Security-Policy"] = flask.current_app.extensions[_POLICY]
    return response


def redirect(view: str, **values: Any) -> Response:
    """On to another page, with GET."""
    return Response(status=303, headers={"Location": link(view, **values)})


def link(view: str, **values: Any) -> str:
    """The address of a view, relative to the page that is asked for, so that it works behind any prefix."""
    return relative(url_for(f"dashboard.{view}", **values).removeprefix(request.root_path.rstrip("/")))


def relative(path: str) -> str:
    """A path from our root (``/tasks?status=failed``) as seen from the page that is asked for."""
    return ("../" * (request.path.count("/") - 1) or "./") + path.removeprefix("/")


def _to_sign_in() -> Response:
    """Sign in, then come back here (to what can be asked for with GET), or to the form that was sent."""
    back = _here() if request.method == "GET" else None
    address = link("sign_in", next=None if back == "/" else back)
    if "HX-Request" in request.headers:  # a redirect would be followed, and the sign-in page put into this one
        return Response(status=401, headers={"HX-Redirect": address})
    if request.method == "POST":
        flask.flash("You were signed out by then: nothing was done.")
        if form := sessions.sent_form():
            return ask_key(_here(), form)
    return Response(status=303, headers={"Location": address})


def ask_key(onward: str, form: str = "", wrong: str | None = None) -> Response:
    """The sign-in. ``onward``: where to go then. ``form``: what was typed into a form that is to be sent there."""
    status = 422 if wrong else 403 if form else 200
    return render("sign_in.html", status, onward=onward, form=form, wrong=wrong)


def ask_again(path: str, form: str, status: int = 200) -> Response:
    """A form that was made before its sender signed in: not taken, but shown, to be sent by one press."""
    return render("not_sent.html", status, path=path, fields=sessions.fields_of(form))


def _here() -> str:
    """The path that is asked for, with its query."""
    return request.full_path.rstrip("?")


def cursor_of(prefix: str) -> str | None:
    """Where the page of a list begins, by the id in ``cursor``; None for its beginning, and for what is no such id."""
    given = request.args.get("cursor", "")
    return given if re.fullmatch(id_pattern(prefix), given) else None


# --- what templates use ------------------------------------------------------------------------------


def asset(name: str) -> str:
    """The address of a file in ``static/``; it changes with the file, which may therefore be kept for good."""
    return relative(f"/assets/{name}?v={_fingerprint(name)}")


@cache
def _fingerprint(name: str) -> str:
    return hashlib.sha256((Path(__file__).parent / "static" / name).read_bytes()).hexdigest()[:12]


def live(seconds: float, identity: str = "live") -> Markup:
    """Attributes of an element with this id that reads its own page again and again, and picks itself out of it.

    ``dashboard.js`` holds it back while the page is hidden, and drops answers that change nothing. A page that costs
    much is read less often. The answer to a form has no address that it could be read again at: it stays as it is.
    """
    if request.method != "GET":
        return Markup()
    while seconds < RESTS * (time.thread_time() - g.worked):
        seconds *= 2
    return Markup(
        'data-live hx-get="{}" hx-trigger="every {}ms" hx-select="#{}" hx-target="this" hx-swap="outerHTML"'
    ).format(relative(request.full_path.rstrip("?")), round(seconds * 1000), identity)


@blueprint.app_context_processor
def _frame_values() -> dict[str, Any]:
    """What ``base.html`` needs on every page."""
    endpoint = (request.endpoint or "").removeprefix("dashboard.")
    theme = request.cookies.get("theme")
    return {
        "navigation": _NAVIGATION,
        "here": _SECTIONS.get(endpoint),
        "visitor": g.get("api_key"),
        "theme": theme if theme in THEMES else "auto",
        "zone_name": formatting.zone_name(),
        "version": __version__,
    }


@blueprint.after_request
def _keep_files(response: Response) -> Response:
    """A file asked for with its fingerprint never changes."""
    if request.endpoint == "dashboard.static" and "v" in request.args and response.status_code == 200:
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


# --- errors ------------------------------------------------------------------------------------------

_ADVICE = {
    400: "The browser sent something that cannot be read. Go back and try again.",
    403: "Go back, reload the page, and send it again.",
    404: "It may have been removed after its retention time, belong to another account, or the address is mistyped.",
    405: "Begin at the start, and use the buttons of the pages.",
    409: "Go back and reload the page to see how things stand now.",
    413: "Send less at once, or raise RECEIVER_MAX_BODY.",
    429: "Wait a moment, then try again.",
    500: "Try again. If it stays, look into the log for the request below.",
    502: "The provider turned the call down; what it said stands above.",
    503: "Nothing was lost. Try again in a moment; if it stays, `receiver check` says what is wrong.",
}


@blueprint.errorhandler(Exception)
def _as_page(error: Exception) -> Response:
    """What went wrong, as the API would say it, on a page that says what to do."""
    problem = errors.answer(error)
    if problem.status_code < 400:
        return problem
    said = problem.get_json(force=True)
    if isinstance(error, sessions.StaleForm):
        said["title"] = "This form is out of date"  # nothing is wrong with the key
    response = render("error.html", problem.status_code, problem=said, advice=_ADVICE.get(problem.status_code, ""))
    for name in ("Retry-After", "Allow"):
        if name in problem.headers:
            response.headers[name] = problem.headers[name]
    return response


def _wrong_address(error: Exception) -> Response:
    """A mistyped address, or that of a button put into the bar: a page for browsers, a problem for programs."""
    programs = request.path.startswith(("/v1", "/callbacks", "/static"))
    if programs or "text/html" not in request.headers.get("Accept", ""):
        return errors.answer(error)
    return _as_page(error)


# --- the application ---------------------------------------------------------------------------------


def attach(app: Flask, runtime: Runtime) -> None:
    """Put the dashboard into an application."""
    sessions.attach(app, runtime)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    app.jinja_env.filters.update(formatting.FILTERS)
    for function in (link, relative, asset, live, sessions.csrf_token):
        app.jinja_env.globals[function.__name__] = function
    app.extensions[_POLICY] = _policy(runtime)
    app.register_error_handler(404, _wrong_address)
    app.register_error_handler(405, _wrong_address)
    app.register_blueprint(blueprint)


def _policy(runtime: Runtime) -> str:
    """Only files of ours, and nothing that stands in a page itself (Content Security Policy, level 3).

    Outputs of tasks are shown from where they lie: with providers, at any https host, and with the sandbox at its
    own origin when that is plain http. They can be seen and heard, never run: scripts and frames stay shut.
    """
    places = {urlsplit(options.get("base_url", "")) for options in runtime.settings.providers.values()}
    plain = {f"http://{place.netloc}" for place in places if place.scheme == "http" and place.netloc}
    media = " ".join(["'self'", "https:", *sorted(plain)])
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {media} data:; media-src {media}; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
