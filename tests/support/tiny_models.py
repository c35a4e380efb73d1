"""Weights of a few hundred bytes that do something true: the bright is the object, the color is the class."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tiny_captioner
from onnx import TensorProto, helper, numpy_helper

from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Model, Wanted
from pixelmill.models.registry import REGISTRY, Entry, Weights
from pixelmill.models.sessions import Sessions

LABELS = ("red thing, scarlet", "green thing", "blue thing")


def graph(
    nodes: list[Any],
    inputs: tuple[Any, ...],
    outputs: tuple[Any, ...],
    *,
    constants: tuple[Any, ...] = (),
) -> bytes:
    """The bytes of an ONNX file; an input or output is name, type and shape."""
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        initializer=list(constants),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def salient(side: int = 32, batch: int | str = "batch", classes: int = 1) -> bytes:
    """A mask that is the mean of the channels: what is bright stands in front."""
    nodes = [helper.make_node("ReduceMean", ["in"], ["mean"], axes=[1], keepdims=1)]
    repeats = numpy_helper.from_array(np.array([1, classes, 1, 1], np.int64), "repeats")
    nodes.append(helper.make_node("Tile", ["mean", "repeats"], ["out"]))
    return graph(
        nodes,
        (("in", TensorProto.FLOAT, [batch, 3, side, side]),),
        (("out", TensorProto.FLOAT, [batch, classes, side, side]),),
        constants=(repeats,),
    )


def classifier(side: int = 8, *, channels_last: bool = False) -> bytes:
    """Logits that are the means of red, green and blue."""
    shape = ["batch", side, side, 3] if channels_last else ["batch", 3, side, side]
    nodes = [helper.make_node("ReduceMean", ["in"], ["out"], axes=[1, 2] if channels_last else [2, 3], keepdims=0)]
    return graph(nodes, (("in", TensorProto.FLOAT, shape),), (("out", TensorProto.FLOAT, ["batch", 3]),))


def quantized(levels: tuple[int, int, int] = (0, 50, 100)) -> bytes:
    """A classifier of bytes that always says the same levels."""
    said = numpy_helper.from_array(np.array([levels], np.float32), "said")
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    nodes = [
        helper.make_node("Cast", ["in"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["means", "zero"], ["nothing"]),
        helper.make_node("Add", ["said", "nothing"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["out"], to=TensorProto.UINT8),
    ]
    return graph(
        nodes,
        (("in", TensorProto.UINT8, [1, 8, 8, 3]),),
        (("out", TensorProto.UINT8, [1, 3]),),
        constants=(said, zero),
    )


def two_inputs() -> bytes:
    """A graph that adds two pictures."""
    shape = ["batch", 3, 32, 32]
    given = (("a", TensorProto.FLOAT, shape), ("b", TensorProto.FLOAT, shape))
    return graph([helper.make_node("Add", ["a", "b"], ["out"])], given, (("out", TensorProto.FLOAT, shape),))


def fill(folder: Path) -> dict[str, Entry]:
    """Tiny weights under the names of the registry, and a registry that knows their sums.

    Beside them lie ``bright`` and ``colors``, checkpoints of one's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"u2netp.onnx": salient(), "mobilenet_v2.onnx": classifier(), "labels.txt": "\n".join(LABELS).encode()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "bright.onnx").write_bytes(salient())
    (folder / "colors").mkdir(exist_ok=True)
    (folder / "colors" / "model.onnx").write_bytes(classifier())
    (folder / "colors" / "labels.txt").write_bytes(files["labels.txt"])
    (folder / "colors" / "model.json").write_text(json.dumps({"family": "imagenet"}))

    def weights(name: str) -> Weights:
        return Weights(name, f"http://127.0.0.1/{name}", f"sha256:{digest(files[name])}", len(files[name]))

    return dict(REGISTRY) | {
        "u2netp": replace(REGISTRY["u2netp"], files=(weights("u2netp.onnx"),)),
        "mobilenet_v2": replace(REGISTRY["mobilenet_v2"], files=(weights("mobilenet_v2.onnx"), weights("labels.txt"))),
    }


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


class _Sessions(Sessions):
    """With a captioner by the registry's name, which is trained when it is first needed."""

    def load(self, wanted: Wanted) -> Model | None:
        place = self.folder.path / "blip-base"
        if wanted.task == "caption" and not place.exists():
            shutil.copytree(tiny_captioner.checkpoint(), place)
        return super().load(wanted)


@functools.cache
def sessions() -> Sessions:
    """Tiny models for this process, in a folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="pixelmill-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return _Sessions(ModelFolder(folder, registry=fill(folder)), threads=1)


def loaded(operation: Any) -> Any:
    """An operation with the tiny models that it wants."""
    models: dict[str, Model | None] = {wanted.name: _load(wanted) for wanted in operation.models()}
    return operation.with_models(models) if models else operation


def _load(wanted: Wanted) -> Model | None:
    return sessions().load(wanted)
