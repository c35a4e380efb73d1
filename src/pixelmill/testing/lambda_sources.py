"""What calls a function: the Invoke API of AWS Lambda on loopback, and the event source mapping of an SQS queue."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pixelmill.errors import QueueFull
from pixelmill.testing.lambda_runtime import LambdaRuntime

MAX_EVENT = 6_291_456
"""Bytes of a synchronous event."""
BATCH = 10


class InvokeApi:
    """``url`` is an endpoint for boto3's client ``lambda``: ``Invoke`` with RequestResponse, Event and DryRun."""

    def __init__(self, runtime: LambdaRuntime) -> None:
        self._server = _InvokeServer(runtime)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class QueueMapping:
    """Polls a queue and calls the function with batches, as Lambda's event source mapping does.

    ``sqs`` is boto3's client. Messages of a batch are deleted when the function returned, but for those that it names
    in ``batchItemFailures``; after an error all of them become visible again by themselves. ``pollers`` threads call at
    once. ``drained`` waits until nothing is visible, delayed or in flight.
    """

    def __init__(
        self, runtime: LambdaRuntime, sqs: Any, queue_url: str, *, batch: int = BATCH, pollers: int = 2
    ) -> None:
        self._runtime, self._sqs, self._queue, self._batch = runtime, sqs, queue_url, min(batch, BATCH)
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._poll, daemon=True) for _ in range(pollers)]
        self.batches = 0
        self.failed_batches = 0
        self.failed_messages = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def drained(self, timeout_s: float) -> bool:
        """Whether the queue got empty within that time."""
        deadline = time.monotonic() + timeout_s
        while self.left():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def left(self) -> int:
        """Messages that are visible, delayed or in flight."""
        names = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )
        found = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=list(names))["Attributes"]
        return sum(int(found[name]) for name in names)

    def _poll(self) -> None:
        while not self._stopped.is_set():
            answer = self._sqs.receive_message(
                QueueUrl=self._queue,
                MaxNumberOfMessages=self._batch,
                WaitTimeSeconds=1,
                AttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            if messages:
                self._hand_over(messages)

    def _hand_over(self, messages: list[dict[str, Any]]) -> None:
        invocation = self._runtime.invoke({"Records": [_record(message) for message in messages]}, wait_s=60.0)
        result = invocation.result if isinstance(invocation.result, dict) else {}
        failed = {item["itemIdentifier"] for item in result.get("batchItemFailures", ())}
        with self._lock:
            self.batches += 1
            self.failed_batches += not invocation.ok
            self.failed_messages += len(failed)
        if not invocation.ok:
            return
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            self._sqs.delete_message_batch(
                QueueUrl=self._queue,
                Entries=[
                    {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]} for place, message in enumerate(done)
                ],
            )


def _record(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:events",
        "awsRegion": "us-east-1",
    }


class _InvokeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, runtime: LambdaRuntime) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runtime = runtime


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _InvokeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = self.headers.get("x-amz-invocation-type", "RequestResponse")
        parts = self.path.partition("?")[0].split("/")
        if len(parts) < 5 or parts[2] != "functions" or parts[-1] != "invocations":
            self._say(404, {"message": "There is no such call."}, "ResourceNotFoundException")
        elif len(body) > MAX_EVENT:
            self._say(413, {"message": "The event is too large."}, "RequestTooLargeException")
        elif kind == "DryRun":
            self._say(204, None)
        elif kind == "Event":
            self._accept(body)
        else:
            self._run(body)

    def _accept(self, body: bytes) -> None:
        try:
            self.server.runtime.invoke_async(json.loads(body))
        except QueueFull as error:
            self._say(429, {"message": str(error)}, "TooManyRequestsException")
        else:
            self._say(202, None)

    def _run(self, body: bytes) -> None:
        invocation = self.server.runtime.invoke(json.loads(body))
        if invocation.throttled:
            self._say(429, {"message": "Rate Exceeded."}, "TooManyRequestsException")
        elif invocation.error is not None:
            self._say(200, dict(invocation.error), None, {"X-Amz-Function-Error": "Unhandled"})
        else:
            self._say(200, invocation.result)

    def _say(self, status: int, body: Any, kind: str | None = None, more: dict[str, str] | None = None) -> None:
        data = b"" if status in (202, 204) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(more or {})}
        if kind is not None:
            headers["x-amzn-ErrorType"] = kind
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the caller has gone

    def log_message(self, *_: object) -> None:
        """Say nothing."""
