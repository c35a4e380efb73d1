"""One ONNX model in this process, through ONNX Runtime (the extra ``ml``), which is imported at the first one.

Sees to it that the weights are whole, that what goes in and comes out fits the family, and that no more threads run
than are allowed. A graph can't run code of its own: no libraries of custom operators are loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pixelmill.errors import MissingExtra, ModelRefused, OutOfMemory
from pixelmill.models.families import Family, guessed
from pixelmill.models.model import NO_OPTIONS, Array, Nature, Options
from pixelmill.models.registry import REGISTRY, TASKS, Task

EXTRA = "ml"
COMMAND = "pip install 'pixelmill[ml]'"
_NUMPY_NAMES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_GIVEN = frozenset({*_NUMPY_NAMES, "tensor(double)"})
_PICKLES = (b"\x80", b"PK\x03\x04")
"""First bytes of a pickle, and of the archive that PyTorch wraps around one."""
_CODE = re.compile(r"^(?:\[ONNXRuntimeError\] : )?\d+ : [A-Z_]+ : ")
"""What ONNX Runtime puts before what it says."""
_LARGEST_SIDE = 4_096
_OPEN_SIDE: Mapping[Task, int] = {"segmentation": 320, "classification": 224, "faces": 640, "caption": 384}
"""Side of what goes in where neither graph nor family says it."""


def is_installed() -> bool:
    """Whether ONNX Runtime is there; it is not imported, so whether it works is not known."""
    return importlib.util.find_spec("onnxruntime") is not None


class OnnxModel:
    """A session: a :class:`Model`. ``threads`` bounds what one call may use, ``at_once`` the items of a batch."""

    def __init__(
        self,
        path: Path,
        name: str,
        task: Task,
        family: Family | None = None,
        labels: tuple[str, ...] = (),
        *,
        scale: float = 0.0,
        threads: int = 1,
        at_once: int = 1,
    ) -> None:
        """Load; without a family what the weights take decides.

        Raises :class:`ModelRefused`, :class:`MissingExtra`, :class:`OutOfMemory`.
        """
        runtime = _runtime()
        refuse_pickle(path, name)
        self._name = name
        self._session = _session(runtime, path, name, threads)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            found = ", ".join(item.name for item in inputs)
            raise _unfit(name, task, f"it takes {len(inputs)} inputs ({found}), not one picture")
        self._input = inputs[0].name
        # U-2-Net gives seven masks, coarser ones after the first: they would only be carried about.
        self._outputs = [item.name for item in self._session.get_outputs()][:1]
        shape, dtype = _shape(inputs[0], task, family, name)
        family = family or guessed(task, shape)
        assert family is not None, "every task that runs here has a family"
        self.batches = not isinstance(inputs[0].shape[0], int)
        """Whether its weights take several items at once."""
        self.at_once = at_once if self.batches else 1
        """How many may go in at once, as far as memory is concerned too."""
        self._nature = Nature(name, family.task, family.name, shape, dtype, labels, scale)
        self._check(task)

    @property
    def nature(self) -> Nature:
        """What it is."""
        return self._nature

    def run(self, item: Array, options: Options = NO_OPTIONS) -> tuple[Array, ...]:
        """The first output for one item, without the batch. There are no options."""
        del options
        return tuple(output[0] for output in self._run(item[np.newaxis]))

    def run_batch(self, items: list[Array], options: Options = NO_OPTIONS) -> list[tuple[Array, ...]]:
        """The outputs for each item; in one call where the weights allow it."""
        del options
        if len(items) == 1 or not self.batches:
            return [self.run(item) for item in items]
        outputs = self._run(np.stack(items))
        return [tuple(output[number] for output in outputs) for number in range(len(items))]

    def _run(self, batch: Array) -> list[Array]:
        try:
            outputs: list[Array] = self._session.run(self._outputs, {self._input: batch})
        except MemoryError as error:
            raise _no_memory(self._name) from error
        except Exception as error:  # ONNX Runtime's errors have no common base
            if "alloc" in str(error).lower():
                raise _no_memory(self._name) from error
            raise ModelRefused(
                f"The model {self._name} failed on a picture: {_first_line(error)}. The weights don't fit this version "
                "of ONNX Runtime, or are damaged: check them with `pixelmill models verify`.",
                model=self._name,
            ) from error
        return outputs

    def _check(self, task: Task) -> None:
        """Whether the first output is of the task."""
        first = self._session.get_outputs()[0]
        shape = list(first.shape or ())
        if first.type not in _GIVEN:
            raise _unfit(self._name, task, f"its first output is of {first.type}, not of numbers")
        if task == "segmentation":
            if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 1):
                raise _unfit(self._name, task, f"its first output has the shape {_shown(shape)}, not one mask")
        elif task == "classification":
            known = [side for side in shape[1:] if isinstance(side, int)]
            count = int(np.prod(known)) if known else 0
            labels = self._nature.labels
            if len(known) != len(shape) - 1 or count < 2 or count != max(known):
                raise _unfit(self._name, task, f"its first output has the shape {_shown(shape)}, not a score a class")
            if labels and len(labels) != count:
                raise _unfit(self._name, task, f"it tells {count:,} classes apart, and has {len(labels):,} labels")


def refuse_pickle(path: Path, name: str) -> None:
    """Raise :class:`ModelRefused` for a file that can carry code, or that can't be read."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise ModelRefused(f"The weights of {name} can't be read: {error.strerror or error}.", model=name) from error
    if head.startswith(_PICKLES):
        raise ModelRefused(
            f"{str(path)!r} is a pickle (a PyTorch checkpoint), which could run any code when it is opened. "
            "Export it as ONNX, and give that file.",
            model=name,
        )


_import_lock = threading.Lock()


def _runtime() -> Any:
    with _import_lock:
        # Its packages send what they run to their maker, by a thread and a database in the user's cache. It is asked
        # by the variable alone: the function that stops events comes too late for both.
        os.environ.update(ORT_DISABLE_TELEMETRY="1")
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise MissingExtra(
                f"Learned models need an extra that is not installed here. Install it: {COMMAND}", extra=EXTRA
            ) from error
        runtime.set_default_logger_severity(4)  # what goes wrong is raised; its warnings are of no use to a user
        _share_arena(runtime)
    return runtime


_shared: set[str] = set()


def _share_arena(runtime: Any) -> None:
    """One arena for intermediate results of all sessions, once a process.

    Each would keep one of its own, as large as its largest run (U-2-Net-p: 290 MB), and runs take turns anyway: of two
    sessions 320 MB stay, with arenas of their own 626.
    """
    if not _shared:
        where = runtime.OrtMemoryInfo(
            "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
        )
        grows = {
            "max_mem": 0,
            "arena_extend_strategy": 0,
            "initial_chunk_size_bytes": -1,
            "max_dead_bytes_per_chunk": -1,
        }
        runtime.create_and_register_allocator(where, runtime.OrtArenaCfg(grows))
        _shared.add("arena")


def _session(runtime: Any, path: Path, name: str, threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    # Planning of memory ahead takes twice as much (u2netp: 690 MB, without it 390), and is no faster.
    options.enable_mem_pattern = False
    # Idle threads must sleep, not spin: other work runs on these cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except MemoryError as error:
        raise _no_memory(name) from error
    except Exception as error:  # ONNX Runtime's errors have no common base
        if "bad_alloc" in str(error) or "Failed to allocate" in str(error):
            raise _no_memory(name) from error
        raise ModelRefused(
            f"The weights of {name} ({path.name}) can't be loaded: {_first_line(error)}. The file is truncated, "
            f"damaged or no ONNX model{_again(name)}.",
            model=name,
        ) from error


def _shape(given: Any, task: Task, family: Family | None, name: str) -> tuple[tuple[int, ...], str]:
    """One item without the batch, sides that the graph leaves open as the family has them; and NumPy's type."""
    dtype = _NUMPY_NAMES.get(given.type)
    shape = list(given.shape or ())
    what = f"it takes {given.type} of the shape {_shown(shape)}"
    if dtype is None or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise _unfit(name, task, f"{what}, not a picture in RGB")
    channels_last = shape[1] != 3
    if task == "segmentation" and (channels_last or dtype != "float32"):
        raise _unfit(name, task, f"{what}, not floats, channels first")
    open_side = family.side if family else _OPEN_SIDE[task]
    sides = [side if isinstance(side, int) else open_side for side in (shape[1:3] if channels_last else shape[2:4])]
    square = task != "segmentation" or sides[0] == sides[1]
    if not square or min(sides) < 1 or max(sides) > _LARGEST_SIDE:
        raise _unfit(name, task, f"it takes pictures of {sides[1]:,}×{sides[0]:,} pixels")
    if family is not None and family.task != task:
        raise _unfit(name, task, f"the family {family.name} {TASKS[family.task]}")
    return ((sides[0], sides[1], 3) if channels_last else (3, sides[0], sides[1])), dtype


def _unfit(name: str, task: Task, what: str) -> ModelRefused:
    return ModelRefused(
        f"The model {name} is none that {TASKS[task]}: {what}. Give weights of the right kind; what family they are "
        "of may be said in a model.json beside them.",
        model=name,
    )


def _no_memory(name: str) -> OutOfMemory:
    return OutOfMemory(
        f"There is not enough memory for the model {name}. Use a smaller model, or raise the memory limit of the pool.",
        model=name,
    )


def _again(name: str) -> str:
    """Where weights of the registry come from; those of one's own only their owner can bring."""
    return f": fetch it again with `pixelmill models pull {name} --force`" if name in REGISTRY else ""


def _shown(shape: list[Any]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape) or "nothing"


def _first_line(error: BaseException) -> str:
    """What ONNX Runtime says, in one line, without its own code and place."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = _CODE.sub("", text.rpartition("] : ")[2])
    return text.rstrip(". ")[:300]
