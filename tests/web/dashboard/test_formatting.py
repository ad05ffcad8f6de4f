"""How times, lengths and ids are written."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from receiver.web.dashboard import formatting
from tests.web.conftest import Clock


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, "–"), (0, "0 ms"), (999, "999 ms"), (1200, "1.2 s"), (59_400, "59 s"), (185_000, "3 min 5 s"),
        (120_000, "2 min"), (7_800_000, "2 h 10 min"), (3_600_000, "1 h"), (280_800_000, "3 d 6 h"),
        (90_000_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_lengths_of_time(ms: int | None, words: str) -> None:
    """Two units at most, the larger first; nothing that has to be counted out."""
    assert formatting.duration(ms) == words


def test_times_are_in_the_visitors_zone(app: Flask, clock: Clock) -> None:
    """Summer time included; the whole of it, with the zone, when pointed at; another year is said."""
    at = 1_782_000_000_123  # 2026-06-21T00:00:00.123Z
    with app.test_request_context("/", headers={"Cookie": "zone=Europe/Berlin"}):
        shown = formatting.moment(at)
        assert 'datetime="2026-06-21T00:00:00.123Z"' in shown
        assert "02:00:00.123 CEST" in shown
        assert "21 Jun" in shown
        assert "2001" in formatting.moment(1_000_000_000_000)
        assert ">3 min ago<" in formatting.ago(clock() - 185_000)
        assert ">in 1 h<" in formatting.ago(clock() + 3_700_000)
        assert ">now<" in formatting.ago(clock())
        assert "–" in formatting.moment(None)
        assert "–" in formatting.ago(None)


def test_the_end_of_time_is_a_time(app: Flask) -> None:
    """A link that never ends (its provider writes the year 9999) is shown in every zone."""
    with app.test_request_context("/", headers={"Cookie": "zone=Asia/Tokyo"}):
        assert "31 Dec 9999 23:59:59" in formatting.moment(253_402_300_799_000)
        assert "UTC" in formatting.ago(253_402_300_799_000)


def test_ids_fit_into_a_table() -> None:
    """Their prefix and their end, which is what differs; short ones as they are."""
    assert formatting.short("task_01kahx3mt5k0c4z7d6q8r9w2ve") == "task_…q8r9w2ve"
    assert formatting.short("p-1") == "p-1"
    assert formatting.short(None) == "–"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1.10,"b":123456789012345678901}', '{\n  "a": 1.10,\n  "b": 123456789012345678901\n}'),
        ('{"ü":["x",true,null],"e":{},"l":[]}',
         '{\n  "ü": [\n    "x",\n    true,\n    null\n  ],\n  "e": {},\n  "l": []\n}'),
        ("<html>", "<html>"),
        ("", ""),
        (None, ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)  # fmt: skip
def test_json_is_shown_with_the_digits_that_came(text: str | None, shown: str) -> None:
    """Laid out for the eye, changed in nothing; what is no JSON is shown as it is."""
    assert formatting.pretty(text) == shown


def test_counts() -> None:
    """Thousands are set apart, so that a long number can be read at a glance."""
    assert formatting.count(1234567) == "1\u202f234\u202f567"


def test_a_long_text_is_shown_as_it_came() -> None:
    """A provider may answer with megabytes: they do not become several times as many, nor cost seconds each time."""
    text = json.dumps({"list": [0] * formatting.MOST_INDENTED})
    assert formatting.pretty(text) is text
