"""Giant images in object stores: read by ranges, written without a copy here, whole or not at all. Real servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from buckets import Bucket, azure_container, gcs_bucket, s3_bucket, s3_client
from region_tools import picture, raster_of, read_all, write_all

from pixelmill.errors import CorruptImage, ObjectExists, ObjectNotFound, PixelmillError, StorageError
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Region
from pixelmill.storage.opening import open_store
from pixelmill.storage.store import ObjectStore
from pixelmill.tiling.places import ObjectPlace, object_source
from servers import Moto

KEY = "deep/er/out"


@dataclass
class Opened:
    """A store, what reaches its bucket, and a folder for scratch files."""

    store: ObjectStore
    bucket: Bucket | None
    scratch: Path
    moto: Moto | None

    def place(self, name: str, *, if_absent: bool = False) -> ObjectPlace:
        return ObjectPlace(self.store, f"deep/er/{name}", if_absent=if_absent, scratch=self.scratch)

    def keys(self) -> list[str]:
        async def listed() -> list[str]:
            return sorted([info.key async for info in self.store.list()])

        return asyncio.run(listed())

    def unfinished(self) -> list[Any]:
        """Uploads in parts that were neither completed nor aborted; Azure's have no list."""
        if self.moto is None or self.bucket is None:
            return []
        found: list[Any] = (
            s3_client(self.moto).list_multipart_uploads(Bucket=self.bucket.uri.split("/")[2]).get("Uploads", [])
        )
        return found


@pytest.fixture(
    params=[
        "memory",
        "s3",
        "azure",
        pytest.param("folder", marks=pytest.mark.slow),
        pytest.param("gcs", marks=pytest.mark.slow),
    ]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    bucket: Bucket | None = None
    if request.param == "s3":
        bucket = s3_bucket(request.getfixturevalue("moto_server"))
    elif request.param == "gcs":
        bucket = gcs_bucket(request.getfixturevalue("moto_server"))
    elif request.param == "azure":
        bucket = azure_container(request.getfixturevalue("azurite_server"))
    address = bucket.uri if bucket else "memory:" if request.param == "memory" else str(tmp_path / "store")
    if request.param == "folder":
        (tmp_path / "store").mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    moto = request.getfixturevalue("moto_server") if request.param in ("s3", "gcs") else None
    yield Opened(open_store(address, bucket.options if bucket else None), bucket, scratch, moto)
    assert not list(scratch.iterdir())


def test_a_tiff_is_read_by_ranges(opened: Opened, tmp_path: Path) -> None:
    path, pixels = tmp_path / "in.tif", np.random.default_rng(0).integers(0, 256, (3000, 2500), np.uint8)
    write_all(create_regions(path, raster_of(pixels), options={"tile": 256}), pixels)
    asyncio.run(opened.store.put("in.tif", path.read_bytes()))
    source = object_source(opened.store, "in.tif")
    asked: list[int] = []
    fetch = source._fetch

    def counted(start: int, length: int) -> bytes:
        asked.append(length)
        return fetch(start, length)

    source._fetch = counted
    reader = open_regions(source)
    part = Region(1000, 1500, 300, 200)
    assert np.array_equal(reader.read(part), part.of(pixels, Region(0, 0, 2500, 3000)))
    assert sum(asked) < path.stat().st_size / 2
    assert np.array_equal(read_all(reader), pixels)
    before = threading.active_count()
    reader.close()
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.tif", {"level": 1}),
        ("out.tif", {"cog": True, "level": 1}),
        ("out.png", {}),
        ("out.dzi", {"tiles": "png"}),
        ("out.zarr", {"compression": "none"}),
    ],
    ids=["tiff", "cog", "png", "deep zoom", "zarr"],
)
def test_results_come_into_being_in_the_store(opened: Opened, name: str, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2300, 2400, 3), np.uint8)  # 16 MB: several parts
    write_all(
        create_regions(
            opened.place(name),
            raster_of(pixels),
            options={"level": 1, **options} if name in ("out.tif", "out.zarr") else options,
        ),
        pixels,
    )
    keys = opened.keys()
    if name.endswith(("tif", "png")):
        assert keys == [f"deep/er/{name}"]
        assert np.array_equal(read_all(open_regions(object_source(opened.store, keys[0]))), pixels)
    else:
        assert len(keys) > 20
        assert (f"deep/er/{name}" if name == "out.dzi" else f"deep/er/{name}/zarr.json") in keys
    assert not opened.unfinished()


@pytest.mark.parametrize("name", ["out.tif", "out.png", "out.dzi", "out.zarr"])
def test_an_abort_leaves_no_object_and_no_part(opened: Opened, name: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4200, 2400, 3), np.uint8)
    writer = create_regions(opened.place(name), raster_of(pixels))
    half = 2100 // writer.unit.height * writer.unit.height  # 15 MB: parts are under way
    writer.write(Region(0, 0, 2400, half), pixels[:half])
    writer.abort()
    writer.abort()
    assert opened.keys() == []
    assert not opened.unfinished()


@pytest.mark.parametrize("name", ["out.tif", "out.png", "out.dzi", "out.zarr"])
def test_a_result_that_is_there_stays_if_so_asked_and_is_replaced_otherwise(opened: Opened, name: str) -> None:
    old, new = picture(1200, 600, seed=1), picture(300, 200, seed=2)
    write_all(create_regions(opened.place(name), raster_of(old)), old)
    before = opened.keys()
    with pytest.raises(ObjectExists):
        create_regions(opened.place(name, if_absent=True), raster_of(new))
    assert opened.keys() == before
    write_all(create_regions(opened.place(name), raster_of(new)), new)
    after = opened.keys()
    assert set(after) <= set(before) | {key for key in after if "_files/" in key}
    if name in ("out.tif", "out.png"):
        assert np.array_equal(read_all(open_regions(object_source(opened.store, after[0]))), new)


def the_later_loses(opened: Opened, name: str) -> None:
    pixels = picture(300, 200)
    one = create_regions(opened.place(name, if_absent=True), raster_of(pixels))
    two = create_regions(opened.place(name, if_absent=True), raster_of(pixels))
    write_all(one, pixels)
    there = opened.keys()
    with pytest.raises(ObjectExists):
        write_all(two, pixels)
    two.abort()
    assert opened.keys() == there
    assert not opened.unfinished()


@pytest.mark.parametrize("name", ["out.dzi", "out.zarr"])
def test_the_later_of_two_attempts_loses_and_takes_nothing_away(opened: Opened, name: str) -> None:
    the_later_loses(opened, name)


@pytest.mark.parametrize("opened", ["s3"], indirect=True)
def test_s3_holds_uploads_in_parts_to_that_too(opened: Opened) -> None:
    the_later_loses(opened, "out.tif")


def test_an_object_that_is_not_there_or_no_image_is_said(opened: Opened) -> None:
    threads = threading.active_count()
    with pytest.raises(ObjectNotFound):
        object_source(opened.store, "absent.tif")
    asyncio.run(opened.store.put("broken.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(50)))
    with pytest.raises(CorruptImage):
        open_regions(object_source(opened.store, "broken.tif"))
    assert threading.active_count() <= threads + 1  # obstore's own


class _Failing:
    """A store whose puts fail after the first bytes, as one that has gone away."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, key: str, data: Any, **options: Any) -> Any:
        if not isinstance(data, bytes):
            async for _ in data:
                break
        raise StorageError("gone", key=key)


@pytest.mark.parametrize("name", ["out.tif", "out.png", "out.dzi", "out.zarr"])
def test_a_store_that_goes_away_is_an_error_and_no_hang(tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4200, 2400, 3), np.uint8)
    store: Any = _Failing(open_store("memory:"))
    writer = create_regions(ObjectPlace(store, name, scratch=tmp_path), raster_of(pixels))
    with pytest.raises(PixelmillError, match="gone"):
        write_all(writer, pixels)
    writer.abort()
    assert not list(tmp_path.iterdir())
