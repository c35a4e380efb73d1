"""The compose file is one, whole in itself, closed to the outside; and its bucket is made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import boto3
import pytest
from deploy_files import DEPLOY, documents
from linters import lint

from pixelmill.config import SETTINGS
from pixelmill.models.registry import REGISTRY
from servers import Moto

FOLDER = DEPLOY / "compose"
OURS = ("service", "worker", "node", "models", "bucket")
VARIABLE = re.compile(r"\$\{(\w+)(:?[-?][^}]*)?\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    (document,) = documents(FOLDER / "compose.yaml")
    return document


READ = """
import sys, compose_spec
options = compose_spec.PyOptions()
options.apply_merge = True
compose = options.from_yaml(sys.stdin.read())
compose.validate()
print(*sorted(compose.service_names()))
"""


def test_it_is_a_compose_file() -> None:
    # compose puts variables in their places before it reads the file's values.
    text = VARIABLE.sub(
        lambda found: found[2][2:] if (found[2] or "").startswith(":-") else "secret",
        (FOLDER / "compose.yaml").read_text(),
    )
    said = lint("python", "-c", READ, given=text)
    assert said.returncode == 0, said.stderr
    assert {"service", "worker", "postgres", "rabbitmq", "redis", "objects"} <= set(said.stdout.split())
    for wrong in (text.replace("    ports:", "    prots:"), text.replace(": service_healthy", ": service_well")):
        assert wrong != text
        assert lint("python", "-c", READ, given=wrong).returncode != 0


def test_what_services_refer_to_is_there(compose: dict[str, Any]) -> None:
    services, named = compose["services"], set()
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                disabled = services[other].get("healthcheck", {}).get("disable", False)
                assert not disabled
                assert "healthcheck" in services[other] or other in OURS, "our image has a health check of its own"
            else:
                assert wanted["condition"] == "service_completed_successfully"
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (FOLDER / source).is_file()
            elif not source.startswith("/"):
                named.add(source)
    assert named == set(compose["volumes"])


def test_an_image_is_built_by_one_service(compose: dict[str, Any]) -> None:
    built = [service["image"] for service in compose["services"].values() if "build" in service]
    assert len(built) == len(set(built)) == 1
    build = compose["services"]["service"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
    target = VARIABLE.sub(lambda found: (found[2] or "").removeprefix(":-"), build["target"])
    assert re.search(rf"^FROM .* AS {target}$", (DEPLOY / "docker" / "Dockerfile").read_text(), re.MULTILINE)


def test_whatever_runs_tasks_reads_the_models_that_one_service_fetches(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("service", "worker", "node"):
        assert services[name]["environment"]["PIXELMILL_MODELS"] == "/models"
        assert "models:/models:ro" in services[name]["volumes"]
    models = services["models"]
    assert models["profiles"] == ["ml"]
    assert models["volumes"] == ["models:/models"]
    assert set(models["command"][2:]) <= set(REGISTRY)


def test_only_the_service_is_published_and_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert list(published) == ["service"]
    assert all(port.startswith("127.0.0.1:") for port in published["service"])


def test_every_service_is_bounded(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert limits["pids"] > 0, name
        # Beside `limits` Compose takes it for a second, other number, and refuses the whole file.
        assert "pids_limit" not in service, name
        assert service["logging"]["options"]["max-size"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name in OURS:
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        if name in OURS and service["restart"] != "no":
            assert float(service["stop_grace_period"].rstrip("s")) > SETTINGS["drain"].default


def test_no_secret_stands_in_the_files(compose: dict[str, Any]) -> None:
    text = (FOLDER / "compose.yaml").read_text()
    used: dict[str, set[str]] = {}
    for name, default in VARIABLE.findall(text):
        used.setdefault(name, set()).add(default)
    secrets = {name for name, defaults in used.items() if any(default.startswith(":?") for default in defaults)}
    assert secrets == {"POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "REDIS_PASSWORD", "S3_SECRET"}
    example = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert set(example) >= secrets | {"PORT", "NODE_TOKEN", "IMAGE", "BUCKET", "S3_ENDPOINT"}
    assert set(example) <= set(used)
    assert all(not example[name] for name in secrets)
    assert ".env" in (FOLDER / ".gitignore").read_text().splitlines()


def test_the_bucket_is_made_once_and_stays(moto_server: Moto) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "BUCKET": "made-for-compose",
        "S3_ENDPOINT": moto_server.url,
        "AWS_ACCESS_KEY_ID": "pixelmill",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, FOLDER / "make_bucket.py"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said == ["The bucket made-for-compose is made.", "The bucket made-for-compose is there."]
    keys = {"aws_access_key_id": "pixelmill", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=moto_server.url, region_name="us-east-1", **keys)
    rules = client.get_bucket_lifecycle_configuration(Bucket="made-for-compose")["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules] == [{"DaysAfterInitiation": 2}]
