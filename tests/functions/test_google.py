"""Google's functions framework in a process of its own calls the function with CloudEvents of Cloud Storage."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from buckets import service_account
from function_tools import SEED_D, Buckets, Program, jpeg

from pixelmill import Pipeline
from servers import Moto

pytest.importorskip("functions_framework")


def test_cloud_events_become_results(moto_server: Moto, tmp_path: Path) -> None:
    buckets, photo = Buckets(moto_server), jpeg(600, 400, 1)
    (tmp_path / "main.py").write_text("from pixelmill.functions.google import handle\n")
    account = json.dumps(service_account(moto_server.url))
    variables = buckets.environment(STORE_OPTIONS=json.dumps({"gs": {"service_account_key": account}}))
    command = [sys.executable, "-m", "functions_framework", "--target", "handle", "--signature-type", "cloudevent"]
    program = Program(tmp_path, [*command, "--host", "127.0.0.1", "--port", "PORT"], variables)
    try:
        attributes = {
            "specversion": "1.0",
            "type": "google.cloud.storage.object.v1.finalized",
            "source": f"//storage.googleapis.com/projects/_/buckets/{buckets.source}",
            "id": "1",
            "time": "2026-11-28T10:00:01Z",
        }

        def resource(name: str, body: bytes) -> dict[str, str]:
            buckets.client.put_object(Bucket=buckets.source, Key=name, Body=body)
            return {"bucket": buckets.source, "name": name, "generation": "1", "size": str(len(body))}

        binary = {f"ce-{name}": value for name, value in attributes.items()} | {"ce-subject": "objects/a b.jpg"}
        assert program.client.post("/", json=resource("a b.jpg", photo), headers=binary).status_code == 200, (
            program.log.read_text()
        )
        structured = {**attributes, "subject": "objects/b.jpg", "data": resource("b.jpg", photo)}
        headers = {"content-type": "application/cloudevents+json"}
        assert program.client.post("/", content=json.dumps(structured), headers=headers).status_code == 200
        broken = {**structured, "subject": "objects/c.jpg", "data": resource("c.jpg", b"no image")}
        assert program.client.post("/", content=json.dumps(broken), headers=headers).status_code == 200
        assert sorted(buckets.keys()) == ["a b.jpg", "b.jpg"]
        assert buckets.get("a b.jpg") == buckets.get("b.jpg") == Pipeline.parse(SEED_D).run(photo).bytes
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(30)
        assert '"event":"function.failed"' in program.log.read_text()
    finally:
        program.end()
