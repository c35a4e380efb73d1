"""How many cores this process may use, under the name by which the fleet asks (see ``pixelmill/cores.py``)."""

from __future__ import annotations

from pixelmill.cores import usable_cores

__all__ = ["usable_cores"]
