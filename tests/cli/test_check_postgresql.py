"""``receiver check`` beside a PostgreSQL that does not let its user work."""

from __future__ import annotations

import secrets

import pytest

from receiver.cli.checks import check_all
from receiver.cli.findings import Level
from receiver.sealing import new_secret_key
from tests import postgres
from tests.cli.conftest import Run

pytestmark = pytest.mark.process


def test_a_user_without_rights_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the schema is there and after: a problem with what to grant, and no traceback of `receiver migrate`."""
    user, server = f"u{secrets.token_hex(4)}", postgres.shared()
    server.execute(f"CREATE ROLE {user} LOGIN")
    with postgres.fresh_database() as url:
        monkeypatch.setenv("RECEIVER_SECRET_KEYS", new_secret_key())
        monkeypatch.setenv("RECEIVER_DATABASE_URL", url.replace(f"{postgres.USER}@", f"{user}@"))
        refused = run("migrate")
        assert refused.exit_code == 1
        assert f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{user}"' in refused.stderr
        assert "GRANT" in _problem()
        monkeypatch.setenv("RECEIVER_DATABASE_URL", url)
        assert run("migrate").exit_code == 0
        monkeypatch.setenv("RECEIVER_DATABASE_URL", url.replace(f"{postgres.USER}@", f"{user}@"))
        server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}", postgres.name_of(url))
        assert "GRANT" in _problem()
    server.execute(f"DROP ROLE {user}")


def test_connections_that_run_out_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host and password are right then: nobody is sent to look for a mistake in them."""
    user, server = f"u{secrets.token_hex(4)}", postgres.shared()
    server.execute(f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 0")
    with postgres.fresh_database() as url:
        monkeypatch.setenv("RECEIVER_SECRET_KEYS", new_secret_key())
        monkeypatch.setenv("RECEIVER_DATABASE_URL", url.replace(f"{postgres.USER}@", f"{user}@"))
        assert "RECEIVER_DATABASE_POOL" in _problem()
    server.execute(f"DROP ROLE {user}")


def _problem() -> str:
    """What to do about the only problem of the database."""
    (found,) = (each for each in check_all() if each.about == "database" and each.level is Level.PROBLEM)
    return found.mend
