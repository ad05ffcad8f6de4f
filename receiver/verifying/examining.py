"""The comparison of a webhook as somebody received it with what we know of it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from receiver.models import id_pattern
from receiver.signing import MAX_LIVE_SECRETS, sign
from receiver.verifying.bodies import RAW_BYTES, Change, Difference, first_difference, how_changed, undone

TOLERANCE = 300
"""Seconds that a timestamp may be off, as the libraries have it."""
MOST_HASHED = 64 * 1024 * 1024
"""Bytes that one examination hashes at most, whatever is pasted."""
_ONE_MORE = 4096
"""As many bytes take as long to hash as one more signature takes, however little it covers."""
MOST_CHANGES = 2
"""Parts that may be wrong together and still be told apart."""

MOST_TOKENS = 2 * MAX_LIVE_SECRETS
"""Signatures that are compared at most; we never send more than half as many."""
_MOST_DIGITS = 19
"""Of a timestamp, when somebody's clock counts nanoseconds."""
_EVENT_ID = re.compile(id_pattern("evt"))
_TOKEN = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_HOP = (
    "Look which proxy, gateway or framework on the way drops or renames headers, and copy all three webhook- headers"
    " of one and the same request."
)


class State(StrEnum):
    """How one part looks."""

    GOOD = "good"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one part: ``id``, ``timestamp``, ``signature``, ``secret`` or ``body``; and what to do."""

    part: str
    state: State
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Signer:
    """A secret that may have signed. ``owner``: whose it is, in words. ``chosen``: of the subscriber in question.

    ``ended_at``: epoch ms since when it signs no more, None while it is live.
    """

    key: str = field(repr=False)
    owner: str
    chosen: bool
    ended_at: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An event of ours that may be meant. ``stamps``: the timestamps (epoch seconds) of its known attempts."""

    id: str
    type: str
    body: bytes = field(repr=False)
    stamps: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. ``genuine``: signed by a live secret of the chosen subscriber, and unchanged.

    ``in_time``: its timestamp is within the tolerance right now. ``difference``: where the body departs from what was
    sent, where both are known.
    """

    genuine: bool
    in_time: bool
    headline: str
    findings: tuple[Finding, ...]
    difference: Difference | None = None


@dataclass(frozen=True, slots=True)
class _Match:
    """Under which reading a signature fits. ``changed``: what the body was before, None: as given."""

    signer: Signer
    id: str
    stamp: int
    body: bytes
    changed: Change | None


def examine(
    headers: Mapping[str, str], body: bytes, signers: Sequence[Signer], known: Sequence[Sent], now_s: float
) -> Report:
    """Say which part of a received webhook does not match, and under which reading it would.

    ``headers``: names in lower case. ``signers``: the chosen subscriber's secrets first, others after. ``known``: the
    event of this id, and those of the task that the body names. ``now_s``: epoch seconds. Raises ValueError only
    for a secret of ours that is not valid.
    """
    webhook_id = headers.get("webhook-id", "").strip()
    meant = next((event for event in known if event.id == webhook_id), None)
    stamp, about_stamp = _timestamp(headers, meant, now_s)
    tokens, about_tokens = _tokens(headers)
    match = _find(tokens, webhook_id, stamp, body, signers, known)
    about_id = _id(headers, webhook_id, meant, match)
    if match is not None and stamp is not None and match.stamp != stamp:
        about_stamp = Finding(
            "timestamp",
            State.WRONG,
            f"The signature was made for the timestamp {match.stamp}, not {headers['webhook-timestamp'].strip()}.",
            "Each attempt has its own timestamp and signature: take both from the same request, unchanged, in seconds.",
        )
    original = match.body if match is not None else None if meant is None else meant.body
    difference = None if original is None else first_difference(original, body)
    findings = (
        about_id,
        about_stamp,
        *about_tokens,
        *_secret(tokens, match),
        _body(body, original, match, meant),
    )
    wrong = [found for found in findings if found.state is State.WRONG]
    in_time = stamp is not None and abs(now_s - stamp) <= TOLERANCE
    return Report(
        genuine=match is not None and not wrong,
        in_time=in_time,
        headline=_headline(match, wrong),
        findings=findings,
        difference=difference,
    )


def _headline(match: _Match | None, wrong: Sequence[Finding]) -> str:
    if match is not None and not wrong:
        return "This is a genuine webhook of ours: id, timestamp, secret and body match the signature."
    first = next((found for found in wrong if match is not None or found.part != "secret"), None)
    if first is None:
        return "None of the secrets here made this signature over this body."
    return first.text


# --- Each part -------------------------------------------------------------------------------------


def _id(headers: Mapping[str, str], given: str, meant: Sent | None, match: _Match | None) -> Finding:
    if not given:
        return _missing("id", headers)
    if match is not None and match.id != given:
        return Finding(
            "id",
            State.WRONG,
            f"The signature was made for {match.id}, not {given}.",
            "Take the webhook-id of the same request; it goes into what is signed.",
        )
    if meant is not None:
        return Finding("id", State.GOOD, f"{given} is an event here, of type {meant.type}.")
    if not _EVENT_ID.fullmatch(given):
        kinds = {"dlv": "a delivery", "task": "a task", "sub": "a subscriber", "att": "an attempt"}
        kind = kinds.get(given.partition("_")[0])
        what = f"{given} is the id of {kind}, not of an event." if kind else f"{given!r} is not an id of ours."
        return Finding(
            "id", State.WRONG, what, "The header webhook-id holds evt_ and 26 letters and digits; use it unchanged."
        )
    return Finding(
        "id",
        State.NOTE,
        f"There is no event {given} here.",
        "It was deleted after its retention, or it comes from another account or installation of this service.",
    )


def _timestamp(headers: Mapping[str, str], meant: Sent | None, now_s: float) -> tuple[int | None, Finding]:
    text = headers.get("webhook-timestamp", "").strip()
    if not text:
        return None, _missing("timestamp", headers)
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        return None, Finding(
            "timestamp",
            State.WRONG,
            f"webhook-timestamp is not a number of seconds: {text[:40]!r}.",
            "Use the header as it came; do not turn it into a date before the signature is checked.",
        )
    if len(text) > 12:
        return int(text) // 1000, Finding(
            "timestamp",
            State.WRONG,
            "webhook-timestamp is in milliseconds; it is sent, and signed, in seconds.",
            "Use the header as it came.",
        )
    stamp = int(text)
    age = now_s - stamp
    if age < -TOLERANCE:
        return stamp, Finding(
            "timestamp",
            State.WRONG,
            f"webhook-timestamp is {_long(-age)} in the future.",
            "Check the clocks: of the machine that received it and of the machine that runs this service (NTP).",
        )
    if age <= TOLERANCE:
        return stamp, Finding("timestamp", State.GOOD, f"Sent {_long(age)} ago, within the five minutes allowed.")
    late = "Verify when it arrives, not later from a queue; if it failed at once, the clock there is off (NTP)."
    if meant is not None and stamp in meant.stamps:
        return stamp, Finding(
            "timestamp",
            State.NOTE,
            f"Sent {_long(age)} ago, in an attempt that is known here. By now every verifier refuses it as too old.",
            late,
        )
    return stamp, Finding(
        "timestamp",
        State.NOTE,
        f"webhook-timestamp is {_long(age)} old; verifiers refuse what is older than five minutes.",
        late,
    )


def _tokens(headers: Mapping[str, str]) -> tuple[list[str], list[Finding]]:
    """The signatures in the header, repaired where that is plain; and what was odd about them."""
    text = headers.get("webhook-signature", "").strip()
    if not text:
        return [], [_missing("signature", headers)]
    tokens = [token for token in text.split(" ") if token]
    if all(_TOKEN.fullmatch(token) for token in tokens):
        count = "One signature" if len(tokens) == 1 else f"{len(tokens)} signatures (a rotation is going on)"
        return tokens, [Finding("signature", State.GOOD, f"{count}, well formed.")]
    repaired, what = _repaired(text)
    fix = "Use the header as it came: v1, and 44 characters of base64 for each secret, with single spaces between."
    if all(_TOKEN.fullmatch(token) for token in repaired):
        return repaired, [Finding("signature", State.WRONG, f"webhook-signature was changed: {what}.", fix)]
    return repaired, [Finding("signature", State.WRONG, f"webhook-signature is not a signature of ours: {what}.", fix)]


def _repaired(text: str) -> tuple[list[str], str]:
    plus = re.sub(r" (?!v1,)", "+", text)
    if " " in text and all(_TOKEN.fullmatch(token) for token in plus.split(" ")):
        return plus.split(" "), "+ became a space, as in a form or a URL"
    urlsafe = text.replace("-", "+").replace("_", "/")
    if urlsafe != text and all(_TOKEN.fullmatch(token) for token in urlsafe.split()):
        return urlsafe.split(), "it is in URL-safe base64, and it is sent in standard base64"
    padded = [token if token.endswith("=") else token + "=" for token in text.split()]
    if padded != text.split(" ") and all(_TOKEN.fullmatch(token) for token in padded):
        return padded, "the = at the end is missing" if "".join(padded) != "".join(text.split()) else "its spaces"
    if all(_TOKEN.fullmatch(f"v1,{token}") for token in text.split()):
        return [f"v1,{token}" for token in text.split()], "the v1, before it is missing"
    equals = re.sub(r"\bv1=", "v1,", text)
    if equals != text and all(_TOKEN.fullmatch(token) for token in equals.split()):
        return equals.split(), "v1, became v1="
    if re.fullmatch(r"(v1,)?[0-9a-fA-F]{64}", text):
        return text.split(), "it is in hexadecimal, and it is sent in base64"
    return text.split(), f"{text[:60]!r} is not v1, and 44 characters of base64"


def _secret(tokens: Sequence[str], match: _Match | None) -> Iterator[Finding]:
    if not tokens:
        return
    if match is None:
        yield Finding(
            "secret",
            State.WRONG,
            "No secret of this subscriber, of another one or of this account made this signature over this body.",
            "Either the body or a header is not what was sent, or the request is not from this service. Check the body"
            " first.",
        )
        return
    signer = match.signer
    if signer.ended_at is not None:
        yield Finding(
            "secret",
            State.WRONG,
            f"An old secret of {signer.owner} made this signature; it was rotated, and has ended since.",
            "New requests are signed with the present secret: read it on the subscriber's page and set it at your"
            " side.",
        )
    elif not signer.chosen:
        yield Finding(
            "secret",
            State.WRONG,
            f"The secret of {signer.owner} made this signature, not one of the subscriber chosen here.",
            "Each subscriber has its own secret: set the one of the subscriber whose URL was called.",
        )
    else:
        yield Finding("secret", State.GOOD, f"A live secret of {signer.owner} made this signature.")


def _body(body: bytes, original: bytes | None, match: _Match | None, meant: Sent | None) -> Finding:
    if match is not None and match.changed is not None:
        return Finding("body", State.WRONG, match.changed.what, match.changed.fix)
    if original is not None and original != body:
        change = how_changed(original, body)
        return Finding("body", State.WRONG, change.what, change.fix)
    if match is not None or meant is not None:
        return Finding("body", State.GOOD, f"All {len(body)} bytes are as they were sent.")
    if not body:
        return Finding(
            "body", State.WRONG, "The body is empty: something read the request before your code did.", RAW_BYTES
        )
    return Finding(
        "body", State.NOTE, "The body cannot be compared: the event it belongs to is not known here.", RAW_BYTES
    )


def _missing(part: str, headers: Mapping[str, str]) -> Finding:
    name = f"webhook-{part}"
    alike = sorted(each for each in headers if each != name and each.endswith(part) and len(each) <= len(name) + 4)
    hint = f" There is {', '.join(alike)}; only {name} counts." if alike else ""
    return Finding(part, State.WRONG, f"The header {name} is missing.{hint}", _HOP)


def _long(seconds: float) -> str:
    """A length of time in words, in its largest unit."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}s"
    whole = max(int(seconds), 0)
    return "1 second" if whole == 1 else f"{whole} seconds"


# --- The search ------------------------------------------------------------------------------------


def _find(
    tokens: Sequence[str],
    webhook_id: str,
    stamp: int | None,
    body: bytes,
    signers: Sequence[Signer],
    known: Sequence[Sent],
) -> _Match | None:
    """The reading nearest to what was given under which one of the signatures fits."""
    if not tokens:
        return None
    left = MOST_HASHED
    wanted = [token.encode("utf-8", "backslashreplace") for token in tokens[:MOST_TOKENS]]
    for reading in _readings(webhook_id, stamp, body, signers, known):
        left -= len(reading.body) + _ONE_MORE
        if left < 0:
            return None
        expected = sign(reading.signer.key, reading.id, reading.stamp, reading.body).encode("ascii")
        if any(hmac.compare_digest(token, expected) for token in wanted):
            return reading
    return None


def _readings(
    webhook_id: str, stamp: int | None, body: bytes, signers: Sequence[Signer], known: Sequence[Sent]
) -> Iterator[_Match]:
    """What may have been signed: as given first, then with one part changed, then with several."""
    ids = [webhook_id, *(event.id for event in known if event.id != webhook_id)]
    stamps = [] if stamp is None else [stamp]
    stamps += sorted({each for event in known for each in event.stamps} - set(stamps), reverse=True)
    bodies: list[tuple[bytes, Change | None]] = [(body, None)]
    bodies += [(event.body, how_changed(event.body, body)) for event in known if event.body != body]
    guesses: list[tuple[bytes, Change | None]] = [(guess, change) for change, guess in undone(body)]
    combinations = _combined(signers, ids, stamps, bodies + guesses)
    for _, signer, one_id, one_stamp, (text, change) in sorted(combinations, key=lambda found: found[0]):
        yield _Match(signer, one_id, one_stamp, text, change)


def _combined(
    signers: Sequence[Signer], ids: Sequence[str], stamps: Sequence[int], bodies: Sequence[tuple[bytes, Change | None]]
) -> Iterator[tuple[int, Signer, str, int, tuple[bytes, Change | None]]]:
    """All that depart from what was given (the first of each) in MOST_CHANGES parts at most, and in how many.

    Those that depart in more are not even made: there may be millions.
    """
    for signer in signers:
        by_signer = int(not signer.chosen or signer.ended_at is not None)
        for at_id, one_id in enumerate(ids if by_signer < MOST_CHANGES else ids[:1]):
            by_id = by_signer + bool(at_id)
            for at_stamp, stamp in enumerate(stamps if by_id < MOST_CHANGES else stamps[:1]):
                by_stamp = by_id + bool(at_stamp)
                for at_body, body in enumerate(bodies if by_stamp < MOST_CHANGES else bodies[:1]):
                    yield by_stamp + bool(at_body), signer, one_id, stamp, body
