"""What open dashboards cost the service: CPU of its process tree with and without readers of `/v1/metrics/stream`.

    PYTHONPATH=src:bench python bench/metrics_stream.py [--readers N] [--seconds S] [--rounds N]

Readers hold one connection each and take all that comes; they are in this process, whose CPU is not counted. Rounds
without and with readers take turns, so that both see the same machine. Percent is of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import common
from server import PrivateService


async def read(port: int, opened: asyncio.Semaphore, received: list[int]) -> None:
    """Follow the stream until cancelled, and count its events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /v1/metrics/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode("latin-1"))
        opened.release()
        while line := await reader.readline():
            received[0] += line.startswith(b"event: sample")
    finally:
        writer.close()


async def measured(service: PrivateService, readers: int, seconds: float) -> tuple[float, int]:
    """Percent of a core over so many seconds, and events received in all."""
    opened, received = asyncio.Semaphore(0), [0]
    tasks = [asyncio.create_task(read(service.port, opened, received)) for _ in range(readers)]
    for _ in tasks:
        await opened.acquire()
    received[0] = 0
    start, before = time.perf_counter(), common.tree_cpu(service.pid)
    await asyncio.sleep(seconds)
    used, wall = common.tree_cpu(service.pid) - before, time.perf_counter() - start
    count = received[0]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return 100 * used / wall, count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    print(common.machine("fastapi", "uvicorn"), "\n")
    percent: dict[int, list[float]] = {0: [], args.readers: []}
    with PrivateService() as service:
        asyncio.run(measured(service, args.readers, 2.0))
        for _ in range(args.rounds):
            for readers, found in percent.items():
                share, count = asyncio.run(measured(service, readers, args.seconds))
                found.append(share)
                print(f"{readers:3} readers: {share:5.2f} % of a core, {count:,} events")
    idle, busy = (common.median(found) for found in percent.values())
    print(f"\n{args.readers} readers cost {busy - idle:.2f} % of a core (medians: {idle:.2f} without, {busy:.2f} with)")


if __name__ == "__main__":
    main()
