"""Settings: one explicit table, read once at the edges from flags, then variables, then ``pixelmill.toml``.

Owns the names, formats, defaults and sources of all settings, and hands out plain frozen values. It knows nothing of
what the values are used for: ``cli/settings.py`` turns them into the records that the service and the server take.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pixelmill.errors import ConfigError
from pixelmill.storage.options import StoreSpec, shown_options

PREFIX = "PIXELMILL_"
FILE_NAME = "pixelmill.toml"
# Read by the project's own test suite, never by the program.
TEST_PREFIX = "PIXELMILL_TEST_"
HELP_PAGE = "docs/configuration.md"
PRESETS = "presets"
"""The one table of the file that is no setting: it has neither flag nor variable."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``kind`` names its parser in ``KINDS``; ``low`` and ``high`` bound numbers, both included.

    ``flag`` is its own option where commands have one; every setting is also reached by ``--set NAME=VALUE``.
    A ``secret`` is never printed.
    """

    name: str
    kind: str
    default: Any
    doc: str
    flag: str = ""
    low: float = 0
    high: float = math.inf
    choices: tuple[str, ...] = ()
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()

    @property
    def format(self) -> str:
        """What a value must look like, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        text = KINDS[self.kind].format
        if self.kind not in NUMBERS:
            return text
        shown = KINDS[self.kind].show
        if self.high < math.inf:
            return f"{text}, from {shown(self.low)} to {shown(self.high)}"
        return f"{text}, at least {shown(self.low)}"

    def show(self, value: Any) -> str:
        """The value in the form that would be written in a file; a secret as asterisks."""
        if self.secret and value:
            return "***"
        return KINDS[self.kind].show(value)


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a setting are read and shown. ``parse`` raises ValueError."""

    format: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str]


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|m|h|d)?\s*", text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _DURATIONS[match[2] or "s"]


def _show_seconds(value: float) -> str:
    for unit in ("d", "h", "m"):
        if value and value % _DURATIONS[unit] == 0 and value > _DURATIONS[unit]:
            return f"{value / _DURATIONS[unit]:g}{unit}"
    return f"{value:g}s"


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError(text)
    return int(float(match[1]) * _SIZES[match[2].upper()])


def _show_bytes(value: float) -> str:
    for unit in ("GB", "MB", "KB"):
        if value and value % _SIZES[unit] == 0:
            return f"{value / _SIZES[unit]:g}{unit}"
    return f"{value:g}"


def _boolean(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError(text)
    return Path(text).expanduser()


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part) for part in text.split(os.pathsep) if part.strip())


def _amount(text: str) -> float | None:
    """Money; None where it is not said, infinity where it is said that there is no limit."""
    if not text.strip():
        return None
    value = math.inf if text.strip().lower() == "unlimited" else float(text.replace("_", ""))
    if not value >= 0 or (value == math.inf and text.strip().lower() != "unlimited"):
        raise ValueError(text)
    return value


def _show_amount(value: float | None) -> str:
    return "" if value is None else "unlimited" if value == math.inf else f"{value:g}"


def _patience(text: str) -> float | None:
    """A time, or None for never."""
    return None if text.strip().lower() == "never" else _seconds(text)


def _show_patience(value: float | None) -> str:
    return "never" if value is None else _show_seconds(value)


def _tables(text: str) -> tuple[Mapping[str, Any], ...]:
    """JSON objects of plain values. What may stand in them is decided by who uses them."""
    found = json.loads(text) if text.strip() else []
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise ValueError(text)
    return tuple(MappingProxyType(table) for table in found)


def _show_tables(tables: Iterable[Mapping[str, Any]]) -> str:
    """As JSON, with secret members as asterisks."""
    shown = [{name: "***" if name in SECRET_MEMBERS else value for name, value in table.items()} for table in tables]
    return json.dumps(shown) if shown else ""


SECRET_MEMBERS = frozenset({"token"})
"""Members of tables that are never printed."""


def _options(text: str) -> Mapping[str, str]:
    """A flat object of names and values, as text."""
    found = json.loads(text) if text.strip() else {}
    if not isinstance(found, dict) or any(isinstance(value, dict | list) for value in found.values()):
        raise ValueError(text)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


def _stores(text: str) -> Mapping[str, StoreSpec]:
    """Stores by name: each an address, or an object with its ``uri`` and options."""
    found = json.loads(text) if text.strip() else {}
    if not isinstance(found, dict):
        raise ValueError(text)  # noqa: TRY004 -- what parsers raise
    stores: dict[str, StoreSpec] = {}
    for name, value in found.items():
        options = dict(_options(json.dumps(value))) if isinstance(value, dict) else {"uri": str(value)}
        uri = options.pop("uri", "")
        if not uri:
            raise ValueError(text)
        stores[name] = StoreSpec(uri, MappingProxyType(options))
    return stores


def _show_stores(stores: Mapping[str, StoreSpec]) -> str:
    return json.dumps({name: {"uri": spec.uri, **shown_options(spec.options)} for name, spec in stores.items()})


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "integer": Kind("a whole number", lambda text: int(text.replace("_", "")), str),
        "seconds": Kind("a time such as 90, 90s, 5m, 24h or 7d", _seconds, _show_seconds),
        "bytes": Kind("a size such as 1000000, 100MB, 2GB or 512MiB", _bytes, _show_bytes),
        "boolean": Kind("true or false", _boolean, lambda value: str(value).lower()),
        "text": Kind("text", str, str),
        "url": Kind("an address", str, lambda value: re.sub(r"(://[^:/@]*:)[^@/]*@", r"\1***@", value)),
        "path": Kind("a path", _path, str),
        "paths": Kind("folders parted by ':' (a list in the file)", _paths, lambda value: _joined("paths", value)),
        "amount": Kind("an amount of money such as 0.5, or unlimited", _amount, _show_amount),
        "patience": Kind("a time such as 90s or 5m, or never", _patience, _show_patience),
        "tables": Kind("a JSON list of objects (a list of tables in the file)", _tables, _show_tables),
        "names": Kind("names parted by ',' (a list in the file)", _names, lambda value: _joined("names", value)),
        "options": Kind("a table of options (JSON in a variable)", _options, lambda v: json.dumps(shown_options(v))),
        "stores": Kind("tables of stores by name (JSON in a variable)", _stores, _show_stores),
    }
)
LISTS = frozenset({"paths", "names", "tables"})
TABLES = frozenset({"options", "stores"})
"""Tables of the file, or JSON; their values may be secrets, and are never part of a message."""
NUMBERS = frozenset({"integer", "seconds", "bytes"})


def _joined(kind: str, parts: Iterable[Any]) -> str:
    if kind == "tables":
        return json.dumps(list(parts), default=str)
    return (os.pathsep if kind == "paths" else ",").join(map(str, parts))


def _data_folder(environ: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification puts a program's data."""
    base = environ.get("XDG_DATA_HOME", "")
    # The specification says that a relative path is to be ignored.
    root = Path(base) if base.startswith("/") else Path("~/.local/share").expanduser()
    return root / "pixelmill"


TABLE: tuple[Setting, ...] = (
    # Where the service listens, and what it says.
    Setting("host", "text", "127.0.0.1", "Address to listen on. Any other than loopback needs tokens.", "--host"),
    Setting("port", "integer", 8080, "Port to listen on; 0 takes a free one.", "--port", high=65535),
    Setting("insecure", "boolean", False, "Serve other addresses than loopback without tokens.", "--insecure"),
    Setting("require_tokens", "boolean", False, "Ask for tokens on loopback too (behind a reverse proxy)."),
    Setting("allowed_hosts", "names", (), "Host names, besides loopback, that requests without a token may use."),
    Setting(
        "trusted_proxies",
        "names",
        ("127.0.0.1", "::1"),
        "Addresses of reverse proxies whose `X-Forwarded-Proto` and `X-Forwarded-For` are believed.",
    ),
    Setting(
        "log_level",
        "text",
        "info",
        "Least severe messages that are logged.",
        "--log-level",
        choices=("debug", "info", "warning", "error"),
    ),
    Setting(
        "log_format",
        "text",
        "auto",
        "`console` for people, `json` for machines; `auto` is console on a terminal, else JSON.",
        "--log-format",
        choices=("auto", "console", "json"),
    ),
    Setting(
        "otel_endpoint",
        "url",
        "",
        "Collector that gets traces and metrics by OTLP over HTTP, such as `http://collector:4318`; empty: that of "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, or none. See tracing.md.",
    ),
    Setting("trace_sample", "integer", 100, "Percent of new traces that are kept.", high=100),
    # What is kept, and where.
    Setting(
        "data",
        "path",
        None,
        "Folder of database and objects (default: `pixelmill` in `$XDG_DATA_HOME` or `~/.local/share`).",
        "--data",
    ),
    Setting(
        "source_roots",
        "paths",
        (),
        "Folders whose files jobs may name as `file://` sources; none by default.",
        "--source-root",
    ),
    Setting(
        "store",
        "text",
        "",
        "Where inputs and results lie: a folder (default: `objects` in the data folder), `s3://BUCKET/PREFIX`, "
        "`gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, or `memory:` (for tests). See stores.md.",
        "--store",
    ),
    Setting("store_options", "options", MappingProxyType({}), "Endpoint, region and credentials of `store`."),
    Setting(
        "stores",
        "stores",
        MappingProxyType({}),
        "Buckets that jobs may name as sources: by name, each with its `uri` (bucket and prefix) and options.",
    ),
    Setting(
        "triggers",
        "path",
        None,
        "File of trigger rules, TOML or YAML; read again when it changes. See triggers.md.",
        "--triggers",
    ),
    Setting(
        "link_keys",
        "text",
        "",
        "Keys of the links that the service signs itself: `ID:SECRET,…`, the first one signs. Empty: made and kept in "
        "the data folder.",
        secret=True,
    ),
    Setting("fonts", "path", None, "Folder of font files that the service's pipelines may name; none by default."),
    Setting(
        "models", "path", None, "Folder of the weights of learned operations (default: `models` in the data folder)."
    ),
    Setting("offline", "boolean", False, "Never fetch weights over the network: `pixelmill models pull` is refused."),
    Setting("upload_ttl", "seconds", 24 * 3600.0, "How long an unused upload is kept.", low=1),
    Setting("retention", "seconds", 7 * 24 * 3600.0, "How long an ended job and its results are kept.", low=1),
    Setting(
        "synchronous",
        "text",
        "NORMAL",
        "SQLite's durability: NORMAL survives a crash of the program, FULL also a loss of power.",
        choices=("NORMAL", "FULL"),
    ),
    Setting(
        "redis_url",
        "text",
        "",
        "Redis of a fleet: `redis://:PASSWORD@HOST:6379/0`; carries task events, news and nodes between services.",
        secret=True,
    ),
    Setting(
        "redis_prefix",
        "text",
        "pixelmill",
        "Begins every key and channel in Redis. Installations that share a database of Redis each need their own.",
    ),
    Setting("webhook_allow_private", "boolean", False, "Send webhooks to private and loopback addresses too."),
    Setting(
        "database_url",
        "text",
        "",
        "Database of jobs and state: `postgresql://USER:PASSWORD@HOST/DATABASE`; empty is SQLite in the data folder.",
        secret=True,
    ),
    # Where work waits, and who takes it.
    Setting(
        "queue_url",
        "url",
        "sql:",
        "Queue of tasks: `sql:` (in the database), `azure:PREFIX`, `azure://HOST/PREFIX`, `sqs:PREFIX`, or RabbitMQ: "
        "`amqp://USER:PASSWORD@HOST/VHOST`.",
        "--queue",
    ),
    Setting("azure_connection", "text", "", "Connection string of the account of Azure queues.", secret=True),
    Setting(
        "events_url",
        "text",
        "",
        "Where workers without a database send events: `redis:` (the default with `redis_url`), or `queue:`, beside "
        "the tasks.",
        "--events",
    ),
    Setting("local_work", "boolean", True, "Run queued tasks in the service too; false leaves them to workers."),
    Setting("lease", "seconds", 60.0, "How long a task stays with a worker that died.", low=1, high=43_200),
    Setting(
        "metrics_port", "integer", 0, "Loopback port of a worker's metrics; 0 is none.", "--metrics-port", high=65535
    ),
    # How work is run.
    Setting("workers", "integer", 0, "Pool processes for batch work; 0 is one a core.", "--workers", high=1024),
    Setting("timeout", "seconds", 60.0, "Hard time limit of a task.", "--timeout", low=0.001),
    Setting("memory", "bytes", 10**9, "Memory limit of a pool process.", low=10**8),
    Setting("recycle_after", "integer", 1_000, "Tasks after which a pool process is replaced.", low=1),
    Setting("max_attempts", "integer", 3, "Attempts of a task that is lost with its process.", low=1, high=100),
    Setting("interactive_wait", "seconds", 10.0, "How long a synchronous request waits for a free slot."),
    Setting("drain", "seconds", 30.0, "How long running tasks may take to end when the service stops."),
    # Where work is run.
    Setting(
        "gate", "text", "auto", "When this machine takes tasks: auto, threshold[-CPU[-RAM]], lowest-cpu-CPU.", "--gate"
    ),
    Setting("joined_gate", "text", "threshold", "The gate of joined nodes that ask for none."),
    Setting("join", "text", "", "Hub that `pixelmill node` joins.", "--join"),
    Setting("node_name", "text", "", "Name of this node (default: the host's).", "--name"),
    # When and where work goes to machines that cost money.
    Setting("overflow", "tables", (), "Machines that cost money, and take what our own can't: see docs/overflow.md."),
    Setting(
        "overflow_order",
        "text",
        "price",
        "Which of several overflow targets is taken first: the cheapest, or the fastest as measured.",
        choices=("price", "speed"),
    ),
    Setting("overflow_budget_hour", "amount", None, "Most that overflow may cost in a clock hour (UTC)."),
    Setting("overflow_budget_day", "amount", None, "Most that overflow may cost in a day (UTC)."),
    Setting("overflow_after_interactive", "patience", 1.0, "Interactive work that waited longer may overflow."),
    Setting("overflow_after_normal", "patience", 30.0, "Normal work that waited longer may overflow."),
    Setting("overflow_after_batch", "patience", None, "Batch work that waited longer may overflow."),
    Setting("link_hosts", "names", (), "Hosts whose links `POST /v1/process` may read from and write to."),
    Setting("link_private", "boolean", False, "Let such links be plain HTTP, and at private addresses."),
    # What is refused.
    Setting("max_bytes", "bytes", 10**8, "Largest image file.", low=1),
    Setting("max_pixels", "integer", 10**8, "Most pixels of an image, all frames counted.", low=1),
    Setting("max_side", "integer", 16_384, "Longest side of an image, in pixels.", low=1),
    # Images that are too large to be held whole.
    Setting("tiled_max_pixels", "integer", 40 * 10**9, "Most pixels of an image that is run in tiles.", low=1),
    Setting("tiled_max_side", "integer", 10**6, "Longest side of an image that is run in tiles.", low=1),
    Setting("tiled_memory", "bytes", 2 * 10**9, "Memory of all processes of a run in tiles together.", low=10**8),
    Setting("scratch", "path", None, "Folder where runs in tiles keep what they have written (default: in `data`)."),
    Setting("scratch_bytes", "bytes", 10**11, "Most bytes in that folder.", low=10**6),
    Setting("max_waiting", "integer", 10_000, "Most synchronous requests that wait for a slot.", low=1),
    Setting("max_queued", "integer", 5_000_000, "Most tasks that wait in the queue, all owners together.", low=1),
    # How the client commands reach a service.
    Setting("url", "text", "http://127.0.0.1:8080", "Service that `pixelmill jobs` talks to.", "--url"),
    Setting(
        "token",
        "text",
        "",
        "Token that `jobs` and `node --join` show, and that `node` alone asks for.",
        "--token",
        secret=True,
    ),
)
SETTINGS: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in TABLE})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their values, and the source that each value came from, in words.

    ``presets`` are the user's, name to text form as the file has them; what they say is checked where they are used.
    ``file`` is the configuration file that was read.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    presets: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    file: Path | None = None,
    folder: Path | None = None,
) -> Settings:
    """Read every setting: ``flags`` (None means not given), then ``environ``, then the file, then the default.

    ``file`` must exist where it is named; else ``pixelmill.toml`` in ``folder`` is read if it is there. Raises
    :class:`ConfigError` for a wrong value, an unknown name, or a file that can't be read.
    """
    path = file if file is not None else _found(folder)
    table = _read(path) if path is not None else {}
    presets = _presets(table.pop(PRESETS, {}), path)
    _refuse_unknown(table, SETTINGS, f"{path}: unknown setting")
    variables = {name: text for name, text in environ.items() if _is_ours(name)}
    known = {setting.variable: setting for setting in TABLE}
    _refuse_unknown(variables, known, "Unknown environment variable")
    _refuse_unknown(flags, SETTINGS, "Unknown setting")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in TABLE:
        raw: Any
        if flags.get(setting.name) is not None:
            raw, source = flags[setting.name], f"flag {setting.flag or '--set'}"
        elif setting.variable in variables:
            raw, source = variables[setting.variable], f"variable {setting.variable}"
        elif setting.name in table:
            raw, source = table[setting.name], f"file {path}"
        else:
            values[setting.name] = _data_folder(environ) if setting.name == "data" else setting.default
            sources[setting.name] = "default"
            continue
        values[setting.name] = parse(setting, raw, source)
        sources[setting.name] = source
    return Settings(MappingProxyType(values), MappingProxyType(sources), MappingProxyType(presets), path)


def _presets(table: Any, path: Path | None) -> dict[str, str]:
    """The file's table of presets; raises :class:`ConfigError` unless it has names and texts."""
    if not isinstance(table, dict):
        raise ConfigError(f'{path}: [{PRESETS}] must be a table of lines such as small = "resize:320/format:webp".')
    for name, form in table.items():
        if not isinstance(form, str):
            raise ConfigError(
                f'{path}: the preset {name} must be text in quotes, such as small = "resize:320/format:webp".',
                setting=PRESETS,
            )
    return dict(table)


def parse(setting: Setting, raw: Any, source: str) -> Any:
    """Turn what was written into the setting's value; raises :class:`ConfigError`."""
    if isinstance(raw, (list, tuple)) and setting.kind in LISTS:
        text = _joined(setting.kind, raw)
    elif isinstance(raw, dict) and setting.kind in TABLES:
        text = json.dumps(raw, default=str)
    elif isinstance(raw, bool):
        text = str(raw).lower()
    else:
        text = str(raw)
    try:
        return _checked(setting, raw, text)
    except (ValueError, OverflowError) as error:
        secret = setting.secret or setting.kind == "tables" or setting.kind in TABLES
        shown = "that value" if secret else repr(text)
        raise ConfigError(
            f"{setting.name}: {shown} ({source}) is not {setting.format}. {_how_to_set(setting)}",
            setting=setting.name,
            source=source,
        ) from error


def _checked(setting: Setting, raw: Any, text: str) -> Any:
    if isinstance(raw, (dict, list)) and setting.kind not in LISTS | TABLES:
        raise ValueError(text)
    value = KINDS[setting.kind].parse(text)
    in_bounds = setting.kind not in NUMBERS or (setting.low <= value <= setting.high and value < math.inf)
    if not in_bounds or (setting.choices and value not in setting.choices):
        raise ValueError(text)
    return value


def _how_to_set(setting: Setting) -> str:
    flag = setting.flag or f"--set {setting.name}=…"
    return f"Set it with {flag}, {setting.variable}, or `{setting.name}` in {FILE_NAME}; see {HELP_PAGE}."


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts of ``--set`` as flags; raises :class:`ConfigError`."""
    flags: dict[str, str] = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"--set {text!r} is not of the form NAME=VALUE, such as --set max_bytes=200MB.")
        flags[name.strip().replace("-", "_")] = value
    return flags


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not name.startswith(TEST_PREFIX)


def _found(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    path = folder / FILE_NAME
    return path if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {path} can't be read: {error.strerror}. Check --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error


def _refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"{what} {name!r}.{hint} All settings are in {HELP_PAGE}.", setting=name)
