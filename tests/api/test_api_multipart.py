"""Forms are read as a stream: the same parts however the bytes arrive, in bounded memory, and no trust in anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.api.multipart import FormLimits, FormReader
from pixelmill.errors import RequestError

BOUNDARY = "xyz"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
Field = tuple[str, str | None, bytes]


def form(fields: Sequence[Field]) -> bytes:
    parts = []
    for name, filename, data in fields:
        given_name = f'; filename="{filename}"' if filename is not None else ""
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{given_name}\r\n\r\n'.encode())
        parts += [data, b"\r\n"]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


async def feed(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(chunks: Sequence[bytes], limits: FormLimits | None = None, content_type: str = TYPE) -> list[Field]:
    found: list[Field] = []
    async for part in FormReader(feed(chunks), content_type, limits or FormLimits()).parts():
        if part.filename is None:
            found.append((part.name, None, (await part.text()).encode()))
        else:
            found.append((part.name, part.filename, b"".join([chunk async for chunk in part.chunks()])))
    return found


def run(chunks: Sequence[bytes], limits: FormLimits | None = None, content_type: str = TYPE) -> list[Field]:
    return anyio.run(read, chunks, limits, content_type)


@given(
    st.lists(
        st.tuples(st.just("files"), st.sampled_from(["a.jpg", "ü.png", "b c"]), st.binary(max_size=300)), max_size=4
    ),
    st.integers(1, 80),
)
def test_a_form_reads_the_same_however_its_bytes_arrive(fields: list[Field], size: int) -> None:
    body = form([("pipeline", None, b"grayscale"), *fields])
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    assert run(chunks) == [("pipeline", None, b"grayscale"), *fields]


def test_parts_that_look_like_boundaries_are_data() -> None:
    tricky = b"\r\n--xy\r\n--xyq\r\r\n-\r\n--x"
    assert run([form([("files", "a", tricky)])]) == [("files", "a", tricky)]


def test_what_is_not_read_of_a_part_is_skipped() -> None:
    async def names() -> list[str]:
        body = form([("files", "a", b"x" * 1000), ("files", "b", b"y" * 1000)])
        chunks = [body[at : at + 64] for at in range(0, len(body), 64)]
        found = []
        async for part in FormReader(feed(chunks), TYPE, FormLimits()).parts():
            found.append(part.filename or "")
            async for _ in part.chunks():
                break
        return found

    assert anyio.run(names) == ["a", "b"]


def test_no_more_is_received_than_is_read() -> None:
    async def received_when_the_first_part_is_half_read() -> int:
        count = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal count
            data = form([("files", "big", b"x" * 1_000_000)])
            for at in range(0, len(data), 1000):
                count += 1
                yield data[at : at + 1000]

        async for part in FormReader(body(), TYPE, FormLimits()).parts():
            async for _ in part.chunks():
                return count
        raise AssertionError("there is a part")

    assert anyio.run(received_when_the_first_part_is_half_read) <= 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (form([("files", "a", b"x")])[:-9], "ends before its closing boundary"),
        (b"", "ends before its closing boundary"),
        (b"not a form at all", "can't be read"),
        (b"--xyz\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--xyz--\r\n", "with a name"),
        (b"--xyz\r\nContent-Disposition: attachment\r\n\r\nx\r\n--xyz--\r\n", "with a name"),
        (b"--xyz\r\n" + b"X: " + b"y" * 9_000 + b"\r\n\r\n\r\n--xyz--\r\n", "can't be read"),
        (b"--xyz\r\n" + b"X: y\r\n" * 50 + b"\r\n\r\n--xyz--\r\n", "can't be read"),
    ],
)
def test_a_broken_form_is_refused_and_says_why(body: bytes, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        run([body])


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/mixed; boundary=x", "text/plain", ""])
def test_only_forms_with_a_boundary_are_forms(content_type: str) -> None:
    with pytest.raises(RequestError) as caught:
        run([b""], content_type=content_type)
    assert caught.value.context["status"] == 415


def test_a_boundary_may_not_be_longer_than_the_standard_allows() -> None:
    with pytest.raises(RequestError, match="boundary"):
        run([b""], content_type=f"multipart/form-data; boundary={'x' * 300}")


@pytest.mark.parametrize(
    "limits",
    [FormLimits(fields=1), FormLimits(files=1), FormLimits(field_bytes=3), FormLimits(text_bytes=4)],
    ids=["fields", "files", "length", "all lengths"],
)
def test_fields_files_and_lengths_are_bounded(limits: FormLimits) -> None:
    body = form([("a", None, b"1234"), ("b", None, b"2"), ("files", "x", b"1"), ("files", "y", b"2")])
    with pytest.raises(RequestError) as caught:
        run([body], limits)
    assert caught.value.context["status"] == 413


def test_names_of_files_come_as_the_browser_meant_them() -> None:
    fields: list[Field] = [("files", "tab%22le.jpg", b""), ("files", "größe/日本.jpg", b""), ("files", "", b"")]
    assert [name for _, name, _ in run([form(fields)])] == ['tab"le.jpg', "größe/日本.jpg", ""]


def test_a_field_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(RequestError, match="UTF-8"):
        run([form([("pipeline", None, b"\xff\xfe")])])
