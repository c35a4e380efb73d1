"""Background removal: how well it cuts out, and whether it gives what rembg gives for the same weights.

    python bench/background.py --masks DIR --weights u2netp.onnx [--rembg PYTHON]

DIR has pictures ``NAME.*`` beside ``NAME_gt_*.png``. IoU is at one half. ``--rembg`` is the Python of an environment
with rembg; it gets the same file as its own weights. Differences are means over all samples, in percent of full scale:
of the mask; of the cut-out that keeps colors (rembg's putalpha) where it is visible; of rembg's default, which
multiplies colors by the mask, as it is seen over black.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import common
from pixelmill import Pipeline
from pixelmill.images.decode import decode
from pixelmill.models.folder import ModelFolder
from pixelmill.models.sessions import Sessions

_REMBG = """
import sys, time
from pathlib import Path
from PIL import Image
from rembg import new_session, remove

out, model, *files = sys.argv[1:]
session = new_session(model)
for file in files:
    picture, stem = Image.open(file), Path(out) / Path(file).stem
    started = time.process_time()
    remove(picture, session=session, only_mask=True).save(f"{stem}-mask.png")
    print(Path(file).stem, time.process_time() - started)
    remove(picture, session=session).save(f"{stem}-plain.png")
    remove(picture.convert("RGB"), session=session, putalpha=True).save(f"{stem}-put.png")
"""


def pictures(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures, and their ground truth."""
    truths = {path.name.partition("_gt_")[0]: path for path in folder.glob("*_gt_*.png")}
    return [(path, truths[path.stem]) for path in sorted(folder.iterdir()) if path.stem in truths]


def by_rembg(python: str, weights: Path, files: list[Path], out: Path) -> None:
    """Run rembg over the files; results go to ``out``."""
    home = out / "home"
    (home / "models" / "u2netp").mkdir(parents=True)
    shutil.copy(weights, home / "models" / "u2netp" / "u2netp.onnx")
    environment = {**os.environ, "U2NET_HOME": str(home), "MODEL_CHECKSUM_DISABLED": "1", "OMP_NUM_THREADS": "1"}
    command = [python, "-c", _REMBG, str(out), "u2netp", *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"rembg failed:\n{done.stderr[-2000:]}")


def samples(path: Path) -> Any:
    """Pixels of a file, as floats."""
    return decode(path.read_bytes()).pixels.astype(float)


def percent(left: Any, right: Any) -> str:
    """The mean difference."""
    return f"{np.abs(left - right).mean() / 2.55:.4f} %"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", required=True, type=Path, help="pictures and their ground truth")
    parser.add_argument("--weights", required=True, type=Path, help="an ONNX file of the family u2net")
    parser.add_argument("--rembg", help="Python of an environment with rembg")
    args = parser.parse_args()
    found = pictures(args.masks)
    rows, overlaps = [], []
    with tempfile.TemporaryDirectory() as folder:
        models = Sessions(ModelFolder(Path(folder)), threads=1)
        if args.rembg:
            by_rembg(args.rembg, args.weights, [picture for picture, _ in found], Path(folder))
        base = Pipeline().remove_background("cutout", model=str(args.weights.absolute()))
        only_mask = Pipeline().remove_background("mask", model=str(args.weights.absolute())).format("png")
        base.run(found[0][0], models=models)
        for picture, truth in found:
            started = time.process_time()
            mask: Any = only_mask.run(picture, models=models).image.pixels.astype(float)
            seconds = time.process_time() - started
            wanted = samples(truth)
            wanted = wanted if wanted.ndim == 2 else wanted[..., 0]
            sure, true = mask >= 128, wanted >= 128
            overlaps.append(float((sure & true).sum() / (sure | true).sum()))
            row = [picture.name, f"{overlaps[-1]:.4f}", f"{seconds:.2f} s"]
            if args.rembg:
                cut: Any = base.format("png").run(picture, models=models).image.pixels.astype(float)
                stem = Path(folder) / picture.stem
                plain, put, shown = (
                    samples(Path(f"{stem}-plain.png")),
                    samples(Path(f"{stem}-put.png")),
                    cut[..., 3] > 0,
                )
                seen = cut[..., :3] * cut[..., 3:] / 255
                row += [
                    percent(mask, samples(Path(f"{stem}-mask.png"))),
                    percent(cut[shown], put[shown]),
                    percent(seen, plain[..., :3]),
                ]
            rows.append(row)
    against = ["mask against rembg", "cut-out, visible colors", "default, over black"] if args.rembg else []
    common.say(common.table(["picture", "IoU", "CPU time", *against], rows))
    print(f"\nmean IoU {np.mean(overlaps):.4f} over {len(overlaps)} pictures")


if __name__ == "__main__":
    main()
