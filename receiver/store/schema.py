"""The tables (SQLAlchemy Core). Times are milliseconds since the epoch; JSON is TEXT.

Due rows are the queue: ``due_at`` says when a worker must look, NULL means never. The indexes on
it are partial, so that a claim costs the same however many finished rows lie beside.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column declared exactly INTEGER PRIMARY KEY.
Sequence64 = BigInteger().with_variant(Integer, "sqlite")

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("secrets_sealed", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("prefix", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("provider", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("input_json", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("callback_url", Text),
    Column("provider_task_id", Text),
    Column("state_json", Text, nullable=False, server_default="{}"),
    Column("progress", Float),
    Column("outputs_json", Text, nullable=False, server_default="[]"),
    Column("error_json", Text),
    Column("completed_via", Text),
    Column("provider_response", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("deadline_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("submits", Integer, nullable=False, server_default="0"),
    Column("polls", Integer, nullable=False, server_default="0"),
    Column("outcome_unknown", Boolean, nullable=False, server_default=text("false")),
    Column("noticed_id", Text),
    Index("ix_tasks_due", "provider", "status", "due_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_tasks_deadline", "deadline_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_tasks_account", "account_id", "id"),
    Index("ix_tasks_status", "account_id", "status", "id"),
    Index("ix_tasks_provider_task_id", "provider", "provider_task_id"),
    Index("ix_tasks_finished", "finished_at", sqlite_where=text("finished_at IS NOT NULL"),
          postgresql_where=text("finished_at IS NOT NULL")),
)  # fmt: skip

task_metadata = Table(
    "task_metadata",
    metadata,
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("account_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("task_id", "key"),
    Index("ix_task_metadata_lookup", "account_id", "key", "value", "task_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("account_id", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "key"),
)

steps = Table(
    "steps",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_steps_task", "task_id", "seq"),
)

notices = Table(
    "notices",
    metadata,
    Column("id", Text, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE")),
    Column("notice_key", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("copies", Integer, nullable=False, server_default="1"),
    UniqueConstraint("provider", "notice_key"),
    Index("ix_notices_task", "task_id"),
)

events = Table(
    "events",
    metadata,
    Column("seq", Sequence64, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("task_id", Text, ForeignKey("tasks.id", ondelete="CASCADE")),
    Column("created_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_events_account", "account_id", "seq"),
    Index("ix_events_task", "task_id"),
    sqlite_autoincrement=True,
)

subscribers = Table(
    "subscribers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", Text, nullable=False),
    Column("providers", Text),
    Column("description", Text, nullable=False, server_default=""),
    Column("headers_sealed", Text),
    Column("secrets_sealed", Text),
    Column("rate_limit", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("task_only", Boolean, nullable=False, server_default=text("false")),
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("disabled_reason", Text),
    Column("ready_at", BigInteger, nullable=False, server_default="0"),
    Column("served_at", BigInteger, nullable=False, server_default="0"),
    Column("failing_since", BigInteger),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("deleted_at", BigInteger),
    Column("resets", Integer, nullable=False, server_default="0"),
    Column("proven", Boolean, nullable=False, server_default=text("true")),
    Index("ix_subscribers_registered", "account_id", "id", sqlite_where=text("task_only IS 0"),
          postgresql_where=text("task_only IS false")),
    Index("ix_subscribers_task_only", "account_id", "url", unique=True, sqlite_where=text("task_only"),
          postgresql_where=text("task_only")),
)  # fmt: skip

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("event_id", Text, ForeignKey("events.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("event_type", Text, nullable=False),
    Column("subscriber_id", Text, ForeignKey("subscribers.id"), nullable=False),
    Column("task_id", Text),
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger),
    Column("leased", Boolean, nullable=False, server_default=text("false")),
    Column("holder", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("base", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("trigger", Text, nullable=False, server_default="schedule"),
    Column("finished_at", BigInteger),
    Column("reason", Text),
    Index("ix_deliveries_due", "subscriber_id", "due_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_deliveries_leased", "subscriber_id", sqlite_where=text("leased"), postgresql_where=text("leased")),
    Index("ix_deliveries_dead", "account_id", "id", sqlite_where=text("status = 'dead'"),
          postgresql_where=text("status = 'dead'")),
    Index("ix_deliveries_account", "account_id", "id"),
    Index("ix_deliveries_subscriber", "subscriber_id", "id"),
    Index("ix_deliveries_task", "task_id"),
)  # fmt: skip

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("response_status", Integer),
    Column("response_headers", Text, nullable=False),
    Column("response_body", Text, nullable=False),
    Column("error", Text),
    Column("message", Text, nullable=False),
    UniqueConstraint("delivery_id", "number"),
)

paces = Table(
    "paces",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next_free", BigInteger, nullable=False, server_default="0"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
