"""The models folder: which weights lie there, whether they are what the registry says, and checkpoints of one's own.

A model of the registry is the file ``NAME.onnx`` (and files beside it) right in the folder. Its digest is computed
once, and remembered beside it for as long as size and time of the file stay the same. Captioners are checkpoint
folders ``NAME`` (see ``checkpoint.py``). Any other ``NAME.onnx`` there, or folder ``NAME`` with one ONNX file or a
captioner in it, is a checkpoint of the owner's. Outside the folder there are paths, where they are allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pixelmill.errors import InvalidParameter, ModelMissing, ModelRefused
from pixelmill.models import checkpoint
from pixelmill.models.families import FAMILIES
from pixelmill.models.model import Missing, Wanted
from pixelmill.models.own import Found, labels_in, own_checkpoint, read_json
from pixelmill.models.registry import REGISTRY, TASKS, Entry, Weights, entry_named

DEFAULT_FOLDER = "~/.local/share/pixelmill/models"
"""Where a library looks that was told no other place."""
_CHUNK = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")

State = Literal["here", "missing", "wrong"]


class ModelFolder:
    """The folder, which need not exist. ``paths``: whether a path may stand in place of a name.

    ``allow_pickle``: whether checkpoint folders may have their weights in a pickle.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        paths: bool = True,
        allow_pickle: bool = False,
        registry: Mapping[str, Entry] = REGISTRY,
    ) -> None:
        self.path = path if path is not None else Path(DEFAULT_FOLDER).expanduser()
        self.registry = registry
        self.paths = paths
        self.allow_pickle = allow_pickle
        self._checked: dict[str, dict[str, Any]] = {}
        """What was found sound, by path: at most the files of the registry."""

    # -- looking ----------------------------------------------------------------------------------

    def find(self, wanted: Wanted) -> Found:
        """The weights, checked against their digest.

        Raises:
            InvalidParameter: no such name, or a path where only names are allowed.
            ModelMissing: they are not here.
            ModelRefused: of another sum, of another task, or a checkpoint that can't be understood.
        """
        if is_path(wanted.name):
            return self._at_path(wanted)
        own = self.own_named(wanted.name)
        if own is not None:
            return self._checkpoint(own, wanted)
        entry = self._entry(wanted)
        if self._is_begun(entry):
            return replace(self._captioner(self.path / entry.place, wanted), memory=entry.memory)
        for item in entry.files:
            path = self.path / item.file
            if not path.is_file():
                raise _missing(entry)
            if not self._is_sound(path, item):
                raise ModelRefused(
                    f"The weights of {entry.name} ({path}) are not those that the registry knows: their sum is "
                    f"another. They are truncated, damaged or changed: fetch them with `pixelmill models pull "
                    f"{entry.name} --force`, or, if they are your own, give them another name.",
                    model=entry.name,
                )
        labels = labels_in(self.path / entry.files[1].file) if len(entry.files) > 1 else ()
        return Found(entry.name, self.path / entry.files[0].file, FAMILIES[entry.family], labels, entry.memory)

    def check_name(self, wanted: Wanted) -> None:
        """Raise :class:`InvalidParameter` for a path where only names are allowed, and for a name of no model."""
        if is_path(wanted.name) and not self.paths:
            raise _no_path(wanted.name)
        if not is_path(wanted.name) and self.own_named(wanted.name) is None:
            self._entry(wanted)

    def missing(self, wanted: Wanted) -> Missing | None:
        """What is not here; looks at names alone."""
        if is_path(wanted.name) or self.own_named(wanted.name) is not None:
            return None
        entry = self._entry(wanted)
        if all((self.path / item.file).is_file() for item in entry.files):
            return None
        if self._is_begun(entry):
            return None
        return Missing(f"the weights of {entry.name}", _command(entry))

    def state(self, entry: Entry, *, check: bool = False) -> State:
        """Whether the files of a model are here; ``check`` computes their digests anew."""
        if entry.task == "caption":
            return self._captioner_state(entry, check=check)
        paths = [self.path / item.file for item in entry.files]
        if not all(path.is_file() for path in paths):
            return "missing"
        sound = all(self._is_sound(path, item, anew=check) for path, item in zip(paths, entry.files, strict=True))
        return "here" if sound else "wrong"

    def remove(self, entry: Entry) -> int:
        """Delete the files of a model, but those that another one which is here needs; gives the bytes deleted."""
        needed = {
            item.file
            for other in self.registry.values()
            if other.name != entry.name and self.state(other) != "missing"
            for item in other.files
        }
        gone = 0
        for file in [name for item in entry.files for name in (item.file, item.also) if name]:
            path = self.path / file
            if file in needed or not path.is_file():
                continue
            gone += path.stat().st_size
            beside = (f".{path.name}.checked", f"{path.name}.part", f".{path.name}.part.tag")
            for each in (path, *map(path.with_name, beside)):
                each.unlink(missing_ok=True)
            with suppress(OSError):  # a checkpoint folder goes when it is empty
                if path.parent != self.path:
                    path.parent.rmdir()
        return gone

    def own(self) -> Iterator[Path]:
        """Checkpoints of the owner's that lie in the folder, by name."""
        if not self.path.is_dir():
            return
        known = {item.file.partition("/")[0] for entry in self.registry.values() for item in entry.files}
        for path in sorted(self.path.iterdir()):
            if path.name in known or path.name.startswith("."):
                continue
            if path.suffix == ".onnx" or (path.is_dir() and (any(path.glob("*.onnx")) or _is_captioner(path))):
                yield path

    # -- parts ------------------------------------------------------------------------------------

    def _entry(self, wanted: Wanted) -> Entry:
        entry = entry_named(wanted.name, self.registry)
        if entry.task != wanted.task:
            fit = ", ".join(name for name, row in self.registry.items() if row.task == wanted.task)
            raise InvalidParameter(
                f"The model {entry.name} {TASKS[entry.task]}; here one is needed that {TASKS[wanted.task]}: {fit}.",
                parameter="model",
                allowed=fit,
            )
        return entry

    def own_named(self, name: str) -> Path | None:
        """Where a checkpoint of the owner's lies that goes by that name."""
        if name in self.registry or not _NAME.fullmatch(name):
            return None
        return next((path for path in (self.path / f"{name}.onnx", self.path / name) if path.exists()), None)

    def _at_path(self, wanted: Wanted) -> Found:
        if not self.paths:
            raise _no_path(wanted.name)
        path = Path(wanted.name).expanduser()
        if not path.exists():
            raise ModelMissing(f"There is no model at {str(path)!r}. Check the path, or name one of the registry.")
        return self._checkpoint(path, wanted)

    def _checkpoint(self, path: Path, wanted: Wanted) -> Found:
        return self._captioner(path, wanted) if wanted.task == "caption" else own_checkpoint(path, wanted)

    def _captioner(self, path: Path, wanted: Wanted) -> Found:
        """A checkpoint folder, or its file of weights; what it says is read when it is loaded."""
        if path.is_file() and path.suffix in checkpoint.PICKLE_SUFFIXES and not self.allow_pickle:
            raise checkpoint.refused_pickle(path, wanted.name)
        folder = path if path.is_dir() else path.parent
        if not (folder / checkpoint.CONFIG).is_file():
            raise ModelRefused(
                f"{str(path)!r} is no checkpoint of a captioner: there must be a folder with {checkpoint.CONFIG}, "
                f"{checkpoint.TOKENIZER}, {checkpoint.PROCESSORS[0]} and {checkpoint.WEIGHTS} in it.",
                model=wanted.name,
            )
        weights = checkpoint.weights_in(folder, wanted.name, allow_pickle=self.allow_pickle)
        memory = weights.stat().st_size + 700_000_000  # torch and transformers themselves, and a batch
        return Found(wanted.name, weights, FAMILIES["blip"], (), memory)

    def _is_begun(self, entry: Entry) -> bool:
        """Whether there is a checkpoint folder of that name, be it whole or not."""
        return entry.task == "caption" and (self.path / entry.place / checkpoint.CONFIG).is_file()

    def _captioner_state(self, entry: Entry, *, check: bool) -> State:
        """Without sums: files that fit each other, and that are what they were at the last look."""
        try:
            found = self._captioner(self.path / entry.place, Wanted(entry.name, "caption"))
        except ModelRefused:
            return "missing"
        if not check:
            return "here"
        try:
            checkpoint.read_checkpoint(found.path, entry.name)
            if found.path.name == checkpoint.WEIGHTS:
                checkpoint.header_of(found.path, entry.name)
        except ModelRefused:
            return "wrong"
        files = [found.path, *(self.path / name for item in entry.files[1:] for name in (item.file, item.also) if name)]
        return "here" if all(_is_unchanged(path) for path in files if path.is_file()) else "wrong"

    def _is_sound(self, path: Path, item: Weights, *, anew: bool = False) -> bool:
        note = path.with_name(f".{path.name}.checked")
        status = path.stat()
        stamp = {"digest": item.digest, "size": status.st_size, "time": status.st_mtime_ns}
        if not anew and stamp in (self._checked.get(item.file), read_json(note)):
            return True
        try:
            sound = digest_of(path, item.digest.partition(":")[0]) == item.digest
        except OSError as error:
            raise ModelRefused(f"The weights in {path} can't be read: {error.strerror or error}.") from error
        with suppress(OSError):  # a folder that can't be written is looked through again by each process
            if sound:
                write_whole(note, json.dumps(stamp).encode())
            else:
                note.unlink(missing_ok=True)
        if sound:
            self._checked[item.file] = stamp
        else:
            self._checked.pop(item.file, None)
        return sound


def _is_captioner(path: Path) -> bool:
    """Whether a folder looks like a checkpoint of one."""
    weights = (checkpoint.WEIGHTS, *checkpoint.PICKLES)
    return (path / checkpoint.CONFIG).is_file() and any((path / file).is_file() for file in weights)


def _is_unchanged(path: Path) -> bool:
    """Whether a file that has no known sum has that of the last look, if its size and time say that it should."""
    note, status = path.with_name(f".{path.name}.checked"), path.stat()
    stamp = {"digest": digest_of(path, "sha256"), "size": status.st_size, "time": status.st_mtime_ns}
    before = read_json(note)
    if before and (before.get("size"), before.get("time")) == (stamp["size"], stamp["time"]):
        return before == stamp
    with suppress(OSError):  # in a folder that can't be written there is nothing to compare with
        write_whole(note, json.dumps(stamp).encode())
    return True


def is_path(name: str) -> bool:
    """Whether a reference to a model is a path rather than a name."""
    return "/" in name or os.sep in name or name.startswith((".", "~")) or name.endswith(".onnx")


def digest_of(path: Path, algorithm: str) -> str:
    """``algorithm:hex`` of a file."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return f"{algorithm}:{hasher.hexdigest()}"


def write_whole(path: Path, data: bytes) -> None:
    """All of it or nothing."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_bytes(data)
    part.replace(path)


def _no_path(name: str) -> InvalidParameter:
    return InvalidParameter(
        f"The model {name[:120]!r} is a path; here models are taken by name only. Put the file into the models folder "
        "of the service, and name it.",
        parameter="model",
        allowed="a name",
    )


def _command(entry: Entry) -> str:
    """What brings the weights."""
    return f"pixelmill models pull {entry.name}" + ("" if all(item.url for item in entry.files) else " --from PLACE")


def _missing(entry: Entry) -> ModelMissing:
    return ModelMissing(
        f"The weights of {entry.name} are not here. Bring them with `{_command(entry)}`.",
        model=entry.name,
        command=_command(entry),
    )
