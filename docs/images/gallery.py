"""Makes docs/images/gallery.jpg: a public-domain photograph (NASA, from scikit-image) through a few pipelines.

python docs/images/gallery.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

from pixelmill import Image, Pipeline
from pixelmill.images.encode import encode

PIPELINES = ("resize:256", "sketch", "canny:60,140/invert", "gaussian:3/contrast:1.3", "flip:horizontal/gamma:1.6")
SIDE, GAP, LABEL = 256, 8, 22


def panel(photo: Path, text: str) -> NDArray[Any]:
    """One result with its pipeline below, ``H×W×3``."""
    cut = "crop:120,0,256,256/" if text != "resize:256" else ""
    pixels = Pipeline.parse(f"{cut}{text}/format:png").run(photo).image.pixels
    color = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels[..., :3]
    canvas = np.full((SIDE + LABEL, SIDE, 3), 255, np.uint8)
    canvas[:SIDE] = color
    cv2.putText(canvas, text, (2, SIDE + 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Write the picture beside this script."""
    photo = Path(skimage.__file__).parent / "data" / "astronaut.png"
    gap = np.full((SIDE + LABEL, GAP, 3), 255, np.uint8)
    row = [part for text in PIPELINES for part in (panel(photo, text), gap)][:-1]
    picture = Image(np.ascontiguousarray(np.hstack(row)))
    Path(__file__).with_name("gallery.jpg").write_bytes(encode(picture, "jpeg", {"quality": 85}))


if __name__ == "__main__":
    main()
