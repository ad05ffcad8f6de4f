"""What callers are told of providers, and what handlers are told of tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import handlers
from receiver.errors import Invalid, NotFound, ProviderOff
from receiver.providers import input_schema, remote_task
from tests.core.stage import Stage


def test_all_providers_are_described(stage: Stage) -> None:
    """Configured or not, each with its operations and the JSON Schema of their input."""
    described = {entry["name"]: entry for entry in stage.runtime.providers.describe()}
    assert set(described) == set(handlers.available())
    assert [name for name, entry in described.items() if entry["configured"]] == ["toy"]
    toy = described["toy"]
    assert (toy["callbacks"], toy["uploads"], toy["title"]) == ("signed", False, "Toy")
    (draw,) = toy["operations"]
    assert draw["input"]["required"] == ["prompt"]
    assert draw["input"]["properties"]["prompt"]["maxLength"] == 200
    json.dumps(list(described.values()))


def test_unknown_and_unconfigured_are_told_apart(stage: Stage) -> None:
    """A typing error is the caller's, missing credentials are the operator's."""
    providers = stage.runtime.providers
    with pytest.raises(NotFound):
        providers.get("nobody")
    with pytest.raises(ProviderOff):
        providers.get("superapp")
    assert providers.find("superapp") is None
    for name, operation, field in (("nobody", "draw", "provider"), ("toy", "paint", "operation")):
        with pytest.raises(Invalid) as caught:
            providers.operation(name, operation)
        assert set(caught.value.errors) == {field}


def test_a_handler_sees_a_task_as_it_left_it(stage: Stage) -> None:
    """Its own id and state, the caller's input, and the age since the submission in seconds."""
    task = stage.running()
    remote = remote_task(task, stage.clock() + 2500)
    assert (remote.task_id, remote.provider_task_id, remote.operation) == (task.id, "job-1", "draw")
    assert (remote.state, remote.input, remote.age) == ({"from": "receipt"}, {"prompt": "a cat"}, 2.5)
    assert remote_task(task, 0).age == 0


VALUES = [None, True, False, 0, 1, 1.0, 1.5, "", "1", "yes", "false", [], [1], [["1"]], {}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_input_refuses_what_the_published_schema_refuses(value: Any) -> None:
    """No task is taken, and no call made, with a kind of value that a field does not have by its JSON Schema."""
    for name in handlers.available():
        for called, operation in handlers.find(name).operations.items():
            schema = operation.schema()
            for field, shown in input_schema(operation)["properties"].items():
                refused = schema.validate({field: value}, partial=True)
                assert field in refused or Draft202012Validator(shown).is_valid(value), (name, called, field)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [],
        [1],
        {},
        -(10**9),
        10**9,
        1.0,
        2.0,
        960.0,
        1e9 + 0.5,
        [{"segId": None, "segText": "x"}],
        [{"segId": 2.0, "segText": "x"}],
    ],
    ids=repr,
)
def test_the_published_schema_refuses_what_the_input_refuses(value: Any) -> None:
    """No field takes a kind of value by its JSON Schema that a task with it would be refused for."""
    for name in handlers.available():
        for called, operation in handlers.find(name).operations.items():
            shown = input_schema(operation)["properties"]
            refused = operation.schema().validate(dict.fromkeys(shown, value))
            for field in shown.keys() & refused.keys():
                assert not Draft202012Validator(shown[field]).is_valid(value), (name, called, field)
