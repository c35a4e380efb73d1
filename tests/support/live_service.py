"""A real service in its own process, for tests of the REST edge."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from pixelmill.api.schemas import ProblemBody

SCRIPT = Path(__file__).with_name("serve_for_tests.py")
WAIT_S = 40.0


class LiveService:
    """Started when made; ``url`` is where it answers, ``tokens`` the secrets that were asked for, in their order."""

    def __init__(
        self,
        data: Path,
        *,
        api: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
        tokens: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.data = data
        self.log_path = data.parent / f"{data.name}.log"
        wanted = {"data": str(data), "api": dict(api or {}), "service": dict(service or {}), "tokens": list(tokens)}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), json.dumps(wanted)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.tokens: list[str] = []
        self.url = self.refusal = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "token":
                self.tokens.append(rest)
            elif word == "error":
                self.refusal = rest
            elif word == "Pixelmill":
                self.url = rest.rpartition(" ")[2]
                break
        if not self.url:
            self.process.wait(WAIT_S)
            assert self.refusal, self.log()

    def log(self) -> str:
        """Everything it logged, as text."""
        return self.log_path.read_text()

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """What it logged of one event."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """A client of it; the caller closes it."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_S, trust_env=False, **options)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """An orderly end; its exit code."""
        if self.process.poll() is None:
            self.signal()
        code = self.process.wait(WAIT_S)
        self._close()
        return code

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait(10)
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self._close()


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """The answer is that problem; its document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, object] = ProblemBody.model_validate(answer.json()).model_dump()
    assert (answer.status_code, document["type"]) == (status, f"/v1/problems/{slug}"), document
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document
