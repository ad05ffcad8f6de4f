"""Who gets in, what keeps strangers' forms out, and what every page carries."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from receiver.errors import Busy
from receiver.models import Scope
from receiver.runtime import Runtime
from receiver.tasks import TaskService
from receiver.web import create_app
from receiver.web.dashboard import frame
from tests.web.conftest import KEY, Caller, Clock
from tests.web.dashboard.conftest import HOOK, Visitor

STATIC = Path(frame.__file__).parent / "static"


def paths(app: Flask, method: str = "GET") -> list[str]:
    """Every page without a parameter."""
    return [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("dashboard.") and method in (rule.methods or ()) and not rule.arguments
    ]


def test_without_a_session_every_page_leads_to_the_sign_in(app: Flask, guest: Visitor) -> None:
    """No page, and no form, does anything for somebody who is not signed in."""
    for path in set(paths(app)) - {"/sign-in"}:
        answer = guest.get(path)
        assert (answer.status_code, guest.follow(answer).status_code) == (303, 200), path
        assert "API key" in guest.follow(answer).text
    for path in set(paths(app, "POST")) - {"/sign-in"}:
        answer = guest.client.post(path, data={"csrf": "x"})
        assert (answer.status_code, "sign-in" in answer.headers["Location"]) == (303, True), path


def test_signing_in_leads_back_to_where_one_wanted_to_go(guest: Visitor) -> None:
    """With the query that the page was asked for with."""
    answer = guest.get("/tasks?status=failed")
    assert answer.headers["Location"] == "./sign-in?next=/tasks?status%3Dfailed"
    done = guest.sign_in(KEY, "/tasks?status=failed")
    assert done.headers["Location"] == "./tasks?status=failed"
    assert guest.follow(done).status_code == 200


@pytest.mark.parametrize(
    "onward", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "javascript:alert(1)", "/a\nb"]
)
def test_signing_in_leads_nowhere_else(guest: Visitor, onward: str) -> None:
    """Not to another host, whatever stands in the address."""
    assert guest.sign_in(KEY, onward).headers["Location"] == "./"


def test_a_path_is_never_read_as_a_scheme(guest: Visitor) -> None:
    """A path that looks like a script stays a path."""
    assert guest.sign_in(KEY, "/javascript:alert(1)").headers["Location"] == "./javascript:alert(1)"


def test_wrong_keys_and_small_keys_stay_outside(guest: Visitor, runtime: Runtime) -> None:
    """The form comes back and says why, without the key in it."""
    _, small = runtime.accounts.create_key("default", "x", [Scope.READ, Scope.SUBMIT])
    for key, why in ((small, "lacks the scope manage"), ("rk_wrong", "not known"), ("", "Paste an API key")):
        answer = guest.sign_in(key)
        assert answer.status_code == 422
        assert why in answer.text
        assert not key or key not in answer.text
        assert guest.get("/tasks").status_code == 303


def test_guessing_is_slowed_down(guest: Visitor) -> None:
    """As in the API: after a hundred wrong keys from one address it has to wait, and is told so on a page."""
    token = guest.token("/sign-in")
    for _ in range(200):  # a slow machine is given a guess more for each second it takes
        answer = guest.client.post("/sign-in", data={"csrf": token, "key": "rk_wrong"})
        if answer.status_code != 422:
            break
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert "Too many wrong API keys" in answer.text


def test_the_cookie_is_out_of_reach(guest: Visitor, build: Callable[..., Runtime]) -> None:
    """Unreadable for scripts, not sent by other sites' forms, never in the clear when the address is https."""
    cookie = guest.sign_in(KEY).headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/"} <= set(cookie.split("; "))
    assert KEY not in cookie
    plain = Visitor(create_app(build(public_url="http://127.0.0.1:8000")).test_client())
    assert "Secure" not in plain.sign_in(KEY).headers["Set-Cookie"]


def test_a_revoked_key_ends_its_sessions(visitor_with: Callable[[str], Visitor], runtime: Runtime) -> None:
    """At the next request, not when the cookie ends."""
    key, text = runtime.accounts.create_key("default", "x", [Scope.MANAGE])
    somebody = visitor_with(text)
    assert somebody.get("/tasks").status_code == 200
    runtime.accounts.revoke_key(key.id)
    assert somebody.get("/tasks").status_code == 303


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    """And leads to the sign-in."""
    assert "API key" in visitor.follow(visitor.post("/sign-out")).text
    assert visitor.get("/tasks").status_code == 303


def test_a_session_lasts_twelve_hours_whatever_is_done_in_it(visitor: Visitor, clock: Clock) -> None:
    """Forms make its cookie anew, and not its time longer: one that was copied ends, too."""
    for _ in range(2):
        clock.ahead += 5 * 3_600_000
        assert visitor.post("/preferences", {"theme": "dark"}).status_code == 303
        assert visitor.get("/tasks").status_code == 200
    clock.ahead += 3 * 3_600_000
    assert "sign-in" in visitor.get("/tasks").headers["Location"]


def test_sessions_survive_a_rotation_of_the_secret_keys(visitor: Visitor, build: Callable[..., Runtime]) -> None:
    """A new first key signs; the old one still reads; without it the session is over."""
    old = build().settings.secret_keys
    cookie = visitor.client.get_cookie("receiver_session")
    assert cookie is not None
    for keys, status in (((b"n" * 32, *old), 200), ((b"n" * 32,), 303)):
        client = create_app(build(secret_keys=keys)).test_client()
        client.set_cookie("receiver_session", cookie.value)
        assert client.get("/tasks").status_code == status


PAGE_OF_OURS = {"Sec-Fetch-Site": "same-origin"}
TYPED = {"csrf": "of an earlier session", "url": HOOK, "description": "a <b>\r\n\u202e", "kinds": ["task.*", "*"]}


def pressed(visitor: Visitor, answer: TestResponse) -> TestResponse:
    """What follows when the form of a page is sent as it is."""
    (action,) = re.findall(r'<form method="post" action="([^"]+)" class="below">', answer.text)
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', answer.text.rpartition("<form")[2])
    data: dict[str, list[str]] = {}
    for name, value in fields:
        data.setdefault(unescape(name), []).append(unescape(value))
    return visitor.client.post(urljoin(answer.request.path, unescape(action)), data=data)


def test_a_form_that_came_too_late_is_not_lost(guest: Visitor, runtime: Runtime, account_id: str) -> None:
    """Sent after the session ended: nothing is done until its sender has signed in and sends it again, as typed."""
    asked = guest.client.post("/subscribers/new", data=TYPED, headers=PAGE_OF_OURS)
    assert (asked.status_code, "nothing was done" in asked.text) == (403, True)
    action = unescape(re.findall(r'action="([^"]+)"', asked.text)[0])
    hidden = {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', asked.text)}
    for key, status in (("rk_wrong", 422), (KEY, 200)):
        shown = guest.client.post(urljoin("/subscribers/new", action), data={**hidden, "key": key})
        assert shown.status_code == status
        assert not runtime.subscribers.list_page(account_id, 5, None).items
    assert "a &lt;b&gt;" in shown.text
    assert pressed(guest, shown).status_code == 303
    (made,) = runtime.subscribers.list_page(account_id, 5, None).items
    assert (made.url, made.description) == (HOOK, TYPED["description"])
    assert set(made.event_types) == {"task.*", "*"}


def test_a_form_from_before_signing_in_anew_is_not_lost(visitor: Visitor, runtime: Runtime, account_id: str) -> None:
    """As when one signed in in another tab: it is not taken, but shown, and taken when it is sent from there."""
    shown = visitor.client.post("/subscribers/new", data=TYPED, headers=PAGE_OF_OURS)
    assert (shown.status_code, "Not sent yet" in shown.text) == (403, True)
    assert not runtime.subscribers.list_page(account_id, 5, None).items
    assert pressed(visitor, shown).status_code == 303
    assert len(runtime.subscribers.list_page(account_id, 5, None).items) == 1


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", None])
def test_no_other_site_puts_words_into_a_form(visitor: Visitor, guest: Visitor, site: str | None) -> None:
    """What did not stand on a page of ours is not given back, signed in or not."""
    headers = {"Sec-Fetch-Site": site} if site else {}
    assert visitor.client.post("/subscribers/new", data=TYPED, headers=headers).status_code == 403
    for somebody in (visitor, guest):
        assert HOOK not in somebody.client.post("/subscribers/new", data=TYPED, headers=headers).text
    nothing = guest.client.post(
        "/sign-in?next=//evil.example", data={"csrf": "x", "form": "[[]]"}, headers=PAGE_OF_OURS
    )
    assert nothing.status_code == 403
    assert "evil" not in nothing.text


def test_forms_without_the_token_are_refused(app: Flask, visitor: Visitor) -> None:
    """Every form, with no token and with a wrong one; nothing is done, and a page says what to do."""
    for path in paths(app, "POST"):
        for data in ({}, {"csrf": "wrong"}, {"csrf": "\u00e9"}):
            answer = visitor.client.post(path, data=data)
            assert answer.status_code == 403, path
            assert "This form is out of date" in answer.text
            assert answer.text.count("reload the page") == 1
            assert "API key may not" not in answer.text


def test_live_parts_learn_that_the_session_is_over(guest: Visitor) -> None:
    """The script is sent to the sign-in page as a whole, not given it as a part."""
    answer = guest.get("/tasks", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "./sign-in?next=/tasks"


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_pages_keep_their_own_policy(app: Flask, visitor: Visitor) -> None:
    """Nothing inline, nothing from elsewhere, a name for every page, and a language."""
    for path in paths(app):
        answer = visitor.get(path)
        while answer.status_code == 303:
            answer = visitor.follow(answer)
        assert answer.status_code == 200, path
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "style-src 'self';" in policy
        assert "unsafe" not in policy
        assert re.search(r"<title>\S.* · Callback Receiver</title>", answer.text), path
        for tag, attributes in Tags(answer.text).found:
            assert "style" not in attributes, (path, tag)
            assert not [name for name in attributes if name.startswith("on")], (path, tag)
            assert tag != "script" or re.match(r"(\./|(\.\./)+)assets/", attributes.get("src") or "")
            assert tag != "form" or attributes.get("method", "get") in ("post", "get"), path
            assert not str(attributes.get("src", "")).startswith(("http", "//")), (path, tag)


def test_the_policy_lets_outputs_be_seen_and_nothing_else(build: Callable[..., Runtime], app: Flask) -> None:
    """Pictures from any https host and from a plain http sandbox; scripts, frames and requests only here."""
    runtime = build()
    there = {"superapp": {**runtime.settings.providers["superapp"], "base_url": "http://127.0.0.1:9100/superapp"}}
    policy = frame._policy(replace(runtime, settings=replace(runtime.settings, providers=there)))
    assert "img-src 'self' https: http://127.0.0.1:9100 data:;" in policy
    assert "media-src 'self' https: http://127.0.0.1:9100;" in policy
    assert "connect-src 'self';" in policy


def test_pages_work_behind_a_prefix(visitor: Visitor) -> None:
    """Addresses are relative, so nothing depends on where a proxy puts the service."""
    for path in ("/tasks", "/sign-in", "/preferences"):
        for tag, attributes in Tags(visitor.get(path).text).found:
            for name in ("href", "src", "action", "hx-get"):
                assert not str(attributes.get(name, "")).startswith("/"), (path, tag)


def test_unknown_addresses_are_pages_for_people(visitor: Visitor, guest: Visitor) -> None:
    """A mistyped address in a browser gives a page; a program still gets a problem."""
    for somebody in (visitor, guest):
        answer = somebody.get("/tasks/nonsense", headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, answer.mimetype) == (404, "text/html")
        assert "Not found" in answer.text
    assert visitor.get("/nope").mimetype == "application/problem+json"
    assert visitor.get("/v1/nope", headers={"Accept": "text/html"}).mimetype == "application/problem+json"


def test_the_address_of_a_button_is_a_page_for_people_too(visitor: Visitor) -> None:
    """Asked for with GET, as from the history of a browser: 405 with a way on, and still a problem for programs."""
    answer = visitor.get("/sign-out", headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.mimetype) == (405, "text/html")
    assert "To the start" in answer.text
    assert "POST" in answer.headers["Allow"]
    assert visitor.get("/sign-out").mimetype == "application/problem+json"
    browser = {"Accept": "text/html"}
    assert visitor.get("/v1/signing-secret/rotate", headers=browser).mimetype == "application/problem+json"


def test_trouble_is_a_page_that_says_what_to_do(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After, 500 with the request's id, and nothing of the inside on either."""
    for error, status in ((Busy("db.internal is locked"), 503), (RuntimeError("hunter2"), 500)):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(TaskService, "list_page", fail)
        answer = visitor.get("/tasks")
        assert (answer.status_code, answer.mimetype) == (status, "text/html")
        assert answer.headers["X-Request-Id"] in answer.text
        assert "hunter2" not in answer.text
        assert "db.internal" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_files_that_are_shipped_are_what_they_are_said_to_be() -> None:
    """Every vendored file has the checksum, the version and the licence that stand beside it, and no other is there."""
    vendor = STATIC / "vendor"
    packages = json.loads((vendor / "vendored.json").read_text())["packages"]
    listed = {"vendored.json"}
    for package in packages:
        assert package["version"] in package["source"]
        assert any(name.endswith(".LICENSE.txt") for name in package["files"])
        for name, said in package["files"].items():
            assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == said["sha256"], name
            listed.add(name)
    assert {path.name for path in vendor.iterdir()} == listed


def test_files_are_kept_by_the_browser(visitor: Visitor) -> None:
    """Their address changes with them, so they are fetched once."""
    (address,) = re.findall(r'href="\./(assets/dashboard\.css\?v=[0-9a-f]{12})"', visitor.get("/tasks").text)
    with visitor.get(f"/{address}") as answer:
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]


def test_preferences_are_kept(visitor: Visitor, api: Caller) -> None:
    """Times are shown in the chosen zone, colours as chosen; what is no choice is passed over."""
    api.submit()
    visitor.client.set_cookie("zone", "UTC")
    assert 'data-theme="dark"' not in visitor.get("/tasks").text
    answer = visitor.follow(visitor.post("/preferences", {"zone": "Asia/Kathmandu", "theme": "dark"}))
    assert "Saved" in answer.text
    text = visitor.get("/tasks").text
    assert "+0545" in text
    assert 'data-theme="dark"' in text
    visitor.post("/preferences", {"zone": "../../etc/passwd", "theme": "x"})
    assert "+0545" in visitor.get("/tasks").text
    visitor.client.set_cookie("zone", "../../etc/passwd")
    assert "UTC" in visitor.get("/tasks").text
