"""A service in miniature, for tests that kill it: it listens, and runs tasks that wait or never end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

from pool_tools import request

from pixelmill.targets.local import LocalPool
from pixelmill.targets.spawner import ZygoteProcess, prefork


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(zygote: ZygoteProcess | None, ends: str, fifo: str) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: say("interrupted"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = LocalPool(workers=3, entry="misbehaving:act", zygote=zygote)
        await pool.start()
        action = "wait_for_end" if ends == "wait" else "hang"
        task = asyncio.create_task(pool.run(request(action, source_name=fifo)))
        await asyncio.gather(*(pool.run(request("echo")) for _ in range(20)))
        while len(pool.processes()) < 4:  # noqa: ASYNC110 - the test that started this bounds it
            await asyncio.sleep(0.001)
        say(json.dumps({"port": server.getsockname()[1], "pids": pool.processes()}))
        if ends == "exit":
            await asyncio.to_thread(sys.stdin.readline)
            os._exit(1)
        result = await task
        await pool.stop()
        say(str(result.outcome.bytes))


if __name__ == "__main__":
    early = prefork() if sys.argv[1] == "prefork" else None
    asyncio.run(main(early, sys.argv[2], sys.argv[3]))
