"""`pixelmill doctor`: what is installed here, what is missing, what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from pixelmill.cli.state import Globals
from pixelmill.config import Settings
from pixelmill.cores import usable_cores

Verdict = Literal["ok", "note", "bad"]
NEEDED = (
    ("numpy", "2.0"),
    ("opencv-python-headless", "4.13"),
    ("simplejpeg", "1.9"),
    ("pillow", "12"),
    ("pydantic", "2.11"),
    ("obstore", "0.12"),
    ("fastapi", "0.128"),
    ("uvicorn", "0.38"),
    ("websockets", "15"),
    ("pyyaml", "6.0.2"),
    ("sqlalchemy", "2.0.40"),
    ("alembic", "1.16"),
    ("httpx", "0.28"),
    ("psutil", "7"),
    ("prometheus-client", "0.23"),
    ("typer", "0.20"),
    ("rich", "14"),
    ("watchfiles", "1.1"),
)
"""Distributions and the least version; a test keeps this equal to pyproject.toml."""
EXTRAS = {
    "jxl": ("imagecodecs", "pylibjxl"),
    "heic": ("pillow-heif",),
    "svg": ("pyvips", "pyvips-binary"),
    "tiles": ("pyvips", "pyvips-binary", "imagecodecs"),
    "mpi": ("mpi4py", "mpich"),
    "ml": ("onnxruntime", "pymatting"),
    "caption": ("torch", "transformers"),
    "fleet": ("psycopg", "azure-storage-queue", "boto3"),
    "aws": ("awslambdaric",),
    "azure-functions": ("azure-functions",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "desktop": ("pywebview",),
    "bench": ("pyvips", "scikit-image"),
}
"""What each extra brings; a test keeps its names equal to pyproject.toml."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- looked at, not written to
STORE_S = 15
LEAST_DISK = 2_000_000_000
LEAST_SHM = 64_000_000
LEAST_FILES = 1_024


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``bad``: something needed is missing; ``note``: it works, but better with a change."""

    what: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="The service's data folder.")] = None,
    store: Annotated[str | None, typer.Option(help="The service's store.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a finding.")] = False,
) -> None:
    """Check this machine: what is installed, what is missing, what to do.

    Exit code 1 if something that is needed is missing.
    """
    options: Globals = context.obj
    settings = options.settings(assignments or (), data=data, store=store)
    findings = list(examine(settings))
    if as_json:
        for finding in findings:
            print(json.dumps(asdict(finding)))
    else:
        _print(findings)
    if any(finding.verdict == "bad" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings."""
    yield _python()
    yield from (_package(name, least) for name, least in NEEDED)
    yield from (_extra(name, packages) for name, packages in EXTRAS.items())
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _codecs,
        _cores,
        _memory,
        _data,
        _store,
        _disk,
        _shm,
        _open_files,
    )
    yield from (check(settings) for check in checks)
    if settings["triggers"] is not None:
        yield _triggers(settings)


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("Python", "ok" if good else "bad", found, "" if good else "Install Python 3.11 or newer.")


def _numbers(version: str) -> tuple[int, ...]:
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)


def _package(name: str, least: str) -> Finding:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "bad", "missing", f"pip install '{name}>={least}'")
    if _numbers(found) < _numbers(least):
        return Finding(name, "bad", f"{found}, needs {least}", f"pip install --upgrade '{name}>={least}'")
    return Finding(name, "ok", found)


def _extra(name: str, packages: tuple[str, ...]) -> Finding:
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        return Finding(
            f"extra [{name}]",
            "note",
            f"not installed ({', '.join(missing)})",
            f"pip install 'pixelmill[{name}]', or '.[{name}]' in a checkout",
        )
    return Finding(f"extra [{name}]", "ok", ", ".join(packages))


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _codecs(settings: Settings) -> Finding:
    """OpenCV and simplejpeg load and work: a wheel for another processor fails here, not in a worker."""
    del settings
    try:
        import cv2
        import numpy as np
        import simplejpeg

        gray = np.zeros((16, 16, 1), np.uint8)
        simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(gray, colorspace="GRAY"), colorspace="GRAY")
        cv2.resize(gray[..., 0], (8, 8), interpolation=cv2.INTER_AREA)
    except Exception as error:  # noqa: BLE001 -- whatever a broken wheel raises is the finding
        return Finding(
            "codecs", "bad", f"{type(error).__name__}: {error}", "Install opencv-python-headless and simplejpeg anew."
        )
    features = [name for name in ("AVX2", "AVX512", "NEON") if name in cv2.getBuildInformation()]
    return Finding(
        "codecs", "ok", f"OpenCV {cv2.__version__} ({', '.join(features) or 'no SIMD named'}), simplejpeg work"
    )


def _cores(settings: Settings) -> Finding:
    usable = usable_cores()
    workers = settings["workers"] or usable
    if workers > 2 * usable:
        advice = "More pool processes than cores slow each other down; set workers to 0."
        return Finding("cores", "note", f"{usable} for {workers} workers", advice)
    return Finding("cores", "ok", f"{usable}")


def _memory(settings: Settings) -> Finding:
    import psutil

    total = psutil.virtual_memory().total
    workers = (settings["workers"] or usable_cores()) + 1
    wanted = workers * settings["memory"]
    found = f"{total / 1e9:.1f} GB for {workers} pool processes of at most {settings['memory'] / 1e9:g} GB"
    if wanted > total:
        return Finding("memory", "note", found, "All at their limit would not fit: lower workers or memory.")
    return Finding("memory", "ok", found)


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _data(settings: Settings) -> Finding:
    folder: Path = settings["data"]
    nearest = _nearest(folder.absolute())
    if not nearest.is_dir():
        return Finding("data folder", "bad", f"{nearest} is a file", "Choose another with --data or PIXELMILL_DATA.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        advice = "Grant write permission, or choose another with --data or PIXELMILL_DATA."
        return Finding("data folder", "bad", f"{folder} can't be written", advice)
    state = "" if folder.exists() else " (made at the first start)"
    return Finding("data folder", "ok", f"{folder}{state}")


def _store(settings: Settings) -> Finding:
    """Of a bucket: a small object is written, read and deleted. The folder in the data folder is checked above."""
    uri: str = settings["store"]
    if not uri:
        return Finding("store", "ok", "objects in the data folder")
    import asyncio

    from pixelmill.errors import PixelmillError
    from pixelmill.storage.named import SourceStores
    from pixelmill.storage.opening import close_store, open_store

    async def check() -> None:
        SourceStores(settings["stores"])
        store = open_store(uri, settings["store_options"])
        try:
            async with asyncio.timeout(STORE_S):
                await store.check()
        finally:
            close_store(store)

    try:
        asyncio.run(check())
    except TimeoutError:
        return Finding("store", "bad", f"{uri} did not answer within {STORE_S} s", "Check endpoint and network.")
    except PixelmillError as error:
        return Finding("store", "bad", f"{uri}: {error}", "See docs/stores.md for rights and options.")
    return Finding("store", "ok", f"{uri}: written, read and deleted")


def _triggers(settings: Settings) -> Finding:
    """Whether the rules file can be used by a service with these settings."""
    from pixelmill.cli.settings import presets
    from pixelmill.errors import PixelmillError
    from pixelmill.triggers.book import load_rules
    from pixelmill.triggers.reach import check_stores

    try:
        found = load_rules(settings["triggers"], presets=presets(settings))
        check_stores(found, settings["stores"], settings["source_roots"])
    except PixelmillError as error:
        return Finding(
            "triggers", "bad", str(error), f"`pixelmill triggers check {settings['triggers']}` tries it again."
        )
    return Finding("triggers", "ok", f"{len(found.rules)} rules, {len(found.sources)} sources")


def _disk(settings: Settings) -> Finding:
    free = shutil.disk_usage(_nearest(settings["data"].absolute())).free
    found = f"{free / 1e9:.1f} GB free"
    if free < LEAST_DISK:
        return Finding(
            "disk",
            "note",
            found,
            f"Inputs and results need room; free some, or move --data. Least: {LEAST_DISK / 1e9:g} GB.",
        )
    return Finding("disk", "ok", found)


def _shm(settings: Settings) -> Finding:
    del settings
    if not SHARED_MEMORY.is_dir():
        return Finding(str(SHARED_MEMORY), "note", "missing", "Not needed: arrays travel in memory files.")
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < LEAST_SHM:
        return Finding(
            str(SHARED_MEMORY), "note", f"{free / 1e6:.0f} MB free", "In a container start with --shm-size=256m."
        )
    return Finding(str(SHARED_MEMORY), "ok", f"{free / 1e6:.0f} MB free")


def _open_files(settings: Settings) -> Finding:
    del settings
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < LEAST_FILES:
        return Finding("open files", "note", f"{soft}", f"Raise the limit: ulimit -n {min(hard, 65_536)}")
    return Finding("open files", "ok", f"{soft} (hard limit {hard})")


def _print(findings: list[Finding]) -> None:
    from pixelmill.cli.tables import print_table

    marks = {"ok": "ok", "note": "NOTE", "bad": "MISSING"}
    print_table(("", "what", "found", "what to do"), ((marks[f.verdict], f.what, f.found, f.advice) for f in findings))
    bad = sum(finding.verdict == "bad" for finding in findings)
    print("Everything that is needed is here." if not bad else f"{bad} needed things are missing.")
