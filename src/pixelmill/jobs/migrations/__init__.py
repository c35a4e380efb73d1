"""Bringing a database's schema up to date, with Alembic, which is imported only when there is something to do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

from pixelmill.errors import ConfigError
from pixelmill.jobs.connections import lock_for_transaction

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

HEAD = "0011"
"""The newest revision in ``versions/``; a test holds them equal."""

OLDEST = "0005"
"""Programs whose ``HEAD`` is this revision or a later one can work on our schema, for what came since only adds:
tables, indexes, columns with a default, and nothing that they must know of. Raise it with a migration that does more.
Revisions are numbers of four digits, compared as text."""

_DECLARED = {"owner": "", "key": "schema.oldest"}
"""The row of ``meta`` that tells :data:`OLDEST` to programs that don't know the schema."""


def migrate(engine: Engine) -> None:
    """Upgrade to :data:`HEAD`.

    A newer schema is left as it is where it declares that programs of ours can work on it; raises
    :class:`ConfigError` where it does not.
    """
    version = _version(engine)
    if version is not None and version > HEAD:
        _check_declared(engine, version)
    elif version != HEAD:
        _upgrade(engine, version)


def _check_declared(engine: Engine, version: str) -> None:
    with engine.connect() as connection:
        query = text("SELECT value FROM meta WHERE owner = :owner AND key = :key")
        oldest = connection.execute(query, _DECLARED).scalar()
    if oldest is None or str(oldest) > HEAD:
        raise ConfigError(
            f"{_newer(version)} Programs from schema {oldest} on can work on it; install one, or start with another "
            "data folder."
            if oldest is not None
            else f"{_newer(version)} Install that version again, or start with another data folder."
        )
    log.warning("the database has the newer schema %s, which this version (schema %s) can work on", version, HEAD)


def _newer(version: str) -> str:
    return f"The database was written by a newer Pixelmill (schema {version}; this one knows up to {HEAD})."


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
        raise ConfigError(f"{_newer(version)} Install that version again, or start with another data folder.")


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
        connection.execute(text("DELETE FROM meta WHERE owner = :owner AND key = :key"), _DECLARED)
        values = {**_DECLARED, "value": OLDEST}
        connection.execute(text("INSERT INTO meta (owner, key, value) VALUES (:owner, :key, :value)"), values)


__all__ = ["HEAD", "OLDEST", "check_known", "migrate"]
