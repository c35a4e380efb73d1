"""What every object store must do: subclass :class:`ObjectStoreConformance` in your tests and give it a ``store``.

Needs pytest and anyio. The subclass defines a fixture ``store`` (sync or async) that gives an empty store::

    class TestMyStore(ObjectStoreConformance):
        @pytest.fixture
        def store(self) -> ObjectStore:
            return MyStore(...)
"""

# A test's name is its sentence:
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest

from pixelmill.errors import InvalidURI, LimitExceeded, ObjectExists, ObjectNotFound, StorageError
from pixelmill.storage.store import ObjectInfo, ObjectStore, PutHeaders

MEGABYTE = 1 << 20

GOOD_KEYS = [
    "a",
    "uploads/owner/0198.jpg",
    "ordner/größe ñ 日本語 🎨.jpg",
    "e\u0301 decomposed",
    "percent%2F100% #?*[]{}<>|\"^`~'&$+=;,!@().jpg",
    ".hidden/..two/three...",
    " spaces / around ",
    "x" * 255,
    "/".join(["d" * 203] * 5),
    "ü" * 127,
]
BAD_KEYS = [
    "",
    "/absolute",
    "trailing/",
    "double//slash",
    ".",
    "..",
    "../escape",
    "a/../../escape",
    "a/./b",
    "nul\0byte",
    "back\\slash",
    "line\nbreak",
    "escape\x1b[2J",
    "delete\x7f",
    "c1\x9b",
    "lone\ud800surrogate",
    "x" * 256,
    "ü" * 128,
    "/".join(["d" * 204] * 5 + ["e"]),
    ".pixelmill/tmp/x",
]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    """An async iterator over ``parts``."""
    for part in parts:
        yield part


async def keys_of(store: ObjectStore, prefix: str = "") -> list[str]:
    """The sorted keys below ``prefix``."""
    return sorted([info.key async for info in store.list(prefix)])


@pytest.mark.anyio
class ObjectStoreConformance:
    """The contract of :class:`pixelmill.storage.store.ObjectStore`, as tests."""

    async def test_what_was_put_is_what_is_got(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 40
        info = await store.put("folder/object", data)
        assert (info.key, info.size) == ("folder/object", len(data))
        assert await store.get("folder/object") == data

    async def test_facts_are_those_of_the_object(self, store: ObjectStore) -> None:
        before = time.time() - 5
        put = await store.put("folder/object", b"12345")
        head = await store.head("folder/object")
        assert head == ObjectInfo("folder/object", 5, head.modified)
        assert put == ObjectInfo("folder/object", 5, put.modified)
        assert before < head.modified < time.time() + 5
        assert abs(put.modified - head.modified) < 5

    async def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        await store.put("empty", b"")
        await store.put("empty-stream", pieces())
        for key in ("empty", "empty-stream"):
            assert await store.get(key) == b""
            assert [chunk async for chunk in store.stream(key)] == []
            assert (await store.head(key)).size == 0
            assert await store.get_range(key, 0, 10) == b""

    async def test_a_put_replaces_the_object(self, store: ObjectStore) -> None:
        await store.put("object", b"a longer first version")
        info = await store.put("object", b"second")
        assert info.size == 6
        assert await store.get("object") == b"second"
        assert await keys_of(store) == ["object"]

    async def test_absent_objects_are_not_found(self, store: ObjectStore) -> None:
        await store.put("folder/object", b"x")
        for key in ("nothing", "folder", "folder/other", "folder/object/below"):
            with pytest.raises(ObjectNotFound):
                await store.get(key)
            with pytest.raises(ObjectNotFound):
                await store.get_range(key, 0, 1)
            with pytest.raises(ObjectNotFound):
                await store.head(key)
            with pytest.raises(ObjectNotFound):
                await anext(store.stream(key))
            assert store.local_path(key) is None

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, 4, b"0123"),
            (4, 3, b"456"),
            (8, 100, b"89"),
            (9, 1, b"9"),
            (10, 1, b""),
            (99, 9, b""),
            (3, 0, b""),
            (0, 10, b"0123456789"),
        ],
    )
    async def test_a_range_is_cut_at_the_end(
        self, store: ObjectStore, start: int, length: int, expected: bytes
    ) -> None:
        await store.put("object", b"0123456789")
        assert await store.get_range("object", start, length) == expected

    @pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, -1)])
    async def test_a_negative_range_is_refused(self, store: ObjectStore, start: int, length: int) -> None:
        await store.put("object", b"0123456789")
        with pytest.raises(StorageError):
            await store.get_range("object", start, length)

    async def test_streams_go_in_and_out_in_bounded_pieces(self, store: ObjectStore) -> None:
        blocks = [bytes([index]) * 700_001 for index in range(20)]
        info = await store.put("large", pieces(*blocks))
        assert info.size == 20 * 700_001
        digest = hashlib.sha256()
        async for chunk in store.stream("large", 100_000):
            assert 0 < len(chunk) <= 100_000
            digest.update(chunk)
        assert digest.digest() == hashlib.sha256(b"".join(blocks)).digest()
        assert await store.get_range("large", 700_000, 2) == b"\0\1"

    async def test_a_large_object_of_bytes_comes_back(self, store: ObjectStore) -> None:
        data = bytes(range(251)) * 20_000
        await store.put("large", data)
        assert await store.get("large") == data
        assert await store.get_range("large", 100, 3 * MEGABYTE) == data[100 : 100 + 3 * MEGABYTE]

    @pytest.mark.parametrize("key", GOOD_KEYS, ids=range(len(GOOD_KEYS)))
    async def test_unusual_keys_are_kept_to_the_byte(self, store: ObjectStore, key: str) -> None:
        await store.put(key, b"content")
        assert await store.get(key) == b"content"
        assert await keys_of(store) == [key]
        await store.delete([key])
        assert await keys_of(store) == []

    @pytest.mark.parametrize("key", BAD_KEYS, ids=range(len(BAD_KEYS)))
    async def test_bad_keys_are_refused_by_every_method(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(InvalidURI):
            await store.put(key, b"x")
        with pytest.raises(InvalidURI):
            await store.put(key, pieces(b"x"), if_absent=True)
        with pytest.raises(InvalidURI):
            await store.get(key)
        with pytest.raises(InvalidURI):
            await store.get_range(key, 0, 1)
        with pytest.raises(InvalidURI):
            await anext(store.stream(key))
        with pytest.raises(InvalidURI):
            await store.head(key)
        with pytest.raises(InvalidURI):
            await store.delete(["good", key])
        with pytest.raises(InvalidURI):
            await store.presign(key, "GET", 60)
        with pytest.raises(InvalidURI):
            store.local_path(key)
        if key:  # an empty prefix means everything
            with pytest.raises(InvalidURI):
                await anext(store.list(f"{key}/"))
        assert await keys_of(store) == []

    async def test_put_if_absent_leaves_what_is_there(self, store: ObjectStore) -> None:
        await store.put("object", b"first", if_absent=True)
        with pytest.raises(ObjectExists):
            await store.put("object", b"second", if_absent=True)
        with pytest.raises(ObjectExists):
            await store.put("object", pieces(b"third" * MEGABYTE), if_absent=True)
        assert await store.get("object") == b"first"
        assert await keys_of(store) == ["object"]

    @pytest.mark.parametrize("size", [10, 12 * MEGABYTE], ids=["small", "large"])
    async def test_headers_change_nothing_of_the_bytes(self, store: ObjectStore, size: int) -> None:
        headers = PutHeaders("image/webp", "public, max-age=31536000, immutable")
        await store.put("bytes", b"b" * size, headers=headers)
        await store.put("stream", pieces(*[b"s" * MEGABYTE] * (size // MEGABYTE), b"s"), headers=headers)
        await store.put("absent", pieces(b"a" * size), if_absent=True, headers=PutHeaders(content_type="text/plain"))
        assert await store.get("bytes") == b"b" * size
        assert (await store.head("stream")).size == size // MEGABYTE * MEGABYTE + 1
        assert await store.get("absent") == b"a" * size

    @pytest.mark.parametrize("size", [10, 2 * MEGABYTE])
    async def test_of_racing_puts_if_absent_exactly_one_wins(self, store: ObjectStore, size: int) -> None:
        async def put(number: int) -> int | None:
            data = bytes([number]) * size
            try:
                await store.put("race/object", data if number % 2 else pieces(data), if_absent=True)
            except ObjectExists:
                return None
            return number

        winners = [number for number in await asyncio.gather(*map(put, range(8))) if number is not None]
        assert len(winners) == 1
        assert await store.get("race/object") == bytes(winners) * size
        assert await keys_of(store) == ["race/object"]

    async def test_too_many_bytes_leave_nothing_behind(self, store: ObjectStore) -> None:
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x" * MEGABYTE

        with pytest.raises(LimitExceeded) as caught:
            await store.put("object", endless(), limit=5 * MEGABYTE)
        assert caught.value.context["maximum"] == 5 * MEGABYTE
        assert taken == 6
        with pytest.raises(LimitExceeded):
            await store.put("object", b"123456", limit=5)
        with pytest.raises(LimitExceeded):
            await store.put("object", endless(), limit=5 * MEGABYTE, if_absent=True)
        assert await keys_of(store) == []
        assert (await store.put("object", b"12345", limit=5)).size == 5

    @pytest.mark.parametrize("before", [1, 5], ids=["small", "large"])
    async def test_a_stream_that_breaks_leaves_the_old_object(self, store: ObjectStore, before: int) -> None:
        async def broken() -> AsyncIterator[bytes]:
            for _ in range(before):
                yield b"y" * MEGABYTE
            raise ConnectionResetError("the client went away")

        await store.put("object", b"old")
        for key in ("object", "new"):
            with pytest.raises(ConnectionResetError, match="went away"):
                await store.put(key, broken())
        assert await store.get("object") == b"old"
        assert await keys_of(store) == ["object"]

    async def test_a_put_is_invisible_until_it_is_whole(self, store: ObjectStore) -> None:
        half, rest = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"n" * MEGABYTE
            half.set()
            await rest.wait()
            yield b"n"

        await store.put("object", b"old")
        put = asyncio.create_task(store.put("object", slow()))
        await half.wait()
        assert await store.get("object") == b"old"
        assert [info.size async for info in store.list()] == [3]
        rest.set()
        await put
        assert (await store.head("object")).size == 4 * MEGABYTE + 1

    async def test_a_cancelled_put_leaves_nothing(self, store: ObjectStore) -> None:
        half = asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"n" * MEGABYTE
            half.set()
            await asyncio.Event().wait()

        put = asyncio.create_task(store.put("object", stuck()))
        await half.wait()
        put.cancel()
        with pytest.raises(asyncio.CancelledError):
            await put
        assert await keys_of(store) == []

    async def test_readers_see_one_version_or_the_other(self, store: ObjectStore) -> None:
        versions = [bytes([number]) * (MEGABYTE + number) for number in range(6)]
        await store.put("object", versions[0])

        async def write() -> None:
            for version in versions[1:]:
                await store.put("object", version)

        async def read() -> None:
            for _ in range(5):
                assert await store.get("object") in versions

        await asyncio.gather(write(), read(), read())

    async def test_a_listing_has_what_is_below_its_prefix(self, store: ObjectStore) -> None:
        sizes = {"a/1": 1, "a/b/2": 2, "a/b/c/3": 3, "ab/4": 4, "b": 5}
        for key, size in sizes.items():
            await store.put(key, b"x" * size)
        assert {info.key: info.size async for info in store.list()} == sizes
        assert await keys_of(store, "a/") == ["a/1", "a/b/2", "a/b/c/3"]
        assert await keys_of(store, "a/b/") == ["a/b/2", "a/b/c/3"]
        assert await keys_of(store, "nothing/") == []
        assert await keys_of(store, "b/") == []
        with pytest.raises(InvalidURI):
            await keys_of(store, "a/b")

    async def test_a_long_listing_is_whole(self, store: ObjectStore) -> None:
        keys = sorted(f"many/{number % 3}/{number}" for number in range(1_203))
        for key in keys:
            await store.put(key, b"")
        assert await keys_of(store) == keys
        await store.delete(keys[:-1])
        assert await keys_of(store) == keys[-1:]

    async def test_deleting_is_idempotent(self, store: ObjectStore) -> None:
        for key in ("a/1", "a/2", "b/3"):
            await store.put(key, b"x")
        await store.delete(["a/1", "nothing", "a/1", "b/3", "b/3/below", "a"])
        assert await keys_of(store) == ["a/2"]
        await store.delete(["a/1"])
        await store.delete([])
        await store.put("b", b"an object where a folder was")
        assert await keys_of(store) == ["a/2", "b"]

    async def test_a_copy_takes_the_place_of_what_was_there(self, store: ObjectStore) -> None:
        await store.put("from/object ü", b"content")
        await store.put("to/object", b"a longer object that goes")
        await store.copy("from/object ü", "to/object")
        assert await store.get("to/object") == await store.get("from/object ü") == b"content"
        assert (await store.head("to/object")).size == 7
        with pytest.raises(ObjectNotFound):
            await store.copy("nothing", "to/object")
        with pytest.raises(InvalidURI):
            await store.copy("from/object ü", "../to")
        assert await store.get("to/object") == b"content"

    async def test_a_local_path_is_the_object(self, store: ObjectStore) -> None:
        await store.put("folder/object", b"content")
        path = store.local_path("folder/object")
        if path is not None:
            assert path.is_absolute()
            assert path.read_bytes() == b"content"

    async def test_a_check_of_a_working_store_passes_and_leaves_nothing(self, store: ObjectStore) -> None:
        await store.check()
        assert await keys_of(store) == []

    async def test_it_has_the_methods_of_the_contract(self, store: ObjectStore) -> None:
        assert isinstance(store, ObjectStore)
