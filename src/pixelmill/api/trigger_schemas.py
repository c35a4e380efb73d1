"""Shapes of triggers: rules, their events, and dry runs; see ``schemas.py``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from pixelmill.api.schemas import JOB_ID, TASK_ID, Answer, FailureBody, Moment, PriorityName, Wanted

EVENT_ID = "ev_0a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
EventStateName = Literal["waiting", "submitted", "delivered", "superseded", "failed"]
MAX_REDRIVEN = 1_000
_RULE: dict[str, Any] = {
    "watch": "s3://photos/in/",
    "suffixes": [".jpg", ".png"],
    "pipeline": "preset:thumbnail",
    "output": "s3://photos/out/{dir}/{stem}-{width}.{ext}",
    "priority": "batch",
    "limits": {"max_bytes": "20MB", "timeout": "10s"},
}

Size = Annotated[int | str | None, Field(description="Bytes, or text such as 20MB")]


class RuleRequest(Wanted):
    """A rule as it is put; docs/triggers.md explains the fields and the names in `output`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_RULE]})
    name: Annotated[str, Field(description="The one of the path, where it is given")] = ""
    watch: Annotated[str, Field(description="The address that the objects' begin with")]
    pipeline: Annotated[str | dict[str, Any], Field(description="Text or JSON form")]
    output: Annotated[str, Field(description="The address of results, with names in braces")]
    suffixes: Annotated[list[str], Field(default_factory=list)]
    types: Annotated[
        list[str], Field(default_factory=list, description="Media types (`image/*` too) or names of formats")
    ]
    min_bytes: Size = None
    max_bytes: Size = None
    priority: PriorityName = "normal"
    tags: Annotated[dict[str, str], Field(default_factory=dict)]
    owner: Annotated[str, Field(description="Whose jobs they are; else the caller's")] = ""
    limits: Annotated[
        dict[str, int | float | str | None],
        Field(
            default_factory=dict,
            description="`max_bytes`, `max_pixels`, `max_side`, `timeout` (seconds, or 10s), `max_attempts`; else the "
            "service's own",
        ),
    ]
    cache_control: Annotated[str, Field(description="Goes with each result into its store")] = ""
    enabled: bool = True


class LimitsBody(Answer):
    """Bounds of the runs; null: the service's own."""

    max_bytes: int | None
    max_pixels: int | None
    max_side: int | None
    timeout: float | None
    max_attempts: int | None


class RuleBody(Answer):
    """A rule in force; counters since it exists, but `waiting`, `submitted` and `dead` are now."""

    name: Annotated[str, Field(examples=["thumbnails"])]
    watch: Annotated[str, Field(examples=["s3://photos/in/"])]
    suffixes: list[str]
    types: list[str]
    min_bytes: int
    max_bytes: int | None
    pipeline: Annotated[str, Field(examples=["resize:320/format:webp"])]
    output: Annotated[str, Field(examples=["s3://photos/out/{dir}/{stem}-{width}.{ext}"])]
    priority: PriorityName
    tags: dict[str, str]
    owner: str
    limits: LimitsBody
    cache_control: str
    enabled: bool
    origin: Literal["file", "api"]
    counters: Annotated[dict[str, int], Field(examples=[{"accepted": 12, "delivered": 11, "waiting": 1}])]
    links: dict[str, str]


class SourceBody(Answer):
    """A source of events; secrets among its options are `***`. `error`: why it does not run now."""

    name: str
    kind: str | None
    options: dict[str, str]
    error: str | None
    counters: dict[str, int]


class FileBody(Answer):
    """The rules file: when it was read last, and why what stands in it now is not in force."""

    path: str
    read: Moment | None
    error: FailureBody | None


class RuleList(Answer):
    """All rules in force."""

    items: list[RuleBody]
    next: None
    sources: list[SourceBody]
    file: FileBody | None
    refused: Annotated[dict[str, str], Field(description="Rules of the API that are not in force, and why")]


class TriggerEventBody(Answer):
    """An object's version that a rule matched, and what became of it. `chain`: rules whose result the object is."""

    id: Annotated[str, Field(examples=[EVENT_ID])]
    rule: str
    state: EventStateName
    uri: Annotated[str, Field(examples=["s3://photos/in/beach.jpg"])]
    version: str
    size: int | None
    at: Annotated[Moment, Field(description="When the object appeared")]
    received: Moment
    source: Annotated[str, Field(description="The source that told of it")]
    chain: list[str]
    job: Annotated[str | None, Field(examples=[JOB_ID])]
    task: Annotated[str | None, Field(examples=[TASK_ID])]
    destination: Annotated[str | None, Field(examples=["s3://photos/out/beach-320.webp"])]
    attempts: Annotated[int, Field(description="To deliver the result")]
    error: FailureBody | None
    ended: Moment | None


class TriggerEventList(Answer):
    """A page of events, the latest first."""

    items: list[TriggerEventBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class VerdictBody(Answer):
    """What one rule says of an event. Members behind `why_not` are there where it matches."""

    rule: str
    matches: bool
    why_not: str | None
    pipeline: str = ""
    destination: str | None = None
    error: Annotated[str | None, Field(description="Why the result can't get a name")] = None
    owner: str = ""
    priority: PriorityName = "normal"
    leads_to: Annotated[tuple[str, ...], Field(description="Rules that would take the result in their turn")] = ()


class TriedBody(Answer):
    """An event of the document. `at`: seconds since the epoch. `others`: rules of other places, or beyond a bound."""

    uri: str
    kind: Literal["created", "removed", "test"]
    version: str
    at: float
    size: int | None
    media_type: str
    provider: str
    rules: list[VerdictBody]
    others: int
    remarks: list[str]


class UnreadBody(Answer):
    """A part of the document that is no event of an object."""

    reason: str
    detail: str


class TrialBody(Answer):
    """What a document would lead to; `left_out` counts events beyond the bound."""

    events: list[TriedBody]
    left_out: int
    unread: list[UnreadBody]


class TriggerRedriveRequest(Wanted):
    """Which events to try again: `ids`, or all of a `rule`, or `all`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ids": [EVENT_ID]}, {"rule": "thumbnails"}, {"all": True}]}
    )
    ids: Annotated[list[str], Field(default_factory=list, max_length=MAX_REDRIVEN)]
    rule: Annotated[str, Field(max_length=200)] = ""
    all: bool = False


class TriggerRedriven(Answer):
    """How many events get another try."""

    redriven: int
