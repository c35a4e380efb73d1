"""Pictures for `pixelmill bench`: one's own photographs, or drawn ones with the grain of a camera, in each resolution.

No two files have the same bytes, so that nothing that keeps results by their content can help: a JPEG comment differs
where there are more files than pictures. They lie in a temporary folder, those of one resolution at a time.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pixelmill.cli.inputs import expand
from pixelmill.cli.samples import clouds, hills, leaves, marble, streets, sunrise
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.evaluation.observation import Resolution
from pixelmill.pipelines.spec import Pipeline

MOST_PICTURES = 100
QUALITY = 90
GRAIN = 6.0
"""Standard deviation of the noise, of 255: that of a photograph taken indoors."""
DRAWN = (hills, leaves, clouds, streets, sunrise, marble)
SEED = 11


class Pictures:
    """See :class:`pixelmill.evaluation.subject.Images`. Raises :class:`ConfigError` for a folder without images."""

    def __init__(self, folder: Path, own: Path | None) -> None:
        self._folder = folder
        self._own = [] if own is None else found_in(own)
        if not self._own:
            self.description = f"{len(DRAWN)} drawn pictures with grain, JPEG of quality {QUALITY}"
        elif len(self._own) == 1:
            self.description = f"one photograph, cropped and scaled, JPEG of quality {QUALITY}"
        else:
            count = len(self._own)
            self.description = (
                f"a folder of {count} photographs, those large enough cropped and scaled, JPEG of quality {QUALITY}"
            )
        self._resolution: Resolution | None = None
        self._pictures: list[bytes] = []
        self._made: list[Path] = []

    def files(self, resolution: Resolution, count: int) -> Sequence[Path]:
        """The first ``count`` files of that resolution; more are made where there are too few."""
        if resolution != self._resolution:
            if self._resolution is not None:
                shutil.rmtree(self._folder / str(self._resolution))
            self._resolution, self._made = resolution, []
            (self._folder / str(resolution)).mkdir()
            self._pictures = self._photographs(resolution) if self._own else _drawn(resolution)
        for number in range(len(self._made), count):
            path = self._folder / str(resolution) / f"{number:06}.jpg"
            path.write_bytes(commented(self._pictures[number % len(self._pictures)], f"image {number}"))
            self._made.append(path)
        return self._made[:count]

    def _photographs(self, resolution: Resolution) -> list[bytes]:
        """Those that are large enough; where none is, all of them, enlarged."""
        made = list(self._scaled(resolution, "false")) or list(self._scaled(resolution, "true"))
        if not made:
            raise ConfigError("None of the images can be read; --images must name a folder with photographs.")
        return made

    def _scaled(self, resolution: Resolution, enlarge: str) -> Iterator[bytes]:
        pipeline = Pipeline.parse(
            f"resize:{resolution.width},{resolution.height},fit=cover,enlarge={enlarge}/format:jpeg,quality={QUALITY}"
        )
        for path in self._own:
            try:
                outcome = pipeline.run(path)
            except PixelmillError as error:
                print(f"pixelmill: {path} is left out: {error}", file=sys.stderr)
                continue
            if outcome.bytes is not None and outcome.size == (resolution.width, resolution.height):
                yield outcome.bytes


def found_in(folder: Path) -> list[Path]:
    """The images of a folder, at most :data:`MOST_PICTURES`; raises :class:`ConfigError` where there is none."""
    if not folder.is_dir():
        raise ConfigError(f"--images {folder} is not a folder.")
    found = [item.body for item in expand([str(folder)], sys.stdin.buffer, 0).items if isinstance(item.body, Path)]
    if not found:
        raise ConfigError(f"There is no image in the folder {folder} (JPEG, PNG, WebP, AVIF, GIF or the like).")
    return found[:MOST_PICTURES]


def _drawn(resolution: Resolution) -> list[bytes]:
    """Pictures with noise in all channels, which makes them about as hard to decode as photographs."""
    made = []
    width, height = resolution.width, resolution.height
    for number, draw in enumerate(DRAWN):
        # Half of the noise is as coarse as two pixels: a camera's noise is smoothed when colors are interpolated.
        random = np.random.default_rng(SEED + number)
        fine = random.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
        half = random.normal(0, GRAIN, (-(-height // 2), -(-width // 2), 3)).astype(np.float32)
        coarse = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
        pixels = np.clip(draw(width, height) + fine + coarse, 0, 255).astype(np.uint8)
        done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise RuntimeError("OpenCV could not write JPEG")
        made.append(data.tobytes())
    return made


def commented(jpeg: bytes, text: str) -> bytes:
    """The same picture with a comment segment (ITU-T T.81, B.2.4.5) behind its first marker."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
