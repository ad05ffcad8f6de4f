"""What people type, as values."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from receiver.cli.fields import MOMENT, pairs, secret_text, task_input, typed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a boat", "a boat"),
        ("512", 512),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('"123"', "123"),
        ('["a", 1]', ["a", 1]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("", ""),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1024x768", "1024x768"),
        ("[sandbox:fail]", "[sandbox:fail]"),
        ("https://a.example/?b=c", "https://a.example/?b=c"),
    ],
)
def test_values_that_are_json_are_that_and_all_others_text(text: str, value: Any) -> None:
    """Numbers, truth values, lists and objects need no quotes; words need none either."""
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_an_input_comes_from_json_and_pairs_and_pairs_win() -> None:
    """``--input`` and ``key=value`` go together; the pair is the later word."""
    assert task_input('{"a": 1, "b": 2}', ["b=3", "c=x=y"]) == {"a": 1, "b": 3, "c": "x=y"}
    assert task_input(None, []) == {}


def test_an_input_comes_from_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``@file`` and ``-`` are read."""
    (tmp_path / "in.json").write_text('{"prompt": "ein Boot – 船"}', encoding="utf-8")
    assert task_input(f"@{tmp_path}/in.json", []) == {"prompt": "ein Boot – 船"}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
    assert task_input("-", []) == {"a": 1}


@pytest.mark.parametrize(
    ("source", "given", "said"),
    [
        ("{", [], "not JSON"),
        ("[" * 100_000, [], "not JSON"),
        ("[1]", [], "must be a JSON object"),
        ("@/nowhere/at/all.json", [], "cannot be read"),
        (None, ["prompt"], "name=value"),
        (None, ["=x"], "name=value"),
        (None, ["width=1", "height=2", "width=3"], "'width' is given twice, as '1' and '3'"),
        ('{"a": 1, "a": 2}', [], "'a' stands twice"),
    ],
)
def test_what_cannot_be_an_input_is_a_usage_error(source: str | None, given: list[str], said: str) -> None:
    """Each mistake in an input is told, with how to write it."""
    with pytest.raises(click.UsageError, match=said):
        task_input(source, given)


def test_a_file_without_its_mark_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--input voice.json``: that a file is named with @ is said where there is such a file, and only there."""
    monkeypatch.chdir(tmp_path)
    Path("voice.json").write_text("{}")
    with pytest.raises(click.UsageError, match=r"is not JSON: .* For the file of this name write @voice\.json\."):
        task_input("voice.json", ())
    for other in ("gone.json", "x" * 5000, "\0", ""):
        with pytest.raises(click.UsageError) as caught:
            task_input(other, ())
        assert "@" not in caught.value.message


def test_pairs_are_texts() -> None:
    """Metadata stays text, digits too."""
    assert pairs(["order=17", "note=a=b", "empty="], "a pair") == {"order": "17", "note": "a=b", "empty": ""}


def test_a_pair_that_comes_twice_is_a_usage_error() -> None:
    """Neither of two values for one name is chosen silently."""
    with pytest.raises(click.UsageError, match="'order' is given twice"):
        pairs(["order=17", "order=18"], "a pair")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00.000Z"),
        ("2026-11-21T10:00:00.1234+02:00", "2026-11-21T08:00:00.123Z"),
        ("2026-11-21", "2026-11-21T00:00:00.000Z"),
    ],
)
def test_moments_are_written_in_utc(text: str, moment: str) -> None:
    """A time with a zone is converted; one without is UTC."""
    assert MOMENT.convert(text, None, None) == moment


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129_600)])
def test_moments_can_be_said_as_how_long_ago(text: str, seconds: float) -> None:
    """``2h`` means two hours before now."""
    moment = datetime.fromisoformat(MOMENT.convert(text, None, None))
    ago = datetime.now(UTC) - moment
    assert seconds <= ago.total_seconds() < seconds + 5


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "99999999999d", "12"])
def test_what_is_no_moment_is_a_usage_error(text: str) -> None:
    """A time that cannot be read is told with examples of those that can."""
    with pytest.raises(click.UsageError, match="is not a time"):
        MOMENT.convert(text, None, None)


def test_standard_input_that_is_no_text_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are no text are a usage error, as in a file, and no traceback."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
    with pytest.raises(click.UsageError, match="--secret: standard input cannot be read"):
        secret_text("-", "--secret")
