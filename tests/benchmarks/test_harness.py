"""The benchmarks' own instruments: they must not count what did not happen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.signing import new_secret, sign
from tests.benchmarks import polling, report, scale
from tests.benchmarks.callbacks import key_of
from tests.benchmarks.load import fire
from tests.benchmarks.outside_client import Outside, outside
from tests.benchmarks.soak import Record, flatness, slope
from tests.benchmarks.tables import goal, show

SECRET = new_secret()


@pytest.fixture(scope="module")
def beyond() -> Iterator[Outside]:
    """The subscriber and the provider of the benchmarks."""
    with outside() as running:
        yield running


def webhook(number: int, secret: str = SECRET) -> bytes:
    """A whole request with a signed webhook about the task with this number."""
    body = json.dumps({"type": "task.succeeded", "data": {"provider_task_id": key_of(number)}}).encode()
    now = int(time.time())
    head = (
        f"POST /hook HTTP/1.1\r\nHost: x\r\nWebhook-Id: evt_{number}\r\nWebhook-Timestamp: {now}\r\n"
        f"Webhook-Signature: {sign(secret, f'evt_{number}', now, body)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.process
def test_every_webhook_is_counted_once_and_repetitions_are_told(beyond: Outside) -> None:
    """What came is there by key, with its time; what came again is counted as such."""
    beyond.begin(SECRET)
    sent = fire(beyond.sink, [webhook(number) for number in (*range(100), 7, 7)], connections=8)
    beyond.wait_for(100, 5)
    told = beyond.report()
    assert sent.statuses == {204: 102}
    assert set(told["arrivals"]) == {key_of(number) for number in range(100)}
    assert told["again"] == {key_of(7): 2}
    assert not told["forged"]


@pytest.mark.process
def test_a_wrong_signature_is_no_delivery(beyond: Outside) -> None:
    """A webhook that another secret signed is refused and counted as forged."""
    beyond.begin(SECRET)
    assert fire(beyond.sink, [webhook(1, new_secret())]).statuses == {500: 1}
    told = beyond.report()
    assert told["forged"] == 1
    assert told["arrivals"] == {}


@pytest.mark.process
def test_a_subscriber_that_fails_takes_nothing(beyond: Outside) -> None:
    """A delivery answered with 500 is not counted as taken."""
    beyond.begin(SECRET, failures=1.0)
    assert fire(beyond.sink, [webhook(1)] * 5).statuses == {500: 5}
    told = beyond.report()
    assert (told["refused"], told["arrivals"]) == (5, {})


@pytest.mark.process
def test_the_load_keeps_its_rate(beyond: Outside) -> None:
    """A rate is an even pace, counted from the first request."""
    beyond.begin(SECRET)
    sent = fire(beyond.sink, [webhook(number) for number in range(20)], rate=100)
    assert sent.at[-1] - sent.at[0] >= 0.18
    assert all(later >= earlier for earlier, later in zip(sent.at, sent.at[1:], strict=False))


def test_growth_is_told_per_hour() -> None:
    """Memory that grows by 1 MB a minute grows by 60 MB an hour; the warm-up is left out."""
    points = [(float(second), 500.0 if second < 60 else 100 + second / 60) for second in range(0, 600, 5)]
    assert slope(points) == pytest.approx(60)


def test_the_page_gathers_goals_and_says_which_are_not_met() -> None:
    """Each goal of a part stands in the table at the top, and a failed part is named."""
    printed = "\n".join(
        [*show(["", "x"], [["a", "1"]]), *goal("speed", "≥ 2", "1.0", False), *goal("ok", "0", "0", True)]
    )
    part = report.Part("Speed", "speed")
    page = report.page([report.Result(part, printed, 1, 0.1)], ["- here"], "")
    assert "| speed | ≥ 2" in page.replace("  ", " ")
    assert "1 of 2 goals are met. Not met:\n\n- speed\n" in page
    assert "exit code 1" in page


def test_a_soak_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    """The page keeps what the benchmarks wrote, and has one soak, which the next page of benchmarks keeps."""
    page = tmp_path / "BENCHMARKS.md"
    page.write_text("# Benchmarks\n\nfigures\n")
    report.with_soak(page, "first", ["- here"])
    report.with_soak(page, "second", ["- here"])
    assert page.read_text() == "# Benchmarks\n\nfigures\n\n## Soak\n\n- here\n\nsecond\n"
    assert report.kept_soak(page) == "- here\n\nsecond"


def test_what_a_rate_forces_is_told_from_being_late() -> None:
    """A perfect worker takes what is due, as much as fits a call, no sooner than the rate allows."""
    assert list(polling.forced([0, 0, 0, 5, 1000], rate=100, batch=2)) == [0, 0, 10, 10, 1000]


@pytest.mark.process
def test_a_part_that_takes_too_long_is_ended_and_told() -> None:
    """What it printed before stays on the page, which says that it was ended."""
    code = "import time; print('| half |', flush=True); time.sleep(60)"
    result = report.run_command(report.Part("Endless", "endless"), [sys.executable, "-c", code], 1.0)
    assert result.code is None
    assert result.seconds < 30
    page = report.page([result], ["- here"], "")
    assert "| half |" in page
    assert "This part was ended after" in page


def test_a_table_takes_the_place_of_the_one_with_its_head() -> None:
    """Only the figures change, and a page without such a table is refused."""
    page = "# Page\n\n| a | b |\n|---|--:|\n| x | 1 |\n\nend\n"
    assert scale.put(page, show(["a", "b"], [["y", "22"]])) == "# Page\n\n| a |  b |\n|---|---:|\n| y | 22 |\n\nend\n"
    with pytest.raises(ValueError, match="0 tables"):
        scale.put(page, show(["a", "c"], [["y", "2"]]))


def test_flatness_is_judged_by_whole_minutes() -> None:
    """The seconds behind the last whole minute, in which a worker may just be starting, do not count as one."""
    sent = {f"{minute}-{number}": 60.0 * minute + number for minute in range(6) for number in range(20)}
    sent["late"] = 361.0
    record = Record(sent=sent, memory=[(0.0, 100.0, 200.0)] * 12)
    arrivals = {key: at + (5.0 if key == "late" else 0.01) for key, at in sent.items()}
    assert "measured 1.0" in flatness(record, arrivals)[-1]
