"""What `pixelmill bench` measures: configurations as they are written, and the subjects that they stand for."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pixelmill.cli.private import private_service
from pixelmill.errors import ConfigError
from pixelmill.evaluation.document import Configuration, Machine
from pixelmill.evaluation.facts import of_node, this_machine
from pixelmill.evaluation.service import ServiceSubject, look_at, targets_of
from pixelmill.evaluation.subject import Subject
from pixelmill.evaluation.synchronous import ProcessSubject

TARGETS = ("service", "process")
SPECIAL = ("target", "pipeline", "url")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A configuration as it was asked for. Without a ``url`` it is a private service with those ``settings``."""

    target: str
    pipeline: str
    url: str | None = None
    token: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    label: str = "as it is"

    def check(self) -> None:
        """Raises :class:`ConfigError` where it can't be."""
        if self.target not in TARGETS and not is_url(self.target):
            raise ConfigError(f"--target {self.target!r} must be {', '.join(TARGETS)}, or the URL of a container.")
        if (self.url or is_url(self.target)) and self.settings:
            raise ConfigError(
                "Settings (--set, or NAME=VALUE in --against) are for a private service; the one at "
                f"{without_secrets(self.url or self.target)} has its own. Leave them out, or --url."
            )


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
        label=without_secrets(text) if "url" in given else text,
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
    url, data = wanted.url, None
    if url is None:
        folder.mkdir()
        data = folder / "data"
        more = [word for name, value in wanted.settings.items() for word in ("--set", f"{name}={value}")]
        url = stack.enter_context(private_service(folder, data, more=more))
    pipeline, nodes = asyncio.run(look_at(url, wanted.token, wanted.pipeline))
    targets = targets_of(nodes)
    overflow = frozenset(name for name, target in targets.items() if target.get("overflow"))
    here = next((node for node in nodes if node.get("kind") == "here"), None)
    machine = of_node(here, this_machine(), is_here=is_loopback(url)) if here else Machine()
    described = Configuration(
        wanted.label,
        wanted.target,
        pipeline,
        "private" if wanted.url is None else without_secrets(url),
        dict(wanted.settings),
        machine,
        {name: int(target["capacity"]) for name, target in targets.items()},
    )
    subject: Subject
    if wanted.target == "service":
        subject = ServiceSubject(url, wanted.token, pipeline, fresh=wanted.url is None, overflow=overflow)
    else:
        subject = ProcessSubject(url, wanted.token, pipeline, overflow=overflow)
    return Place(described, subject, url, data)


def is_url(text: str) -> bool:
    """Whether it names a service or container by its address."""
    return text.startswith(("http://", "https://"))


def is_loopback(url: str) -> bool:
    """Whether a service runs on this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def without_secrets(text: str) -> str:
    """An address, or text with one in it, without user and password."""
    words = text.split(" ")
    return " ".join(_bare(word) for word in words)


def _bare(word: str) -> str:
    name, marker, address = word.partition("http")
    if not marker or "@" not in address:
        return word
    parts = urlsplit(marker + address)
    return name + urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def command_line(arguments: Sequence[str]) -> str:
    """What was typed, to be shown: without tokens, users and passwords."""
    shown: list[str] = []
    hide = False
    for word in arguments:
        name, equals, _ = word.partition("=")
        if hide:
            shown.append("…")
        elif name == "--token" and equals:
            shown.append("--token=…")
        else:
            shown.append(without_secrets(word))
        hide = word == "--token"
    return shlex.join(["pixelmill", *shown])
