"""What a process says of itself: installed extras, versions of libraries, what its pool does now."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.load import LoadHistory
from pixelmill.models.folder import ModelFolder
from pixelmill.targets.needs import MODEL
from pixelmill.targets.target import Target

EXTRAS: Mapping[str, str] = {
    "fleet": "celery",
    "heic": "pillow-heif",
    "jxl": "imagecodecs",
    "otel": "opentelemetry-exporter-otlp-proto-http",
    "ml": "onnxruntime",
    "caption": "transformers",
    "mpi": "mpi4py",
    "svg": "pyvips",
}
"""One package that tells whether an extra is installed."""
LIBRARIES = ("opencv-python-headless", "numpy", "pillow", "simplejpeg")
"""Those that make pixels: their versions should be the same on all machines."""


def new_holder() -> str:
    """A name for this process in leases, that no other one has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@cache
def installed_extras() -> tuple[str, ...]:
    """The extras that are installed."""
    return tuple(name for name, package in EXTRAS.items() if _version(package) is not None)


def machine_extras(models: Path | None, *, allow_pickle: bool = False) -> tuple[str, ...]:
    """The same, and ``model:NAME`` for each model of the registry whose weights lie in that folder."""
    folder = ModelFolder(models, allow_pickle=allow_pickle)
    here = (name for name, entry in folder.registry.items() if folder.state(entry) == "here")
    return (*installed_extras(), *(f"{MODEL}{name}" for name in here))


@cache
def library_versions() -> dict[str, str]:
    """The versions of :data:`LIBRARIES`."""
    return {name: version for name in LIBRARIES if (version := _version(name)) is not None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def load_now(pool: Target, dispatcher: Dispatcher, history: LoadHistory, *, draining: bool) -> dict[str, Any]:
    """The body of ``GET /v1/load``."""
    last = history.last()
    mine = next(target for target in dispatcher.snapshot()["targets"] if target["name"] == pool.name)
    return {
        "running": mine["running"],
        "capacity": mine["capacity"],
        "waiting": dispatcher.waiting,
        "cpu": None if last is None else last["host_cpu"],
        "ram": None if last is None else last["host_ram"],
        "gate": mine["gate"],
        "draining": draining,
    }
