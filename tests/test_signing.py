"""What we sign, other people's libraries verify; what others sign, we believe only when it is right."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable

import pytest
import standardwebhooks
import svix.webhooks
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.signing import (
    BadToken,
    BadWebhook,
    CallbackTokens,
    Secret,
    check_secret,
    dump_secrets,
    live,
    load_secrets,
    new_secret,
    rotate,
    sign,
    signature_header,
    verify,
)

KNOWN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KNOWN_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
KNOWN_TIME = 1614265330
KNOWN_BODY = b'{"test": 2432232314}'
KNOWN_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

TASK = "task_01jd8x3k5m7n9p1q2r3s4t5v6w"
DAY = 86400
NOW = 1_700_000_000_000


def sent(secrets: list[str], body: bytes, at: int = KNOWN_TIME) -> dict[str, str]:
    """The signed headers of a webhook."""
    return {
        "webhook-id": KNOWN_ID,
        "webhook-timestamp": str(at),
        "webhook-signature": signature_header(secrets, KNOWN_ID, at, body),
    }


def by_standardwebhooks(secret: str, headers: dict[str, str], body: bytes) -> None:
    """Verify as a subscriber with the published library of Standard Webhooks does."""
    standardwebhooks.Webhook(secret).verify(body.decode(), headers)


def by_svix(secret: str, headers: dict[str, str], body: bytes) -> None:
    """Verify as a subscriber with Svix's library does."""
    svix.webhooks.Webhook(secret).verify(body, headers)


LIBRARIES = [by_standardwebhooks, by_svix]


def test_known_vector() -> None:
    """The signature of the vector that the scheme's own test suites share."""
    assert sign(KNOWN_SECRET, KNOWN_ID, KNOWN_TIME, KNOWN_BODY) == KNOWN_SIGNATURE


@pytest.mark.parametrize("library", LIBRARIES)
def test_published_libraries_verify_our_signatures(library: Callable[..., None]) -> None:
    """A subscriber needs no code of ours: the published libraries take what we sign."""
    secret = new_secret()
    body = json.dumps({"type": "task.succeeded", "data": {"text": "öffne 打开 \u2028"}}).encode()
    now = int(time.time())
    library(secret, sent([secret], body, now), body)
    with pytest.raises((standardwebhooks.WebhookVerificationError, svix.webhooks.WebhookVerificationError)):
        library(secret, sent([secret], body, now), body + b" ")


@pytest.mark.parametrize("library", LIBRARIES)
def test_rotated_secrets_all_verify(library: Callable[..., None]) -> None:
    """After two rotations a subscriber that still holds either older secret verifies the next delivery."""
    now = int(time.time())
    keys = [new_secret() for _ in range(3)]
    secrets: tuple[Secret, ...] = ()
    for key in keys:
        secrets = rotate(secrets, key, now * 1000, DAY)
    headers = sent([secret.key for secret in live(secrets, now * 1000)], b"{}", now)
    assert re.fullmatch(r"v1,\S{44} v1,\S{44} v1,\S{44}", headers["webhook-signature"])
    for key in keys:
        library(key, headers, b"{}")


@given(st.binary(), st.binary(min_size=24, max_size=64), st.integers(0, 10**11), st.integers(0, 2))
def test_we_verify_what_we_sign(body: bytes, key: bytes, at: int, place: int) -> None:
    """Signing and verifying agree for any bytes, whichever of several secrets signed."""
    secret = "whsec_" + base64.b64encode(key).decode()
    ours = [new_secret(), new_secret()]
    ours.insert(place, secret)
    verify(ours, sent([secret], body, at), body, at)
    verify([secret], sent(ours, body, at), body, at)


@given(st.binary(min_size=1), st.data())
def test_one_changed_byte_is_noticed(body: bytes, data: st.DataObject) -> None:
    """No byte of the body can change unnoticed."""
    place = data.draw(st.integers(0, len(body) - 1))
    other = bytearray(body)
    other[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadWebhook):
        verify([KNOWN_SECRET], sent([KNOWN_SECRET], body), bytes(other), KNOWN_TIME)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_counts(name: str) -> None:
    """A webhook with a header missing or changed is not believed, and the reason says which is missing."""
    headers = sent([KNOWN_SECRET], b"{}")
    verify([KNOWN_SECRET], {key.title(): value for key, value in headers.items()}, b"{}", KNOWN_TIME)
    with pytest.raises(BadWebhook):
        verify([KNOWN_SECRET], {**headers, name: headers[name] + "1"}, b"{}", KNOWN_TIME)
    del headers[name]
    with pytest.raises(BadWebhook, match=name):
        verify([KNOWN_SECRET], headers, b"{}", KNOWN_TIME)


@pytest.mark.parametrize(
    ("off", "believed"), [(0, True), (300, True), (-300, True), (301, False), (-301, False), (DAY, False)]
)
def test_old_and_future_webhooks_are_refused(off: int, believed: bool) -> None:
    """A recorded webhook cannot be played again later: five minutes either way, no more."""
    headers = sent([KNOWN_SECRET], b"{}")
    if believed:
        verify([KNOWN_SECRET], headers, b"{}", KNOWN_TIME + off)
    else:
        with pytest.raises(BadWebhook, match="time"):
            verify([KNOWN_SECRET], headers, b"{}", KNOWN_TIME + off)


@pytest.mark.parametrize(
    "decorate",
    [
        lambda good: f"v1 {good}",
        lambda good: f"nonsense  {good}  ",
        lambda good: f", ,, {good}",
        lambda good: f"v1a,{'A' * 86}== {good}",
        lambda good: f"v1,ä\udcff {good}",
    ],
)
def test_odd_tokens_beside_a_good_one_do_no_harm(decorate: Callable[[str], str]) -> None:
    """Tokens of other kinds, without a comma or beside double spaces are passed over."""
    headers = sent([KNOWN_SECRET], b"\xff\xfe")
    headers["webhook-signature"] = decorate(headers["webhook-signature"])
    verify([KNOWN_SECRET], headers, b"\xff\xfe", KNOWN_TIME)


@given(st.text(), st.text(), st.text(), st.binary())
@example("\udcff", "9" * 5000, "v1", b"")
@example("a", "１６１４２６５３３０", "v1,", b"\xff")
@example("a", str(KNOWN_TIME), "v1,\udcff  ,", b"\xff")
def test_garbage_is_refused_and_nothing_else(webhook_id: str, stamp: str, signature: str, body: bytes) -> None:
    """Whatever a stranger sends, the answer is BadWebhook and never another error."""
    headers = {"webhook-id": webhook_id, "webhook-timestamp": stamp, "webhook-signature": signature}
    with pytest.raises(BadWebhook):
        verify([KNOWN_SECRET], headers, body, KNOWN_TIME)


def test_no_secret_signs_and_verifies_nothing() -> None:
    """Without a live secret nothing goes out unsigned and nothing is believed."""
    with pytest.raises(ValueError, match="no live secret"):
        signature_header([], KNOWN_ID, KNOWN_TIME, b"")
    with pytest.raises(BadWebhook):
        verify([], sent([KNOWN_SECRET], b""), b"", KNOWN_TIME)


def test_new_secrets_are_unique_and_long() -> None:
    """Generated secrets are 32 random bytes each, and valid."""
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        check_secret(secret)
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begins with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with whsec_"),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with whsec_"),
        ("whsec_", "base64"),
        ("whsec_not base64 at all, not at all", "base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "base64"),
        ("whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(), "base64"),
        ("whsec_" + base64.b64encode(b"a" * 32).decode().rstrip("="), "base64"),
        ("whsec_ä" + "A" * 31, "base64"),
        ("whsec_" + base64.b64encode(b"a" * 23).decode(), "holds 23"),
        ("whsec_" + base64.b64encode(b"a" * 65).decode(), "holds 65"),
    ],
)
def test_bad_secrets_are_refused_with_a_sentence(text: str, says: str) -> None:
    """A caller's own secret without prefix, with broken base64 or of a wrong length is refused, and not quoted."""
    with pytest.raises(ValueError, match=says) as caught:
        check_secret(text)
    assert text.removeprefix("whsec_") not in str(caught.value) or text in ("", "whsec_")


@pytest.mark.parametrize("size", [24, 32, 64])
def test_secrets_of_allowed_lengths_are_taken(size: int) -> None:
    """24 to 64 bytes are what the specification allows."""
    check_secret("whsec_" + base64.b64encode(b"\xfb" * size).decode())


def test_rotation_overlaps_and_ends() -> None:
    """The previous secret signs through the overlap and not a millisecond longer."""
    first, second = new_secret(), new_secret()
    secrets = rotate((Secret(first, NOW),), second, NOW, DAY)
    assert [secret.key for secret in live(secrets, NOW + DAY * 1000 - 1)] == [second, first]
    assert [secret.key for secret in live(secrets, NOW + DAY * 1000)] == [second]
    assert secrets[0] == Secret(second, NOW, None)


def test_rotation_without_overlap_ends_all_others() -> None:
    """After a leak an overlap of 0 leaves the new secret alone, whatever overlaps still ran."""
    secrets = rotate((), new_secret(), NOW, 0)
    secrets = rotate(secrets, new_secret(), NOW, 7 * DAY)
    newest = new_secret()
    assert rotate(secrets, newest, NOW + 1000, 0) == (Secret(newest, NOW + 1000),)


def test_rotation_never_lengthens_an_overlap() -> None:
    """A secret that was to end at a certain time does not live longer because of a later rotation."""
    first = new_secret()
    secrets = rotate((Secret(first, NOW),), new_secret(), NOW, 60)
    secrets = rotate(secrets, new_secret(), NOW + 1000, DAY)
    assert {secret.key: secret.expires_at for secret in secrets}[first] == NOW + 60_000


def test_at_most_ten_secrets_sign() -> None:
    """An eleventh live secret is refused; once one has expired there is room again."""
    secrets: tuple[Secret, ...] = ()
    for number in range(10):
        secrets = rotate(secrets, new_secret(), NOW + number * 1000, 60)
    with pytest.raises(ValueError, match="At most 10"):
        rotate(secrets, new_secret(), NOW + 10_000, 60)
    assert len(rotate(secrets, new_secret(), NOW + 61_500, 60)) == 10
    assert len(rotate(secrets, new_secret(), NOW + 10_000, 0)) == 1


def test_rotation_refuses_nonsense() -> None:
    """A secret in use, an invalid one and a negative overlap are refused."""
    secrets = (Secret(KNOWN_SECRET, NOW),)
    with pytest.raises(ValueError, match="in use"):
        rotate(secrets, KNOWN_SECRET, NOW, 60)
    with pytest.raises(ValueError, match="whsec_"):
        rotate(secrets, "secret", NOW, 60)
    with pytest.raises(ValueError, match="overlap"):
        rotate(secrets, new_secret(), NOW, -1)


def test_secrets_survive_the_store_and_hide_in_logs() -> None:
    """What is dumped loads as it was, and a secret that is printed shows no key."""
    secrets = rotate((Secret(KNOWN_SECRET, NOW),), new_secret(), NOW, 60)
    assert load_secrets(dump_secrets(secrets)) == secrets
    assert KNOWN_SECRET not in repr(secrets)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "5", '{"a": 1}', '["a"]', "[{}]", '[{"key": 1, "created_at": 1}]', '[{"key": "SECRET", "x": 1}]'],
)
def test_damaged_stored_secrets_are_one_clear_error(text: str) -> None:
    """A damaged row is a ValueError that quotes nothing of it."""
    with pytest.raises(ValueError, match="cannot be read") as caught:
        load_secrets(text)
    assert "SECRET" not in str(caught.value)


OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32


def test_a_token_names_its_task() -> None:
    """A callback token gives back the task it was made for, is short and needs no escaping in a URL."""
    tokens = CallbackTokens([NEW_KEY])
    token = tokens.make("topview", TASK)
    assert re.fullmatch(r"[A-Za-z0-9._-]{70}", token)
    assert tokens.read("topview", token) == TASK


def test_tokens_that_providers_hold_go_on_working() -> None:
    """A callback URL that an earlier version gave out names its task in every later one."""
    given = "01kahx3mt5k0c4z7d6q8r9w2ve.kQ0IB9UzysHUz9E6qzg1a65-KOp6f9sMgkgcAEv-Fuw"  # signed with NEW_KEY
    assert CallbackTokens([NEW_KEY]).read("topview", given) == "task_01kahx3mt5k0c4z7d6q8r9w2ve"


def test_a_token_works_for_its_provider_only() -> None:
    """The token of one provider is refused at another's address."""
    tokens = CallbackTokens([NEW_KEY])
    with pytest.raises(BadToken):
        tokens.read("img_open", tokens.make("topview", TASK))


def test_tokens_outlive_a_change_of_key() -> None:
    """Callback URLs that providers hold go on working; new ones are signed with the first key."""
    old, both, new = CallbackTokens([OLD_KEY]), CallbackTokens([NEW_KEY, OLD_KEY]), CallbackTokens([NEW_KEY])
    assert both.read("topview", old.make("topview", TASK)) == TASK
    assert new.read("topview", both.make("topview", TASK)) == TASK
    with pytest.raises(BadToken):
        new.read("topview", old.make("topview", TASK))


def test_no_other_spelling_of_a_token_is_taken() -> None:
    """Exchanging any character of a token for any other makes it worthless."""
    tokens = CallbackTokens([NEW_KEY])
    token = tokens.make("topview", TASK)
    for place, char in enumerate(token):
        for other in "0aZ_-.w":
            if other != char:
                with pytest.raises(BadToken):
                    tokens.read("topview", token[:place] + other + token[place + 1 :])
    last = token[-1]
    for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if other != last:
            with pytest.raises(BadToken):
                tokens.read("topview", token[:-1] + other)


@given(st.text())
@example("")
@example("." * 70)
@example("0" * 26 + "." + "é" * 43)
@example("0" * 26 + "." + "\udcff" * 43)
@example("0" * 26 + "." + "A" * 43 + "\n")
def test_a_strangers_token_is_refused_and_nothing_else(token: str) -> None:
    """Whatever stands in the URL, the answer is BadToken and never another error."""
    with pytest.raises(BadToken):
        CallbackTokens([NEW_KEY]).read("topview", token)


@pytest.mark.parametrize(
    "task_id", ["", "task_", "sub_01jd8x3k5m7n9p1q2r3s4t5v6w", TASK.upper(), TASK + "a", TASK + "\n"]
)
def test_tokens_are_made_for_task_ids_only(task_id: str) -> None:
    """A programming mistake does not become a URL that names nothing."""
    with pytest.raises(ValueError, match="task id"):
        CallbackTokens([NEW_KEY]).make("topview", task_id)


def test_tokens_need_a_key() -> None:
    """Without a secret key no token is made, rather than one that anybody can make."""
    with pytest.raises(ValueError, match="secret key"):
        CallbackTokens([])
