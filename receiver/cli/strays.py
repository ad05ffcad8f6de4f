"""What `receiver check` sees in the environment: names that begin like our settings, and that no setting has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

import handlers
from receiver.cli.checks import Finding, Level
from receiver.config import SETTINGS

_OTHERS = ("RECEIVER_URL", "RECEIVER_PARENT_PID", "RECEIVER_FAULT_POINT")
"""Variables that are no settings of the service: of the command line, and of child processes."""
_OF_KUBERNETES = re.compile(r"\w+_SERVICE_(HOST|PORT\w*)|\w+_PORT(_\d+_\w+)?")
"""What a pod is told of a Service that is called receiver."""


def strays(names: Iterable[str]) -> Iterator[Finding]:
    """A warning for each name that is probably mistyped. ``names``: those of the environment."""
    known = {setting.name for setting in SETTINGS} | {
        handlers.variable_of(name, option)
        for name in handlers.available()
        for option in handlers.options_of(handlers.find(name))
    }
    known |= {f"{name}_FILE" for name in known} | set(_OTHERS)
    ours = ("RECEIVER_", *(f"{name.upper()}_" for name in handlers.available()))
    for name in sorted(names):
        if name.startswith(ours) and name not in known and not _OF_KUBERNETES.fullmatch(name):
            meant = difflib.get_close_matches(name, known, 1)
            mend = f"Did you mean {meant[0]}?" if meant else "Take it away, or see docs/settings.md for the names."
            yield Finding(Level.WARNING, "settings", f"{name} is set, and no setting has that name.", mend)
