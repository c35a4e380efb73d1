"""Jobs as they arrive: from a multipart form whose files go straight to the store, or from JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from pixelmill.api.body import limited
from pixelmill.api.edge import Call, choose
from pixelmill.api.multipart import Part
from pixelmill.api.naming import clean_name
from pixelmill.api.schemas import MAX_RANKS, JobRequest, MoreTasks
from pixelmill.errors import RequestError
from pixelmill.jobs.model import Priority, Upload
from pixelmill.service.verbs import MAX_PAGE, check_page

MAX_TAGS = 32
MAX_TAG = 256
MAX_NAME = 200
MAX_KEY = 255
RECORD_BATCH = 64
"""Files of a form that are recorded together: a transaction each would double the cost of taking them in."""


@dataclass(slots=True)
class Intake:
    """A job, or more tasks for one, as it was asked for."""

    pipeline: str | dict[str, Any] | None = None
    uploads: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    name: str = ""
    priority: Priority = Priority.NORMAL
    tags: dict[str, str] = field(default_factory=dict)
    sealed: bool = True
    webhook: str = ""
    ranks: int = 0
    fingerprint: str = ""


def idempotency_key(call: Call) -> str | None:
    """The ``Idempotency-Key`` header; raises :class:`RequestError` where it is too long."""
    key = call.header("idempotency-key").strip()
    if len(key) > MAX_KEY:
        raise RequestError(f"The Idempotency-Key has {len(key)} characters; the limit is {MAX_KEY}.")
    return key or None


async def job_intake(call: Call, *, fingerprint: bool) -> Intake:
    """The body of ``POST /v1/jobs``. The fingerprint of a form includes its files' bytes, so only on demand."""
    intake = await _form(call, fingerprint=fingerprint) if call.is_form else _job_json(await call.json(JobRequest))
    if intake.pipeline is None:
        raise RequestError("Which pipeline? Send it in the field 'pipeline', best before the files.", field="pipeline")
    _check(intake)
    return intake


async def tasks_intake(call: Call) -> Intake:
    """The body of ``POST /v1/jobs/{id}/tasks``; ``sealed`` is False unless ``seal`` was asked for."""
    if call.is_form:
        return await _form(call, fingerprint=False, more=True)
    more = await call.json(MoreTasks)
    return Intake(uploads=more.uploads, sources=more.sources, sealed=more.seal)


def _job_json(wanted: JobRequest) -> Intake:
    canonical = json.dumps(wanted.model_dump(), sort_keys=True, separators=(",", ":"))
    return Intake(
        pipeline=wanted.pipeline,
        uploads=wanted.uploads,
        sources=wanted.sources,
        name=wanted.name,
        priority=Priority(wanted.priority),
        tags=wanted.tags,
        sealed=wanted.sealed,
        webhook=wanted.webhook,
        ranks=wanted.mpi.ranks if wanted.mpi is not None else 0,
        fingerprint=hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest(),
    )


async def _form(call: Call, *, fingerprint: bool, more: bool = False) -> Intake:
    """Each file goes to the store as it arrives; nothing more is received while the store is busy."""
    intake = Intake(sealed=not more)
    digest = hashlib.sha256() if fingerprint else None
    stored: list[Upload] = []
    try:
        async for part in call.form().parts():
            if part.name == "files":
                stored.append(await _store(call, part, digest))
                if len(stored) >= RECORD_BATCH:
                    await _record(call, intake, stored)
            else:
                text = await part.text()
                if digest is not None:
                    digest.update(f"\0field\0{part.name}\0{text}\0".encode("utf-8", "replace"))
                _set(call, intake, part, text, more=more)
    finally:
        # Of a form that broke off too: what is recorded expires, what isn't would lie there for ever.
        await _record(call, intake, stored)
    intake.fingerprint = digest.hexdigest() if digest is not None else ""
    return intake


async def _store(call: Call, part: Part, digest: hashlib._Hash | None) -> Upload:
    """One file of a form to the store; not yet recorded."""
    if part.filename is None:
        raise RequestError("The field 'files' must be sent as files, with a filename.", field="files")
    name = clean_name(part.filename)
    chunks = limited(part.chunks(), call.service.check_upload)
    if digest is not None:
        digest.update(f"\0file\0{name}\0".encode())
        chunks = _hashed(chunks, digest)
    return await call.service.store_upload(call.owner, name, chunks)


async def _record(call: Call, intake: Intake, stored: list[Upload]) -> None:
    """Make uploads known to the job store."""
    if stored:
        await call.service.record_uploads(stored)
    intake.uploads.extend(upload.id for upload in stored)
    stored.clear()


async def _hashed(chunks: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _set(call: Call, intake: Intake, part: Part, text: str, *, more: bool) -> None:
    """Take one plain field."""
    known = (
        ("files", "uploads", "sources", "seal")
        if more
        else ("pipeline", "files", "uploads", "sources", "name", "priority", "tags", "sealed", "webhook", "mpi")
    )
    if part.name not in known:
        raise RequestError(f"Unknown field {part.name[:40]!r}; there are {', '.join(known)}.", field=part.name[:100])
    match part.name:
        case "pipeline":
            # Parsed now, so that a mistake is found before the files are sent.
            call.pipeline(text)
            intake.pipeline = text
        case "uploads":
            intake.uploads.extend(text.split(maxsplit=MAX_PAGE))
            check_page(len(intake.uploads))
        case "sources":
            intake.sources.append(text)
        case "name":
            intake.name = text
        case "priority":
            intake.priority = choose("priority", text, Priority)
        case "webhook":
            intake.webhook = text.strip()
        case "mpi":
            intake.ranks = _ranks(text)
        case "tags":
            intake.tags = _tags(text)
        case _:
            intake.sealed = text.strip().lower() in {"1", "true", "yes"}


def _ranks(text: str) -> int:
    """A number of ranks, from 1 on."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal()) or not 1 <= int(digits[:9]) <= MAX_RANKS:
        raise RequestError(f"The field 'mpi' is a number of ranks from 1 to {MAX_RANKS:,}.", field="mpi")
    return int(digits)


def _tags(text: str) -> dict[str, str]:
    """A JSON object of texts, or ``key=value`` pairs with commas between."""
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"The field 'tags' is not valid JSON: {error}.", field="tags") from error
        return {str(key): str(item) for key, item in value.items()}
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _check(intake: Intake) -> None:
    if len(intake.name) > MAX_NAME:
        raise RequestError(f"The name has {len(intake.name)} characters; the limit is {MAX_NAME}.", field="name")
    long = [key for key, value in intake.tags.items() if len(key) > MAX_TAG or len(value) > MAX_TAG]
    if long or len(intake.tags) > MAX_TAGS:
        raise RequestError(f"A job may have {MAX_TAGS} tags of {MAX_TAG} characters each.", field="tags")
