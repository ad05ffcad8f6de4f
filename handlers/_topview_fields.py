"""TopView's own kinds of fields: what its pages write as text in places and as number or switch in others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from handlers._base import Switch, whole

SWITCHES = ("isDiyScript", "preview")
"""The fields that are a TextSwitch, whichever operation has them."""


class Choice(fields.Field[Any]):
    """One of a few numbers that the provider writes as text or as number."""

    def __init__(self, *choices: str, required: bool = False, description: str) -> None:
        both = [*choices, *(int(choice) for choice in choices)]
        super().__init__(required=required, metadata={"description": description, "enum": both})
        self.choices = choices

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:  # noqa: ARG002  # marshmallow's signature
        value = whole(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or str(value) not in self.choices:
            raise ValidationError(f"Must be one of: {', '.join(self.choices)}.")
        return value


class ScriptId(fields.Field[Any]):
    """A text or a whole number."""

    def __init__(self, description: str, *, required: bool = False) -> None:
        super().__init__(required=required, metadata={"description": description, "type": ["string", "integer"]})

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        value = whole(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValidationError("Must be a text or a whole number.")
        return value


class TextSwitch(Switch):
    """A switch that the provider's pages write as text in places; sent as ``true`` or ``false`` (``as_sent``)."""

    def __init__(self, *, description: str, only: bool | None = None, error: str = "") -> None:
        """``only``: the one value that it may have, if there is one; ``error``: what the other is told."""
        values = (True, False) if only is None else (only,)
        both = {"type": ["boolean", "string"], "enum": [*values, *(str(value).lower() for value in values)]}
        rule = None if only is None else validate.Equal(only, error=error)
        super().__init__(validate=rule, metadata={"description": description, **both})

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        return super()._deserialize(_switched(value))


def _switched(value: Any) -> Any:
    return value == "true" if value in ("true", "false") else value


def as_sent(given: Mapping[str, Any]) -> dict[str, Any]:
    """An input as the provider gets it: its switches, which may be texts, as JSON has them."""
    return {name: _switched(value) if name in SWITCHES else value for name, value in given.items()}
