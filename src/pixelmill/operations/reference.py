"""The reference of operations and output formats as Markdown, from the parameter models, for ``docs/operations.md``.

``python -m pixelmill.operations.reference > docs/operations.md``
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pixelmill.images.encoders import OPTIONS
from pixelmill.operations.arguments import allowed
from pixelmill.operations.table import all_operations

_HEAD = """# Operations

<!-- Made by `python -m pixelmill.operations.reference > docs/operations.md`; a test holds it up to date. -->

Every operation and its parameters, in the order in which the text form takes them by position. How pipelines are
written is told in [pipelines.md](pipelines.md). In parentheses stands how exact the example is: cv2-exact, the same as
the OpenCV call to the bit; self-exact, defined by Pixelmill and always the same; approximate, a little is traded for
speed.
"""

EXAMPLES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resize": ("resize:256,256,fit=cover", {"width": 256, "height": 256, "fit": "cover"}),
    "crop": ("crop:10,20,300,200", {"x": 10, "y": 20, "width": 300, "height": 200}),
    "rotate": ("rotate:12.5,background=ffffff", {"angle": 12.5, "background": "ffffff"}),
    "flip": ("flip:horizontal", {"direction": "horizontal"}),
    "grayscale": ("grayscale", {}),
    "brightness": ("brightness:0.1", {"amount": 0.1}),
    "contrast": ("contrast:1.3", {"factor": 1.3}),
    "gamma": ("gamma:2.2", {"gamma": 2.2}),
    "invert": ("invert", {}),
    "gaussian": ("gaussian:2.5", {"sigma": 2.5}),
    "sharpen": ("sharpen:0.5", {"amount": 0.5}),
    "canny": ("canny:50,150", {"low": 50, "high": 150}),
    "sketch": ("sketch:none", {"denoise": "none"}),
    "watermark": ("watermark:logo.png,position=top-left", {"image": "logo.png", "position": "top-left"}),
    "watershed": ("watershed:count", {"mode": "count"}),
    "components": ("components:labels,min_area=20", {"mode": "labels", "min_area": 20}),
    "grabcut": ("grabcut:0.1", {"margin": 0.1}),
    "faces": ("faces:blur", {"mode": "blur"}),
    "features": ("features:sift,count=200", {"method": "sift", "count": 200}),
    "match": ("match:other.jpg,draw=false", {"image": "other.jpg", "draw": False}),
    "codes": ("codes", {}),
    "info": ("info", {}),
    "histogram": ("histogram:16", {"bins": 16}),
    "colors": ("colors:3", {"k": 3}),
    "phash": ("phash", {}),
    "blurhash": ("blurhash:5,4", {"x": 5, "y": 4}),
    "sharpness": ("sharpness", {}),
}
"""One use of each operation: its text form as it is printed, and its parameters."""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    for cls in all_operations():
        example, arguments = EXAMPLES[cls.name]
        parts.append(f"## `{cls.name}`\n\n{inspect.cleandoc(cls.__doc__ or '')}\n")
        tier = cls(**arguments).facts().tier
        parts.append(f"Example: `{example}` ({tier}). Family: {cls.family}.\n")
        parts.extend(_parameters(cls))
    parts.append("## Output formats\n\nThe last step, `format:NAME`, takes these options.\n")
    for name, options in OPTIONS.items():
        parts.append(f"### `format:{name}`\n")
        parts.extend(_parameters(options))
    return "\n".join(parts)


def _parameters(model: type[BaseModel]) -> Iterator[str]:
    if not model.model_fields:
        yield "No parameters.\n"
        return
    rows = ["| parameter | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        default = (
            "required" if field.is_required() else "not set" if field.default is None else f"`{_plain(field.default)}`"
        )
        rows.append(f"| `{name}` | {allowed(model, name)} | {default} | {field.description} |")
    yield "\n".join(rows) + "\n"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
