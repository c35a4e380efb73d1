"""Models in this process: what is refused, what is kept, and what goes first."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import classifier, graph, quantized, salient, two_inputs

from pixelmill.errors import MissingExtra, ModelMissing, ModelRefused
from pixelmill.models import onnx as onnx_module
from pixelmill.models.folder import ModelFolder
from pixelmill.models.model import Model, Wanted
from pixelmill.models.onnx import OnnxModel
from pixelmill.models.sessions import Sessions
from pixelmill.models.yunet import YunetModel


def written(folder: Path, data: bytes, name: str = "mine.onnx") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def identity(shape: list[Any], kind: int = TensorProto.FLOAT) -> bytes:
    return graph([helper.make_node("Identity", ["in"], ["out"])], (("in", kind, shape),), (("out", kind, shape),))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (two_inputs(), "2 inputs"),
        (identity(["batch", 3, 32, 32]), "not one mask"),
        (salient(classes=2), "not one mask"),
        (identity([1, 1, 32, 32]), "not a picture in RGB"),
        (identity([1, 3]), "not a picture in RGB"),
        (identity([1, 32, 32, 3]), "channels first"),
        (identity([1, 3, 32, 64]), "64×32"),
        (identity([1, 3, 32, 32], TensorProto.DOUBLE), "tensor.double"),
        (classifier(), "not one mask"),
        (salient(side=5_000), "5,000×5,000"),
    ],
)
def test_weights_that_are_no_salient_object_model_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ModelRefused, match=why):
        OnnxModel(written(tmp_path, data), "mine", "segmentation")


def test_a_classifier_must_have_as_many_labels_as_classes(tmp_path: Path) -> None:
    path = written(tmp_path, classifier())
    assert OnnxModel(path, "mine", "classification", labels=("a", "b", "c")).nature.labels == ("a", "b", "c")
    with pytest.raises(ModelRefused, match="3 classes apart, and has 2 labels"):
        OnnxModel(path, "mine", "classification", labels=("a", "b"))
    with pytest.raises(ModelRefused, match="not a score a class"):
        OnnxModel(written(tmp_path, salient()), "mine", "classification")


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.01])
def test_truncated_weights_are_refused(tmp_path: Path, kept: float) -> None:
    data = salient()
    with pytest.raises(ModelRefused, match="truncated, damaged or no ONNX model"):
        OnnxModel(written(tmp_path, data[: max(1, int(len(data) * kept))]), "mine", "segmentation")


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"not a model at all", b"\x08\x08" + b"\xff" * 500])
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ModelRefused):
        OnnxModel(written(tmp_path, data), "mine", "segmentation")
    with pytest.raises(ModelRefused):
        YunetModel(written(tmp_path, data), "mine")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/tmp/never-made").touch, ())


@pytest.mark.parametrize("data", [pickle.dumps(Trap()), pickle.dumps({}, protocol=2), b"PK\x03\x04archive/data.pkl"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, data: bytes) -> None:
    for make in (lambda path: OnnxModel(path, "mine", "segmentation"), lambda path: YunetModel(path, "mine")):
        with pytest.raises(ModelRefused, match="is a pickle"):
            make(written(tmp_path, data, "mine.pth"))
    assert not Path("/tmp/never-made").exists()


def test_a_face_detector_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="no face detector"):
        YunetModel(written(tmp_path, salient()), "mine")


def test_a_batch_gives_what_each_item_gives_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    items = [rng.random((3, 32, 32), dtype=np.float32) for _ in range(5)]
    for data, batches in ((salient(), True), (salient(batch=1), False)):
        model = OnnxModel(written(tmp_path, data), "mine", "segmentation")
        assert model.batches is batches
        for item, outputs in zip(items, model.run_batch(items), strict=True):
            assert np.array_equal(outputs[0], model.run(item)[0])
            assert outputs[0].shape == (1, 32, 32)


def test_sizes_that_the_graph_leaves_open_are_those_of_the_family(tmp_path: Path) -> None:
    data = graph(
        [helper.make_node("ReduceMean", ["in"], ["out"], axes=[1], keepdims=1)],
        (("in", TensorProto.FLOAT, ["b", 3, "h", "w"]),),
        (("out", TensorProto.FLOAT, ["b", 1, "h", "w"]),),
    )
    model = OnnxModel(written(tmp_path, data), "mine", "segmentation")
    assert model.nature.shape == (3, 320, 320)
    assert model.nature.family == "u2net"


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: ModelFolder) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pixelmill\[ml\]'"):
        OnnxModel(written(tmp_path, salient()), "mine", "segmentation")
    monkeypatch.setattr("pixelmill.models.onnx.is_installed", lambda: False)
    missing = Sessions(tiny).missing(Wanted("u2netp", "segmentation"))
    assert missing is not None
    assert missing.command == onnx_module.COMMAND


def test_a_model_is_loaded_once_however_many_ask(tiny: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counted(path: Path, name: str, *more: Any, **options: Any) -> OnnxModel:
        made.append(name)
        return OnnxModel(path, name, *more, **options)

    monkeypatch.setattr("pixelmill.models.sessions.OnnxModel", counted)
    sessions = Sessions(tiny, threads=1)
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda _: sessions.load(Wanted("u2netp", "segmentation")), range(40)))
    assert made == ["u2netp"]
    assert len({id(model) for model in models}) == 1


def test_the_least_recently_used_goes_first_when_memory_is_full(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        written(tmp_path, salient(), f"{name}.onnx")
    sessions = Sessions(ModelFolder(tmp_path), threads=1, budget=750_000_000)  # two of a little over 350 MB each

    def load(name: str) -> Model:
        model = sessions.load(Wanted(name, "segmentation"))
        assert model is not None
        return model

    first = load("a")
    load("b")
    assert load("a") is first
    load("c")
    assert sessions.held() == ["a", "c"]
    assert load("a") is first
    alone = Sessions(ModelFolder(tmp_path), threads=1, budget=1)
    assert alone.load(Wanted("a", "segmentation")) is alone.load(Wanted("a", "segmentation"))


def test_replaced_weights_are_loaded_anew(tmp_path: Path) -> None:
    sessions = Sessions(ModelFolder(tmp_path), threads=1)
    wanted = Wanted(str(written(tmp_path, salient(32))), "segmentation")
    before = sessions.load(wanted)
    written(tmp_path, salient(64))
    after = sessions.load(wanted)
    assert before is not None
    assert after is not None
    assert (before.nature.shape, after.nature.shape) == ((3, 32, 32), (3, 64, 64))


def test_the_same_weights_keep_the_name_and_the_labels_that_each_asks_for(tmp_path: Path) -> None:
    """By a folder and by the file in it, which have labels of their own; and after these have changed."""
    sessions = Sessions(ModelFolder(tmp_path), threads=1)
    file = written(tmp_path / "mine", classifier(), "model.onnx")
    (tmp_path / "mine" / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "mine" / "model.txt").write_text("d\ne\nf\n")

    def nature(name: str) -> tuple[str, tuple[str, ...], float]:
        model = sessions.load(Wanted(name, "classification"))
        assert model is not None
        return model.nature.name, model.nature.labels, model.nature.scale

    assert nature("mine") == ("mine", ("a", "b", "c"), 0.0)
    assert nature(str(file)) == (str(file), ("d", "e", "f"), 0.0)
    (tmp_path / "mine" / "labels.txt").write_text("g\nh\ni\n")
    (tmp_path / "mine" / "model.json").write_text('{"scale": 0.5}')
    assert nature("mine") == ("mine", ("g", "h", "i"), 0.5)


def test_what_comes_out_must_be_numbers(tmp_path: Path) -> None:
    shape = [1, 3, 32, 32]
    weights = graph(
        [
            helper.make_node("Greater", ["in", "half"], ["all"]),
            helper.make_node("Slice", ["all", "zero", "one", "one"], ["out"]),
        ],
        (("in", TensorProto.FLOAT, shape),),
        (("out", TensorProto.BOOL, [1, 1, 32, 32]),),
        constants=(
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
            numpy_helper.from_array(np.array([0], np.int64), "zero"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ),
    )
    with pytest.raises(ModelRefused, match=r"output is of tensor\(bool\), not of numbers"):
        OnnxModel(written(tmp_path, weights), "mine", "segmentation")


def test_only_weights_of_the_registry_are_said_to_be_fetched_again(tmp_path: Path) -> None:
    for name, told in (("u2netp", True), ("/srv/mine.onnx", False)):
        with pytest.raises(ModelRefused, match="no ONNX model") as caught:
            OnnxModel(written(tmp_path, b"broken"), name, "segmentation")
        assert ("pixelmill models pull" in caught.value.detail) is told
        assert "INVALID_PROTOBUF" not in caught.value.detail


def test_an_optional_model_that_is_missing_is_none(tmp_path: Path) -> None:
    sessions = Sessions(ModelFolder(tmp_path))
    assert sessions.load(Wanted("yunet", "faces", optional=True)) is None
    with pytest.raises(ModelMissing):
        sessions.load(Wanted("yunet", "faces"))


def test_the_scale_of_quantized_weights_reaches_their_user(tmp_path: Path) -> None:
    model = OnnxModel(written(tmp_path, quantized()), "mine", "classification", scale=0.1)
    assert (model.nature.dtype, model.nature.scale, model.nature.shape) == ("uint8", 0.1, (8, 8, 3))


def test_real_weights_take_no_more_threads_than_they_are_given(real: ModelFolder) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    model = Sessions(real, threads=1).load(Wanted("salient", "segmentation"))
    assert model is not None
    model.run(np.zeros(model.nature.shape, np.float32))
    assert threads() == before


def test_registry_is_a_mapping_of_frozen_rows(registry: Mapping[str, Any]) -> None:
    with pytest.raises(AttributeError):
        registry["u2netp"].licence = "none"


def test_sessions_share_one_arena_for_intermediate_results(real: ModelFolder, tmp_path: Path) -> None:
    """In a process of its own: two sessions of the same weights keep little more than one."""
    code = (
        "import sys, psutil, numpy as np\n"
        "from pathlib import Path\n"
        "from pixelmill.models.onnx import OnnxModel\n"
        "def run():\n"
        "    model = OnnxModel(Path(sys.argv[1]), 'mine', 'segmentation')\n"
        "    model.run(np.zeros(model.nature.shape, np.float32))\n"
        "    return model, psutil.Process().memory_info().rss\n"
        "start = psutil.Process().memory_info().rss\n"
        "(a, one), (b, two) = run(), run()\n"
        "print(one - start, two - one)\n"
    )
    path = real.find(Wanted("salient", "segmentation")).path
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert second < first / 3


_RUN = """
import sys
import numpy as np
from pathlib import Path
from pixelmill.models.onnx import OnnxModel
model = OnnxModel(Path(sys.argv[1]), "mine", "classification", None, ())
model.run(np.zeros(model.nature.shape, np.dtype(model.nature.dtype)))
"""


def test_the_runtime_tells_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    path, home = written(tmp_path, classifier()), tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _RUN, str(path)], check=True, env=environment)
    assert list(home.rglob("*")) == []
