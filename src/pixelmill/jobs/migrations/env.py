"""Alembic's entry: runs the migrations on the connection that ``migrate`` put into the configuration."""

from __future__ import annotations

from alembic import context

from pixelmill.jobs.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't alter most things in place
)
with context.begin_transaction():
    context.run_migrations()
