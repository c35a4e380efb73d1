"""What a source of events is, and how the one that a rules file describes is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pixelmill.triggers.azure_queue import open_azure
from pixelmill.triggers.folder import open_folder
from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.source_options import read_options
from pixelmill.triggers.sqs import open_sqs
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


class Passive:
    """A source that is called by others: its route does the work, and it only waits."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """As the rules file calls it."""
        return self._name

    async def run(self, taker: Taker) -> None:  # noqa: ARG002 -- the route has its own
        """Until cancelled."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing is open."""


def check_source(spec: SourceSpec, *, on_loopback: bool = False) -> None:
    """Raise :class:`ConfigError` for a kind or an option that can't be. Opens nothing.

    ``on_loopback``: only this machine can reach the service, so that a route may do without credentials.
    """
    read_options(spec, on_loopback=on_loopback)


def open_source(spec: SourceSpec, *, roots: Sequence[Path] = (), on_loopback: bool = False) -> EventSource:
    """The source, ready to :meth:`~EventSource.run`; one of kind ``http`` only waits, for its route is called.

    ``roots``: the folders that the service may read (``--source-root``); a watched folder must be below one.
    ``on_loopback``: see :func:`check_source`. Raises :class:`ConfigError` for options that can't be, and
    :class:`MissingExtra` where an SDK is not installed.
    """
    options = read_options(spec, on_loopback=on_loopback)
    match spec.kind:
        case "sqs":
            return open_sqs(options)
        case "azure-queue":
            return open_azure(options)
        case "folder":
            return open_folder(options, roots)
        case _:
            return Passive(spec.name)
