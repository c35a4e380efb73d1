"""The web application's files: built into ``api/static`` by ``web/build.py``, read once, served from memory.

Scripts and styles carry a hash in their names, so browsers keep them for good. The policy lets a page run nothing and
fetch nothing but what this service serves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixelmill.api.responses import json_response, problem_response
from pixelmill.errors import NotFound

FOLDER = Path(__file__).parent / "static"
DOCUMENTS = {"/": "studio", "/jobs": "jobs", "/jobs/{job}": "jobs", "/dashboard": "dashboard"}
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
FOR_GOOD = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": ASK_AGAIN,
    "vary": "Accept",
}
WITHOUT = (
    "The pages are not built into this installation; everything else works. A released wheel has them. In a checkout "
    "`make pages` builds them (it needs npm)."
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is and compressed, by content coding."""

    body: bytes
    media_type: str
    compressed: Mapping[str, bytes]
    etag: str

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """The smallest form that the browser takes; 304 where it has it."""
        all_headers = {**headers, "etag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(b"", 304, all_headers)
        taken = request.headers.get("accept-encoding", "")
        for coding, body in self.compressed.items():
            if coding in taken:
                vary = ", ".join(filter(None, (all_headers.get("vary"), "Accept-Encoding")))
                encoded = {**all_headers, "content-encoding": coding, "vary": vary}
                return Response(body, headers=encoded, media_type=self.media_type)
        return Response(self.body, headers=all_headers, media_type=self.media_type)


@cache
def _files() -> Mapping[str, Asset]:
    """All files by their path below the service; empty where the pages were not built."""
    found = {
        f"/assets/{path.name}": _asset(path, TYPES[path.suffix])
        for path in sorted(FOLDER.glob("assets/*"))
        if path.suffix in TYPES
    }
    for name in {*DOCUMENTS.values()}:
        if (FOLDER / f"{name}.html").is_file():
            found[name] = _asset(FOLDER / f"{name}.html", "text/html; charset=utf-8")
    if (FOLDER / "icon.svg").is_file():
        found["/icon.svg"] = _asset(FOLDER / "icon.svg", TYPES[".svg"])
    if (FOLDER / "LICENCES.txt").is_file():
        found["/licences.txt"] = _asset(FOLDER / "LICENCES.txt", "text/plain; charset=utf-8")
    return found


def _asset(path: Path, media_type: str) -> Asset:
    body = path.read_bytes()
    beside = {"br": path.with_name(path.name + ".br"), "gzip": path.with_name(path.name + ".gz")}
    compressed = {coding: file.read_bytes() for coding, file in beside.items() if file.is_file()}
    return Asset(body, media_type, compressed, f'"{hashlib.sha256(body).hexdigest()[:20]}"')


def are_built() -> bool:
    """Whether this installation has pages."""
    return "studio" in _files()


def document(request: Request, name: str) -> Response | None:
    """A page's HTML; None where it isn't built."""
    found = _files().get(name)
    return None if found is None else found.response(request, PAGE_HEADERS)


async def _file(request: Request) -> Response:
    path = request.scope["path"]
    found = _files().get(path)
    if found is None:
        return problem_response(NotFound(f"There is no file {path}.", path=path), request.scope)
    # A worker obeys the policy of its own script's answer, and must be able to ask this service.
    kept = FOR_GOOD if path.startswith("/assets/") else ASK_AGAIN
    return found.response(request, {"content-security-policy": POLICY, "cache-control": kept})


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        found = document(request, name)
        return json_response({"name": "Pixelmill", "pages": WITHOUT}, 404) if found is None else found

    return page


def routes() -> list[Route]:
    """Documents and files. ``/`` is not among them: it tells scripts the routes (``health.py``)."""
    files = ("/assets/{name}", "/icon.svg", "/licences.txt")
    documents = [Route(path, _page(name)) for path, name in DOCUMENTS.items() if path != "/"]
    return documents + [Route(path, _file) for path in files]
