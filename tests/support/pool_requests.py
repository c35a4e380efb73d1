"""Requests of learned operations for pools: a small picture with something bright in it."""

from __future__ import annotations

import numpy as np

from pixelmill.images.encode import encode
from pixelmill.images.image import Image
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import RunRequest


def picture() -> bytes:
    """A bright box on black, as PNG."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:72] = (250, 240, 230)
    return encode(Image(pixels), "png")


def picture_request(text: str, name: str = "1") -> RunRequest:
    """That picture through a pipeline."""
    return RunRequest(name, Pipeline.parse(text).to_json(), picture(), {}, timeout_s=60.0)
