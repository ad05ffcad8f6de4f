"""Somebody at the dashboard, without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urljoin

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from receiver.deliveries import Outcome
from receiver.models import Delivery, Subscriber
from receiver.runtime import Runtime
from receiver.subscribers import NewSubscriber
from tests.core.stage import answered
from tests.web.conftest import KEY


@dataclass
class Visitor:
    """A browser as far as pages need one: cookies, forms with their token, and redirects."""

    client: FlaskClient

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, **more)

    def post(self, path: str, form: dict[str, Any] | None = None, *, at: str | None = None) -> TestResponse:
        """Send a form with the session's token. ``at``: the page it stands on."""
        data = {"csrf": self.token(at or "/preferences"), **(form or {})}
        return self.client.post(path, data=data)

    def token(self, page: str) -> str:
        """The token in the forms of a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(page).text)
        assert found, f"no form on {page}"
        return unescape(found[1])

    def follow(self, answer: TestResponse) -> TestResponse:
        """Where an answer leads."""
        assert answer.status_code in (302, 303), answer.text
        return self.get(urljoin(answer.request.path, answer.headers["Location"]))

    def sign_in(self, key: str, onward: str = "/") -> TestResponse:
        """Fill in the sign-in form."""
        token = self.token("/sign-in")
        return self.client.post("/sign-in", query_string={"next": onward}, data={"csrf": token, "key": key})


@pytest.fixture
def guest(app: Flask) -> Visitor:
    """Somebody who is not signed in."""
    return Visitor(app.test_client())


@pytest.fixture
def visitor_with(app: Flask) -> Callable[[str], Visitor]:
    """Makes somebody who is signed in with a key."""

    def make(key: str) -> Visitor:
        visitor = Visitor(app.test_client())
        assert visitor.sign_in(key).status_code == 303
        return visitor

    return make


@pytest.fixture
def visitor(visitor_with: Callable[[str], Visitor]) -> Visitor:
    """Somebody who is signed in with the key of the account ``default``."""
    return visitor_with(KEY)


HOOK = "http://127.0.0.1:9/hook"


@pytest.fixture
def account_id(runtime: Runtime) -> str:
    """The account ``default``."""
    return runtime.accounts.create_key("default", "x", ["read"])[0].account_id


@pytest.fixture
def subscriber(runtime: Runtime, account_id: str) -> Subscriber:
    """A registered webhook."""
    return runtime.subscribers.create(account_id, NewSubscriber(HOOK, ["*"], description="The shop"))[0]


def attempt(runtime: Runtime, status: int | None = 200) -> None:
    """Let what is due be attempted, all with this answer (None: no connection)."""
    claims = runtime.deliveries.turn((), 100).claims
    runtime.deliveries.turn([Outcome(claim, runtime.clock(), answered(status)) for claim in claims], 0)


def ping(runtime: Runtime, subscriber: Subscriber, *statuses: int | None) -> Delivery:
    """A delivery whose attempts were answered so."""
    made = runtime.subscribers.ping(subscriber.account_id, subscriber.id)
    for status in statuses:
        runtime.deliveries.retry(subscriber.account_id, made.id)
        attempt(runtime, status)
    return made


def text(answer: TestResponse) -> str:
    """What can be read on a page."""
    assert answer.status_code in (200, 422), answer.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())
