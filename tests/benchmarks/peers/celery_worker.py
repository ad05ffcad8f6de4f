"""The worker on Celery and Redis, tuned: results ignored, 32 messages prefetched for each process or thread."""

from __future__ import annotations

import os

import requests
from celery import Celery  # type: ignore[import-untyped]  # Celery has no types

from tests.benchmarks.peers import service

app = Celery("peer", broker=os.environ["PEER_REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=32,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    broker_pool_limit=32,
)


@app.task(autoretry_for=(requests.RequestException,), retry_backoff=5, max_retries=9)  # type: ignore[untyped-decorator]  # see above
def deliver(number: int) -> None:
    """Deliver one event."""
    service.deliver(number)
