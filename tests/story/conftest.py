"""Systems that a whole file of stories shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.story.system import PROVIDERS, System, running

RETRIES = "0.2,0.2,0.2"


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that hardly ever asks: where a provider calls back, the callback brings the result."""
    rare = {f"{name.upper()}_POLL_SCHEDULE": "60" for name in ("topview", "apsaravideo_vod", "img_open")}
    with running(
        _folder(tmp_path_factory), RECEIVER_RETRY_SCHEDULE=RETRIES, SUPERAPP_POLL_SCHEDULE="0.2", **rare
    ) as system:
        yield system


@pytest.fixture(scope="module")
def polling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that asks often."""
    often = {f"{name.upper()}_POLL_SCHEDULE": "0.2" for name in PROVIDERS}
    with running(_folder(tmp_path_factory), RECEIVER_RETRY_SCHEDULE=RETRIES, **often) as system:
        yield system


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("system")
