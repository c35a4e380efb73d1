"""Readers that are imported when the first file of their format comes: a process that reads JPEGs loads no other codec.

A table names each as ``module:function`` of this room. A process that forks others loads all of them first (``LATE``).
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

LATE = (
    "pixelmill.images.apng_frames",
    "pixelmill.images.auto",
    "pixelmill.images.decode_frames",
    "pixelmill.images.decode_jpeg",
    "pixelmill.images.decode_jxl",
    "pixelmill.images.decode_pillow",
    "pixelmill.images.decode_png",
    "pixelmill.images.decode_tiff",
    "pixelmill.images.decode_webp",
    "pixelmill.images.encode_frames",
    "pixelmill.images.gif_palette",
    "pixelmill.images.heic",
    "pixelmill.images.icons",
    "pixelmill.images.indexed",
    "pixelmill.images.jpeg_header",
    "pixelmill.images.jxl_header",
    "pixelmill.images.metadata_keep",
    "pixelmill.images.metadata_look",
    "pixelmill.images.netpbm",
    "pixelmill.images.pillow_header",
    "pixelmill.images.png_header",
    "pixelmill.images.svg",
    "pixelmill.images.tiff_header",
    "pixelmill.images.webp_header",
)
"""Modules that the first file of their kind loads."""


@functools.cache  # bounded by the tables
def loaded(name: str) -> Any:
    """The function ``module:function`` of this room."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pixelmill.images.{module}"), function)
