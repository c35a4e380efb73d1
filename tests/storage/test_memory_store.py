from __future__ import annotations

import pytest

from pixelmill.errors import LimitExceeded, StorageFull
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.store import ObjectStore
from pixelmill.testing.object_store import ObjectStoreConformance, keys_of, pieces


class TestMemoryStore(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


class TestObstoreStore(ObjectStoreConformance):
    """The class that buckets use, over obstore's own memory."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        from obstore.store import MemoryStore as ForeignMemoryStore

        return ObstoreStore(ForeignMemoryStore())


@pytest.mark.anyio
async def test_the_capacity_bounds_all_objects_together() -> None:
    store = MemoryStore(capacity=100)
    await store.put("a", b"x" * 60)
    with pytest.raises(StorageFull):
        await store.put("b", b"x" * 41)
    with pytest.raises(StorageFull):
        await store.put("b", pieces(*[b"x"] * 41))
    await store.put("b", b"x" * 40)
    await store.put("a", b"x" * 55)
    await store.put("c", b"x" * 5)
    assert await keys_of(store) == ["a", "b", "c"]


@pytest.mark.anyio
async def test_deleting_and_failing_give_room_back() -> None:
    store = MemoryStore(capacity=100)
    await store.put("a", b"x" * 100)
    await store.delete(["a", "a", "nothing"])
    with pytest.raises(LimitExceeded):
        await store.put("b", pieces(b"x" * 50, b"x" * 30), limit=60)
    await store.put("b", b"x" * 100)
    with pytest.raises(StorageFull):
        await store.put("c", b"x")
