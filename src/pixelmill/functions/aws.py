"""AWS Lambda: ``pixelmill.functions.aws.handler`` takes events of buckets, queues of them, direct invocations and HTTP.

See ``calls.py`` for what it does with them, and docs/functions.md. It is imported once for each cold start, so it is as
light as it can be: no event loop, no SDK of the cloud, no thread of a library that nothing uses.
"""

from __future__ import annotations

import logging
import os
import sys

from pixelmill import logs
from pixelmill.functions import lean
from pixelmill.functions.calls import Function


def _made() -> Function:
    written = logs.configure(os.environ.get("PIXELMILL_LOG_LEVEL", "info"), "json", sys.stdout)
    # Lambda's own handler is on the root logger: libraries' lines go there, and ours not a second time.
    ours = logging.getLogger("pixelmill")
    ours.addHandler(written)
    ours.propagate = False
    logging.getLogger().removeHandler(written)
    made = Function(os.environ)
    lean.started()
    return made


# Made when it is imported: Lambda gives the initialization a whole CPU, and keeps what it made.
handler = _made()
