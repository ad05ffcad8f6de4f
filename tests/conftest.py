"""What holds for all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres
from tests.databases import database

__all__ = ["database"]

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

BUSY = {"hostile", "money"}
"""Folders whose tests start workers and measure time: they run with those that start processes, a few at a time."""


def pytest_configure() -> None:
    """The first process of the session, from which the others inherit, leads the shared PostgreSQL."""
    postgres.lead_session()


def pytest_unconfigure() -> None:
    """The leader takes it away."""
    postgres.end_session()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of busy folders."""
    for item in items:
        if item.path.parent.name in BUSY:
            item.add_marker(pytest.mark.process)
