"""Sandboxes and callback listeners for one test each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from receiver.sandbox import RunningSandbox, SandboxSettings, running_sandbox

from .listener import Listener

Start = Callable[..., RunningSandbox]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts sandboxes: settings as keywords, provider options too (``topview_uid=...``). Fast by default."""
    with contextlib.ExitStack() as stack:

        def begin(
            *, time_scale: float = 0.01, options: Mapping[str, str] | None = None, **given: Any
        ) -> RunningSandbox:
            names = SandboxSettings.__dataclass_fields__
            general = {name: value for name, value in given.items() if name in names}
            single = {name: value for name, value in given.items() if name not in names}
            both = {**(options or {}), **single}
            settings = SandboxSettings(time_scale=time_scale, options=both, **general)
            return stack.enter_context(running_sandbox(settings))

        yield begin


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A receiver of callbacks that takes everything by HTTP 200 and code 200."""
    with Listener() as running:
        yield running
