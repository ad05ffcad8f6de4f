"""The providers this service was configured for, and what it tells callers about all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter

import handlers
from handlers import Handler, Operation, RemoteTask
from receiver.errors import Invalid, NotFound, ProviderOff
from receiver.models import Task


class Providers:
    """Handlers by name; a provider without credentials is known, but off."""

    def __init__(self, configured: Mapping[str, Mapping[str, str]], clock: Callable[[], int]) -> None:
        """``configured``: option texts by provider. ``clock``: ms since the epoch."""
        self._handlers = {
            name: handlers.load(name, options, lambda: clock() / 1000) for name, options in configured.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The configured ones."""
        return tuple(self._handlers)

    def get(self, name: str) -> Handler:
        """The handler. Raises NotFound for a provider that does not exist, ProviderOff for one without credentials."""
        if name in self._handlers:
            return self._handlers[name]
        if name not in handlers.available():
            raise NotFound(f"There is no provider {name!r}; known are {', '.join(handlers.available())}.")
        raise ProviderOff(f"The provider {name!r} has no credentials here; its settings are in the documentation.")

    def find(self, name: str) -> Handler | None:
        """The handler, or None when the provider is off or unknown."""
        return self._handlers.get(name)

    def operation(self, name: str, operation: str) -> tuple[Handler, Operation]:
        """A handler and one of its operations. Raises Invalid with the field named, or ProviderOff."""
        try:
            handler = self.get(name)
        except NotFound as error:
            raise Invalid({"provider": [error.detail]}) from None
        if operation not in handler.operations:
            known = ", ".join(sorted(handler.operations))
            raise Invalid({"operation": [f"{handler.title} has no operation {operation!r}; it has {known}."]})
        return handler, handler.operations[operation]

    def describe(self) -> list[dict[str, Any]]:
        """All providers for ``GET /v1/providers``: operations with the JSON Schema of their input."""
        described = []
        for name in handlers.available():
            handler: Handler | type[Handler] = self._handlers.get(name) or handlers.find(name)
            described.append(
                {
                    "name": name,
                    "title": handler.title,
                    "docs": handler.docs,
                    "configured": name in self._handlers,
                    "base_url": None if name not in self._handlers else self._handlers[name].settings["base_url"],
                    "callbacks": handler.callbacks,
                    "uploads": handler.takes_uploads,
                    "resources": dict(handler.resources),
                    "operations": [
                        {
                            "name": operation.name,
                            "title": operation.title,
                            "callbacks": operation.callbacks,
                            "experimental": operation.experimental,
                            "input": input_schema(operation),
                        }
                        for operation in handler.operations.values()
                    ],
                }
            )
        return described


def input_schema(operation: Operation) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an operation's input."""
    # spec would only name schemas, and none is named here; apispec itself is untyped
    converter: Any = OpenAPIConverter(openapi_version="3.1.0", schema_name_resolver=_inline, spec=None)  # type: ignore[arg-type]  # see above
    schema: dict[str, Any] = converter.schema2jsonschema(operation.schema())
    return schema


def _inline(_: Any) -> None:
    """No schema gets a name: all are written in place."""


def poll_plan(handler: Handler, task: Task) -> tuple[float, ...]:
    """Seconds between queries of a task; the provider's own plan where it no longer has the task's operation."""
    if task.operation in handler.operations:
        return handler.poll_plan(task.operation)
    return handler.pace.poll_schedule


def remote_task(task: Task, now: int) -> RemoteTask:
    """A stored task as a handler sees it. ``now``: ms since the epoch."""
    return RemoteTask(
        task_id=task.id,
        operation=task.operation,
        provider_task_id=task.provider_task_id,
        state=json.loads(task.state_json),
        input=json.loads(task.input_json),
        age=max(0, now - (task.submitted_at or task.created_at)) / 1000,
    )
