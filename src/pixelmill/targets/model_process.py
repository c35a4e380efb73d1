"""What the model process runs: it holds the sessions of learned models for all processes of a pool.

Started by ``modelling.ModelProcess`` with three arguments: the listening socket's descriptor, the parent's id, and as
JSON the models folder (null: this user's own) and what it may take. It ends with its parent.
"""

from __future__ import annotations

import json
import socket
import sys

from pixelmill.models.blip import prepare_process
from pixelmill.models.server import ModelServer
from pixelmill.models.sessions import Sessions
from pixelmill.targets import process
from pixelmill.targets.modelling import folder_of


def main() -> None:
    """Serve until the socket or the parent ends."""
    listener, parent, boot = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
    process.die_with(parent)
    process.name_process("pixelmill-model")
    process.leave_signals_to_parent()
    process.detach_standard_streams()
    process.close_descriptors(listener)
    process.offer_to_oom_killer()
    prepare_process()
    sessions = Sessions(folder_of(boot), threads=boot["threads"], budget=boot["budget"])
    ModelServer(socket.socket(fileno=listener), sessions).serve()
