"""What scales, compression and effort cost, format by format, in CPU milliseconds.

    python bench/codecs/settings.py [--images FOLDER] [--rounds 7] [--only jxl]

Candidates take turns over every picture (so a disturbance hits all alike); a cell is the median over rounds, averaged
over pictures. One thread. Without ``--images`` the photographs of scikit-image are used. These figures are why
``images/scales.py`` knows only some of the JPEG scales, and for the defaults of ``images/encoders.py``. Which library
is used for what is told by ``run.py``, beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import simplejpeg
from PIL import Image as Pil

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.probe import probe
from pixelmill.images.scales import scaled

Run = Callable[[], Any]


SAME: Mapping[str, dict[str, Any]] = {
    "avif": {"quality": 65, "speed": 8, "max_threads": 1},
    "tiff": {"compression": "tiff_lzw"},
    "gif": {},
    "bmp": {},
}
"""Pillow's options for what we write by default."""


def photographs(folder: Path | None) -> list[bytes]:
    """JPEG files of a folder, or scikit-image's."""
    if folder is None:
        import skimage

        data = Path(skimage.__file__).parent / "data"
        return [(data / "rocket.jpg").read_bytes(), as_jpeg((data / "astronaut.png").read_bytes())]
    return [path.read_bytes() for path in sorted(folder.glob("*.jp*g"))]


def as_jpeg(data: bytes) -> bytes:
    """Any file as a JPEG of quality 90."""
    return encode(decode(data), "jpeg", {"quality": 90})


def compare(title: str, cases: list[Mapping[str, Run]], rounds: int) -> None:
    """One table: CPU milliseconds of each candidate, and how it compares with the first."""
    costs: dict[str, list[float]] = {name: [] for name in cases[0]}
    for case in cases:
        samples: dict[str, list[float]] = {name: [] for name in case}
        for _ in range(rounds):
            for name, run in case.items():
                started = time.process_time()
                run()
                samples[name].append(1e3 * (time.process_time() - started))
        for name, taken in samples.items():
            costs[name].append(statistics.median(taken))
    means = {name: statistics.mean(taken) for name, taken in costs.items()}
    first = next(iter(means.values()))
    print(f"\n### {title}\n\n| candidate | CPU ms | relative |\n|---|---:|---:|")
    for name, mean in means.items():
        print(f"| {name} | {mean:.3f} | {mean / first:.2f} |")


def pillow_decode(data: bytes, mode: str | None = None) -> Any:
    """Pillow's pixels as an array."""
    picture = Pil.open(io.BytesIO(data))
    return np.asarray(picture.convert(mode) if mode else picture)


def pillow_open(data: bytes) -> Any:
    """Pillow's look at the header."""
    return Pil.open(io.BytesIO(data))


def repeat(look: Callable[[bytes], Any], data: bytes) -> None:
    """Look 200 times: once is too short to measure."""
    for _ in range(200):
        look(data)


def cv2_jpeg(pixels: Any) -> Any:
    """OpenCV's JPEG of an RGB array."""
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


def pillow_encode(pixels: Any, fmt: str, **options: Any) -> bytes:
    """Pillow's file of an array."""
    buffer = io.BytesIO()
    Pil.fromarray(pixels).save(buffer, fmt, **options)
    return buffer.getvalue()


def jpeg(photos: list[bytes], rounds: int) -> None:
    """Probe, decode at every scale, encode."""

    def at(data: bytes, eighths: int, target: str) -> Run:
        size = scaled(probe(data).stored_size, eighths)
        return lambda: simplejpeg.decode_jpeg(data, target, min_height=size.height, min_width=size.width)

    probes: list[Mapping[str, Run]] = [
        {
            "pixelmill probe, 200 times": partial(repeat, probe, data),
            "Pillow open, 200 times": partial(repeat, pillow_open, data),
        }
        for data in photos
    ]
    compare("Probe a JPEG (200 times)", probes, rounds)
    for target in ("GRAY", "RGB"):
        scales: list[Mapping[str, Run]] = [
            {f"{m}/8": at(data, m, target) for m in (8, 7, 6, 5, 4, 3, 2, 1)} for data in photos
        ]
        compare(f"Decode a JPEG to {target} at M/8 (simplejpeg)", scales, rounds)
    least = Size(256, 256)
    decodes: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(decode, data),
            "simplejpeg": partial(simplejpeg.decode_jpeg, data, "RGB"),
            "cv2 (RGB)": partial(cv2.imdecode, np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB),
            "Pillow": partial(pillow_decode, data, "RGB"),
            "pixelmill, luma": partial(decode, data, Need(color=False)),
            "pixelmill, at least 256": partial(decode, data, Need(least=least)),
            "pixelmill, luma at least 256": partial(decode, data, Need(color=False, least=least)),
        }
        for data in photos
    ]
    compare("Decode a JPEG", decodes, rounds)
    pixels = [decode(data).pixels for data in photos]
    encodes: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(encode, Image(rgb), "jpeg"),
            "simplejpeg": partial(simplejpeg.encode_jpeg, rgb, 80, "RGB", "420"),
            "cv2": partial(cv2_jpeg, rgb),
            "Pillow": partial(pillow_encode, rgb, "jpeg", quality=80),
            "pixelmill, progressive": partial(encode, Image(rgb), "jpeg", {"progressive": True}),
            "Pillow, progressive": partial(pillow_encode, rgb, "jpeg", quality=80, progressive=True),
        }
        for rgb in pixels
    ]
    compare("Encode a JPEG, quality 80", encodes, rounds)


def other(fmt: str, photos: list[bytes], rounds: int) -> None:
    """Decode and encode PNG or WebP."""
    pixels = [decode(data, Need(least=Size(600, 400))).pixels for data in photos]
    files = [encode(Image(rgb), fmt) for rgb in pixels]
    decodes: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(decode, data),
            "cv2 (unchanged)": partial(cv2.imdecode, np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
            "Pillow": partial(pillow_decode, data),
        }
        for data in files
    ]
    compare(f"Decode a {fmt}", decodes, rounds)
    settings: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
    if fmt == "png":
        settings = {f"compression {n}": ({"compression": n}, {"compress_level": n}) for n in (1, 3, 6)}
    else:
        settings = {f"effort {n}": ({"effort": n}, {"method": n, "quality": 80}) for n in (0, 2, 4, 6)}
    for name, (ours, theirs) in settings.items():
        encodes: list[Mapping[str, Run]] = [
            {
                "pixelmill": partial(encode, Image(rgb), fmt, ours),
                "Pillow": partial(pillow_encode, rgb, fmt, **theirs),
            }
            for rgb in pixels
        ]
        size = sum(len(encode(Image(rgb), fmt, ours)) for rgb in pixels) // 1000
        compare(f"Encode a {fmt}, {name} ({size:,} kB in all)", encodes, max(1, rounds // 3))


def further(fmt: str, photos: list[bytes], rounds: int) -> None:
    """Decode and encode a rarer format, with its default options; OpenCV where it can."""
    pixels = [decode(data, Need(least=Size(600, 400))).pixels for data in photos]
    files = [encode(Image(rgb), fmt) for rgb in pixels]
    arrays = [np.frombuffer(data, np.uint8) for data in files]
    readable = all(cv2.imdecode(array, cv2.IMREAD_UNCHANGED) is not None for array in arrays)
    decodes: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(decode, data),
            "Pillow": partial(pillow_decode, data, "RGB"),
            **({"cv2 (unchanged)": partial(cv2.imdecode, array, cv2.IMREAD_UNCHANGED)} if readable else {}),
        }
        for data, array in zip(files, arrays, strict=True)
    ]
    compare(f"Decode a {fmt}", decodes, rounds)
    encodes: list[Mapping[str, Run]] = [
        {"pixelmill": partial(encode, Image(rgb), fmt), "Pillow": partial(pillow_encode, rgb, fmt, **SAME[fmt])}
        for rgb in pixels
    ]
    compare(f"Encode a {fmt} ({sum(map(len, files)) // 1000:,} kB in all)", encodes, max(1, rounds // 3))


def psnr(left: Any, right: Any) -> float:
    """Peak signal to noise in dB of 8-bit pixels."""
    error = float(np.mean((left.astype(float) - right) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def jxl(photos: list[bytes], rounds: int) -> None:
    """The packages that bring libjxl: CPU time, size and fidelity; pillow-jxl-plugin (GPL) where it is installed."""
    import imagecodecs
    import pylibjxl

    codec = pylibjxl.JXL(threads=1, pool_size=1)
    pixels = [decode(data, Need(least=Size(600, 400))).pixels for data in photos]

    def encoders(rgb: Any, distance: float, effort: int) -> Mapping[str, Run]:
        lossless = distance == 0
        options: dict[str, Any] = {"distance": distance, "lossless": lossless, "effort": effort}
        found: dict[str, Run] = {
            "pixelmill": partial(encode, Image(rgb), "jxl", options),
            "imagecodecs": partial(imagecodecs.jpegxl_encode, rgb, **options, numthreads=1),
            "pylibjxl": partial(codec.encode, rgb, **options),
        }
        with contextlib.suppress(ImportError):
            importlib.import_module("pillow_jxl")
            quality = {"quality": 100 - (distance - 0.1) / 0.09, "lossless": lossless, "effort": effort}
            found["pillow-jxl-plugin"] = partial(pillow_encode, rgb, "JXL", **quality, num_threads=0)
        return found

    for distance, effort in ((1.45, 1), (1.45, 4), (1.45, 7), (0.0, 1), (0.0, 4)):
        cases = [encoders(rgb, distance, effort) for rgb in pixels]
        compare(f"Encode a jxl, distance {distance}, effort {effort}", cases, max(1, rounds // 3))
        for name in cases[0]:
            files = [case[name]() for case in cases]
            nearness = statistics.mean(psnr(decode(data).pixels, rgb) for data, rgb in zip(files, pixels, strict=True))
            print(f"{name}: {sum(map(len, files)) // 1000:,} kB in all, PSNR {nearness:.1f} dB")
    files = [encode(Image(rgb), "jxl") for rgb in pixels]
    decoders: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(decode, data),
            "imagecodecs": partial(imagecodecs.jpegxl_decode, data, numthreads=1),
            "pylibjxl": partial(codec.decode, data),
        }
        for data in files
    ]
    compare("Decode a jxl", decoders, rounds)
    probes: list[Mapping[str, Run]] = [
        {
            "pixelmill probe, 200 times": partial(repeat, probe, data),
            "pylibjxl probe, 200 times": partial(repeat, pylibjxl.probe, data),
        }
        for data in files
    ]
    compare("Probe a jxl (200 times)", probes, rounds)


def heic(photos: list[bytes], rounds: int) -> None:
    """HEIC by pillow-heif, as it is and as we use it."""
    import pillow_heif

    def written(rgb: Any) -> bytes:
        buffer = io.BytesIO()
        pillow_heif.from_pillow(Pil.fromarray(rgb)).save(buffer, quality=70)
        return buffer.getvalue()

    def plain(data: bytes) -> Any:
        return np.asarray(pillow_heif.open_heif(data))

    files = [written(decode(data).pixels) for data in photos]
    cases: list[Mapping[str, Run]] = [
        {
            "pixelmill": partial(decode, data),
            "pillow-heif": partial(plain, data),
            "pixelmill probe, 200 times": partial(repeat, probe, data),
        }
        for data in files
    ]
    compare("Decode a heic", cases, rounds)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=Path, help="a folder of JPEG photographs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["jxl", "heic"], help="one of the formats that extras bring")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    photos = photographs(chosen.images)
    print(
        f"{len(photos)} photographs, {chosen.rounds} rounds; "
        f"cv2 {cv2.__version__}, simplejpeg {simplejpeg.__version__}, Pillow {PIL.__version__}"
    )
    rarer = {"jxl": jxl, "heic": heic}
    if chosen.only:
        rarer[chosen.only](photos, chosen.rounds)
        return
    jpeg(photos, chosen.rounds)
    other("png", photos, chosen.rounds)
    other("webp", photos, chosen.rounds)
    for fmt in ("avif", "tiff", "gif", "bmp"):
        further(fmt, photos, chosen.rounds)
    for run in rarer.values():
        run(photos, chosen.rounds)


if __name__ == "__main__":
    main()
