"""Checkpoint folders of captioning models: which files there must be, and whether they say what can be true.

A folder has ``config.json``, ``tokenizer.json``, ``preprocessor_config.json`` (or ``processor_config.json``, which
newer tools write) and ``model.safetensors``. Everything is checked before a library that could run or allocate
anything sees it: only known numbers of the configuration are taken on, each within bounds, and the header of the
weights must agree with the length of their file. Pure reading; torch is not known here.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelmill.errors import ModelRefused

WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "model.pt", "model.pth")
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
ARCHITECTURE = "BlipForConditionalGeneration"

_MAX_CONFIG_BYTES = 1_000_000
_MAX_TOKENIZER_BYTES = 50_000_000
_MAX_HEADER_BYTES = 20_000_000
_MAX_TENSORS = 20_000
_BICUBIC = 3
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

# What is taken on of config.json: the numbers and their bounds. Anything else (names of code, quantizers, kernels,
# adapters) is left where it is.
_TEXT_NUMBERS: Mapping[str, tuple[int, int]] = {
    "vocab_size": (8, 250_000),
    "hidden_size": (8, 4_096),
    "intermediate_size": (8, 16_384),
    "num_hidden_layers": (1, 64),
    "num_attention_heads": (1, 64),
    "max_position_embeddings": (8, 4_096),
    "bos_token_id": (0, 250_000),
    "eos_token_id": (0, 250_000),
    "pad_token_id": (0, 250_000),
    "sep_token_id": (0, 250_000),
}
_VISION_NUMBERS: Mapping[str, tuple[int, int]] = {
    "hidden_size": (8, 4_096),
    "intermediate_size": (8, 16_384),
    "num_hidden_layers": (1, 64),
    "num_attention_heads": (1, 64),
    "image_size": (16, 1_024),
    "patch_size": (2, 64),
}
_TEXT_DEFAULTS: Mapping[str, int] = {
    "vocab_size": 30_524,
    "hidden_size": 768,
    "intermediate_size": 3_072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 30_522,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "sep_token_id": 102,
}
_VISION_DEFAULTS: Mapping[str, int] = {
    "hidden_size": 768,
    "intermediate_size": 3_072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 384,
    "patch_size": 16,
}
"""What a configuration means that leaves a number out: the defaults of the format."""
_ACTIVATIONS = frozenset({"gelu", "relu", "silu", "gelu_new"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder that was found sound. ``text`` and ``vision``: what is taken on of the configuration.

    ``mean`` and ``std`` are of samples from 0 to 1.
    """

    name: str
    folder: Path
    weights: Path
    pickled: bool
    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def side(self) -> int:
        """Of the square that goes in."""
        return int(self.vision["image_size"])

    @property
    def positions(self) -> int:
        """Tokens that prompt and caption may have together."""
        return int(self.text["max_position_embeddings"])

    @property
    def item_bytes(self) -> int:
        """What one picture more in a batch takes: activations of one layer, which are the widest, in ``float32``."""
        vision, text = self.vision, self.text
        cells = (self.side // vision["patch_size"]) ** 2 + 1
        attention = 3 * vision["num_attention_heads"] * cells * cells
        wide = cells * (8 * vision["hidden_size"] + 2 * vision["intermediate_size"])
        kept = 2 * text["num_hidden_layers"] * text["hidden_size"] * (cells + 64)
        return int(4 * (attention + wide + kept))


def weights_in(folder: Path, name: str, *, allow_pickle: bool = False) -> Path:
    """The file of weights; raises :class:`ModelRefused` where there is none that may be opened."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    pickled = next((folder / file for file in PICKLES if (folder / file).is_file()), None)
    if pickled is not None:
        if allow_pickle:
            return pickled
        raise refused_pickle(pickled, name)
    if any(folder.glob("*.safetensors")):
        raise ModelRefused(
            f"The weights of {name} in {str(folder)!r} are not in one file {WEIGHTS}. Join them, or give the file that "
            "name.",
            model=name,
        )
    raise ModelRefused(f"The folder {str(folder)!r} has no weights: {WEIGHTS} is not there.", model=name)


def refused_pickle(path: Path, name: str) -> ModelRefused:
    """The error for weights that could run any code when they are opened."""
    return ModelRefused(
        f"{str(path)!r} is a pickle (a PyTorch checkpoint), which could run any code when it is opened. Save it as "
        f"{WEIGHTS} (model.save_pretrained does), and give its folder. Who trusts the file sets "
        "PIXELMILL_ALLOW_PICKLE=true: it is opened by PyTorch's restricted reader then.",
        model=name,
    )


def read_checkpoint(weights: Path, name: str) -> Checkpoint:
    """The checkpoint whose weights lie there, checked; raises :class:`ModelRefused`."""
    folder = weights.parent
    config = _json(folder / CONFIG, name)
    kind, architectures = config.get("model_type"), config.get("architectures") or [ARCHITECTURE]
    if kind != "blip" or ARCHITECTURE not in architectures:
        what = ", ".join(map(str, architectures)) if isinstance(architectures, list) else str(architectures)
        raise _unfit(
            name,
            folder / CONFIG,
            f"it is of the type {str(kind)[:60]!r} ({what[:120]}), and not a BLIP captioner ({ARCHITECTURE})",
        )
    text = _numbers(config.get("text_config"), _TEXT_NUMBERS, _TEXT_DEFAULTS, name, folder)
    vision = _numbers(config.get("vision_config"), _VISION_NUMBERS, _VISION_DEFAULTS, name, folder)
    for part in (text, vision):
        if part["hidden_size"] % part["num_attention_heads"]:
            raise _unfit(name, folder / CONFIG, "hidden_size is no multiple of num_attention_heads")
    if vision["image_size"] % vision["patch_size"]:
        raise _unfit(name, folder / CONFIG, "image_size is no multiple of patch_size")
    if any(text[key] >= text["vocab_size"] for key in ("bos_token_id", "pad_token_id", "sep_token_id")):
        raise _unfit(name, folder / CONFIG, "a special token lies outside the vocabulary")
    mean, std = _processor(folder, name, vision["image_size"])
    if not (folder / TOKENIZER).is_file():
        raise ModelRefused(f"The checkpoint {name} in {str(folder)!r} has no {TOKENIZER}.", model=name)
    if (folder / TOKENIZER).stat().st_size > _MAX_TOKENIZER_BYTES:
        raise _unfit(name, folder / TOKENIZER, f"it has more than {_MAX_TOKENIZER_BYTES:,} bytes")
    tied = config.get("tie_word_embeddings", True) is not False
    return Checkpoint(name, folder, weights, weights.name != WEIGHTS, text, vision, tied, mean, std)


def header_of(path: Path, name: str) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in a file of safetensors; raises :class:`ModelRefused` where it is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            (length,) = struct.unpack("<Q", head) if len(head) == 8 else (0,)
            if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
                raise _damaged(path, name, "its header is not there")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelRefused(f"The weights of {name} can't be read: {error.strerror or error}.", model=name) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, name, "its header is no JSON") from error
    if not isinstance(header, dict) or len(header) > _MAX_TENSORS:
        raise _damaged(path, name, "its header is no list of tensors")
    header.pop("__metadata__", None)
    shapes, ends = {}, [0]
    for key, told in header.items():
        try:
            shape, (start, end) = tuple(int(side) for side in told["shape"]), told["data_offsets"]
            expected = math.prod(shape) * _BYTES[told["dtype"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, name, f"the tensor {key[:80]!r} is not described") from error
        if min(shape, default=0) < 0 or end - start != expected:
            raise _damaged(path, name, f"the tensor {key[:80]!r} has another length than its shape")
        shapes[key] = shape
        ends.append(end)
    if max(ends) != size - 8 - length:
        raise _damaged(path, name, f"it has {size:,} bytes, and its header speaks of {max(ends) + 8 + length:,}")
    return shapes


def check_shapes(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint
) -> None:
    """Raise :class:`ModelRefused` where weights are missing, or of another shape than the configuration says."""
    name, config = checkpoint.name, checkpoint.folder / CONFIG
    missing = [key for key in wanted if key not in found]
    if missing:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise _unfit(name, config, f"the weights have no {missing[0]}{more}, which it asks for")
    wrong = next((key for key in wanted if tuple(found[key]) != tuple(wanted[key])), None)
    if wrong is not None:
        shapes = ("×".join(map(str, shape)) for shape in (found[wrong], wanted[wrong]))
        raise _unfit(name, config, "the weights have a {} of {}, it asks for {}".format(wrong, *shapes))


def _numbers(
    given: Any, bounds: Mapping[str, tuple[int, int]], defaults: Mapping[str, int], name: str, folder: Path
) -> dict[str, Any]:
    said = given if isinstance(given, dict) else {}
    taken: dict[str, Any] = {}
    for key, (low, high) in bounds.items():
        value = said.get(key, defaults[key])
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _unfit(name, folder / CONFIG, f"its {key} is {str(value)[:40]}; from {low:,} to {high:,} is possible")
        taken[key] = value
    epsilon = said.get("layer_norm_eps")
    if isinstance(epsilon, float) and 0 < epsilon < 1:
        taken["layer_norm_eps"] = epsilon
    activation = said.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise _unfit(name, folder / CONFIG, f"its hidden_act is {str(activation)[:40]!r}")
    return {**taken, "hidden_act": activation}


def _processor(folder: Path, name: str, side: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation by which pictures are standardized."""
    path = next((folder / file for file in PROCESSORS if (folder / file).is_file()), None)
    if path is None:
        raise ModelRefused(
            f"The checkpoint {name} in {str(folder)!r} does not say how pictures are prepared: {PROCESSORS[0]} is not "
            "there.",
            model=name,
        )
    said = _json(path, name)
    said = said.get("image_processor", said)
    if not isinstance(said, dict):
        raise _unfit(name, path, "its image_processor is no object")
    size = said.get("size", {})
    sides = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    if sides != (side, side):
        raise _unfit(name, path, f"it makes pictures of {sides[1]}×{sides[0]} pixels, the model takes {side}×{side}")
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if said.get(key, True) is not True:
            raise _unfit(name, path, f"{key} is off, which no BLIP captioner was trained with")
    if said.get("resample", _BICUBIC) != _BICUBIC or said.get("do_center_crop") or said.get("do_pad"):
        raise _unfit(name, path, "it crops, pads or resizes otherwise than by a bicubic filter")
    if not math.isclose(_number(said.get("rescale_factor", 1 / 255)), 1 / 255, rel_tol=1e-3):
        raise _unfit(name, path, "its rescale_factor is not 1/255")
    return _triple(said.get("image_mean"), name, path), _triple(said.get("image_std"), name, path, least=1e-3)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _triple(value: Any, name: str, path: Path, least: float = 0.0) -> tuple[float, float, float]:
    numbers = [_number(item) for item in value] if isinstance(value, list) else []
    if len(numbers) != 3 or not all(least <= item <= 1 for item in numbers):
        raise _unfit(name, path, "image_mean and image_std must be three numbers from 0 to 1")
    return numbers[0], numbers[1], numbers[2]


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise _unfit(name, path, f"it has more than {_MAX_CONFIG_BYTES:,} bytes")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelRefused(
            f"The checkpoint {name} has no {path.name} that can be read: {error.strerror or error}.", model=name
        ) from error
    except (ValueError, RecursionError) as error:
        raise _unfit(name, path, "it is no JSON") from error
    if not isinstance(found, dict):
        raise _unfit(name, path, "it holds no object")
    return found


def _unfit(name: str, path: Path, what: str) -> ModelRefused:
    return ModelRefused(
        f"The checkpoint {name} can't be used: {path.name} does not fit, {what}. Give a whole checkpoint of a BLIP "
        "captioner.",
        model=name,
    )


def _damaged(path: Path, name: str, what: str) -> ModelRefused:
    return ModelRefused(
        f"The weights of {name} ({path}) are truncated, damaged or no safetensors: {what}. Bring the file again.",
        model=name,
    )
