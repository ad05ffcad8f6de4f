"""What a database refuses for a while only, and when its connection must be given up."""

from __future__ import annotations

from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

_STANDBY = "25006"  # PostgreSQL's word for a write where only reading is allowed
_NEW_TYPE = "0A000"  # of a statement that was kept, and whose result has columns of another type by now
_TOO_LONG = ("25P03", "25P04")  # of a transaction that was idle, or took, too long
_DENIED = "42501"  # until somebody grants it
_MISSING = ("42P01", "42703")  # a table, a column: until somebody migrates
_PASSING = (_STANDBY, _NEW_TYPE, _DENIED, *_TOO_LONG, *_MISSING)
_BEYOND_LIMITS = "54"  # class of errors: what was asked is too large or too complex, and will be the next time


def trouble(error: SQLAlchemyError) -> str | None:
    """What keeps the database from doing what was asked, if that may pass by itself; None for any other error.

    Locked or out of connections, a deadlock, a time-out, a restart, a fail-over; rights or a schema that are not there
    yet, or for a while. A result that cannot be stored then was paid for all the same.
    """
    if isinstance(error, NoConnectionFree):
        return "every connection of the pool is taken"
    if not isinstance(error, DBAPIError):
        return None
    state = _state_of(error.orig) or ""
    lasting = not isinstance(error, OperationalError) or state.startswith(_BEYOND_LIMITS)
    if lasting and state not in _PASSING:
        return None
    said = (str(error.orig).splitlines() or ["unknown"])[0]
    return f"no such table or column: {said}" if state in _MISSING else said  # in any language, as SQLite says it


def is_gone(error: BaseException | None) -> bool:
    """Whether the connection broke, and a new one may answer."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def leave_outdated(context: ExceptionContext) -> None:
    """Give up a connection that is good for nothing any more, and the pool with it: a new one is.

    After a fail-over an old primary may answer, as a standby, for as long as somebody keeps a connection to it; the
    same address leads a new one to the primary. And statements that a connection keeps fail for good once a column
    that they read has another type. Called by SQLAlchemy (``handle_error``).
    """
    if _state_of(context.original_exception) in (_STANDBY, _NEW_TYPE):
        context.is_disconnect = True


def _state_of(error: BaseException | None) -> str | None:
    """PostgreSQL's code for an error of its driver."""
    return getattr(error, "sqlstate", None)
