"""What all peers share: the service that a team would write without us, small and tuned.

A Flask app under gunicorn takes a callback, checks its token, stores it durably (SQLAlchemy Core,
pooled connections, SQLite in WAL with FULL, or PostgreSQL) and hands its number to a queue; a worker
signs it and posts it to the subscriber over a pooled ``requests.Session``, and writes the attempt down.
With ``PEER_PROVIDER_URL`` the worker asks the provider first, as we do unless told otherwise.

``PEER_DATABASE_URL``, ``PEER_REDIS_URL``, ``PEER_SUBSCRIBER_URL``, ``PEER_SECRET`` and ``PEER_QUEUE``
(celery, rq or huey) come from the environment.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
from flask import Flask, request
from itsdangerous import BadSignature, Signer
from requests.adapters import HTTPAdapter
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

SECRET = os.environ["PEER_SECRET"]
PROVIDER = os.environ.get("PEER_PROVIDER_URL")
TOKENS = Signer("a key for callback tokens", digest_method=hashlib.sha256)
_SIGNING_KEY = base64.b64decode(SECRET.removeprefix("whsec_"))

metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("task_id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", Text, nullable=False, index=True),
    Column("received_at", BigInteger, nullable=False),
)
attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event_id", ForeignKey("events.id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("response_status", Integer, nullable=False),
)


@functools.cache
def engine() -> Engine:
    """The pool of this process (made after any fork)."""
    url = os.environ["PEER_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    made = create_engine(url, pool_size=16, max_overflow=48)
    if made.dialect.name == "sqlite":

        @event.listens_for(made, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            for line in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=FULL"):
                connection.execute(f"PRAGMA {line}")

    return made


_local = threading.local()


def session() -> requests.Session:
    """The session of this thread, its connections kept."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
        _local.session.mount("http://", HTTPAdapter(pool_maxsize=8))
    found: requests.Session = _local.session
    return found


def store(body: str, notice: dict[str, Any]) -> int | None:
    """Keep a notice; its number, or None when it is there already."""
    row = {
        "uuid": notice["uuid"],
        "task_id": notice["taskId"],
        "body": body,
        "status": "pending",
        "received_at": time.time_ns() // 1_000_000,
    }
    try:
        with engine().begin() as connection:
            made = connection.execute(insert(events).values(row)).inserted_primary_key
            assert made is not None
            return int(made[0])
    except IntegrityError:
        return None


def deliver(number: int) -> None:
    """Sign an event, post it, write the attempt down. Raises requests' errors, for the queue to try again."""
    with engine().connect() as connection:
        row = connection.execute(select(events).where(events.c.id == number)).one()
    if PROVIDER is not None:
        answer = session().get(PROVIDER, params={"taskId": row.task_id}, timeout=15).json()
        if answer["result"]["status"] != "success":
            raise RuntimeError("the provider does not confirm it")
    webhook = {"type": "task.succeeded", "timestamp": row.received_at, "data": json.loads(row.body)}
    body = json.dumps(webhook, separators=(",", ":")).encode()
    now = int(time.time())
    signed = b"evt_%d.%d.%s" % (number, now, body)
    signature = base64.b64encode(hmac.new(_SIGNING_KEY, signed, hashlib.sha256).digest()).decode()
    headers = {
        "content-type": "application/json",
        "webhook-id": f"evt_{number}",
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{signature}",
    }
    answer = session().post(os.environ["PEER_SUBSCRIBER_URL"], data=body, headers=headers, timeout=15)
    with engine().begin() as connection:
        attempt = {"event_id": number, "at": time.time_ns() // 1_000_000, "response_status": answer.status_code}
        connection.execute(insert(attempts).values(attempt))
        if answer.ok:
            connection.execute(update(events).where(events.c.id == number).values(status="delivered"))
    answer.raise_for_status()


def create_app() -> Flask:
    """The web side. The queue is chosen by ``PEER_QUEUE``."""
    enqueue = _queue(os.environ["PEER_QUEUE"])
    app = Flask(__name__)

    @app.post("/callbacks/<token>")
    def take(token: str) -> Any:
        try:
            task_id = TOKENS.unsign(token).decode()
        except BadSignature:
            return {"error": "this callback address was not made here"}, 403
        body = request.get_data(as_text=True)
        notice = json.loads(body)
        if notice["taskId"] != task_id:
            return {"error": "the notice is about another task"}, 400
        number = store(body, notice)
        if number is not None:
            enqueue(number)
        return {"code": "200", "message": "Success", "result": {"uuid": notice["uuid"], "result": "success"}}

    return app


def _queue(name: str) -> Callable[[int], object]:
    if name == "celery":
        from tests.benchmarks.peers import celery_worker  # late: each peer needs its own library only

        return celery_worker.deliver.delay  # type: ignore[no-any-return]  # Celery has no types
    if name == "rq":
        from tests.benchmarks.peers import rq_worker

        return rq_worker.enqueue
    from tests.benchmarks.peers import huey_worker

    return huey_worker.deliver


if __name__ == "__main__":
    metadata.create_all(engine())
