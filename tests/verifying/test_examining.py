"""Which part of a webhook does not match: every frequent way to break one is named, and nothing else is blamed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from receiver.signing import new_secret, sign, signature_header
from receiver.verifying import Report, Sent, Signer, State, examine, read_headers
from receiver.verifying.examining import MOST_HASHED

NOW = 1_767_225_600
EVENT = "evt_01kahx447t3v8b5m2n6p9q0rsd"
OTHER_EVENT = "evt_01kahx447t3v8b5m2n6p9q0rse"
BODY = '{"type":"task.succeeded","timestamp":"2026-01-01T00:00:00.000Z","data":{"id":"task_1","name":"é/<&>"}}'.encode()
MINE = Signer(new_secret(), "this subscriber", chosen=True)
OLD = Signer(new_secret(), "this subscriber", chosen=True, ended_at=1)
OTHERS = Signer(new_secret(), "https://example.com/other", chosen=False)
SENT = Sent(EVENT, "task.succeeded", BODY, (NOW,))


def headers(signer: Signer = MINE, body: bytes = BODY, stamp: int = NOW, event: str = EVENT) -> dict[str, str]:
    """The three headers as we send them."""
    return {
        "webhook-id": event,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(signer.key, event, stamp, body),
    }


def look(
    given: Mapping[str, str], body: bytes = BODY, known: Sequence[Sent] = (SENT,), now: float = NOW + 10
) -> Report:
    """What the examination says, with all secrets known."""
    return examine(given, body, [MINE, OLD, OTHERS], known, now)


def wrong(report: Report) -> list[str]:
    """The parts that are blamed."""
    return [found.part for found in report.findings if found.state is State.WRONG]


def text(report: Report, part: str) -> str:
    """What is said about a part."""
    return " ".join(found.text for found in report.findings if found.part == part)


def test_a_genuine_webhook_is_called_genuine() -> None:
    """What we sent, unchanged and in time, has nothing wrong."""
    report = look(headers())
    assert report.genuine
    assert report.in_time
    assert not wrong(report)
    assert report.difference is None
    assert "genuine" in report.headline


def test_a_genuine_webhook_is_known_without_its_event() -> None:
    """After the retention of its event, the signature still tells that it was ours."""
    report = look(headers(), known=())
    assert report.genuine
    assert "no event" in text(report, "id")


def test_one_of_two_signatures_is_enough() -> None:
    """During a rotation the second signature counts as the first does."""
    both = headers() | {"webhook-signature": signature_header([new_secret(), MINE.key], EVENT, NOW, BODY)}
    report = look(both)
    assert report.genuine
    assert "2 signatures" in text(report, "signature")


@pytest.mark.parametrize("part", ["id", "timestamp", "signature"])
def test_a_missing_header_is_named_with_what_looks_like_it(part: str) -> None:
    """Who reads svix-id, or lets a gateway rename headers, is shown the name that counts."""
    given = headers()
    given[f"svix-{part}"] = given.pop(f"webhook-{part}")
    report = look(given)
    assert part in wrong(report)
    assert f"webhook-{part} is missing" in text(report, part)
    assert f"svix-{part}" in text(report, part)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("2026-01-01T00:00:00Z", "not a number"),
        ("-5", "not a number"),
        ("١٢٣", "not a number"),
        (str(NOW * 1000), "milliseconds"),
        (str(NOW + 4000), "in the future"),
    ],
)
def test_an_odd_timestamp_is_named(given: str, said: str) -> None:
    """A date, milliseconds or a clock that is ahead: each is told apart."""
    report = look(headers() | {"webhook-timestamp": given})
    assert "timestamp" in wrong(report)
    assert not report.genuine


def test_milliseconds_hide_nothing_else() -> None:
    """Milliseconds are the only thing blamed where everything else is right."""
    report = look(headers() | {"webhook-timestamp": str(NOW * 1000)})
    assert wrong(report) == ["timestamp"]
    assert "milliseconds" in report.headline


def test_an_old_webhook_is_genuine_but_not_in_time() -> None:
    """A paste from an hour ago is not blamed on the signature."""
    report = look(headers(), now=NOW + 7200)
    assert report.genuine
    assert not report.in_time
    assert "2 hours" in text(report, "timestamp")
    assert "known here" in text(report, "timestamp")


def test_an_old_timestamp_of_no_known_attempt_is_said() -> None:
    """Also where the attempt is not known, its age is told."""
    assert "2 days" in text(look(headers(), known=(), now=NOW + 200_000), "timestamp")


def test_headers_of_two_attempts_are_told_apart() -> None:
    """Who mixes the timestamp of one attempt with the signature of another is told so."""
    report = look(headers() | {"webhook-timestamp": str(NOW + 5)})
    assert wrong(report) == ["timestamp"]
    assert str(NOW) in report.headline


@pytest.mark.parametrize(
    ("given", "said"),
    [("dlv_01kahx447t3v8b5m2n6p9q0rsd", "a delivery"), ("task_1", "a task"), ("nonsense", "not an id of ours")],
)
def test_a_wrong_kind_of_id_is_named(given: str, said: str) -> None:
    """Who signs with the id of something else sees what it is."""
    report = look(headers() | {"webhook-id": given}, known=())
    assert "id" in wrong(report)
    assert said in text(report, "id")


def test_the_id_that_was_signed_is_found() -> None:
    """The event of the body is known, so a wrong id is told as that and nothing else."""
    report = look(headers() | {"webhook-id": OTHER_EVENT})
    assert wrong(report) == ["id"]
    assert EVENT in report.headline


def test_the_secret_of_another_subscriber_is_named() -> None:
    """The commonest mistake with two subscribers: the other one's secret."""
    report = look(headers(OTHERS))
    assert wrong(report) == ["secret"]
    assert "https://example.com/other" in report.headline


def test_an_old_secret_is_named() -> None:
    """A secret that was rotated away is told apart from a wrong one."""
    report = look(headers(OLD))
    assert wrong(report) == ["secret"]
    assert "rotated" in report.headline


def test_a_signature_that_nobody_here_made_is_said_so() -> None:
    """A forged request is not explained away."""
    report = look(headers(Signer(new_secret(), "a stranger", chosen=False)))
    assert wrong(report) == ["secret"]
    assert report.headline == "None of the secrets here made this signature over this body."
    assert "as they were sent" in text(report, "body")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda mark: mark.removeprefix("v1,"), "v1, before it"),
        (lambda mark: mark.replace("v1,", "v1="), "v1="),
        (lambda mark: mark.rstrip("="), "= at the end"),
        (lambda mark: mark.replace("+", "-").replace("/", "_"), "URL-safe"),
        (lambda mark: mark.replace("+", " "), "+ became a space"),
    ],
)
def test_a_signature_that_was_rewritten_is_repaired_and_named(spoil: object, said: str) -> None:
    """What a form, a URL or a split does to the header is told, and the rest is still checked."""
    assert callable(spoil)
    stamp = next(
        stamp for stamp in range(NOW, NOW + 200) if {"+", "/"} <= set(headers(stamp=stamp)["webhook-signature"])
    )
    given = headers(stamp=stamp)
    report = look(given | {"webhook-signature": spoil(given["webhook-signature"])}, known=[replace(SENT, stamps=())])
    assert wrong(report) == ["signature"]
    assert said in report.headline


@pytest.mark.parametrize("given", ["a" * 64, "v1," + "0" * 64, "nonsense", "v1,", "v2,abc é", "\ud800"])
def test_a_signature_of_another_form_is_named(given: str) -> None:
    """Hexadecimal or nonsense is called what it is, whatever was pasted."""
    assert "signature" in wrong(look(headers() | {"webhook-signature": given}))


def test_a_byte_that_differs_is_pointed_at() -> None:
    """The place of the first wrong byte, and both readings of it, so that it can be found by eye."""
    report = look(headers(), BODY.replace(b"task_1", b"task_2"))
    assert wrong(report) == ["body"]
    difference = report.difference
    assert difference is not None
    assert BODY[: difference.offset].endswith(b"task_")
    assert (difference.sent[0], difference.given[0], difference.line) == ("1", "2", 1)


def test_a_changed_body_and_a_wrong_secret_are_both_named() -> None:
    """Two mistakes at once are two findings."""
    report = look(headers(OTHERS), BODY + b"\n")
    assert wrong(report) == ["secret", "body"]


def test_the_event_of_the_task_is_compared_when_the_id_is_lost() -> None:
    """Without its id the webhook is found by the task in its body."""
    given = headers()
    del given["webhook-id"]
    report = look(given)
    assert wrong(report) == ["id"]


def test_an_empty_body_is_said_so_without_the_event() -> None:
    """A body that was read before is the first thing to look at, also when nothing else is known."""
    assert "empty" in text(look(headers(), b"", known=()), "body")


def test_nothing_at_all_is_answered() -> None:
    """An empty form gets findings, not an error."""
    assert {"id", "timestamp", "signature"} <= set(wrong(look({}, b"", known=())))


def test_a_huge_paste_costs_little() -> None:
    """Whatever is pasted, the search stops at a bound."""
    report = look(headers(), b"x" * (MOST_HASHED // 4), known=())
    assert not report.genuine


def test_a_header_of_very_many_signatures_costs_little() -> None:
    """No rotation has more than ten, so no more than twice as many are compared with all that may have signed."""
    others = [Signer(new_secret(), "another", chosen=False) for _ in range(100)]
    many = " ".join([f"v1,{'A' * 43}="] * 20_000)
    began = time.thread_time()
    report = examine({**headers(), "webhook-signature": many}, BODY, [MINE, *others], [SENT], NOW)
    assert not report.genuine
    assert time.thread_time() - began < 5


def test_very_many_secrets_and_attempts_cost_little() -> None:
    """Whoever has hundreds of webhooks cannot hold up the others who share a process by pasting one of them."""
    others = [Signer(new_secret(), "another", chosen=False) for _ in range(2000)]
    known = [
        Sent(f"evt_{number:026}", "task.succeeded", BODY, range(NOW + number, NOW + 100, 5)) for number in range(5)
    ]
    given = {**headers(), "webhook-signature": f"v1,{'A' * 43}="}
    began = time.thread_time()
    assert not examine(given, BODY + b" ", [MINE, *others], known, NOW).genuine
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("mark", ["'", " ", '"', "-", "a", "\\", "\xa0", ";"])
def test_a_very_long_line_costs_little(mark: str) -> None:
    """Reading a line takes a time that grows with its length, and not with its square."""
    began = time.thread_time()
    assert read_headers(f"name: {mark * 500_000}x")["name"].endswith("x")
    read_headers(mark * 500_000)
    assert time.thread_time() - began < 5
