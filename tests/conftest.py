"""What holds for all tests."""

from __future__ import annotations

import pytest

BUSY = {"hostile", "money"}
"""Folders whose tests start workers and measure time: they run with those that start processes, two at a time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of busy folders."""
    for item in items:
        if item.path.parent.name in BUSY:
            item.add_marker(pytest.mark.process)
