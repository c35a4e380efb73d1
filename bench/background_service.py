"""Background removal through the service against `rembg s`: images a second, and peak memory of the whole process tree.

    python bench/background_service.py --images DIR --weights u2netp.onnx --rembg PYTHON [--count 24] [--clients 4]

Both get the same JPEG files and weights, from as many clients, in turn for some rounds, and answer with a PNG cut-out.
Memory is PSS, looked at every 0.2 s. ``--flat N`` sends N images to the service alone and tells its memory on the way.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

import common
from server import PrivateService, free_port

PIPELINE = "remove_background:model=weights/format:png"


class Peak:
    """The largest PSS of a process tree while it runs."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid, self._over = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.bytes = max(self.bytes, common.tree_rss(self._pid))

    def stop(self) -> int:
        """The peak."""
        self._over.set()
        self._thread.join()
        return self.bytes


def by_name(pid: int) -> dict[str, int]:
    """PSS of a process tree, by what its processes are."""
    found: dict[str, int] = {}
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            name = process.name()
            found[name] = found.get(name, 0) + process.memory_full_info().pss
    return found


def rate(send: Callable[[bytes], None], images: list[bytes], clients: int) -> float:
    """Images a second."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, images))
    return len(images) / (time.perf_counter() - started)


def rembg_server(python: str, home: Path, weights: Path) -> tuple[subprocess.Popen[bytes], str]:
    """`rembg s` over these weights, ready."""
    (home / "models" / "u2netp").mkdir(parents=True)
    shutil.copy(weights, home / "models" / "u2netp" / "u2netp.onnx")
    environment = {**os.environ, "U2NET_HOME": str(home), "MODEL_CHECKSUM_DISABLED": "1"}
    port = free_port()
    command = [str(Path(python).with_name("rembg")), "s", "--no-ui", "-h", "127.0.0.1", "-p", str(port), "-l", "error"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api/remove"
    deadline = time.monotonic() + 300  # its first import compiles
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=1)
        except httpx.HTTPError:
            time.sleep(0.2)
            continue
        return process, url
    process.kill()
    raise SystemExit("rembg s did not get ready")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--rembg", help="Python of an environment with rembg[cli]")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--flat", type=int, default=0)
    args = parser.parse_args()
    images = common.variants(common.photographs(args.images), args.count)
    with tempfile.TemporaryDirectory() as folder, httpx.Client(timeout=300) as http:
        models = Path(folder) / "models"
        models.mkdir()
        shutil.copy(args.weights, models / "weights.onnx")
        # A model process of its own: one that is shared might be in nobody's tree, or have others' models in it.
        chosen = (f"models={models}", "interactive_wait=5m", "timeout=5m", "model_process=private")
        with PrivateService(*(part for one in chosen for part in ("--set", one))) as service:
            address = f"http://127.0.0.1:{service.port}/v1/process"

            def ours(body: bytes) -> None:
                http.post(address, params={"pipeline": PIPELINE}, content=body).raise_for_status()

            ours(images[0])
            if args.flat:
                for start in range(0, args.flat, 100):
                    rate(ours, [images[n % len(images)] for n in range(100)], args.clients)
                    parts = ", ".join(f"{name} {size / 1e6:,.0f}" for name, size in by_name(service.pid).items())
                    print(f"{start + 100} images: {common.tree_rss(service.pid) / 1e6:,.0f} MB ({parts})", flush=True)
                return
            theirs_process, theirs_url = rembg_server(args.rembg, Path(folder) / "home", args.weights)

            def theirs(body: bytes) -> None:
                fields = {"model": "u2netp"}
                http.post(theirs_url, data=fields, files={"file": ("a.jpg", body)}).raise_for_status()

            try:
                theirs(images[0])
                peaks = Peak(service.pid), Peak(theirs_process.pid)
                rates: tuple[list[float], list[float]] = ([], [])
                spent = [0.0, 0.0]
                for _ in range(args.rounds):
                    for which, (send, pid) in enumerate(((ours, service.pid), (theirs, theirs_process.pid))):
                        before = common.tree_cpu(pid)
                        rates[which].append(rate(send, images, args.clients))
                        spent[which] += common.tree_cpu(pid) - before
                memory = [peak.stop() for peak in peaks]
            finally:
                theirs_process.kill()
                theirs_process.wait()
    mine, other = (common.median(found) for found in rates)
    cpu = [seconds / (args.rounds * len(images)) for seconds in spent]
    rows = [
        ["pixelmill serve", f"{mine:.2f}", f"{cpu[0]:.2f} s", f"{memory[0] / 1e6:,.0f} MB"],
        ["rembg s", f"{other:.2f}", f"{cpu[1]:.2f} s", f"{memory[1] / 1e6:,.0f} MB"],
        ["ratio", f"{mine / other:.2f}", f"{cpu[0] / cpu[1]:.2f}", f"{memory[0] / memory[1]:.2f}"],
    ]
    common.say(common.table(["", "images a second", "CPU time an image", "peak PSS of the tree"], rows))


if __name__ == "__main__":
    main()
