"""What the Tab key offers for arguments: providers and operations from the handlers, ids from the service."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

_PATIENCE = (0.3, 1.0)
"""Seconds to connect to the service and to wait for it: nobody waits longer for a Tab key."""


def providers(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of providers."""
    import handlers  # late: only a Tab key needs it here

    return _matching(((name, handlers.find(name).title) for name in handlers.available()), incomplete)


def operations(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Operations of the provider that was typed before, of every provider without one."""
    import handlers  # late: as above

    chosen = ctx.params.get("provider")
    found = [handlers.find(name) for name in handlers.available() if chosen in (None, "", name)]
    return _matching(((each.name, each.title) for one in found for each in one.operations.values()), incomplete)


def subscribers(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of subscribers, with their URLs."""
    return _matching(((each["id"], each["url"]) for each in _newest("subscribers")), incomplete)


def tasks(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest tasks, with what they are."""
    shown = ((each["id"], f"{each['status']}, {each['provider']} {each['operation']}") for each in _newest("tasks"))
    return _matching(shown, incomplete)


def deliveries(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of the newest deliveries, with how they stand."""
    shown = ((each["id"], f"{each['status']}, {each['event_type']}") for each in _newest("deliveries"))
    return _matching(shown, incomplete)


def _newest(collection: str) -> list[dict[str, Any]]:
    """What the service of the environment lists first; nothing when it cannot be asked: a Tab key never complains."""
    from receiver.cli.api import Api, default_url, key_of_environment  # late: as above

    try:
        api = Api(os.environ.get("RECEIVER_URL") or default_url(), key_of_environment())
        return list(api.call("GET", f"/v1/{collection}", params={"limit": 50}, patience=_PATIENCE).json()["data"])
    except (click.ClickException, ValueError, KeyError, TypeError):
        return []


def _matching(known: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=said) for value, said in known if value.startswith(incomplete)]
