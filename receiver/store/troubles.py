"""What a database refuses for a while only, and when its connection must be given up."""

from __future__ import annotations

from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

_STANDBY = "25006"  # PostgreSQL's word for a write where only reading is allowed
_IDLE_TOO_LONG = "25P03"  # of a transaction
_BEYOND_LIMITS = "54"  # class of errors: what was asked is too large or too complex, and will be the next time


def trouble(error: SQLAlchemyError) -> str | None:
    """What keeps the database from doing what was asked, if that may pass by itself; None for any other error.

    Locked or out of connections, a deadlock, a time-out, a restart, a fail-over.
    """
    if isinstance(error, NoConnectionFree):
        return "every connection of the pool is taken"
    if not isinstance(error, DBAPIError):
        return None
    passing = isinstance(error, InternalError) and _state_of(error.orig) in (_STANDBY, _IDLE_TOO_LONG)
    lasting = not isinstance(error, OperationalError) or (_state_of(error.orig) or "").startswith(_BEYOND_LIMITS)
    if lasting and not passing:
        return None
    return (str(error.orig).splitlines() or ["unknown"])[0]


def is_gone(error: BaseException | None) -> bool:
    """Whether the connection broke, and a new one may answer."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def leave_standby(context: ExceptionContext) -> None:
    """Give up a connection to a server that takes no writes, and the pool with it.

    After a fail-over an old primary may answer, as a standby, for as long as somebody keeps a connection to it; the
    same address leads a new one to the primary. Called by SQLAlchemy (``handle_error``).
    """
    if _state_of(context.original_exception) == _STANDBY:
        context.is_disconnect = True


def _state_of(error: BaseException | None) -> str | None:
    """PostgreSQL's code for an error of its driver."""
    return getattr(error, "sqlstate", None)
