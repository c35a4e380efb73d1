"""The lock of a data folder: one service at a time owns it, and the kernel lets go when its process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from pixelmill.errors import ConfigError, StorageDenied


class DataLock:
    """A ``flock`` on ``DATA/lock``, which holds the process id of its owner for people to read.

    ``shared``: the state is in a database elsewhere, so others that say so too may use its objects.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self._shared = shared
        self._path = folder / "lock"
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock; raises :class:`ConfigError` where another process holds it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="ascii")
        except OSError as error:
            raise StorageDenied(
                f"The data folder {self._path.parent} can't be written: {error.strerror}. "
                "Choose another with --data or PIXELMILL_DATA."
            ) from error
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(32).strip() or "unknown"
            file.close()
            raise ConfigError(
                f"Another Pixelmill service (process {holder}) uses the data folder {self._path.parent}. "
                "Stop it, or choose another folder with --data or PIXELMILL_DATA."
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None
