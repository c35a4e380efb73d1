"""The frames between service and pool process: they invert, in whatever pieces they arrive."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import LimitExceeded
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.targets.target import RunRequest
from pixelmill.targets.wire import (
    HEAD,
    FrameReader,
    body_lengths,
    decode_reply,
    decode_request,
    encode_error,
    encode_frame,
    encode_outcome,
    encode_request,
)

paths = (
    st.binary(min_size=1, max_size=20)
    .filter(lambda b: b"\0" not in b)
    .map(lambda b: Path(b.decode(errors="surrogateescape")))
)
sources = st.binary(max_size=200) | paths
requests = st.builds(
    RunRequest,
    id=st.text(max_size=10),
    pipeline=st.text(max_size=50),
    source=sources,
    images=st.dictionaries(st.text(max_size=10), sources, max_size=3),
    source_name=st.text(max_size=10),
    limits=st.builds(Limits, st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**6)),
    timeout_s=st.floats(0.1, 1e6),
    kind=st.sampled_from(("image", "sheet")),
)


def frames_of(data: bytes, cuts: list[int], max_body: int = 10**6) -> list[tuple[object, bytes]]:
    reader = FrameReader(max_body)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [frame for a, b in itertools.pairwise(edges) for frame in reader.feed(data[a:b])]


@given(requests)
def test_a_request_survives_the_way(request: RunRequest) -> None:
    [(record, body)] = frames_of(b"".join(encode_request(request)), [])
    assert isinstance(record, dict)
    bodies, at = [], 0
    for length in body_lengths(record):
        bodies.append(body[at : at + length])
        at += length
    assert decode_request(record, bodies) == request


@given(st.lists(st.tuples(st.dictionaries(st.text(), st.integers()), st.binary(max_size=300)), max_size=4), st.data())
def test_frames_come_out_whole_in_whatever_pieces_they_arrive(
    sent: list[tuple[dict[str, int], bytes]], data: st.DataObject
) -> None:
    stream = b"".join(bytes(part) for record, body in sent for part in encode_frame(record, [body]))
    assert frames_of(stream, data.draw(st.lists(st.integers(0, 5000), max_size=6))) == sent


@pytest.mark.parametrize("body", [None, b"", b"pixels"])
def test_an_outcome_survives_the_way(body: bytes | None) -> None:
    outcome = Outcome(
        body, "png", "image/png", Size(1, 2), Size(3, 4), "jpeg", {"caption": "ä"}, Timings(1.0, 2.0, 3.0)
    )
    [(record, rest)] = frames_of(b"".join(encode_outcome(outcome, retire=True)), [])
    assert decode_reply(record, rest) == (outcome, None, True)


def test_an_error_survives_the_way() -> None:
    [(record, rest)] = frames_of(b"".join(encode_error(LimitExceeded("Too large.", maximum=5), retire=False)), [])
    reply = decode_reply(record, rest)
    assert isinstance(reply.error, LimitExceeded)
    assert (str(reply.error), reply.error.context, reply.retire) == ("Too large.", {"maximum": 5}, False)


@pytest.mark.parametrize(
    "data",
    [HEAD.pack(2, 11) + b"{}", HEAD.pack(2**31, 0), HEAD.pack(2, 0) + b"\xff\xff", struct.pack("<IQ", 1, 0) + b"{"],
)
def test_what_is_no_frame_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - three kinds, one answer
        frames_of(data, [], max_body=10)


@pytest.mark.parametrize(
    "record", [{}, [], None, 5, "error", {"outcome": {}}, {"outcome": {"size": 3}, "image": True}, {"error": 1}]
)
def test_a_reply_of_the_wrong_form_is_refused(record: object) -> None:
    with pytest.raises(ValueError, match="wrong form"):
        decode_reply(record, b"")
