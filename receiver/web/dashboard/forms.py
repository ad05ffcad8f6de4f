"""Forms made from a provider's JSON Schema: what can be typed, and the input that it makes.

What a form cannot say stands in one more field as JSON: lists of objects, and fields that the schema does not know.
Nothing is checked here that the service checks; a text that is no number goes on as a text, and comes back with
the service's message at its field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "input."
DEPTH = 3
"""Objects within objects that become fields; deeper ones are JSON."""


@dataclass(frozen=True)
class Field:
    """One field. ``kind``: text, number, choice, lines or json. ``path``: below the input, with dots."""

    path: str
    label: str
    kind: str
    required: bool
    help: str
    schema: Mapping[str, Any]
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the form, and in the service's messages."""
        return PREFIX + self.path


@dataclass(frozen=True)
class Group:
    """Fields of one object. ``path`` is empty for the input itself."""

    path: str
    label: str
    help: str
    fields: tuple[Field, ...]


def groups_of(schema: Mapping[str, Any]) -> list[Group]:
    """The fields of an input's schema: required ones first, nested objects in groups of their own behind."""
    return list(_groups(schema, "", "", required=True))


def _groups(schema: Mapping[str, Any], path: str, label: str, *, required: bool) -> Iterator[Group]:
    needed = set(schema.get("required", ())) if required else set()
    own, nested = [], []
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        if inner.get("properties") and here.count(".") < DEPTH:
            nested.append((here, name, inner, name in needed))
        else:
            own.append(_field(here, name, inner, name in needed))
    if own:
        yield Group(path, label, schema.get("description", ""), tuple(sorted(own, key=lambda each: not each.required)))
    for here, name, inner, must in nested:
        yield from _groups(inner, here, name, required=must)


def _field(path: str, name: str, schema: Mapping[str, Any], required: bool) -> Field:
    kind = "json"
    choices: tuple[str, ...] = ()
    if "enum" in schema:
        kind, choices = "choice", tuple(_written(value) for value in schema["enum"] if value is not None)
    elif schema.get("type") == "boolean":
        kind, choices = "choice", ("true", "false")
    elif schema.get("type") in ("integer", "number"):
        kind = "number"
    elif schema.get("type") == "string":
        kind = "text"
    elif schema.get("type") == "array" and schema.get("items", {}).get("type") in ("string", "integer", "number"):
        kind = "lines"
    return Field(path, name, kind, required, _help(schema, kind), schema, choices)


def _help(schema: Mapping[str, Any], kind: str) -> str:
    """What the schema says of a field, limits included."""
    said = [schema["description"].rstrip(".")] if schema.get("description") else []
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        said.append(f"{low} to {high}")
    elif low is not None:
        said.append(f"at least {low}")
    elif high is not None:
        said.append(f"at most {high}")
    if "maxLength" in schema and str(schema["maxLength"]) not in "".join(said):
        said.append(f"at most {schema['maxLength']} characters")
    if kind == "lines":
        said.append("one on each line")
    if kind == "json":
        said.append("JSON, or plain text")
    return "; ".join(said)


def _written(value: Any) -> str:
    """A value as it stands in a field."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- from what was typed to the input ---------------------------------------------------------------


class NotJson(ValueError):
    """The field for further JSON holds something else; the message says what."""


def input_from(groups: list[Group], typed: Mapping[str, str], further: str) -> dict[str, Any]:
    """The input that a filled form makes. ``further``: a JSON object, laid over the fields. Raises NotJson."""
    made: dict[str, Any] = {}
    for group in groups:
        for field in group.fields:
            text = typed.get(field.name, "")
            if text != "":
                _put(made, field.path, _value(field, text.replace("\r\n", "\n")))
    if further.strip():
        try:
            more = json.loads(further)
        except (ValueError, RecursionError) as error:
            raise NotJson(f"This is not JSON: {error}.") from None
        if not isinstance(more, dict):
            raise NotJson('This must be a JSON object, like {"name": "value"}.')
        _lay_over(made, more)
    return made


def _value(field: Field, text: str) -> Any:
    match field.kind:
        case "number":
            return _number(text)
        case "choice":
            typed = {_written(value): value for value in field.schema.get("enum", (True, False))}
            return typed.get(text, text)
        case "lines":
            numbers = field.schema["items"]["type"] != "string"
            return [_number(line) if numbers else line for line in text.split("\n") if line.strip()]
        case "json":
            return _json_or_text(text)
    return text


def _number(text: str) -> Any:
    """A number as it was typed; anything else stays a text, for the service to refuse at its field."""
    found = _json_or_text(text.strip())
    return found if isinstance(found, int | float) and not isinstance(found, bool) else text


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _put(made: dict[str, Any], path: str, value: Any) -> None:
    *outer, name = path.split(".")
    for part in outer:
        made = made.setdefault(part, {})
    made[name] = value


def _lay_over(made: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(made.get(name), dict):
            _lay_over(made[name], value)
        else:
            made[name] = value


# --- from an input to what stands in the fields -----------------------------------------------------


def typed_from(groups: list[Group], given: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """What stands in the fields for an input, and the rest of it as JSON for the further field."""
    rest = json.loads(json.dumps(given))
    typed: dict[str, str] = {}
    for group in groups:
        for field in group.fields:
            found, value = _take(rest, field.path)
            if not found:
                continue
            if field.kind == "lines" and isinstance(value, list) and all(isinstance(item, str) for item in value):
                typed[field.name] = "\n".join(value)
            else:
                typed[field.name] = _written(value)
    return typed, json.dumps(rest, ensure_ascii=False, indent=2) if rest else ""


def _take(rest: dict[str, Any], path: str) -> tuple[bool, Any]:
    """Take a value out of an object, and objects around it that have nothing left; whether it was there."""
    name, _, further = path.partition(".")
    if name not in rest:
        return False, None
    if not further:
        return True, rest.pop(name)
    inner = rest[name]
    if not isinstance(inner, dict):
        return False, None
    found, value = _take(inner, further)
    if found and not inner:
        del rest[name]
    return found, value


_BESIDE = {"further", "metadata", "callback_url", "deadline"}
"""Fields of the form beside those of the schema."""


def place_messages(groups: list[Group], errors: Mapping[str, Any]) -> dict[str, list[str]]:
    """Messages by the field that they are shown at: the nearest one; ``""`` for those without any."""
    names = {field.name for group in groups for field in group.fields} | _BESIDE
    placed: dict[str, list[str]] = {}
    for path, messages in errors.items():
        nearest = path
        while nearest and nearest not in names:
            nearest = nearest.rpartition(".")[0]
        said = [message if nearest == path else f"{path.removeprefix(PREFIX)}: {message}" for message in messages]
        placed.setdefault(nearest, []).extend(said)
    return placed
