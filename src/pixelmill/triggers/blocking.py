"""Calls of SDKs that block, each in a thread of its own that nobody needs to wait for.

A request for messages may last 20 seconds. The threads of an executor would hold up the end of the process that long;
these don't, and a call whose caller has gone gives its result to ``abandoned``, in its own thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def blocking(call: Callable[[], T], abandoned: Callable[[T], object] | None = None) -> T:
    """What ``call`` returns or raises. Cancelling leaves it running."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    gone = threading.Event()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # there is a result where there is no error

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 -- handed to who waits for it
            failure = error
        if not gone.is_set():
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, result, failure)
                return
        if failure is None and abandoned is not None:
            with suppress(Exception):  # nobody is left to hear of it
                abandoned(result)  # type: ignore[arg-type]  # as above

    threading.Thread(target=run, name="pixelmill-source", daemon=True).start()
    try:
        return await future
    except asyncio.CancelledError:
        gone.set()
        raise
