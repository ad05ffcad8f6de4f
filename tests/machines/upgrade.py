"""Two migrations of a version to come, applied as that version would."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from receiver.store import Store
from tests.story.system import ROOT

OURS = ROOT / "receiver" / "store" / "migrations"


def newest() -> str:
    """The newest revision that the code knows."""
    return max(path.name[:4] for path in (OURS / "versions").glob("[0-9]*.py"))


def upgrade(database_url: str, revision: str) -> None:
    """Migrate to a revision of the version to come."""
    config = Config()
    config.set_main_option("script_location", str(OURS))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{OURS / 'versions'}\n{Path(__file__).parent / 'versions'}")
    store = Store(database_url)
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    store.close()
