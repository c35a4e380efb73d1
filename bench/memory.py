"""Memory of the service over many images: proportional resident size of the whole tree, every 1,000 images.

    python bench/memory.py [--images DIR] [--count 20000]

Half of the images go through POST /v1/process, half through jobs of 500 that are deleted when they have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import urllib.request

import common
from server import PrivateService
from service import process_round, submit_multipart, wait_for


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images")
    parser.add_argument("--count", type=int, default=20_000)
    args = parser.parse_args()
    files = common.variants(common.photographs(args.images), 500)
    rows = []
    with PrivateService() as service:
        for done in range(1_000, args.count + 1, 1_000):
            process_round(service, files)
            job = asyncio.run(submit_multipart(service.port, files))
            wait_for(service, job, len(files))
            request = urllib.request.Request(f"http://127.0.0.1:{service.port}/v1/jobs/{job}", method="DELETE")
            with urllib.request.urlopen(request, timeout=60):
                pass
            rows.append((f"{done:,}", f"{common.tree_rss(service.pid) / 1e6:.0f}"))
            common.say(f"{done:,} images: {rows[-1][1]} MB")
    print(common.machine("opencv-python-headless", "simplejpeg"), "\n")
    print(common.table(("images", "MB (PSS of the tree)"), rows))


if __name__ == "__main__":
    main()
