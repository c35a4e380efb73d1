"""Which tests are run once more when they fail: those that drive real browsers, brokers, services and networks.

A test of values in this process is not among them, for what it finds is a defect however seldom it comes. See
docs/decisions/2026-11-28-one-rerun.md.
"""

from __future__ import annotations

from types import ModuleType

import pytest

FOLDERS = frozenset(
    {"cli", "client", "engines", "events", "fleet", "pages", "servers", "service", "targets", "triggers"}
)
FIXTURES = frozenset(
    {
        *("redis_server", "postgres_server", "rabbitmq_server", "moto_server", "azurite_server"),
        *("sql_url", "service_url", "service_process", "browser"),
    }
)
"""A test that asks for one of them, by way of others too, has a server or a browser beside it."""
HELPERS = frozenset(
    {
        *("browser", "live_service", "node_tools", "odd_server", "pool_tools", "redis_tools", "service_process"),
        *("siege", "trigger_rig", "worker_hub"),
    }
)
"""Modules of tests/support that start processes or speak over a network; a file that imports from them does so too."""


def mark(items: list[pytest.Item]) -> None:
    """Mark those that are run once more."""
    real: dict[ModuleType, bool] = {}
    for item in items:
        if item.path.parent.name not in FOLDERS or not isinstance(item, pytest.Function):
            continue
        module = item.module
        if module not in real:
            real[module] = any(_home(value) in HELPERS for value in vars(module).values())
        if real[module] or not FIXTURES.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _home(value: object) -> str:
    """The module that a name of another one stands for, or comes from."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
