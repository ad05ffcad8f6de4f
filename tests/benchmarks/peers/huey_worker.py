"""The worker on Huey and Redis; its consumer runs threads."""

from __future__ import annotations

import os

from huey import RedisHuey

from tests.benchmarks.peers import service

huey = RedisHuey("peer", url=os.environ["PEER_REDIS_URL"], results=False)


@huey.task(retries=9, retry_delay=5)  # type: ignore[untyped-decorator]  # Huey has no types
def deliver(number: int) -> None:
    """Deliver one event."""
    service.deliver(number)
