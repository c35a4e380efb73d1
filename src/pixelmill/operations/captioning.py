"""The operation that says in a sentence what is to be seen: caption, through a captioner such as BLIP.

The sentence is data; it may be written on the picture, by the operation ``text``, and into the file of the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.models import blip
from pixelmill.models.blip import MAX_BEAMS, MAX_LENGTH, MAX_PROMPT, caption_of
from pixelmill.models.families import captioner_input
from pixelmill.models.model import Model, Options, Wanted
from pixelmill.models.registry import REGISTRY
from pixelmill.operations.background import check_side
from pixelmill.operations.drawing import rgb8_of
from pixelmill.operations.lettering import MAX_CHARACTERS, MAX_FONT, Text
from pixelmill.operations.operation import Facts, Lack, Operation, Step
from pixelmill.operations.parameters import BUILT_IN_FONTS, Color, Font, FontParameter, ModelParameter, Position

DEFAULT_MODEL = "blip-base"
_OUTLINE = "000000"
_TOKENS = 10
"""Of a usual caption; the registry's seconds are for so many."""
_DECODING = 0.15
"""Share of the seconds that goes into those tokens, one beam; the rest looks at the picture."""
_FONT_SHARE = 16
"""The shorter side of the image has so many sizes of the font."""
_LEAST_FONT = 8


def _sayable(value: str) -> str:
    """Refuse control characters, which are no words."""
    if not value.isprintable():
        raise ValueError("not printable")
    return value


Prompt = Annotated[
    str,
    Field(max_length=MAX_PROMPT, json_schema_extra={"unit": f"at most {MAX_PROMPT} printable characters"}),
    AfterValidator(_sayable),
]
Device = Annotated[
    str,
    Field(
        pattern=r"^(?:auto|cpu|mps|cuda(?::[0-9]{1,2})?)$",
        max_length=7,
        json_schema_extra={"unit": "auto, cpu, cuda[:N], mps"},
    ),
]


class Caption(Operation):
    """Say in a sentence what is to be seen, by BLIP (Li et al. 2022).

    prompt is how the sentence begins (conditional captioning), such as "a photography of"; without one the model begins
    by itself. beams is the width of beam search: 1 is greedy and fastest, 3 what BLIP was published with. length bounds
    the tokens (words, or parts of them) behind the prompt. The data tell the caption, the model, and whether the
    sentence came to its end (complete) or was cut. draw writes it on the picture, font_size 0 being a sixteenth of its
    shorter side; embed writes it into the result's metadata (XMP dc:description, EXIF ImageDescription). Of an
    animation the first frame is looked at, and its caption stands on all.
    """

    name: ClassVar[str] = "caption"
    family: ClassVar[str] = "learned"
    summary: ClassVar[str] = "Say in a sentence what is to be seen"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "a~20photography~20of,draw=true"
    frames_agree: ClassVar[Literal["first", "union", "settled"] | None] = "settled"

    prompt: Prompt = Field(default="", description="How the caption begins")
    beams: int = Field(
        default=1, ge=1, le=MAX_BEAMS, description="Width of beam search", json_schema_extra={"unit": "beams"}
    )
    length: int = Field(
        default=30,
        ge=1,
        le=MAX_LENGTH,
        description="Longest caption, the prompt not counted",
        json_schema_extra={"unit": "tokens"},
    )
    draw: bool = Field(default=False, description="Write it on the image")
    embed: bool = Field(default=False, description="Write it into the metadata of the result")
    model: ModelParameter = Field(default=DEFAULT_MODEL, description="The model: a name, or a checkpoint folder")
    device: Device = Field(default="auto", description="Where it runs; auto is the fastest that is there")
    position: Position = Field(default="bottom", description="draw: where it stands")
    font_size: int = Field(
        default=0, ge=0, le=MAX_FONT, description="draw: size of the font", json_schema_extra={"unit": "pixels"}
    )
    color: Color = Field(default="ffffff", description="draw: color of the letters, which have a black outline")
    font: FontParameter = Field(default=BUILT_IN_FONTS[0], description="draw: a built-in family, or a font file")

    def facts(self) -> Facts:
        """One look of the same cost whatever the size, and a pass a token and beam."""
        entry = REGISTRY.get(self._model_name)
        seconds, memory = (entry.seconds, entry.memory) if entry else (1.0, 1_000_000_000)
        tokens = min(self.length, _TOKENS) * self.beams
        return Facts(
            "whole" if self.draw or self.embed else "analysis",
            "approximate",
            ns_per_pixel=1.5,
            memory_factor=1.5,
            fixed_seconds=seconds * (1 - _DECODING + _DECODING * tokens / _TOKENS),
            fixed_bytes=memory,
        )

    def size(self, size: Size) -> Size:
        """The same; raises :class:`NotApplicable` where it is smaller than a model can see."""
        check_side(size, self.name)
        return size

    def channels(self, channels: int) -> int:
        """Color where colored letters stand on gray."""
        return self._text("a").channels(channels) if self.draw else channels

    def describes(self) -> str | None:
        """The caption, where it is to be embedded."""
        return "caption" if self.embed else None

    def fonts(self) -> tuple[str, ...]:
        """The font's reference, where one is needed that is neither built in nor there already."""
        return self._text("a").fonts() if self.draw else ()

    def with_fonts(self, fonts: Mapping[str, Font | str]) -> Operation:
        """With another reference, or a font, for the font."""
        if isinstance(self.font, Font) or self.font not in fonts:
            return self
        return self.model_copy(update={"font": fonts[self.font]})

    def models(self) -> tuple[Wanted, ...]:
        """The captioner."""
        return (Wanted(self.model, "caption"),) if isinstance(self.model, str) else ()

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """With the model in place of its name."""
        found = models.get(self.model) if isinstance(self.model, str) else None
        return self if found is None else self.model_copy(update={"model": found})

    def lacks(self) -> tuple[Lack, ...]:
        """The extra."""
        return () if blip.is_installed() else (Lack("caption needs the extra caption", blip.COMMAND),)

    def settled(self, image: Image) -> Operation:
        """With the caption of that frame for all of them."""
        data = self._said(image)
        return Captioned(writing=self._writing(data["caption"], image.size), data=data, embed=self.embed)

    def apply(self, image: Image) -> Step:
        """Look, and write what was asked for; ``caption``, ``complete`` and ``model`` are the data."""
        data = self._said(image)
        writing = self._writing(data["caption"], image.size)
        return Step(image if writing is None else writing.apply(image).image, data)

    @property
    def _model_name(self) -> str:
        return self.model if isinstance(self.model, str) else self.model.nature.name

    def _said(self, image: Image) -> dict[str, Any]:
        self.size(image.size)
        if isinstance(self.model, str):
            raise NotApplicable(f"caption: the model {self.model} was not loaded.", operation=self.name)
        options: Options = {"prompt": self.prompt, "beams": self.beams, "length": self.length, "device": self.device}
        given = captioner_input(rgb8_of(image), self.model.nature.shape)
        caption, complete = caption_of(self.model.run(given, options))
        prompt = {"prompt": self.prompt} if self.prompt else {}
        return {"caption": caption, "complete": complete, "model": self._model_name, **prompt}

    def _writing(self, caption: str, size: Size) -> Text | None:
        """What writes it; None where nothing is to be written."""
        if not self.draw or not caption:
            return None
        if len(caption) > MAX_CHARACTERS:
            raise NotApplicable(
                f"caption: it has {len(caption):,} characters; at most {MAX_CHARACTERS} can be drawn. Ask for a "
                "smaller length.",
                operation=self.name,
                parameter="length",
            )
        return self._text(caption, self.font_size or max(_LEAST_FONT, min(size) // _FONT_SHARE))

    def _text(self, caption: str, font_size: int = 32) -> Text:
        return Text(
            text=caption,
            position=self.position,
            font_size=min(font_size, MAX_FONT),
            color=self.color,
            outline=_OUTLINE,
            outline_width=max(1, font_size // 12),
            font=self.font,
        )


class Captioned(Operation):
    """Write a caption that is known. What ``caption`` is for the frames of an animation; not in the table."""

    name: ClassVar[str] = "caption"
    family: ClassVar[str] = "learned"
    summary: ClassVar[str] = "Write a caption that is known"

    writing: Text | None = None
    data: dict[str, Any] = {}  # noqa: RUF012 - a field of pydantic's, which copies it
    embed: bool = False

    def facts(self) -> Facts:
        """Those of text, or nothing to be done again."""
        return self.writing.facts() if self.writing else Facts("analysis", "self-exact")

    def describes(self) -> str | None:
        """The caption, where it is to be embedded."""
        return "caption" if self.embed else None

    def apply(self, image: Image) -> Step:
        """Write."""
        return Step(image if self.writing is None else self.writing.apply(image).image, self.data)
