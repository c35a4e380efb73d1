"""Random histories: every store behaves as a dictionary does."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelmill.errors import LimitExceeded, ObjectExists, ObjectNotFound
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.store import ObjectStore
from pixelmill.testing.object_store import pieces

KEYS = st.sampled_from(["a", "b/c", "b/d/e", "b/d/f", "ü/日本", "b/.d"])
DATA = st.binary(max_size=20)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, DATA),
        st.tuples(st.just("stream"), KEYS, DATA),
        st.tuples(st.just("create"), KEYS, DATA),
        st.tuples(st.just("too much"), KEYS, DATA),
        st.tuples(st.just("delete"), KEYS, DATA),
    ),
    max_size=25,
)


async def follow(store: ObjectStore, steps: list[tuple[str, str, bytes]]) -> None:
    model: dict[str, bytes] = {}
    for verb, key, data in steps:
        if verb == "put":
            await store.put(key, data)
            model[key] = data
        elif verb == "stream":
            await store.put(key, pieces(data[:3], b"", data[3:]))
            model[key] = data
        elif verb == "create" and key in model:
            with pytest.raises(ObjectExists):
                await store.put(key, data, if_absent=True)
        elif verb == "create":
            await store.put(key, data, if_absent=True)
            model[key] = data
        elif verb == "too much":
            with pytest.raises(LimitExceeded):
                await store.put(key, pieces(data, b"x"), limit=len(data))
        else:
            await store.delete([key])
            model.pop(key, None)
        if key in model:
            assert await store.get(key) == model[key]
            assert await store.get_range(key, 1, 5) == model[key][1:6]
        else:
            with pytest.raises(ObjectNotFound):
                await store.head(key)
    assert {info.key: info.size async for info in store.list()} == {key: len(data) for key, data in model.items()}
    assert {info.key async for info in store.list("b/d/")} == {key for key in model if key.startswith("b/d/")}


def in_folder(steps: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        asyncio.run(follow(store, steps))
        store.close()


def in_memory(steps: list[tuple[str, str, bytes]]) -> None:
    asyncio.run(follow(MemoryStore(), steps))


@pytest.mark.parametrize("run", [in_folder, in_memory])
def test_a_store_is_a_dictionary(run: Callable[[list[tuple[str, str, bytes]]], None]) -> None:
    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def holds(steps: list[tuple[str, str, bytes]]) -> None:
        run(steps)

    holds()
