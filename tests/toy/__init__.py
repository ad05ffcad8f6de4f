"""A fifth provider, added as handlers/README.md says, without editing any list, route or migration.

The handler and the sandbox module lie in folders of their own here; ``visible`` puts them beside the
real ones, as copying them there would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import handlers
import receiver.sandbox

HERE = Path(__file__).parent
KEY, SECRET = "toy-key-0001", "toy-secret-never-shown"


@contextlib.contextmanager
def visible() -> Iterator[None]:
    """The toy's files stand beside those of the other providers for the length of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "__path__", [*handlers.__path__, str(HERE / "handlers")])
        patch.setattr(receiver.sandbox, "__path__", [*receiver.sandbox.__path__, str(HERE / "sandbox")])
        handlers.find.cache_clear()
        yield
    handlers.find.cache_clear()
