"""Where results are put: the configured store of a bucket, or a folder, and what makes two addresses one place.

A folder is written below the fixed start of its rule's template alone, and links within it are never followed.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

from pixelmill.errors import InvalidURI, SourceRefused
from pixelmill.service.triggering import Triggering
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.store import ObjectStore
from pixelmill.storage.uris import parse_uri, split_raw
from pixelmill.triggers.naming import start_of, template_of
from pixelmill.triggers.places import place
from pixelmill.triggers.rule import Rule

MAX_FOLDERS = 1_000
"""Folders that are held open: as many as there may be rules."""


class Destinations:
    """The stores that results go to. Belongs to one event loop."""

    def __init__(self, triggering: Triggering) -> None:
        self._triggering = triggering
        self._folders: dict[str, FolderStore] = {}

    async def of(self, rule: Rule, uri: str) -> tuple[ObjectStore, str]:
        """The store of a result's address, and its key there; raises :class:`StorageError`."""
        found = parse_uri(uri)
        if found.scheme != "file":
            return self._triggering.bucket(uri)
        if rule.origin == "api":
            raise SourceRefused(
                f"The rule {rule.name} writes to a folder, which only rules of the rules file may.", uri=uri
            )
        root = folder_of(rule)
        if not found.path.startswith(f"{root.rstrip('/')}/"):
            raise InvalidURI(f"{uri!a} is not below {root}, where the rule writes.", uri=uri)
        return await self._folder(root), found.path.removeprefix(root).removeprefix("/")

    async def _folder(self, root: str) -> FolderStore:
        store = self._folders.get(root)
        if store is None:
            if len(self._folders) >= MAX_FOLDERS:
                self.close()
            store = self._folders[root] = FolderStore(Path(root))
            await store.sweep()  # what a process left that died while it wrote
        return store

    def close(self) -> None:
        """Let go of folders; they are opened again where they are needed."""
        for store in self._folders.values():
            store.close()
        self._folders.clear()


def folder_of(rule: Rule) -> str:
    """The folder that all results of a rule lie below: the fixed start of its template, up to its last slash."""
    _, _, start = split_raw(start_of(template_of(rule)))
    return place(f"file://{start.rpartition('/')[0]}/").path


async def identities(uris: list[str]) -> list[str]:
    """The address that each of these places has whatever links lead to it; a bucket's is its own."""
    if not any(uri.startswith("file:") for uri in uris):
        return uris
    return await asyncio.to_thread(lambda: [identity(uri) for uri in uris])


def identity(uri: str) -> str:
    """See :func:`identities`. Blocking for files: looks for links."""
    if not uri.startswith("file:"):
        return uri
    try:
        path = os.path.realpath(parse_uri(uri).path)
    except (InvalidURI, OSError, ValueError):
        return uri
    return f"file://{quote(os.fsencode(path))}"
