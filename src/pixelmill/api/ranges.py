"""Parts of a download (RFC 9110, 14): one range of bytes; several are answered with the whole."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.responses import HEAD_KEY, ByteStream, begun, close, problem_response
from pixelmill.errors import RequestError

_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.IGNORECASE).fullmatch


class Unsatisfiable(Exception):
    """The range begins behind the end."""


def understood(header: str, if_range: str, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and length that are asked for; None where the whole is to be sent. Raises :class:`Unsatisfiable`.

    ``If-Range`` must hold the very ``etag``, which must be a strong one; a date never fits, for we give none.
    """
    found = _ONE_RANGE(header)
    if found is None or not (found[1] or found[2]):
        return None
    if if_range and (if_range.strip() != etag or etag.startswith("W/")):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        if not length:
            raise Unsatisfiable
        return size - length, length
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None  # not a valid range: as if there were none
    if first >= size:
        raise Unsatisfiable
    return first, last - first + 1


async def ranged(
    call: Call,
    whole: AsyncIterator[bytes],
    part: Callable[[int, int], AsyncIterator[bytes]],
    size: int,
    etag: str,
    headers: Mapping[str, str],
) -> Response:
    """The whole with 200, the range that was asked for with 206, or 416."""
    scope = call.request.scope
    common = {**headers, "etag": etag, "accept-ranges": "bytes"}
    wanted = call.header("range")
    try:
        # RFC 9110: a range has a meaning for GET alone.
        found = understood(wanted, call.header("if-range"), etag, size) if wanted and not scope.get(HEAD_KEY) else None
    except Unsatisfiable:
        await close(whole)
        error = RequestError(f"The range {wanted[:60]!r} lies behind the end: there are {size:,} bytes.", status=416)
        response = problem_response(error, scope)
        response.headers["content-range"] = f"bytes */{size}"
        return response
    if found is None:
        return ByteStream(await begun(whole), {**common, "content-length": str(size)})
    await close(whole)
    start, length = found
    span = {"content-range": f"bytes {start}-{start + length - 1}/{size}", "content-length": str(length)}
    return ByteStream(await begun(part(start, length)), {**common, **span}, 206)
