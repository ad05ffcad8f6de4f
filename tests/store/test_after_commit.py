"""What is told about a transaction is told when it is stored, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from receiver.errors import Busy
from receiver.store import Store
from receiver.store.database import after_commit


def test_what_happened_is_told_after_the_commit(tmp_path: Path) -> None:
    """Not before, and in order; a log line or a count never speaks of something that may yet be undone."""
    store, told = Store(f"sqlite:///{tmp_path}/receiver.db"), []
    with store.write() as connection:
        after_commit(connection, lambda: told.append("first"))
        after_commit(connection, lambda: told.append("second"))
        assert told == []
    assert told == ["first", "second"]
    store.close()


@pytest.mark.parametrize(
    ("trouble", "raised"), [(ValueError("ours"), ValueError), (OperationalError("", {}, Exception("disk full")), Busy)]
)
def test_what_was_rolled_back_is_never_told(tmp_path: Path, trouble: Exception, raised: type[Exception]) -> None:
    """Whether our code failed or the database did; the next transaction on the same connection begins anew."""
    store, told = Store(f"sqlite:///{tmp_path}/receiver.db"), []

    def fail() -> None:
        with store.write() as connection:
            after_commit(connection, lambda: told.append("never"))
            raise trouble

    with pytest.raises(raised):
        fail()
    with store.write() as connection:
        after_commit(connection, lambda: told.append("stored"))
    assert told == ["stored"]
    store.close()
