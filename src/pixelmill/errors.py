"""Every error that Pixelmill raises on purpose, in one tree.

An error knows its stable ``type`` (a slug that API clients may match on), whether the same work may
succeed when tried again, and the sentence a person reads: what happened, why, what to do. It knows
nothing of HTTP: ``api/problems.py`` maps types to status codes.

::

    PixelmillError
    ├── InputError                 the image itself
    │   ├── UnsupportedFormat      not an image, or of a format we don't read
    │   ├── CorruptImage           truncated, lying or broken
    │   └── LimitExceeded          more bytes, pixels, frames or memory than allowed
    ├── PipelineError              what was asked for
    │   ├── PipelineSyntaxError    the text or JSON form can't be read
    │   ├── UnknownOperation       no such operation or format
    │   ├── InvalidParameter       missing, unknown, out of range, or of the wrong type
    │   └── NotApplicable          valid, but not for this image (a crop outside it)
    ├── RunError                   the attempt to run a task
    │   ├── TaskTimeout            the hard time limit passed
    │   ├── OutOfMemory            the memory limit was reached
    │   ├── WorkerCrashed          the process died under it (may be retried)
    │   ├── NodeLost               the machine went away under it (may be retried)
    │   └── Cancelled              somebody cancelled it
    ├── StorageError               bytes at rest
    │   ├── InvalidURI             an address that can't be understood
    │   ├── SourceRefused          an address this server may not read
    │   ├── ObjectNotFound
    │   ├── ObjectExists           put-if-absent lost
    │   ├── StorageFull            no space, quota (may be retried)
    │   ├── StorageDenied          read-only, permissions, credentials
    │   └── StorageUnavailable     network, server (may be retried)
    ├── JobError
    │   ├── NotFound               no such job, task, upload or token, or not yours
    │   ├── IllegalTransition      the state it is in does not allow this
    │   ├── NoImage                it gave data only
    │   └── IdempotencyConflict    the same key came with another request
    ├── CapacityError
    │   ├── Busy                   no slot came free in time (may be retried)
    │   ├── TargetUnavailable      the place did not take it, and the attempt does not count (may be retried)
    │   ├── QueueFull              a bound on waiting work was reached (may be retried)
    │   └── ShuttingDown           this process is draining (may be retried)
    ├── ModelError                 weights of learned operations
    │   ├── ModelMissing           not in the models folder; names the command that brings them
    │   └── ModelRefused           broken, of another sum, or not what they are used as
    ├── AccessError
    │   ├── Unauthenticated
    │   └── Forbidden
    ├── RequestError               an HTTP request (or client response) of the wrong form
    ├── ConnectionFailed           the client could not reach the service (may be retried)
    ├── ConfigError                a setting; names the flag, the variable and the format
    └── MissingExtra               an optional dependency; names the pip command
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PixelmillError(Exception):
    """Root of the tree. ``detail`` is for people; ``context`` holds plain JSON values for programs."""

    type: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, **context: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context: dict[str, Any] = context

    def __str__(self) -> str:
        return self.detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (error_from_dict, (error_to_dict(self),))


class InputError(PixelmillError):
    """The image can't be processed; another attempt would end the same way."""

    type = "invalid-image"
    title = "The image can't be processed"


class UnsupportedFormat(InputError):
    """The bytes are not an image, or of a format that is not read."""

    type = "unsupported-format"
    title = "Unsupported image format"


class CorruptImage(InputError):
    """The header is of a known format, the rest is truncated, lying or broken."""

    type = "corrupt-image"
    title = "Corrupt image"


class LimitExceeded(InputError):
    """The image is larger than a limit; ``context`` has ``limit``, ``value`` and ``maximum``."""

    type = "limit-exceeded"
    title = "The image exceeds a limit"


class PipelineError(PixelmillError):
    """What was asked for can't be done as written."""

    type = "invalid-pipeline"
    title = "Invalid pipeline"


class PipelineSyntaxError(PipelineError):
    """The text or JSON form can't be read; ``context`` has ``position`` where it is known."""

    type = "pipeline-syntax"
    title = "The pipeline can't be read"


class UnknownOperation(PipelineError):
    """No operation (or format) of that name; ``context`` has ``operation`` and ``nearest``."""

    type = "unknown-operation"
    title = "Unknown operation"


class InvalidParameter(PipelineError):
    """A parameter is missing, unknown, of the wrong type or out of range.

    ``context`` has ``operation``, ``parameter``, and ``allowed`` (the range or the choices, as text).
    """

    type = "invalid-parameter"
    title = "Invalid parameter"


class NotApplicable(PipelineError):
    """The operation is valid, but not for this image."""

    type = "not-applicable"
    title = "The operation does not apply to this image"


class NotTileable(PipelineError):
    """The image is too large to be held whole, and a step of the pipeline needs it whole."""

    type = "not-tileable"
    title = "The operation needs the whole image"


class RunError(PixelmillError):
    """The attempt failed for a reason that is not the image's and not the pipeline's."""

    type = "run-failed"
    title = "The task failed"


class TaskTimeout(RunError):
    """The hard time limit passed and the process was ended."""

    type = "task-timeout"
    title = "The task took too long"


class OutOfMemory(RunError):
    """The memory limit of a pool process was reached."""

    type = "out-of-memory"
    title = "The task needs too much memory"


class WorkerCrashed(RunError):
    """The process that ran the task died; ``context`` has ``signal`` or ``exit_code``."""

    type = "worker-crashed"
    title = "The worker process died"
    retryable = True


class NodeLost(RunError):
    """The machine that ran it fell silent or was cut off. Nobody knows how far it came; running it again is safe."""

    type = "node-lost"
    title = "The node was lost"
    retryable = True


class Cancelled(RunError):
    """The task was cancelled before it ended."""

    type = "cancelled"
    title = "Cancelled"


class StorageError(PixelmillError):
    """Bytes could not be read or written."""

    type = "storage-error"
    title = "Storage error"


class InvalidURI(StorageError):
    """The address can't be understood."""

    type = "invalid-uri"
    title = "Invalid address"


class SourceRefused(StorageError):
    """The address is understood, but this server may not read it."""

    type = "source-refused"
    title = "Source refused"


class ObjectNotFound(StorageError):
    """There is nothing under that key."""

    type = "object-not-found"
    title = "Not found in the store"


class ObjectExists(StorageError):
    """Put-if-absent found something there."""

    type = "object-exists"
    title = "Already in the store"


class StorageFull(StorageError):
    """No space is left, or a quota is used up."""

    type = "storage-full"
    title = "The store is full"
    retryable = True


class StorageDenied(StorageError):
    """Read-only, no permission, or wrong credentials."""

    type = "storage-denied"
    title = "The store refused access"


class StorageUnavailable(StorageError):
    """The store did not answer, or answered with an error that may pass."""

    type = "storage-unavailable"
    title = "The store is unavailable"
    retryable = True


class JobError(PixelmillError):
    """About jobs, tasks and uploads."""

    type = "job-error"
    title = "Job error"


class NotFound(JobError):
    """There is no such job, task, upload or token, or it belongs to somebody else."""

    type = "not-found"
    title = "Not found"


class IllegalTransition(JobError):
    """The state does not allow what was asked."""

    type = "illegal-transition"
    title = "Not possible in this state"


class NoImage(JobError):
    """The task has succeeded, and gave data only."""

    type = "no-image"
    title = "The result is data only"


class IdempotencyConflict(JobError):
    """The idempotency key was used before, with another request."""

    type = "idempotency-conflict"
    title = "Idempotency key already used"


class CapacityError(PixelmillError):
    """No room now; ``context`` may have ``retry_after`` in seconds."""

    type = "no-capacity"
    title = "No capacity"
    retryable = True


class Busy(CapacityError):
    """No slot came free in time."""

    type = "busy"
    title = "All workers are busy"


class TargetUnavailable(CapacityError):
    """A target refused the task or could not be reached: nothing ran, so the attempt does not count."""

    type = "target-unavailable"
    title = "The target did not take the task"


class QueueFull(CapacityError):
    """A bound on waiting work was reached."""

    type = "queue-full"
    title = "Too much waiting work"


class ShuttingDown(CapacityError):
    """The process is draining and takes no new work."""

    type = "shutting-down"
    title = "Shutting down"


class ModelError(PixelmillError):
    """About the weights of learned operations."""

    type = "model-error"
    title = "Model error"


class ModelMissing(ModelError):
    """The weights are not here; the message names the command that brings them."""

    type = "model-missing"
    title = "The model is not here"


class ModelRefused(ModelError):
    """The weights are broken, have another sum, or are not what they are used as."""

    type = "model-refused"
    title = "The model can't be used"


class AccessError(PixelmillError):
    """Who asks, and what they may do."""

    type = "access-error"
    title = "Access refused"


class Unauthenticated(AccessError):
    """No token, or one that is unknown, expired or revoked."""

    type = "unauthenticated"
    title = "A valid token is needed"


class Forbidden(AccessError):
    """The token is valid, but its scopes don't cover this."""

    type = "forbidden"
    title = "Not allowed"


class RequestError(PixelmillError):
    """A request (or an answer) is not of the form it must have; ``context`` may have ``status``."""

    type = "invalid-request"
    title = "Invalid request"


class ConnectionFailed(PixelmillError):
    """The service could not be reached, or the connection broke."""

    type = "connection-failed"
    title = "The service can't be reached"
    retryable = True


class ConfigError(PixelmillError):
    """A setting is wrong; the message names the flag, the variable and the format."""

    type = "invalid-configuration"
    title = "Invalid configuration"


class MissingExtra(PixelmillError):
    """An optional dependency is not installed; the message names the pip command."""

    type = "missing-extra"
    title = "An optional part is not installed"


def _walk(root: type[PixelmillError]) -> dict[str, type[PixelmillError]]:
    table = {root.type: root}
    for child in root.__subclasses__():
        table |= _walk(child)
    return table


ERROR_TYPES: Mapping[str, type[PixelmillError]] = _walk(PixelmillError)
"""Every error class by its stable type."""


def error_to_dict(error: PixelmillError) -> dict[str, Any]:
    """The error as plain JSON values, for messages between processes and for records."""
    return {"type": error.type, "detail": error.detail, "context": error.context}


def error_from_dict(record: Mapping[str, Any]) -> PixelmillError:
    """The error that ``error_to_dict`` described; of an unknown type, the root with that detail."""
    cls = ERROR_TYPES.get(str(record.get("type")), PixelmillError)
    return cls(str(record.get("detail", "")), **dict(record.get("context") or {}))
