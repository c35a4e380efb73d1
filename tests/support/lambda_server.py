"""The Invoke API of AWS Lambda on loopback, which runs tasks in its own threads: for real clients of botocore.

What a function does goes by its name: ``good`` runs the document, others fail in the ways that Lambda has.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from loopback import serving

from pixelmill.errors import PixelmillError, TaskTimeout
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.invocation import Link, is_warm_up, read_document, reply_of, reply_of_error
from pixelmill.targets.target import RunResult

MAX = 6_291_456


def _fetched(part: bytes | Link) -> bytes:
    return httpx.get(part.url, trust_env=False).raise_for_status().content if isinstance(part, Link) else part


class LambdaServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = threading.Event()
        self.sizes: list[int] = []
        self.warm = 0
        self.traces: list[str] = []  # of tasks, what they belong to
        self.sent_by_link = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_event(self, event: Any) -> Mapping[str, Any]:
        """What the handler of a function does."""
        if is_warm_up(event):
            self.warm += 1
            return {"pixelmill": 1}
        asked = read_document(event)
        self.traces.append(asked.trace)
        try:
            if asked.name == "endless":
                self.closing.wait(asked.timeout_s)
                raise TaskTimeout("It took too long.")
            self.sent_by_link += isinstance(asked.source, Link)
            images = {reference: _fetched(part) for reference, part in asked.images.items()}
            outcome = Pipeline.parse(asked.pipeline).run(_fetched(asked.source), images=dict(images))
        except PixelmillError as error:
            return reply_of_error(error)
        stored = asked.result is not None and outcome.bytes is not None and len(outcome.bytes) > 1_000_000
        if stored and asked.result is not None:
            httpx.put(asked.result.url, content=outcome.bytes, trust_env=False).raise_for_status()
        return reply_of(RunResult(outcome, "function", "1", cold=len(self.traces) == 1), stored=stored)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LambdaServer

    def do_POST(self) -> None:
        function = self.path.split("/")[3]
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.sizes.append(len(body))
        if len(body) > MAX:
            self._say(413, {"message": "too large"}, {"x-amzn-ErrorType": "RequestTooLargeException"})
        elif function == "throttled":
            self._say(429, {"message": "Rate Exceeded"}, {"x-amzn-ErrorType": "TooManyRequestsException"})
        elif function == "absent":
            self._say(404, {"message": "Function not found"}, {"x-amzn-ErrorType": "ResourceNotFoundException"})
        elif function == "failing":
            self._say(500, {"message": "x"}, {"x-amzn-ErrorType": "ServiceException"})
        elif function == "crashing":
            told = {"errorType": "KeyError", "errorMessage": "'x'"}
            self._say(200, told, {"X-Amz-Function-Error": "Unhandled"})
        elif function == "hungry":
            told = {"errorType": "Runtime.OutOfMemory", "errorMessage": "signal: killed"}
            self._say(200, told, {"X-Amz-Function-Error": "Unhandled"})
        elif function == "rubbish":
            self._say(200, ["hello"], {})
        elif function == "empty":
            self._say(200, {}, {})
        else:
            self._say(200, self.server.handle_event(json.loads(body)), {})

    def _say(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            for name, value in {**headers, "content-type": "application/json", "content-length": len(data)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True  # the caller has gone

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def lambda_server() -> Iterator[LambdaServer]:
    with serving(LambdaServer()) as server:
        try:
            yield server
        finally:
            server.closing.set()
