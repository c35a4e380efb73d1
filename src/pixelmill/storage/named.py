"""Buckets that requests may read from: configured ones alone, by the prefix of an address, with their own credentials.

An address in a request names a bucket and a key, never a host, an endpoint or a credential. What lies outside every
configured prefix is refused in the same words whether it is there or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from pixelmill.errors import InvalidURI, LimitExceeded, SourceRefused
from pixelmill.storage.keys import check_key, is_key
from pixelmill.storage.opening import bucket_of, open_store
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.sources import MAX_FILES, MAX_VISITED
from pixelmill.storage.store import ObjectStore
from pixelmill.storage.uris import BUCKET_SCHEMES, URI, parse_uri, split_raw
from pixelmill.storage.wildcards import Part, matches, split_pattern


@dataclass(frozen=True, slots=True)
class SourceObject:
    """An object that may be read. ``name`` is relative to where the wild cards began; ``uri`` names it exactly.

    ``size`` is None where whoever named it did not say: the stores here always do.
    """

    name: str
    uri: str
    size: int | None


@dataclass(frozen=True, slots=True)
class _Place:
    scheme: str
    bucket: str
    prefix: str
    store: ObjectStore
    spec: StoreSpec


def names_bucket(uri: str) -> bool:
    """Whether an address is one of a bucket."""
    return uri.partition(":")[0].lower() in BUCKET_SCHEMES


class SourceStores:
    """The configured stores by name; raises :class:`ConfigError` for one that can't be."""

    def __init__(self, specs: Mapping[str, StoreSpec]) -> None:
        places = [_Place(*bucket_of(spec.uri), open_store(spec.uri, spec.options), spec) for spec in specs.values()]
        # The nearest prefix first: it may have credentials of its own.
        self._places = sorted(places, key=lambda place: len(place.prefix), reverse=True)

    def of(self, uri: str) -> tuple[ObjectStore, str]:
        """The store of an address without wild cards, and the key there; raises :class:`SourceRefused`."""
        found = parse_uri(uri)
        place = self._place(found.scheme, found.bucket, found.path, uri)
        return place.store, _key(found.path.removeprefix(place.prefix), uri)

    def spec_of(self, uri: str) -> StoreSpec:
        """How that store is opened; raises :class:`SourceRefused`."""
        found = parse_uri(uri)
        return self._place(found.scheme, found.bucket, found.path, uri).spec

    async def expand(
        self, uris: Sequence[str], *, max_files: int = MAX_FILES, max_visited: int = MAX_VISITED
    ) -> list[SourceObject]:
        """The objects behind the addresses, in their order, by key within one; wild cards as in files.

        Raises :class:`SourceRefused`, :class:`InvalidURI`, :class:`ObjectNotFound` for an address without wild cards,
        :class:`LimitExceeded` beyond ``max_files`` or where more than ``max_visited`` objects would be looked at.
        """
        found: list[SourceObject] = []
        for uri in uris:
            async for one in self._expand(uri, max_visited):
                found.append(one)
                if len(found) > max_files:
                    raise LimitExceeded(
                        f"The sources are more than {max_files:,} objects. Submit them in several jobs.",
                        limit="files",
                        value=len(found),
                        maximum=max_files,
                    )
        return found

    async def _expand(self, uri: str, max_visited: int) -> AsyncIterator[SourceObject]:
        scheme, bucket, raw = split_raw(uri)
        fixed, pattern = split_pattern(raw, uri)
        path = "/".join(fixed)
        # Wild cards stand behind the configured prefix: a pattern must not find out what lies beside it.
        place = self._place(scheme, bucket, f"{path}/" if pattern else path, uri)
        if not pattern:
            info = await place.store.head(_key(path.removeprefix(place.prefix), uri))
            yield SourceObject(fixed[-1], str(URI(scheme, bucket, path)), info.size)
            return
        base = f"{path}/" if path else ""
        below = base.removeprefix(place.prefix)
        keys = await self._matching(place.store, below, pattern, uri, max_visited)
        for key, size in keys:
            yield SourceObject(key.removeprefix(below), str(URI(scheme, bucket, place.prefix + key)), size)

    async def _matching(
        self, store: ObjectStore, below: str, pattern: Sequence[Part], uri: str, max_visited: int
    ) -> list[tuple[str, int]]:
        """Keys that match, sorted. Names that our own stores could not hold (``a//b``, ``folder/``) are left out."""
        found: list[tuple[str, int]] = []
        visited = 0
        async for info in store.list(below):
            visited += 1
            if visited > max_visited:
                raise LimitExceeded(
                    f"{uri!a} looks at more than {max_visited:,} objects. Name a prefix closer to them.",
                    limit="files looked at",
                    value=visited,
                    maximum=max_visited,
                )
            if is_key(info.key) and matches(info.key.removeprefix(below).split("/"), pattern):
                found.append((info.key, info.size))
        return sorted(found)

    def _place(self, scheme: str, bucket: str, path: str, uri: str) -> _Place:
        for place in self._places:
            if (scheme, bucket) == (place.scheme, place.bucket) and path.startswith(place.prefix):
                return place
        raise SourceRefused(
            f"{uri!a} is in no store that this server may read. Upload the files instead, or have the store "
            "configured (setting `stores`).",
            uri=uri,
        )


async def read_limited(store: ObjectStore, key: str, check: Callable[[int], None]) -> bytes:
    """The whole object; ``check`` gets its size before, and the sum of bytes while they arrive, and raises."""
    check((await store.head(key)).size)
    pieces: list[bytes] = []
    total = 0
    async for piece in store.stream(key):
        total += len(piece)
        check(total)
        pieces.append(piece)
    return b"".join(pieces)


def _key(key: str, uri: str) -> str:
    if not key:
        raise InvalidURI(f"{uri!a} names no object. Add /* for those below it, or /** for all.", uri=uri)
    check_key(key)
    return key
