"""What every route shares: the :class:`Edge` of one app, and the :class:`Call` that a handler gets.

A handler takes a :class:`Call` and returns a response; access was checked before it runs. There are no dependency trees
and no response models at run time: a synchronous request may cost little more than its image.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from pixelmill.api import body as bodies
from pixelmill.api.auth import Access, check_scope
from pixelmill.api.multipart import FormLimits, FormReader
from pixelmill.api.problems import from_validation
from pixelmill.api.responses import OpenStreams
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import RequestError
from pixelmill.images.limits import Limits
from pixelmill.models.folder import ModelFolder
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Caller, Service
from pixelmill.triggers.public_keys import PublicKeys
from pixelmill.triggers.verbs import TriggerRuntime

Names = TypeVar("Names", bound=StrEnum)
Model = TypeVar("Model", bound=BaseModel)


class Edge:
    """One app's service, settings and bounded resources. ``draining`` refuses new work.

    ``triggers`` runs beside the service, where the app has it.
    """

    def __init__(self, service: Service, settings: ApiSettings, triggers: TriggerRuntime | None = None) -> None:
        self.service, self.settings, self.triggers = service, settings, triggers
        self.access = Access(service, settings)
        self.streams = OpenStreams()
        self.public_keys = PublicKeys()
        self.budget = bodies.BodyBudget(settings.max_body_memory)
        self.draining = False
        self.in_flight = 0
        self.startup_error: BaseException | None = None

    def drain(self) -> None:
        """Refuse new work from now on, and end event streams."""
        self.draining = True
        self.service.drain()
        self.streams.close()

    @property
    def models(self) -> ModelFolder:
        """The weights of learned operations on this machine."""
        return ModelFolder(self.service.config.models_folder, paths=False)

    @property
    def limits(self) -> Limits:
        """The service's limits on images."""
        return self.service.config.limits


class Call:
    """One request whose caller is known (None where it is open to everybody) and may ask this."""

    __slots__ = ("caller", "edge", "owner", "request")

    def __init__(self, edge: Edge, request: Request, caller: Caller | None) -> None:
        self.edge, self.request, self.caller = edge, request, caller
        self.owner = "" if caller is None else caller.owner

    @property
    def service(self) -> Service:
        """The verbs."""
        return self.edge.service

    def pipeline(self, form: str | Mapping[str, Any]) -> Pipeline:
        """The pipeline that a request describes, its presets expanded; raises :class:`PipelineError`."""
        return Pipeline.parse(form, presets=self.edge.settings.presets)

    @property
    def is_admin(self) -> bool:
        """True where the caller may act for every owner."""
        return self.caller is not None and "admin" in self.caller.scopes

    async def owner_of_job(self) -> str:
        """Whose the job in the path is, for an admin; else, or where there is none, the caller."""
        found = await self.service.owner_of_job(self.path("job_id")) if self.is_admin else None
        return self.owner if found is None else found

    async def owner_of_task(self) -> str:
        """The same of the task in the path."""
        found = await self.service.owner_of_task(self.path("task_id")) if self.is_admin else None
        return self.owner if found is None else found

    def every_owner(self) -> bool:
        """True where things of all owners are asked for; raises :class:`Forbidden` for one who may not."""
        if not self.flag("all"):
            return False
        if self.caller is not None:
            check_scope(self.caller, "admin")
        return True

    def path(self, name: str) -> str:
        """A path parameter."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """A query parameter, or None."""
        return self.request.query_params.get(name)

    def flag(self, name: str) -> bool:
        """A query parameter that is switched on by ``1`` or ``true``."""
        return (self.query(name) or "").lower() in {"1", "true", "yes"}

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """An integer query parameter; raises :class:`RequestError` out of its range."""
        text = self.query(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise RequestError(f"{name}={text[:40]!r} must be a whole number from {low:,} to {high:,}.", parameter=name)
        return value

    def choice(self, name: str, choices: type[Names]) -> Names | None:
        """A query parameter that names a member of an enumeration, or None; raises :class:`RequestError`."""
        text = self.query(name)
        return None if text is None else choose(name, text, choices)

    def header(self, name: str) -> str:
        """A header's value, or an empty string."""
        return bodies.header(self.request, name.encode())

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        return bodies.chunks(self.request, self.edge.settings.idle_s)

    def form(self) -> FormReader:
        """The body as a multipart form."""
        settings = self.edge.settings
        limits = FormLimits(
            settings.max_form_fields, settings.max_form_field, settings.max_form_files, settings.max_json
        )
        return FormReader(self.chunks(), self.header("content-type"), limits)

    @property
    def is_form(self) -> bool:
        """True where the body is declared to be a multipart form."""
        return bodies.media_type(self.request) == "multipart/form-data"

    async def json(self, model: type[Model]) -> Model:
        """The JSON body as ``model``; raises :class:`RequestError`."""
        settings = self.edge.settings
        value = await bodies.read_json(self.request, settings.max_json, settings.idle_s, self.edge.budget)
        try:
            return model.model_validate(value)
        except ValidationError as error:
            raise from_validation(error.errors(include_url=False, include_input=False)) from error


def choose(name: str, text: str, choices: type[Names]) -> Names:
    """The member of that value; raises :class:`RequestError` that lists all."""
    try:
        return choices(text)
    except ValueError:
        known = ", ".join(member.value for member in choices)
        raise RequestError(f"{name}={text[:40]!r} is not one of {known}.", parameter=name) from None
