"""Whether anything was written lately: one cheap question in place of many looks for work."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from receiver.store import dialect
from receiver.store.database import Store


class Changes:
    """Watches the whole database, for one thread."""

    def __init__(self, store: Store) -> None:
        """``store``: whose database is watched, from the first question on."""
        self._engine = dialect.bare(store.engine) or store.engine
        self._kept: Connection | None = None  # SQLite tells one connection what others have written
        self._seen = ""

    def any(self) -> bool:
        """Whether a transaction may have been committed since the last question. True as well when nobody can tell."""
        try:
            now = self._state()
        except SQLAlchemyError:
            self.close()
            self._seen = ""  # another connection counts anew
            return True
        changed, self._seen = now != self._seen, now
        return changed

    def close(self) -> None:
        """Give the connection back."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _state(self) -> str:
        self._kept = self._kept or self._engine.connect()
        state, lasts = dialect.state(self._kept)
        if not lasts:
            self.close()
        return state
