"""Frozen settings of the REST edge. Filled by whoever starts the server; nothing here reads flags or variables."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from pixelmill.pipelines.presets import BUILT_IN, Presets


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the service listens, whom it believes, and the bounds of a request. Times are seconds, sizes bytes.

    ``insecure``: no tokens are needed though the address is not loopback. ``require_tokens``: they are needed even on
    loopback (a reverse proxy in front). ``allowed_hosts``: names besides loopback that a request without a token may
    carry in ``Host``. ``trusted_proxies``: addresses that are believed what they say of their client (its scheme and
    address, in ``X-Forwarded-*``). ``link_hosts``: hosts whose links may be read and written for a caller;
    ``link_private``: even by plain HTTP and at private addresses. ``max_requests``: requests that are worked on at
    once; ``max_body_memory``: bytes of request bodies held in memory, all requests together. ``idle_s``: how long a
    client may send, or take, nothing. ``presets``: what ``preset:NAME`` in a request can name.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    insecure: bool = False
    require_tokens: bool = False
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    link_hosts: tuple[str, ...] = ()
    link_private: bool = False
    max_requests: int = 11_000
    max_connections: int = 12_000
    max_body_memory: int = 1_000_000_000
    max_json: int = 16_000_000
    max_form_fields: int = 1_000
    max_form_field: int = 1_000_000
    max_form_files: int = 100_000
    max_header_bytes: int = 65_536
    header_timeout_s: float = 20.0
    keep_alive_s: int = 75
    idle_s: float = 30.0
    send_stall_s: float = 60.0
    drain_s: float = 30.0
    presets: Presets = BUILT_IN

    @property
    def on_loopback(self) -> bool:
        """True where only this machine can reach the service."""
        return is_loopback(self.host)

    @property
    def tokens_needed(self) -> bool:
        """True where a request without a token is refused."""
        return self.require_tokens or not (self.on_loopback or self.insecure)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """True for ``localhost``, names below it, 127.0.0.0/8 and ::1; ``host`` comes without a port."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
