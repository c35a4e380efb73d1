"""Which options a store has, by the scheme of its address, and which of them may be shown. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "access_key_id": "access_key_id",
        "secret_access_key": "secret_access_key",
        "session_token": "session_token",
        "path_style": "",
        "anonymous": "skip_signature",
    },
    "gs": {
        "endpoint": "base_url",
        "service_account": "service_account",
        "service_account_key": "service_account_key",
        "anonymous": "skip_signature",
    },
    "az": {
        "endpoint": "endpoint",
        "account": "account_name",
        "account_key": "account_key",
        "sas_token": "sas_token",
        "tenant_id": "tenant_id",
        "client_id": "client_id",
        "client_secret": "client_secret",
        "use_azure_cli": "use_azure_cli",
        "anonymous": "skip_signature",
    },
}
"""Our option names, and obstore's, by scheme."""
BOOLEANS = frozenset({"path_style", "anonymous", "use_azure_cli"})
SHOWN = frozenset({"endpoint", "region", "account", "path_style", "anonymous", "use_azure_cli", "service_account"})
"""Options whose values may be printed; all others are secrets."""


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Where a store is, and how to reach it. ``options`` may hold secrets and are not in the repr."""

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)


def shown_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options for people: secrets as asterisks."""
    return {name: str(value) if name in SHOWN else "***" for name, value in options.items()}
