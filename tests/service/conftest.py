"""Makes the service fixtures known to the tests of this folder."""

from service_process import pictures, service_process

__all__ = ["pictures", "service_process"]
