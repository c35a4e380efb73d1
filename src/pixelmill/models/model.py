"""The seam of learned operations: what a loaded model is, where models come from, and what an operation asks for.

An operation names what it wants (:class:`Wanted`), a :class:`ModelSource` brings it: sessions in this process, or a
client of the process that holds them for the whole machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from pixelmill.models.registry import Task

Array: TypeAlias = NDArray[Any]

Options: TypeAlias = Mapping[str, str | int]
"""What a run is asked beside its item, such as the prompt of a caption: plain values, as they travel."""
NO_OPTIONS: Options = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that an operation asks for: a name or a path, and what it is to do.

    ``optional``: the operation does without where it is not here.
    """

    name: str
    task: Task
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Nature:
    """What a model is, as its operation must know it: its family, and the shape that goes in.

    ``shape`` is one item without the batch, ``dtype`` NumPy's name of its samples; ``labels`` are the names of what it
    tells apart. ``scale``: what a level of quantized logits means, 0 where that is not known or not needed.
    """

    name: str
    task: Task
    family: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    labels: tuple[str, ...] = ()
    scale: float = 0.0


@runtime_checkable
class Model(Protocol):
    """A model that is ready to run. Thread-safe."""

    @property
    def nature(self) -> Nature:
        """What it is."""
        ...

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """The outputs for one item of ``nature.shape`` that its task is about, each without the batch.

        Raises :class:`ModelRefused` where the weights turn out to be unfit, :class:`OutOfMemory`,
        :class:`InvalidParameter` for options that it can't follow.
        """
        ...


@runtime_checkable
class Batching(Protocol):
    """A :class:`Model` that runs several items in one call, ``at_once`` at most."""

    at_once: int

    def run_batch(self, items: list[Array], options: Options = NO_OPTIONS) -> list[tuple[Array, ...]]:
        """What ``run`` gives for each item; they have the same options."""
        ...


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not here, as a phrase, and the command that brings it (None: there is none)."""

    what: str
    command: str | None = None


class ModelSource(Protocol):
    """Where loaded models come from."""

    def load(self, wanted: Wanted) -> Model | None:
        """The model; None where it is optional and not here.

        Raises :class:`ModelMissing`, :class:`ModelRefused`, :class:`MissingExtra`, :class:`InvalidParameter`.
        """
        ...

    def missing(self, wanted: Wanted) -> Missing | None:
        """What keeps it from being loaded, without loading anything; None if nothing is known to."""
        ...


Loaded: TypeAlias = Mapping[str, Model]
"""Models by the name that an operation asked for them with."""
