"""The table of operations. A family's module is loaded when one of its operations is first asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping

from pixelmill.errors import UnknownOperation
from pixelmill.operations.operation import Operation

TABLE: Mapping[str, tuple[str, str]] = {
    "resize": ("pixelmill.operations.geometry", "Resize"),
    "crop": ("pixelmill.operations.geometry", "Crop"),
    "rotate": ("pixelmill.operations.turning", "Rotate"),
    "flip": ("pixelmill.operations.turning", "Flip"),
    "smart_crop": ("pixelmill.operations.framing", "SmartCrop"),
    "pad": ("pixelmill.operations.framing", "Pad"),
    "trim": ("pixelmill.operations.trimming", "Trim"),
    "perspective": ("pixelmill.operations.perspective", "Perspective"),
    "grayscale": ("pixelmill.operations.color", "Grayscale"),
    "brightness": ("pixelmill.operations.color", "Brightness"),
    "contrast": ("pixelmill.operations.color", "Contrast"),
    "gamma": ("pixelmill.operations.color", "Gamma"),
    "invert": ("pixelmill.operations.color", "Invert"),
    "saturation": ("pixelmill.operations.color", "Saturation"),
    "hue": ("pixelmill.operations.color", "Hue"),
    "sepia": ("pixelmill.operations.color", "Sepia"),
    "tint": ("pixelmill.operations.color", "Tint"),
    "autocontrast": ("pixelmill.operations.tones", "Autocontrast"),
    "equalize": ("pixelmill.operations.tones", "Equalize"),
    "clahe": ("pixelmill.operations.tones", "Clahe"),
    "white_balance": ("pixelmill.operations.tones", "WhiteBalance"),
    "posterize": ("pixelmill.operations.color", "Posterize"),
    "quantize": ("pixelmill.operations.palette", "Quantize"),
    "threshold": ("pixelmill.operations.tones", "Threshold"),
    "colormap": ("pixelmill.operations.palette", "Colormap"),
    "gaussian": ("pixelmill.operations.filters", "Gaussian"),
    "sharpen": ("pixelmill.operations.filters", "Sharpen"),
    "box": ("pixelmill.operations.filters", "Box"),
    "median": ("pixelmill.operations.smoothing", "Median"),
    "bilateral": ("pixelmill.operations.smoothing", "Bilateral"),
    "unsharp": ("pixelmill.operations.filters", "Unsharp"),
    "emboss": ("pixelmill.operations.filters", "Emboss"),
    "denoise": ("pixelmill.operations.smoothing", "Denoise"),
    "convolve": ("pixelmill.operations.filters", "Convolve"),
    "canny": ("pixelmill.operations.edges", "Canny"),
    "sobel": ("pixelmill.operations.edges", "Sobel"),
    "scharr": ("pixelmill.operations.edges", "Scharr"),
    "laplacian": ("pixelmill.operations.edges", "Laplacian"),
    "erode": ("pixelmill.operations.morphology", "Erode"),
    "dilate": ("pixelmill.operations.morphology", "Dilate"),
    "opening": ("pixelmill.operations.morphology", "Opening"),
    "closing": ("pixelmill.operations.morphology", "Closing"),
    "morph_gradient": ("pixelmill.operations.morphology", "MorphGradient"),
    "sketch": ("pixelmill.operations.artistic", "Sketch"),
    "cartoon": ("pixelmill.operations.artistic", "Cartoon"),
    "pixelate": ("pixelmill.operations.artistic", "Pixelate"),
    "vignette": ("pixelmill.operations.artistic", "Vignette"),
    "watermark": ("pixelmill.operations.composition", "Watermark"),
    "text": ("pixelmill.operations.lettering", "Text"),
    "border": ("pixelmill.operations.frames", "Border"),
    "round_corners": ("pixelmill.operations.frames", "RoundCorners"),
    "watershed": ("pixelmill.operations.segmentation", "Watershed"),
    "components": ("pixelmill.operations.segmentation", "Components"),
    "grabcut": ("pixelmill.operations.segmentation", "Grabcut"),
    "remove_background": ("pixelmill.operations.background", "RemoveBackground"),
    "faces": ("pixelmill.operations.detection", "Faces"),
    "features": ("pixelmill.operations.detection", "Features"),
    "match": ("pixelmill.operations.detection", "MatchImages"),
    "codes": ("pixelmill.operations.detection", "Codes"),
    "classify": ("pixelmill.operations.recognition", "Classify"),
    "auto_tag": ("pixelmill.operations.recognition", "AutoTag"),
    "caption": ("pixelmill.operations.captioning", "Caption"),
    "info": ("pixelmill.operations.analysis", "Info"),
    "histogram": ("pixelmill.operations.analysis", "Histogram"),
    "colors": ("pixelmill.operations.analysis", "Colors"),
    "phash": ("pixelmill.operations.analysis", "Phash"),
    "blurhash": ("pixelmill.operations.analysis", "Blurhash"),
    "sharpness": ("pixelmill.operations.analysis", "Sharpness"),
}
"""Name to module and class, in the order of help and docs."""


STEPS: Mapping[str, str] = {
    "frame": "frame:N, the first one, takes one frame of an animation, or one page",
    "metadata": "metadata:strip, keep or copyright stands at the end, beside format",
    "preset": "preset:NAME stands for the steps of a pipeline with a name; `pixelmill presets` lists all",
    "format": "format:NAME, the last one, says how the result is written; `pixelmill formats` lists all",
}
"""Words of pipelines that are asked for as if they were operations."""


@functools.cache  # bounded by the table
def _load(name: str) -> type[Operation]:
    module, cls = TABLE[name]
    loaded: type[Operation] = getattr(importlib.import_module(module), cls)
    return loaded


def operation_named(name: str) -> type[Operation]:
    """The class of that operation; raises :class:`UnknownOperation` with the nearest names."""
    if name in TABLE:
        return _load(name)
    if name in STEPS:
        raise UnknownOperation(f"{name} is a step beside the operations: {STEPS[name]}.", operation=name, nearest=[])
    nearest = nearest_names(name)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    raise UnknownOperation(
        f"There is no operation {name[:80]!r}.{hint} `pixelmill operations` lists all.",
        operation=name[:80],
        nearest=nearest,
    )


def nearest_names(name: str) -> list[str]:
    """At most three names that look or start alike, the nearest first."""
    key = name[:80].lower()
    if key in TABLE:
        return [key]
    longer = [known for known in TABLE if len(key) >= 3 and known.startswith(key)]
    alike = difflib.get_close_matches(key, TABLE, n=3, cutoff=0.5)
    return list(dict.fromkeys(longer + alike))[:3]


def all_operations() -> tuple[type[Operation], ...]:
    """Every operation, in the table's order; loads all families."""
    return tuple(_load(name) for name in TABLE)
