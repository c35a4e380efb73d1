"""The registry: one table of the models that Pixelmill knows by name, and where their weights come from.

Facts only, no I/O. A digest is ``algorithm:hex``: of SHA-256 where it is public or the file was at hand, else what the
publisher checks by (MD5), and empty where neither is known; sizes are for bounds and for people. A file ``NAME/FILE``
belongs to a checkpoint folder. Without a ``url`` the table knows no place: who pulls says where from.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pixelmill.errors import InvalidParameter

Task: TypeAlias = Literal["segmentation", "classification", "faces", "caption"]

TASKS: Mapping[Task, str] = {
    "segmentation": "tells an object from its background",
    "classification": "names what is to be seen",
    "faces": "finds faces",
    "caption": "says in a sentence what is to be seen",
}
"""What models are for, and how messages say it."""

EXTRA_OF: Mapping[Task, str] = {"segmentation": "ml", "classification": "ml", "caption": "caption"}
"""The extra that brings what runs a task's models; OpenCV, which is always there, runs those of others."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One file of a model: its name in the models folder, where it comes from, its digest and its bytes.

    ``also``: the name under which newer tools write the same file.
    """

    file: str
    url: str
    digest: str
    size: int
    also: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A model. The first file holds the weights; ``licence`` is that of the weights as their publisher states it.

    ``commercial``: whether that allows commercial use (what it was trained on may have terms of its own).
    ``memory``: bytes that a session takes; ``seconds``: CPU seconds of a run on one current core. Both were measured
    here for u2netp and yunet, for the BLIP captioners with weights of their shapes (ten tokens, no beams), and are
    reckoned for the others from weights, input size and published operations.
    """

    name: str
    task: Task
    family: str
    files: tuple[Weights, ...]
    licence: str
    commercial: bool
    memory: int
    seconds: float
    origin: str
    """Who made it."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.files)

    @property
    def place(self) -> str:
        """What lies in the models folder by its name: the file of weights, or the checkpoint folder."""
        return self.files[0].file.partition("/")[0]


_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_ZOO = "https://github.com/onnx/models/raw/main/validated/vision/classification"
_IMAGENET = Weights(
    "imagenet_classes.txt",
    "https://raw.githubusercontent.com/pytorch/hub/master/imagenet_classes.txt",
    "sha256:1f386e0d1cb6e28b9c2dac651c3dea6801e98ad1b41a14ce6bb1a093d72069f5",
    10_472,
)
_MB = 1_000_000


def _salient(
    name: str, family: str, file: str, digest: str, size: int, licence: str, memory: int, seconds: float, origin: str
) -> tuple[str, Entry]:
    """A row of a salient-object model that rembg's release has."""
    weights = Weights(f"{name}.onnx", f"{_REMBG}/{file}", digest, size)
    commercial = "NC" not in licence
    return name, Entry(name, "segmentation", family, (weights,), licence, commercial, memory, seconds, origin)


def _captioner(name: str, weights: int, memory: int, seconds: float) -> tuple[str, Entry]:
    """A row of a BLIP captioner: a checkpoint folder. Its publisher states no sums."""
    sizes = {
        "model.safetensors": weights,
        "config.json": 4_600,
        "preprocessor_config.json": 300,
        "tokenizer.json": 711_400,
    }
    newer = {"preprocessor_config.json": f"{name}/processor_config.json"}
    files = tuple(Weights(f"{name}/{file}", "", "", size, newer.get(file, "")) for file, size in sizes.items())
    return name, Entry(name, "caption", "blip", files, "BSD-3-Clause", True, memory, seconds, "salesforce/BLIP")


REGISTRY: Mapping[str, Entry] = dict(
    (
        _salient(
            "u2netp",
            "u2net",
            "u2netp.onnx",
            "sha256:309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
            4_574_861,
            "Apache-2.0",
            350 * _MB,
            0.45,
            "xuebinqin/U-2-Net",
        ),
        _salient(
            "u2net",
            "u2net",
            "u2net.onnx",
            "md5:60024c5c889badc19c04ad937298a77b",
            175_997_641,
            "Apache-2.0",
            800 * _MB,
            2.0,
            "xuebinqin/U-2-Net",
        ),
        _salient(
            "u2net_human_seg",
            "u2net",
            "u2net_human_seg.onnx",
            "md5:c09ddc2e0104f800e3e1bb4652583d1f",
            176_000_000,
            "Apache-2.0",
            800 * _MB,
            2.0,
            "xuebinqin/U-2-Net",
        ),
        _salient(
            "silueta",
            "u2net",
            "silueta.onnx",
            "md5:55e59e0d8062d2f5d013f4725ee84782",
            44_173_029,
            "Apache-2.0",
            600 * _MB,
            2.0,
            "silueta.me, from xuebinqin/U-2-Net",
        ),
        _salient(
            "isnet-general-use",
            "isnet",
            "isnet-general-use.onnx",
            "sha256:60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
            178_648_008,
            "Apache-2.0",
            1_000 * _MB,
            6.0,
            "xuebinqin/DIS",
        ),
        _salient(
            "isnet-anime",
            "isnet-anime",
            "isnet-anime.onnx",
            "md5:6f184e756bb3bd901c8849220a83e38e",
            176_000_000,
            "Apache-2.0",
            1_000 * _MB,
            6.0,
            "SkyTNT/anime-segmentation",
        ),
        _salient(
            "birefnet-general",
            "birefnet",
            "BiRefNet-general-epoch_244.onnx",
            "sha256:58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
            972_666_916,
            "MIT",
            7_000 * _MB,
            40.0,
            "ZhengPeng7/BiRefNet",
        ),
        _salient(
            "birefnet-general-lite",
            "birefnet",
            "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
            "sha256:5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
            224_005_088,
            "MIT",
            5_000 * _MB,
            15.0,
            "ZhengPeng7/BiRefNet",
        ),
        _salient(
            "birefnet-portrait",
            "birefnet",
            "BiRefNet-portrait-epoch_150.onnx",
            "md5:c3a64a6abf20250d090cd055f12a3b67",
            972_666_916,
            "MIT",
            7_000 * _MB,
            40.0,
            "ZhengPeng7/BiRefNet",
        ),
        (
            "mobilenet_v2",
            Entry(
                "mobilenet_v2",
                "classification",
                "imagenet",
                (
                    Weights(
                        "mobilenet_v2.onnx",
                        f"{_ZOO}/mobilenet/model/mobilenetv2-12.onnx",
                        "sha256:c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5",
                        13_964_571,
                    ),
                    _IMAGENET,
                ),
                "Apache-2.0",
                True,
                100 * _MB,
                0.03,
                "onnx/models",
            ),
        ),
        (
            "yunet",
            Entry(
                "yunet",
                "faces",
                "yunet",
                (
                    Weights(
                        "yunet.onnx",
                        "https://github.com/ShiqiYu/libfacedetection.train/raw/0047ac24afb1/onnx/yunet_n_640_640.onnx",
                        "sha256:25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31",
                        317_466,
                    ),
                ),
                "Apache-2.0",
                True,
                20 * _MB,
                0.05,
                "ShiqiYu/libfacedetection.train",
            ),
        ),
        _captioner("blip-base", 895_900_000, 1_500 * _MB, 2.3),
        _captioner("blip-large", 1_785_000_000, 2_500 * _MB, 6.1),
    )
)
"""Every known model by name, in the order of lists."""


def entry_named(name: str, registry: Mapping[str, Entry] = REGISTRY) -> Entry:
    """The row of that name; raises :class:`InvalidParameter` with the nearest ones."""
    found = registry.get(name)
    if found is not None:
        return found
    nearest = difflib.get_close_matches(name[:80].lower(), registry, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    known = ", ".join(registry)
    raise InvalidParameter(
        f"There is no model {name[:80]!r}.{hint} Known are {known}.", parameter="model", allowed=known, nearest=nearest
    )
