"""Triggers: the rules that are in force with what they did, a dry run of events, dead letters and their redrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from pixelmill.api import body as bodies
from pixelmill.api.dto import failure_body, moment, page_body
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import CURSOR, LIMIT, Routes, content_of, parameter, path_id
from pixelmill.api.trigger_schemas import (
    RuleBody,
    RuleList,
    RuleRequest,
    TrialBody,
    TriggerEventList,
    TriggerRedriven,
    TriggerRedriveRequest,
)
from pixelmill.errors import ConfigError, NotFound, RequestError
from pixelmill.jobs.trigger_events import TriggerEvent
from pixelmill.triggers.book import rule_from_dict, rule_to_dict
from pixelmill.triggers.documents import read_events, with_headers
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.source_fields import shown_source
from pixelmill.triggers.trial import trial
from pixelmill.triggers.verbs import TriggerVerbs

MAX_PAGE = 1_000

routes = Routes("triggers")
_RULE = path_id("rule", "thumbnails")


class EventState(StrEnum):
    """What became of an event."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    FAILED = "failed"


_STATE = parameter(
    "state", "Only those in this state", {"type": "string", "enum": [state.value for state in EventState]}
)
_OF_RULE = parameter("rule", "Only those of this rule", {"type": "string"})


def _triggers(call: Call) -> TriggerVerbs:
    if call.edge.triggers is None:
        raise NotFound("This service has no triggers: it is a node, or runs inside another program.")
    return call.edge.triggers


def _rule(triggers: TriggerVerbs, name: str) -> Rule:
    found = triggers.rule_set().rules.get(name)
    if found is None:
        raise NotFound(f"There is no rule {name[:80]!r} in force. GET /v1/triggers lists all, and those refused.")
    return found


@routes.add("GET", "/v1/triggers", scope="admin", summary="List the rules of triggers", model=RuleList)
async def list_rules(call: Call) -> Response:
    """All rules that are in force, those of the rules file first, with counters; sources of events; the file's state.

    `refused` are rules of the API that can't stand beside the file's any more, with the reason. Secrets of sources are
    not shown.
    """
    triggers = _triggers(call)
    rule_set, state = triggers.rule_set(), await triggers.state()
    counters, sources = state.get("rules", {}), state.get("sources", {})
    known = {name: shown_source(spec) for name, spec in rule_set.sources.items()}
    return json_response(
        {
            "items": [rule_body(rule, counters.get(name, {})) for name, rule in rule_set.rules.items()],
            "next": None,
            "sources": [
                {**known.get(name, {"name": name, "kind": None, "options": {}}), **_source_state(sources.get(name, {}))}
                for name in {**known, **sources}
            ],
            "file": _file_body(state.get("file")),
            "refused": dict(state.get("refused", {})),
        }
    )


@routes.add(
    "GET",
    "/v1/triggers/dead-letters",
    scope="admin",
    summary="List events that failed",
    problems=(400, 404),
    model=TriggerEventList,
    parameters=(_OF_RULE, LIMIT, CURSOR),
)
async def list_trigger_dead_letters(call: Call) -> Response:
    """Events whose task failed, or whose result could not be delivered, newest first, until they are redriven."""
    return await _events(call, call.query("rule") or None, EventState.FAILED)


@routes.add(
    "GET",
    "/v1/triggers/{rule}",
    scope="admin",
    summary="Look at a rule",
    problems=(404,),
    model=RuleBody,
    parameters=(_RULE,),
)
async def get_rule(call: Call) -> Response:
    """With its counters."""
    triggers = _triggers(call)
    rule = _rule(triggers, call.path("rule"))
    return json_response(rule_body(rule, (await triggers.state()).get("rules", {}).get(rule.name, {})))


@routes.add(
    "PUT",
    "/v1/triggers/{rule}",
    scope="admin",
    summary="Keep a rule",
    problems=(400, 404, 413, 422),
    model=RuleBody,
    parameters=(_RULE,),
    body=content_of(RuleRequest),
)
async def put_rule(call: Call) -> Response:
    """In place of the one that had its name, unless that one stands in the rules file.

    It is in force when this returns. 422 for a field that can't be, a store that is not configured, a folder as output
    (which only the rules file may name), or a rule that would feed itself; the detail says what to change.
    """
    triggers, name = _triggers(call), call.path("rule")
    record = await _json(call)
    if not isinstance(record, Mapping):
        raise RequestError("The body must be a JSON object with the fields of a rule.")
    if record.get("name", name) != name:
        raise RequestError(
            f"The body names the rule {str(record['name'])[:80]!r}, the path {name[:80]!r}.", field="name"
        )
    try:
        rule = rule_from_dict({"owner": call.owner, **record, "name": name}, presets=call.edge.settings.presets)
        await triggers.put_rule(rule)
    except ConfigError as error:
        raise RequestError(error.detail, **{**error.context, "status": 422}) from error
    return json_response(rule_body(rule, (await triggers.state()).get("rules", {}).get(name, {})))


@routes.add(
    "DELETE",
    "/v1/triggers/{rule}",
    scope="admin",
    summary="Delete a rule",
    problems=(404, 409),
    status=204,
    parameters=(_RULE,),
)
async def delete_rule(call: Call) -> Response:
    """With what waits for it; results that are there stay. 409 for a rule of the rules file: remove it there."""
    try:
        await _triggers(call).remove_rule(call.path("rule"))
    except ConfigError as error:
        raise RequestError(error.detail, **{**error.context, "status": 409}) from error
    return Response(status_code=204)


@routes.add(
    "POST",
    "/v1/triggers/test",
    scope="admin",
    summary="Try an event document",
    problems=(400, 413),
    model=TrialBody,
    body={"application/json": {"schema": {}}, "application/cloudevents+json": {"schema": {}}},
)
async def try_event(call: Call) -> Response:
    """What the events in a document of any provider would lead to; nothing is run or recorded.

    For each event: the rules that match with pipeline and destination, and those of the same place that don't, with the
    reason. Sizes in names are those of a result from 1200×800 pixels. At most 100 events of a document are tried.
    """
    triggers = _triggers(call)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.request.scope["headers"]}
    document = with_headers(headers, await _json(call))
    parsed = await asyncio.to_thread(read_events, document)
    return json_response(await asyncio.to_thread(trial, triggers.rule_set(), parsed))


@routes.add(
    "GET",
    "/v1/triggers/{rule}/events",
    scope="admin",
    summary="List the events of a rule",
    problems=(400, 404),
    model=TriggerEventList,
    parameters=(_RULE, _STATE, LIMIT, CURSOR),
)
async def list_trigger_events(call: Call) -> Response:
    """What became of the objects that the rule matched, newest first; kept for two weeks at least."""
    return await _events(call, call.path("rule"), call.choice("state", EventState))


@routes.add(
    "POST",
    "/v1/triggers/redrive",
    scope="admin",
    summary="Give failed events another try",
    problems=(400, 404, 413, 422),
    model=TriggerRedriven,
    body=content_of(TriggerRedriveRequest),
)
async def redrive_triggers(call: Call) -> Response:
    """These `ids`, or all of a `rule`, or `all`: one of the three. What has not failed (any more) is left alone."""
    wanted = await call.json(TriggerRedriveRequest)
    if [bool(wanted.ids), bool(wanted.rule), wanted.all].count(True) != 1:
        raise RequestError("Name ids, or a rule, or all: true; one of them, for it says what is to run again.")
    return json_response({"redriven": await _triggers(call).redrive(wanted.rule or None, wanted.ids)})


async def _json(call: Call) -> Any:
    settings = call.edge.settings
    return await bodies.read_json(call.request, settings.max_json, settings.idle_s, call.edge.budget)


async def _events(call: Call, rule: str | None, state: EventState | None) -> Response:
    page = await _triggers(call).events(
        rule,
        state=None if state is None else state.value,
        limit=call.number("limit", 50, 1, MAX_PAGE),
        cursor=call.query("cursor") or None,
    )
    return json_response(page_body(page, event_body))


def rule_body(rule: Rule, counters: Mapping[str, Any]) -> dict[str, Any]:
    """A rule with its counters."""
    here = f"/v1/triggers/{quote(rule.name)}"
    return {
        **rule_to_dict(rule),
        "origin": rule.origin,
        "counters": dict(counters),
        "links": {"self": here, "events": f"{here}/events"},
    }


def _source_state(state: Mapping[str, Any]) -> dict[str, Any]:
    counters = {name: value for name, value in state.items() if name not in {"kind", "error"}}
    return {"error": state.get("error"), "counters": counters}


def _file_body(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if state is None:
        return None
    error = state.get("error")
    return {
        "path": state.get("path"),
        "read": moment(state.get("read")),
        "error": None if error is None else failure_body(error),
    }


def event_body(event: TriggerEvent) -> dict[str, Any]:
    """What became of an event."""
    return {
        "id": event.id,
        "rule": event.rule,
        "state": event.state,
        "uri": event.uri,
        "version": event.version,
        "size": event.size,
        "at": moment(event.at),
        "received": moment(event.received),
        "source": event.source,
        "chain": list(event.chain),
        "job": event.job,
        "task": event.task,
        "destination": event.destination,
        "attempts": event.attempts,
        "error": None if event.error is None else failure_body(event.error),
        "ended": moment(event.ended),
    }
