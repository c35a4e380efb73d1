"""Links that need no token, signed by the service itself, for stores that can't sign any (a folder, memory).

A link says who may do what: one method on one key, until a moment, with at most so many bytes. All of that is in the
signature (HMAC-SHA256), so nothing of it can be changed, and nothing is remembered here. The clock is the service's.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlencode

from pixelmill.errors import ConfigError, Forbidden, StorageDenied

PATH = "/v1/objects/"
KEY_FILE = "link-keys"
LONGEST_S = 7 * 24 * 3600
"""What S3 and Google allow; the same everywhere."""
_DOMAIN = "pixelmill-link-1"
_KEY = re.compile(r"([A-Za-z0-9_-]{1,32}):([\x21-\x2b\x2d-\x7e]{16,256})").fullmatch


@dataclass(frozen=True, slots=True)
class Grant:
    """What a link allows. ``expires`` is seconds since the epoch, ``max_bytes`` bounds what is put (0 for GET).

    ``name`` and ``media_type`` are what a download is offered as.
    """

    method: Literal["GET", "PUT"]
    key: str
    expires: int
    max_bytes: int = 0
    name: str = ""
    media_type: str = ""

    def text(self, key_id: str) -> bytes:
        """What is signed: no value can hold a line end, so none can reach into the next."""
        values = (_DOMAIN, key_id, self.method, self.key, self.expires, self.max_bytes, self.name, self.media_type)
        return "\n".join(quote(str(value), safe="/") for value in values).encode()


class LinkSigner:
    """Signs and checks. ``keys`` is ``ID:SECRET,…``: the first signs, all are believed, so keys can be rotated.

    Empty: one is made when it is first needed, and kept in ``folder``, readable for its owner only.
    """

    def __init__(self, keys: str, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._given, self._folder, self._now = _understood(keys, "link_keys"), folder, now
        self._kept: Mapping[str, bytes] | None = None

    def sign(self, grant: Grant) -> str:
        """The path and query of the link."""
        key_id, secret = next(iter(self._keys().items()))
        query = {"method": grant.method, "expires": str(grant.expires)}
        optional = {"max_bytes": grant.max_bytes, "name": grant.name, "type": grant.media_type}
        query |= {name: str(value) for name, value in optional.items() if value}
        query |= {"key_id": key_id, "signature": _mac(secret, grant.text(key_id))}
        return f"{PATH}{quote(grant.key)}?{urlencode(query)}"

    def check(self, method: str, key: str, query: Mapping[str, str]) -> Grant:
        """What the link allows; raises :class:`Forbidden` for one that is altered, expired, or of another method."""
        key_id = query.get("key_id", "")
        grant = _grant(key, query)
        secret = self._keys().get(key_id)
        # An unknown key id takes as long as a known one.
        wanted = _mac(secret or b"\0" * 32, b"" if grant is None else grant.text(key_id))
        good = hmac.compare_digest(wanted.encode(), query.get("signature", "").encode("utf-8", "replace"))
        if grant is None or secret is None or not good:
            raise Forbidden("The link is not one that this service made, or was changed. Ask for a new one.")
        if grant.method != ("GET" if method == "HEAD" else method):
            raise Forbidden(f"The link is for {grant.method}, not for {method}. Ask for another one.")
        if self._now() >= grant.expires:
            raise Forbidden("The link has expired. Ask for a new one.", expired=True)
        return grant

    def _keys(self) -> Mapping[str, bytes]:
        if self._given:
            return self._given
        if self._kept is None:
            self._kept = _understood(_kept(self._folder / KEY_FILE), str(self._folder / KEY_FILE))
            if not self._kept:
                raise ConfigError(f"{self._folder / KEY_FILE} holds no key. Delete it, and a new one is made.")
        return self._kept


def _mac(secret: bytes, text: bytes) -> str:
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def _grant(key: str, query: Mapping[str, str]) -> Grant | None:
    """What a query says, believed or not; None where it has not the form."""
    method = query.get("method", "")
    numbers = (query.get("expires", ""), query.get("max_bytes", "0"))
    if method not in {"GET", "PUT"} or not all(text.isascii() and text.isdecimal() for text in numbers):
        return None
    if any(len(text) > 18 for text in numbers):
        return None
    allowed: Literal["GET", "PUT"] = "GET" if method == "GET" else "PUT"
    return Grant(allowed, key, int(numbers[0]), int(numbers[1]), query.get("name", ""), query.get("type", ""))


def _understood(text: str, where: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _KEY(part)
        if found is None or found[1] in keys:
            raise ConfigError(
                f"A key in {where} is not of the form ID:SECRET, with an id of its own and a secret of 16 to 256 "
                "printable characters. `openssl rand -hex 32` makes one.",
                setting="link_keys",
            )
        keys[found[1]] = found[2].encode()
    return keys


def _kept(path: Path) -> str:
    """The file's text; a new one with a key where there is none. Of several processes one makes it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        if not path.exists():
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, f"{secrets.token_hex(4)}:{secrets.token_hex(32)}\n".encode())
            finally:
                os.close(descriptor)
            try:
                os.link(part, path)  # fails where another process was quicker
            except FileExistsError:
                pass
            finally:
                part.unlink()
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise StorageDenied(f"{path} can't be read or written: {error.strerror}. Check the data folder.") from error
