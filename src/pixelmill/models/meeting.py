"""Where the processes of one user find their model process: an abstract packet socket with a name that all know.

Such a name lives as long as somebody listens: it can't be stale, needs no folder, and of two that take it at once one
gets it. It has no permissions, so both ends look who the other one is. Linux only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import select
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelmill import __version__

PROTOCOL = 3
"""Number of the protocol that ``channel.py``, ``client.py`` and ``server.py`` speak."""
BACKLOG = 256
_ANSWER_S = 1.0
_MOUNTS = Path("/proc/self/ns/mnt")


class Taken(ConnectionError):
    """A process of another user listens there."""


def shared_address() -> str:
    """The name for all processes of this user that run the same program and see the same files.

    Raises :class:`OSError` where it can't be told what files this process sees.
    """
    same = [__version__, PROTOCOL, sys.executable, str(Path(__file__).parent), _MOUNTS.stat().st_ino]
    told = hashlib.sha256(json.dumps(same).encode()).hexdigest()[:16]
    return f"\0pixelmill-models-{os.getuid()}-{told}"


def private_address() -> str:
    """A name that nobody else knows."""
    return f"\0pixelmill-models-{secrets.token_hex(16)}"


def listening(address: str) -> socket.socket | None:
    """A listening socket; None where the name is taken."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return made


def connected(address: str, timeout_s: float = _ANSWER_S) -> socket.socket:
    """A connection; raises :class:`ConnectionRefusedError` where nobody listens, :class:`Taken`, :class:`OSError`."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.settimeout(timeout_s)
        made.connect(address)
        if not peer_is_us(made):
            raise Taken("a process of another user listens there")  # noqa: TRY301 -- here it is closed
    except BaseException:
        made.close()
        raise
    return made


def hello(role: str, folder: Path, *, paths: bool = False, pickles: bool = False, keep: bool = False) -> dict[str, Any]:
    """The first record on a connection.

    ``role``: ``pool`` (as long as one is there the process lives) or ``work``. ``folder``, ``paths``, ``pickles``: of
    whose models it speaks, and whether checkpoints may be pickles. ``keep``: the process shall not end for being idle.
    """
    return {
        "hello": role,
        "protocol": PROTOCOL,
        "version": __version__,
        "folder": str(folder.absolute()),
        "paths": paths,
        "pickles": pickles,
        "keep": keep,
    }


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end has closed it."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def peer_is_us(connection: socket.socket) -> bool:
    """Whether the other end is a process of the same user (abstract sockets have no permissions of their own)."""
    with suppress(OSError):
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[4:8], sys.byteorder) == os.getuid()
    return False
