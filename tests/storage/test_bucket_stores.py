"""The conformance suite over buckets on real servers: S3 (moto), Azure Blob (Azurite), GCS (moto's S3)."""

from __future__ import annotations

import pytest
from buckets import azure_container, gcs_bucket, s3_bucket

from pixelmill.storage.opening import open_store
from pixelmill.storage.store import ObjectStore
from pixelmill.testing.object_store import ObjectStoreConformance, keys_of
from servers import Azurite, Moto


class TestS3(ObjectStoreConformance):
    @pytest.fixture
    def store(self, moto_server: Moto) -> ObjectStore:
        bucket = s3_bucket(moto_server)
        return open_store(bucket.uri, bucket.options)


class TestAzure(ObjectStoreConformance):
    @pytest.fixture
    def store(self, azurite_server: Azurite) -> ObjectStore:
        bucket = azure_container(azurite_server)
        return open_store(bucket.uri, bucket.options)


class TestGoogle(ObjectStoreConformance):
    @pytest.fixture
    def store(self, moto_server: Moto) -> ObjectStore:
        bucket = gcs_bucket(moto_server)
        return open_store(bucket.uri, bucket.options)


@pytest.mark.anyio
async def test_two_prefixes_of_a_bucket_are_two_stores(moto_server: Moto) -> None:
    bucket = s3_bucket(moto_server, prefix="one")
    one = open_store(bucket.uri, bucket.options)
    other = open_store(bucket.uri.removesuffix("one") + "other", bucket.options)
    whole = open_store(bucket.uri.removesuffix("/one"), bucket.options)
    await one.put("a/object", b"1")
    await other.put("a/object", b"22")
    assert [info.size async for info in one.list()] == [1]
    assert await keys_of(other) == ["a/object"]
    assert await keys_of(whole) == ["one/a/object", "other/a/object"]
