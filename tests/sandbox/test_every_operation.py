"""Every operation that the service offers can be tried with the sandbox, though the two are written apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import handlers
from handlers import Callbacks, Handler, RemoteStatus, RemoteTask, Submission
from receiver.cli.emulated import sample_input
from receiver.providers import input_schema
from receiver.sandbox import RunningSandbox

from .conftest import Start

OPERATIONS = [(name, operation) for name in handlers.available() for operation in handlers.find(name).operations]
TASK = "task_01kahx3mt5k0c4z7d6q8r9w2ve"
CALLED = "http://127.0.0.1:9/callbacks/x/y"  # nothing listens there
CHOICES: Mapping[str, Mapping[str, Any]] = {
    "m2v_preview": {"productLink": "https://example.com/cup"},
    "m2v_export": {"productLink": "https://example.com/cup"},
    "product_avatar_replace_product_image": {"avatarId": "a"},
    "product_any_shoot": {"templateId": "t"},
    "zero_shot_avatar": {"videoFileId": "v", "audioFileId": "a"},
    "model_training": {"fileUrlList": [f"https://example.com/{number}.png" for number in range(10)]},
}
"""What an operation needs beside what its schema calls required: one of several."""
NO_QUERY = {"model_training"}
"""Its result comes by a callback only, to an address that is a setting of the sandbox."""


def handler_for(sandbox: RunningSandbox, name: str) -> Handler:
    """A provider's handler with the sandbox's own credentials."""
    given = {
        option.name: sandbox.world.settings.option(name, option.name)
        for option in handlers.find(name).options
        if option.credential
    }
    more = {"confirm_notices": "false"} if name == "img_open" else {}
    return handlers.load(name, {**given, **more, "base_url": f"{sandbox.url}/{name}"})


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_the_smallest_input_of_every_operation_succeeds(start: Start, name: str, operation: str) -> None:
    """What the schema calls required is all that the sandbox needs, and it calls back where the handler says so."""
    sandbox = start(time_scale=0, always="[sandbox:no-callback]")
    handler = handler_for(sandbox, name)
    found = handler.operations[operation]
    given = {**sample_input(input_schema(found)), **CHOICES.get(operation, {})}
    assert found.schema().validate(given) == {}
    url = CALLED if found.callbacks and handler.callbacks is not Callbacks.NONE else None
    receipt = handler.submit(Submission(TASK, operation, given, url))
    (started,) = sandbox.world.tasks(name)
    if operation in NO_QUERY:
        return
    assert (started.notice is not None) == (url is not None)
    task = RemoteTask(TASK, operation, receipt.provider_task_id, receipt.state, given, age=1.0)
    update = handler.query([task])[TASK]
    assert (update.status, update.error) == (RemoteStatus.SUCCEEDED, None)
    assert update.outputs
