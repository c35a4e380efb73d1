"""Bringing a database's schema up to date, with Alembic, which is imported only when there is something to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

from pixelmill.errors import ConfigError
from pixelmill.jobs.connections import lock_for_transaction

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0008"
"""The newest revision in ``versions/``; a test holds them equal."""


def migrate(engine: Engine) -> None:
    """Upgrade to :data:`HEAD`; raises :class:`ConfigError` for a database of a newer Pixelmill."""
    version = _version(engine)
    if version != HEAD:
        _upgrade(engine, version)


def _version(engine: Engine) -> str | None:
    """The revision the database is at, or None for an empty one."""
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)


def check_known(version: str | None) -> None:
    """Raise :class:`ConfigError` for a revision of a newer Pixelmill."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise ConfigError(
            f"The database was written by a newer Pixelmill (schema {version}; this one knows up to {HEAD}). "
            "Install that version again, or start with another data folder."
        )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(engine: Engine, version: str | None) -> None:
    # Late on purpose: importing Alembic costs 0.3 s, at every start, for work that is needed after an update only.
    from alembic import command

    check_known(version)
    config = _config()
    with engine.connect() as connection, connection.begin():
        lock_for_transaction(connection, "migrations")  # the second of two processes finds nothing to do
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)


__all__ = ["HEAD", "check_known", "migrate"]
