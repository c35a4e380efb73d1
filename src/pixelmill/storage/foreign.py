"""From our options of a bucket to obstore's own stores: S3, Google Cloud Storage, Azure Blob.

Credentials that are not given come from the cloud's own chain (variables, workload identity, the machine's role), which
obstore asks. Imports no event loop: functions use these stores as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from obstore import exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store

from pixelmill.errors import ConfigError
from pixelmill.storage.options import BOOLEANS, OPTIONS

ForeignBucket: TypeAlias = S3Store | GCSStore | AzureStore

CONNECT_S = 5
REQUEST_S = 120
"""One request with its body: 100 MB at 1 MB/s fit."""
RETRIES = 3
RETRY_S = 20
"""What obstore retries by itself; longer outages are for the caller (the executor waits, a request is refused)."""

_STORES: Mapping[str, Callable[..., ForeignBucket]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


def foreign_store(
    scheme: str,
    bucket: str,
    prefix: str = "",
    options: Mapping[str, str] | None = None,
    *,
    connect_s: float = CONNECT_S,
    retry_s: float = RETRY_S,
) -> ForeignBucket:
    """The store of a bucket; nothing is asked of it yet. Raises :class:`ConfigError`."""
    given = dict(options or {})
    config = _config(scheme, given)
    endpoint = str(given.get("endpoint", ""))
    try:
        return _STORES[scheme](
            bucket,
            prefix=prefix.rstrip("/") or None,
            config=config,
            client_options={
                "allow_http": endpoint.startswith("http://") or _plain_gcs(given),
                "connect_timeout": timedelta(seconds=connect_s),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=retry_s)},
        )
    except (foreign.BaseError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0][:300]
        uri = f"{scheme}://{bucket}/{prefix}"
        raise ConfigError(f"The store {uri!r} is configured wrongly: {reason}. See docs/stores.md.") from error


def _config(scheme: str, options: Mapping[str, str]) -> dict[str, Any]:
    """The options in obstore's words."""
    known = OPTIONS[scheme]
    config: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise ConfigError(_unknown(scheme, name, known))
        if known[name]:
            config[known[name]] = _boolean(name, value) if name in BOOLEANS else str(value)
    if scheme == "s3":
        # With an endpoint of one's own (MinIO, Ceph, R2) bucket names are rarely host names.
        path_style = options.get("path_style", "true" if "endpoint" in options else "false")
        config["virtual_hosted_style_request"] = not _boolean("path_style", path_style)
    return config


def _unknown(scheme: str, name: str, known: Mapping[str, str]) -> str:
    import difflib  # on the way to an error alone: a cold start does without

    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return f"A store at {scheme}:// has no option {name!r}.{hint} It has {', '.join(known)}."


def _boolean(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text not in {"true", "false", "1", "0", "yes", "no"}:
        raise ConfigError(f"The store's option {name} is true or false, not {text[:40]!r}.")
    return text in {"true", "1", "yes"}


def _plain_gcs(options: Mapping[str, str]) -> bool:
    """True where a service account names an emulator without TLS."""
    return '"gcs_base_url": "http://' in str(options.get("service_account_key", ""))
