"""What every function does: an event, its object, a run, the result under its name. Plain calls, no event loop.

Order and duplicates are harmless. A run reads the object as it is now; when its result is written the object is looked
at again, and where it has changed meanwhile the run is done anew: so the last one who writes has read the last state.
An error says whether another attempt may end otherwise (``is_for_later``); who called decides what follows from that.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pixelmill import logs
from pixelmill.errors import (
    CapacityError,
    ConfigError,
    LimitExceeded,
    MissingExtra,
    ObjectNotFound,
    OutOfMemory,
    PixelmillError,
    RunError,
    StorageDenied,
    StorageUnavailable,
)
from pixelmill.functions.assignment import Assignment
from pixelmill.functions.objects import Objects
from pixelmill.functions.settings import RESERVE, FunctionSettings
from pixelmill.images.formats import format_named
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.naming import DATA, data_destination, destination, facts_of
from pixelmill.triggers.rule import Rule

if TYPE_CHECKING:
    from pixelmill.models.model import ModelSource

MAX_ROUNDS = 4
"""Runs for one event of an object that keeps changing; then the event is to come again."""

Run = Callable[[str, bytes, Limits], Outcome]
"""What runs a pipeline over bytes within limits: this process, or a pool."""

State = Literal["written", "gone", "failed", "ignored"]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one event with one rule (empty: none was for it).

    ``gone``: the object is no longer there. ``failed``: it can't succeed, ``error`` says why. Sizes are bytes;
    ``age_s`` is how long ago the object appeared.
    """

    event: ObjectEvent
    state: State
    rule: str = ""
    uri: str = ""
    error: PixelmillError | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    pixels: int = 0
    age_s: float = 0.0


def is_for_later(error: PixelmillError) -> bool:
    """Whether the same event may succeed another time: without anybody's doing, or once the setup was mended."""
    return error.retryable or isinstance(error, StorageDenied | ConfigError | MissingExtra | CapacityError)


class Work:
    """``run`` runs pipelines. Errors of the settings come when an event comes, each time, not when it is made."""

    def __init__(self, settings: FunctionSettings, run: Run, objects: Objects | None = None) -> None:
        self.settings = settings
        self.objects = objects or Objects(settings.stores)
        self._run = run
        self._assignment: Assignment | ConfigError
        try:
            self._assignment = Assignment(settings)
        except ConfigError as error:
            self._assignment = error

    def check(self) -> None:
        """Raise :class:`ConfigError` where the settings can't be."""
        if isinstance(self._assignment, ConfigError):
            raise self._assignment

    def do(self, event: ObjectEvent) -> list[Done]:
        """Everything that is to be done for an event, once.

        Raises :class:`PixelmillError` that is for later; errors that are not come back as ``failed``.
        """
        age = max(0.0, time.time() - event.at)
        self.check()
        assert isinstance(self._assignment, Assignment)
        rules = self._assignment.rules_for(event) if event.kind == "created" else ()
        if not rules:
            return [Done(event, "ignored", age_s=age)]
        done: list[Done] = []
        later: PixelmillError | None = None
        for rule in rules:  # all of them: one that is refused must not keep the others from their work
            try:
                done.append(replace(self._with_rule(event, rule), age_s=age))
            except PixelmillError as error:
                later = later or error
        if later is not None:
            raise later
        return done

    def _with_rule(self, event: ObjectEvent, rule: Rule) -> Done:
        try:
            done = self._written(event, rule)
        except ObjectNotFound as error:
            logs.event("function.gone", uri=event.uri, rule=rule.name)
            return Done(event, "gone", rule.name, error=error)
        except PixelmillError as error:
            if is_for_later(error):
                raise
            logs.event("function.failed", uri=event.uri, rule=rule.name, type=error.type, detail=error.detail)
            self._dead_letter(event, rule, error)
            return Done(event, "failed", rule.name, error=error)
        logs.event("function.done", uri=event.uri, rule=rule.name, result=done.uri)
        return done

    def _written(self, event: ObjectEvent, rule: Rule) -> Done:
        own = rule.limits
        limits = self.settings.limits.lowered(own.max_bytes, own.max_pixels, own.max_side)
        for _ in range(MAX_ROUNDS):
            source = self.objects.get(event.uri, limits.max_bytes)
            outcome = self._run(rule.pipeline, source.body, limits)
            uri, size = self._put(event, rule, outcome)
            if self.objects.state(event.uri) in ("", source.state):
                pixels = outcome.source_size.pixels
                return Done(event, "written", rule.name, uri, None, len(source.body), size, pixels)
        raise StorageUnavailable(f"{event.uri} changed each time while it was worked on.", uri=event.uri)

    def _put(self, event: ObjectEvent, rule: Rule, outcome: Outcome) -> tuple[str, int]:
        """The image, the data, or the data beside the image; its address and their bytes."""
        fmt = None if outcome.bytes is None else format_named(outcome.format or "")
        facts = facts_of(rule, event.uri, DATA if fmt is None else fmt.extension, event.at)
        if outcome.size is not None:
            facts = replace(facts, width=outcome.size.width, height=outcome.size.height)
        uri, size = destination(rule, facts), 0
        if outcome.bytes is not None:
            self.objects.put(uri, outcome.bytes, outcome.media_type or "", rule.cache_control)
            size = len(outcome.bytes)
        if outcome.bytes is None or outcome.data:
            document = json.dumps(dict(outcome.data), ensure_ascii=False, separators=(",", ":")).encode()
            beside = uri if outcome.bytes is None else data_destination(uri)
            self.objects.put(beside, document, "application/json", rule.cache_control)
            size += len(document)
        return uri, size

    def _dead_letter(self, event: ObjectEvent, rule: Rule, error: PixelmillError) -> None:
        """One document for each event and rule, under a name that is the same each time."""
        if not self.settings.dead_letters:
            return
        import hashlib

        name = hashlib.sha256(f"{rule.name}\n{event.uri}\n{event.version}".encode()).hexdigest()
        letter = {
            "uri": event.uri,
            "version": event.version,
            "at": event.at,
            "rule": rule.name,
            "pipeline": rule.pipeline,
            "error": {"type": error.type, "detail": error.detail},
        }
        body = json.dumps(letter, ensure_ascii=False, indent=1).encode()
        self.objects.put(f"{self.settings.dead_letters}{name}.json", body, "application/json")


def run_here(memory: int | None, models: str = "") -> Run:
    """Runs in this process. What would not fit into ``memory`` (bytes of the function) is refused before it starts.

    For a function that runs out of memory is killed, and tried again, and killed. ``models``: the folder of weights,
    which pipelines name by their names alone.
    """

    def run(pipeline: str, source: bytes, limits: Limits) -> Outcome:
        from pixelmill.images.probe import probe
        from pixelmill.pipelines.run import planned
        from pixelmill.pipelines.spec import Pipeline

        parsed = Pipeline.parse(pipeline)
        if memory is not None:
            needed = planned(parsed, probe(source, limits, parsed.source.frame), limits).memory + len(source)
            if needed > memory - RESERVE:
                raise LimitExceeded(
                    f"The run would take about {needed / 1e6:,.0f} MB of memory; of the function's "
                    f"{memory / 1e6:,.0f} MB {max(0, memory - RESERVE) / 1e6:,.0f} are for images. Give it more.",
                    limit="memory",
                    value=needed,
                    maximum=max(0, memory - RESERVE),
                )
        known = named_models(models) if parsed.wanted_models else None
        return guarded(lambda: parsed.run(source, limits=limits, models=known))

    return run


@functools.lru_cache(maxsize=2)
def named_models(folder: str) -> ModelSource:
    """The models in the folder; a path that a request names is refused."""
    from pathlib import Path

    from pixelmill.models.blip import prepare_process
    from pixelmill.models.folder import ModelFolder
    from pixelmill.models.sessions import Sessions

    prepare_process()
    return Sessions(ModelFolder(Path(folder) if folder else None, paths=False))


def guarded(run: Callable[[], Outcome]) -> Outcome:
    """What it returns; whatever else it raises than an error of the tree becomes one, as in a pool process.

    For an exception would end the call, and with it the events beside this one, again and again.
    """
    try:
        return run()
    except PixelmillError:
        raise
    except Exception as error:
        # cv::Error::StsNoMem is -4
        if isinstance(error, MemoryError) or getattr(error, "code", None) == -4 or "bad_alloc" in str(error):
            raise OutOfMemory("The run needs more memory than the function has. Give it more.") from error
        logs.event("function.unexpected", error=error)
        raise RunError(
            f"The run failed with an unexpected {type(error).__name__}: {error}. "
            "This is a defect in Pixelmill or in a library it uses; the log has the traceback.",
            error=type(error).__name__,
        ) from error
