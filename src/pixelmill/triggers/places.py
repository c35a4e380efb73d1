"""Where objects are watched and results written, as text that can be compared. Pure; imports no network library.

An address of a place is one that addresses of objects begin with: ``s3://bucket/in/``, ``file:///data/in/``. Unlike the
address of an object it may end in a slash, or within a name (``s3://bucket/in/img-``).
"""

from __future__ import annotations

from functools import lru_cache

from pixelmill.errors import InvalidURI
from pixelmill.storage.keys import check_key
from pixelmill.storage.uris import URI, decoded, split_raw

WATCHED = ("file", "s3", "gs", "az")
"""Schemes of places."""


@lru_cache(maxsize=4_096)
def place(address: str) -> URI:
    """The place of that address; raises :class:`InvalidURI`. Its path may be empty or end in ``/``.

    A folder always ends in one: what stands beside it under a longer name is not in it. A bucket's prefix is taken as
    it stands.
    """
    scheme, bucket, raw = split_raw(address)
    path = decoded(raw, address)
    if scheme not in WATCHED:
        raise InvalidURI(
            f"{address!a} names no place where objects appear: that is a bucket (s3://, gs://, az://) or a folder.",
            uri=address,
        )
    if scheme == "file":
        path = f"{path.rstrip('/')}/"
    inner = path.strip("/") if scheme == "file" else path.removesuffix("/")
    if inner:
        check_key(inner)
    elif path not in {"", "/"} or (scheme != "file" and path == "/"):
        raise InvalidURI(f"{address!a} has an empty part between slashes.", uri=address)
    return URI(scheme, bucket, path)


@lru_cache(maxsize=4_096)
def canonical(address: str) -> str:
    """The address of a place in the one form that canonical addresses of its objects begin with."""
    return str(place(address))


@lru_cache(maxsize=4_096)
def base_path(address: str) -> str:
    """The folder that paths are relative to: the place's path up to its last slash."""
    return place(address).path.rpartition("/")[0] + "/" if "/" in place(address).path else ""


def path_in(address: str, uri: str) -> str:
    """The decoded path of an object, relative to the last whole folder of the place that it is in.

    ``2024/a.jpg`` for ``s3://bucket/in/2024/a.jpg`` in ``s3://bucket/in/``. Raises :class:`InvalidURI`.
    """
    scheme, bucket, raw = split_raw(uri)
    found, path = place(address), decoded(raw, uri)
    if (scheme, bucket) != (found.scheme, found.bucket) or not path.startswith(found.path):
        raise InvalidURI(f"{uri!a} is not below {address}.", uri=uri)
    return path.removeprefix(base_path(address))
