"""The reference of operations and output formats as Markdown, from the parameter models, for ``docs/operations.md``.

``python -m pixelmill.operations.reference > docs/operations.md``
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from pixelmill.images.encoders import ENDS
from pixelmill.operations.arguments import allowed
from pixelmill.operations.table import all_operations

_HEAD = """# Operations

<!-- Made by `python -m pixelmill.operations.reference > docs/operations.md`; a test holds it up to date. -->

Every operation and its parameters, in the order in which the text form takes them by position. How pipelines are
written is told in [pipelines.md](pipelines.md), how fast they are in [throughput.md](throughput.md). Each picture shows
the example below it, before and after; `python docs/images/operations.py` makes them. In parentheses stands how exact
the example is: cv2-exact, the same as the OpenCV call to the bit; self-exact, defined by Pixelmill and always the same;
approximate, a little is traded for speed.
"""

EXAMPLES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resize": ("resize:150,150,fit=cover", {"width": 150, "height": 150, "fit": "cover"}),
    "crop": ("crop:90,10,160,120", {"x": 90, "y": 10, "width": 160, "height": 120}),
    "rotate": ("rotate:12.5,background=ffffff", {"angle": 12.5, "background": "ffffff"}),
    "flip": ("flip:horizontal", {"direction": "horizontal"}),
    "smart_crop": ("smart_crop:120,90", {"width": 120, "height": 90}),
    "pad": ("pad:400,300,background=cfe0f0", {"width": 400, "height": 300, "background": "cfe0f0"}),
    "trim": ("trim:0.1", {"tolerance": 0.1}),
    "perspective": (
        "perspective:62,20,238,44,254,172,26,160,width=240,height=168",
        {"x1": 62, "y1": 20, "x2": 238, "y2": 44, "x3": 254, "y3": 172, "x4": 26, "y4": 160}
        | {"width": 240, "height": 168},
    ),
    "grayscale": ("grayscale", {}),
    "brightness": ("brightness:0.15", {"amount": 0.15}),
    "contrast": ("contrast:1.8", {"factor": 1.8}),
    "gamma": ("gamma:2.2", {"gamma": 2.2}),
    "invert": ("invert", {}),
    "saturation": ("saturation:2", {"factor": 2}),
    "hue": ("hue:90", {"angle": 90}),
    "sepia": ("sepia:0.8", {"amount": 0.8}),
    "tint": ("tint:ff8800,0.6", {"color": "ff8800", "amount": 0.6}),
    "autocontrast": ("autocontrast:1", {"cutoff": 1}),
    "equalize": ("equalize", {}),
    "clahe": ("clahe:3", {"clip": 3}),
    "white_balance": ("white_balance:white-patch", {"method": "white-patch"}),
    "posterize": ("posterize:5", {"levels": 5}),
    "quantize": ("quantize:8,dither=false", {"colors": 8, "dither": False}),
    "threshold": ("threshold:otsu", {"method": "otsu"}),
    "colormap": ("colormap:magma", {"map": "magma"}),
    "gaussian": ("gaussian:2.5", {"sigma": 2.5}),
    "sharpen": ("sharpen:1.5", {"amount": 1.5}),
    "box": ("box:3", {"radius": 3}),
    "median": ("median:2", {"radius": 2}),
    "bilateral": ("bilateral:0.25,4", {"sigma_color": 0.25, "sigma_space": 4}),
    "unsharp": ("unsharp:1.5,amount=2", {"sigma": 1.5, "amount": 2}),
    "emboss": ("emboss:0.8,light=left", {"strength": 0.8, "light": "left"}),
    "denoise": ("denoise:11", {"strength": 11}),
    "convolve": ("convolve:-1:-1:-1:-1:8:-1:-1:-1:-1", {"kernel": [-1, -1, -1, -1, 8, -1, -1, -1, -1]}),
    "canny": ("canny:50,150", {"low": 50, "high": 150}),
    "sobel": ("sobel:x,scale=0.5", {"direction": "x", "scale": 0.5}),
    "scharr": ("scharr:y,scale=0.25", {"direction": "y", "scale": 0.25}),
    "laplacian": ("laplacian:3", {"aperture": 3}),
    "erode": ("erode:2", {"radius": 2}),
    "dilate": ("dilate:2,shape=ellipse", {"radius": 2, "shape": "ellipse"}),
    "opening": ("opening:3", {"radius": 3}),
    "closing": ("closing:iterations=2", {"iterations": 2}),
    "morph_gradient": ("morph_gradient:2,shape=cross", {"radius": 2, "shape": "cross"}),
    "sketch": ("sketch:none", {"denoise": "none"}),
    "cartoon": ("cartoon:4,lines=2", {"passes": 4, "lines": 2}),
    "pixelate": ("pixelate:12", {"block": 12}),
    "vignette": ("vignette:0.6", {"strength": 0.6}),
    "watermark": ("watermark:logo.png,position=top-left", {"image": "logo.png", "position": "top-left"}),
    "text": ("text:Sunday~20morning,font_size=30", {"text": "Sunday morning", "font_size": 30}),
    "border": ("border:12,203040", {"thickness": 12, "color": "203040"}),
    "round_corners": ("round_corners:40", {"radius": 40}),
    "watershed": ("watershed:foreground=bright", {"foreground": "bright"}),
    "components": ("components:min_area=200", {"min_area": 200}),
    "grabcut": ("grabcut:0.1", {"margin": 0.1}),
    "remove_background": ("remove_background:flatten,color=cfe0f0", {"result": "flatten", "color": "cfe0f0"}),
    "faces": ("faces:blur", {"mode": "blur"}),
    "features": ("features:sift,count=200", {"method": "sift", "count": 200}),
    "match": ("match:other.jpg,count=150", {"image": "other.jpg", "count": 150}),
    "codes": ("codes:true,color=ff0000", {"draw": True, "color": "ff0000"}),
    "classify": ("classify:3", {"top": 3}),
    "auto_tag": ("auto_tag:0.2", {"score": 0.2}),
    "caption": ("caption:a~20photography~20of", {"prompt": "a photography of"}),
    "info": ("info", {}),
    "histogram": ("histogram:16", {"bins": 16}),
    "colors": ("colors:3", {"k": 3}),
    "phash": ("phash", {}),
    "blurhash": ("blurhash:5,4", {"x": 5, "y": 4}),
    "sharpness": ("sharpness", {}),
}
"""One use of each operation: its text form as it is printed, and its parameters."""

FORMAT_EXAMPLES: Mapping[str, str] = {
    "jpeg": "format:jpeg,quality=12",
    "webp": "format:webp,quality=5",
    "avif": "format:avif,quality=20",
    "gif": "format:gif,colors=8",
}
"""Output steps that change pixels, set so low that it is seen."""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    for cls in all_operations():
        example, arguments = EXAMPLES[cls.name]
        parts.append(f"## `{cls.name}`\n\n{inspect.cleandoc(cls.__doc__ or '')}\n")
        parts.append(f"![{cls.name}, before and after](images/operations/{cls.name}.webp)\n")
        tier = cls(**arguments).facts().tier
        parts.append(f"Example: `{example}` ({tier}). Family: {cls.family}.\n")
        parts.extend(_parameters(cls))
    parts.append("## Output formats\n\nThe last step, `format:NAME`, takes these options.\n")
    for name, options in ENDS.items():
        parts.append(f"### `format:{name}`\n")
        if name in FORMAT_EXAMPLES:
            text = f"`{FORMAT_EXAMPLES[name]}`, three times enlarged"
            parts.append(f"![{name}, before and after](images/operations/format-{name}.webp)\n\nShown: {text}.\n")
        parts.extend(_parameters(options))
    return "\n".join(parts)


def _parameters(model: type[BaseModel]) -> Iterator[str]:
    if not model.model_fields:
        yield "No parameters.\n"
        return
    rows = ["| parameter | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(field.default)
        rows.append(f"| `{name}` | {allowed(model, name)} | {default} | {field.description} |")
    yield "\n".join(rows) + "\n"


def _default(value: object) -> str:
    return "not set" if value is None else "empty" if value == "" else f"`{_plain(value)}`"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(reference())
