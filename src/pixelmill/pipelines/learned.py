"""Which pipelines run learned models that are held elsewhere, told from their canonical JSON."""

from __future__ import annotations

from functools import lru_cache

from pixelmill.errors import PixelmillError
from pixelmill.models.model import Wanted
from pixelmill.pipelines.spec import Pipeline


@lru_cache(maxsize=256)
def learned_models(pipeline: str) -> tuple[Wanted, ...]:
    """The models that a task with that pipeline wants of the model process; face detectors are none of them."""
    try:
        return tuple(wanted for wanted in Pipeline.parse(pipeline).wanted_models if wanted.task != "faces")
    except PixelmillError:
        return ()  # who runs it says so


def wants_models(pipeline: str) -> bool:
    """Whether it wants any: such tasks have slots of their own."""
    return bool(learned_models(pipeline))
