"""Removing the background: a salient-object model, or GrabCut without one, tells what stands in front.

Pixels of what stays keep their values; what is cut away is gone from the result, not merely transparent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from pixelmill.errors import InvalidParameter, NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.models import onnx
from pixelmill.models.families import FAMILIES, salient_input, salient_mask
from pixelmill.models.model import Model, Wanted
from pixelmill.models.registry import REGISTRY
from pixelmill.operations import matting
from pixelmill.operations.blending import over
from pixelmill.operations.drawing import in_color, rgb8_of
from pixelmill.operations.fit import fitted, placed
from pixelmill.operations.operation import Facts, Lack, Operation, Step
from pixelmill.operations.parameters import Color, ImageParameter, ModelParameter
from pixelmill.operations.pixels import channels_of_color, filtered, fit_depth, full_scale
from pixelmill.operations.resample import resample
from pixelmill.operations.segmentation import object_in, with_alpha

DEFAULT_MODEL = "u2netp"
LEAST_SIDE = FAMILIES["u2net"].stride
"""The coarsest map of the models has a cell for so many pixels: a smaller picture shows them nothing."""
_MARGIN = 0.05
_ROUNDS = 5
_HALF = 128
_SEEN = 0.1
"""Transparency from which a pixel belongs to the subject that is cut to."""

Result = Literal["cutout", "flatten", "image", "mask"]


class RemoveBackground(Operation):
    """Cut what stands in front out of its background, by a learned model; or by GrabCut, which needs none.

    method=model runs a salient-object model of the rembg family (U2-Net, IS-Net, BiRefNet) as rembg does. grabcut takes
    what touches the outermost twentieth for background (Rother et al. 2004). cutout leaves transparency, flatten puts a
    color behind, image another picture, scaled to cover; mask is white where the object is. matting finds the
    transparency of hair, and its own color, along the edge (Levin et al. 2008). threshold makes the edge hard, feather
    soft. crop cuts to the subject. The data tell the model, the box of what is kept, and its share of the image.
    """

    name: ClassVar[str] = "remove_background"
    family: ClassVar[str] = "learned"
    summary: ClassVar[str] = "Cut what stands in front out of its background"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "flatten"

    result: Result = Field(default="cutout", description="What comes out")
    model: ModelParameter = Field(default=DEFAULT_MODEL, description="The model")
    method: Literal["model", "grabcut"] = Field(default="model", description="How the object is found")
    color: Color = Field(
        default="ffffff", description="flatten: what is put behind; image: behind its transparent parts"
    )
    image: ImageParameter | SkipJsonSchema[None] = Field(
        default=None, description="image: the picture that is put behind: a path, a URI, or sha256:HEX of stored bytes"
    )
    matting: bool = Field(default=False, description="Work out the transparency and the colors of soft edges")
    threshold: float = Field(
        default=0,
        ge=0,
        le=1,
        description="Share of the mask from which a pixel is kept whole, and below which it goes; 0: as the mask says",
    )
    feather: float = Field(
        default=0, ge=0, le=100, description="How far the edge is softened", json_schema_extra={"unit": "pixels"}
    )
    crop: bool = Field(default=False, description="Cut to the subject")
    margin: int = Field(
        default=0, ge=0, le=4_096, description="crop: what is left around it", json_schema_extra={"unit": "pixels"}
    )

    def model_post_init(self, context: Any, /) -> None:
        """Refuse result=image without an image."""
        del context
        if self.result == "image" and self.image is None:
            raise InvalidParameter(
                "remove_background: result=image needs the image that is put behind, such as image=beach.jpg.",
                operation="remove_background",
                parameter="image",
                allowed="an image: a path, a URI, or sha256:HEX",
            )

    def facts(self) -> Facts:
        """A run of the model, of the same cost whatever the size, and a mask over the whole image."""
        if self.method == "grabcut":
            return Facts("whole", "self-exact", ns_per_pixel=150.0 * _ROUNDS, memory_factor=33.0)
        entry = REGISTRY.get(self.model if isinstance(self.model, str) else self.model.nature.name)
        seconds, memory = (entry.seconds, entry.memory) if entry else (1.0, 500_000_000)
        if self.matting:
            seconds, memory = seconds + 4.0, memory + 450_000_000
        return Facts(
            "whole", "approximate", ns_per_pixel=20.0, memory_factor=4.0, fixed_seconds=seconds, fixed_bytes=memory
        )

    def size(self, size: Size) -> Size:
        """The same; raises :class:`NotApplicable` where it is smaller than a model can see."""
        if self.method == "model":
            check_side(size, "remove_background")
        return size

    def channels(self, channels: int) -> int:
        """RGBA, gray, or what the background makes of it."""
        if self.result == "cutout":
            return 4
        return 1 if self.result == "mask" else _behind(self).channels(channels)

    def parts(self) -> tuple[Operation, ...]:
        """With crop: what is found, cut to the subject, and put onto its background, one after the other."""
        if not self.crop:
            return (self,)
        found = self.model_copy(update={"crop": False, "result": "mask" if self.result == "mask" else "cutout"})
        subject = Subject(margin=self.margin)
        return (found, subject) if self.result in {"cutout", "mask"} else (found, subject, _behind(self))

    def images(self) -> tuple[str, ...]:
        """The reference of the background, until it is replaced by pixels."""
        return (self.image,) if self.result == "image" and isinstance(self.image, str) else ()

    def with_images(self, images: Mapping[str, Image | str]) -> Operation:
        """With another reference, or pixels, for the background."""
        if not isinstance(self.image, str) or self.image not in images:
            return self
        return self.model_copy(update={"image": images[self.image]})

    def models(self) -> tuple[Wanted, ...]:
        """The model, unless GrabCut does it."""
        named = self.method == "model" and isinstance(self.model, str)
        return (Wanted(str(self.model), "segmentation"),) if named else ()

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """With the model in place of its name."""
        found = models.get(self.model) if isinstance(self.model, str) else None
        return self if found is None else self.model_copy(update={"model": found})

    def lacks(self) -> tuple[Lack, ...]:
        """The extra, where a model or matting needs it."""
        needs_runtime = self.method == "model" and not onnx.is_installed()
        if needs_runtime or (self.matting and not matting.is_installed()):
            return (Lack("remove_background needs the extra ml", onnx.COMMAND),)
        return ()

    def apply(self, image: Image) -> Step:
        """Find, cut, and put on what was asked for."""
        if self.crop:
            return _one_after_the_other(self.parts(), image)
        self.size(image.size)
        rgb = rgb8_of(image)
        mask = self._mask(image, rgb)
        if self._is_plain(image):
            return self._plainly(image, rgb, mask)
        matte = matting.matte(rgb, mask) if self.matting else None
        shows = np.divide(mask, np.float32(255), dtype=np.float32) if matte is None else matte.alpha
        found = image if matte is None else _recolored(image, matte.colors, shows)
        shows = self._edge(shows)
        data = {**self._told(), **_extent(shows), **({"matting": matte is not None} if self.matting else {})}
        if self.result == "mask":
            return Step(Image(fit_depth(shows * full_scale(image.pixels.dtype), image.pixels.dtype)), data)
        cut = _emptied(with_alpha(found, shows))
        if self.result == "cutout":
            return Step(cut, data)
        return Step(_behind(self).apply(cut).image, data)

    def _is_plain(self, image: Image) -> bool:
        """Whether the mask, as it is, is the transparency that comes out: most pictures, and no floats are needed."""
        return (
            not (self.matting or self.threshold or self.feather or image.has_alpha) and image.pixels.dtype == np.uint8
        )

    def _plainly(self, image: Image, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Step:
        """The same as the long way, in bytes."""
        x, y, width, height = cv2.boundingRect((mask >= _HALF).astype(np.uint8))
        share = round(float(cv2.mean(mask)[0]) / 255, 4)
        data = {**self._told(), "box": [x, y, width, height] if width else None, "share": share}
        if self.result == "mask":
            return Step(Image(mask), data)
        cut = cv2.cvtColor(cv2.bitwise_and(rgb, rgb, mask=mask), cv2.COLOR_RGB2RGBA)
        cut[..., 3] = mask
        whole = Image(cut, image.icc if image.channels > 1 else None)
        return Step(whole if self.result == "cutout" else _behind(self).apply(whole).image, data)

    def _mask(self, image: Image, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """255 where the object is."""
        width, height = image.size
        if self.method == "grabcut":
            margin = max(1, round(_MARGIN * min(image.size)))
            shows = object_in(image, (margin, margin, max(0, width - 2 * margin), max(0, height - 2 * margin)), _ROUNDS)
            return (shows * 255 + 0.5).astype(np.uint8)
        if isinstance(self.model, str):
            raise NotApplicable(f"remove_background: the model {self.model} was not loaded.", operation=self.name)
        nature = self.model.nature
        family = FAMILIES[nature.family]
        outputs = self.model.run(salient_input(family, rgb, nature.shape[-1]))
        return salient_mask(family, outputs[0], width, height)

    def _edge(self, shows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Hard at the threshold, then softened."""
        if self.threshold:
            shows = (shows >= self.threshold).astype(np.float32)
        if self.feather:
            shows = cv2.GaussianBlur(shows, (0, 0), self.feather, borderType=cv2.BORDER_REPLICATE)
        return shows

    def _told(self) -> dict[str, Any]:
        if self.method == "grabcut":
            return {"method": "grabcut"}
        return {"method": "model", "model": self.model if isinstance(self.model, str) else self.model.nature.name}


class Subject(Operation):
    """Cut to what is not transparent (of a mask: not black). A part of ``remove_background``, not in the table."""

    name: ClassVar[str] = "subject"
    family: ClassVar[str] = "learned"
    summary: ClassVar[str] = "Cut to the subject"
    sized_by_pixels: ClassVar[bool] = True
    frames_agree: ClassVar[Literal["first", "union", "settled"] | None] = "union"

    margin: int = 0

    def facts(self) -> Facts:
        """Looks at every pixel."""
        return Facts("whole", "self-exact", ns_per_pixel=0.3, memory_factor=1.3)

    def apply(self, image: Image) -> Step:
        """Cut into memory of its own; an image with nothing in it stays whole."""
        x, y, width, height = self.box(image) or (0, 0, *image.size)
        part = np.ascontiguousarray(image.pixels[y : y + height, x : x + width])
        return Step(image.with_pixels(part), {"x": x, "y": y, "width": width, "height": height})

    def box(self, image: Image) -> tuple[int, int, int, int] | None:
        """The subject with its margin, within the image."""
        pixels: NDArray[Any] = image.pixels
        shows = pixels[..., 3] if image.has_alpha else pixels
        x, y, width, height = cv2.boundingRect((shows >= _SEEN * full_scale(pixels.dtype)).astype(np.uint8))
        if not width:
            return None
        left, top = max(0, x - self.margin), max(0, y - self.margin)
        right = min(image.size.width, x + width + self.margin)
        bottom = min(image.size.height, y + height + self.margin)
        return left, top, right - left, bottom - top


class Behind(Operation):
    """Put a color or a picture behind a cut-out. A part of ``remove_background``, not in the table."""

    name: ClassVar[str] = "behind"
    family: ClassVar[str] = "learned"
    summary: ClassVar[str] = "Put a background behind"

    color: Color = "ffffff"
    image: ImageParameter | None = None

    def facts(self) -> Facts:
        """Blends every pixel."""
        return Facts("whole", "self-exact", ns_per_pixel=6.0, memory_factor=3.0)

    def channels(self, channels: int) -> int:
        """RGB, or RGBA where the color says how transparent it is."""
        del channels
        return 4 if len(self.color) == 8 else 3

    def with_images(self, images: Mapping[str, Image | str]) -> Operation:
        """With pixels for the picture."""
        if not isinstance(self.image, str) or self.image not in images:
            return self
        return self.model_copy(update={"image": images[self.image]})

    def apply(self, image: Image) -> Step:
        """Blend; raises :class:`NotApplicable` while the picture is a mere reference."""
        pixels: NDArray[Any] = image.pixels
        width, height = image.size
        if self.image is None and len(self.color) == 6 and pixels.dtype == np.uint8:
            return Step(image.with_pixels(_on_color(pixels, bytes.fromhex(self.color))))
        *rgb, alpha = channels_of_color(self.color, pixels.dtype)
        color = (*rgb, alpha) if len(self.color) == 8 else tuple(rgb)
        below = np.empty((height, width, len(color)), pixels.dtype)
        below[:] = fit_depth(np.array(color, np.float32), pixels.dtype)
        if self.image is not None:
            if isinstance(self.image, str):
                raise NotApplicable(f"remove_background: {self.image!r} was not loaded.", operation="remove_background")
            below = _laid(_covering(in_color(self.image), image.size), below)
        return Step(image.with_pixels(_laid(pixels, below)))


def check_side(size: Size, name: str) -> None:
    """Raise :class:`NotApplicable` where an image is smaller than a model can see."""
    if min(size) < LEAST_SIDE:
        raise NotApplicable(
            f"{name}: the image has {size.width:,}×{size.height:,} pixels there; a model sees nothing in less than "
            f"{LEAST_SIDE} a side. Use a larger image, or put a resize with enlarge before it.",
            operation=name,
            size=list(size),
        )


def _behind(wanted: RemoveBackground) -> Behind:
    return Behind(color=wanted.color, image=wanted.image if wanted.result == "image" else None)


def _one_after_the_other(parts: tuple[Operation, ...], image: Image) -> Step:
    data: dict[str, Any] = {}
    for part in parts:
        image, found = part.apply(image)
        if found is not None:
            data = {**data, **found} if not data else {**data, part.name: found}
    return Step(image, data)


def _extent(shows: NDArray[np.float32]) -> dict[str, Any]:
    left, top, *sides = (int(value) for value in cv2.boundingRect((shows >= 0.5).astype(np.uint8)))
    return {"box": [left, top, *sides] if all(sides) else None, "share": round(float(shows.mean()), 4)}


def _emptied(image: Image) -> Image:
    """What is wholly transparent without its colors: they are gone, not hidden; in place."""
    pixels = image.pixels
    pixels[pixels[..., 3] == 0] = 0
    return image


def _recolored(image: Image, colors: NDArray[np.uint8], shows: NDArray[np.float32]) -> Image:
    """The image with the estimated colors where it is partly transparent."""
    base = in_color(image)
    pixels: NDArray[Any] = base.pixels.copy()
    soft = (shows > 0) & (shows < 1)
    pixels[soft, :3] = fit_depth(colors[soft] / 255.0 * full_scale(pixels.dtype), pixels.dtype)
    return base.with_pixels(pixels)


def _on_color(pixels: NDArray[np.uint8], color: bytes) -> NDArray[np.uint8]:
    """RGB of RGBA over a color, rounded to within one level: OpenCV's bytes are ten times as fast as exact floats."""
    alpha = np.ascontiguousarray(pixels[..., 3])
    front = cv2.multiply(
        cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB), cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255
    )
    through = 255 - np.arange(256)
    behind = [cv2.LUT(alpha, ((through * level + 127) // 255).astype(np.uint8)) for level in color]
    return np.asarray(cv2.add(front, cv2.merge(behind)))


def _covering(picture: Image, size: Size) -> NDArray[Any]:
    """The picture scaled to cover a size, its middle."""
    scaled, box = fitted(picture.size, size.width, size.height, "cover", enlarge=True)
    samples = filtered(picture.pixels, lambda pixels: resample(pixels, scaled, "lanczos"))
    x, y = placed(scaled, box, "center")
    return fit_depth(samples[y : y + box.height, x : x + box.width], picture.pixels.dtype)


def _laid(above: NDArray[Any], below: NDArray[Any]) -> NDArray[Any]:
    """RGB or RGBA of any depth over another, at the depth of the lower one."""
    if above.shape[2] == 3 and above.dtype == below.dtype and below.shape[2] == 3:
        return above
    colors = above[..., :3].astype(np.float32) / full_scale(above.dtype) * full_scale(below.dtype)
    alpha = (
        above[..., 3:].astype(np.float32) / full_scale(above.dtype)
        if above.shape[2] == 4
        else np.ones((*above.shape[:2], 1), np.float32)
    )
    return over(colors, alpha, below)
