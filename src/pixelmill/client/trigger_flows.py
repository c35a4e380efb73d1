"""The verbs of both clients about triggers, as flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pixelmill.client.effects import Flow, send
from pixelmill.client.flows import get_json, pipeline_json
from pixelmill.client.retry import RetryPolicy
from pixelmill.client.wire import Request, post_json, segment


def overview(policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """Rules, sources, and the state of the rules file."""
    found: Mapping[str, Any] = yield from get_json("/v1/triggers", policy)
    return found


def rule(name: str, policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """One rule."""
    found: Mapping[str, Any] = yield from get_json(f"/v1/triggers/{segment(name)}", policy)
    return found


def put_rule(name: str, fields: Mapping[str, Any], policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """Keep a rule; its pipeline may be text, JSON or a ``Pipeline``."""
    body = dict(fields)
    if "pipeline" in body:
        body["pipeline"] = pipeline_json(body["pipeline"])
    request = replace(post_json("", body), method="PUT", path=f"/v1/triggers/{segment(name)}")
    found: Mapping[str, Any] = (yield from send(request, policy)).json()
    return found


def delete_rule(name: str, policy: RetryPolicy) -> Flow[None]:
    """Forget a rule."""
    yield from send(Request("DELETE", f"/v1/triggers/{segment(name)}"), policy)


def trial(document: Any, policy: RetryPolicy) -> Flow[Mapping[str, Any]]:
    """What an event document would lead to."""
    found: Mapping[str, Any] = (yield from send(post_json("/v1/triggers/test", document), policy)).json()
    return found


def redrive(ids: Sequence[str], rule_name: str, policy: RetryPolicy, *, everything: bool) -> Flow[int]:
    """Give failed events another try; how many."""
    body: dict[str, Any] = {}
    if ids:
        body["ids"] = list(ids)
    if rule_name:
        body["rule"] = rule_name
    if everything:
        body["all"] = True
    # Sent twice it does nothing more: what waits again has not failed.
    return int((yield from send(post_json("/v1/triggers/redrive", body), policy)).json()["redriven"])
