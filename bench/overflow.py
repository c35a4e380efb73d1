"""From the last gate of our own shutting to the first task that reaches an overflow target, with a queue of work.

    python bench/overflow.py [--rounds 20]

A real service with its pool and its queue, and a server on loopback in place of the cloud. Each round fills the queue,
shuts the gate with five samples of the load (or lets it shut unseen, so that only the dispatcher's own look finds it),
and takes the time until the first request arrives.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import numpy as np

from pixelmill.fleet.load import LoadSample
from pixelmill.fleet.overflow_settings import OverflowConfig, OverflowTarget
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service, ServiceConfig

TASKS = 60
PIPELINE = Pipeline.parse("denoise:5/format:png")
BUSY, IDLE = LoadSample(100, 0, 0, 0, 0), LoadSample(0, 0, 0, 0, 0)
LARGE = bytes(cv2.imencode(".png", np.random.default_rng(1).integers(0, 256, (600, 600, 3), np.uint8))[1])
IMAGE = bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1])
ANSWER = json.dumps(
    {
        "format": "png",
        "media_type": "image/png",
        "size": [64, 64],
        "source_size": [64, 64],
        "source_format": "png",
        "data": {},
        "timings": {"decode_ms": 0, "apply_ms": 0, "encode_ms": 0},
        "image": base64.b64encode(IMAGE).decode(),
        "target": "bench",
    }
).encode()


class Cloud:
    """Answers every task at once; ``first`` is when the first one of a round came."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.first = 0.0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection to its end."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if not self.came.is_set():
                    self.first = time.perf_counter()
                    self.came.set()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


async def measure(rounds: int, folder: Path, *, told: bool) -> list[float]:
    """Seconds of each round. ``told``: the samples come as those of the load monitor do."""
    cloud = Cloud()
    server = await asyncio.start_server(cloud.connected, "127.0.0.1", 0)
    url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    target = OverflowTarget("cloud", url=url, concurrency=4)
    service = Service(ServiceConfig(folder, workers=1, gate="threshold", overflow=OverflowConfig((target,))))
    # The real load of this machine must not move the gate meanwhile.
    service._wiring._monitor._interval_s = 3600.0  # noqa: SLF001 it has no other door
    await service.start()
    parts = service._parts  # noqa: SLF001 nor has the gate
    upload = await service.put_upload("bench", "a.png", _once(LARGE))
    took = []
    try:
        for _ in range(rounds):
            for _ in range(5):
                parts.observe(IDLE)
            cloud.came.clear()
            job, _ = await service.submit("bench", PIPELINE, uploads=[upload.id] * TASKS)
            while not parts.pool.load().running:  # noqa: ASYNC110 it tells nobody
                await asyncio.sleep(0.001)
            for _ in range(5):
                (parts.observe if told else parts.gate.observe)(BUSY)
            shut = time.perf_counter()
            async with asyncio.timeout(30):
                await cloud.came.wait()
            took.append(cloud.first - shut)
            await service.cancel("bench", job.id)
    finally:
        await service.stop()
        server.close()
    return took


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def main(rounds: int) -> None:
    """Both ways, as a table."""
    for told, name in ((True, "samples of the monitor"), (False, "the dispatcher's own look")):
        with tempfile.TemporaryDirectory() as folder:
            took = sorted(await measure(rounds, Path(folder) / "data", told=told))
        middle, most = statistics.median(took), took[-1]
        print(f"{name:26} {len(took)} rounds: median {middle * 1000:.1f} ms, longest {most * 1000:.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    asyncio.run(main(parser.parse_args().rounds))
