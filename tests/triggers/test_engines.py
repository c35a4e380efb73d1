"""Events come to their results through every engine, and limits of a rule hold there."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from buckets import ACCESS_KEY, SECRET_KEY, s3_bucket
from trigger_rig import created, rig, rule_text, store_of

from servers import Azurite, Moto

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sql", "sqs", "azure", "rabbitmq"])
def engine(request: pytest.FixtureRequest, moto_server: Moto, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The settings of a service on each kind of queue."""
    prefix = f"t{secrets.token_hex(4)}"
    if request.param == "sqs":
        region = "us-east-1"
        variables = {"AWS_ENDPOINT_URL_SQS": moto_server.url, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
        variables |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return {"queue_url": f"sqs:{prefix}"}
    if request.param == "azure":
        azurite: Azurite = request.getfixturevalue("azurite_server")
        return {"queue_url": f"azure:{prefix}", "azure_connection": azurite.connection_string}
    if request.param == "rabbitmq":
        return {"queue_url": request.getfixturevalue("rabbitmq_url")}
    return {}


async def test_events_are_delivered_and_limits_hold(
    tmp_path: Path, moto_server: Moto, pictures: list[bytes], engine: dict[str, object]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    for number, picture in enumerate(pictures):
        await store_of(source).put(f"{number}.jpg", picture)  # 320 to 432 pixels wide, 240 high
    rules = rule_text("all", f"{source.uri}/", f"{target.uri}/{{rule}}/")
    rules += rule_text("narrow", f"{source.uri}/", f"{target.uri}/{{rule}}/", limits="{ max_side = 350 }")
    events = [created(f"{source.uri}/{number}.jpg") for number in range(len(pictures))]
    async with rig(tmp_path / "data", rules, source, target, **engine) as it:
        assert (await it.triggers.take("test", events)).accepted == 2 * len(pictures)
        rows = await it.settled()
        assert {row.state for row in rows if row.rule == "all"} == {"delivered"}
        narrow = {row.uri.rpartition("/")[2]: row for row in rows if row.rule == "narrow"}
        good = {name for name, row in narrow.items() if row.state == "delivered"}
        assert good == {"0.jpg", "1.jpg"}
        errors = {(row.error or {})["type"] for row in narrow.values() if row.state == "failed"}
        assert errors == {"limit-exceeded"}
