"""The verbs that every edge calls, and the wiring below them."""

from pixelmill.service.caller import Caller
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.verbs import Service

__all__ = ["Caller", "Service", "ServiceConfig"]
