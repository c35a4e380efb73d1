"""Multipart forms as a stream of parts (RFC 7578), pulled by the reader.

Nothing is spooled: a part's bytes are handed on as they arrive, and no more is received until they are taken. Parsing
is python-multipart's low-level parser, 0.3 ms of CPU a megabyte of photographs (the ``multipart`` package took the
same; searching for the boundary alone takes 0.2). Memory: what one receive brings, 256 KB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pixelmill.errors import RequestError

MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class FormLimits:
    """Most fields without a file name, bytes of each and of all together, and most files."""

    fields: int = 1_000
    field_bytes: int = 1_000_000
    files: int = 100_000
    text_bytes: int = 16_000_000


class Part:
    """One field of the form. ``filename`` is None for plain values. Its bytes can be read once, while it is current."""

    def __init__(
        self, name: str, filename: str | None, body: AsyncIterator[bytes], limit: int, count: Callable[[int], None]
    ) -> None:
        self.name, self.filename = name, filename
        self._body, self._limit, self._count = body, limit, count

    def chunks(self) -> AsyncIterator[bytes]:
        """The part's bytes as they arrive."""
        return self._body

    async def text(self) -> str:
        """A plain value; raises :class:`RequestError` where it is too long or not UTF-8."""
        data = bytearray()
        async for chunk in self._body:
            data += chunk
            self._count(len(chunk))
            if len(data) > self._limit:
                raise RequestError(
                    f"The field {self.name!r} is longer than {self._limit:,} bytes.", status=413, field=self.name
                )
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(f"The field {self.name!r} is not UTF-8.", field=self.name) from error


class FormReader:
    """The parts of one form, in their order."""

    def __init__(self, body: AsyncIterator[bytes], content_type: str, limits: FormLimits) -> None:
        """Raise :class:`RequestError` unless ``content_type`` is multipart with a boundary."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RequestError("The form must be multipart/form-data with a boundary.", status=415)
        self._body, self._limits = body, limits
        self._events: deque[tuple[str, bytes]] = deque()
        self._text_bytes = 0
        self._inside = False  # a part's bytes are not all read
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        try:
            self._parser = MultipartParser(
                boundary,
                self._callbacks(),
                max_header_count=MAX_PART_HEADERS,
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise RequestError(f"The form's boundary can't be used: {error}.") from error

    def _callbacks(self) -> Any:
        def event(kind: str) -> Callable[[], None]:
            return lambda: self._events.append((kind, b""))

        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": lambda: self._events.append(("part", self._disposition)),
            "on_part_data": lambda data, start, end: self._events.append(("data", data[start:end])),
            "on_part_end": event("end"),
            "on_end": event("close"),
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._header.clear()
        self._value.clear()

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    async def _next(self) -> tuple[str, bytes]:
        while not self._events:
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                raise RequestError("The form ends before its closing boundary.") from None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise RequestError(f"The form can't be read: {error}.") from error
        return self._events.popleft()

    async def parts(self) -> AsyncIterator[Part]:
        """Each part; what was not read of it is skipped when the next is asked for."""
        fields = files = 0
        while True:
            kind, disposition = await self._next()
            if kind == "close":
                async for _ in self._body:
                    pass  # what follows the closing boundary means nothing (RFC 2046)
                return
            assert kind == "part", f"the parser said {kind} between parts"
            name, filename = _names(disposition)
            if filename is None:
                fields += 1
            else:
                files += 1
            if fields > self._limits.fields or files > self._limits.files:
                most = f"{self._limits.fields:,} fields and {self._limits.files:,} files"
                raise RequestError(f"A form may have at most {most}. Add more with POST /v1/jobs/ID/tasks.", status=413)
            self._inside = True
            yield Part(name, filename, self._part_body(), self._limits.field_bytes, self._count_text)
            while self._inside:
                self._inside = (await self._next())[0] != "end"

    def _count_text(self, size: int) -> None:
        self._text_bytes += size
        if self._text_bytes > self._limits.text_bytes:
            raise RequestError(
                f"The fields of the form are longer than {self._limits.text_bytes:,} bytes together. Send large jobs "
                "by pages.",
                status=413,
            )

    async def _part_body(self) -> AsyncIterator[bytes]:
        while True:
            kind, data = await self._next()
            if kind == "end":
                self._inside = False
                return
            yield data


def _names(disposition: bytes) -> tuple[str, str | None]:
    """The field's name, and the file's where it is one. Browsers send UTF-8 with ``%22`` for quotes (WHATWG)."""
    kind, options = parse_options_header(disposition.decode("latin-1"))
    if kind != b"form-data" or b"name" not in options:
        raise RequestError("Each part of a form needs Content-Disposition: form-data with a name.")
    filename = options.get(b"filename")
    name = options[b"name"].decode("utf-8", "replace")
    if filename is None:
        return name, None
    return name, filename.decode("utf-8", "replace").replace("%22", '"').replace("%0D", " ").replace("%0A", " ")
