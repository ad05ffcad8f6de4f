"""Forms from JSON Schemas: every operation has one, and nothing is lost on the way there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.providers import Providers
from receiver.web.dashboard.forms import Field, NotJson, groups_of, input_from, place_messages, typed_from

OPERATIONS = [
    pytest.param(operation["input"], id=f"{provider['name']}-{operation['name']}")
    for provider in Providers({}, lambda: 0).describe()
    for operation in provider["operations"]
]

SCHEMA: dict[str, Any] = {
    "required": ["prompt", "size"],
    "properties": {
        "steps": {"type": "integer", "minimum": 1, "maximum": 50},
        "prompt": {"type": "string", "maxLength": 500, "description": "What to show."},
        "size": {"enum": [256, 512, None]},
        "fast": {"type": "boolean"},
        "links": {"type": "array", "items": {"type": "string"}},
        "seeds": {"type": "array", "items": {"type": "integer"}},
        "scenes": {"type": "array", "items": {"type": "object"}},
        "seed": {},
        "extra": {"properties": {"model": {"type": "string"}, "deep": {"properties": {"x": {"type": "number"}}}}},
    },
}
GROUPS = groups_of(SCHEMA)


def fields(groups: Any) -> dict[str, Field]:
    """All fields by path."""
    return {field.path: field for group in groups for field in group.fields}


def test_each_kind_of_field() -> None:
    """Required ones first; enumerations, switches, numbers, lists and nested objects have controls of their own."""
    found = fields(GROUPS)
    assert list(found)[:2] == ["prompt", "size"]
    assert {path: field.kind for path, field in found.items()} == {
        "prompt": "text", "size": "choice", "steps": "number", "fast": "choice", "links": "lines", "seeds": "lines",
        "scenes": "json", "seed": "json", "extra.model": "text", "extra.deep.x": "number",
    }  # fmt: skip
    assert found["size"].choices == ("256", "512")
    assert found["steps"].help == "1 to 50"
    assert found["prompt"].help == "What to show; at most 500 characters"
    assert [group.path for group in GROUPS] == ["", "extra", "extra.deep"]


def test_what_was_typed_becomes_the_input() -> None:
    """With the types of the schema; what is empty is left out; further JSON is laid over it."""
    typed = {
        "prompt": "a cat\r\nin a hat", "size": "512", "steps": "20", "fast": "false", "links": "https://a\r\n\r\nhttps://b",
        "seeds": "1\n2", "scenes": '[{"a": 1}]', "seed": "plain", "extra.model": "m", "extra.deep.x": "0.5",
    }  # fmt: skip
    made = input_from(GROUPS, {f"input.{name}": text for name, text in typed.items()}, '{"extra": {"y": 1}, "z": null}')
    assert made == {
        "prompt": "a cat\nin a hat", "size": 512, "steps": 20, "fast": False, "links": ["https://a", "https://b"],
        "seeds": [1, 2], "scenes": [{"a": 1}], "seed": "plain", "extra": {"model": "m", "deep": {"x": 0.5}, "y": 1},
        "z": None,
    }  # fmt: skip
    assert input_from(GROUPS, {"input.steps": ""}, "") == {}


def test_what_is_no_number_is_left_to_the_service() -> None:
    """It goes on as it was typed, so that the message is the service's own."""
    made = input_from(GROUPS, {"input.steps": "many", "input.size": "7", "input.extra.deep.x": "true"}, "")
    assert made == {"steps": "many", "size": "7", "extra": {"deep": {"x": "true"}}}


@pytest.mark.parametrize("further", ["{", "[1]", "7", "x" * 10])
def test_further_fields_must_be_an_object(further: str) -> None:
    """Anything else is refused with a sentence, before anything is submitted."""
    with pytest.raises(NotJson):
        input_from(GROUPS, {}, further)


def test_an_input_stands_in_the_form_and_comes_back_the_same() -> None:
    """What the form has no field for stands in the further JSON."""
    given = {
        "prompt": "a", "size": 256, "fast": True, "links": ["https://a"], "scenes": [{"n": [1, 2]}],
        "seed": 7, "extra": {"model": "m", "unknown": [1]}, "more": {"deep": {}},
    }  # fmt: skip
    typed, further = typed_from(GROUPS, given)
    assert typed["input.prompt"] == "a"
    assert json.loads(further) == {"extra": {"unknown": [1]}, "more": {"deep": {}}}
    again = input_from(GROUPS, typed, further)
    assert again == given


@pytest.mark.parametrize("schema", OPERATIONS)
def test_every_operation_has_a_form(schema: dict[str, Any]) -> None:
    """Each property of every provider's schema can be filled in, and each required one is marked."""
    found = fields(groups_of(schema))
    tops = {path.partition(".")[0] for path in found}
    assert tops == set(schema.get("properties", {}))
    for name in schema.get("required", ()):
        assert any(path == name or path.startswith(f"{name}.") for path in found), name
        assert name not in found or found[name].required


def test_messages_stand_at_the_nearest_field() -> None:
    """One inside of a list stands at the list; one about nothing on the form stands above it."""
    placed = place_messages(
        GROUPS,
        {"input.steps": ["Too many."], "input.scenes.0.a": ["Odd."], "provider": ["Off."], "deadline": ["Late."]},
    )
    assert placed == {
        "input.steps": ["Too many."], "input.scenes": ["scenes.0.a: Odd."], "": ["provider: Off."],
        "deadline": ["Late."],
    }  # fmt: skip
