"""Pixelmill: image pipelines over one image or a million.

>>> from pixelmill import Pipeline
>>> p = Pipeline.parse("grayscale/resize:256,256,fit=fill/format:jpeg,quality=80")
>>> outcome = p.run("photo.jpg")  # doctest: +SKIP

Names are imported on first use, so ``import pixelmill`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from pixelmill.client import AsyncClient, Client
    from pixelmill.errors import PixelmillError
    from pixelmill.images.image import Image, ImageInfo, Size
    from pixelmill.images.limits import Limits
    from pixelmill.images.probe import probe
    from pixelmill.pipelines.outcome import Outcome, Timings
    from pixelmill.pipelines.spec import Pipeline
    from pixelmill.pipelines.tiled_options import TiledOptions, TiledOutcome

_HOMES = {
    "AsyncClient": "pixelmill.client",
    "Client": "pixelmill.client",
    "Image": "pixelmill.images.image",
    "ImageInfo": "pixelmill.images.image",
    "Limits": "pixelmill.images.limits",
    "Outcome": "pixelmill.pipelines.outcome",
    "Pipeline": "pixelmill.pipelines.spec",
    "PixelmillError": "pixelmill.errors",
    "Size": "pixelmill.images.image",
    "TiledOptions": "pixelmill.pipelines.tiled_options",
    "TiledOutcome": "pixelmill.pipelines.tiled_options",
    "Timings": "pixelmill.pipelines.outcome",
    "probe": "pixelmill.images.probe",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Image",
    "ImageInfo",
    "Limits",
    "Outcome",
    "Pipeline",
    "PixelmillError",
    "Size",
    "TiledOptions",
    "TiledOutcome",
    "Timings",
    "probe",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
