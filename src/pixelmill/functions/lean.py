"""What must be said to libraries before they are imported, so that a function starts fast and stays small.

Import it first. For the process of a function alone: what it sets holds for the whole process.
"""

from __future__ import annotations

import gc
import os

# The collector would look at everything that is imported, again and again. ``started`` turns it on.
gc.disable()
# A BLAS makes a thread and a buffer for each core when NumPy is imported, and nothing here uses one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Looking for plugins of pydantic reads the metadata of every package that is installed.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def started() -> None:
    """Everything is imported: it stays, and no collection needs to look at it."""
    gc.freeze()
    gc.enable()
