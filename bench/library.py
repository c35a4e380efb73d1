"""The library against Pillow and pyvips: CPU time and quality of two everyday pipelines, one thread each.

    python bench/library.py [--images DIR] [--rounds N]

Speed: CPU milliseconds an image (process time), contenders in turn, median of the rounds. Quality: PSNR of the decoded
result against a float64 reference (full decode, antialiased Lanczos resampling in float, no rounding in between).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image as Pillow

import common
from pixelmill import Pipeline

GRAY = Pipeline.parse(common.PIPELINE)
FIT = Pipeline.parse("resize:512,512/format:jpeg,quality=80")


def pillow_gray(data: bytes) -> bytes:
    """Pillow, as its documentation writes it."""
    target = io.BytesIO()
    Pillow.open(io.BytesIO(data)).convert("L").resize((256, 256)).save(target, "JPEG", quality=80)
    return target.getvalue()


def vips_gray(data: bytes) -> bytes:
    """Pyvips, shrinking on load."""
    small = pyvips.Image.thumbnail_buffer(data, 256, height=256, size="force").colourspace("b-w")
    return bytes(small.write_to_buffer(".jpg", Q=80))


def vips_fit(data: bytes) -> bytes:
    """Pyvips, shrinking on load."""
    return bytes(pyvips.Image.thumbnail_buffer(data, 512, height=512).write_to_buffer(".jpg", Q=80))


def pillow_fit(data: bytes) -> bytes:
    """Pillow's thumbnail, which drafts the JPEG at a reduced scale."""
    target = io.BytesIO()
    image = Pillow.open(io.BytesIO(data))
    image.thumbnail((512, 512))
    image.save(target, "JPEG", quality=80)
    return target.getvalue()


def ours(pipeline: Pipeline) -> Callable[[bytes], bytes]:
    """This library."""

    def run(data: bytes) -> bytes:
        result = pipeline.run(data).bytes
        assert result is not None
        return result

    return run


def reference(data: bytes, size: tuple[int, int], *, gray: bool) -> NDArray[np.float64]:
    """Full decode, BT.601 luma in float where gray, antialiased Lanczos on float planes."""
    pixels = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)
    planes = [pixels @ np.array([0.299, 0.587, 0.114], np.float32)] if gray else [pixels[..., i] for i in range(3)]
    resized = [np.asarray(Pillow.fromarray(p).resize(size, Pillow.Resampling.LANCZOS), np.float64) for p in planes]
    return resized[0] if gray else np.stack(resized, axis=-1)


def psnr(result: bytes, data: bytes, *, gray: bool) -> float:
    """Of the decoded result against the reference, in dB."""
    image = Pillow.open(io.BytesIO(result)).convert("L" if gray else "RGB")
    truth = np.clip(reference(data, image.size, gray=gray), 0, 255)
    error = np.mean((np.asarray(image, np.float64) - truth) ** 2)
    return float(10 * np.log10(255**2 / error))


def compare(
    title: str, contenders: dict[str, Callable[[bytes], bytes]], images: Sequence[bytes], rounds: int, *, gray: bool
) -> str:
    """One table: CPU time, ratio and quality of each contender."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():

            def work(run: Callable[[bytes], bytes] = run) -> None:
                for data in images:
                    run(data)

            seconds = common.cpu_of(work)
            if round_:  # the first round warms up
                times[name].append(seconds / len(images) * 1e3)
    mine = common.median(times["pixelmill"])
    rows = []
    for name, run in contenders.items():
        quality = common.median(psnr(run(data), data, gray=gray) for data in images)
        mean = float(np.mean([psnr(run(data), data, gray=gray) for data in images]))
        cost = common.median(times[name])
        rows.append((name, f"{cost:.2f}", f"{cost / mine:.2f}", f"{mean:.2f}", f"{quality:.2f}"))
    header = (title, "CPU ms an image", "times Pixelmill's", "PSNR mean, dB", "PSNR median, dB")
    return common.table(header, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder of JPEG photographs of 1200x800, 1500x997, 2040x1536")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    images = common.photographs(args.images)
    print(common.machine("opencv-python-headless", "simplejpeg", "pillow", "pyvips"), f"{len(images)} photographs\n")
    gray = {"pixelmill": ours(GRAY), "bare kernel": common.kernel, "Pillow": pillow_gray, "pyvips": vips_gray}
    print(compare("gray 256x256, quality 80", gray, images, args.rounds, gray=True), "\n")
    fit = {"pixelmill": ours(FIT), "Pillow thumbnail": pillow_fit, "pyvips": vips_fit}
    print(compare("fit 512x512, quality 80", fit, images, args.rounds, gray=False))


if __name__ == "__main__":
    main()
