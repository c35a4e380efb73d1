"""A client that hangs up frees its slot: work that nobody waits for is not done."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from live_service import LiveService
from service_process import wait_until


def busy(service: LiveService) -> bool:
    with service.client() as client:
        return b'pixelmill_slots_busy{target="local"} 0' not in client.get("/metrics").content


def test_a_client_that_hangs_up_frees_its_slot(start: Any) -> None:
    service: LiveService = start()
    pixels = np.random.default_rng(1).integers(0, 256, (3000, 3000, 3), np.uint8)
    body = bytes(cv2.imencode(".jpg", pixels)[1])
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/process?pipeline={quote('sketch:full')} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while not busy(service):
            pass  # each question is a request; the bound is the test's
    # The drawing itself would take over ten seconds, and longer on a busy machine.
    wait_until(lambda: not busy(service), "the slot to be free", 9.0)
