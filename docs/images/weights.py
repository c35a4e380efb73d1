"""Real weights for pictures and tests: a folder of files as the optional test assets have them, made a models folder.

They lie there under names of their own: ``salient`` (U2-Net-p), ``things`` (a quantized MobileNetV2) and ``yunet``. The
tiny captioner of drawn shapes is trained, not copied.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

FILES: Mapping[str, str] = {
    "u2netp.onnx": "salient.onnx",
    "mobilenet_v2_1.0_224_quant.onnx": "things.onnx",
    "imagenet_labels_1001.txt": "things.txt",
    "yunet_n_640_640.onnx": "yunet.onnx",
}
THINGS = '{"scale": 0.09889254}'
"""What a level of the quantized scores means: the scale of the last QuantizeLinear in the graph."""
INSTEAD: Mapping[str, str] = {"u2netp": "salient", "mobilenet_v2": "things", "blip-base": "shapes"}
"""These names in place of the registry's: the files have other sums than those that the registry knows."""


def tiny_captioner() -> ModuleType:
    """The tests' module that trains it: this script may run without the tests' path."""
    path = Path(__file__).parents[2] / "tests" / "support" / "tiny_captioner.py"
    found = importlib.util.spec_from_file_location("tiny_captioner", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def make_folder(source: Path, folder: Path) -> Path:
    """Copy the weights into a models folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in FILES.items():
        shutil.copy(source / file, folder / name)
    (folder / "things.json").write_text(THINGS)
    return folder
