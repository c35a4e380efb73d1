"""Resolves the image and font parameters of a pipeline (a watermark) to stored bytes and their sha256.

After this a pipeline means the same on every machine and for ever: its references name contents, not places.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pixelmill.errors import InvalidParameter, LimitExceeded, ObjectNotFound
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.jobs.uploads import Uploads
from pixelmill.models.folder import ModelFolder
from pixelmill.operations.fonts import MAX_FONT_BYTES, font_of
from pixelmill.operations.parameters import BUILT_IN_FONTS
from pixelmill.pipelines.sources import read_file
from pixelmill.pipelines.spec import Pipeline
from pixelmill.storage.named import SourceStores, names_bucket, read_limited
from pixelmill.storage.sources import expand_sources
from pixelmill.storage.store import ObjectStore

_FONT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}\.(?:ttf|otf|ttc)", re.IGNORECASE)
MAX_IMAGE_PARAMETERS = 8
REMEMBERED = 256
MAX_VISITED = 10_000
"""Folder entries looked at for an image that a wild card names."""


class ImageParameters:
    """Looks up, checks and stores the images and fonts that pipelines refer to; remembers the last ones."""

    def __init__(
        self,
        store: ObjectStore,
        uploads: Uploads,
        roots: Sequence[Path],
        limits: Limits,
        sources: SourceStores,
        fonts: Path | None = None,
        models: Path | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self._fonts = fonts
        self._models = ModelFolder(models, paths=False)
        self._shared = shared  # other processes may remove what we remember
        self._store, self._uploads, self._roots, self._limits = store, uploads, roots, limits
        self._sources = sources
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def resolve(self, owner: str, pipeline: Pipeline) -> tuple[Pipeline, Mapping[str, str]]:
        """The pipeline with ``sha256:HEX`` references, and the store key of each.

        Accepts ``upload:ID``, ``file://`` below a source root, an object of a configured store, and ``sha256:HEX`` that
        this owner has stored. Raises :class:`InvalidParameter` for anything else, and what reading and probing the
        image raises.
        """
        self.check_models(pipeline)
        references, fonts = pipeline.images(), pipeline.font_references
        if not references and not fonts:
            return pipeline, {}
        if len(references) + len(fonts) > MAX_IMAGE_PARAMETERS:
            raise InvalidParameter(
                f"A pipeline may refer to {MAX_IMAGE_PARAMETERS} images and fonts, this one has more."
            )
        digests = {reference: await self._digest(owner, reference) for reference in references}
        of_fonts = {reference: await self._font_digest(owner, reference) for reference in fonts}
        keys = {f"sha256:{digest}": f"images/{owner}/{digest}" for digest in (*digests.values(), *of_fonts.values())}
        resolved = pipeline.with_images({ref: f"sha256:{digest}" for ref, digest in digests.items()})
        return resolved.with_fonts({ref: f"sha256:{digest}" for ref, digest in of_fonts.items()}), keys

    def check_models(self, pipeline: Pipeline) -> None:
        """Raise :class:`InvalidParameter` where it names a model by a path, or one that nobody knows."""
        for wanted in pipeline.wanted_models:
            self._models.check_name(wanted)

    async def _font_digest(self, owner: str, reference: str) -> str:
        """The font of that name in the folder of fonts, stored; or one that was stored before."""
        if reference.startswith("sha256:"):
            return await self._digest(owner, reference)
        data = await asyncio.to_thread(self._read_font, reference)
        digest = hashlib.sha256(data).hexdigest()
        await self._store.put(f"images/{owner}/{digest}", data)
        return digest

    def _read_font(self, name: str) -> bytes:
        """A file right in the folder; blocking. What a request names is never a path."""
        if self._fonts is None or not _FONT_NAME.fullmatch(name) or not (self._fonts / name).is_file():
            there = () if self._fonts is None else itertools.islice(sorted(self._fonts.glob("*.[ot]tf")), 20)
            known = ", ".join((*BUILT_IN_FONTS, *(path.name for path in there)))
            raise InvalidParameter(
                f"text: there is no font {name[:120]!r} here; known are {known}. A service takes font files by their "
                "name in the folder that PIXELMILL_FONTS says, never by a path.",
                operation="text",
                parameter="font",
                allowed=known,
            )
        data = read_file(self._fonts / name, replace(self._limits, max_bytes=MAX_FONT_BYTES))
        font_of(data, name)
        return data

    async def _digest(self, owner: str, reference: str) -> str:
        known = self._known.get((owner, reference))
        if known is not None and (not self._shared or await self._is_stored(owner, known)):
            return known
        if reference.startswith("sha256:"):
            digest = reference.removeprefix("sha256:").lower()
            await self._must_exist(owner, digest, reference)
        else:
            data = await self._read(owner, reference)
            probe(data, self._limits)
            digest = hashlib.sha256(data).hexdigest()
            await self._store.put(f"images/{owner}/{digest}", data)
        if reference.startswith(("upload:", "sha256:")):  # files and objects may change; uploads and contents don't
            self._known[owner, reference] = digest
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return digest

    def forget(self, keys: Sequence[str]) -> None:
        """Those store keys were deleted: look again when they are asked for."""
        gone = set(keys)
        for owner, reference in list(self._known):
            if f"images/{owner}/{self._known[owner, reference]}" in gone:
                del self._known[owner, reference]

    async def _is_stored(self, owner: str, digest: str) -> bool:
        try:
            await self._store.head(f"images/{owner}/{digest}")
        except ObjectNotFound:
            return False
        return True

    async def _must_exist(self, owner: str, digest: str, reference: str) -> None:
        well_formed = len(digest) == 64 and all(character in "0123456789abcdef" for character in digest)
        if well_formed and await self._is_stored(owner, digest):
            return
        raise InvalidParameter(
            f"The image {reference} is not stored here. Upload it (PUT /v1/uploads/NAME) and refer to upload:ID.",
            parameter="image",
        )

    async def _read(self, owner: str, reference: str) -> bytes:
        if reference.startswith("upload:"):
            (upload,) = await self._uploads.get(owner, [reference.removeprefix("upload:")])
            self._limits.check_bytes(upload.size)
            return await self._store.get(upload.key)
        if reference.startswith("file:"):
            return await asyncio.to_thread(self._read_file, reference)
        if names_bucket(reference):
            store, key = self._sources.of(reference)
            return await read_limited(store, key, self._limits.check_bytes)
        raise _refused(reference)

    def _read_file(self, reference: str) -> bytes:
        """The one file that the address names; blocking. A wild card must not send us through a whole tree."""
        try:
            files = list(expand_sources([reference], self._roots, max_files=1, max_visited=MAX_VISITED))
        except LimitExceeded as error:
            raise _refused(reference) from error
        if not files:
            raise _refused(reference)
        return read_file(files[0].path, self._limits)


def _refused(reference: str) -> InvalidParameter:
    return InvalidParameter(
        f"The image {reference!r} can't be used here: upload it (PUT /v1/uploads/NAME) and refer to upload:ID, "
        "or name a single file:// below a source root of the service, or an object of a configured store.",
        parameter="image",
    )
