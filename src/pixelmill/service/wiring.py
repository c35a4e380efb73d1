"""Builds the parts of one embedded service, starts them from the ground up and stops them in reverse."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from pixelmill import __version__
from pixelmill.engines.executor import Executor
from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import PixelmillError
from pixelmill.events.bus import InProcessBus
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.load import LoadHistory, PsutilSampler
from pixelmill.jobs.database import Database
from pixelmill.jobs.store import JobStore
from pixelmill.metrics import Metrics
from pixelmill.service.lock import DataLock
from pixelmill.service.parameters import ImageParameters
from pixelmill.service.recorder import Recorder
from pixelmill.service.results import Results
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.upkeep import Upkeep
from pixelmill.storage.folder import FolderStore
from pixelmill.targets.local import LocalPool

T = TypeVar("T")
INTERACTIVE_SLOTS = 1
