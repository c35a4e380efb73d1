"""Weights of one's own: what a file or a folder of them says of itself, beside what lies in the graph.

Reading and checking alone; which places are looked at is the models folder's (``folder.py``).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelmill.errors import ModelRefused
from pixelmill.models.families import FAMILIES, Family
from pixelmill.models.model import Wanted
from pixelmill.models.registry import REGISTRY

MAX_JSON_BYTES = 65_536
MAX_LABELS_BYTES = 1_000_000
MAX_LABELS = 100_000
_MASKS, _SCORES = 350_000_000, 200_000_000
"""Intermediate results of weights that nobody has measured: of a salient-object model (U-2-Net: 350 MB), of others."""


@dataclass(frozen=True, slots=True)
class Found:
    """Weights that are here. ``family`` None: what they take decides. ``memory``: bytes a session is reckoned with.

    ``scale``: see :class:`Nature`.
    """

    name: str
    path: Path
    family: Family | None
    labels: tuple[str, ...]
    memory: int
    scale: float = 0.0


def own_checkpoint(path: Path, wanted: Wanted) -> Found:
    """A file, or a folder with one ONNX file; ``model.json`` (``NAME.json``) beside it may say more.

    That is ``family``, the name of the file of ``labels``, and ``scale``, what a level of quantized logits means.
    """
    if path.is_dir():
        files = sorted(path.glob("*.onnx"))
        weights = next((file for file in files if file.name == "model.onnx"), files[0] if len(files) == 1 else None)
        if weights is None:
            what = "no ONNX file" if not files else f"{len(files)} ONNX files and none of them is model.onnx"
            raise ModelRefused(f"The folder {str(path)!r} has {what}. Give the file itself.", model=wanted.name)
        about, labels = path / "model.json", path / "labels.txt"
    else:
        weights = path
        about, labels = path.with_suffix(".json"), path.with_suffix(".txt")
    said = _said(about, wanted.name)
    family = _said_family(said.get("family"), wanted, about) or _known_family(weights, wanted)
    if "labels" in said:
        labels = about.parent / Path(str(said["labels"])).name
        if not labels.is_file():
            raise ModelRefused(f"{about} says labels that are not there: {labels.name[:80]!r}.", model=wanted.name)
    scale = said.get("scale", 0.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 <= scale < math.inf:
        raise ModelRefused(f"{about} says a scale that is no number above 0.", model=wanted.name)
    memory = 2 * weights.stat().st_size + (_MASKS if wanted.task == "segmentation" else _SCORES)
    return Found(wanted.name, weights, family, labels_in(labels) if labels.is_file() else (), memory, float(scale))


def _said(about: Path, name: str) -> dict[str, Any]:
    """What a model.json says, if there is one; raises :class:`ModelRefused` where it can't be understood."""
    if not about.exists():
        return {}
    said = read_json(about)
    if said is None:
        raise ModelRefused(
            f"{about} can't be understood: it must be a JSON object of at most {MAX_JSON_BYTES:,} bytes, such as "
            '{"family": "isnet"}. Correct it, or take it away.',
            model=name,
        )
    return said


def _said_family(said: Any, wanted: Wanted, about: Path) -> Family | None:
    if said is None:
        return None
    family = FAMILIES.get(said) if isinstance(said, str) else None
    if family is None or family.task != wanted.task:
        fit = ", ".join(name for name, row in FAMILIES.items() if row.task == wanted.task)
        raise ModelRefused(
            f"{about} says the family {str(said)[:80]!r}; here it must be one of {fit}.", model=wanted.name
        )
    return family


def _known_family(weights: Path, wanted: Wanted) -> Family | None:
    """Of weights that are named as in the registry."""
    entry = REGISTRY.get(weights.stem)
    return FAMILIES[entry.family] if entry is not None and entry.task == wanted.task else None


def labels_in(path: Path) -> tuple[str, ...]:
    """A label a line; raises :class:`ModelRefused` where they are too many, or no text."""
    try:
        if path.stat().st_size > MAX_LABELS_BYTES:
            raise ModelRefused(f"The labels in {path} are too long: at most {MAX_LABELS_BYTES:,} bytes are read.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ModelRefused(f"The labels in {path} can't be read: {error}.") from error
    if len(lines) > MAX_LABELS:
        raise ModelRefused(f"The labels in {path} are too many: at most {MAX_LABELS:,} lines are read.")
    return tuple(line.strip() for line in lines)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a small file; None where there is none."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
