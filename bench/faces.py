"""Both face detectors: precision and recall over portraits, upright and turned, and how many of a group they find.

    python bench/faces.py --photos DIR --weights yunet.onnx

DIR has the photographs that ``FACES`` and ``GROUP`` name; all others there are taken to show no face (``OPEN`` are left
out: people too small to be counted). A face counts as found where the middle of a box lies in it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import common
from pixelmill import Pipeline
from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.models.folder import ModelFolder
from pixelmill.models.sessions import Sessions

FACES = {
    "portrait_astronaut_512x512.jpg": (180, 60, 90, 110),
    "portrait_fullbody_970x2204.jpg": (430, 190, 270, 370),
    "portrait_man_glasses_800x533.jpg": (250, 110, 230, 320),
    "portrait_woman_800x533.jpg": (290, 135, 195, 255),
    "seed_barista_1200x800.jpg": (560, 180, 100, 140),
}
"""Faces as boxes, told by eye."""
GROUP = "people_group_3000x2000.jpg"
OPEN = ("seed_group_1500x997.jpg",)
TURNS = (0, 15, 30, 45)
DETECTORS = ("haar", "yunet")


def turned(pixels: Any, box: tuple[int, int, int, int], degrees: float) -> tuple[Any, tuple[float, float]]:
    """The picture turned around the face's middle, and that middle."""
    middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), middle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, type=Path)
    parser.add_argument("--weights", required=True, type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(args.weights, Path(folder) / "detector.onnx")
        models = Sessions(ModelFolder(Path(folder)), threads=1)

        def boxes(detector: str, source: Any, min_size: float = 0.05) -> list[list[int]]:
            name = "detector" if detector == "yunet" else detector
            outcome = Pipeline().faces(detector=name, min_size=min_size).run(source, models=models)
            found: list[list[int]] = outcome.data["faces"]["boxes"]
            return found

        rows = []
        for detector in DETECTORS:
            false_on_others = sum(
                len(boxes(detector, path))
                for path in sorted(args.photos.glob("*.jpg"))
                if path.name not in {*FACES, *OPEN, GROUP}
            )
            for turn in TURNS:
                hits = wrong = 0
                for name, face in FACES.items():
                    pixels, middle = turned(decode((args.photos / name).read_bytes()).pixels, face, turn)
                    near = [
                        abs(x + w / 2 - middle[0]) < face[2] / 2 and abs(y + h / 2 - middle[1]) < face[3] / 2
                        for x, y, w, h in boxes(detector, Image(np.ascontiguousarray(pixels)))
                    ]
                    hits += any(near)
                    wrong += len(near) - any(near)
                wrong += false_on_others
                rows.append(
                    [detector, f"{turn}°", f"{hits / len(FACES):.2f}", f"{hits / max(1, hits + wrong):.2f}", wrong]
                )
        common.say(
            common.table(["detector", "turned by", "recall", "precision", "false alarms, all photographs"], rows)
        )
        print()
        rows = []
        for detector in DETECTORS:
            started = time.process_time()
            found = boxes(detector, args.photos / GROUP, 0.01)
            rows.append([detector, len(found), f"{time.process_time() - started:.2f} s"])
        common.say(common.table([f"faces in {GROUP}", "found", "CPU time"], rows))


if __name__ == "__main__":
    main()
