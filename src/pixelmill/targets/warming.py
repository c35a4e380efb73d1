"""Models that are loaded before anybody asks for them: those of the settings, and those that were used last.

It goes on in the background: a pool is ready without it, and what goes wrong is a line in the log and nothing more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pixelmill import logs
from pixelmill.errors import ModelMissing, ModelRefused, PixelmillError
from pixelmill.models.client import ModelClient
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Wanted
from pixelmill.models.registry import REGISTRY, Task
from pixelmill.models.sessions import Sessions
from pixelmill.targets.model_keeper import ModelProcess
from pixelmill.targets.modelling import PoolModels

log = logging.getLogger(__name__)

LAST = "last"
"""Stands among names for the models that were used last."""
FILE = ".last-used.json"
"""In the models folder."""
MAX_REMEMBERED = 4
_TRIED: tuple[Task, ...] = ("segmentation", "classification", "caption")
"""Tasks that a checkpoint of one's own is tried for: its name does not say what it is."""


class LastUsed:
    """The models that were used last, newest first, in a file. A file that can't be read or written is no error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: list[Wanted] = []

    def read(self) -> list[Wanted]:
        """Those of before."""
        try:
            found: Any = json.loads(self._path.read_text())[:MAX_REMEMBERED]
            pairs = [(str(name), task) for name, task in found if task in get_args(Task)]
        except (OSError, ValueError, TypeError, KeyError):
            return []
        return [Wanted(name, task) for name, task in pairs]

    def note(self, wanted: Sequence[Wanted]) -> bool:
        """These are used now; whether the file must be written anew."""
        new = [one for one in wanted if one not in self._known]
        self._known = list(dict.fromkeys((*wanted, *self._known)))[:MAX_REMEMBERED]
        return bool(new)

    def write(self) -> None:
        """Keep them, with those of before that others used."""
        every = list(dict.fromkeys((*self._known, *self.read())))[:MAX_REMEMBERED]
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps([[one.name, one.task] for one in every]))
            beside.replace(self._path)
        except OSError as error:
            log.debug("the models used last are not remembered: %s", error)


async def warm_up(models: PoolModels, keeper: ModelProcess) -> None:
    """Load them, one after the other."""
    choices = [_choices(name) for name in models.warm]
    if models.remembered is not None:
        choices += [[one] for one in await asyncio.to_thread(LastUsed(models.remembered).read)]
    for choice in choices:
        started = time.monotonic()
        try:
            async with keeper.used():
                name = await asyncio.to_thread(_load, choice, models, keeper.address)
        except PixelmillError as error:
            logs.event("models.not_warmed", model=choice[0].name, reason=str(error))
        else:
            logs.event("models.warmed", model=name, seconds=round(time.monotonic() - started, 3))


def _choices(name: str) -> list[Wanted]:
    entry = REGISTRY.get(name)
    return [Wanted(name, task) for task in ((entry.task,) if entry else _TRIED)]


def _load(choice: list[Wanted], models: PoolModels, address: str) -> str:
    """The name of the model that was loaded, as the first of the choices that it can be."""
    folder = ModelFolder(models.folder, paths=models.paths, allow_pickle=models.allow_pickle)
    client = ModelClient(address, Sessions(folder, threads=1))
    try:
        for wanted in choice[:-1]:
            try:
                client.load(wanted)
            except ModelMissing:
                raise
            except ModelRefused:
                continue
            return wanted.name
        client.load(choice[-1])
        return choice[-1].name
    finally:
        client.close()
