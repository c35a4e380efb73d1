"""Operations that name what is to be seen: classify, auto_tag. The image passes unchanged, names are data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pixelmill.errors import ModelRefused, NotApplicable
from pixelmill.images.image import Image, Size
from pixelmill.models import onnx
from pixelmill.models.families import FAMILIES, class_scores, classifier_input
from pixelmill.models.model import Model, Wanted
from pixelmill.models.registry import REGISTRY
from pixelmill.operations.background import check_side
from pixelmill.operations.drawing import rgb8_of
from pixelmill.operations.operation import Facts, Lack, Operation, Step
from pixelmill.operations.parameters import ModelParameter

DEFAULT_MODEL = "mobilenet_v2"


class _Recognition(Operation):
    """Base of both: the model, and what it says of an image."""

    family: ClassVar[str] = "learned"
    output: ClassVar[Literal["image", "data", "both"]] = "data"

    if TYPE_CHECKING:
        model: ModelParameter  # declared by each, behind what is said by position

    def facts(self) -> Facts:
        """A run of the model, of the same cost whatever the size."""
        entry = REGISTRY.get(self.model if isinstance(self.model, str) else self.model.nature.name)
        seconds, memory = (entry.seconds, entry.memory) if entry else (0.1, 200_000_000)
        return Facts(
            "analysis", "approximate", ns_per_pixel=1.5, memory_factor=1.5, fixed_seconds=seconds, fixed_bytes=memory
        )

    def size(self, size: Size) -> Size:
        """The same; raises :class:`NotApplicable` where it is smaller than a model can see."""
        check_side(size, self.name)
        return size

    def models(self) -> tuple[Wanted, ...]:
        """The model."""
        return (Wanted(self.model, "classification"),) if isinstance(self.model, str) else ()

    def with_models(self, models: Mapping[str, Model | str | None]) -> Operation:
        """With the model in place of its name."""
        found = models.get(self.model) if isinstance(self.model, str) else None
        return self if found is None else self.model_copy(update={"model": found})

    def lacks(self) -> tuple[Lack, ...]:
        """The extra."""
        return () if onnx.is_installed() else (Lack(f"{self.name} needs the extra ml", onnx.COMMAND),)

    def _said(self, image: Image, most: int, least: float) -> list[dict[str, Any]]:
        """Label, score and index of the likeliest classes, the surest first."""
        self.size(image.size)
        if isinstance(self.model, str):
            raise NotApplicable(f"{self.name}: the model {self.model} was not loaded.", operation=self.name)
        nature = self.model.nature
        given = classifier_input(FAMILIES[nature.family], rgb8_of(image), nature.shape, nature.dtype)
        scores = class_scores(self.model.run(given)[0], nature.scale)
        if scores is None:
            raise ModelRefused(
                f"The scores of the model {nature.name} are quantized, and what a level means is not said: write it as "
                '"scale" into the model.json beside the weights, such as {"scale": 0.1}.',
                model=nature.name,
            )
        order = np.argsort(-scores, kind="stable")[:most]
        return [
            {"label": nature.labels[index] if nature.labels else str(index), "score": round(score, 4), "index": index}
            for index, score in ((int(number), float(scores[number])) for number in order)
            if score >= least
        ]

    def _model_name(self) -> str:
        return self.model if isinstance(self.model, str) else self.model.nature.name


class Classify(_Recognition):
    """Say what is to be seen: the likeliest classes of a classifier such as MobileNetV2, with how sure it is.

    The middle of the picture is looked at. The data list label, score (all classes together have 1) and number of each
    class. A classifier of your own brings its labels in a labels.txt beside it, a line a class.
    """

    name: ClassVar[str] = "classify"
    summary: ClassVar[str] = "Name what is to be seen"
    example: ClassVar[str] = "3"

    top: int = Field(
        default=5, ge=1, le=100, description="Classes that are told", json_schema_extra={"unit": "classes"}
    )
    score: float = Field(default=0, ge=0, le=1, description="How sure the model must be of a class")
    model: ModelParameter = Field(default=DEFAULT_MODEL, description="The model")

    def apply(self, image: Image) -> Step:
        """Look; ``labels`` is the data."""
        return Step(image, {"labels": self._said(image, self.top, self.score), "model": self._model_name()})


class AutoTag(_Recognition):
    """Tag a picture with what a classifier is sure to see in it: words to search by.

    The data list the tags, the surest first, and the score of each; none where it is sure of nothing.
    """

    name: ClassVar[str] = "auto_tag"
    summary: ClassVar[str] = "Tag with what is to be seen"
    example: ClassVar[str] = "0.2"

    score: float = Field(default=0.25, ge=0, le=1, description="How sure the model must be of a tag")
    most: int = Field(default=5, ge=1, le=100, description="Tags at most", json_schema_extra={"unit": "tags"})
    model: ModelParameter = Field(default=DEFAULT_MODEL, description="The model")

    def apply(self, image: Image) -> Step:
        """Look; ``tags`` and how sure it is of each, ``scores``, are the data."""
        said = self._said(image, self.most, self.score)
        tags = [item["label"].split(",")[0].strip() for item in said]
        return Step(image, {"tags": tags, "scores": [item["score"] for item in said], "model": self._model_name()})
