"""The triggers of Azure Functions, called with what the package's own converters make, over Azurite."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from function_tools import SEED_D, jpeg

from pixelmill import Pipeline
from pixelmill.errors import StorageUnavailable
from servers import Azurite

pytest.importorskip("azure.functions")

# In a process of its own, for what a function says to libraries holds for the whole process.
PROGRAM = """
import json, sys
from azure.functions import eventgrid, meta, queue
from function_app import app

found = {function.get_function_name(): function for function in app.get_functions()}
assert sorted(found) == ["event_grid", "queue"], found
bindings = {name: json.loads(function.get_function_json())["bindings"] for name, function in found.items()}
assert [one["type"] for one in bindings["event_grid"]] == ["eventGridTrigger"], bindings
assert [(one["type"], one["queueName"], one["connection"]) for one in bindings["queue"]] == [
    ("queueTrigger", "uploads", "AzureWebJobsStorage")
], bindings
for line in sys.stdin:
    kind, text = json.loads(line)
    datum = meta.Datum(value=text, type="json" if kind == "event_grid" else "string")
    converter = eventgrid.EventGridEventInConverter if kind == "event_grid" else queue.QueueMessageInConverter
    value = converter.decode(datum, trigger_metadata={"Id": meta.Datum("1", "string")})
    try:
        found[kind].get_user_function()(value)
        print("returned", flush=True)
    except Exception as error:
        print("raised", type(error).__name__, flush=True)
"""


def blob_event(container: str, name: str, size: int) -> dict[str, object]:
    """As Event Grid tells of a blob ("Azure Blob Storage as an Event Grid source")."""
    return {
        "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/devstoreaccount1",
        "subject": f"/blobServices/default/containers/{container}/blobs/{name}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-11-28T10:00:00.0000000Z",
        "id": "831e1650-001e-001b-66ab-eeb76e069631",
        "data": {
            "api": "PutBlob",
            "clientRequestId": "6d79dbfb",
            "requestId": "831e1650",
            "eTag": "0x8D4BCC2E4835CD0",
            "contentType": "image/jpeg",
            "contentLength": size,
            "blobType": "BlockBlob",
            "url": f"https://devstoreaccount1.blob.core.windows.net/{container}/{name}",
            "sequencer": "00000000000004420000000000028963",
            "storageDiagnostics": {"batchId": "b68529f3"},
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


def test_event_grid_and_queue_triggers(azurite_server: Azurite, tmp_path: Path) -> None:
    photo = jpeg(600, 400, 1)
    names = {"grid ü.jpg": photo, "plain.jpg": photo, "coded.jpg": photo, "broken.jpg": b"no image"}
    with BlobServiceClient.from_connection_string(azurite_server.connection_string) as client:
        source, target = f"in{os.getpid()}", f"out{os.getpid()}"
        for name in (source, target):
            client.create_container(name)
        for name, body in names.items():
            client.get_blob_client(source, name).upload_blob(body)
        events = {name: json.dumps(blob_event(source, name, len(body))) for name, body in names.items()}
        asked = [
            ("event_grid", events["grid ü.jpg"]),
            ("event_grid", events["grid ü.jpg"]),
            ("queue", events["plain.jpg"]),
            ("queue", base64.b64encode(events["coded.jpg"].encode()).decode()),
            ("event_grid", events["broken.jpg"]),
            ("event_grid", json.dumps({**blob_event(source, "x", 1), "eventType": "Other.Event"})),
            ("queue", "nobody can read this"),
        ]
        told = _told(tmp_path, asked, azurite_server.connection_string, target)
        # The queue keeps what raises, and moves it to `uploads-poison`; Event Grid would only send it again.
        assert told == [*["returned"] * 6, "raised RequestError"]
        found = {blob.name: blob for blob in client.get_container_client(target).list_blobs()}
        assert sorted(found) == ["coded.jpg", "grid ü.jpg", "plain.jpg"]
        expected = Pipeline.parse(SEED_D).run(photo).bytes
        for name, blob in found.items():
            assert client.get_blob_client(target, name).download_blob().readall() == expected
            assert blob.content_settings.content_type == "image/jpeg"
    nowhere = azurite_server.connection_string.replace(str(azurite_server.port), "9")
    assert _told(tmp_path, asked[:1], nowhere, target) == [f"raised {StorageUnavailable.__name__}"]


def _told(folder: Path, asked: list[tuple[str, str]], connection: str, target: str) -> list[str]:
    """What came of each call, in a fresh process whose ``function_app.py`` is that of the docs."""
    (folder / "function_app.py").write_text(
        "from pixelmill.functions.azure import function_app\n\napp = function_app()\n"
    )
    variables = {"AzureWebJobsStorage": connection, "PIPELINE": SEED_D, "OUTPUT_BUCKET": target}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="".join(f"{json.dumps(one)}\n" for one in asked),
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(folder), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("returned", "raised"))]
