"""Statements of the busiest paths: compiled once for each kind of database, given to its driver itself.

SQLAlchemy looks every statement up, wraps its result and each row of it, which costs several times what the
database needs for a small one. Here the statements are still SQLAlchemy's; values go in and rows come out as
plain tuples. Errors are those that SQLAlchemy raises, a broken connection included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam
from sqlalchemy.sql import ClauseElement

from receiver.store import arrays, dialect
from receiver.store.direct import Array, directly

Values = Sequence[Any]
"""In the order of a statement's names: str, bytes, int, float, bool or None."""
_FEW = 8
"""PostgreSQL expects ten in an array that it does not know yet: a query that only reads would get a new plan each time
for fewer. (What writes has one plan for all values, ``dialect._BY_INDEX``.)"""


class Prepared:
    """A statement. Safe to share between threads."""

    def __init__(self, statement: ClauseElement, *names: str, sqlite: ClauseElement | None = None) -> None:
        """``names``: of its parameters, or of the columns of an INSERT, in the order in which values are given.

        ``sqlite``: what SQLite is asked instead, where it is better served otherwise.
        """
        self._statement = statement
        self._sqlite = statement if sqlite is None else sqlite
        self._names = names
        self._compiled: dict[str, tuple[str, Callable[[Values], Values]]] = {}
        self._in_sets: dict[str, tuple[str, Callable[[Collection[Values]], Values]] | None] = {}

    def fetch(self, connection: Connection, values: Values = ()) -> list[tuple[Any, ...]]:
        """The rows that a query gives. On SQLite, truth is 0 or 1."""
        sql, ordered = self._for(connection)
        given = ordered(values)
        return directly(connection, sql, lambda driver: driver.rows(sql, given))

    def run(self, connection: Connection, rows: Collection[Values]) -> int:
        """Execute it with each of these; how many rows of the database that touched. Nothing for none.

        Many at once where the database can: an UPDATE is given each of its rows once.
        """
        if not rows:
            return 0
        sql, each = self._given(connection, rows)
        return directly(connection, sql, lambda driver: driver.count(sql, each()))

    def send(self, connection: Connection, rows: Collection[Values]) -> None:
        """Execute it as ``run`` does, without waiting for it: its errors may come as late as with the commit.

        The next statement of the transaction goes after it, in the same message.
        """
        if rows:
            sql, each = self._given(connection, rows)
            directly(connection, sql, lambda driver: driver.later(sql, each()))

    def _given(self, connection: Connection, rows: Collection[Values]) -> tuple[str, Callable[[], Sequence[Values]]]:
        """The text for these rows, and what gives the values for each of its executions."""
        if len(rows) > 1:
            sets = self._for_many(connection)
            if sets is not None:
                of_many, parameters = sets
                return of_many, lambda: [parameters(rows)]
        sql, ordered = self._for(connection)
        return sql, lambda: [ordered(values) for values in rows]

    def _for(self, connection: Connection) -> tuple[str, Callable[[Values], Values]]:
        """The text, and what brings values into its order."""
        kind = dialect.kind_of(connection)
        if kind not in self._compiled:
            statement = self._sqlite if kind == "sqlite" else self._statement
            sql, order, constants = dialect.in_text(kind, statement, self._names)
            known = [*self._names, *constants]
            places = [known.index(name) for name in order]
            same = places == list(range(len(self._names)))
            self._compiled[kind] = sql, (tuple if same else _picker(places, tuple(constants.values())))
        return self._compiled[kind]

    def _for_many(self, connection: Connection) -> tuple[str, Callable[[Collection[Values]], Values]] | None:
        """The text for many rows at once, and what makes its parameters of them; None where there is none."""
        kind = dialect.kind_of(connection)
        if kind not in self._in_sets:
            self._in_sets[kind] = arrays.in_sets(kind, self._statement, self._names)
        return self._in_sets[kind]


class PreparedAmong:
    """A statement about some of many texts, such as rows with these ids.

    Many are one parameter where the database has arrays; else there is a ``Prepared`` for each size, a power of two.
    """

    def __init__(self, make: Callable[[list[BindParameter[Any]]], ClauseElement], *names: str) -> None:
        """``make``: the statement for so many parameters, to stand in an ``in_()``. ``names``: of its others."""
        self._names = names
        self._make = make
        self._of_size = lru_cache(maxsize=None)(self._prepare)
        self._of_array = cache(self._prepare_for_array)

    def fetch(self, connection: Connection, among: Collection[Any], values: Values = ()) -> list[tuple[Any, ...]]:
        """The rows for those of ``among``; none for none. ``values``: of the other parameters."""
        if not among:
            return []
        if len(among) > _FEW and arrays.known_to(dialect.kind_of(connection)):
            return self._of_array().fetch(connection, (Array(str, among), *values))
        given = list(among)
        size = 1 << (len(given) - 1).bit_length()
        given += given[-1:] * (size - len(given))  # the same once more finds nothing new
        return self._of_size(size).fetch(connection, (*given, *values))

    def _prepare(self, size: int) -> Prepared:
        some = [f"among_{number}" for number in range(size)]
        return Prepared(self._make([bindparam(name) for name in some]), *some, *self._names)

    def _prepare_for_array(self) -> Prepared:
        return Prepared(arrays.among(self._make([bindparam("among")]), "among"), "among", *self._names)


def _picker(places: list[int], constants: Values) -> Callable[[Values], Values]:
    """What brings values, and the constants behind them, into the order of these places."""
    if len(places) == 1:
        return lambda values: ((*values, *constants)[places[0]],)
    pick = itemgetter(*places)
    return lambda values: pick((*values, *constants))
