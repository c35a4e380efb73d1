"""Where results by regions come into being: beside their names in a folder. Object stores fulfil the same contract."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pixelmill.images.region_results import FileResult, Result
from pixelmill.images.region_trees import FolderTree, Tree


class ResultPlace(Protocol):
    """The name of a result, and what takes its bytes."""

    @property
    def name(self) -> str:
        """The last part of it, with the extension."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder for files that are needed meanwhile."""
        ...

    @property
    def changes(self) -> bool:
        """Whether the first bytes of a file may change until it is finished."""
        ...

    def file(self, most: int) -> Result:
        """A result of one file, of ``most`` bytes at most, more or less."""
        ...

    def tree(self, last: str) -> Tree:
        """A result of many files, of which ``last`` makes it whole."""
        ...


class FolderPlace:
    """A path, with ``if_absent`` one where nothing may be yet."""

    changes = True

    def __init__(self, path: Path, *, if_absent: bool = False) -> None:
        self._path, self._if_absent = path, if_absent

    @property
    def name(self) -> str:
        """Of the file."""
        return self._path.name

    @property
    def scratch(self) -> Path:
        """The folder of the result: what fits there twice fits."""
        return self._path.parent

    def file(self, most: int) -> Result:  # noqa: ARG002 -- a file takes what comes
        """A file beside the path."""
        return FileResult(self._path, if_absent=self._if_absent)

    def tree(self, last: str) -> Tree:  # noqa: ARG002 -- it is told at the end again
        """A folder beside the path."""
        return FolderTree(self._path.parent, self._path.name, if_absent=self._if_absent)
