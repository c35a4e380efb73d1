"""A cold start on AWS Lambda: ours beside a handler of Pillow and boto3 that does the same.

    python bench/cold_start.py [--rounds 15] [--also NAME=HANDLER=PYTHONPATH]

Each round starts every handler once, in a fresh process under the real runtime client (``awslambdaric``), and sends it
one S3 event: a JPEG of 1200x800 is fetched from S3 (moto, on loopback, plain HTTP), made gray and 256x256, and put
into a second bucket. The order changes with each round. "First result" is wall time from the start of the process,
"init" the part before the first event, CPU that of the process, memory its peak. Then the warm duration and the peak
at three resolutions, which the study that this reproduces used. ``--also``: another handler, for before and after.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from function_tools import Buckets, jpeg

from pixelmill.testing.lambda_runtime import Invocation, LambdaRuntime
from servers import Moto

PILLOW = """
import io, os
from urllib.parse import unquote_plus

import boto3
from PIL import Image

s3 = boto3.client("s3")


def handler(event, context):
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        image = Image.open(io.BytesIO(body)).convert("L").resize((256, 256))
        result = io.BytesIO()
        image.save(result, "JPEG", quality=80)
        s3.put_object(
            Bucket=os.environ["OUTPUT_BUCKET"], Key=key, Body=result.getvalue(), ContentType="image/jpeg"
        )
    return {"results": []}
"""
RESOLUTIONS = ((1200, 800), (1500, 997), (2040, 1536))


def main() -> None:
    """Measure, and print tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--also", action="append", default=[], metavar="NAME=HANDLER=PYTHONPATH")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pillow_handler.py").write_text(PILLOW)
        handlers = {
            "Pillow, boto3": ("pillow_handler.handler", folder),
            "Pixelmill": ("pixelmill.functions.aws.handler", ""),
            **{name: (handler, path) for name, handler, path in (one.split("=", 2) for one in arguments.also)},
        }
        moto = Moto(Path(folder) / "moto").start()
        try:
            buckets = Buckets(moto)
            cold(buckets, handlers, arguments.rounds)
            resolutions(buckets, handlers)
        finally:
            moto.close()


def runtime(buckets: Buckets, handler: str, path: str) -> LambdaRuntime:
    """A function of one handler."""
    environment = buckets.environment(**({"PYTHONPATH": path} if path else {}))
    return LambdaRuntime(handler, environment=environment, timeout_s=60)


def cold(buckets: Buckets, handlers: Mapping[str, tuple[str, str]], rounds: int) -> None:
    """Cold starts, in turns."""
    event = buckets.put("photo.jpg", jpeg(1200, 800, 1))
    found: dict[str, list[Invocation]] = {name: [] for name in handlers}
    for number in range(rounds + 1):
        turn = list(handlers.items())
        for name, (handler, path) in turn[number % len(turn) :] + turn[: number % len(turn)]:
            with runtime(buckets, handler, path) as one:
                invocation = one.invoke(event)
            assert invocation.ok, invocation.error
            if number:  # the first round fills the page cache
                found[name].append(invocation)
    print(f"Cold start, {rounds} rounds: median (least)\n")
    print("| handler | first result | init | CPU | peak memory |\n|---|---|---|---|---|")
    for name, invocations in found.items():
        first = _told(invocations, lambda one: one.init_s + one.duration_s)
        init, cpu = _told(invocations, lambda one: one.init_s), _told(invocations, lambda one: one.cpu_s)
        peak = max(one.memory_bytes for one in invocations) / 1e6
        print(f"| {name} | {first} | {init} | {cpu} | {peak:.0f} MB |")
    base = found["Pillow, boto3"]
    for name, invocations in found.items():
        walls = [
            (ours.init_s + ours.duration_s) / (theirs.init_s + theirs.duration_s)
            for ours, theirs in zip(invocations, base, strict=True)
        ]
        cpus = [ours.cpu_s / theirs.cpu_s for ours, theirs in zip(invocations, base, strict=True)]
        print(f"\n{name}: {statistics.median(walls):.2f} of the wall time, {statistics.median(cpus):.2f} of the CPU")


def resolutions(buckets: Buckets, handlers: Mapping[str, tuple[str, str]]) -> None:
    """Memory and duration by resolution."""
    print("\n| handler | resolution | cold: peak memory | cold: duration | warm: duration |\n|---|---|---|---|---|")
    for name, (handler, path) in handlers.items():
        for width, height in RESOLUTIONS:
            event = buckets.put("photo.jpg", jpeg(width, height, 2, quality=97))
            with runtime(buckets, handler, path) as one:
                first = one.invoke(event)
                peak = first.memory_bytes / 1e6
                warm = [one.invoke(event) for _ in range(10)]
            assert all(invocation.ok for invocation in (first, *warm))
            told = _told(warm, lambda invocation: invocation.duration_s)
            print(f"| {name} | {width}x{height} | {peak:.0f} MB | {first.duration_s * 1e3:.0f} ms | {told} |")


def _told(invocations: Iterable[Invocation], of: Callable[[Invocation], float]) -> str:
    values = [of(invocation) * 1e3 for invocation in invocations]
    return f"{statistics.median(values):.0f} ms ({min(values):.0f})"


if __name__ == "__main__":
    main()
