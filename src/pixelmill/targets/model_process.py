"""What the model process runs: it holds the sessions of learned models for all processes of a pool, or of a user.

Started by ``model_keeper.ModelProcess`` with one argument, JSON: the listening socket's descriptor, the parent's id
with whom it ends (0: it ends with the last pool that is connected), the models folder, and what it may take.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from pixelmill.models.blip import prepare_process
from pixelmill.models.folder import ModelFolder
from pixelmill.models.server import ModelServer
from pixelmill.models.sessions import Sessions
from pixelmill.targets import process


def main() -> None:
    """Serve until nobody is left."""
    boot = json.loads(sys.argv[1])
    listener = int(boot["listener"])
    if boot["parent"]:
        process.die_with(boot["parent"])
    else:
        os.chdir("/")  # it may live longer than the folder that it was started in
    process.name_process("pixelmill-model")
    process.leave_signals_to_parent()
    process.close_descriptors(listener)
    process.offer_to_oom_killer()
    prepare_process()
    folder = ModelFolder(Path(boot["folder"]), allow_pickle=boot["allow_pickle"])
    sessions = Sessions(folder, threads=boot["threads"], budget=boot["budget"])
    ModelServer(socket.socket(fileno=listener), sessions, ended=_end, idle_s=boot["idle_s"]).serve()


def _end(_why: str) -> NoReturn:
    """At once: whoever asks now connects anew, and finds the next one."""
    os._exit(0)
