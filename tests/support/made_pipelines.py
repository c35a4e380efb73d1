"""Pipelines that hypothesis makes: every operation and format, with any values that their schemas allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from pixelmill import Pipeline
from pixelmill.images.encoders import ENDS
from pixelmill.images.metadata import MetadataOptions
from pixelmill.operations.arguments import schema
from pixelmill.operations.table import all_operations

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
HEX = st.text("0123456789abcdef", min_size=6, max_size=6) | st.text("0123456789abcdef", min_size=8, max_size=8)


def values(field: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a JSON schema of a parameter allows."""
    if "enum" in field:
        return st.sampled_from(field["enum"])
    if field.get("format") == "color" or "pattern" in field:
        return HEX if field.get("format") == "color" else HEX.filter(lambda text: len(text) == 6)
    if field.get("format") == "image":
        return PRINTABLE
    kind = field["type"]
    if kind == "array":
        items = values(field["items"])
        if "enum" in field["items"]:
            return st.lists(items, min_size=1, max_size=9)
        return st.sampled_from([9, 25]).flatmap(lambda count: st.lists(items, min_size=count, max_size=count))
    if kind == "string":
        return PRINTABLE
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(field["minimum"], field["maximum"])
    assert kind == "number"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    floats = st.floats(low, field["maximum"], exclude_min="exclusiveMinimum" in field)
    return floats | floats.map(math.floor).filter(lambda whole: whole > low)


@st.composite
def arguments(draw: st.DrawFn, model: type[BaseModel]) -> dict[str, Any]:
    page = schema(model)
    required = set(page.get("required", ()))
    chosen = {
        name: draw(values(field))
        for name, field in page["properties"].items()
        if name in required or draw(st.booleans())
    }
    if model.__name__ == "Resize" and not {"width", "height"} & set(chosen):
        chosen["height"] = draw(st.integers(1, 9000))
    if model.__name__ == "Resize" and "kernel" in chosen:
        chosen = _without(chosen, "interpolation")
    if model.__name__ == "RemoveBackground" and chosen.get("result") == "image":
        chosen.setdefault("image", "behind.png")
    if model.__name__ == "Caption" and "device" in chosen:
        chosen["device"] = draw(st.sampled_from(("auto", "cpu", "cuda", "cuda:1", "mps")))
    if model.__name__ == "Canny":
        low, high = sorted((chosen.get("low", 100), chosen.get("high", 200)))
        chosen |= {"low": low, "high": high}
    if model.__name__ == "Crop":
        chosen = _without(chosen, "x", "y") if "gravity" in chosen else {"x": 0, "y": 0} | chosen
    if model.__name__ == "Pad":
        chosen = _without(chosen, "left", "top", "right", "bottom")
        chosen |= {} if {"width", "height"} & set(chosen) else {"left": draw(st.integers(1, 9000))}
    if model.__name__ == "WebpOptions" and chosen.get("lossless"):
        chosen = _without(chosen, "max_bytes")
    if model.__name__ == "Perspective":  # a convex quadrilateral for any four shares
        near, far = st.floats(0, 20, width=32), st.floats(80, 100, width=32)
        places = {"x1": near, "y1": near, "x2": far, "y2": near, "x3": far, "y3": far, "x4": near, "y4": far}
        chosen |= {name: draw(places[name]) for name in places}
    return chosen


def _without(chosen: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if name not in names}


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    pipeline = Pipeline()
    for cls in draw(st.lists(st.sampled_from(all_operations()), max_size=6)):
        pipeline = pipeline.then(cls.name, **draw(arguments(cls)))
    if draw(st.booleans()):
        fmt = draw(st.sampled_from(sorted(ENDS)))
        pipeline = pipeline.format(fmt, **draw(arguments(ENDS[fmt])))
    if draw(st.booleans()):
        pipeline = pipeline.frame(draw(st.integers(0, 65_535)))
    if draw(st.booleans()):
        options = {"policy": "keep"} | draw(arguments(MetadataOptions))
        pipeline = pipeline.metadata(options.pop("policy"), **options)
    return pipeline
