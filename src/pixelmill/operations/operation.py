"""The contract of an operation: parameters, ``apply``, and what a planner must know.

An operation is a frozen pydantic model. Its class variables name and describe it; its methods are pure.
Adding one is one class in a family's file and one line in ``operations/table.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pixelmill.errors import NotTileable
from pixelmill.images.image import Image, Need, Size
from pixelmill.models.model import Model, Wanted
from pixelmill.operations.curves import map_samples
from pixelmill.operations.parameters import Font
from pixelmill.operations.passes import Array, Form, Map, Pass, Place

Kind = Literal[
    "pointwise",  # one pixel in, one pixel out
    "local",  # a neighbourhood of `halo` pixels
    "geometric",  # moves pixels, may change the size
    "reduction",  # a global statistic, then pointwise
    "border-merge",  # components that cross tile borders
    "whole",  # needs the whole image at once
    "analysis",  # leaves pixels alone, gives data
]
Tier = Literal["cv2-exact", "self-exact", "approximate"]


class Step(NamedTuple):
    """What an operation gives: an image, and data if it found something out."""

    image: Image
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is needed and not here, as a phrase, and the command that brings it (None: there is none)."""

    what: str
    command: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """As lists show it."""
        return {"what": self.what, "command": self.command}


@dataclass(frozen=True, slots=True)
class Facts:
    """Planning facts of an operation with its parameters.

    ``halo``: pixels of context on each side. ``ns_per_pixel``: CPU cost per input pixel and channel on one
    current core. ``memory_factor``: peak bytes of live temporaries, output included, per input byte.
    ``alpha_memory_factor``: the same for RGBA of 8 bits, where it is more: something transparent is worked on as
    premultiplied ``float32`` (per byte of 16 bits it is half of it). ``fixed_seconds`` and ``fixed_bytes``: what it
    costs beside that whatever the size, such as a run of a learned model.
    """

    kind: Kind
    tier: Tier
    halo: int = 0
    ns_per_pixel: float = 1.0
    memory_factor: float = 1.0
    alpha_memory_factor: float = 0.0
    fixed_seconds: float = 0.0
    fixed_bytes: int = 0


class Operation(BaseModel):
    """Base of all operations. Equality and hash are those of the parameters."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        defer_build=True,  # a validator takes a millisecond to build, and most operations of a family are not used
    )

    name: ClassVar[str]
    family: ClassVar[str]
    summary: ClassVar[str]
    """One line for help and docs, without a full stop."""
    positional: ClassVar[int] = 1
    """How many leading parameters the printed text form gives by position; reading takes any number."""

    example: ClassVar[str] = ""
    """Arguments in the text form, for help, docs and the first look of a form."""

    sized_by_pixels: ClassVar[bool] = False
    """True: what comes out depends on pixels, and ``size`` is only an upper bound.

    The planner then estimates the sizes of later steps, and the executor checks them against the limits.
    """

    output: ClassVar[Literal["image", "data", "both"]] = "image"
    """What it gives: an image, data alone (the image passes unchanged), or an image with data beside it.

    ``both`` may depend on parameters: with some there is data alone, or no data.
    """

    of_file: ClassVar[bool] = False
    """True: the executor adds to its data what metadata the source's file holds, as ``metadata``."""

    frames_agree: ClassVar[Literal["first", "union", "settled"] | None] = None
    """Where what comes out depends on pixels: how the frames of an animation come to one rectangle, or one finding.

    ``first``: the rectangle is that of the first frame; ``union``: it holds those of all frames. ``box`` gives it of
    each. ``settled``: the first frame decides, and ``settled`` is what is done to all.
    """

    def facts(self) -> Facts:
        """Kind, tier, halo and costs."""
        raise NotImplementedError

    def box(self, image: Image) -> tuple[int, int, int, int] | None:
        """x, y, width and height of what is cut out of a frame, None where nothing is found; see ``frames_agree``."""
        raise NotImplementedError

    def settled(self, image: Image) -> Operation:
        """What is done to all frames of an animation whose first one is ``image``; see ``frames_agree``."""
        raise NotImplementedError

    def describes(self) -> str | None:
        """Which of its data, a text, is to stand in the result's metadata as the description of the picture."""
        return None

    def size(self, size: Size) -> Size:
        """The size that comes out when an image of ``size`` goes in; raises :class:`NotApplicable`."""
        return size

    def channels(self, channels: int) -> int:
        """How many channels come out when ``channels`` go in; for estimates."""
        return channels

    def need(self, after: Need, size: Size) -> Need:
        """What must go in (an image nominally of ``size``) so that ``after`` can come out.

        The default is safe: every pixel, in color.
        """
        del after, size
        return Need()

    def resolve(self, size: Size) -> tuple[Operation, ...]:
        """Equivalent operations with absolute geometry, for an image nominally of ``size``.

        A decoder may hand over a reduced image; after ``resolve`` the result has the size that the full image
        would have given.
        """
        del size
        return self.parts()

    def parts(self) -> tuple[Operation, ...]:
        """Equivalent operations at any size."""
        return (self,)

    def images(self) -> tuple[str, ...]:
        """References of the image parameters (a path, a URI, or ``sha256:HEX``), in field order."""
        return ()

    def with_images(self, images: Mapping[str, Image | str]) -> Operation:
        """A copy whose references are replaced by other references or by pixels."""
        del images
        return self

    def fonts(self) -> tuple[str, ...]:
        """References of the font parameters that are no built-in families, in field order."""
        return ()

    def with_fonts(self, fonts: Mapping[str, Font | str]) -> Operation:
        """A copy whose references are replaced by other references or by fonts."""
        del fonts
        return self

    def models(self) -> tuple[Wanted, ...]:
        """The learned models that it wants and does not have yet."""
        return ()

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """A copy with models, or other names, in place of the names they were asked for with; None: it is not here."""
        del models
        return self

    def lacks(self) -> tuple[Lack, ...]:
        """What it needs and is not on this machine: an extra, a model. Looks, and loads nothing."""
        return ()

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """How it runs over tiles of an image of that form; see :mod:`pixelmill.operations.passes`.

        The default serves operations of kind pointwise and local, whose ``apply`` on a part with a halo is right.

        Raises:
            NotTileable: it needs the whole image.
        """
        facts = self.facts()
        if facts.kind not in ("pointwise", "local"):
            raise NotTileable(
                f"{self.name} needs the whole image at once, and can't run over tiles.", operation=self.name
            )

        def run(pixels: Array, place: Place) -> Array:
            del place
            return self.apply(Image(pixels)).image.pixels

        return (
            Map(
                self.name,
                run,
                halo=facts.halo,
                channels=self.channels(form.channels),
                ns_per_pixel=facts.ns_per_pixel,
                memory_factor=max(facts.memory_factor, facts.alpha_memory_factor * (form.channels == 4)),
            ),
        )

    def apply(self, image: Image) -> Step:
        """Do it. ``image`` is not changed."""
        raise NotImplementedError


class Pointwise(Operation):
    """An operation that maps each color sample by one curve; alpha is left alone.

    On integer images it *is* the rounded table of its curve, so runs of such operations fuse into one
    table with the same result to the bit. A curve that isn't a straight line does not commute with averaging, so
    the need stops here unless a class says otherwise.
    """

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Samples from 0 to 1 in, any values out (clipped to 0 to 1 afterwards)."""
        raise NotImplementedError

    def facts(self) -> Facts:
        """A table look-up a sample."""
        return Facts("pointwise", "self-exact", ns_per_pixel=0.3)

    def apply(self, image: Image) -> Step:
        """Map all color samples."""
        return Step(image.with_pixels(map_samples(image.pixels, (self,))))
