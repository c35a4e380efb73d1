"""A cold start pays for what a function needs, and for nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from function_tools import SEED_D

# Each of these costs a cold start 15 to 200 ms, and a function has no use for it.
HEAVY = (
    *("asyncio", "httpx", "boto3", "botocore", "sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn"),
    *(
        "typer",
        "rich",
        "prometheus_client",
        "psutil",
        "PIL",
        "redis",
        "celery",
        "http.client",
        "ssl",
        "xml",
        "email",
        "zipfile",
    ),
    *(
        "pixelmill.service",
        "pixelmill.api",
        "pixelmill.cli",
        "pixelmill.targets",
        "pixelmill.tracing",
        "pixelmill.models.sessions",
        "pixelmill.images.auto",
    ),
    *("pixelmill.images.decode_frames", "pixelmill.images.encode_frames", "pixelmill.images.metadata_keep"),
    *("pixelmill.images.svg", "pixelmill.images.jxl_header", "pixelmill.operations.montage"),
)
PROGRAM = """
import json, sys
import pixelmill.functions.aws
class Context:
    aws_request_id = "x"
    def get_remaining_time_in_millis(self): return 3000
told = pixelmill.functions.aws.handler({"Records": []}, Context())
import gc
print(json.dumps([sorted(sys.modules), gc.isenabled()]))
"""


def test_the_handler_loads_nothing_that_it_does_not_need() -> None:
    variables = {"PIPELINE": SEED_D, "OUTPUT_BUCKET": "x", "PATH": os.environ.get("PATH", "")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    modules, collects = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in HEAVY if name in modules] == []
    assert collects


def test_forms_are_read_in_many_threads_at_once_though_validators_are_built_late() -> None:
    program = f"""
import threading
from pixelmill import Pipeline
barrier, found = threading.Barrier(8), []
def read(number):
    barrier.wait()
    found.append(Pipeline.parse("{SEED_D},progressive=false").to_text())
threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert found == ["grayscale/resize:256,256,fit=fill/format:jpeg"] * 8, found
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_metadata_of_packages_can_still_be_read() -> None:
    for way in (
        "import importlib.metadata; found = importlib.metadata.version('numpy')",
        "from importlib.metadata import version; found = version('numpy')",
        "import importlib.metadata as told; found = told.version('numpy'); assert told.files('numpy')",
    ):
        program = f"import pixelmill.functions.lean\n{way}\nimport numpy\nassert found == numpy.__version__"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
