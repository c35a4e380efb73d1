"""From an address and options to an object store: a folder, memory, or a bucket of any cloud through obstore.

Credentials that are not given come from the cloud's own
chain (variables, workload identity, the machine's role), which obstore asks. None of them is logged or shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore import exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store

from pixelmill.errors import ConfigError, InvalidURI
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.keys import check_prefix
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.options import BOOLEANS, OPTIONS
from pixelmill.storage.store import ObjectStore
from pixelmill.storage.uris import BUCKET_SCHEMES, decoded, split_raw

CONNECT_S = 5
REQUEST_S = 120
"""One request with its body: 100 MB at 1 MB/s fit."""
RETRIES = 3
RETRY_S = 20
"""What obstore retries by itself; longer outages are for the caller (the executor waits, a request is refused)."""

_STORES: Mapping[str, Callable[..., Any]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


def open_store(uri: str, options: Mapping[str, str] | None = None, *, fsync: bool = False) -> ObjectStore:
    """The store at ``uri``; nothing is asked of it yet (:meth:`ObjectStore.check` does).

    ``uri`` is a folder (a path or ``file:///…``), ``memory:``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
    ``az://container/prefix``. ``fsync`` is for folders. Raises :class:`ConfigError`.
    """
    given = dict(options or {})
    scheme = uri.partition(":")[0].lower()
    if scheme in BUCKET_SCHEMES:
        return _bucket(uri, given)
    if given:
        raise ConfigError(f"The store {uri!r} takes no options; {', '.join(sorted(given))} are for buckets.")
    if uri.strip() == "memory:":
        return MemoryStore()
    if scheme == "file":
        return FolderStore(_folder_of(uri), fsync=fsync)
    if "://" in uri:
        known = "a folder, memory:, " + ", ".join(f"{name}://BUCKET/PREFIX" for name in sorted(BUCKET_SCHEMES))
        raise ConfigError(f"There is no store of the kind {scheme!r}; a store is {known}.")
    if not uri.strip():
        raise ConfigError("The address of the store is empty.")
    return FolderStore(Path(uri).expanduser(), fsync=fsync)


async def sweep_store(store: ObjectStore) -> int:
    """Remove what processes that died have left in a folder; buckets have rules of their own for that."""
    return await store.sweep() if isinstance(store, FolderStore) else 0


def close_store(store: ObjectStore) -> None:
    """Let go of what the store holds."""
    if isinstance(store, FolderStore):
        store.close()


def put_headers(store: ObjectStore) -> Mapping[str, str]:
    """What a request must send with a presigned link to put: Azure asks for the kind of blob."""
    return store.put_headers if isinstance(store, ObstoreStore) else {}


def bucket_of(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix (empty, or ending in ``/``) of a bucket's address; raises :class:`ConfigError`."""
    try:
        scheme, bucket, raw = split_raw(uri)
        prefix = decoded(raw, uri).strip("/")
        prefix = f"{prefix}/" if prefix else ""
        check_prefix(prefix)
    except InvalidURI as error:
        raise ConfigError(f"The store's address can't be used: {error}") from error
    if scheme not in BUCKET_SCHEMES:
        raise ConfigError(f"{uri!r} is not the address of a bucket, such as s3://bucket/prefix.")
    return scheme, bucket, prefix


def _folder_of(uri: str) -> Path:
    try:
        scheme, _, raw = split_raw(uri)
        return Path(decoded(raw, uri)) if scheme == "file" else Path(uri)
    except InvalidURI as error:
        raise ConfigError(f"The store's address can't be used: {error}") from error


def _bucket(uri: str, options: Mapping[str, str]) -> ObstoreStore:
    scheme, bucket, prefix = bucket_of(uri)
    config = _config(scheme, options)
    endpoint = str(options.get("endpoint", ""))
    settings = {
        "client_options": {
            "allow_http": endpoint.startswith("http://") or _plain_gcs(options),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
    }
    try:
        made = _STORES[scheme](bucket, prefix=prefix.rstrip("/") or None, config=config, **settings)
    except (foreign.BaseError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0][:300]
        raise ConfigError(f"The store {uri!r} is configured wrongly: {reason}. See docs/stores.md.") from error
    return ObstoreStore(made)


def _config(scheme: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The options in obstore's words."""
    known = OPTIONS[scheme]
    config: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"A store at {scheme}:// has no option {name!r}.{hint} It has {', '.join(known)}.")
        if known[name]:
            config[known[name]] = _boolean(name, value) if name in BOOLEANS else str(value)
    if scheme == "s3":
        # With an endpoint of one's own (MinIO, Ceph, R2) bucket names are rarely host names.
        path_style = options.get("path_style", "true" if "endpoint" in options else "false")
        config["virtual_hosted_style_request"] = not _boolean("path_style", path_style)
    return config


def _boolean(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "false", "1", "0", "yes", "no"}:
        raise ConfigError(f"The store's option {name} is true or false, not {text[:40]!r}.")
    return text in {"true", "1", "yes"}


def _plain_gcs(options: Mapping[str, str]) -> bool:
    """True where a service account names an emulator without TLS."""
    return '"gcs_base_url": "http://' in str(options.get("service_account_key", ""))
