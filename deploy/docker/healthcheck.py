#!/usr/bin/env -S python3 -I
"""Is the Pixelmill of this container alive: `pixelmill-healthcheck [PATH]`; exit code 0 means yes.

Asks `/healthz` (or PATH, such as `/readyz`) on loopback, at the port that the container's own settings name. A worker
answers where `PIXELMILL_METRICS_PORT` is set. A node that joined a hub listens nowhere: its hub knows how it is, so run
it without a health check. Standard library only.
"""

import http.client
import os
import sys

LIMIT_S = 4.0


def port() -> int:
    """Where the process of this container listens."""
    for name in ("PIXELMILL_METRICS_PORT", "PIXELMILL_PORT", "PORT"):
        given = os.environ.get(name, "")
        if given.isdecimal() and int(given):
            return int(given)
    return 8080


def main() -> int:
    """Ask once."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/healthz"
    connection = http.client.HTTPConnection("127.0.0.1", port(), timeout=LIMIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(2000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"127.0.0.1:{port()}{path} does not answer: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"{answer.status} {said}\n")
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
