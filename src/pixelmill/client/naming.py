"""Names of downloaded files: from a task's name and result to a safe, distinct path in a folder. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pixelmill.client.values import TaskStatus

# 255 bytes are what file systems allow; room is left for a number, an extension and a suffix while writing.
LONGEST_STEM = 180
_EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/tiff": ".tiff",
    "image/avif": ".avif",
    "image/jxl": ".jxl",
    "image/bmp": ".bmp",
}


def extension(task: TaskStatus) -> str:
    """The extension that fits the result's media type."""
    outcome = task.outcome or {}
    known = _EXTENSIONS.get(str(outcome.get("media_type")))
    return known or "." + re.sub(r"[^A-Za-z0-9]", "", str(outcome.get("format") or "bin"))


def safe_stem(name: str) -> str:
    """The last part of a name without its extension, fit to be a file name anywhere.

    What a service sends is not trusted: no folders, no control characters, no leading dot, and not too long.
    """
    last = PurePosixPath(name.replace("\\", "/").replace("\0", "_")).name
    stem = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", PurePosixPath(last).stem if last else "").strip(". ")
    short = stem.encode("utf-8", "replace")[:LONGEST_STEM].decode("utf-8", "ignore")
    return short or "image"


class Names:
    """Distinct stems: the second ``a`` becomes ``a-2``. The same names in the same order give the same stems."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def stem(self, name: str) -> str:
        """A stem that was not given before, upper and lower case being one."""
        wanted = safe_stem(name)
        stem, key = wanted, wanted.casefold()
        while stem.casefold() in self._taken:
            self._next[key] = self._next.get(key, 1) + 1
            stem = f"{wanted}-{self._next[key]}"
        self._taken.add(stem.casefold())
        return stem
