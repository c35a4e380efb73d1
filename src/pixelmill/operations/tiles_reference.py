"""How each operation runs over tiles, as Markdown for ``docs/tiles-by-operation.md``: kind, tier, and passes.

``python -m pixelmill.operations.tiles_reference > docs/tiles-by-operation.md``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from pixelmill.errors import NotTileable
from pixelmill.images.image import Image, Size
from pixelmill.operations.passes import Form, Map, Pass, Survey
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.table import all_operations

_HEAD = """# Operations over tiles

<!-- Made by `python -m pixelmill.operations.tiles_reference > docs/tiles-by-operation.md`; a test compares. -->

Images that are too large to be held whole run tile by tile, and come out as the whole image would have: no pixel
differs. The table tells how, by the example of each operation that stands in [operations.md](operations.md), on RGB of
8 bits. Kind and tier may depend on parameters.

- **Kind**: *pointwise* and *local* look at a pixel, or at its neighbors; *reduction* counts the whole image first, in
  integers; *border-merge* joins what crosses tiles; *geometric* moves pixels, in numbers of the whole image; *analysis*
  gives data; *whole* needs the whole image at once.
- **Tier**: *cv2-exact*, the same as OpenCV's calls on the whole image, without IPP; *self-exact*, defined by Pixelmill,
  and the same whole and over tiles; *approximate*, a little is traded for speed. Tiers are of 8 and 16 bits. Floats are
  the same whole and over tiles too; OpenCV itself rounds some of them by where they lie, so against its own calls
  their last bits differ; at 16 bits `hue`, `bilateral` and `cartoon` go through floats.
- **Passes**: *map* with the pixels it looks around; *survey*, which looks at all tiles before it goes on; *move*, to
  another geometry. RGBA takes one survey more where transparency decides how all of it is filtered.

What has no passes is refused for images above the limits, with the size at which it would fit.

`resize` runs with `interpolation` `auto`, `lanczos` and `nearest`; with `area` where both sides shrink by p/q of small
p and q; with `linear` of gray and RGB of 8 and 16 bits at any p/q up to 255 (it is OpenCV's `INTER_LINEAR_EXACT`, in
fixed point); and with `cubic`, and `linear` of floats and RGBA, where q is a power of two besides (1/2, 3/2, 3/4):
elsewhere OpenCV's own coordinates, in `float32`, are not those of a part. `auto` gives over tiles what `lanczos` gives;
against the `auto` of the whole image that is 61 to 69 dB on a photograph. The kernels of Pillow need the whole image.

`rotate` and `perspective` have no limit of 32,767 pixels a side over tiles. `perspective` into less than the
quadrilateral's own size needs the whole image. `watershed` refuses objects that reach more than 2,048 pixels from their
edge.

| operation | kind | tier | passes |
|---|---|---|---|
"""


def tiles_reference() -> str:
    """The whole page."""
    form = Form(Size(10_007, 7_001), 3, np.dtype(np.uint8))
    rows = []
    for cls in all_operations():
        arguments = dict(EXAMPLES[cls.name][1])
        if cls.name == "watermark":
            arguments["image"] = Image(np.zeros((8, 8, 4), np.uint8))
        operation = cls(**arguments)
        facts = operation.facts()
        try:
            passes = told(operation.tiled(form)) or "none: the image stays"
        except NotTileable:
            passes = "the whole image"
        rows.append(f"| `{cls.name}` | {facts.kind} | {facts.tier} | {passes} |\n")
    return _HEAD + "".join(rows)


def told(passes: Sequence[Pass]) -> str:
    """Passes in words, and those that a survey is expected to end in."""
    words = []
    for item in passes:
        if isinstance(item, Map):
            words.append(f"map {item.name}" + (f" ({item.halo:,} px)" if item.halo else ""))
        elif isinstance(item, Survey):
            words.append(f"survey {item.name}" + (f", then {told(item.expected)}" if item.expected else ""))
        else:
            words.append(f"move {item.name}")
    return ", ".join(words)


if __name__ == "__main__":
    sys.stdout.write(tiles_reference())
