"""Broken, lying and exploding files end in a named error, quickly, quietly and within memory."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixelmill.errors import CorruptImage, InputError, LimitExceeded, UnsupportedFormat
from pixelmill.images.decode import decode
from pixelmill.images.image import Need, Size
from pixelmill.images.limits import Limits

FORMATS = ["jpeg", "progressive", "png", "png16", "webp", "lossless"]


@pytest.fixture(scope="session")
def samples(pictures: Any) -> dict[str, bytes]:
    """A small file of each kind, with the metadata that readers look at."""
    rgb = pictures.draw(48, 40)
    exif = b"Exif\0\0" + pictures.exif_block(6)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb.astype(np.uint16) * 257)
    return {
        "jpeg": pictures.write(rgb, "jpeg", exif=exif),
        "progressive": pictures.write(rgb, "jpeg", progressive=True, exif=exif),
        "png": pictures.write(rgb, "png", exif=exif),
        "png16": pictures.raw_png(48, 40, 16, 2, rows),
        "webp": pictures.write(rgb, "webp", exif=exif),
        "lossless": pictures.write(rgb, "webp", lossless=True),
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_never_half_a_picture(samples: dict[str, bytes], kind: str) -> None:
    data = samples[kind]
    assert decode(data).size.pixels == 48 * 40
    for cut in sorted({*range(0, len(data), 7), *range(len(data) - 12, len(data) - 1)}):
        with pytest.raises(InputError):
            decode(data[:cut])


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(FORMATS), where=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), data=st.data()
)
def test_flipped_bits_give_a_picture_or_a_named_error(
    samples: dict[str, bytes], kind: str, where: float, value: int, data: st.DataObject
) -> None:
    broken = bytearray(samples[kind])
    broken[int(where * len(broken))] ^= value
    for at, flip in data.draw(st.lists(st.tuples(st.integers(0, len(broken) - 1), st.integers(1, 255)), max_size=4)):
        broken[at] ^= flip
    limits = Limits(max_pixels=1_000_000)
    for need in (Need(), Need(color=False, least=Size(10, 10))):
        try:
            image = decode(bytes(broken), need, limits)
        except InputError:
            continue  # every other exception fails the test
        assert image.size.pixels <= limits.max_pixels


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF\xff\0\0\0WEBP", b""]),
    tail=st.binary(),
)
@example(head=b"", tail=b"")
def test_noise_is_refused(head: bytes, tail: bytes) -> None:
    with pytest.raises(InputError):
        decode(head + tail)


def test_a_flipped_bit_in_png_pixels_is_found(samples: dict[str, bytes]) -> None:
    for kind in ("png", "png16"):
        data = bytearray(samples[kind])
        data[data.index(b"IDAT") + 30] ^= 1
        with pytest.raises(CorruptImage, match="check sum"):
            decode(bytes(data))


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (b"".join(b"\x09" + bytes(42) for _ in range(5)), "filtered"),
        (bytes(43 * 4), "ends before"),
        (bytes(43 * 5 + 7), None),
    ],
)
def test_rows_of_16_bits_are_checked_before_libpng_could_complain(
    pictures: Any, capfd: pytest.CaptureFixture[str], rows: bytes, why: str | None
) -> None:
    data = pictures.raw_png(7, 5, 16, 2, rows)
    if why is None:
        assert decode(data).size == Size(7, 5)
    else:
        with pytest.raises(CorruptImage, match=why):
            decode(data)
    assert capfd.readouterr().err == ""


def test_junk_after_the_picture_does_no_harm(samples: dict[str, bytes]) -> None:
    for kind in FORMATS:
        assert np.array_equal(decode(samples[kind] + b"junk" * 50).pixels, decode(samples[kind]).pixels)


def test_junk_before_the_end_marker_of_a_jpeg_does_no_harm(samples: dict[str, bytes]) -> None:
    data = samples["jpeg"]
    assert data[-2:] == b"\xff\xd9"
    assert np.array_equal(decode(data[:-2] + b"junk" + data[-2:]).pixels, decode(data).pixels)


def test_a_broken_profile_marker_in_a_jpeg_does_no_harm(samples: dict[str, bytes]) -> None:
    data = samples["jpeg"]
    part = b"\xff\xe2\0\x16ICC_PROFILE\0\x02\x05broken"
    assert np.array_equal(decode(data[:2] + part + data[2:]).pixels, decode(data).pixels)


def test_text_chunks_that_explode_cost_nothing(samples: dict[str, bytes], pictures: Any) -> None:
    bomb = pictures.chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    profile = pictures.chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    data = samples["png"]
    assert np.array_equal(decode(data[:33] + bomb + profile + data[33:]).pixels, decode(data).pixels)


def test_unknown_critical_chunks_are_refused(samples: dict[str, bytes], pictures: Any) -> None:
    data = samples["png"]
    with pytest.raises(CorruptImage, match="ABCD"):
        decode(data[:33] + pictures.chunk(b"ABCD", b"") + data[33:])


@pytest.mark.parametrize(
    ("marker", "depth", "why"), [(0xC3, 8, "Lossless"), (0xC1, 12, "12 bits"), (0xC5, 8, "Hierarchical")]
)
def test_kinds_of_jpeg_that_are_not_read_are_named(
    samples: dict[str, bytes], marker: int, depth: int, why: str
) -> None:
    data = bytearray(samples["jpeg"])
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, depth
    with pytest.raises(UnsupportedFormat, match=why):
        decode(bytes(data))


def test_a_progressive_file_with_too_many_scans_is_refused(samples: dict[str, bytes]) -> None:
    data = samples["progressive"]
    last = data.rindex(b"\xff\xda")
    with pytest.raises(LimitExceeded, match="scans"):
        decode(data[:-2] + data[last:-2] * 600 + data[-2:])


def test_many_threads_decode_at_once(samples: dict[str, bytes]) -> None:
    want = {kind: decode(data).pixels for kind, data in samples.items()}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(5):
            wrong.extend(kind for kind, data in samples.items() if not np.array_equal(decode(data).pixels, want[kind]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


SCRIPT = """
import json, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, 3_000_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from pixelmill.errors import PixelmillError
from pixelmill.images.decode import decode
results = {}
for path in sorted(Path(sys.argv[1]).rglob("*")):
    if path.is_file():
        started = time.process_time()
        try:
            decode(path.read_bytes())
            end = "decoded"
        except PixelmillError as error:
            end = error.type
        results[str(path)] = (end, time.process_time() - started)
print(json.dumps(results))
"""


def test_every_hostile_file_is_decoded_or_refused_by_name(assets: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(assets / "hostile")],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) > 200
    assert {end for end, _ in results.values()} == {
        "decoded",
        "unsupported-format",
        "corrupt-image",
        "limit-exceeded",
    }
    slow = {path: seconds for path, (_, seconds) in results.items() if seconds > 5}
    assert not slow
    assert not done.stderr, "a codec printed something"


def test_a_picture_that_does_not_fit_into_memory_is_named(pictures: Any) -> None:
    script = """
import resource, sys
from pixelmill.images.decode import decode
from pixelmill.errors import OutOfMemory
data = sys.stdin.buffer.read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000, used + 60_000_000))
try:
    decode(data)
except OutOfMemory as error:
    print(error.type)
"""
    for fmt in ("jpeg", "png"):
        data = pictures.write(np.zeros((6_000, 6_000, 3), np.uint8), fmt)
        done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60)
        assert done.stdout.strip() == b"out-of-memory", done.stderr
