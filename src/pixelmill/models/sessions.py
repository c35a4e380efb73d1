"""Models in this process: loaded when first asked for, kept while memory lasts, the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from pixelmill.cores import usable_cores
from pixelmill.errors import ModelMissing
from pixelmill.models import blip, onnx
from pixelmill.models.blip import BlipModel
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Missing, Model, Wanted
from pixelmill.models.onnx import OnnxModel
from pixelmill.models.own import Found
from pixelmill.models.registry import EXTRA_OF, Task
from pixelmill.models.yunet import YunetModel

DEFAULT_BUDGET = 2_000_000_000
_BATCH_BYTES = 512_000_000
"""What a batch may take: each item about as much as a session is reckoned with. A batch is no faster a piece on a CPU
where an item fills all cores (U-2-Net), so that it is worth no more memory than that; small models gain."""
_MAX_BATCH = 8


def missing_extra(task: Task) -> Missing | None:
    """The extra that runs models of that task, where it is not installed; looks, and imports nothing."""
    extra = EXTRA_OF.get(task)
    runtime = {onnx.EXTRA: onnx, blip.EXTRA: blip}.get(extra or "")
    if runtime is None or runtime.is_installed():
        return None
    return Missing(f"the extra {extra}", runtime.COMMAND)


@dataclass(frozen=True, slots=True)
class _Key:
    """Weights as they are on the disk now, and what is said of them: what was replaced is loaded again."""

    name: str
    path: str
    time: int
    size: int
    family: str
    labels: tuple[str, ...]
    scale: float


class Held:
    """Loaded models within ``budget`` bytes (one alone may take more), the least recently used first. Thread-safe."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._loading: dict[_Key, threading.Lock] = {}
        self._models: OrderedDict[_Key, tuple[Model, int]] = OrderedDict()

    def get(self, key: _Key, opened: Callable[[], Model], memory: int) -> Model:
        """The model; ``opened`` loads it, once however many ask."""
        with self._lock:
            held = self._used(key)
            turn = self._loading.setdefault(key, threading.Lock())
        if held is not None:
            return held
        try:
            with turn:
                with self._lock:
                    held = self._used(key)
                return held if held is not None else self._keep(key, opened(), memory)
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def names(self) -> list[str]:
        """Names, the model that would go first at the start."""
        with self._lock:
            return [model.nature.name for model, _ in self._models.values()]

    def _used(self, key: _Key) -> Model | None:
        if key not in self._models:
            return None
        self._models.move_to_end(key)
        return self._models[key][0]

    def _keep(self, key: _Key, model: Model, memory: int) -> Model:
        with self._lock:
            self._models[key] = (model, memory)
            while len(self._models) > 1 and sum(size for _, size in self._models.values()) > self._budget:
                self._models.popitem(last=False)
        return model


class Sessions:
    """A :class:`ModelSource` over a folder. Thread-safe.

    ``threads`` bounds what one call of a model may use (None: the cores that this process may use), ``budget`` the
    bytes that models may take together.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        threads: int | None = None,
        budget: int = DEFAULT_BUDGET,
        held: Held | None = None,
    ) -> None:
        self.folder = folder
        self._threads = threads or usable_cores()
        self._held = held or Held(budget)

    def over(self, folder: ModelFolder) -> Sessions:
        """Sessions over another folder that share memory and threads with these."""
        return Sessions(folder, threads=self._threads, held=self._held)

    def load(self, wanted: Wanted) -> Model | None:
        """The model, from memory or from the disk."""
        try:
            found = self.folder.find(wanted)
        except ModelMissing:
            if wanted.optional:
                return None
            raise
        try:
            status = found.path.stat()
        except OSError as error:
            raise ModelMissing(f"The weights of {found.name} have just gone from {found.path}.") from error
        family = f"{wanted.task}:{found.family.name if found.family else ''}"
        key = _Key(found.name, str(found.path), status.st_mtime_ns, status.st_size, family, found.labels, found.scale)
        return self._held.get(key, lambda: self._opened(found, wanted), found.memory)

    def missing(self, wanted: Wanted) -> Missing | None:
        """The extra, or the weights."""
        return self.folder.missing(wanted) or missing_extra(wanted.task)

    def held(self) -> list[str]:
        """Names of the models in memory, the one that would go first at the start."""
        return self._held.names()

    def _opened(self, found: Found, wanted: Wanted) -> Model:
        if wanted.task == "faces":
            return YunetModel(found.path, found.name)
        if wanted.task == "caption":
            return BlipModel(found.path, found.name, threads=self._threads)
        return OnnxModel(
            found.path,
            found.name,
            wanted.task,
            found.family,
            found.labels,
            scale=found.scale,
            threads=self._threads,
            at_once=max(1, min(_MAX_BATCH, _BATCH_BYTES // found.memory)),
        )
