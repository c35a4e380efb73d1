"""The bodies of requests and answers as pydantic models: documentation for OpenAPI, and validation of JSON requests.

Answers are built by ``dto.py`` without these models, for speed; a test validates real answers against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

StateName = Literal["queued", "running", "succeeded", "failed", "cancelled"]
PriorityName = Literal["interactive", "normal", "batch"]
Moment = Annotated[str, Field(description="ISO 8601 in UTC", examples=["2026-03-01T12:00:00.000Z"])]
PIPELINE_EXAMPLE = "grayscale/resize:256,256,fit=fill/format:jpeg,quality=80"
JOB_ID = "job_019565a1b2c3d4e5f60718293a4b5c6d7e8f"
TASK_ID = "task_019565a1b2c3d4e5f60718293a4b5c6d7e8f"
UPLOAD_ID = "up_019565a1b2c3d4e5f60718293a4b5c6d7e8f"
MAX_LISTED = 100_000
MAX_RANKS = 1_024


TraceId = Annotated[
    str | None,
    Field(
        description="Trace (W3C trace context) of the request that made the job; null: made before there were any",
        examples=["4bf92f3577b34da6a3ce929d0e0e4736"],
    ),
]


class Answer(BaseModel):
    """Base of answers. Clients should ignore members they don't know."""

    model_config = ConfigDict(extra="forbid")


class ProblemBody(Answer):
    """RFC 9457 problem document."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "type": "/v1/problems/unknown-operation",
                    "title": "Unknown operation",
                    "status": 422,
                    "detail": "There is no operation 'greyscale'. Did you mean 'grayscale'?",
                    "instance": "/v1/process",
                    "request_id": "5f2b6c1e9a7d4f30",
                    "retryable": False,
                    "context": {"operation": "greyscale", "nearest": ["grayscale"]},
                }
            ]
        },
    )
    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    retryable: bool
    context: dict[str, Any]


class CountsBody(Answer):
    """Tasks of a job by state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    total: int


class WebhookBody(Answer):
    """An endpoint that is told when jobs end; ``job`` where it is one of that job alone."""

    id: str
    url: Annotated[str, Field(examples=["https://example.org/pixelmill"])]
    job: str | None
    created: Moment


class NewWebhookBody(WebhookBody):
    """With its secret, which is not shown again."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class MpiBody(Answer):
    """The MPI ranks that a job asked for."""

    ranks: Annotated[int, Field(examples=[4])]


class JobBody(Answer):
    """A set of tasks submitted together. ``pipeline`` is in text form, image parameters resolved to ``sha256:``."""

    id: Annotated[str, Field(examples=[JOB_ID])]
    owner: Annotated[str, Field(examples=["ann"])]
    state: StateName
    name: str
    priority: PriorityName
    tags: dict[str, str]
    pipeline: Annotated[str, Field(examples=[PIPELINE_EXAMPLE])]
    counts: CountsBody
    sealed: bool
    created: Moment
    started: Moment | None
    ended: Moment | None
    expires: Moment | None
    trace_id: TraceId
    mpi: Annotated[MpiBody | None, Field(description="null: not asked for")]
    links: dict[str, str]
    labels: Annotated[
        dict[str, int] | None,
        Field(
            description="What `auto_tag` said of most tasks, with their number, the most frequent first (20 at most); "
            "only where one job is asked for",
            examples=[{"tabby": 12, "beagle": 3}],
        ),
    ] = None
    webhook: Annotated[
        NewWebhookBody | None, Field(description="Only in the answer to a submission that named one")
    ] = None


class SourceBody(Answer):
    """Where the input came from: the name it was sent with, and its address where it was not an upload."""

    name: Annotated[str, Field(examples=["holiday/beach.jpg"])]
    uri: str | None


class OutcomeBody(Answer):
    """What a task ended with. ``size`` is ``[width, height]``; ``bytes`` is None where there is data only.

    ``frames`` is how many the result has (more than one: an animation; None: not recorded).
    """

    format: Annotated[str | None, Field(examples=["jpeg"])]
    media_type: Annotated[str | None, Field(examples=["image/jpeg"])]
    size: Annotated[list[int] | None, Field(examples=[[256, 256]])]
    source_size: Annotated[list[int], Field(examples=[[1200, 800]])]
    source_format: Annotated[str, Field(examples=["jpeg"])]
    frames: Annotated[int | None, Field(examples=[1])]
    bytes: Annotated[int | None, Field(examples=[9310])]
    source_bytes: Annotated[int | None, Field(description="null: not recorded", examples=[171703])]
    cold: Annotated[bool, Field(description="The first task of its process, container or function instance")]
    data: dict[str, Any]
    timings: Annotated[dict[str, float], Field(examples=[{"decode_ms": 2.1, "apply_ms": 0.4, "encode_ms": 0.6}])]


class FailureBody(Answer):
    """Why a task failed; ``type`` is as in problem documents."""

    type: Annotated[str, Field(examples=["/v1/problems/corrupt-image"])]
    title: str
    detail: str
    context: dict[str, Any]


class TaskBody(Answer):
    """One source through one pipeline. ``attempts`` counts deliveries, ``run`` manual retries."""

    id: Annotated[str, Field(examples=[TASK_ID])]
    job: Annotated[str, Field(examples=[JOB_ID])]
    seq: int
    state: StateName
    name: str
    source: SourceBody
    run: int
    attempts: int
    queued: Moment
    started: Moment | None
    ended: Moment | None
    target: Annotated[str | None, Field(description="Where it ran last", examples=["local"])]
    worker: Annotated[str | None, Field(description="The process there", examples=["4711"])]
    why: Annotated[str | None, Field(description="Why there", examples=["its gate is open"])]
    cost: Annotated[float, Field(description="What its calls cost, failed ones too, in the currency of the prices")]
    trace_id: TraceId
    outcome: OutcomeBody | None
    error: FailureBody | None
    links: dict[str, str]


class TaskDetailBody(TaskBody):
    """A task with the attempts that were lost before its last one, oldest first."""

    lost_attempts: list[dict[str, Any]]


class JobList(Answer):
    """A page of jobs, newest first."""

    items: list[JobBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class TaskList(Answer):
    """A page of tasks, in the order they were submitted."""

    items: list[TaskBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class FoundTasks(Answer):
    """A page of tasks that were found, the last that ended first."""

    items: list[TaskBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class UploadBody(Answer):
    """Bytes that wait to be used by a job; unused ones expire."""

    id: Annotated[str, Field(examples=[UPLOAD_ID])]
    name: Annotated[str, Field(examples=["beach.jpg"])]
    size: Annotated[int, Field(examples=[171703])]
    created: Moment
    expires: Moment


class LinkBody(Answer):
    """An address that works without a token until it expires; without a host it is one of this service."""

    url: Annotated[str, Field(examples=["https://bucket.s3.eu-central-1.amazonaws.com/results/…?X-Amz-Signature=…"])]
    method: Literal["GET", "PUT"]
    headers: Annotated[dict[str, str], Field(description="To be sent with the request")]
    expires: Moment


class UploadLinkBody(LinkBody):
    """A link to put the bytes of a new upload by. ``links.complete`` is where to say that it is done."""

    id: Annotated[str, Field(examples=[UPLOAD_ID])]
    max_bytes: Annotated[int, Field(examples=[100000000])]
    links: dict[str, str]


class ProcessedBody(Answer):
    """The outcome of one image as JSON. ``image`` holds the bytes in Base64 where JSON with the image was asked for."""

    format: str | None
    media_type: str | None
    size: list[int] | None
    source_size: list[int]
    source_format: str
    frames: int
    data: dict[str, Any]
    timings: dict[str, float]
    target: str
    cold: bool
    image: str | None


class LackBody(Answer):
    """Something that is needed and not here, and the command that brings it (null: there is none)."""

    what: Annotated[str, Field(examples=["writing jxl needs the extra jxl"])]
    command: Annotated[str | None, Field(examples=["pip install 'pixelmill[jxl]'"])]


class OperationBody(Answer):
    """One operation: its parameters as JSON Schema, and what a planner knows of it."""

    name: Annotated[str, Field(examples=["grayscale"])]
    family: str
    summary: str
    description: str
    kind: str
    tier: str
    output: Annotated[
        Literal["image", "data", "both"], Field(description="`both` may depend on parameters; `data` changes no pixels")
    ]
    missing: Annotated[list[LackBody], Field(description="What it needs and this service lacks", examples=[[]])]
    parameters: dict[str, Any]
    positional: Annotated[
        int, Field(description="How many of the parameters, the first ones, the text form writes without their names")
    ]
    examples: list[str]


class OperationList(Answer):
    """All operations, in the order of the table."""

    items: list[OperationBody]
    next: None


class FormatBody(Answer):
    """One format: what it is called, whether it is read and written, and how."""

    name: Annotated[str, Field(examples=["webp"])]
    media_type: str | None
    extensions: list[str]
    read: bool
    written: bool
    animated: bool
    extra: str | None
    parameters: dict[str, Any] | None


class FormatList(Answer):
    """All formats, and `auto`, which chooses one."""

    items: list[FormatBody]
    next: None


class PresetBody(Answer):
    """One preset: its form as it was written, and the pipeline that it comes to (where it is known here)."""

    name: Annotated[str, Field(examples=["thumbnail"])]
    title: Annotated[str, Field(examples=["Thumbnail, 256 gray"])]
    summary: str
    built_in: bool
    form: str
    pipeline: str
    images: Annotated[list[str], Field(description="References for which an image must be given", examples=[[]])]
    available: bool
    missing: list[LackBody]


class PresetList(Answer):
    """All presets, the built-in ones first."""

    items: list[PresetBody]
    next: None


class NodeList(Answer):
    """Machines that run tasks: this one, then joined nodes; load now, slots, gate, samples of the last hour."""

    items: list[dict[str, Any]]
    next: None


class LoadBody(Answer):
    """Slots of the own pool, what waits for them, percentages of CPU and RAM (null before the first sample), gate."""

    running: int
    capacity: int
    waiting: int
    cpu: float | None
    ram: float | None
    gate: dict[str, Any]
    draining: bool


class ReadyBody(Answer):
    """Whether the service can take work, and what was checked."""

    ready: bool
    checks: dict[str, Any]


class WebhookList(Answer):
    """All webhooks, oldest first."""

    items: list[WebhookBody]
    next: None


class DeliveryBody(Answer):
    """One message to a webhook: its state, attempts so far, and the status or error of the last one."""

    id: str
    webhook: str
    job: str
    type: Annotated[str, Field(examples=["job.ended"])]
    state: Literal["waiting", "delivered", "failed"]
    attempts: int
    next_attempt: Moment | None
    status: int | None
    error: str | None
    created: Moment
    ended: Moment | None


class DeliveryList(Answer):
    """A page of deliveries, newest first."""

    items: list[DeliveryBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class Wanted(BaseModel):
    """Base of JSON requests: unknown members are refused, so that a misspelled one is not silently ignored."""

    model_config = ConfigDict(extra="forbid")


class MpiWanted(Wanted):
    """Over how many MPI ranks each image of a job is spread. On which machines is the service's affair."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ranks": 4}]})
    ranks: Annotated[int, Field(ge=1, le=MAX_RANKS)]


_MPI = {
    "anyOf": [{**MpiWanted.model_json_schema(), "title": "MpiWanted"}, {"type": "null"}],
    "default": None,
    "description": "Spreads each image over MPI ranks",
}
"""Inline, as all of a body's schema is."""


class JobRequest(Wanted):
    """A job over uploads and sources. An unsealed job takes more tasks until it is sealed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"pipeline": PIPELINE_EXAMPLE, "uploads": [UPLOAD_ID], "name": "thumbnails", "tags": {"album": "sea"}},
                {
                    "pipeline": {"operations": [{"name": "grayscale"}], "output": {"format": "png"}},
                    "sources": ["file:///srv/photos/*.jpg"],
                    "sealed": False,
                },
            ]
        },
    )
    pipeline: str | dict[str, Any]
    uploads: Annotated[list[str], Field(max_length=MAX_LISTED)] = []
    sources: Annotated[list[str], Field(max_length=MAX_LISTED)] = []
    name: Annotated[str, Field(max_length=200)] = ""
    priority: PriorityName = "normal"
    tags: dict[str, str] = {}
    sealed: bool = True
    webhook: Annotated[str, Field(max_length=2_000, description="Is told when the job ends")] = ""
    mpi: Annotated[MpiWanted | None, WithJsonSchema(_MPI)] = None


class WebhookRequest(Wanted):
    """An endpoint."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"url": "https://example.org/pixelmill"}]}
    )
    url: Annotated[str, Field(max_length=2_000)]


class LinkWanted(Wanted):
    """A link to upload by; ``expires`` is how many seconds it works."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"expires": 900}]})
    expires: Annotated[int, Field(ge=1, le=7 * 24 * 3600)] = 3600


class UploadDone(Wanted):
    """The bytes are there; ``name`` is the file's."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "beach.jpg"}]})
    name: Annotated[str, Field(max_length=1_000)] = ""


class MoreTasks(Wanted):
    """A page of tasks for a job that is not sealed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"uploads": [UPLOAD_ID], "seal": True}]})
    uploads: Annotated[list[str], Field(max_length=MAX_LISTED)] = []
    sources: Annotated[list[str], Field(max_length=MAX_LISTED)] = []
    seal: bool = False
