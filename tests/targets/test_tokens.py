"""Google ID tokens from a metadata server on loopback, through google-auth itself, in a process of its own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from loopback import serving

SCRIPT = """
import asyncio, sys
from pixelmill.errors import TargetUnavailable
from pixelmill.targets.tokens import GoogleIdToken

async def main():
    token = GoogleIdToken("https://service.example")
    for step in sys.argv[1]:
        if step == "r":
            token.refused()
            continue
        try:
            print(await token.header())
        except TargetUnavailable as error:
            print("none", error)

asyncio.run(main())
"""


def jwt(audience: str, expires: float, number: int) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"aud": audience, "exp": int(expires), "iat": int(expires) - 3600, "sub": str(number)}
    return f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.{'x' * 20}"


class Metadata(ThreadingHTTPServer):
    """Answers as https://cloud.google.com/compute/docs/metadata does: nothing without its header."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lives_s = 3600.0
        self.audiences: list[str] = []
        self.broken = False


class _Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if self.headers.get("Metadata-Flavor") != "Google":
            self._say(403, "no")
        elif asked.path.rstrip("/") in ("", "/computeMetadata/v1"):
            self._say(200, "computeMetadata/")
        elif self.server.broken:
            self._say(404, "no service account")
        elif asked.path.endswith("/identity"):
            (audience,) = parse_qs(asked.query)["audience"]
            self.server.audiences.append(audience)
            number = len(self.server.audiences)
            self._say(200, jwt(audience, time.time() + self.server.lives_s, number))
        elif "/service-accounts/" in asked.path:
            self._say(
                200, json.dumps({"email": "a@b.example", "scopes": [], "aliases": ["default"]}), "application/json"
            )
        else:
            self._say(404, "")

    def _say(self, status: int, text: str, kind: str = "text/html") -> None:
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Metadata]:
    with serving(Metadata()) as server:
        yield server


def ask(server: Metadata, steps: str) -> list[str]:
    host = f"127.0.0.1:{server.server_address[1]}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GOOGLE_")}
    environ = clean | {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "NO_PROXY": "*"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, steps]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_token_is_fetched_for_the_audience_and_kept() -> None:
    with running() as server:
        lines = ask(server, "hhh")
        assert server.audiences == ["https://service.example"]
    assert len(set(lines)) == 1
    assert lines[0].startswith("Bearer ey")


def test_one_that_was_refused_is_fetched_anew() -> None:
    with running() as server:
        lines = ask(server, "hrhh")
        assert len(server.audiences) == 2
    assert lines[0] != lines[1] == lines[2]


def test_one_that_ends_soon_is_renewed_before_each_call() -> None:
    with running() as server:
        server.lives_s = 120.0
        lines = ask(server, "hh")
    assert len(set(lines)) == 2


@pytest.mark.timeout(60)
def test_without_an_account_nothing_is_called() -> None:
    with running() as server:
        server.broken = True
        (line,) = ask(server, "h")
    assert line.startswith("none No Google ID token")
