"""An entry whose processes die right after the fork while the file that PIXELMILL_TEST_STILLBORN names exists."""

from __future__ import annotations

import os
from pathlib import Path

from misbehaving import act

__all__ = ["act"]

_FLAG = Path(os.environ["PIXELMILL_TEST_STILLBORN"])


def _die() -> None:
    if _FLAG.exists():
        os._exit(9)


os.register_at_fork(after_in_child=_die)
