"""Mistakes of somebody's own code are told from the signature that it computed, and pasted headers are understood."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from receiver.signing import new_secret, sign
from receiver.verifying import Signer, explain_computed, explain_secret, read_headers

SECRET = "whsec_" + base64.b64encode(bytes(range(200, 232))).decode()
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
ID, STAMP, BODY = "evt_1", "1767225600", b'{"a":1}'
RIGHT = b"evt_1.1767225600." + BODY


def computed(key: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    """What code computes."""
    return "v1," + base64.b64encode(hmac.new(key, signed, algorithm).digest()).decode()


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (sign(SECRET, ID, int(STAMP), BODY), "right signature"),
        (hmac.new(KEY, RIGHT, "sha256").hexdigest(), "hexadecimal in place of base64"),
        (base64.urlsafe_b64encode(hmac.new(KEY, RIGHT, "sha256").digest()).decode().rstrip("="), "another base64"),
        (computed(SECRET.encode(), RIGHT), "whole text of the secret"),
        (computed(SECRET.removeprefix("whsec_").encode(), RIGHT), "decode it from base64"),
        (computed(KEY, BODY), "the body alone"),
        (computed(KEY, b"1767225600." + BODY), "leaves out the id"),
        (computed(KEY, b"evt_1." + BODY), "leaves out the timestamp"),
        (computed(KEY, b"1767225600.evt_1." + BODY), "wrong way round"),
        (computed(KEY, b"evt_11767225600" + BODY), "dots"),
        (computed(KEY, RIGHT + b"\n"), "adds a newline"),
        (computed(KEY, b"evt_1.1767225600."), "its body is empty"),
        (computed(KEY, b"evt_1.1767225600.[object Object]"), "[object Object]"),
        (computed(KEY, RIGHT, "sha1"), "sha1 in place of sha256"),
        (computed(SECRET.encode(), BODY), "and it signs the body alone"),
        (hashlib.sha256(BODY).hexdigest(), "without the secret"),
        ("nonsense", "No frequent mistake"),
        ("", "No frequent mistake"),
        ("é", "No frequent mistake"),
    ],
)
def test_the_mistake_behind_a_signature(signature: str, said: str) -> None:
    """A developer whose code computes something else is told which line of it is wrong."""
    assert said in explain_computed(signature, [new_secret(), SECRET], ID, STAMP, BODY)


def test_the_secret_in_use_is_recognised() -> None:
    """The secret in somebody's settings is told apart: right, old, another's, damaged, unknown."""
    old, others = Signer(new_secret(), "A", chosen=True, ended_at=1), Signer(new_secret(), "B", chosen=False)
    signers = [Signer(SECRET, "A", chosen=True), old, others]
    assert "as it should" in explain_secret(SECRET, signers)
    assert "Beside it" in explain_secret(f'"{SECRET}"\n', signers)
    assert "lacks whsec_" in explain_secret(SECRET.removeprefix("whsec_"), signers)
    assert "= at its end" in explain_secret(SECRET.rstrip("="), signers)
    assert "has ended" in explain_secret(old.key, signers)
    assert "secret of B" in explain_secret(others.key, signers)
    assert "nobody here" in explain_secret("whsec_other", signers)


EXPECTED = {"webhook-id": "evt_1", "webhook-timestamp": "17", "webhook-signature": "v1,a+b/c="}


@pytest.mark.parametrize(
    "pasted",
    [
        "Webhook-Id: evt_1\r\nWEBHOOK-TIMESTAMP: 17\nwebhook-signature: v1,a+b/c=\n",
        "> webhook-id: evt_1\n> webhook-timestamp: 17\n> webhook-signature: v1,a+b/c=\n>\n* done",
        "POST /hook HTTP/1.1\nwebhook-id: evt_1\nwebhook-timestamp: 17\nwebhook-signature: v1,a+b/c=",
        "-H 'webhook-id: evt_1' \\\n  -H 'webhook-timestamp: 17' \\\n  -H 'webhook-signature: v1,a+b/c=' \\",
        json.dumps({"Webhook-Id": ["evt_1"], "webhook-timestamp": 17, "webhook-signature": "v1,a+b/c="}),
        "{\n 'webhook-id': 'evt_1',\n 'webhook-timestamp': '17',\n 'webhook-signature': 'v1,a+b/c='}",
        "HTTP_WEBHOOK_ID=evt_1\nHTTP_WEBHOOK_TIMESTAMP=17\nHTTP_WEBHOOK_SIGNATURE=v1,a+b/c=",
        '"webhook-id" => "evt_1",\n"webhook-timestamp" => "17",\n"webhook-signature" => "v1,a+b/c=",',
    ],
)
def test_headers_are_understood_as_people_paste_them(pasted: str) -> None:
    """From curl, logs, JSON, Python, PHP or an environment: nobody has to rewrite them by hand."""
    found = read_headers(pasted)
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("pasted", ["", "nothing", "[1,2]", "[" * 100_000, "\x00: \x00"])
def test_nonsense_holds_no_webhook_headers(pasted: str) -> None:
    """Whatever is pasted, it is read without an error."""
    assert not set(EXPECTED) & set(read_headers(pasted))


def test_half_a_character_is_shown_as_it_was_spelled() -> None:
    """What is not Unicode, in a name or a value, can be compared and put on a page like all else."""
    found = read_headers(r'{"webhook-id": "\ud800", "\udfff-id": ["\ud800"]}')
    assert found == {"webhook-id": r"\ud800", r"\udfff-id": r"\ud800"}
    said = explain_computed("A" * 43, [SECRET], found["webhook-id"], "17", b"{}")
    assert said.startswith("No frequent mistake")
