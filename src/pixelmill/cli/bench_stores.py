"""Stores of `pixelmill bench`: where images are dropped for a rule or a function, and where results are found."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pixelmill.errors import ConfigError
from pixelmill.evaluation.function import Reply
from pixelmill.storage.opening import bucket_of, open_store
from pixelmill.storage.store import ObjectStore

RULE = "bench"


@dataclass(frozen=True, slots=True)
class Stores:
    """What the command line says of buckets. ``queue``: where a bucket's events are; ``rule``: of a running service."""

    store: str = ""
    results: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    queue: str = ""
    queue_options: Mapping[str, str] = field(default_factory=dict)
    rule: str = RULE

    def check(self) -> None:
        """Raises :class:`ConfigError` where either address is missing."""
        if not self.store or not self.results:
            raise ConfigError(
                "Name the buckets: --store s3://BUCKET/PREFIX, where images are put, and --results s3://OTHER/PREFIX. "
                "Objects below both that the evaluation has made are removed."
            )


class StoreDrop:
    """See :class:`pixelmill.evaluation.dropping.Drop`. Removes nothing but what it put, and the results of that."""

    def __init__(self, source: ObjectStore, results: ObjectStore, rule: str) -> None:
        self.rule = rule
        self._source, self._results = source, results
        self._names: set[str] = set()

    async def put(self, path: Path, name: str) -> None:
        """Put a file; a folder shows it when it is whole."""
        self._names.add(name)
        await self._source.put(name, path.read_bytes())  # noqa: ASYNC240 -- from the page cache

    async def delivered(self) -> int:
        """Results of what was put."""
        return len(await self._ours(self._results))

    async def clear(self) -> None:
        """Remove what was put, and its results."""
        for store in (self._source, self._results):
            keys = await self._ours(store)
            for at in range(0, len(keys), 1000):
                await store.delete(keys[at : at + 1000])
        self._names.clear()

    async def _ours(self, store: ObjectStore) -> list[str]:
        stems = {name.rpartition(".")[0] for name in self._names}
        return [info.key async for info in store.list() if info.key.rpartition("/")[2].rpartition(".")[0] in stems]


def drop_of(stores: Stores) -> StoreDrop:
    """Over the addresses of the command line."""
    return StoreDrop(_opened(stores.store, stores), _opened(stores.results, stores), stores.rule)


def _opened(uri: str, stores: Stores) -> ObjectStore:
    return open_store(uri, stores.options if "://" in uri and not uri.startswith("file:") else None)


def rules_file(folder: Path, pipeline: str, stores: Stores) -> Path:
    """The rules of a private service: one that watches the store, and the queue that tells of it, if any."""
    rule = {"name": stores.rule, "watch": _slash(stores.store), "pipeline": pipeline, "output": _output(stores.results)}
    made: dict[str, Any] = {"rules": [rule]}
    if stores.queue:
        made["sources"] = [{"name": "bench", "kind": "sqs", "queue": stores.queue, **stores.queue_options}]
    path = folder / "rules.yaml"
    path.write_text(json.dumps(made))  # JSON is YAML
    path.chmod(0o600)
    return path


def stores_file(folder: Path, stores: Stores) -> None:
    """The configuration of a private service's buckets, where it looks for it."""
    tables = []
    for name, uri in (("source", stores.store), ("results", stores.results)):
        values = {"uri": uri, **stores.options}
        tables += [f"[stores.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    path = folder / "pixelmill.toml"
    path.touch(0o600)
    path.write_text("\n".join(tables))


def _slash(uri: str) -> str:
    return uri if uri.endswith("/") else f"{uri}/"


def _output(uri: str) -> str:
    return f"{_slash(uri)}{{stem}}.{{ext}}"


# -- events of functions -------------------------------------------------------------------------


class BucketEvents:
    """See :class:`pixelmill.evaluation.function.Events`: S3's own event, as a bucket's notification sends it."""

    def __init__(self, stores: Stores) -> None:
        self._drop = drop_of(stores)
        self._results = _opened(stores.results, stores)
        self._results_at = _slash(stores.results)
        _, self._bucket, self._prefix = bucket_of(stores.store)

    async def appear(self, path: Path) -> Mapping[str, Any]:
        """Put the image; what S3 would tell of it."""
        name = f"{secrets.token_hex(4)}-{path.name}"
        await self._drop.put(path, name)
        size = path.stat().st_size  # noqa: ASYNC240 -- microseconds
        told = {"key": quote(f"{self._prefix}{name}"), "size": size, "eTag": secrets.token_hex(16), "sequencer": "0A"}
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "eventName": "ObjectCreated:Put",
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": self._bucket}, "object": told},
        }
        return {"Records": [record]}

    async def read(self, event: Mapping[str, Any], result: Any) -> Reply:
        """The size of what it wrote; an event that can't succeed has no result."""
        del event
        written = result.get("results") if isinstance(result, Mapping) else None
        if not written:
            return Reply("no-result")
        info = await self._results.head(str(written[0]).removeprefix(self._results_at))
        return Reply(bytes_out=info.size)

    async def clear(self) -> None:
        """Remove images and results."""
        await self._drop.clear()


class DirectEvents:
    """Each event is an image with its pipeline, in Base64, and each result one: no bucket is needed."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline

    async def appear(self, path: Path) -> Mapping[str, Any]:
        """The document of a task, see ``targets/invocation.py``."""
        body = base64.b64encode(path.read_bytes()).decode()  # noqa: ASYNC240 -- from the page cache
        return {"pixelmill": 1, "pipeline": self._pipeline, "source": {"body": body}, "name": path.name}

    async def read(self, event: Mapping[str, Any], result: Any) -> Reply:
        """What the reply says."""
        del event
        if not isinstance(result, Mapping) or "outcome" not in result:
            error = result.get("error") if isinstance(result, Mapping) else None
            return Reply(str((error or {}).get("type") or "no-outcome"))
        image = result.get("image")
        return Reply(bytes_out=len(base64.b64decode(image)) if isinstance(image, str) else 0)

    async def clear(self) -> None:
        """Nothing was kept."""
