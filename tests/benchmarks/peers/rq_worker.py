"""The worker on RQ and Redis: SimpleWorker, which does not fork for each job."""

from __future__ import annotations

import functools
import os

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from tests.benchmarks.peers import service


@functools.cache
def queue() -> Queue:
    """The queue; its connections are pooled."""
    return Queue(connection=Redis.from_url(os.environ["PEER_REDIS_URL"]))


def enqueue(number: int) -> None:
    """Hand an event over."""
    retry = Retry(max=9, interval=[5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400])
    queue().enqueue(service.deliver, number, retry=retry, result_ttl=0)


if __name__ == "__main__":
    SimpleWorker([queue()], connection=queue().connection).work(logging_level="WARNING")
