"""Builds the pages: `python web/build.py [--get-npm]`; does nothing where they are built from these very sources.

Runs `npm ci --ignore-scripts` (what `package-lock.json` pins, no package's own scripts) and `build.mjs`. Used by the
Makefile and by the build of wheels and source distributions (`hatch_build.py`); standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent
OUT = WEB.parent / "src" / "pixelmill" / "api" / "static"
STAMP = OUT / "SOURCES"
SOURCES = ("package.json", "package-lock.json", "build.mjs", "src", "styles")
INSTALL_LIMIT_S = 900
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class CannotBuild(Exception):
    """The pages can't be built here, and why."""


def digest() -> str:
    """Of everything that the pages are made of."""
    found = hashlib.sha256()
    for name in SOURCES:
        root = WEB / name
        for path in sorted(path for path in (root, *root.rglob("*")) if path.is_file()):
            found.update(f"{path.relative_to(WEB).as_posix()}\0".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def is_built() -> bool:
    """Whether the pages are there; of these sources, where the sources are here."""
    try:
        stamp = STAMP.read_text().strip()
    except OSError:
        return False
    return not (WEB / "build.mjs").exists() or stamp == digest()


def build(*, get_npm: bool = False) -> None:
    """Build the pages unless they are there; raises :class:`CannotBuild`."""
    if is_built():
        return
    npm = shutil.which("npm") or (_debians_npm() if get_npm else None)
    if npm is None:
        raise CannotBuild("building the pages needs npm (Node 18 or newer): apt-get install npm, or https://nodejs.org")
    environment = dict(os.environ)
    # Node has a list of authorities of its own; networks with a proxy have theirs in the system's.
    if "NODE_EXTRA_CA_CERTS" not in environment and CERTIFICATES.exists():
        environment["NODE_EXTRA_CA_CERTS"] = str(CERTIFICATES)
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    _run([npm, "ci", *flags], environment, "npm could not bring what package-lock.json lists")
    _run([shutil.which("node") or "node", "build.mjs"], environment, "esbuild could not bundle the pages")
    STAMP.write_text(digest() + "\n")


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=WEB, env=environment, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{what}: {error}") from error
    if done.returncode:
        raise CannotBuild(f"{what}: {(done.stderr or done.stdout).strip()[-1500:]}")


def _debians_npm() -> str | None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    print("Installing Debian's npm for the pages", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "npm"],
    ):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, timeout=INSTALL_LIMIT_S, check=False)
    return shutil.which("npm")


def main() -> int:
    """For the Makefile: without pages the service still works, so this is no failure."""
    try:
        build(get_npm="--get-npm" in sys.argv[1:])
    except CannotBuild as error:
        print(f"Going on without pages: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
