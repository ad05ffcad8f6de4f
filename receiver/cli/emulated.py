"""Providers that the sandbox plays: proof that they are emulated, inputs that they take, magic words in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import click
import requests

from receiver.cli.api import Api
from receiver.cli.exits import Exit, Problem

_PATIENCE = 5.0
_SIDE = 512
"""Of a picture, in pixels: schemas say less of it than providers ask for."""


@dataclass(frozen=True)
class Emulated:
    """A provider of the running service, proven to be emulated. ``sandbox``: the sandbox's address.

    ``words``: what can be told to the sandbox, as ``{"[sandbox:fail]": "the task fails"}``.
    """

    name: str
    operations: Mapping[str, Any]
    sandbox: str
    words: Mapping[str, str]

    @classmethod
    def find(cls, api: Api, provider: str) -> Emulated:
        """The provider of this name. Raises Problem when there is none, or when it might be the real one."""
        known = {each["name"]: each for each in api.get("/v1/providers").json()["data"]}
        found = known.get(provider)
        if found is None:
            raise click.UsageError(f"There is no provider {provider!r}; known are {', '.join(known)}.")
        index = _index_of(found["base_url"]) if found["base_url"] else None
        if index is None:
            raise Problem(
                f"{provider} is not emulated here, and a task of the real one may cost money.\n"
                "Start `receiver run --with-sandbox`, or set "
                f"{provider.upper()}_BASE_URL to a sandbox that this machine reaches too.",
                Exit.FAILED,
            )
        operations = {each["name"]: each for each in found["operations"]}
        return cls(provider, operations, _root(found["base_url"]), index["magic_tokens"])

    def input_of(self, operation: str) -> Mapping[str, Any]:
        """The JSON Schema of an operation's input. Raises click.UsageError when there is no such operation."""
        if operation not in self.operations:
            raise click.UsageError(f"{self.name} has no operation {operation!r}; it has {', '.join(self.operations)}.")
        schema: Mapping[str, Any] = self.operations[operation]["input"]
        return schema

    def check(self, words: Sequence[str]) -> None:
        """Raise click.UsageError unless the sandbox understands these words (``fail``, ``late-callback=5``)."""
        for word in words:
            if f"[sandbox:{word.partition('=')[0]}]" not in self.words:
                known = ", ".join(token[9:-1] for token in self.words)
                raise click.UsageError(f"--outcome: the sandbox does not know {word!r}; it knows {known}.")


def with_words(given: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """An input with magic words in it: in a field that no provider knows, and so passes over."""
    if not words:
        return dict(given)
    return {**given, "note": " ".join(f"[sandbox:{word}]" for word in words)}


def sample_input(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest input that a JSON Schema takes: its required fields, each with a plain value."""
    fields = schema.get("properties", {})
    return {name: _sample(name, fields.get(name, {})) for name in schema.get("required", [])}


def _sample(name: str, field: Mapping[str, Any]) -> Any:
    if field.get("enum"):
        return field["enum"][0]
    kinds = field.get("type", "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    match kind:
        case "integer" | "number":
            return _SIDE if name in ("width", "height") else field.get("minimum", 1)
        case "boolean":
            return False
        case "array":
            return [_sample(name, field.get("items", {}))] * max(1, field.get("minItems", 1))
        case "object":
            return sample_input(field)
    return "https://example.com/sample.png" if field.get("format") in ("uri", "url") else "sample"


def _root(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "", "", ""))


def _index_of(base_url: str) -> dict[str, Any] | None:
    """What a sandbox at this address says of itself; None when none is there."""
    try:
        answer = requests.get(f"{_root(base_url)}/_sandbox/", timeout=_PATIENCE, allow_redirects=False)
        index = answer.json()
        return index if index["service"] == "provider sandbox" else None
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None
