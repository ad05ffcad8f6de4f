"""Many rows in one statement, on PostgreSQL: an array for each column, in its binary form, with its type said.

The driver's own lists are slower, and their type depends on what happens to be in them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import BinaryExpression, BindParameter, Insert, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.operators import in_op
from sqlalchemy.types import TypeEngine

from receiver.store import dialect

_SIZE = struct.Struct(">i")
_HEAD = struct.Struct(">iiIii")  # dimensions, whether there may be NULLs, the elements' type, how many, from 1 on
_NULL = _SIZE.pack(-1)


def _sized(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def _fixed(form: str, size: int) -> Callable[[Any], bytes]:
    pack = struct.Struct(f">i{form}").pack
    return lambda value: pack(size, value)


# PostgreSQL's numbers (pg_type) for each of Python's types and for arrays of it, and how a value is written. It
# narrows integers itself.
_KINDS: dict[type, tuple[int, int, Callable[[Any], bytes]]] = {
    str: (25, 1009, lambda value: _sized(value.encode())),
    bytes: (17, 1001, _sized),
    int: (20, 1016, _fixed("q", 8)),
    float: (701, 1022, _fixed("d", 8)),
    bool: (16, 1000, _fixed("?", 1)),
}


class Array:
    """Values of one type, to be given to a statement. ``data``: as it goes out; ``oid``: the number of its type."""

    __slots__ = ("data", "kind", "oid")

    def __init__(self, kind: type, values: Iterable[Any]) -> None:
        """``kind``: str, bytes, int, float or bool. ``values``: of that type, or None."""
        element, array, written = _KINDS[kind]
        parts = [_NULL if value is None else written(value) for value in values]
        self.kind, self.oid = kind, array
        self.data = _HEAD.pack(1, 1, element, len(parts), 1) + b"".join(parts)


def in_sets(
    kind: str, statement: ClauseElement, names: Sequence[str]
) -> tuple[str, Callable[[Collection[Sequence[Any]]], list[Any]]] | None:
    """An INSERT or UPDATE for many rows at once, and what makes its parameters of them; None: let it run for each.

    ``names``: of the values of a row. An UPDATE finds its rows in no certain order.
    """
    if not known_to(kind):
        return None
    binds = dialect.compiled_for(kind, statement, names).binds
    sets, arrays_of = _of_rows(statement, names, [binds[name].type for name in names])
    compiled = dialect.compiled_for(kind, sets, names)
    order, constants = compiled.positiontup, compiled.params

    def parameters(rows: Collection[Sequence[Any]]) -> list[Any]:
        given = {**constants, **arrays_of(rows)}
        return [given[name] for name in order]

    return compiled.string, parameters


def known_to(kind: str) -> bool:
    """Whether a kind of database has arrays."""
    return kind == "postgresql"


def _of_rows(
    statement: ClauseElement, names: Sequence[str], types: Sequence[TypeEngine[Any]]
) -> tuple[ClauseElement, Callable[[Collection[Sequence[Any]]], dict[str, Array]]]:
    """The statement, and what makes its arrays of rows."""
    given: Any = func.unnest(*(bindparam(name, type_=ARRAY(of)) for name, of in zip(names, types, strict=True)))
    given = given.table_valued(*(column(name, of) for name, of in zip(names, types, strict=True))).render_derived()
    kinds = [of.python_type for of in types]

    def arrays(rows: Collection[Sequence[Any]]) -> dict[str, Array]:
        columns = zip(names, kinds, zip(*rows, strict=True), strict=True)
        return {name: Array(kind, values) for name, kind, values in columns}

    if isinstance(statement, Insert):
        return statement.from_select(list(names), select(*given.c)), arrays

    def from_rows(element: Any, **_: Any) -> Any:
        return given.c[element.key] if isinstance(element, BindParameter) and element.key in names else None

    return _replaced(statement, from_rows), arrays


def among(statement: ClauseElement, name: str) -> ClauseElement:
    """A statement with ``in_()`` this one parameter, about all texts of an array in its place."""

    def any_of(element: Any, **_: Any) -> Any:
        if isinstance(element, BinaryExpression) and element.operator is in_op:
            asked = [each for each in visitors.iterate(element.right) if isinstance(each, BindParameter)]
            if [each.key for each in asked] == [name]:
                return element.left == func.any(bindparam(name, type_=ARRAY(Text)))
        return None

    return _replaced(statement, any_of)


def _replaced(statement: ClauseElement, replace: Callable[..., Any]) -> ClauseElement:
    replaced: Any = visitors.replacement_traverse(statement, {}, replace)
    assert isinstance(replaced, ClauseElement)  # its parts are replaced, not the whole
    return replaced


def teach(connection: Any) -> None:
    """Let a connection of PostgreSQL's driver take arrays."""
    from psycopg.adapt import Dumper  # late: only who has PostgreSQL needs its driver
    from psycopg.pq import Format

    class ArrayDumper(Dumper):
        """Gives the driver what is made already. One for each type of array, since the type goes with it."""

        format = Format.BINARY

        def get_key(self, obj: Any, _: Any) -> Any:
            return self.cls, obj.kind

        def upgrade(self, obj: Any, _: Any) -> Any:
            fitting = type(self)(self.cls)
            fitting.oid = obj.oid
            return fitting

        def dump(self, obj: Any) -> bytes:
            return bytes(obj.data)

    connection.adapters.register_dumper(Array, ArrayDumper)
