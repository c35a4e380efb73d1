"""What must be said to libraries before they are imported, so that a function starts fast and stays small.

Import it first. For the process of a function alone: what it sets holds for the whole process.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from types import ModuleType
from typing import Any

METADATA = "importlib.metadata"


class _Late(ModuleType):
    """``importlib.metadata``, imported when something of it is used; ``LazyLoader`` of the library does it earlier."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for these
            raise AttributeError(name)
        if sys.modules.get(METADATA) is self:
            del sys.modules[METADATA]
        return getattr(importlib.import_module(METADATA), name)

    def entry_points(self, **wanted: Any) -> Any:
        """What pydantic takes out of it by name, and does not call."""
        return self.__getattr__("entry_points")(**wanted)


# The collector would look at everything that is imported, again and again. ``started`` turns it on.
gc.disable()
# A BLAS makes a thread and a buffer for each core when NumPy is imported, and nothing here uses one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Looking for plugins of pydantic reads the metadata of every package that is installed; and though that is switched off
# here, pydantic imports what it would read them with, which takes 16 ms.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
if METADATA not in sys.modules:
    sys.modules[METADATA] = _Late(METADATA)
    importlib.metadata = sys.modules[METADATA]  # as the import system does


def started() -> None:
    """Everything is imported: it stays, and no collection needs to look at it."""
    gc.freeze()
    gc.enable()
