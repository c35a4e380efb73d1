"""The conformance suite over buckets on real servers: S3 (moto), Azure Blob (Azurite), GCS (moto's S3)."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from buckets import azure_container, gcs_bucket, s3_bucket, s3_client, service_account

from pixelmill.storage.opening import open_store
from pixelmill.storage.store import ObjectStore, PutHeaders
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


NO_PRECONDITIONS = "moto's S3 does not know Google's x-goog-if-generation-match; the header is tested below"
NO_COPY = "moto's S3 does not know Google's x-goog-copy-source; the header is tested below"


class TestGoogle(ObjectStoreConformance):
    @pytest.mark.skip(NO_PRECONDITIONS)
    async def test_put_if_absent_leaves_what_is_there(self, store: ObjectStore) -> None: ...

    @pytest.mark.skip(NO_PRECONDITIONS)
    @pytest.mark.parametrize("size", [10])
    async def test_of_racing_puts_if_absent_exactly_one_wins(self, store: ObjectStore, size: int) -> None: ...

    @pytest.mark.slow  # moto's pages of S3 are these of Google
    async def test_a_long_listing_is_whole(self, store: ObjectStore) -> None:
        await super().test_a_long_listing_is_whole(store)

    @pytest.mark.skip(NO_COPY)
    async def test_a_copy_takes_the_place_of_what_was_there(self, store: ObjectStore) -> None: ...

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


@pytest.mark.anyio
async def test_google_is_asked_for_absence_and_for_copies_by_its_headers() -> None:
    seen: list[dict[str, str]] = []

    class Recording(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("etag", '"one"')
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with HTTPServer(("127.0.0.1", 0), Recording) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        account = json.dumps(service_account(f"http://127.0.0.1:{server.server_port}"))
        store = open_store("gs://bucket/pre", {"service_account_key": account})
        try:
            await store.put("a", b"x", if_absent=True)
            await store.put("a", b"x")
            await store.copy("a", "b")
        finally:
            server.shutdown()
            thread.join()
    assert seen[0]["x-goog-if-generation-match"] == "0"
    assert "x-goog-if-generation-match" not in seen[1]
    assert seen[2]["x-goog-copy-source"].replace("%2F", "/").endswith("bucket/pre/a")


@pytest.mark.anyio
@pytest.mark.parametrize("size", [10, 7 << 20], ids=["one request", "parts"])
async def test_a_bucket_answers_with_the_headers_of_the_put(moto_server: Moto, size: int) -> None:
    bucket = s3_bucket(moto_server)
    store = open_store(bucket.uri, bucket.options)

    async def body() -> AsyncIterator[bytes]:
        yield b"w" * size

    headers = PutHeaders("image/webp", "public, max-age=60")
    put = [await store.put("bytes", b"w" * size, headers=headers), await store.put("stream", body(), headers=headers)]
    await store.put("plain", b"w")
    client, (name, _, prefix) = s3_client(moto_server), bucket.uri.removeprefix("s3://").partition("/")
    for key, info in zip(("bytes", "stream"), put, strict=True):
        answer = client.head_object(Bucket=name, Key=f"{prefix}/{key}")
        assert info.version == answer["ETag"].strip('"'), "as events of the bucket call it"
        assert (answer["ContentType"], answer["CacheControl"]) == ("image/webp", "public, max-age=60")
    assert "CacheControl" not in client.head_object(Bucket=name, Key=f"{prefix}/plain")
