"""Many rows in one statement, on PostgreSQL: an array for each column."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import BinaryExpression, BindParameter, Insert, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.operators import in_op
from sqlalchemy.types import TypeEngine

from receiver.store import dialect
from receiver.store.direct import Array


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
