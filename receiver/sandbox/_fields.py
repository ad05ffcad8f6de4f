"""Checks of a request's fields against what a provider's page says about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "scalar": (str, int, float),
    "boolean": (bool, str),
    "object": (dict,),
    "list": (list,),
    "texts": (list,),
    "link": (str,),
    "links": (list,),
    "any": (object,),
}


_MOST_DIGITS = 18


@dataclass(frozen=True)
class Field:
    """One field of a request.

    ``kind``: string, integer, number, scalar (string or number), boolean (also as text), object, list, texts (a list of
    strings), link (an absolute http(s) address), links (a list of them), any.
    ``choices``: allowed values, compared as text. ``low``, ``high``: bounds of a number, or of the number that a
    string holds, or of a list's length. ``longest``: characters of a string.
    """

    name: str
    kind: str = "string"
    required: bool = False
    choices: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    longest: int | None = None


@dataclass(frozen=True)
class Problem:
    """What is wrong with a request: which field, whether it is absent, and a sentence."""

    field: str
    absent: bool
    text: str


def need(*names: str, kind: str = "string") -> tuple[Field, ...]:
    """Required fields of one kind."""
    return tuple(Field(name, kind, required=True) for name in names)


def may(*names: str, kind: str = "string") -> tuple[Field, ...]:
    """Optional fields of one kind."""
    return tuple(Field(name, kind) for name in names)


def check_fields(body: Mapping[str, Any], fields: Iterable[Field]) -> Problem | None:
    """The first thing wrong with a body, or None. An empty string and null count as absent."""
    for spec in fields:
        value = body.get(spec.name)
        if is_absent(value):
            if spec.required:
                return Problem(spec.name, True, f"{spec.name} is required")
            continue
        text = _mismatch(spec, value)
        if text is not None:
            return Problem(spec.name, False, f"{spec.name} {text}")
    return None


def is_absent(value: object) -> bool:
    """Whether a value counts as not given."""
    return value is None or (isinstance(value, str) and not value.strip())


def first_absent(body: Mapping[str, Any], *names: str) -> Problem | None:
    """A problem for the first of the names that is not given."""
    return check_fields(body, need(*names, kind="any"))


def one_of(body: Mapping[str, Any], *names: str) -> Problem | None:
    """A problem unless at least one of the names is given."""
    if any(not is_absent(body.get(name)) and body.get(name) != [] for name in names):
        return None
    return Problem(names[0], True, f"one of {', '.join(names)} is required")


def is_yes(value: object) -> bool:
    """A boolean that may have been sent as text."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def is_web_address(value: object) -> bool:
    """Whether a value looks like an absolute http(s) link with a host."""
    if not isinstance(value, str):
        return False
    scheme, _, rest = value.partition("://")
    host = rest.partition("/")[0]
    return scheme.lower() in {"http", "https"} and bool(host) and not any(c.isspace() for c in value)


def whole(text: str) -> int | None:
    """The whole number that a text is, or None; as large as any that a provider counts with."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def _mismatch(spec: Field, value: object) -> str | None:
    if not isinstance(value, _KINDS[spec.kind]) or (isinstance(value, bool) and spec.kind not in {"boolean", "any"}):
        return f"must be of type {spec.kind}"
    if spec.kind == "boolean" and isinstance(value, str) and value.lower() not in {"true", "false"}:
        return "must be true or false"
    if isinstance(value, list) and spec.kind == "texts" and not all(isinstance(item, str) for item in value):
        return "must hold strings"
    if spec.kind in {"link", "links"}:
        links = value if isinstance(value, list) else [value]
        if not all(is_web_address(link) for link in links):
            return "must be an absolute http or https address" if spec.kind == "link" else "must hold such addresses"
    if spec.choices and str(value) not in spec.choices:
        return f"must be one of {', '.join(spec.choices)}"
    if spec.longest is not None and isinstance(value, str) and len(value) > spec.longest:
        return f"must have at most {spec.longest} characters"
    if spec.low is None and spec.high is None:
        return None
    return _out_of_range(spec, value)


def _out_of_range(spec: Field, value: object) -> str | None:
    try:
        size = float(len(value)) if isinstance(value, list) else float(value)  # type: ignore[arg-type]  # tried
    except OverflowError:  # a whole number of hundreds of digits
        size = math.inf if isinstance(value, int) and value > 0 else -math.inf
    except (TypeError, ValueError):
        return "must be a number"
    low, high = spec.low, spec.high
    if (low is not None and size < low) or (high is not None and size > high) or size != size:
        return f"must be from {low if low is not None else '-'} to {high if high is not None else '-'}"
    return None
