"""Secrets at rest: nobody who reads the database reads them, and nobody who writes to it can swap them."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.sealing import MAKE_ONE, SealBroken, Sealer, new_secret_key, parse_secret_keys

ROOT = Path(__file__).parents[1]
OLD_KEY, NEW_KEY = b"o" * 32, b"n" * 32
SEALER = Sealer([NEW_KEY])


@given(st.text(), st.text(max_size=40))
def test_what_is_sealed_opens(plain: str, row: str) -> None:
    """Any text comes back as it was, for the row it was sealed for."""
    assert SEALER.open(SEALER.seal(plain, row), row) == plain


def test_how_to_make_a_secret_key_is_told_where_one_is_missed() -> None:
    """Whoever must set one is given the command, and what it prints is taken; the pages and examples have the same."""
    program, *more = shlex.split(MAKE_ONE)
    assert program == "python3"
    printed = subprocess.run([sys.executable, *more], check=True, capture_output=True, text=True).stdout
    assert len(parse_secret_keys(printed.strip())) == 1
    for wrong in ("changeme", "a word"):
        with pytest.raises(ValueError, match=re.escape(MAKE_ONE)):
            parse_secret_keys(wrong)
    for page in ("docs/operating.md", "deploy/compose.env.example"):
        assert MAKE_ONE in (ROOT / page).read_text(), page


def test_a_sealed_text_shows_nothing() -> None:
    """The stored text is ASCII, differs each time and holds nothing of the secret."""
    first, second = SEALER.seal("whsec_secret", "sub_1"), SEALER.seal("whsec_secret", "sub_1")
    assert first != second
    assert first.isascii()
    assert "secret" not in first
    assert b"secret" not in base64.urlsafe_b64decode(first.rpartition(".")[2] + "==")


def test_a_sealed_text_opens_for_its_row_only() -> None:
    """A sealed secret that is copied to another row does not open there."""
    with pytest.raises(SealBroken, match="elsewhere"):
        SEALER.open(SEALER.seal("secret", "sub_1"), "sub_2")


def test_sealed_texts_outlive_a_change_of_key() -> None:
    """After a new first key old texts open, new ones are sealed with it, and a removed key is named as the cause."""
    old, both, new = Sealer([OLD_KEY]), Sealer([NEW_KEY, OLD_KEY]), Sealer([NEW_KEY])
    assert both.open(old.seal("secret", "sub_1"), "sub_1") == "secret"
    assert new.open(both.seal("secret", "sub_1"), "sub_1") == "secret"
    with pytest.raises(SealBroken, match="RECEIVER_SECRET_KEYS"):
        new.open(old.seal("secret", "sub_1"), "sub_1")


def test_any_change_is_noticed() -> None:
    """Exchanging any one character of a sealed text breaks it."""
    sealed = SEALER.seal("secret", "sub_1")
    for place, char in enumerate(sealed):
        for other in "0Aa_.":
            if other != char:
                with pytest.raises(SealBroken):
                    SEALER.open(sealed[:place] + other + sealed[place + 1 :], "sub_1")


KEY_ID = SEALER.seal("", "").split(".")[1]


@given(st.text() | st.from_regex(rf"v1\.{KEY_ID}\.[A-Za-z0-9_-]*", fullmatch=True))
@example("")
@example(f"v1.{KEY_ID}.")
@example(f"v1.{KEY_ID}.A")
@example(f"v1.{KEY_ID}.AAAA")
@example(f"v1.{KEY_ID}." + "A" * 16)
@example("whsec_plain")
def test_damaged_texts_are_one_clear_error(sealed: str) -> None:
    """Whatever stands in the row, the answer is SealBroken and never another error."""
    with pytest.raises(SealBroken):
        SEALER.open(sealed, "sub_1")


def test_sealing_needs_a_key() -> None:
    """Without a secret key nothing is stored as if it were sealed."""
    with pytest.raises(ValueError, match="secret key"):
        Sealer([])


def test_new_keys_parse() -> None:
    """A generated key is 32 random bytes that the setting takes, alone or in a list, padded or not."""
    first, second = new_secret_key(), new_secret_key()
    assert first != second
    keys = parse_secret_keys(f" {first} , {second.rstrip('=')}\n")
    assert [len(key) for key in keys] == [32, 32]
    assert keys == (base64.urlsafe_b64decode(first), base64.urlsafe_b64decode(second))


GOOD = base64.urlsafe_b64encode(b"\xff" * 32).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "key 1 is empty"),
        (f"{GOOD},", "key 2 is empty"),
        (f"{GOOD},{GOOD}", "key 2 is there twice"),
        (f"{GOOD},MYSECRET!", "key 2 is not URL-safe base64"),
        ("ö" * 43, "key 1 is not URL-safe base64"),
        (GOOD.replace("_", "/"), "key 1 is not URL-safe base64"),
        (base64.urlsafe_b64encode(b"a" * 31).decode(), "holds 31 bytes"),
        (base64.urlsafe_b64encode(b"a" * 33).decode(), "holds 33 bytes"),
    ],
)
def test_bad_keys_are_refused_with_a_sentence(text: str, says: str) -> None:
    """A wrong setting is refused at start, and the sentence tells which key it is without showing it."""
    with pytest.raises(ValueError, match=says) as caught:
        parse_secret_keys(text)
    assert "MYSECRET" not in str(caught.value)
