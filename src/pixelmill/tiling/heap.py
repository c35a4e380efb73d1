"""Memory that tiles gave back is used again by the next ones, where the process has a heap of the GNU C library.

By itself that heap gives large blocks back to the system at once, and the next tile gets pages that must be cleared:
half of the CPU seconds of a run over cheap operations. For processes that do nothing but run in tiles: it is a setting
of the whole process, and can't be taken back.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of ``malloc.h``."""
HELD_BYTES, FROM_HEAP_BYTES = 256 << 20, 32 << 20
"""What a heap holds free at its end before it shrinks; blocks up to which it serves (more is not allowed)."""


def keep_freed_memory() -> bool:
    """Whether that could be set: elsewhere (musl, macOS, Windows) nothing is changed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(what, much) == 1 for what, much in ((_TRIM_THRESHOLD, HELD_BYTES), (_MMAP_THRESHOLD, FROM_HEAP_BYTES))
    )
