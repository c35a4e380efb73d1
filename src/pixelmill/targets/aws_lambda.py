"""A target that is a function of AWS Lambda, called by ``Invoke`` (``RequestResponse``) through boto3.

Event and reply are the documents of ``invocation.py``. An invocation may be 6 MB large, either way: what is larger goes
by links into a store that can make them, and where there is none the task is not taken. Lambda goes on, and is billed,
when we hang up: so a call is paid at its worst case then, and its thread stays until the answer comes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pixelmill import tracing
from pixelmill.errors import MissingExtra, OutOfMemory, TargetUnavailable
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.invocation import document, is_cold, read_outcome, warm_document
from pixelmill.targets.remote import WARM_S, Remote
from pixelmill.targets.soundness import plain, sound_error
from pixelmill.targets.target import RunRequest, RunResult, near
from pixelmill.targets.transfer import Transfer, contents

T = TypeVar("T")

MAX_PAYLOAD = 6_291_456
"""Bytes of an event or a reply of a synchronous invocation (AWS Lambda quotas)."""
RESERVE = 200_000
"""Of them, for everything but the images."""
MAX_RESULT = 100_000_000
CONNECT_S = 10.0
TOO_MANY = 429
THROTTLES = frozenset(
    {"TooManyRequestsException", "EC2ThrottledException", "ResourceNotReadyException", "ThrottlingException"}
)


class LambdaTarget(Remote):
    """Takes tasks to ``function`` (a name or an ARN, with an alias or version where wanted).

    Region and credentials come from boto3's usual places; ``endpoint`` is another address of the API.
    """

    def __init__(
        self,
        name: str,
        function: str,
        *,
        concurrency: int = 10,
        timeout_s: float | None = None,
        region: str | None = None,
        endpoint: str | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        super().__init__(name, concurrency=concurrency, timeout_s=timeout_s)
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise MissingExtra('AWS Lambda needs boto3: pip install "pixelmill[fleet]".') from error
        self._function, self._store, self._links = function, store, False
        self._client_error, self._errors = ClientError, (BotoCoreError, OSError)
        # Calls that were given up keep their threads for a while: others must find room beside them.
        self._threads = asyncio.Semaphore(2 * concurrency)
        self._make = lambda: boto3.session.Session().client(
            "lambda",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=CONNECT_S,
                # A silent connection ends with the longest call; Lambda itself allows 15 minutes.
                read_timeout=timeout_s or 900,
                retries={"total_max_attempts": 1},  # we decide what is tried again, and where
                max_pool_connections=2 * concurrency,
            ),
        )
        self._client: Any = None

    async def start(self) -> None:
        """Make the client, and find out whether the store makes links."""
        self._client = await asyncio.to_thread(self._make)
        self._links = self._store is not None and await Transfer.is_possible(self._store)

    async def warm(self) -> None:
        """An invocation without a task, which starts a machine."""
        try:
            async with asyncio.timeout(WARM_S):
                await self._invoke(json.dumps(warm_document()).encode())
        except TimeoutError:
            raise TargetUnavailable(f"{self.name} did not get warm within {WARM_S:g} s.", billed="worst") from None

    async def _call(self, request: RunRequest, within_s: float) -> RunResult:
        request = replace(request, source_name=request.source_name.encode("utf-8", "replace").decode())
        if self._store is not None and self._links:
            return await self._with_links(request, self._store, within_s)
        source = await contents(near(request.source, self.name))
        images = {reference: await contents(image) for reference, image in request.images.items()}
        if not _fits(source, *images.values()):
            raise self._too_large()
        return self._result(await self._asked(document(request, source, images, None, tracing.carried())), None)

    async def _with_links(self, request: RunRequest, store: ObjectStore, within_s: float) -> RunResult:
        """Small bytes in the event; large ones by links. There is always a link for the result."""
        transfer = Transfer(store, within_s + CONNECT_S)
        try:
            source = await contents(near(request.source, self.name))
            images = {reference: await contents(image) for reference, image in request.images.items()}
            result = await transfer.result_link()
            if _fits(source, *images.values()):
                asked = document(request, source, images, result, tracing.carried())
            else:
                asked = document(request, *await transfer.send(request), result, tracing.carried())
            reply = await self._asked(asked)
            stored = reply.get("stored") is True
            return self._result(reply, await transfer.result(self.name, MAX_RESULT) if stored else None)
        finally:
            await asyncio.shield(transfer.close())

    def _result(self, reply: Mapping[str, Any], image: bytes | None) -> RunResult:
        outcome = read_outcome(self.name, reply, image)
        return RunResult(outcome, self.name, plain(reply.get("target")) or "lambda", cold=is_cold(reply))

    async def _asked(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        """The reply; raises the error in it."""
        payload = json.dumps(asked).encode()
        if len(payload) > MAX_PAYLOAD:
            raise self._too_large()
        answer = await self._invoke(payload)
        try:
            reply = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise TargetUnavailable(f"{self.name} replied what is no JSON.", billed="elapsed", begun=True) from error
        if not isinstance(reply, dict):
            raise TargetUnavailable(f"{self.name} replied no object.", billed="elapsed", begun=True)
        if "error" in reply:
            own = sound_error(reply["error"])
            raise own or TargetUnavailable(
                f"{self.name} failed: {str(reply['error'])[:300]}", billed="elapsed", begun=True
            )
        return reply

    async def _invoke(self, payload: bytes) -> bytes:
        def invoke() -> tuple[str | None, bytes]:
            answer = self._client.invoke(FunctionName=self._function, InvocationType="RequestResponse", Payload=payload)
            with answer["Payload"] as body:
                return answer.get("FunctionError"), body.read(MAX_PAYLOAD + 1)

        try:
            failed, answer = await self._in_thread(invoke)
        except self._client_error as error:
            raise self._refused(error) from error
        except self._errors as error:
            unsent = type(error).__name__ in {"EndpointConnectionError", "ConnectTimeoutError", "NoCredentialsError"}
            raise TargetUnavailable(
                f"{self.name} can't be called: {error}", billed="none" if unsent else "worst", begun=not unsent
            ) from error
        if failed is not None:
            raise self._function_error(answer)
        if len(answer) > MAX_PAYLOAD:
            raise TargetUnavailable(f"{self.name} replied more than {MAX_PAYLOAD:,} bytes.", begun=True)
        return answer

    def _refused(self, error: Any) -> TargetUnavailable:
        """The API answered with an error: nothing ran, unless it is one of the service's own."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        ran = status >= 500 and code not in THROTTLES
        return TargetUnavailable(
            f"{self.name}: {code}: {error}"[:500],
            billed="elapsed" if ran else "none",
            begun=ran,
            throttled=status == TOO_MANY,
        )

    def _function_error(self, answer: bytes) -> Exception:
        """The function ended without a reply: a defect, its time limit, or its memory (``errorType`` and message)."""
        try:
            told = json.loads(answer)
            said = f"{told.get('errorType', '')} {told.get('errorMessage', '')}".strip()
        except (ValueError, AttributeError, RecursionError):
            said = answer[:200].decode("utf-8", "replace")
        if "Runtime.OutOfMemory" in said or ("Runtime.ExitError" in said and "signal: killed" in said):
            return OutOfMemory(f"The function {self.name} ran out of memory: {said[:300]}", target=self.name)
        return TargetUnavailable(f"The function {self.name} failed: {said[:300]}", billed="elapsed", begun=True)

    def _too_large(self) -> TargetUnavailable:
        return TargetUnavailable(
            f"{self.name} takes at most {MAX_PAYLOAD:,} bytes in a call, and no store makes links for more.",
            billed="none",
            fault=False,
        )

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run it in a thread that nobody waits for once the caller has gone; so many at most."""
        await self._threads.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: BaseException | None) -> None:
            self._threads.release()
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)  # type: ignore[arg-type]  # None only where T has it

        def work() -> None:
            value, raised = None, None
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001 -- it belongs to the caller, who gets it
                raised = error
            try:
                loop.call_soon_threadsafe(settle, value, raised)
            except RuntimeError:
                return  # the loop has ended: nobody waits any more

        threading.Thread(target=work, name=f"pixelmill-{self.name}", daemon=True).start()
        return await future


def _fits(*parts: bytes) -> bool:
    return sum(4 * -(-len(part) // 3) for part in parts) <= MAX_PAYLOAD - RESERVE
