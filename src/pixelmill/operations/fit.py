"""How a picture fits into a box: arithmetic on sizes only, exact in integers.

See :func:`fitted` for the five ways, :func:`placed` for the nine places.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pixelmill.images.image import Size
from pixelmill.operations.parameters import Position

Fit: TypeAlias = Literal["contain", "cover", "fill", "inside", "outside"]


def _times(side: int, numerator: int, denominator: int) -> int:
    """``side * numerator / denominator``, rounded half up, at least 1."""
    return max(1, (2 * side * numerator + denominator) // (2 * denominator))


def fitted(size: Size, width: int | None, height: int | None, fit: Fit, *, enlarge: bool) -> tuple[Size, Size]:
    """The size to scale to, and the size that is left after cutting the rest off around the center.

    ``width`` and ``height`` are the box; a side left out follows the aspect ratio.

    * ``contain``: the largest size of the same aspect ratio within the box.
    * ``inside``: the same, but never larger than the picture is, also with ``enlarge``.
    * ``outside``: the smallest size of the same aspect ratio that covers the box.
    * ``cover``: as ``outside``, then the rest is cut off.
    * ``fill``: exactly the box, whatever the aspect ratio and ``enlarge`` say.

    Without ``enlarge`` the scale is never above 1 (but for ``fill``); a ``cover`` is then smaller than the box
    where the picture is.

    >>> fitted(Size(1200, 800), 256, 256, "contain", enlarge=False)[1]
    Size(width=256, height=171)
    >>> fitted(Size(1200, 800), 256, 256, "cover", enlarge=False)
    (Size(width=384, height=256), Size(width=256, height=256))
    """
    by_width = (width, size.width) if width is not None else None
    by_height = (height, size.height) if height is not None else None
    scales = [scale for scale in (by_width, by_height) if scale is not None]
    if not scales:
        return size, size
    if fit == "fill":
        exact = Size(
            width if width is not None else _times(size.width, *scales[0]),
            height if height is not None else _times(size.height, *scales[0]),
        )
        return exact, exact
    larger = max(scales, key=lambda scale: scale[0] / scale[1])
    smaller = min(scales, key=lambda scale: scale[0] / scale[1])
    numerator, denominator = larger if fit in ("cover", "outside") else smaller
    if numerator >= denominator and (not enlarge or fit == "inside"):
        numerator = denominator
    whole = Size(_times(size.width, numerator, denominator), _times(size.height, numerator, denominator))
    if fit != "cover":
        return whole, whole
    return whole, Size(
        whole.width if width is None else min(width, whole.width),
        whole.height if height is None else min(height, whole.height),
    )


def placed(outer: Size, inner: Size, position: Position, margin: int = 0) -> tuple[int, int]:
    """The upper left corner of ``inner`` within ``outer``, ``margin`` pixels from its edges; half pixels go up, left.

    Negative where ``inner`` is larger than ``outer``.

    >>> placed(Size(100, 80), Size(21, 10), "bottom", margin=5)
    (39, 65)
    """
    x, y = (outer.width - inner.width) // 2, (outer.height - inner.height) // 2
    if "left" in position:
        x = margin
    elif "right" in position:
        x = outer.width - margin - inner.width
    if "top" in position:
        y = margin
    elif "bottom" in position:
        y = outer.height - margin - inner.height
    return x, y
