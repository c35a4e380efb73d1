"""What a pipeline starts with: which part of the source it takes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema


class SourceStep(BaseModel):
    """``frame`` None: all frames where source and result are animated, else the first."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    frame: Annotated[int, Field(ge=0, le=65_535)] | SkipJsonSchema[None] = Field(
        default=None, description="Number of the frame or page, from 0, to take as a still image"
    )


WHOLE_SOURCE = SourceStep.model_construct()  # without a validator, which is built when first a frame is given
"""Nothing was chosen."""
