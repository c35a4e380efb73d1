"""`pixelmill triggers`: rules of a file or of a running service, dry runs, and what became of events."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.cli.jobs import LONGEST_LIST, TokenOption, UrlOption, connected
from pixelmill.cli.state import Globals
from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.client import TriggerEvent
    from pixelmill.triggers.rule import RuleSet

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="RULE", help="Name of the rule.")]
LimitOption = Annotated[int, typer.Option(help="Most to list.", min=1)]
AssignmentsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
]
MAX_DOCUMENT = 4_000_000
"""Bytes of an event document or of a rule."""


@app.command(name="list")
def list_(
    context: typer.Context, as_json: JsonOption = False, url: UrlOption = None, token: TokenOption = None
) -> None:
    """List the rules of a service with what they did, its sources of events, and how its rules file is."""
    from pixelmill.cli.tables import print_table

    with connected(context, url, token) as client:
        found = client.triggers()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print_table(
        ("rule", "of", "watches", "writes to", "accepted", "delivered", "waiting", "dead"),
        (
            (
                rule["name"] if rule["enabled"] else f"{rule['name']} (off)",
                rule["origin"],
                rule["watch"],
                rule["output"],
                *_counts(rule["counters"], "accepted", "delivered"),
                rule["counters"].get("waiting", 0) + rule["counters"].get("submitted", 0),
                rule["counters"].get("dead", 0),
            )
            for rule in found["items"]
        ),
    )
    if found["sources"]:
        print_table(
            ("source", "kind", "accepted", "duplicate", "unmatched", "state"),
            (
                (
                    source["name"],
                    source["kind"] or "gone",
                    *_counts(source["counters"], "accepted", "duplicate", "unmatched"),
                    source["error"] or "runs",
                )
                for source in found["sources"]
            ),
        )
    for name, reason in found["refused"].items():
        print(f"{name} is not in force: {reason}")
    file = found["file"]
    if file is not None and file["error"]:
        print(f"{file['path']} can't be used, and the rules before it stay in force: {file['error']['detail']}")


def _counts(counters: Mapping[str, int], *names: str) -> tuple[int, ...]:
    return tuple(counters.get(name, 0) for name in names)


@app.command()
def show(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Show a rule of a service, and its counters."""
    with connected(context, url, token) as client:
        rule = client.trigger(name)
    if as_json:
        print(json.dumps(rule, indent=2))
        return
    counters = ", ".join(f"{number:,} {what}" for what, number in rule["counters"].items() if number)
    print(f"{rule['name']}  {'on' if rule['enabled'] else 'off'}  {counters or 'no events yet'}")
    for field, value in rule.items():
        if field not in {"name", "enabled", "counters", "links"} and value not in (None, "", [], {}, 0):
            print(f"  {field:13}  {_said(value)}")


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={inner}" for key, inner in value.items() if inner is not None) or "the service's own"
    return ", ".join(value) if isinstance(value, list) else str(value)


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rules file, TOML or YAML.")],
    assignments: AssignmentsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a rules file against the settings here, without a service. Exit code 2 where it can't be used."""
    from pixelmill.triggers.rule_fields import rule_to_dict
    from pixelmill.triggers.source_fields import shown_source

    found = _read(context, file, assignments or (), reach=True)
    if as_json:
        rules = [rule_to_dict(rule) for rule in found.rules.values()]
        print(json.dumps({"rules": rules, "sources": [shown_source(one) for one in found.sources.values()]}, indent=2))
        return
    from pixelmill.cli.tables import print_table
    from pixelmill.pipelines.lacks import lacks_of
    from pixelmill.pipelines.spec import Pipeline

    rows = found.rules.values()
    print_table(
        ("rule", "watches", "pipeline", "writes to"), ((one.name, one.watch, one.pipeline, one.output) for one in rows)
    )
    for rule in rows:
        for lack in lacks_of(Pipeline.parse(rule.pipeline)):
            print(f"{rule.name}: {lack.what}{f': {lack.command}' if lack.command else ''}", file=sys.stderr)
    print(f"{file} is fine: {len(found.rules):,} rules, {len(found.sources):,} sources, no loops.", file=sys.stderr)


def _read(context: typer.Context, file: Path, assignments: Iterable[str], *, reach: bool) -> RuleSet:
    from pixelmill.cli.settings import presets
    from pixelmill.triggers.book import load_rules
    from pixelmill.triggers.reach import check_stores

    options: Globals = context.obj
    settings = options.settings(assignments)
    found = load_rules(file, presets=presets(settings))
    if reach:
        check_stores(found, settings["stores"], settings["source_roots"])
    return found


@app.command(name="test")
def try_(
    context: typer.Context,
    event: Annotated[Path, typer.Argument(metavar="EVENT", help="Event document of any provider; - for stdin.")],
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Try this rules file here, without a service.")
    ] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Say which rules an event document would run, and what their results would be called; nothing is run.

    Exit code 1 where no rule matches any of its events.
    """
    document = _document(event)
    if rules is not None:
        from pixelmill.triggers.documents import read_events
        from pixelmill.triggers.trial import trial

        found: Mapping[str, Any] = trial(_read(context, rules, (), reach=False), read_events(document))
    else:
        with connected(context, url, token) as client:
            found = client.test_trigger(document)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show_trial(found)
    if not any(verdict["matches"] for tried in found["events"] for verdict in tried["rules"]):
        raise typer.Exit(1)


def _document(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}.") from error


def _bytes(path: Path) -> bytes:
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            found = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
    if len(found) > MAX_DOCUMENT:
        raise ConfigError(f"{path} has more than {MAX_DOCUMENT:,} bytes.")
    return found


def _show_trial(found: Mapping[str, Any]) -> None:
    from pixelmill.cli.tables import plain

    for tried in found["events"]:
        size = "" if tried["size"] is None else f", {tried['size']:,} bytes"
        print(plain(f"{tried['uri']}  ({tried['kind']}{size}, {tried['provider'] or 'unknown provider'})"))
        for remark in tried["remarks"]:
            print(plain(f"  {remark}"))
        for verdict in tried["rules"]:
            if not verdict["matches"]:
                print(plain(f"  {verdict['rule']}: no. {verdict['why_not']}"))
                continue
            print(plain(f"  {verdict['rule']}: {verdict['pipeline']}"))
            print(plain(f"    → {verdict['destination'] or verdict['error']}"))
            if verdict["leads_to"]:
                print(plain(f"    which is taken by {', '.join(verdict['leads_to'])}"))
        if tried["others"]:
            print(f"  {tried['others']:,} rules watch other places")
    for part in found["unread"]:
        print(plain(f"not an event ({part['reason']}): {part['detail']}"))
    if found["left_out"]:
        print(f"{found['left_out']:,} more events are not tried")
    if not found["events"]:
        print("There is no event in the document.")


@app.command()
def events(
    context: typer.Context,
    name: NameArgument,
    state: Annotated[str | None, typer.Option(help="waiting, submitted, delivered, superseded or failed.")] = None,
    limit: LimitOption = LONGEST_LIST,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """List what became of the objects that a rule matched, newest first."""
    from itertools import islice

    with connected(context, url, token) as client:
        _show_events(islice(client.trigger_events(name, state=state), limit), as_json=as_json)


@app.command()
def dead(
    context: typer.Context,
    rule: Annotated[str | None, typer.Option(metavar="RULE", help="Only those of this rule.")] = None,
    limit: LimitOption = LONGEST_LIST,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """List events that failed, with the reason, newest first."""
    from itertools import islice

    with connected(context, url, token) as client:
        _show_events(islice(client.trigger_dead_letters(rule), limit), as_json=as_json)


def _show_events(found: Iterable[TriggerEvent], *, as_json: bool) -> None:
    if as_json:
        for event in found:
            print(json.dumps(asdict(event)))
        return
    from pixelmill.cli.tables import print_table

    print_table(
        ("event", "rule", "state", "object", "received", "result, or why not"),
        ((one.id, one.rule, one.state, one.uri, one.received or "", _end(one)) for one in found),
    )


def _end(event: TriggerEvent) -> str:
    return str((event.error or {}).get("detail") or event.destination or "")


@app.command()
def redrive(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(metavar="EVENT...", help="Ids of events.")] = None,
    rule: Annotated[str, typer.Option(metavar="RULE", help="All that failed of this rule.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All that failed.")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Give events that failed another try. Exit code 1 where there was none."""
    if [bool(ids), bool(rule), everything].count(True) != 1:
        raise ConfigError("Name events, or --rule RULE, or --all: that says what is to run again.")
    with connected(context, url, token) as client:
        count = client.redrive_triggers(ids or (), rule=rule, everything=everything)
    print(f"{count:,} get another try")
    if not count:
        raise typer.Exit(1)


@app.command()
def put(
    context: typer.Context,
    name: NameArgument,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON with the rule's fields; - for stdin.")] = None,
    watch: Annotated[str | None, typer.Option(help="Address that the objects' begin with.")] = None,
    pipeline: Annotated[str | None, typer.Option(help="Text form of the pipeline.")] = None,
    output: Annotated[str | None, typer.Option(help="Address of results, such as s3://out/{stem}.{ext}.")] = None,
    suffix: Annotated[list[str] | None, typer.Option(help="Suffix of names; may be given again.")] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Keep a rule in a service, in place of the one that had its name. Options take the place of the file's fields."""
    fields = _document(file) if file is not None else {}
    if not isinstance(fields, dict):
        raise ConfigError(f"{file} must hold a JSON object with the fields of a rule.")
    given = {"watch": watch, "pipeline": pipeline, "output": output, "suffixes": suffix}
    fields |= {field: value for field, value in given.items() if value}
    for answered in ("name", "origin", "counters", "links"):  # what `show --json` says beside the fields
        fields.pop(answered, None)
    with connected(context, url, token) as client:
        rule = client.put_trigger(name, **fields)
    print(json.dumps(rule, indent=2) if as_json else f"{name} is in force: {rule['watch']} → {rule['output']}")


@app.command()
def remove(context: typer.Context, name: NameArgument, url: UrlOption = None, token: TokenOption = None) -> None:
    """Forget a rule of a service with what waits for it; one of the rules file is removed there."""
    with connected(context, url, token) as client:
        client.delete_trigger(name)
    print(f"The rule {name} is removed.", file=sys.stderr)
