"""What on a PostgreSQL server keeps its user from the work is told in words, with what to do."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pytest

from receiver.errors import Busy, Conflict
from receiver.store import Store
from receiver.store.schema import workers
from receiver.store.server import hinders_work
from tests import postgres

ALL = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"
ADD = workers.insert().values(id="a", started_at=1, seen_at=1)
GIVEN = "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {user}"


@pytest.fixture
def url() -> Iterator[str]:
    """An empty database of somebody else, as a user without any rights of its own."""
    user = f"u{secrets.token_hex(4)}"
    server = postgres.shared()
    with postgres.fresh_database() as fresh:
        server.execute(f"CREATE ROLE {user} LOGIN")
        yield fresh.replace(f"{postgres.USER}@", f"{user}@")
    server.execute(f"DROP ROLE {user}")


def act(url: str, *statements: str) -> None:
    """As the owner of the server."""
    user = url.partition("://")[2].partition("@")[0]
    for statement in statements:
        name = postgres.name_of(url)
        postgres.shared().execute(statement.format(user=user, database=name), name)


def told(url: str) -> str:
    """What migrating is refused with."""
    with contextlib.closing(Store(url)) as store, pytest.raises(Conflict) as refused:
        store.migrate()
    return refused.value.detail


def test_a_user_who_may_make_no_tables_is_told_so(url: str) -> None:
    """As every user since PostgreSQL 15 who does not own the database: what to grant is in the message."""
    said = told(url)
    assert "may make no tables in the schema public" in said
    act(url, said[said.index("GRANT") : said.index(";")])
    with contextlib.closing(Store(url)) as store:
        store.migrate()
        assert store.schema_is_current()


def test_a_search_path_that_leads_nowhere_is_told(url: str) -> None:
    """Tables would be made in no schema at all."""
    act(url, "ALTER ROLE {user} SET search_path = nowhere")
    assert "nowhere" in told(url)
    act(url, "ALTER ROLE {user} RESET search_path")


def test_tables_of_somebody_else_are_told(url: str) -> None:
    """Only their owner can change them: a user who works on them must not be the one that migrates."""
    act(url, "GRANT CREATE ON SCHEMA public TO {user}", "CREATE TABLE alembic_version (version_num varchar(32))",
        ALL)  # fmt: skip
    assert "do not belong to the user" in told(url)


def test_an_encoding_that_lacks_characters_is_told() -> None:
    """Else it shows when a prompt comes in Chinese."""
    name = f"t{secrets.token_hex(4)}"
    server = postgres.shared()
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    assert "LATIN1" in told(server.url(name))
    server.drop(server.url(name))


@pytest.mark.parametrize(
    ("rights", "hindrances"),
    [
        ((ALL, GIVEN), []),
        ((ALL,), ["events_seq_seq, steps_seq_seq"]),
        ((ALL, GIVEN, "REVOKE DELETE ON tasks FROM {user}"), ["tasks"]),
        ((ALL, GIVEN, "ALTER DATABASE {database} SET default_transaction_read_only = on"), ["takes no writes"]),
    ],
)
def test_a_user_needs_no_more_than_to_read_and_write(url: str, rights: tuple[str, ...], hindrances: list[str]) -> None:
    """Who migrates may be another one; what a user lacks is named."""
    with contextlib.closing(Store(url.replace(url[: url.index("@")], f"postgresql://{postgres.USER}"))) as owner:
        owner.migrate()
    act(url, *rights)
    with contextlib.closing(Store(url)) as store:
        store.migrate()
        with store.read() as connection:
            found = list(hinders_work(connection))
    assert len(found) == len(hindrances)
    for each, text in zip(found, hindrances, strict=True):
        assert text in each.text
    if hindrances and "GRANT" in found[0].mend:
        act(url, *found[0].mend.rstrip(".").split("; "))
        with contextlib.closing(Store(url)) as store, store.read() as connection:
            assert not list(hinders_work(connection))


def test_rights_that_are_taken_away_for_a_while_lose_no_result(url: str) -> None:
    """It is Busy: what was to be stored is kept until somebody has granted them again, as when the server is away."""
    with contextlib.closing(Store(url.replace(url[: url.index("@")], f"postgresql://{postgres.USER}"))) as owner:
        with pytest.raises(Busy, match="does not exist"), owner.write() as connection:
            connection.execute(ADD)
        owner.migrate()
    with contextlib.closing(Store(url)) as store:
        with pytest.raises(Busy, match="permission denied"), store.write() as connection:
            connection.execute(ADD)
        act(url, ALL)
        with store.write() as connection:
            connection.execute(ADD)
