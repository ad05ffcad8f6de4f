"""What people see."""

from __future__ import annotations

import io
import json
import sys
import time

import click
import pytest

from receiver.cli import screen
from receiver.cli.api import ApiProblem


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (0, "0"),
        ({"a": "ü"}, '{"a": "ü"}'),
        ("a\x1b[31mred", "a\N{REPLACEMENT CHARACTER}[31mred"),
        ("a\rb\x9bc", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("gpj\u202egnp", "gpj\N{REPLACEMENT CHARACTER}gnp"),
    ],
)
def test_values_are_shown_without_control_characters(value: object, text: str) -> None:
    """What a provider or subscriber said cannot colour, move or reverse what stands on a terminal."""
    assert screen.clean(value) == text


@pytest.mark.parametrize("text", ["a\x9b2Jb", "a\x7f\x85b", "gpj\u202egnp", "line\u2028end", "ü😀"])
def test_json_is_shown_without_control_characters(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What JSON leaves as it is cannot command a terminal either; read by a program it is the same value."""
    screen.show_json(json.dumps({"a": text}, ensure_ascii=False))
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": text}
    assert shown.rstrip("\n") == screen.clean(shown.rstrip("\n"))


def test_problems_are_told_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """What a provider says of a failure, and what answers in place of the service, cannot command a terminal."""
    ApiProblem("it said\x1b]0;mine\x07\n  - file: \x9b2J", 422).show()
    assert capsys.readouterr().err == "Error: it said\ufffd]0;mine\ufffd\n  - file: \ufffd2J\n"


def test_without_a_terminal_there_is_no_colour_and_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a pipe gets plain text in whole lines, however long."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    columns = [screen.Column("url", long=True), screen.Column("status", drop=1)]
    screen.show_table(columns, [["https://a.example/" + "x" * 2000, screen.word("dead")]], "")
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert "x" * 2000 + "  dead" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_row_is_a_line_whatever_its_values_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line breaks and tabs in a value neither begin a row of their own nor shift the columns behind them."""
    for stdout in (io.StringIO(), _Terminal()):
        monkeypatch.setattr(sys, "stdout", stdout)
        screen.show_table(["id", "said", "ok"], [["sub_1", " a\r\n\tb\n", "x"], ["sub_2\n", "\n", "y"]], "")
        rows = [line.rstrip() for line in stdout.getvalue().splitlines()[1:]]
        assert rows == ["sub_1  a\N{REPLACEMENT CHARACTER} b  x", "sub_2  –     y"]


def test_no_value_passes_for_a_fact_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A value of several lines keeps them, below its first one: none stands where names of facts stand."""
    screen.show_facts({"task": "task_1", "error": "it said:\nstatus  succeeded\n", "state": "x"})
    assert capsys.readouterr().out.splitlines() == [
        "task   task_1",
        "error  it said:",
        "       status  succeeded",
        "state  x",
    ]


def test_a_terminal_gets_colours_unless_it_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are coloured on a terminal; NO_COLOR turns that off."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", _Terminal())
    screen.console().print(screen.word("failed"))
    assert "\x1b[31m" in sys.stdout.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", _Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    screen.console().print(screen.word("failed"))
    assert "\x1b[31m" not in sys.stdout.getvalue()  # type: ignore[attr-defined]


def test_a_long_line_is_not_broken_on_a_terminal_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address longer than the terminal is wide can be copied; a table keeps to its width."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", _Terminal())
    screen.console().print("https://a.example/" + "x" * 100)
    assert "x" * 100 in sys.stdout.getvalue()  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", _Terminal())
    screen.show_facts({"url": "https://a.example/" + "x" * 100, "nothing": None})
    assert click.unstyle(sys.stdout.getvalue()) == f"url  https://a.example/{'x' * 100}\n"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", _Terminal())
    screen.show_table([screen.Column("url", long=True)], [["https://a.example/" + "x" * 100]], "")
    assert max(map(len, click.unstyle(sys.stdout.getvalue()).splitlines())) <= 40  # type: ignore[attr-defined]


def test_a_table_without_rows_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing found is said in words."""
    screen.show_table(["id"], [], "No tasks.")
    assert capsys.readouterr().out == "No tasks.\n"


def test_seconds_lie_between_two_times() -> None:
    """Times are subtracted; a missing one gives nothing."""
    assert screen.seconds_between("2026-11-21T10:00:00.000Z", "2026-11-21T10:00:03.500Z") == 3.5
    assert screen.seconds_between("2026-11-21T10:00:00.000Z", None) is None
    assert screen.when("2026-11-21T10:00:00.000Z") == "2026-11-21 10:00:00Z"
    assert screen.when(None) == "–"


COLUMNS = [
    screen.Column("id"),
    screen.Column("url", drop=2, long=True),
    screen.Column("created", drop=3),
    screen.Column("via", drop=1),
]
FULL = [31, 60, 19, 8]


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (200, {0: 31, 1: 60, 2: 19, 3: 8}),
        (100, {0: 31, 1: 36, 2: 19, 3: 8}),
        (72, {0: 31, 1: 18, 2: 19}),
        (60, {0: 31, 2: 19}),
        (45, {0: 31, 3: 8}),
        (20, {0: 31}),
    ],
)
def test_a_table_gives_up_columns_in_order_and_never_cuts_an_id(room: int, widths: dict[int, int]) -> None:
    """Long texts are narrowed first, then columns go by their turn; what never goes keeps its width."""
    assert screen.fitted(COLUMNS, FULL, room) == widths


@pytest.mark.parametrize("columns", ["1", "20", "80", "140"])
def test_a_table_keeps_to_the_window_whatever_its_width(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """No line is wider than the terminal, unless the id alone is; nothing breaks on a terminal of one column."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", _Terminal())
    identity = "task_01kahx3mt5k0c4z7d6q8r9w2ve"
    screen.show_table(COLUMNS, [[identity, "https://a.example/" + "x" * 50, "2026-11-21 10:00:00", "callback"]], "")
    lines = click.unstyle(sys.stdout.getvalue()).splitlines()  # type: ignore[attr-defined]
    assert max(len(line.rstrip()) for line in lines) <= max(int(columns), len(identity))
    assert len(lines) == 2
    assert identity in lines[1]


def test_a_column_that_says_nothing_takes_no_room_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a narrow window a column that is empty in every row goes before a text is cut; the wide one has it all."""
    columns = ["id", screen.Column("url", drop=2, long=True), screen.Column("failing since", drop=1)]
    url = "https://hooks.example.com/receiver"
    for stdout, shown in ((_Terminal(), False), (io.StringIO(), True)):
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setenv("COLUMNS", "45")
        screen.show_table(columns, [["sub_1", url, None], ["sub_2", url, None]], "")
        assert ("failing since" in stdout.getvalue()) is shown
        assert stdout.getvalue().count(url) == 2
    monkeypatch.setattr(sys, "stdout", _Terminal())
    screen.show_table(columns, [["sub_1", url, None], ["sub_2", url, "today"]], "")
    assert url not in sys.stdout.getvalue()  # type: ignore[attr-defined]


def test_times_are_local_on_a_terminal_and_utc_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """People read their own clock; files and pipes get UTC, and say so."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert screen.when("2026-11-21T10:00:00.000Z") == "2026-11-21 10:00:00Z"
        monkeypatch.setattr(sys, "stdout", _Terminal())
        assert screen.when("2026-11-21T10:00:00.000Z") == "2026-11-21 18:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
