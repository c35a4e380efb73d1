"""What the ``[[overflow]]`` tables of the configuration say, as frozen values with every field checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pixelmill.errors import ConfigError
from pixelmill.fleet.overflow import Order, Price
from pixelmill.jobs.model import Priority
from pixelmill.targets.remote import GRACE_S

Auth = Literal["none", "bearer", "google"]
MAX_TARGETS = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}").fullmatch
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?").fullmatch


@dataclass(frozen=True, slots=True)
class OverflowTarget:
    """One table: ``url`` or ``function`` says where, the rest how and for how much. Times are seconds.

    ``links``: send bytes by links where the store makes them. ``warm``: calls that get machines ready when our own
    gates begin to shut. ``timeout_s`` None: the task's limit and ``GRACE_S``.
    """

    name: str
    url: str = ""
    function: str = ""
    region: str | None = None
    endpoint: str | None = None
    auth: Auth = "none"
    token: str = field(default="", repr=False)
    audience: str = ""
    concurrency: int = 10
    timeout_s: float | None = None
    price: Price = field(default_factory=Price)
    links: bool = True
    warm: int = 0


@dataclass(frozen=True, slots=True)
class OverflowConfig:
    """All targets. Budgets by period (``hour``, ``day``) in the currency; one that is absent is no limit."""

    targets: tuple[OverflowTarget, ...] = ()
    budgets: Mapping[str, float] = field(default_factory=dict)
    order: Order = "price"
    latency_s: Mapping[Priority, float] = field(
        default_factory=lambda: {Priority.INTERACTIVE: 1.0, Priority.NORMAL: 30.0}
    )


def overflow_targets(tables: Sequence[Mapping[str, Any]], task_timeout_s: float) -> tuple[OverflowTarget, ...]:
    """The targets of those tables; raises :class:`ConfigError` that names table, field and what is possible."""
    if len(tables) > MAX_TARGETS:
        raise ConfigError(f"There are {len(tables)} [[overflow]] tables; at most {MAX_TARGETS} are taken.")
    targets = tuple(_Table(table, number).target(task_timeout_s) for number, table in enumerate(tables, 1))
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1 or name == "local":
            raise ConfigError(f"[[overflow]]: the name {name!r} is taken; each target needs its own.")
    return targets


def check_budgets(targets: Sequence[OverflowTarget], budgets: Mapping[str, float | None]) -> dict[str, float]:
    """Budgets by period, without those that are infinite; raises :class:`ConfigError` where money has no bound."""
    costs = [target.name for target in targets if target.price.per_call or target.price.per_second]
    if costs and all(budget is None for budget in budgets.values()):
        raise ConfigError(
            f"The overflow target {costs[0]!r} costs money, and there is no budget. Set overflow_budget_hour or "
            "overflow_budget_day (`unlimited` if you mean it); see docs/overflow.md."
        )
    return {period: budget for period, budget in budgets.items() if budget is not None and budget < math.inf}


_FIELDS = (
    *("name", "url", "function", "region", "endpoint", "auth", "token", "audience", "concurrency", "timeout", "links"),
    *("price_per_call", "price_per_second", "minimum_billed", "billing_step", "warm"),
)


class _Table:
    """One table, read field by field."""

    def __init__(self, table: Mapping[str, Any], number: int) -> None:
        self._table = table
        self._where = f"[[overflow]] number {number}"
        for name in table:
            if name not in _FIELDS:
                raise ConfigError(f"{self._where} has an unknown field {name!r}. It has: {', '.join(_FIELDS)}.")

    def target(self, task_timeout_s: float) -> OverflowTarget:
        name, url, function = self._text("name"), self._text("url"), self._text("function")
        if _NAME(name) is None:
            raise self._wrong("name", "1 to 40 small letters, digits and '-'")
        if bool(url) == bool(function):
            raise ConfigError(f"{self._where} ({name}) needs either `url` or `function`.")
        if url and _URL(url) is None:
            raise self._wrong("url", "an address such as https://pixelmill-abc.a.run.app")
        auth = self._text("auth") or "none"
        if auth not in ("none", "bearer", "google"):
            raise self._wrong("auth", "none, bearer or google")
        token = self._text("token")
        if (auth == "bearer") != bool(token):
            raise ConfigError(f'{self._where} ({name}): auth = "bearer" and `token` belong together.')
        if auth != "none" and not url.startswith("https://") and not _is_local(url):
            raise self._wrong("url", "an https address, for a token is sent there")
        timeout_s = self._number("timeout", 0.0, 0.0, 3_600.0) or None
        if timeout_s is not None and timeout_s < task_timeout_s + 1:
            raise self._wrong(
                "timeout", f"above the time limit of a task ({task_timeout_s:g} s); {GRACE_S:g} s above it is usual"
            )
        return OverflowTarget(
            name=name,
            url=url,
            function=function,
            region=self._text("region") or None,
            endpoint=self._text("endpoint") or None,
            auth=auth,  # type: ignore[arg-type]  # checked above
            token=token,
            audience=self._text("audience") or url,
            concurrency=int(self._number("concurrency", 10, 1, 1_000)),
            timeout_s=timeout_s,
            price=Price(
                self._number("price_per_call", 0.0, 0.0, 1_000.0),
                self._number("price_per_second", 0.0, 0.0, 1_000.0),
                self._number("minimum_billed", 0.0, 0.0, 3_600.0),
                self._number("billing_step", 0.001, 0.001, 3_600.0),
            ),
            links=self._boolean("links", default=True),
            warm=int(self._number("warm", 0, 0, 100)),
        )

    def _text(self, name: str) -> str:
        value = self._table.get(name, "")
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def _number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def _boolean(self, name: str, *, default: bool) -> bool:
        value = self._table.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def _wrong(self, name: str, format_: str) -> ConfigError:
        shown = "that value" if name == "token" else repr(self._table.get(name))
        return ConfigError(f"{self._where}: {name} = {shown[:200]} is not {format_}; see docs/overflow.md.")


def _is_local(url: str) -> bool:
    host = url.partition("://")[2].partition("/")[0].rpartition(":")[0] or url.partition("://")[2]
    return host in ("127.0.0.1", "localhost", "[::1]")
