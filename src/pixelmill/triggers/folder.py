"""Events from a folder: files that appear below it, each once it is whole.

Three things run side by side. The *watch* hears of names from the kernel (``watchfiles``). The *scan* finds what was
missed: at the start, after the watch had to begin anew, in folders that appear, and now and then everywhere, for the
kernel drops notices that it has no room for, and ``watchfiles`` does not tell. Both only name candidates; the *work*
looks at those until they are whole or gone, and hands over what is whole. Memory is bounded: the scan waits for room
among the candidates, and what the watch has no room for, the next scan finds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from watchfiles import Change, awatch

from pixelmill import logs
from pixelmill.errors import ConfigError
from pixelmill.images.formats import FORMATS
from pixelmill.storage.keys import split_name
from pixelmill.triggers.candidates import Candidates, version_of
from pixelmill.triggers.documents.parts import address, unread
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.folder_scan import Walker, is_folder, is_skipped
from pixelmill.triggers.handing import MAX_PAUSE_S, hand_over
from pixelmill.triggers.source_options import Options
from pixelmill.triggers.verbs import Taker
from pixelmill.triggers.wholeness import Looked, look

BATCH = 500
PIECE = 2_000
"""Names that a scan brings at a time."""
MARGIN_S = 300.0
"""A scan tells again what changed this long before the last one began: clocks of file systems may differ from ours."""
TICK_S = 0.01
"""The kernel stamps files with a clock that is behind by one of its ticks at most."""
AGAIN_S = 1.0
"""A folder that appeared is walked again after this: files may have come before the kernel watched it."""
MAX_FOLDERS = 10_000
"""New folders that wait to be walked; where more appear everything is."""
WATCH_STEP_MS, WATCH_TURN_MS, WATCH_CHECK_MS = 50, 200, 500
TYPES = {extension: one.media_type for one in FORMATS.values() for extension in one.extensions if extension}


class FolderSource:
    """See :class:`pixelmill.triggers.source.EventSource`.

    ``root`` has its links resolved; ``told_as`` is the same folder as rules know it, and events name their files below
    that.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        settle_s: float,
        rescan_s: float,
        catch_up: bool = True,
        polling: bool = False,
        told_as: Path | None = None,
    ) -> None:
        self._name, self._root, self._told_as = name, str(root), str(told_as or root)
        self._rescan_s, self._catch_up, self._polling = rescan_s, catch_up, polling
        self._opened = time.time() - TICK_S
        self._walker = Walker(self._root)
        self._candidates = Candidates(settle_s)
        self._news, self._room, self._scan_wanted = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._everything = False
        self._missed = False
        self._new: dict[str, None] = {}
        self._again: deque[tuple[float, str]] = deque()

    @property
    def name(self) -> str:
        """As the rules file calls it."""
        return self._name

    async def run(self, taker: Taker) -> None:
        """Until cancelled."""
        logs.event("source.started", source=self._name, folder=self._root)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._scan())
            group.create_task(self._work(taker))

    async def close(self) -> None:
        """Nothing stays open."""

    # -- the watch ---------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Until cancelled; begins anew when another folder has taken the place, or the watch fails."""
        pause = 1.0
        while True:
            began = time.monotonic()
            try:
                await self._watch_one()
            except Exception as error:  # noqa: BLE001 -- of the kernel, or of watchfiles, which groups its own
                why = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                logs.event(
                    "source.failed",
                    source=self._name,
                    reason=type(why).__name__,
                    detail=str(why)[:500],
                    retry_s=round(pause, 1),
                )
            self._want_everything()  # the scan stands in for the watch meanwhile
            pause = 1.0 if time.monotonic() - began > MAX_PAUSE_S else min(pause * 2, MAX_PAUSE_S)
            await asyncio.sleep(pause)

    async def _watch_one(self) -> None:
        """Until another folder is at the place."""
        # Held open, so that a folder which is made anew can't get the same number.
        folder = await asyncio.to_thread(os.open, self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            is_first = True
            async for changes in self._changes():
                if is_first:
                    # Not earlier: what comes between the scan and the watch would be missed.
                    self._want_everything()
                    is_first = False
                await self._hear(changes)
                if not await asyncio.to_thread(self._is_still, folder):
                    return
        finally:
            os.close(folder)

    def _changes(self) -> AsyncIterator[set[tuple[Change, str]]]:
        return awatch(
            self._root,
            watch_filter=None,
            debounce=WATCH_TURN_MS,
            step=WATCH_STEP_MS,
            rust_timeout=WATCH_CHECK_MS,
            yield_on_timeout=True,
            force_polling=self._polling or None,
            ignore_permission_denied=True,
        )

    def _is_still(self, folder: int) -> bool:
        return os.path.samestat(Path(self._root).lstat(), os.fstat(folder))

    async def _hear(self, changes: set[tuple[Change, str]]) -> None:
        front = f"{self._root}/"
        named = {path.removeprefix(front): change for change, path in changes if change is not Change.deleted}
        named.pop(self._root, None)
        # Of a folder the kernel tells once, and not what was in it when it came.
        added = [key for key, change in named.items() if change is Change.added]
        folders = await asyncio.to_thread(lambda: {key for key in added if is_folder(self._root, key)})
        for key in folders:
            self._want_folder(key)
        now = time.monotonic()
        for key in named.keys() - folders:
            if not is_skipped(key) and not self._candidates.add(key, now):
                self._missed = True
                self._want_everything()
        self._news.set()

    # -- the scan ----------------------------------------------------------------------------------------------------

    def _want_everything(self) -> None:
        self._everything = True
        self._scan_wanted.set()

    def _want_folder(self, key: str) -> None:
        if len(self._new) >= MAX_FOLDERS:
            self._want_everything()
        else:
            self._new[key] = None
            self._scan_wanted.set()

    async def _scan(self) -> None:
        """Until cancelled."""
        since = None if self._catch_up else self._opened
        learn = not self._catch_up
        rescan = time.monotonic() + self._rescan_s
        while True:
            await self._wait_for_scan(rescan)
            if self._everything or time.monotonic() >= rescan:
                self._everything = self._missed = False
                began = time.time()
                await self._walk(since, learn=learn)
                if not self._missed:
                    since, learn = began - MARGIN_S, False
                rescan = time.monotonic() + self._rescan_s
            await self._walk_folders()

    async def _wait_for_scan(self, rescan: float) -> None:
        """Until a scan is wanted, or its time has come."""
        soonest = min(rescan, self._again[0][0]) if self._again else rescan
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, soonest - time.monotonic())):
                await self._scan_wanted.wait()
        self._scan_wanted.clear()

    async def _walk_folders(self) -> None:
        """Walk folders that appeared: at once, and once more."""
        wanted, self._new = self._new, {}
        later = [(time.monotonic() + AGAIN_S, key) for key in wanted]
        while self._again and self._again[0][0] <= time.monotonic():
            wanted[self._again.popleft()[1]] = None
        for key in wanted:
            await self._walk(None, key)
        self._again.extend(later)
        while len(self._again) > MAX_FOLDERS:
            self._again.popleft()
            self._want_everything()

    async def _walk(self, since: float | None, start: str = "", *, learn: bool = False) -> None:
        names = self._walker.walk(since, start=start, learn=learn)
        while piece := await asyncio.to_thread(lambda: list(islice(names, PIECE))):
            for key in piece:
                while not self._candidates.add(key, time.monotonic()):
                    self._room.clear()
                    self._news.set()
                    await self._room.wait()
            self._news.set()

    # -- the work ----------------------------------------------------------------------------------------------------

    async def _work(self, taker: Taker) -> None:
        """Until cancelled."""
        while True:
            keys = self._candidates.due(time.monotonic(), BATCH)
            if not keys:
                await self._wait_for_news()
                continue
            looked = await asyncio.to_thread(self._look, keys)
            now = time.monotonic()
            whole = [(key, one) for key, one in zip(keys, looked, strict=True) if self._candidates.judge(key, one, now)]
            self._room.set()
            if whole:
                found = [event_of(self._told_as, key, one) for key, one in whole]
                await hand_over(
                    taker,
                    self._name,
                    [one for one in found if isinstance(one, ObjectEvent)],
                    [one for one in found if isinstance(one, Unread)],
                )
                for key, one in whole:
                    self._candidates.tell(key, version_of(one))

    def _look(self, keys: Sequence[str]) -> list[Looked]:
        return [look(self._root, key) for key in keys]

    async def _wait_for_news(self) -> None:
        """Until a file is to be looked at."""
        due = self._candidates.next_due()
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                await self._news.wait()


def event_of(root: str, key: str, looked: Looked) -> ObjectEvent | Unread:
    """The event of a whole file. It appeared when its entry last changed: copies keep the time of the content."""
    uri = address("file", "", f"{root}/{key}")
    if not uri:
        return unread("bad-key", ascii(key))
    return ObjectEvent(
        uri,
        "created",
        version_of(looked),
        looked.changed_ns / 1e9,
        looked.size,
        TYPES.get(split_name(key)[1].lower(), ""),
        provider="folder",
    )


def open_folder(options: Options, roots: Sequence[Path]) -> FolderSource:
    """The source; raises :class:`ConfigError` for a folder that is none, or is outside the source roots."""
    given = Path(options["path"]).expanduser()
    try:
        root = given.resolve(strict=True)
        good = root.is_dir() and given.is_absolute()
    except (OSError, RuntimeError):
        good = False
    if not good:
        raise ConfigError(
            f"The source of events {options.name!r} can't watch {str(given)!a}: that is no folder, or no absolute "
            "path. Make the folder, or put path right.",
            source=options.name,
        )
    if not any(root.is_relative_to(one.resolve()) for one in roots):
        raise ConfigError(
            f"The source of events {options.name!r} can't watch {str(given)!a}: the service may not read files there. "
            f"Start it with --source-root {root} (or a folder above it; PIXELMILL_SOURCE_ROOTS).",
            source=options.name,
        )
    return FolderSource(
        options.name,
        root,
        settle_s=options["settle"],
        rescan_s=options["rescan"],
        catch_up=options["catch_up"],
        polling=options["polling"],
        told_as=given,
    )
