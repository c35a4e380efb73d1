"""What a put of a small object takes in each store, as it is and with the look at the object that it spares.

``python bench/stores.py`` starts moto (S3) and Azurite on loopback; the network of a real cloud comes on top, once a
request.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from buckets import azure_container, s3_bucket

from pixelmill.storage.opening import open_store
from pixelmill.storage.store import ObjectStore
from servers import Azurite, Moto

COUNT, SIZE = 200, 10_000


async def measure(name: str, store: ObjectStore) -> None:
    """Print the medians over ``COUNT`` puts, one after the other."""
    data = b"x" * SIZE

    async def pieces() -> object:
        yield data

    async def put(key: str) -> None:
        await store.put(key, data, if_absent=True)

    async def put_and_head(key: str) -> None:
        await store.put(key, data, if_absent=True)
        await store.head(key)

    async def stream(key: str) -> None:
        await store.put(key, pieces())  # type: ignore[arg-type]  # an async generator of bytes

    for number in range(20):  # connections are made, servers are warm
        await put_and_head(f"warm/{number}")
    shown = []
    for label, work in (("put", put), ("put and head", put_and_head), ("streamed put", stream)):
        times = []
        for number in range(COUNT):
            began = time.perf_counter()
            await work(f"{label}/{number}")
            times.append(time.perf_counter() - began)
        shown.append(f"{label} {1000 * statistics.median(times):.2f} ms")
    print(f"{name}: {', '.join(shown)}")


def main() -> None:
    """Print a line a store."""
    with tempfile.TemporaryDirectory() as folder:
        moto, azurite = Moto(Path(folder) / "moto").start(), Azurite(Path(folder) / "azurite").start()
        try:
            for name, bucket in (("S3 (moto)", s3_bucket(moto)), ("Azure (Azurite)", azure_container(azurite))):
                asyncio.run(measure(name, open_store(bucket.uri, bucket.options)))
            asyncio.run(measure("folder", open_store(f"{folder}/objects")))
        finally:
            moto.close()
            azurite.close()


if __name__ == "__main__":
    main()
