"""Manifests are what a cluster takes, and keep what their page promises: not root, drained, and closed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_files import KUBERNETES, documents, manifests
from linters import lint

from pixelmill.config import SETTINGS

VERSION = "1.34"
KUSTOMIZATIONS = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
PODS = [one for _, one in manifests() if one["kind"] == "Deployment"]
SCALERS = sorted(KUBERNETES.glob("components/keda-*/scaler.yaml"))
# KEDA's custom resources are not in Kubernetes' own schemas. By its documentation: for each trigger, what
# must be there and what may be.
TRIGGERS: dict[str, tuple[set[str], set[str]]] = {
    "rabbitmq": ({"queueName", "mode", "value"}, {"protocol", "host", "hostFromEnv", "vhostName", "activationValue"}),
    "postgresql": ({"query", "targetQueryValue"}, {"activationTargetQueryValue"}),
    "prometheus": ({"serverAddress", "query", "threshold"}, {"activationThreshold", "namespace"}),
    "aws-sqs-queue": ({"queueURL", "queueLength", "awsRegion"}, {"scaleOnInFlight", "activationQueueLength"}),
    "azure-queue": ({"queueName", "accountName"}, {"queueLength", "activationQueueLength", "cloud"}),
}
SPEC = {
    "scaleTargetRef",
    "pollingInterval",
    "cooldownPeriod",
    "minReplicaCount",
    "maxReplicaCount",
    "fallback",
    "advanced",
    "triggers",
}


def test_the_schemas_of_kubernetes_are_kept() -> None:
    files = sorted({path for path, one in manifests() if not one["apiVersion"].startswith("keda.sh/")})
    said = lint("kubernetes-validate", "--strict", "--kubernetes-version", VERSION, *files)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count("passed") + said.stderr.count("passed") == len(
        [one for path, one in manifests() if path in files]
    )


def rendered(folder: Path) -> list[dict[str, Any]]:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("there is no kubectl, and no registry of ours has a current one")
    said = subprocess.run([program, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    return [one for one in yaml.safe_load_all(said.stdout) if one]


def test_the_example_is_put_together(tmp_path: Path) -> None:
    found = rendered(KUBERNETES / "examples" / "fleet")
    kinds = [one["kind"] for one in found]
    assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "ScaledObject"} <= set(kinds)
    pods = {one["metadata"]["name"]: one for one in found if one["kind"] == "Deployment"}
    assert set(pods) == {"pixelmill-service", "pixelmill-worker", "pixelmill-node"}
    assert "replicas" not in pods["pixelmill-worker"]["spec"], "the scaler owns the number"
    images = {pod["spec"]["template"]["spec"]["containers"][0]["image"] for pod in pods.values()}
    assert images == {"registry.example.org/pixelmill:full"}
    assert all(one["metadata"].get("namespace") == "pixelmill" for one in found if one["kind"] != "Namespace")
    plain = tmp_path / "all.yaml"
    plain.write_text(yaml.safe_dump_all(one for one in found if not one["apiVersion"].startswith("keda.sh/")))
    said = lint("kubernetes-validate", "--strict", "--kubernetes-version", VERSION, plain)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("component", [path.parent.name for path in SCALERS])
def test_each_scaler_can_be_put_on_the_base(component: str, tmp_path: Path) -> None:
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    (copy / "mine").mkdir()
    text = {"resources": ["../base"], "components": [f"../components/{component}"]}
    (copy / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(text))
    found = {one["kind"]: one for one in rendered(copy / "mine")}
    assert found["ScaledObject"]["spec"]["scaleTargetRef"] == {"name": "pixelmill-worker"}


def test_resources_of_kustomizations_are_there() -> None:
    assert len(KUSTOMIZATIONS) >= 8
    for folder in KUSTOMIZATIONS:
        (one,) = documents(folder / "kustomization.yaml")
        named = [*one.get("resources", ()), *one.get("components", ())]
        assert all((folder / name).exists() for name in named), folder


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: str(pod["metadata"]["name"]))
def test_a_pod_is_no_root_is_bounded_and_drains(pod: dict[str, Any]) -> None:
    spec = pod["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "variables of the Service pixelmill would be taken for settings"
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"]) == (True, 10001)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    (box,) = spec["containers"]
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (
        {"cpu", "memory", "ephemeral-storage"} == set(box["resources"]["limits"]) == set(box["resources"]["requests"])
    )
    pause = int(box.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0, "0"])[1])
    assert spec["terminationGracePeriodSeconds"] >= SETTINGS["drain"].default + pause + 30
    mounted = {mount["mountPath"] for mount in box["volumeMounts"]}
    assert mounted == {"/data", "/tmp", "/dev/shm"}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"])
    assert pod["spec"]["template"]["metadata"]["labels"] == pod["spec"]["selector"]["matchLabels"]


def test_old_services_end_before_new_ones_change_the_schema() -> None:
    (service,) = [pod for pod in PODS if pod["metadata"]["name"] == "pixelmill-service"]
    assert service["spec"]["strategy"] == {"type": "Recreate"}


def test_selectors_find_the_pods_they_mean() -> None:
    labels = [pod["spec"]["template"]["metadata"]["labels"] for pod in PODS]
    looked = 0
    for _, one in manifests():
        spec = one.get("spec", {})
        selector = (
            spec.get("selector")
            if one["kind"] == "Service"
            else spec.get("selector", {}).get("matchLabels")
            if one["kind"] == "PodDisruptionBudget"
            else spec.get("podSelector", {}).get("matchLabels")
            if one["kind"] == "NetworkPolicy"
            else None
        )
        if selector:
            looked += 1
            assert any(selector.items() <= label.items() for label in labels), one["metadata"]["name"]
    assert looked >= 4


@pytest.mark.parametrize("path", SCALERS, ids=lambda path: path.parent.name)
def test_a_scaler_has_what_keda_knows(path: Path) -> None:
    found = {one["kind"]: one for one in documents(path)}
    spec = found["ScaledObject"]["spec"]
    assert set(spec) <= SPEC
    assert 0 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    for trigger in spec["triggers"]:
        must, may = TRIGGERS[trigger["type"]]
        assert must <= set(trigger["metadata"]) <= must | may
        assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes texts only"
        if "authenticationRef" in trigger:
            assert trigger["authenticationRef"]["name"] == found["TriggerAuthentication"]["metadata"]["name"]


@pytest.mark.parametrize("name", ["rabbitmq", "sqs", "azure"])
def test_a_scaler_looks_at_the_queue_of_each_priority(name: str) -> None:
    (scaler, _) = documents(KUBERNETES / "components" / f"keda-{name}" / "scaler.yaml")
    metadata = [trigger["metadata"] for trigger in scaler["spec"]["triggers"]]
    queues = [one.get("queueName") or one["queueURL"].rpartition("/")[2] for one in metadata]
    assert queues == ["pixelmill-interactive", "pixelmill-normal", "pixelmill-batch"]


@pytest.mark.anyio
async def test_the_query_of_postgresql_counts_what_waits(postgres_url: str) -> None:
    import psycopg

    from pixelmill.engines.queue import Message
    from pixelmill.engines.sql_queue import SqlLeaseQueue
    from pixelmill.jobs.database import Database
    from pixelmill.service.backends import database_url

    (scaler, _) = documents(KUBERNETES / "components" / "keda-postgresql" / "scaler.yaml")
    query = scaler["spec"]["triggers"][0]["metadata"]["query"]
    database = Database(database_url(postgres_url, Path()), "NORMAL")
    await database.open()
    try:
        queue = SqlLeaseQueue(database)
        await queue.send([Message(f"job/{number}", "{}", 1, number, "local") for number in range(5)])
        await queue.receive(2, 60)
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        assert row[0] == 3
    finally:
        await database.close()
