"""What `pixelmill bench` measures: configurations as they are written, and the subjects that they stand for."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from pixelmill.cli.bench_stores import Stores, drop_of, rules_file, stores_file
from pixelmill.cli.private import private_service
from pixelmill.config import SETTINGS, TABLES
from pixelmill.errors import ConfigError
from pixelmill.evaluation.document import Configuration, Machine
from pixelmill.evaluation.dropping import DropSubject
from pixelmill.evaluation.facts import of_node, this_machine
from pixelmill.evaluation.function import FunctionSubject
from pixelmill.evaluation.service import ServiceSubject, look_at, targets_of
from pixelmill.evaluation.subject import Subject
from pixelmill.evaluation.synchronous import ProcessSubject

TARGETS = ("service", "process", "folder", "s3", "function")
SPECIAL = ("target", "pipeline", "url")
FUNCTION_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class FunctionSize:
    """Of a function: environments at a time, and megabytes of each (None: not limited, only measured)."""

    concurrency: int = 10
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A configuration as it was asked for. Without a ``url`` it is a private service with those ``settings``."""

    target: str
    pipeline: str
    url: str | None = None
    token: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    label: str = "as it is"
    stores: Stores = field(default_factory=Stores)
    function: FunctionSize = field(default_factory=FunctionSize)

    def check(self) -> None:
        """Raises :class:`ConfigError` where it can't be."""
        if self.target not in TARGETS and not is_url(self.target):
            raise ConfigError(f"--target {self.target!r} must be {', '.join(TARGETS)}, or the URL of a container.")
        if (self.url or is_url(self.target) or self.target == "function") and self.settings:
            raise ConfigError(
                "Settings (--set, or NAME=VALUE in --against) are for a private service, and "
                f"{'a function' if self.target == 'function' else without_secrets(self.url or self.target)} is none. "
                "Leave them out, or --url."
            )
        if self.target == "function" and self.url:
            raise ConfigError("A function runs on this machine: leave out --url, or choose another --target.")
        if self.target == "s3" or (self.target == "folder" and self.url) or self.stores.store:
            self.stores.check()
        if self.target == "s3" and not self.url and not self.stores.queue:
            raise ConfigError("Name the queue that gets the bucket's events: --queue NAME-OR-URL.")


def second(first: Wanted, text: str) -> Wanted:
    """The configuration of ``--against``, which has of the first what it doesn't say; :class:`ConfigError`."""
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise ConfigError(f"--against {text!r} can't be read: {error}.") from error
    given = {name: value for name, equals, value in words if equals and name}
    if not words or len(given) != len(words):
        raise ConfigError(
            f"--against {text!r} must be NAME=VALUE, parted by spaces: settings of a second private service "
            f'(workers=1), or {", ".join(SPECIAL)}, such as "workers=1" or "url=http://other:8080".'
        )
    settings = {name: value for name, value in given.items() if name not in SPECIAL}
    url = given.get("url", None if settings else first.url)
    return replace(
        first,
        target=given.get("target", first.target),
        pipeline=given.get("pipeline", first.pipeline),
        url=url,
        # A secret is for the service that it was given for.
        token=first.token if url == first.url else None,
        settings=settings,
        label=shown_words(text),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration that is there to be measured: private services run until the stack is closed."""

    configuration: Configuration
    subject: Subject
    url: str
    data: Path | None = None


def opened(wanted: Wanted, folder: Path, stack: ExitStack) -> Place:
    """Start what must be started, and look at what is there; raises what a client raises."""
    if is_url(wanted.target):
        place = without_secrets(wanted.target)
        described = Configuration(wanted.label, place, wanted.pipeline, place)
        return Place(described, ProcessSubject(wanted.target, wanted.token, wanted.pipeline), wanted.target)
    if wanted.target == "function":
        return _function(wanted, stack)
    return _service(wanted, folder, stack)


def _function(wanted: Wanted, stack: ExitStack) -> Place:
    from pixelmill.cli.bench_functions import events, runtime

    size = wanted.function
    started = stack.enter_context(
        runtime(
            wanted.pipeline,
            wanted.stores,
            concurrency=size.concurrency,
            limit_s=FUNCTION_LIMIT_S,
            memory_mb=size.memory_mb,
        )
    )
    memory = "measured, not limited" if size.memory_mb is None else f"{size.memory_mb} MB"
    settings = {"concurrency": str(size.concurrency), "memory": memory}
    machine, slots = this_machine(), {"function": size.concurrency}
    described = Configuration(wanted.label, "function", wanted.pipeline, "this machine", settings, machine, slots)
    return Place(described, FunctionSubject(started, events(wanted.pipeline, wanted.stores)), "")


def _service(wanted: Wanted, folder: Path, stack: ExitStack) -> Place:
    url, data, stores = wanted.url, None, wanted.stores
    if url is None:
        folder.mkdir()
        data = folder / "data"
        more = [word for name, value in wanted.settings.items() for word in ("--set", f"{name}={value}")]
        if wanted.target == "folder":
            for name in ("in", "out"):
                (folder / name).mkdir()
            stores = replace(stores, store=(folder / "in").as_uri(), results=(folder / "out").as_uri())
            more += ["--source-root", str(folder / "in")]
        if wanted.target in {"folder", "s3"}:
            more += ["--triggers", str(rules_file(folder, wanted.pipeline, stores))]
        if wanted.target == "s3":
            stores_file(folder, stores)
        url = stack.enter_context(private_service(folder, data, more=more))
    pipeline, nodes = asyncio.run(look_at(url, wanted.token, wanted.pipeline))
    targets = targets_of(nodes)
    overflow = frozenset(name for name, target in targets.items() if target.get("overflow"))
    here = next((node for node in nodes if node.get("kind") == "here"), None)
    described = Configuration(
        wanted.label,
        wanted.target,
        pipeline,
        "private" if wanted.url is None else without_secrets(url),
        {name: shown_setting(name, value) for name, value in wanted.settings.items()},
        of_node(here, this_machine(), is_here=is_loopback(url)) if here else Machine(),
        {name: int(target["capacity"]) for name, target in targets.items()},
    )
    jobs = ServiceSubject(url, wanted.token, pipeline, overflow=overflow)
    subject: Subject = jobs
    if wanted.target == "process":
        subject = ProcessSubject(url, wanted.token, pipeline, overflow=overflow)
    elif wanted.target in {"folder", "s3"}:
        subject = DropSubject(url, wanted.token, jobs, drop_of(stores))
    return Place(described, subject, url, data)


def is_url(text: str) -> bool:
    """Whether it names a service or container by its address."""
    return text.startswith(("http://", "https://"))


def is_loopback(url: str) -> bool:
    """Whether a service runs on this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#]*@", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """An address, or text with one in it, without user and password."""
    return _USER.sub(r"\1", text)


def shown_setting(name: str, value: str) -> str:
    """The value of a setting as a report may show it: not where it is, or holds, a secret."""
    if name in SPECIAL:
        return without_secrets(value)
    setting = SETTINGS.get(name)
    return "…" if setting is None or setting.secret or setting.kind in HOLD_SECRETS else without_secrets(value)


def shown_words(text: str) -> str:
    """What ``--against`` says, the same; with quotes where a value needs them."""
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError:
        return "…"
    return " ".join(
        word[0] + word[1] + (shlex.quote(shown) if " " in (shown := shown_setting(word[0], word[2])) else shown)
        for word in words
    )


HOLD_SECRETS = TABLES | {"tables"}
"""Kinds of settings whose values may hold credentials."""
SECRET_OPTIONS = ("--token", "--set", "--against", "--store-option", "--queue-option")
OPEN_OPTIONS = ("region", "endpoint", "virtual_hosted_style_request")


def command_line(arguments: Sequence[str]) -> str:
    """What was typed, to be shown: without tokens, users, passwords, and what options of stores hold."""
    shown: list[str] = []
    option = ""
    for word in arguments:
        name, equals, value = word.partition("=")
        if option:
            shown.append(_veiled(option, word))
        elif name in SECRET_OPTIONS and equals:
            shown.append(f"{name}={_veiled(name, value)}")
        else:
            shown.append(without_secrets(word))
        option = word if word in SECRET_OPTIONS else ""
    return shlex.join(["pixelmill", *shown])


def _veiled(option: str, word: str) -> str:
    name, equals, value = word.partition("=")
    if option == "--against":
        return shown_words(word)
    if option == "--token" or not equals:
        return "…"
    if option == "--set":
        return f"{name}={shown_setting(name, value)}"
    return without_secrets(word) if name in OPEN_OPTIONS else f"{name}=…"
