"""The function of `pixelmill bench evaluate --target function`: the real handler, in a local AWS Lambda runtime."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pixelmill.cli.bench_stores import BucketEvents, DirectEvents, Stores
from pixelmill.evaluation.function import Events
from pixelmill.testing.lambda_runtime import LambdaRuntime


def runtime(pipeline: str, stores: Stores, *, concurrency: int, limit_s: float, memory_mb: int | None) -> LambdaRuntime:
    """Not started. With buckets it reads and writes those; else images come and go in the invocations."""
    environment = {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path)}
    if stores.store:
        stores.check()
        # Credentials of the buckets, where no option gives them.
        environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        environment |= {
            "PIPELINE": pipeline,
            "OUTPUT_BUCKET": stores.results,
            "STORE_OPTIONS": json.dumps({"s3": dict(stores.options)}),
        }
    else:
        environment["PIPELINE"] = pipeline
    return LambdaRuntime(
        environment=environment,
        concurrency=concurrency,
        timeout_s=limit_s,
        memory_bytes=None if memory_mb is None else memory_mb << 20,
        name="bench",
    )


def events(pipeline: str, stores: Stores) -> Events:
    """What the function is called for."""
    return BucketEvents(stores) if stores.store else DirectEvents(pipeline)
