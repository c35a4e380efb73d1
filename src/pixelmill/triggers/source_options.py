"""The options of sources of events: one table of kinds, and the reading of what a rules file gives. No network I/O.

Values are text in the file. A secret is given as ``NAME`` itself, as ``NAME_env`` (a variable that has it) or as
``NAME_file`` (a file that has it).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelmill.errors import ConfigError
from pixelmill.triggers.rule import SourceSpec

MAX_SECRET = 4_096


@dataclass(frozen=True, slots=True)
class Option:
    """One option: how its text is read (raises ValueError), its default (None: it must be given), what it is."""

    read: Callable[[str], Any]
    default: Any
    meaning: str


@dataclass(frozen=True, slots=True)
class Options:
    """The values of one source, by name; secrets that were not given are missing."""

    name: str
    values: Mapping[str, Any] = field(repr=False)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def secret(self, key: str) -> str:
        """The secret; empty where none was given."""
        return str(self.values.get(key, ""))


def _number(low: float, high: float, kind: type[int | float] = int) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise ValueError(f"it must be from {low:g} to {high:g}")
        return value

    return read


def _flag(text: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.strip().lower() not in known:
        raise ValueError("it must be true or false")
    return known[text.strip().lower()]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _text(text: str) -> str:
    if not text.strip() or len(text) > 2_048:
        raise ValueError("it must be a text of 1 to 2,048 characters")
    return text.strip()


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise ValueError("it must be a URL, such as https://ACCOUNT.queue.core.windows.net")
    return _text(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return text

    return read


AUTHS = ("token", "google-oidc", "sns", "event-grid", "none")
OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "sqs": {
        "queue": Option(_text, None, "Name or URL of the queue"),
        "region": Option(_text, "", "Region, where neither the URL nor `AWS_REGION` names it"),
        "endpoint": Option(_text, "", "Another service that speaks the API of SQS"),
        "receivers": Option(_number(1, 16), 2, "Requests for messages at the same time"),
        "wait": Option(_number(1, 20), 20, "Seconds that a request waits for messages"),
        "visibility": Option(
            _number(10, 43_200), 60, "Seconds that a message is hidden; extended while it is worked on"
        ),
    },
    "azure-queue": {
        "queue": Option(_text, None, "Name of the queue"),
        "account": Option(_url, "", "URL of the queue service, opened by `azure-identity`"),
        "poison": Option(_text, "", "Queue for messages that can't be read; else the queue's name with `-poison`"),
        "receivers": Option(_number(1, 16), 1, "Requests for messages at the same time"),
        "wait": Option(_number(0.1, 60, float), 5.0, "Most seconds between two looks at an empty queue"),
        "visibility": Option(
            _number(10, 43_200), 60, "Seconds that a message is hidden; extended while it is worked on"
        ),
    },
    "folder": {
        "path": Option(_text, None, "The folder; it must be below a source root of the service"),
        "settle": Option(
            _number(0.05, 3_600, float),
            2.0,
            "Seconds that a file must lie still where the kernel can't say it is whole",
        ),
        "rescan": Option(_number(1, 86_400, float), 300.0, "Seconds between two looks at everything"),
        "catch_up": Option(_flag, True, "Whether files that are there at the start count"),
        "polling": Option(_flag, False, "Poll instead of asking the kernel: for network file systems"),
    },
    "http": {
        "auth": Option(_one_of(*AUTHS), None, "How a caller proves who it is"),
        "audience": Option(_words, (), "google-oidc: audiences that the token may name, with commas between"),
        "service_account": Option(_words, (), "google-oidc: email addresses, with commas between"),
        "certs_url": Option(
            _text, "https://www.googleapis.com/oauth2/v1/certs", "google-oidc: where Google's public keys are"
        ),
        "topics": Option(_words, (), "sns: ARNs of topics, with commas between"),
        "cert_hosts": Option(_words, (), "sns: hosts (with port) of certificates, in place of those of amazonaws.com"),
        "origins": Option(_words, ("eventgrid.azure.net",), "event-grid: origins that may ask to send CloudEvents"),
    },
}
"""Kinds of sources and their options. docs/event-sources.md shows this table."""
SECRETS: Mapping[str, Mapping[str, str]] = {
    "sqs": {},
    "azure-queue": {"connection": "Connection string of the storage account"},
    "folder": {},
    "http": {"token": "token: what the caller sends", "key": "event-grid: what the caller sends"},
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "token": ("token",),
    "google-oidc": ("audience", "service_account"),
    "sns": ("topics",),
    "event-grid": ("key",),
    "none": (),
}
_OF_AUTH = frozenset({"token", "key", "audience", "service_account", "certs_url", "topics", "cert_hosts", "origins"})
_ALSO: Mapping[str, frozenset[str]] = {
    "token": frozenset(),
    "google-oidc": frozenset({"certs_url"}),
    "sns": frozenset({"cert_hosts"}),
    "event-grid": frozenset({"origins"}),
    "none": frozenset(),
}


def read_options(spec: SourceSpec, *, on_loopback: bool = False) -> Options:
    """The options as values, checked; raises :class:`ConfigError` that names the option and says what it may be."""
    if spec.kind not in OPTIONS:
        raise _wrong(spec, f"its kind {spec.kind!r} is unknown; there are {', '.join(OPTIONS)}")
    known, secrets = OPTIONS[spec.kind], SECRETS[spec.kind]
    forms = {f"{name}{end}" for name in secrets for end in ("", "_env", "_file")}
    for name in spec.options:
        if name not in known and name not in forms:
            near = difflib.get_close_matches(name, [*known, *forms], 3)
            raise _wrong(spec, f"it has no option {name!r}; {'near: ' if near else ''}{', '.join(near or known)}")
    values: dict[str, Any] = {}
    for name, option in known.items():
        values[name] = _value(spec, name, option)
    for name in secrets:
        if (secret := _secret(spec, name)) is not None:
            values[name] = secret
    if spec.kind == "http":
        _check_http(spec, values, on_loopback=on_loopback)
    if spec.kind == "azure-queue" and not values.get("connection") and not values["account"]:
        raise _wrong(spec, "it needs `connection` (or connection_env, connection_file), or `account`")
    return Options(spec.name, values)


def _value(spec: SourceSpec, name: str, option: Option) -> Any:
    text = spec.options.get(name)
    if text is None:
        if option.default is None:
            raise _wrong(spec, f"it needs the option {name!r} ({option.meaning})")
        return option.default
    try:
        return option.read(text)
    except ValueError as error:
        raise _wrong(spec, f"{name} = {text[:80]!r} can't be used: {error}") from error


def _secret(spec: SourceSpec, name: str) -> str | None:
    """The secret, from wherever it is; None where none is given."""
    given = [form for form in (name, f"{name}_env", f"{name}_file") if form in spec.options]
    if not given:
        return None
    if len(given) > 1:
        raise _wrong(spec, f"it has {' and '.join(given)}; give one of them")
    (form,) = given
    told = spec.options[form]
    secret: str | None = told
    if form.endswith("_env"):
        secret = os.environ.get(told)
        if secret is None:
            raise _wrong(spec, f"{form} names the variable {told!r}, which is not set")
    elif form.endswith("_file"):
        try:
            with Path(told).open(encoding="utf-8") as file:
                secret = file.read(MAX_SECRET + 2)
        except (OSError, UnicodeError) as error:
            raise _wrong(spec, f"{form} names {told!r}, which can't be read ({type(error).__name__})") from error
    secret = (secret or "").strip()
    if not secret or len(secret) > MAX_SECRET:
        raise _wrong(spec, f"the secret of {form} must have 1 to {MAX_SECRET:,} characters")
    return secret


def _check_http(spec: SourceSpec, values: Mapping[str, Any], *, on_loopback: bool) -> None:
    auth = values["auth"]
    missing = [name for name in _NEEDED[auth] if not values.get(name)]
    if missing:
        raise _wrong(spec, f"auth = {auth!r} needs {' and '.join(missing)}")
    given = {name.removesuffix("_env").removesuffix("_file") for name in spec.options}
    foreign = sorted((given & _OF_AUTH) - set(_NEEDED[auth]) - _ALSO[auth])
    if foreign:
        raise _wrong(spec, f"{', '.join(foreign)} {'does' if len(foreign) == 1 else 'do'} nothing with auth = {auth!r}")
    if auth == "none" and not on_loopback:
        raise _wrong(
            spec,
            "auth = 'none' is only for a service that listens on loopback: everybody else could start work. Use "
            "auth = 'token' with a token, or listen on 127.0.0.1",
        )


def _wrong(spec: SourceSpec, why: str) -> ConfigError:
    return ConfigError(
        f"The source of events {spec.name!r} can't be used: {why}. docs/event-sources.md lists kinds and options.",
        source=spec.name,
    )
