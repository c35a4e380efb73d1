"""Models in this process: loaded when first asked for, kept while memory lasts, the least recently used go first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

from pixelmill.errors import ModelMissing
from pixelmill.models import blip, onnx
from pixelmill.models.blip import BlipModel
from pixelmill.models.folder import Found, ModelFolder
from pixelmill.models.model import Missing, Model, Wanted
from pixelmill.models.onnx import OnnxModel
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
    """Weights as they are on the disk now: a file that was replaced is loaded again."""

    path: str
    time: int
    size: int
    family: str


class Sessions:
    """A :class:`ModelSource` over a folder. Thread-safe; a model is loaded once however many ask for it.

    ``threads`` bounds what one call of a model may use, ``budget`` the bytes that models may take together: one alone
    may take more.
    """

    def __init__(self, folder: ModelFolder, *, threads: int | None = None, budget: int = DEFAULT_BUDGET) -> None:
        self.folder = folder
        self._threads = threads or len(os.sched_getaffinity(0))
        self._budget = budget
        self._lock = threading.Lock()
        self._loading: dict[_Key, threading.Lock] = {}
        self._held: OrderedDict[_Key, tuple[Model, int]] = OrderedDict()

    def load(self, wanted: Wanted) -> Model | None:
        """The model, from memory or from the disk."""
        try:
            found = self.folder.find(wanted)
        except ModelMissing:
            if wanted.optional:
                return None
            raise
        status = found.path.stat()
        family = found.family.name if found.family else ""
        key = _Key(str(found.path), status.st_mtime_ns, status.st_size, f"{wanted.task}:{family}")
        with self._lock:
            held = self._get(key)
            turn = self._loading.setdefault(key, threading.Lock())
        if held is not None:
            return held
        try:
            with turn:
                with self._lock:
                    held = self._get(key)
                return held if held is not None else self._keep(key, self._opened(found, wanted), found.memory)
        finally:
            with self._lock:
                self._loading.pop(key, None)

    def missing(self, wanted: Wanted) -> Missing | None:
        """The extra, or the weights."""
        return self.folder.missing(wanted) or missing_extra(wanted.task)

    def held(self) -> list[str]:
        """Names of the models in memory, the one that would go first at the start."""
        with self._lock:
            return [model.nature.name for model, _ in self._held.values()]

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

    def _get(self, key: _Key) -> Model | None:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def _keep(self, key: _Key, model: Model, memory: int) -> Model:
        with self._lock:
            self._held[key] = (model, memory)
            while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._budget:
                self._held.popitem(last=False)
        return model
