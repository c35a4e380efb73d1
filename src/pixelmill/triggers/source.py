"""What a source of events is, and how the one that a rules file describes is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.verbs import Taker


class EventSource(Protocol):
    """A queue that is read, or a folder that is watched."""

    @property
    def name(self) -> str:
        """As the rules file calls it."""
        ...

    async def run(self, taker: Taker) -> None:
        """Hand events over until cancelled. What goes wrong is logged, and tried again with growing pauses."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads; harmless when called again."""
        ...


def check_source(spec: SourceSpec, *, roots: Sequence[Path] = (), on_loopback: bool = False) -> None:
    """Raise :class:`ConfigError` for a kind or an option that can't be; does no network I/O."""
    raise NotImplementedError


def open_source(spec: SourceSpec, *, roots: Sequence[Path] = (), on_loopback: bool = False) -> EventSource:
    """The source, ready to :meth:`~EventSource.run`; one of kind ``http`` only waits, for its route is called.

    ``roots``: the folders that the service may read (``--source-root``); a watched folder must be below one.
    ``on_loopback``: only this machine can reach the service, so that a route may do without credentials.
    Raises :class:`ConfigError` for options that can't be, and :class:`MissingExtra` where an SDK is not installed.
    """
    raise NotImplementedError
