"""The families of models: how a picture becomes what a model takes, and what a model gives becomes a result.

For salient-object models this is what rembg does for each of them, to the same library calls, so that the same weights
give the same mask: Pillow's Lanczos filter both ways, division by the brightest sample, mean and deviation of the
family, the first output stretched to its full range. Pure functions; Pillow alone is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from pixelmill.models.registry import Task

RGB: TypeAlias = NDArray[np.uint8]
"""``H×W×3``."""

Runtime: TypeAlias = Literal["onnxruntime", "opencv", "torch"]
"""The library that runs a family."""

_ROUNDED = 0.1
"""How far from 1 rounded probabilities may come in sum."""
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that take and give the same.

    ``side``: of the square that goes in, where weights don't say it; ``stride``: what an image needs at least a side.
    ``mean`` and ``std`` are of samples from 0 to 1. ``by_brightest``: divided by the brightest sample instead of 255.
    ``sigmoid``: the output is logits. ``crop``: the part of the picture, in the middle, that is looked at.
    """

    name: str
    task: Task
    runtime: Runtime = "onnxruntime"
    side: int = 224
    stride: int = 32
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    by_brightest: bool = False
    sigmoid: bool = False
    crop: float = 1.0


def _salient(
    name: str,
    side: int,
    mean: tuple[float, float, float] = _IMAGENET_MEAN,
    std: tuple[float, float, float] = _IMAGENET_STD,
    *,
    sigmoid: bool = False,
) -> Family:
    return Family(name, "segmentation", side=side, mean=mean, std=std, by_brightest=True, sigmoid=sigmoid)


_ROWS = (
    _salient("u2net", 320),
    _salient("isnet", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    _salient("isnet-anime", 1024, std=(1.0, 1.0, 1.0)),
    _salient("birefnet", 1024, sigmoid=True),
    _salient("bria-rmbg", 1024),
    Family("imagenet", "classification", mean=_IMAGENET_MEAN, std=_IMAGENET_STD, crop=0.875),
    Family("mobilenet-tf", "classification", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=0.875),
    Family(
        "efficientnet-lite",
        "classification",
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        crop=0.875,
    ),
    Family("yunet", "faces", runtime="opencv", side=640),
    Family("blip", "caption", runtime="torch", side=384),
)
FAMILIES: Mapping[str, Family] = {row.name: row for row in _ROWS}
"""Every family by name. bria-rmbg has no row in the registry (its weights forbid commercial use); a checkpoint of the
user's own may be of it."""


def guessed(task: Task, shape: tuple[int, ...]) -> Family | None:
    """The family of weights that don't tell, by what they take; None where there is none for that task.

    1,024 pixels a side are taken for IS-Net, as rembg takes them for weights of the user's own.
    """
    if task == "segmentation":
        return FAMILIES["isnet" if max(shape) > 512 else "u2net"]
    if task == "classification":
        return FAMILIES["efficientnet-lite" if shape[-1] == 3 else "imagenet"]
    return next((row for row in _ROWS if row.task == task and row.runtime != "torch"), None)


def salient_input(family: Family, rgb: RGB, side: int) -> NDArray[np.float32]:
    """``3×side×side``: what a salient-object model takes."""
    small = np.array(Pil.fromarray(rgb).resize((side, side), Pil.Resampling.LANCZOS))
    samples = small / max(float(small.max()), 1e-6)
    return _standardized(family, samples).transpose(2, 0, 1).astype(np.float32)


def salient_mask(family: Family, output: NDArray[Any], width: int, height: int) -> NDArray[np.uint8]:
    """``height×width``, 255 where the object is: from ``1×side×side``, stretched to its full range.

    An output that is the same everywhere tells nothing apart, and gives an empty mask.
    """
    samples: NDArray[np.float32] = output.reshape(output.shape[-2:]).astype(np.float32)
    if family.sigmoid:
        samples = np.asarray((1 + np.tanh(samples / 2)) / 2, np.float32)  # the same, and never overflows
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low:
        return np.zeros((height, width), np.uint8)
    levels = ((samples - low) / (high - low) * 255).astype(np.uint8)
    return np.asarray(Pil.fromarray(levels).resize((width, height), Pil.Resampling.LANCZOS))


def classifier_input(family: Family, rgb: RGB, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """What a classifier takes: the middle of the picture, scaled, channels first or last as ``shape`` says.

    Weights that take bytes (quantized ones) get them as they are.
    """
    channels_last = shape[-1] == 3
    side_y, side_x = shape[:2] if channels_last else shape[1:]
    height, width = rgb.shape[:2]
    edge = max(1, round(min(height, width) * family.crop))
    left, top = (width - edge) // 2, (height - edge) // 2
    middle = Pil.fromarray(np.ascontiguousarray(rgb[top : top + edge, left : left + edge]))
    small = np.array(middle.resize((side_x, side_y), Pil.Resampling.BILINEAR))
    if dtype != "uint8":
        small = _standardized(family, small / 255).astype(dtype)
    return small if channels_last else np.ascontiguousarray(small.transpose(2, 0, 1))


def captioner_input(rgb: RGB, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """``side×side×3``: the whole picture, as BLIP's processor squeezes it; the model standardizes it."""
    return np.array(Pil.fromarray(rgb).resize((shape[1], shape[0]), Pil.Resampling.BICUBIC))


def class_scores(output: NDArray[Any], scale: float = 0.0) -> NDArray[np.float64] | None:
    """From 0 to 1, in sum 1: probabilities as they are, logits through softmax.

    Of bytes, those that come to about 256 are probabilities; others are logits of ``scale`` a level, and None where
    that is 0: what they mean is not known then.
    """
    quantized = output.dtype == np.uint8
    samples = output.ravel().astype(np.float64)
    total, whole = float(samples.sum()), 256.0 if quantized else 1.0
    if samples.min() >= 0 and abs(total / whole - 1) < _ROUNDED:
        return samples / total
    if quantized and not scale:
        return None
    powers = np.exp((samples - samples.max()) * (scale or 1.0))
    return np.asarray(powers / powers.sum())


def _standardized(family: Family, samples: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((samples - np.array(family.mean)) / np.array(family.std))
