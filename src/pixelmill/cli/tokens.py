"""`pixelmill tokens`: access tokens, made directly in the data folder's database; the service may run meanwhile."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pixelmill.cli.state import Globals
from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.jobs.tokens import Token, Tokens

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
DEFAULT_SCOPES = ("process", "jobs:read", "jobs:write")

DataOption = Annotated[str | None, typer.Option(help="The service's data folder.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for; shown in the list.")],
    owner: Annotated[str, typer.Option(help="Whose jobs the holder sees.")] = "local",
    scope: Annotated[
        list[str] | None, typer.Option(help="process, jobs:read, jobs:write, node or admin (repeatable).")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Time until it ends, such as 30d (default: never).")] = None,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Create a token and print its secret, once."""
    from pixelmill.api.auth import SCOPES

    scopes = tuple(scope or DEFAULT_SCOPES)
    for wanted in scopes:
        if wanted not in SCOPES:
            raise ConfigError(f"There is no scope {wanted!r}; scopes are {', '.join(SCOPES)}.")
    until = None if expires is None else time.time() + _lifetime(expires)
    token, secret = _with_tokens(context, data, lambda tokens: tokens.create(owner, name, scopes, until))
    if as_json:
        print(json.dumps({**_record(token), "secret": secret}))
        return
    print(secret)
    print(f"Token {token.id} for {owner}, scopes {', '.join(sorted(scopes))}. It is not shown again.", file=sys.stderr)


@app.command(name="list")
def list_(
    context: typer.Context,
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a token.")] = False,
) -> None:
    """List all tokens, revoked ones included; never their secrets."""
    found = _with_tokens(context, data, lambda tokens: tokens.list())
    if as_json:
        for token in found:
            print(json.dumps(_record(token)))
        return
    from pixelmill.cli.tables import print_table

    header = ("id", "name", "owner", "scopes", "created", "expires", "last used", "revoked")
    print_table(header, [tuple(value or "" for value in _record(token).values()) for token in found])


@app.command()
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id from the list.")],
    data: DataOption = None,
) -> None:
    """End a token. A running service stops taking it within half a minute."""
    _with_tokens(context, data, lambda tokens: tokens.revoke(token_id))
    print(f"Token {token_id} is revoked.", file=sys.stderr)


def _with_tokens(context: typer.Context, data: str | None, verb: Callable[[Tokens], Awaitable[T]]) -> T:
    options: Globals = context.obj
    settings = options.settings(data=data)
    return asyncio.run(in_database(settings["database_url"], settings["data"], verb))


async def in_database(url: str, folder: Path, verb: Callable[[Tokens], Awaitable[T]]) -> T:
    """What ``verb`` gives over the tokens of the service with that data folder, which is made if it isn't there."""
    from pixelmill.jobs.database import Database
    from pixelmill.jobs.tokens import Tokens
    from pixelmill.service.backends import database_url

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # noqa: ASYNC240 -- nothing else runs yet
    database = Database(database_url(url, folder), "NORMAL")
    await database.open()
    try:
        return await verb(Tokens(database))
    finally:
        await database.close()


def _lifetime(text: str) -> float:
    from pixelmill.config import KINDS

    try:
        seconds: float = KINDS["seconds"].parse(text)
    except ValueError as error:
        raise ConfigError(f"--expires {text!r} is not {KINDS['seconds'].format}.") from error
    return seconds


def _record(token: Token) -> dict[str, str | None]:
    return {
        "id": token.id,
        "name": token.name,
        "owner": token.owner,
        "scopes": " ".join(sorted(token.scopes)),
        "created": _moment(token.created),
        "expires": _moment(token.expires),
        "last_used": _moment(token.last_used),
        "revoked": _moment(token.revoked),
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
