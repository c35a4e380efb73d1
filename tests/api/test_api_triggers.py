"""Rules, dry runs, events and dead letters over REST, the command line and both clients."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_tools import clean_environment, command, picture
from service_process import ServiceProcess, wait_until

from pixelmill.api.trigger_schemas import RuleBody, RuleList, TrialBody, TriggerEventList
from pixelmill.client import AsyncClient, Client
from pixelmill.errors import NotFound, RequestError

EVENTS = Path(__file__).parents[1] / "triggers" / "events"
SMALL = {"watch": "s3://photos/in/", "pipeline": "resize:64", "output": "s3://photos/out/{dir}/{stem}.webp"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("triggers")
    (made / "inbox").mkdir()
    return made


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[ServiceProcess]:
    """A folder that is watched by a rule of the file, and two buckets for rules of the API."""
    rules = folder / "rules.toml"
    rules.write_text(
        '[[rules]]\nname = "thumbs"\nwatch = "inbox/"\npipeline = "resize:32/format:png"\n'
        'output = "outbox/{dir}/{stem}-{width}.{ext}"\ntags = { made = "here" }\n'
        '[[sources]]\nname = "uploads"\nkind = "http"\nauth = "token"\ntoken = "hush-hush-hush"\n'
    )
    stores = {
        "photos": {"uri": "s3://photos", "region": "us-east-1"},
        "in": {"uri": "s3://photos-in", "region": "us-east-1"},
    }
    service = ServiceProcess(
        folder / "data",
        "--triggers",
        str(rules),
        "--source-root",
        str(folder / "inbox"),
        "--set",
        f"stores={json.dumps(stores)}",
        "--set",
        "workers=1",
    )
    try:
        service.start()
        yield service
        assert service.stop() == 0
    finally:
        service.end()


@pytest.fixture
def http(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as http:
        yield http


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


def cli(service: ServiceProcess, *arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    url = () if arguments[0] == "check" else ("--url", service.url)
    done = subprocess.run(
        command("triggers", *arguments, *url), input=stdin, capture_output=True, timeout=60, env=clean_environment()
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def event_of(client: Client, rule: str, name: str, *states: str) -> Any:
    """The event of a file in the inbox, once it is in one of these states."""
    found: list[Any] = []

    def there() -> bool:
        found[:] = [one for one in client.trigger_events(rule) if one.uri.endswith(f"/{name}")]
        return bool(found) and found[0].state in states

    wait_until(there, f"the event of {name} is {' or '.join(states)}")
    return found[0]


def test_a_file_in_a_watched_folder_becomes_a_result_that_is_told_with_its_rule(
    service: ServiceProcess, client: Client, http: httpx.Client, folder: Path
) -> None:
    (folder / "inbox" / "beach.jpg").write_bytes(picture(1))
    event = event_of(client, "thumbs", "beach.jpg", "delivered")
    assert event.destination == (folder / "outbox" / "beach-32.png").as_uri()
    assert (folder / "outbox" / "beach-32.png").read_bytes().startswith(b"\x89PNG")
    listed = http.get("/v1/triggers").json()
    RuleList.model_validate(listed)
    (rule,) = [item for item in listed["items"] if item["name"] == "thumbs"]
    assert (rule["origin"], rule["tags"]) == ("file", {"made": "here"})
    assert rule["counters"]["delivered"] >= 1
    assert {source["name"]: source["kind"] for source in listed["sources"]} == {
        "uploads": "http",
        "folder-thumbs": "folder",
    }
    assert "hush" not in json.dumps(listed)
    assert listed["file"]["error"] is None
    page = http.get("/v1/triggers/thumbs/events", params={"state": "delivered"}).json()
    TriggerEventList.model_validate(page)
    assert [item["state"] for item in page["items"]] == ["delivered"] * len(page["items"])
    said = cli(service, "list").stdout
    assert "thumbs" in said
    assert "runs" in said
    told = [json.loads(line) for line in cli(service, "events", "thumbs", "--json").stdout.splitlines()]
    assert event.destination in [one["destination"] for one in told]
    assert "delivered" in cli(service, "events", "thumbs").stdout
    assert "resize:32/format:png" in cli(service, "show", "thumbs").stdout


def test_what_failed_is_a_dead_letter_that_can_be_redriven(
    service: ServiceProcess, client: Client, http: httpx.Client, folder: Path
) -> None:
    (folder / "inbox" / "torn.jpg").write_bytes(picture(2)[:150])
    event = event_of(client, "thumbs", "torn.jpg", "failed")
    assert event.error is not None
    assert event.error["type"] == "corrupt-image"
    assert [one.id for one in client.trigger_dead_letters("thumbs")] == [event.id]
    page = http.get("/v1/triggers/dead-letters").json()
    TriggerEventList.model_validate(page)
    assert "failed" in cli(service, "dead").stdout
    assert json.loads(cli(service, "dead", "--json").stdout)["id"] == event.id
    # It fails again, and is a dead letter again.
    assert client.redrive_triggers([event.id]) == 1
    event_of(client, "thumbs", "torn.jpg", "failed")
    done = cli(service, "redrive", "--rule", "thumbs")
    assert (done.returncode, done.stdout) == (0, "1 get another try\n")
    event_of(client, "thumbs", "torn.jpg", "failed")
    assert client.redrive_triggers(["ev_unknown"]) == 0
    for body in ({}, {"rule": "thumbs", "all": True}):
        assert http.post("/v1/triggers/redrive", json=body).status_code == 400
    assert cli(service, "redrive").returncode == 2
    assert cli(service, "redrive", "ev_unknown").returncode == 1


def test_a_rule_is_put_shown_replaced_and_removed(service: ServiceProcess, client: Client, http: httpx.Client) -> None:
    answer = http.put("/v1/triggers/small", json={**SMALL, "suffixes": [".jpg"], "max_bytes": "20MB"})
    assert answer.status_code == 200, answer.text
    RuleBody.model_validate(answer.json())
    assert answer.json()["max_bytes"] == 20_000_000
    # The name of the result asks for its format.
    assert answer.json()["pipeline"] == "resize:64/format:webp"
    assert client.trigger("small") == answer.json()
    again = cli(service, "put", "small", "--file", "-", "--pipeline", "resize:99", stdin=answer.content)
    assert again.returncode == 0, again.stderr
    assert client.trigger("small")["pipeline"] == "resize:99/format:webp"
    assert client.trigger("small")["suffixes"] == [".jpg"]
    assert [item["name"] for item in client.triggers()["items"]] == ["thumbs", "small"]
    assert cli(service, "remove", "small").returncode == 0
    with pytest.raises(NotFound, match="small"):
        client.trigger("small")
    with pytest.raises(NotFound):
        client.delete_trigger("small")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"watch": "s3://elsewhere/in/"}, "setting stores"),
        ({"output": "s3://elsewhere/{stem}.png"}, "setting stores"),
        ({"output": "file:///tmp/{stem}.png"}, "rules file"),
        ({"watch": "file:///etc/"}, "--source-root"),
        ({"output": "s3://photos/in/x/{stem}.png"}, "small → small"),
        ({"pipeline": "rezise:10"}, "resize"),
        ({"sufixes": [".jpg"]}, "suffixes"),
        ({"max_bytes": "many"}, "20MB"),
        ({"output": "s3://photos/out/{stam}.png"}, "{stem}"),
        ({"watch": None}, "missing"),
        ({"owner": "../x"}, "owner"),
        ({"cache_control": "a\r\nx: y"}, "cache_control"),
    ],
)
def test_a_rule_that_cant_be_is_refused_with_what_to_change(
    http: httpx.Client, changes: dict[str, Any], says: str
) -> None:
    answer = http.put("/v1/triggers/small", json={**SMALL, **changes})
    assert (answer.status_code, answer.json()["type"]) == (422, "/v1/problems/invalid-request"), answer.text
    assert says in answer.json()["detail"]
    assert http.get("/v1/triggers/small").status_code == 404


def test_rules_of_the_file_are_changed_in_the_file_alone(http: httpx.Client, client: Client) -> None:
    assert http.put("/v1/triggers/thumbs", json=SMALL).status_code == 422
    answer = http.delete("/v1/triggers/thumbs")
    assert answer.status_code == 409
    assert "Remove it there" in answer.json()["detail"]
    with pytest.raises(RequestError, match="stands in the rules file"):
        client.put_trigger("thumbs", **SMALL)
    assert http.put("/v1/triggers/small", json={**SMALL, "name": "other"}).status_code == 400
    assert http.put("/v1/triggers/test", json=SMALL).status_code == 422


def test_a_document_is_tried_without_a_trace(service: ServiceProcess, client: Client, http: httpx.Client) -> None:
    client.put_trigger("tried", watch="s3://photos-in/uploads/", pipeline="resize:64", output="s3://photos/t/{name}")
    client.put_trigger(
        "second", watch="s3://photos/t/", suffixes=[".png"], pipeline="resize:9", output="s3://photos/u/"
    )
    before = client.triggers()
    document = json.loads((EVENTS / "s3-put.json").read_text())
    found = client.test_trigger(document)
    TrialBody.model_validate(found)
    (tried,) = found["events"]
    (verdict,) = tried["rules"]
    assert (verdict["rule"], verdict["matches"]) == ("tried", True)
    assert verdict["destination"] == "s3://photos/t/harbor.jpg"
    assert tried["others"] == 2
    said = cli(service, "test", EVENTS / "s3-put.json")
    assert said.returncode == 0
    assert "→ s3://photos/t/harbor.jpg" in said.stdout
    assert cli(service, "test", EVENTS / "s3-test-event.json").returncode == 1
    assert client.triggers()["items"] == before["items"]
    assert http.post("/v1/triggers/test", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    for name in ("tried", "second"):
        client.delete_trigger(name)


@pytest.mark.anyio
async def test_the_asynchronous_client_has_the_same_verbs(service: ServiceProcess) -> None:
    async with AsyncClient(service.url) as client:
        made = await client.put_trigger("small", **SMALL)
        assert await client.trigger("small") == made
        assert "small" in [item["name"] for item in (await client.triggers())["items"]]
        assert (await client.test_trigger({"Records": []}))["events"] == []
        assert [one async for one in client.trigger_events("small", state="failed")] == []
        assert [one async for one in client.trigger_dead_letters("small")] == []
        assert await client.redrive_triggers(rule="small") == 0
        await client.delete_trigger("small")
        with pytest.raises(NotFound):
            _ = [one async for one in client.trigger_events("small")]


def test_only_an_admin_may_ask(service: ServiceProcess, http: httpx.Client) -> None:
    scopes = ("--scope", "jobs:read", "--scope", "jobs:write", "--scope", "process")
    made = subprocess.run(
        command("tokens", "create", "laptop", *scopes, "--data", service.data, "--json"),
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        check=True,
    )
    headers = {"authorization": f"Bearer {json.loads(made.stdout)['secret']}"}
    paths = {path: item for path, item in http.get("/v1/openapi.json").json()["paths"].items() if "/triggers" in path}
    assert len(paths) == 6
    for path, item in paths.items():
        for method in item:
            answer = http.request(method, path.replace("{rule}", "thumbs"), headers=headers)
            assert answer.status_code == 403, (method, path)
