"""A network between us and a namespace of its own, which a test can cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Self


class Cable:
    """A network namespace for a node, and a veth pair between it and us that can be pulled out."""

    def __init__(self) -> None:
        number = os.getpid() % 60_000
        self.space, self.here, self.there = f"pmill{number}", f"pmh{number}", f"pmn{number}"
        self.hub = f"10.231.{number % 250}.1"
        self._peer = f"10.231.{number % 250}.2"

    @staticmethod
    @cache
    def missing() -> str | None:
        """Why there can be none here; None if there can."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return "network namespaces need root, and `ip` of iproute2"
        try:
            with Cable().laid():
                return None
        except subprocess.CalledProcessError as error:
            return f"no network namespace can be made here: {error.stderr.decode()}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before a command that is to run at the other end."""
        return ("ip", "netns", "exec", self.space)

    @contextmanager
    def laid(self) -> Iterator[Self]:
        """While it is there."""
        try:
            self._run("netns", "add", self.space)
            self._run("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.space)
            self._run("addr", "add", f"{self.hub}/30", "dev", self.here)
            self._run("link", "set", self.here, "up")
            self._run("-n", self.space, "addr", "add", f"{self._peer}/30", "dev", self.there)
            self._run("-n", self.space, "link", "set", self.there, "up")
            yield self
        finally:
            subprocess.run(["ip", "link", "del", self.here], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "del", self.space], check=False, capture_output=True)

    def cut(self) -> None:
        """Drop every packet: neither side is told."""
        self._run("-n", self.space, "link", "set", self.there, "down")

    def mend(self) -> None:
        """Put it in again."""
        self._run("-n", self.space, "link", "set", self.there, "up")

    def _run(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)
