"""A target that is a URL: Cloud Run, Container Apps, Knative, or any machine that answers ``POST /v1/process``.

Owns the HTTP of it. Everything that comes back is bounded and checked, for what answers there may be a proxy, another
program, or nobody. Errors of the task itself come back as themselves; everything else is the target's fault
(:class:`TargetUnavailable`), and says in its context who pays for it (see ``remote.py``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx

from pixelmill import tracing
from pixelmill.errors import TargetUnavailable
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.invocation import document, is_cold, read_outcome
from pixelmill.targets.remote import GRACE_S, WARM_S, Remote
from pixelmill.targets.soundness import plain, sound_error
from pixelmill.targets.target import RunRequest, RunResult, near
from pixelmill.targets.tokens import Anonymous, Credentials
from pixelmill.targets.transfer import Transfer, contents

MAX_ANSWER = 134_000_000
"""Largest answer that is read: an image of 100 MB in Base64."""
MAX_RESULT = 100_000_000
CONNECT_S = 10.0
MAX_PROBLEM = 100_000
BINARY = "application/octet-stream"
IN_THREAD = 1_000_000
"""Answers above that many bytes are parsed in a thread, so that nobody else waits for it."""
TOO_MANY = 429
NOT_BEGUN = frozenset({401, 403, 404, 405, 408, 413, 415, 429})
"""Without a problem document of ours these say that nothing was run."""


class ServerlessTarget(Remote):
    """Takes tasks to ``URL/v1/process``.

    ``store``: bytes go by links into it where it makes them (then the container needs no credentials, but must be told
    the store's host: ``link_hosts``), else in the request.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        concurrency: int = 10,
        timeout_s: float | None = None,
        credentials: Credentials | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        super().__init__(name, concurrency=concurrency, timeout_s=timeout_s)
        self._url = url.rstrip("/")
        self._credentials = credentials or Anonymous()
        self._store = store
        self._links = False
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            # The call as a whole has its own limit (see remote.py): a silence in its middle is no error.
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    async def start(self) -> None:
        """Find out whether the store makes links."""
        self._links = self._store is not None and await Transfer.is_possible(self._store)

    async def stop(self) -> None:
        """Hang up."""
        await super().stop()
        await self._client.aclose()

    async def warm(self) -> None:
        """Ask how it is, which starts a machine."""
        try:
            async with asyncio.timeout(WARM_S):
                status, _ = await self._send("GET", "/healthz")
        except TimeoutError:
            raise TargetUnavailable(f"{self.name} did not get warm within {WARM_S:g} s.", billed="worst") from None
        if status != 200:
            raise TargetUnavailable(f"{self.name} answered a warm-up with status {status}.", billed="elapsed")

    async def _call(self, request: RunRequest, within_s: float) -> RunResult:
        if request.kind != "image":
            raise TargetUnavailable(f"{self.name} takes no contact sheets.", billed="none", fault=False)
        # Names of files may be no text at all; they are shown in errors only.
        request = replace(request, source_name=request.source_name.encode("utf-8", "replace").decode())
        if self._store is not None and self._links:
            return await self._by_link(request, self._store, within_s)
        files: list[tuple[str, tuple[str | None, bytes, str]]] = [
            ("pipeline", (None, request.pipeline.encode(), "text/plain")),
            ("timeout", (None, f"{request.timeout_s:g}".encode(), "text/plain")),
        ]
        for reference, image in request.images.items():
            files.append((f"image:{reference}", ("image", await contents(image), BINARY)))
        # No file name, no file: RFC 7578 tells a file from a value by it.
        files.append(
            ("file", (request.source_name or "image", await contents(near(request.source, self.name)), BINARY))
        )
        answer = await self._answered(files=files)
        return self._result(await _parsed(self.name, answer), None)

    async def _by_link(self, request: RunRequest, store: ObjectStore, within_s: float) -> RunResult:
        transfer = Transfer(store, within_s + GRACE_S)
        try:
            source, images = await transfer.send(request)
            asked = document(request, source, images, await transfer.result_link())
            reply = await _parsed(self.name, await self._answered(json=asked))
            stored = isinstance(reply, Mapping) and reply.get("stored") is True
            return self._result(reply, await transfer.result(self.name, MAX_RESULT) if stored else None)
        finally:
            await asyncio.shield(transfer.close())

    def _result(self, reply: Any, image: bytes | None) -> RunResult:
        outcome = read_outcome(self.name, reply, image)
        return RunResult(outcome, self.name, plain(reply.get("target")) or "container", cold=is_cold(reply))

    async def _answered(self, **body: Any) -> bytes:
        """The body of an answer with status 200; raises what any other means."""
        status, answer = await self._send("POST", "/v1/process", **body)
        if status == 200:
            return answer
        problem = _problem(answer)
        error = sound_error(problem)
        if error is not None:
            raise error
        said = problem.get("detail") or answer[:200].decode("utf-8", "replace")
        if status in (401, 403):
            self._credentials.refused()
        # A 503 without a document comes from a proxy, with it from a container that was reached: neither ran anything.
        begun = status not in NOT_BEGUN and status != 503
        raise TargetUnavailable(
            f"{self.name} answered with status {status}: {plain(str(said), 300)}",
            billed="elapsed",
            begun=begun,
            throttled=status == TOO_MANY,
        )

    async def _send(self, method: str, path: str, **body: Any) -> tuple[int, bytes]:
        """Status and body; raises :class:`TargetUnavailable` where there is no whole answer."""
        header = await self._credentials.header()
        headers = tracing.headers() | ({} if header is None else {"authorization": header})
        try:
            async with self._client.stream(method, self._url + path, headers=headers, **body) as answer:
                received = bytearray()
                async for chunk in answer.aiter_raw():
                    received += chunk
                    if len(received) > MAX_ANSWER:
                        raise TargetUnavailable(
                            f"{self.name} answered more than {MAX_ANSWER:,} bytes.", billed="worst", begun=True
                        )
                return answer.status_code, bytes(received)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TargetUnavailable(f"{self.name} can't be reached: {error}", billed="none") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TargetUnavailable(
                f"The connection to {self.name} broke: {type(error).__name__} {error}", billed="worst", begun=True
            ) from error


def _problem(answer: bytes) -> Mapping[str, Any]:
    """The problem document, or an empty one."""
    if len(answer) > MAX_PROBLEM:
        return {}
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def _parsed(name: str, answer: bytes) -> Any:
    try:
        if len(answer) > IN_THREAD:
            return await asyncio.to_thread(json.loads, answer)
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise TargetUnavailable(
            f"{name} answered what is no JSON ({str(error)[:200]}).", billed="elapsed", begun=True
        ) from error
