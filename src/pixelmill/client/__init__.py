"""The Python SDK: ``Client`` and ``AsyncClient`` over httpx.

One core without I/O (``flows`` over ``wire``) knows the HTTP API; two thin drivers perform what it asks for. To it a
pipeline is text or JSON: it imports nothing of Pixelmill but the error tree.
"""

from pixelmill.client.aio import AsyncClient, AsyncJob
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.sync import Client, Job
from pixelmill.client.trigger_values import TriggerEvent
from pixelmill.client.values import (
    Counts,
    DeadLetter,
    Delivery,
    Download,
    Event,
    JobStatus,
    Link,
    Processed,
    Progress,
    Result,
    Sheet,
    TaskStatus,
    Upload,
    UploadLink,
    Webhook,
)

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Counts",
    "DeadLetter",
    "Delivery",
    "Download",
    "Event",
    "Job",
    "JobStatus",
    "Link",
    "Processed",
    "Progress",
    "Result",
    "RetryPolicy",
    "Sheet",
    "TaskStatus",
    "TriggerEvent",
    "Upload",
    "UploadLink",
    "Webhook",
]
