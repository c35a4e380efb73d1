"""``pixelmill serve``, ``worker`` or ``node`` whose pool processes crash on poison (see ``misbehaving.poisoned``)."""

from __future__ import annotations

import pixelmill.service.parts as of_services
import pixelmill.service.worker as of_workers
import pixelmill.targets.local as of_nodes
from pixelmill.cli import main
from pixelmill.targets.local import LocalPool


class PoisonedPool(LocalPool):
    """A pool with another entry."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings, entry="misbehaving:poisoned")  # type: ignore[arg-type]


if __name__ == "__main__":
    for room in (of_services, of_workers, of_nodes):
        room.LocalPool = PoisonedPool  # type: ignore[attr-defined]
    main()
