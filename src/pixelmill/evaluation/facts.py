"""What this machine is, and how busy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from pixelmill import __version__
from pixelmill.evaluation.document import Machine

PACKAGES = {"OpenCV": "opencv-python-headless", "NumPy": "numpy", "simplejpeg": "simplejpeg", "Pillow": "pillow"}


def this_machine() -> Machine:
    """CPU model, cores that this process may use, memory, and versions."""
    return Machine(_cpu(), len(os.sched_getaffinity(0)), psutil.virtual_memory().total, _system(), _versions())


def of_node(node: Mapping[str, Any], here: Machine, *, is_here: bool) -> Machine:
    """A machine as ``GET /v1/nodes`` tells of it; what that doesn't say is known only of the one we are on."""
    libraries = node.get("libraries") or {}
    versions = {name: str(libraries[package]) for name, package in PACKAGES.items() if package in libraries}
    versions = {"Pixelmill": str(node.get("version") or ""), **versions}
    if is_here:
        return Machine(here.cpu, here.cores, here.memory_bytes, here.system, {**here.versions, **versions})
    return Machine(cores=int(node.get("cores") or 0), versions=versions)


def load_average() -> tuple[float, float, float]:
    """Of 1, 5 and 15 minutes."""
    return os.getloadavg()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = platform.system()
    return f"{name}, kernel {platform.release()}"


def _versions() -> dict[str, str]:
    found = {"Pixelmill": __version__, "Python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
