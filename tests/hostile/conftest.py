"""What these tests work with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.stage import build, clock, migrated, stage, toy
from tests.hostile.plant import plant

__all__ = ["build", "clock", "migrated", "plant", "stage", "toy"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All stories here start workers and measure time: they run with those that start processes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.process)
