"""A subscriber that answers with what it was sent does not show its own secret headers to readers of deliveries."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from receiver.blanking import MOST_PARTS, blanked, is_secret, secrets_in
from receiver.deliveries import Outcome
from receiver.outbound import OutboundResult
from receiver.runtime import Runtime
from tests.web.conftest import Caller

SECRET = 'tok-"quoted"-0001/+é'


@pytest.mark.parametrize(
    ("name", "secret"),
    [("Authorization", True), ("X-Api-Key", True), ("cookie", True), ("X-Hub-Signature", True), ("X-Tenant", False),
     ("sig", True), ("X-Sign", True), ("x-hmac-sha256", True), ("X-JWT", True), ("X_PWD", True), ("X-Pass", True),
     ("X-Passphrase", True), ("X-Design", False), ("bypass", False), ("signed-by", False)],
)  # fmt: skip
def test_secret_headers_are_known_by_their_names(name: str, secret: bool) -> None:
    """What the API shows as stars is what is blanked out elsewhere."""
    assert is_secret(name) is secret


def test_a_token_is_a_secret_without_its_scheme_too() -> None:
    """Answers often show only the token of ``Bearer <token>``; short words are no secrets."""
    headers = {"Authorization": "Bearer abcdef123", "X-Tenant": "production", "Cookie": "a=b; session=xyz"}
    assert sorted(secrets_in(headers)) == [
        "Bearer abcdef123", "a=b; session=xyz", "abcdef123", "session=xyz",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"you sent {SECRET}!", "you sent ***!"),
        (json.dumps({"got": [SECRET]}), '{"got": ["***"]}'),
        (json.dumps({"got": [SECRET]}, ensure_ascii=False), '{"got": ["***"]}'),
        ("?t=tok-%22quoted%22-0001%2F%2B%C3%A9&x", "?t=***&x"),
        (SECRET.encode("latin-1").decode("utf-8", "replace"), "***"),
        (json.dumps(SECRET.encode("latin-1").decode("utf-8", "replace")), '"***"'),
        ("?t=tok-%22quoted%22-0001%2F%2B%E9&x", "?t=***&x"),
        ("nothing of it", "nothing of it"),
        ('cut: tok-"quo', "cut: ***"),
        ("cut: tok-", "cut: tok-"),
        ('tok-"quXYZ tok-"quo', 'tok-"quXYZ ***'),
        ('tok-"quXYZ', 'tok-"quXYZ'),
    ],
)
def test_secrets_are_blanked_out_in_every_usual_spelling(text: str, shown: str) -> None:
    """Plain, in JSON, in a URL, as the bytes that were sent, and cut off at the end."""
    assert blanked(text, [SECRET], cut=True) == shown


@pytest.mark.parametrize("value", ["a1b2c3 " * 142, "x" * 1000, '"/é' * 333], ids=["parts", "one", "spelled"])
def test_many_and_long_secrets_cost_an_attempt_little(value: str) -> None:
    """Whoever fills all its headers with secrets does not hold up the worker for the other subscribers."""
    headers = {f"X-Token-{number}": value.replace("1", f"{number:02}")[:1000] for number in range(20)}
    many = {f"X-Key-{number}": " ".join(f"{number:02}{part:04}" for part in range(142)) for number in range(20)}
    assert len(secrets_in(many)) <= 20 * (MOST_PARTS + 1)
    for secrets in (secrets_in(headers), secrets_in(many)):
        began = time.thread_time()
        for answer in [*["a" * 1024] * 8, "b" * 16_384, value[:900], '"' * 16_384]:
            blanked(answer, secrets, cut=True)
        assert time.thread_time() - began < 0.2


def test_a_secret_that_contains_another_goes_first() -> None:
    """No rest of the longer one stays."""
    assert blanked("secret-1-more secret-1", ["secret-1", "secret-1-more"]) == "*** ***"


@pytest.fixture
def echoed(api: Caller, runtime: Runtime) -> Callable[[str, dict[str, str]], Any]:
    """What the API shows of an attempt, for an answer of the subscriber."""
    hook = {
        "url": "http://127.0.0.1:9/",
        "event_types": ["*"],
        "headers": {"Authorization": "Bearer sub-token-0001", "X-Tenant": "production"},
    }
    subscriber = api.post("/v1/subscribers", hook).json["id"]

    def show(body: str, headers: dict[str, str]) -> Any:
        delivery = api.post(f"/v1/subscribers/{subscriber}/ping").json["id"]
        (claim,) = runtime.deliveries.turn((), 10).claims
        sent = runtime.deliveries.request_of(claim)
        assert sent.headers["Authorization"] == "Bearer sub-token-0001"
        runtime.deliveries.turn([Outcome(claim, 0, OutboundResult(200, headers, body, None, "Fine.", 1))], 0)
        return api.get(f"/v1/deliveries/{delivery}").json["attempts"][0]

    return show


def test_an_echo_is_stored_without_the_secrets(echoed: Callable[[str, dict[str, str]], Any]) -> None:
    """Neither body nor headers of the stored answer hold the secret header; all else is kept as it came."""
    attempt = echoed(
        '{"authorization": "Bearer sub-token-0001", "tenant": "production"}',
        {"location": "/?token=sub-token-0001", "server": "echo"},
    )
    assert attempt["response_body"] == '{"authorization": "***", "tenant": "production"}'
    assert attempt["response_headers"] == {"location": "/?token=***", "server": "echo"}


def test_of_a_secret_that_is_cut_off_nothing_is_stored(echoed: Callable[[str, dict[str, str]], Any]) -> None:
    """An echo that ends in the middle of a secret, in the body or in a header, does not show its beginning."""
    attempt = echoed("you sent Bearer sub-tok", {"location": "/?token=sub-token-0"})
    assert attempt["response_body"] == "you sent ***"
    assert attempt["response_headers"] == {"location": "/?token=***"}
