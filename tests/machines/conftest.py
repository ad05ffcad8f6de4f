"""Farms and what drives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.machines.farm import Farm


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    """Makes a farm on an empty database; keywords are environment variables of all its machines."""
    made: list[Farm] = []

    def make(**more: str) -> Farm:
        made.append(Farm(tmp_path / "farm", url, **more))
        return made[-1]

    with postgres.fresh_database() as url:
        yield make
        for farm in made:
            farm.close()
