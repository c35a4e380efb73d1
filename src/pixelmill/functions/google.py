"""Google Cloud Functions: ``handle`` takes CloudEvents of Cloud Storage, by Eventarc or by Pub/Sub.

``functions-framework --target handle --signature-type cloudevent`` finds it in a ``main.py`` that imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pixelmill.functions import lean
from pixelmill.functions.plain import do_all


class Event(Protocol):
    """What the framework hands over (``cloudevents.http.CloudEvent``)."""

    data: Any

    def get_attributes(self) -> Mapping[str, Any]:
        """``type``, ``source``, ``id`` and the like."""
        ...


def handle(event: Event) -> None:
    """Do what the event asks for; raises what is to be tried again."""
    do_all({**event.get_attributes(), "data": event.data})


lean.started()
