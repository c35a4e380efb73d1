"""How the processes of a pool come to learned models: by sessions of their own, over the folder that they are told.

A pool process runs one task at a time and is one of as many as there are cores: a model gets one thread in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelmill.models.folder import ModelFolder
from pixelmill.models.sessions import Sessions


@dataclass(frozen=True, slots=True)
class PoolModels:
    """The models folder (None: this user's own), and whether a pipeline may name weights by a path beside."""

    folder: Path | None = None
    paths: bool = False

    def to_boot(self) -> dict[str, Any]:
        """As it travels to the zygote."""
        return {"folder": None if self.folder is None else str(self.folder), "paths": self.paths}


def source_of(boot: Mapping[str, Any]) -> Sessions:
    """Where models come from in a pool process."""
    folder = boot.get("folder")
    return Sessions(ModelFolder(None if folder is None else Path(folder), paths=bool(boot.get("paths"))), threads=1)
