"""What all tables of the job store share: their metadata, and the type of numbers that the database gives."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData()

# SQLite numbers rows itself only where the column is INTEGER.
SERIAL = BigInteger().with_variant(Integer(), "sqlite")
