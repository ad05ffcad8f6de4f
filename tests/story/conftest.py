"""Systems that a whole file of stories shares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from receiver.sealing import new_secret_key
from tests.databases import empty
from tests.story.system import PROVIDERS, System, running

RETRIES = "0.2,0.2,0.2"


@pytest.fixture(scope="module")
def calling(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that hardly ever asks: where a provider calls back, the callback brings the result."""
    rare = {f"{name.upper()}_POLL_SCHEDULE": "60" for name in ("topview", "apsaravideo_vod", "img_open")}
    with _system(database, tmp_path_factory, SUPERAPP_POLL_SCHEDULE="0.2", **rare) as system:
        yield system


@pytest.fixture(scope="module")
def polling(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that asks often."""
    often = {f"{name.upper()}_POLL_SCHEDULE": "0.2" for name in PROVIDERS}
    with _system(database, tmp_path_factory, **often) as system:
        yield system


@contextmanager
def _system(database: str, factory: pytest.TempPathFactory, **settings: str) -> Iterator[System]:
    folder = factory.mktemp("system")
    with empty(database, folder) as url:
        own = {"RECEIVER_DATABASE_URL": url, "RECEIVER_SECRET_KEYS": new_secret_key()}
        with running(folder, RECEIVER_RETRY_SCHEDULE=RETRIES, **own, **settings) as system:
            yield system
