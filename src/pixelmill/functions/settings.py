"""What a function is told by its environment. Two variables are enough: ``PIPELINE`` and ``OUTPUT_BUCKET``.

Owns the names of the variables and their checks; docs/functions.md has them in a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pixelmill.errors import ConfigError
from pixelmill.images.limits import Limits

RESERVE = 72 << 20
"""Of a function's memory, for the program itself: what it needs with its libraries, before there is an image."""
YES, NO = ("1", "true", "yes", "on", "t", "y"), ("", "0", "false", "no", "off", "f", "n")
"""As the settings of a service read them; a container has both."""
SCHEMES = ("s3", "gs", "az")


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """``output`` is where the one rule of the environment writes: ``bucket``, or an address with scheme and prefix.

    ``rules`` is the path of a rules file, which takes the place of ``pipeline`` and ``output``. ``dead_letters``: the
    address below which events that can't succeed are written, or empty. ``memory``: bytes that the function has, None
    where nothing tells. ``token``: what HTTP requests must show, or empty;
    ``insecure``: without one everybody is served. ``stores``: options of buckets by scheme. ``models``: the folder of
    the weights of learned operations, empty for this user's own.
    """

    pipeline: str = ""
    output: str = ""
    name: str = ""
    prefix: str = ""
    cache_control: str = ""
    rules: str = ""
    dead_letters: str = ""
    token: str = field(default="", repr=False)
    insecure: bool = False
    limits: Limits = field(default_factory=Limits)
    memory: int | None = None
    function: str = "pixelmill"
    models: str = ""
    stores: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    intake: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Options of the source of events that calls a container, as a rules file gives them (kind ``http``)."""

    @property
    def takes_events(self) -> bool:
        """Whether there is anything to do for an event."""
        return bool(self.rules or (self.pipeline and self.output))


def settings_of(environ: Mapping[str, str], limits: Limits | None = None) -> FunctionSettings:
    """The settings in these variables; raises :class:`ConfigError` that names the variable.

    ``limits`` take the place of those in the variables. The function's memory lowers either.
    """
    memory = _number(environ, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 0) or _number(environ, "FUNCTION_MEMORY_MB", 0)
    pipeline, output = environ.get("PIPELINE", "").strip(), environ.get("OUTPUT_BUCKET", "").strip()
    rules = environ.get("TRIGGERS", "").strip()
    if rules and output and pipeline:
        raise ConfigError("TRIGGERS takes the place of PIPELINE and OUTPUT_BUCKET: set either, not both.")
    return FunctionSettings(
        pipeline=pipeline,
        output=output.rstrip("/"),
        name=environ.get("OUTPUT_NAME", "").strip().lstrip("/"),
        prefix=_prefix(environ.get("OUTPUT_PREFIX", "")),
        cache_control=environ.get("OUTPUT_CACHE_CONTROL", "").strip(),
        rules=rules,
        dead_letters=_place(environ.get("DEAD_LETTERS", ""), "DEAD_LETTERS"),
        token=environ.get("PIXELMILL_TOKEN", "").strip(),
        insecure=_yes(environ, "PIXELMILL_INSECURE"),
        limits=(limits or _limits(environ)).lowered(max_bytes=_largest(memory << 20) if memory else None),
        memory=memory << 20 if memory else None,
        function=name_of(environ),
        models=environ.get("PIXELMILL_MODELS", "").strip(),
        stores=_stores(environ),
        intake={
            name.removeprefix("EVENTS_").lower(): value.strip()
            for name, value in environ.items()
            if name.startswith("EVENTS_") and value.strip()
        },
    )


def name_of(environ: Mapping[str, str]) -> str:
    """The name of the function, as its platform tells it."""
    return environ.get("AWS_LAMBDA_FUNCTION_NAME") or environ.get("K_SERVICE") or "pixelmill"


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "").strip().replace("_", "")
    if not text:
        return default
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"{name}={text[:40]!r} must be a whole number above 0. See docs/functions.md.", variable=name)
    return int(text)


def _limits(environ: Mapping[str, str]) -> Limits:
    usual = Limits()
    return Limits(
        max_bytes=_number(environ, "PIXELMILL_MAX_BYTES", usual.max_bytes),
        max_pixels=_number(environ, "PIXELMILL_MAX_PIXELS", usual.max_pixels),
        max_side=_number(environ, "PIXELMILL_MAX_SIDE", usual.max_side),
    )


def _largest(memory: int) -> int:
    """So large a source may be: while it is fetched there may be two copies of it, and neither must end the process."""
    return max(1, (memory - RESERVE) // 2)


def _yes(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").strip().lower()
    if text not in (*YES, *NO):
        raise ConfigError(f"{name}={text[:40]!r} must be true or false. See docs/functions.md.", variable=name)
    return text in YES


def _prefix(text: str) -> str:
    text = text.strip().strip("/")
    return f"{text}/" if text else ""


def _place(text: str, name: str) -> str:
    """An address of a bucket, with a prefix or without, ending in a slash."""
    text = text.strip().rstrip("/")
    if not text:
        return ""
    if text.partition("://")[0] not in SCHEMES or not text.partition("://")[2]:
        raise ConfigError(f"{name}={text[:80]!r} must be an address such as s3://bucket/failed/.", variable=name)
    return f"{text}/"


def _stores(environ: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
    """Options of buckets: ``STORE_OPTIONS`` (JSON by scheme), and the endpoint that AWS's own variables name."""
    text = environ.get("STORE_OPTIONS", "").strip()
    try:
        given = json.loads(text) if text else {}
    except ValueError as error:
        raise ConfigError(f"STORE_OPTIONS is no JSON: {error}.", variable="STORE_OPTIONS") from error
    if not isinstance(given, dict) or not all(
        scheme in SCHEMES and isinstance(options, dict) for scheme, options in given.items()
    ):
        raise ConfigError(
            'STORE_OPTIONS must be an object by scheme, such as {"s3": {"endpoint": "https://…"}}. See docs/stores.md.',
            variable="STORE_OPTIONS",
        )
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    stores: dict[str, Mapping[str, str]] = {
        scheme: {str(name): str(value) for name, value in options.items()} for scheme, options in given.items()
    }
    if endpoint and "endpoint" not in stores.get("s3", {}):
        stores["s3"] = {**stores.get("s3", {}), "endpoint": endpoint}
    if account := _azure_account(environ):
        stores["az"] = {**account, **stores.get("az", {})}
    return stores


def _azure_account(environ: Mapping[str, str]) -> dict[str, str]:
    """The storage account that a connection string names: Azure's tools, and Azure Functions, give it as such."""
    text = environ.get("AZURE_STORAGE_CONNECTION_STRING") or environ.get("AzureWebJobsStorage") or ""
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    names = {"AccountName": "account", "AccountKey": "account_key", "BlobEndpoint": "endpoint"}
    return {ours: parts[theirs] for theirs, ours in names.items() if parts.get(theirs)}
