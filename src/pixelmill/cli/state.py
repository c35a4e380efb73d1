"""What commands share: the global options, and how they read settings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixelmill.config import Settings


@dataclass(frozen=True, slots=True)
class Globals:
    """Options before the command."""

    config: Path | None = None
    debug: bool = False

    def settings(self, assignments: Iterable[str] = (), **flags: Any) -> Settings:
        """All settings; ``assignments`` are ``--set`` texts, flags of None were not given."""
        from pixelmill.config import load, parse_assignments

        own = {name: value for name, value in flags.items() if value is not None}
        return load({**parse_assignments(assignments), **own}, os.environ, file=self.config, folder=Path.cwd())


class Stopped(Exception):
    """A command was ended by a signal and has cleaned up; ``code`` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
