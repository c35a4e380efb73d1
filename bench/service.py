"""What the service costs above the bare kernel: synchronous requests, and jobs whose results are stored.

    python bench/service.py [--images DIR] [--rounds N] [--count N]

CPU seconds of the service's whole process tree (the load generator is another tree and not counted) against CPU seconds
of the bare kernel over the same files in this process, measured in turn; medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import Sequence
from urllib.parse import quote

import common
from load import Connection, post_all
from server import PrivateService


def kernel_seconds(files: Sequence[bytes]) -> float:
    """CPU of the bare kernel over all files."""

    def work() -> None:
        for data in files:
            common.kernel(data)

    return common.cpu_of(work)


def process_round(service: PrivateService, files: Sequence[bytes]) -> tuple[float, float]:
    """CPU and wall seconds of one POST /v1/process a file over 8 keep-alive connections."""
    before, start = common.tree_cpu(service.pid), time.perf_counter()
    target = f"/v1/process?pipeline={quote(common.PIPELINE)}"
    lengths = asyncio.run(post_all("127.0.0.1", service.port, target, files))
    assert len(lengths) == len(files)
    return common.tree_cpu(service.pid) - before, time.perf_counter() - start


def multipart(files: Sequence[bytes]) -> tuple[bytes, str]:
    """A form with the pipeline and all files."""
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="pipeline"\r\n\r\n{common.PIPELINE}\r\n'.encode()]
    for index, data in enumerate(files):
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{index:05}.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        parts += [head.encode(), data, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


async def submit_multipart(port: int, files: Sequence[bytes]) -> str:
    """The id of a job made by one multipart request."""
    body, content_type = multipart(files)
    connection = await Connection.open("127.0.0.1", port)
    answer = json.loads(await connection.request("POST", "/v1/jobs", body, content_type))
    await connection.close()
    return str(answer["id"])


async def submit_uploads(port: int, files: Sequence[bytes]) -> str:
    """The id of a job made by raw uploads, four at a time, and one JSON request."""
    waiting = list(enumerate(files))
    ids: dict[int, str] = {}

    async def worker() -> None:
        connection = await Connection.open("127.0.0.1", port)
        while waiting:
            index, data = waiting.pop()
            answer = json.loads(await connection.request("PUT", f"/v1/uploads/{index:05}.jpg", data))
            ids[index] = answer["id"]
        await connection.close()

    await asyncio.gather(*(worker() for _ in range(4)))
    body = json.dumps({"pipeline": common.PIPELINE, "uploads": [ids[i] for i in sorted(ids)]}).encode()
    connection = await Connection.open("127.0.0.1", port)
    answer = json.loads(await connection.request("POST", "/v1/jobs", body, "application/json"))
    await connection.close()
    return str(answer["id"])


def wait_for(service: PrivateService, job: str, count: int) -> None:
    """Read the job's event stream until it ends: what a page or `jobs watch` does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/v1/jobs/{job}/events?after=0", timeout=600) as stream:
        for _ in stream:
            pass
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/v1/jobs/{job}", timeout=10) as answer:
        body = json.load(answer)
    if body["counts"]["succeeded"] != count:
        raise SystemExit(f"the job did not succeed: {body}")


def job_round(service: PrivateService, files: Sequence[bytes], how: str) -> tuple[float, float]:
    """CPU and wall seconds from the first byte sent to the last result stored and read in the event stream."""
    before, start = common.tree_cpu(service.pid), time.perf_counter()
    submit = submit_multipart if how == "multipart" else submit_uploads
    job = asyncio.run(submit(service.port, files))
    wait_for(service, job, len(files))
    return common.tree_cpu(service.pid) - before, time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of JPEG photographs of 1200x800, 1500x997, 2040x1536")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    files = common.variants(common.photographs(args.images), args.count)
    print(common.machine("opencv-python-headless", "simplejpeg", "fastapi", "uvicorn", "sqlalchemy"), "\n")
    names = ("bare kernel", "POST /v1/process", "job, multipart", "job, raw uploads")
    cpu: dict[str, list[float]] = {name: [] for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    with PrivateService() as service:
        process_round(service, files[:100])
        job_round(service, files[:100], "multipart")
        kernel_seconds(files[:100])
        for round_ in range(args.rounds):
            common.say(f"round {round_ + 1} of {args.rounds}")
            start = time.perf_counter()
            cpu["bare kernel"].append(kernel_seconds(files))
            wall["bare kernel"].append(time.perf_counter() - start)
            for name, (seconds, elapsed) in {
                "POST /v1/process": process_round(service, files),
                "job, multipart": job_round(service, files, "multipart"),
                "job, raw uploads": job_round(service, files, "raw"),
            }.items():
                cpu[name].append(seconds)
                wall[name].append(elapsed)
    rows = []
    for name in names:
        ratio = common.median(a / b for a, b in zip(cpu[name], cpu["bare kernel"], strict=True))
        each = common.median(cpu[name]) / len(files) * 1e3
        rate = len(files) / common.median(wall[name])
        rows.append((name, f"{each:.2f}", f"{ratio:.2f}", f"{rate:.0f}"))
    print(common.table((f"{len(files)} photographs", "CPU ms an image", "times the kernel", "images a second"), rows))


if __name__ == "__main__":
    main()
