"""A service with a runtime of triggers in this process, over real stores."""

from __future__ import annotations

from service_process import pictures, service_process

__all__ = ["pictures", "service_process"]
