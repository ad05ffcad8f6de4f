"""Ids that may have been meant when there is no such thing: of another kind, cut short, or mistyped. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_KINDS = {
    "task": ("tasks", "a task", "receiver task"),
    "sub": ("subscribers", "a subscriber", "receiver subscribers show"),
    "dlv": ("deliveries", "a delivery", "receiver delivery"),
    "evt": ("events", "an event", "receiver listen --after"),
}
"""By an id's prefix: where these things are listed, what they are called, and the command that shows one."""
_ONE = re.compile(r"/v1/(tasks|subscribers|deliveries)/([^/]+)")
_CLOSE = 0.85
"""Ids of the same minute already share a third of their letters; a slip of the finger leaves nine tenths."""
_MOST = 3


def told_apart(path: str, newest: Callable[[str], Sequence[Mapping[str, Any]]]) -> list[str]:
    """Lines that name what else may have been meant by an API path whose thing is not there; empty without an idea.

    ``newest``: the newest things of a collection (``tasks``) as the API lists them.
    """
    found = _ONE.match(path)
    if found is None:
        return []
    collection, wanted = found.groups()
    kind = _KINDS.get(wanted.partition("_")[0])
    if kind is not None and kind[0] != collection:
        return [f"{wanted} is the id of {kind[1]}: `{kind[2]} {wanted}`."]
    things = newest(collection)
    for thing in things:
        if thing.get("provider_task_id") == wanted:
            return [f"It is the provider's id of {thing['id']}."]
    ids = [str(thing["id"]) for thing in things]
    begin_so = [known for known in ids if known.startswith(wanted) or known.endswith(wanted)][:_MOST]
    alike = begin_so or difflib.get_close_matches(wanted, ids, _MOST, _CLOSE)
    return [f"Did you mean {' or '.join(alike)}?"] if alike else []
