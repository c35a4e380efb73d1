"""What the processes of a pool are told of learned models, and where they get them: through the model process.

Where there is none (not Linux), pool processes have sessions of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelmill.cores import usable_cores
from pixelmill.models.client import ModelClient
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import ModelSource
from pixelmill.models.sessions import DEFAULT_BUDGET, Sessions

IDLE_S = 900.0


@dataclass(frozen=True, slots=True)
class PoolModels:
    """The models folder (None: this user's own), and whether a pipeline may name weights by a path beside.

    ``budget``: bytes that sessions may take together. ``shared``: one model process for all pools of this user on the
    machine, else one of this pool. ``slots``: tasks with models that run at once, beside all others; 0 is one for two
    cores, and one more. ``warm``: models that are loaded at the start, by name. ``remembered``: the file that keeps
    which ones were used last, to load them too; None: nobody remembers. ``idle_s``: the process ends when nothing was
    asked of it for so long (None: never). ``allow_pickle``: see :class:`ModelFolder`.
    """

    folder: Path | None = None
    paths: bool = False
    budget: int = DEFAULT_BUDGET
    shared: bool = False
    slots: int = 0
    warm: tuple[str, ...] = ()
    remembered: Path | None = None
    idle_s: float | None = IDLE_S
    allow_pickle: bool = False

    @property
    def where(self) -> Path:
        """The folder."""
        return ModelFolder(self.folder).path

    def to_boot(self, address: str) -> dict[str, Any]:
        """As it travels to the processes; ``address`` is empty where each has sessions of its own."""
        folder = None if self.folder is None else str(self.folder)
        return {
            "folder": folder,
            "paths": self.paths,
            "budget": self.budget,
            "allow_pickle": self.allow_pickle,
            "address": address,
        }


def folder_of(boot: Mapping[str, Any]) -> ModelFolder:
    """The models folder, as it travelled."""
    folder = boot.get("folder")
    return ModelFolder(
        None if folder is None else Path(folder),
        paths=bool(boot.get("paths")),
        allow_pickle=bool(boot.get("allow_pickle")),
    )


def model_slots(models: PoolModels) -> int:
    """Tasks with models that run at once: while one is computed on all cores, others are decoded and encoded.

    Of U-2-Net on a photograph that is a quarter of the work: half as many processes as cores keep up with it.
    """
    return models.slots or 1 + usable_cores() // 2


def source_of(boot: Mapping[str, Any]) -> ModelSource:
    """Where models come from in a pool process: made in the zygote, connected in the process itself."""
    here = Sessions(folder_of(boot), threads=1, budget=boot.get("budget", DEFAULT_BUDGET))
    return ModelClient(boot["address"], here) if boot.get("address") else here
