"""``pixelmill worker`` whose pool processes crash on poisonous sources (see ``misbehaving.poisoned``)."""

from __future__ import annotations

import pixelmill.service.worker as room
from pixelmill.cli import main
from pixelmill.targets.local import LocalPool


class PoisonedPool(LocalPool):
    """The pool of a worker, with another entry."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings, entry="misbehaving:poisoned")  # type: ignore[arg-type]


if __name__ == "__main__":
    room.LocalPool = PoisonedPool  # type: ignore[attr-defined]
    main()
