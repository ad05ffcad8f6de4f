"""Fields of requests. Stricter than marshmallow's own: a number is a number, not a text that looks like one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError, fields, validate

from receiver.models import id_pattern, storable

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DIGITS = re.compile(r"\d{1,9}", re.ASCII)


class Text(fields.String):
    """A text of ``low`` to ``high`` characters that can be stored."""

    def __init__(self, low: int = 0, high: int = 512, **more: Any) -> None:
        super().__init__(validate=validate.Length(low, high), **more)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **more)
        if not storable(text):
            raise ValidationError("Must be valid Unicode without NUL characters.")
        return text


class Matching(fields.String):
    """A text that a regular expression describes as a whole. ``otherwise``: what to say when it does not."""

    def __init__(self, pattern: str, otherwise: str, **more: Any) -> None:
        super().__init__(**more)
        self.pattern = re.compile(pattern, re.ASCII)
        self.otherwise = otherwise

    def _deserialize(self, value: Any, attr: str | None, data: Any, **more: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **more)
        if not self.pattern.fullmatch(text):
            raise ValidationError(self.otherwise)
        return text

    def json_schema(self) -> dict[str, Any]:
        """What JSON Schema can say of it."""
        return {"pattern": f"^(?:{self.pattern.pattern})$"}


class Id(Matching):
    """An id of ours, with its prefix; ``empty``: an empty text is taken too."""

    def __init__(self, prefix: str, *, empty: bool = False, **more: Any) -> None:
        pattern = id_pattern(prefix)
        super().__init__(f"({pattern})?" if empty else pattern, f"Must be an id that begins with {prefix}_.", **more)


class Number(fields.Float):
    """A finite JSON number in a range."""

    def __init__(self, low: float, high: float, **more: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **more)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        try:
            number = float(value)
        except OverflowError:
            raise self.make_error("too_large", input=value) from None
        if math.isnan(number):  # no JSON has it, but a form may, and it is in every range
            raise self.make_error("invalid", input=value)
        return number


class Whole(fields.Integer):
    """A JSON number without a fraction, in a range."""

    def __init__(self, low: int, high: int, **more: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **more)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid", input=value)
        return value


class Digits(fields.Integer):
    """A whole number written in digits (query parameters), in a range."""

    def __init__(self, low: int, high: int, **more: Any) -> None:
        super().__init__(validate=validate.Range(low, high), **more)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if not isinstance(value, str) or not _DIGITS.fullmatch(value):
            raise self.make_error("invalid", input=value)
        return int(value)


class Flag(fields.Boolean):
    """``true`` or ``false`` and nothing that resembles them."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Instant(fields.DateTime):
    """A time as RFC 3339 writes it, with its offset from UTC; loaded as milliseconds since the epoch."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        message = "Must be a time like 2026-11-21T10:00:00Z (in a URL, write + as %2B)."
        if not isinstance(value, str) or not _INSTANT.fullmatch(value):
            raise ValidationError(message)
        try:
            moment = datetime.fromisoformat(value.upper())
            return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            raise ValidationError(message) from None


class Texts(fields.Dict):
    """Pairs of texts: at most ``pairs``, names of 1 to ``name_high`` characters, values of at most ``value_high``.

    ``removable``: a value may be null (in a PATCH, to take the pair away).
    """

    def __init__(self, pairs: int, name_high: int, value_high: int, *, removable: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.pairs = pairs
        self.name_high = name_high
        self.value_high = value_high
        self.removable = removable

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, str | None]:
        if not isinstance(value, Mapping):
            raise self.make_error("invalid")
        errors: dict[str, list[str]] = {}
        for name, text in value.items():
            if not 1 <= len(name) <= self.name_high or not storable(name):
                errors[name] = [f"Names must have 1 to {self.name_high} characters, without NUL."]
            elif text is None and self.removable:
                continue
            elif not isinstance(text, str) or len(text) > self.value_high or not storable(text):
                errors[name] = [f"Must be a text of at most {self.value_high} characters, without NUL."]
        if errors:
            raise ValidationError(errors)
        if len(value) > self.pairs:
            raise ValidationError(f"At most {self.pairs} pairs.")
        return dict(value)

    def json_schema(self) -> dict[str, Any]:
        """What JSON Schema can say of it."""
        kind: str | list[str] = ["string", "null"] if self.removable else "string"
        return {
            "maxProperties": self.pairs,
            "propertyNames": {"minLength": 1, "maxLength": self.name_high},
            "additionalProperties": {"type": kind, "maxLength": self.value_high},
        }
