"""The handlers' kit: distrustful reading, settings, finding providers, signatures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import handlers
from handlers import Handler
from handlers import _http as http
from handlers._options import boolean, http_url, one_of, rate, seconds, seconds_list, whole
from handlers._reading import json_object, kind_of_url, name_of_url, objects, text_of, url_expiry, url_of
from handlers._signatures import canonical_query, hmac_sha1_hex, hmac_sha256_hex, md5_hex, percent, same, sha256_hex


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b"null", b"{", b'{"a": NaN}', b'{"a": -Infinity}', b"\xff{}", b'{"a":' * 200_000,
     b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", b'{"a": ' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_proper_object_is_none(body: bytes) -> None:
    """Broken, foreign, bottomless or not quite JSON: the handler sees one answer, None."""
    assert json_object(body) is None


def test_what_is_read_can_be_stored_anywhere() -> None:
    """NUL, lone surrogates and infinite numbers, which databases refuse, do not come through."""
    found = json_object(b'\xef\xbb\xbf{"a\\u0000": ["\\ud800x", 1e999, 2.5, true, null, 12345678901234567890]}')
    assert found == {"a\N{REPLACEMENT CHARACTER}": ["?x", None, 2.5, True, None, 12345678901234567890]}
    assert http.Answer(200, {}, b"\xff\0").text == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_cut_letter_in_an_answer_costs_that_letter_only() -> None:
    """A provider that cuts a text in the midst of a character still tells the id of what was bought."""
    cut = http.Answer(200, {}, b'\xef\xbb\xbf{"id": "t-1", "prompt": "\xe7\x81"}')
    assert cut.json_object() == {"id": "t-1", "prompt": "\N{REPLACEMENT CHARACTER}"}
    assert http.Answer(200, {}, b"\xff{}").json_object() is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2.0", "2"),
        ("2e0", "2"),
        ("-1.0", "-1"),
        ("2.5", None),
        ("1e300", None),
        ("9007199254740993.0", None),
        ("true", None),
    ],
)
def test_a_whole_number_may_be_written_as_a_fraction(written: str, read: str | None) -> None:
    """Some JSON libraries make 2.0 of 2: a status stays what it is; an id that they may have rounded is none."""
    assert text_of((json_object(f'{{"x": {written}}}') or {})["x"]) == read


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=8))
def test_readers_take_any_value(value: Any) -> None:
    """No reader of the kit raises, whatever type a field has."""
    assert text_of(value) is None or isinstance(value, str | int | float)
    assert all(isinstance(item, dict) for item in objects(value))
    url = url_of(value)
    assert url is None or url.startswith("http")
    json.dumps(json_object(json.dumps({"x": value})), allow_nan=False)


@given(st.text())
def test_url_readers_take_any_url(text: str) -> None:
    """Whatever follows the host, a URL's name, kind and expiry are found or not found, never raised."""
    url = url_of(f"https://host.test/{text}")
    if url is not None:
        assert isinstance(name_of_url(url), str)
        assert kind_of_url(url, handlers.OutputKind.DATA)
        assert url_expiry(url) is None or url_expiry(url)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("X-Amz-Date=20260101T000000Z&X-Amz-Expires=86400", 1767312000_000),
        ("x-oss-date=20260101T000000Z&x-oss-expires=60", 1767225660_000),
        ("Expires=1767232800&OSSAccessKeyId=x", 1767232800_000),
        ("expires=1767232800", 1767232800_000),
        ("X-Amz-Date=20260101T000000Z", None),
        ("X-Amz-Date=yesterday&X-Amz-Expires=60", None),
        ("X-Amz-Date=20260101T000000Z&X-Amz-Expires=" + "9" * 30, None),
        ("Expires=never", None),
        ("Expires=0", None),
        ("Expires=-5", None),
        ("Expires=" + "9" * 30, None),
        ("", None),
    ],
)
def test_expiries_are_read_from_the_url(query: str, expected: int | None) -> None:
    """Both storages' signatures say until when they hold; nonsense says nothing."""
    assert url_expiry(f"https://host.test/a?{query}") == expected


# -- settings and finding ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "good", "bad"),
    [
        (boolean, {"true": True, " ON ": True, "0": False, "no": False}, ["", "maybe", "2"]),
        (seconds(), {"0.5": 0.5, "1e3": 1000.0, "2678400": 2_678_400}, ["0", "-1", "nan", "inf", "x", "", "2678401"]),
        (seconds(60), {"60": 60}, ["60.1", "0"]),
        (rate, {"0.000001": 0.000001, "1e6": 1e6}, ["0", "-1", "nan", "inf", "x", "", "1e-7", "1000001"]),
        (whole, {"1": 1, " 20 ": 20}, ["0", "-1", "1.5", "", "²"]),
        (seconds_list, {"5": (5,), "5, 10.5": (5, 10.5)}, ["", "5,", "5,0", "a", "5,2678401"]),
        (
            http_url,
            {"https://a.test/": "https://a.test", "http://127.0.0.1:8000/p": "http://127.0.0.1:8000/p",
             "https://[::1]:8443": "https://[::1]:8443", "https://straße.test": "https://straße.test"},
            ["", "a.test", "ftp://a.test", "https://u:p@a.test", "https://a.test?x=1", "https://a.test#x", "https://",
             "http://[", "http://a.test:99999", "https://a.test?", "https://a.test/#", "https://a b.test", "https://.test",
             "https://a..test", "https://a.test\\@b.test", f"https://{'a' * 64}.test"],
        ),
        (one_of("a", "b"), {"a": "a", " b ": "b"}, ["", "c", "A"]),
    ],
)  # fmt: skip
def test_settings_are_parsed_or_refused_in_words(parse: Any, good: dict[str, Any], bad: list[str]) -> None:
    """Every parser takes the sensible spellings and refuses the rest with ValueError, never worse."""
    assert {text: parse(text) for text in good} == good
    for text in bad:
        with pytest.raises(ValueError):  # noqa: PT011  # the words are each parser's own
            parse(text)


def test_every_problem_is_reported_at_once_without_secrets() -> None:
    """An operator mends all settings in one go, and the message can be pasted anywhere."""
    given_texts = {
        "access_key": "a",
        "secret_key": "s3cret",
        "submit_rate": "fast",
        "query_sign": "x",
        "max_in_flight": "0",
    }
    with pytest.raises(handlers.ConfigurationError) as caught:
        handlers.load("superapp", given_texts)
    assert len(caught.value.problems) == 3
    for variable in ("SUPERAPP_SUBMIT_RATE", "SUPERAPP_QUERY_SIGN", "SUPERAPP_MAX_IN_FLIGHT"):
        assert variable in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_common_settings_reach_the_pace() -> None:
    """Rates, plan and deadline of a provider are the operator's to change."""
    texts = {
        "access_key": "a",
        "secret_key": "s",
        "poll_schedule": "1,2",
        "task_deadline": "60",
        "submit_rate": "9",
        "query_rate": "8",
        "max_in_flight": "7",
        "confirm_notices": "false",
    }
    handler = handlers.load("superapp", texts)
    assert handler.pace == handlers.Pace((1, 2), 60, 9, 8, 7, confirm_notices=False)
    assert handler.poll_plan("text2image") == (1, 2)


def test_providers_are_found_by_their_file() -> None:
    """A file is all the registration there is; the kit's own files are no providers."""
    assert {"topview", "superapp"} <= set(handlers.available())
    assert not any(name.startswith("_") for name in handlers.available())
    for name in handlers.available():
        assert issubclass(handlers.find(name), Handler)
        assert handlers.find(name).name == name
    for name in ("nobody", "_base", "", "../x"):
        with pytest.raises(KeyError):
            handlers.find(name)


def test_the_readme_has_a_row_for_every_provider() -> None:
    """Who reads the folder's guide sees every provider, and how many operations it has."""
    text = (Path(handlers.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name in handlers.available():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {len(handlers.find(name).operations)}: " in row


# -- signatures --------------------------------------------------------------------------------------


def test_digests_match_published_vectors() -> None:
    """HMAC and digests give the values of RFC 2202, RFC 4231, RFC 1321 and FIPS 180."""
    assert hmac_sha1_hex("Jefe", b"what do ya want for nothing?") == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    assert (
        hmac_sha256_hex("Jefe", b"what do ya want for nothing?")
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    assert md5_hex("message digest") == "f96b697d7cb7938d525a2f31aaf161d0"
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_comparison_takes_any_text() -> None:
    """A header that is not ASCII compares as different; it does not crash the check."""
    assert same("é\udcff", "é\udcff")
    assert not same("é", "e")
    assert not same("", "e")


def test_queries_are_canonical() -> None:
    """Sorted and encoded by RFC 3986: a space is %20, a tilde stays."""
    assert percent("a b~/+*é") == "a%20b~%2F%2B%2A%C3%A9"
    assert canonical_query({"b": "2", "a": "x y", "B": "="}) == "B=%3D&a=x%20y&b=2"


def test_nobody_changes_a_record(tmp_path: Path) -> None:
    """The type checker, which the gate asks, refuses what Python would let pass: a record is what it was made as."""
    source = tmp_path / "change.py"
    source.write_text("from handlers import Reply\n\nreply = Reply()\nreply.status = 500\n")
    told = run(
        [sys.executable, "-m", "mypy", "--no-error-summary", source], capture_output=True, text=True, check=False
    )
    assert told.stdout.endswith(':4: error: Property "status" defined in "Reply" is read-only  [misc]\n')


def test_equal_records_are_one() -> None:
    """Records are told apart by their values, and can be in a set."""
    assert len({handlers.Reply(), handlers.Reply(status=200), handlers.Reply(status=500)}) == 2
