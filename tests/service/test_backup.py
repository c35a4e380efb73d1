"""A backup is one moment of a running service; restored, every task that it knows ends exactly once."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import sqlite3
import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_tools import clean_environment, command
from service_process import ServiceProcess, all_events, all_tasks, submit, wait_until

from pixelmill.errors import ConfigError
from pixelmill.service.backup import write_backup
from pixelmill.service.restore import check_backup, restore_backup
from pixelmill.service.settings import ServiceConfig
from servers import Postgres

Start = Callable[..., ServiceProcess]
SLOW = "sketch:denoise=full/format:jpeg"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, env=clean_environment(), check=False
    )


def done(url: str, job: str) -> int:
    counts = httpx.get(f"{url}/v1/jobs/{job}").json()["counts"]
    return int(counts["succeeded"] + counts["failed"])


def assert_all_ended_once(service: ServiceProcess, job: str, count: int) -> None:
    wait_until(lambda: done(service.url, job) == count, "the job ends")
    tasks = all_tasks(service.url, job)
    assert Counter(task["state"] for task in tasks) == {"succeeded": count}
    ends = Counter(event["id"] for kind, event in all_events(service.url, job) if kind == "task" and is_end(event))
    assert len(ends) == count
    assert set(ends.values()) == {1}
    for task in tasks:
        answer = httpx.get(f"{service.url}/v1/tasks/{task['id']}/result")
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(b"\xff\xd8")


def is_end(event: dict[str, Any]) -> bool:
    return event["state"] in {"succeeded", "failed", "cancelled"}


@pytest.mark.timeout(200)
def test_a_backup_in_the_middle_of_a_batch_brings_every_task_to_its_end(
    service_process: Start, pictures: list[bytes], tmp_path: Path
) -> None:
    service = service_process()
    job = submit(service.url, SLOW, {f"{i:03}.jpg": pictures[i % 8] for i in range(120)})["id"]
    wait_until(lambda: done(service.url, job) >= 10, "the batch is under way")
    made = run("backup", tmp_path / "copy.tar", "--objects", "--data", service.data)
    assert made.returncode == 0, made.stderr
    service.kill()
    states = states_in(tmp_path / "copy.tar")
    assert states["succeeded"] >= 10
    assert states["queued"] + states["running"] > 0
    restored = run("restore", tmp_path / "copy.tar", "--data", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    shutil.rmtree(service.data)
    assert_all_ended_once(service_process(data=tmp_path / "new"), job, 120)


@pytest.mark.timeout(200)
def test_results_that_are_newer_than_the_backup_are_found(
    service_process: Start, pictures: list[bytes], tmp_path: Path
) -> None:
    service = service_process()
    job = submit(service.url, SLOW, {f"{i:03}.jpg": pictures[i % 8] for i in range(60)})["id"]
    made = run("backup", tmp_path / "copy.tar", "--data", service.data)
    assert made.returncode == 0, made.stderr
    states = states_in(tmp_path / "copy.tar")
    assert states["queued"] + states["running"] > 0
    wait_until(lambda: done(service.url, job) == 60, "the job ends")
    service.kill()
    objects = {path: path.stat().st_mtime_ns for path in (service.data / "objects").rglob("*.json")}
    shutil.copytree(service.data / "objects", tmp_path / "new" / "objects", copy_function=shutil.copy2)
    restored = run("restore", tmp_path / "copy.tar", "--data", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    again = service_process(data=tmp_path / "new")
    assert_all_ended_once(again, job, 60)
    for path, written in objects.items():  # the first result stands
        assert (again.data / path.relative_to(service.data)).stat().st_mtime_ns == written


def states_in(backup: Path) -> Counter[str]:
    """How many tasks the manifest counts in each state."""
    counts = check_backup(backup).counts.items()
    return Counter({name.removeprefix("tasks "): count for name, count in counts if name.startswith("tasks ")})


def test_tokens_and_keys_of_links_live_on_and_nobody_else_may_read_the_file(
    service_process: Start, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    secret = run("tokens", "create", "one", "--data", data).stdout.strip()
    service = service_process("--set", "require_tokens=true", data=data)
    (data / "link-keys").write_text("one:0123456789abcdef\n")
    made = run("backup", tmp_path, "--data", data)
    assert made.returncode == 0, made.stderr
    (backup,) = tmp_path.glob("pixelmill-*.tar")
    assert backup.stat().st_mode & 0o777 == 0o600
    service.stop()
    assert run("restore", backup, "--data", tmp_path / "new").returncode == 0
    assert (tmp_path / "new" / "link-keys").read_text() == "one:0123456789abcdef\n"
    assert (tmp_path / "new" / "link-keys").stat().st_mode & 0o777 == 0o600
    again = service_process("--set", "require_tokens=true", data=tmp_path / "new")
    assert httpx.get(f"{again.url}/v1/jobs").status_code == 401
    assert httpx.get(f"{again.url}/v1/jobs", headers={"authorization": f"Bearer {secret}"}).status_code == 200


def test_nothing_is_restored_below_a_running_service(service_process: Start, tmp_path: Path) -> None:
    service = service_process()
    assert run("backup", tmp_path / "copy.tar", "--data", service.data).returncode == 0
    before = sorted(path.name for path in service.data.iterdir())
    for options in ([], ["--force"]):
        refused = run("restore", tmp_path / "copy.tar", "--data", service.data, *options)
        assert refused.returncode == 2
        assert f"(process {service.pid}) uses the data folder" in refused.stderr
    assert sorted(path.name for path in service.data.iterdir()) == before


# -- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> ServiceConfig:
    """A data folder with a token and an object."""
    made = run("tokens", "create", "one", "--data", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    (tmp_path / "data" / "objects" / "uploads").mkdir(parents=True)
    (tmp_path / "data" / "objects" / "uploads" / "a").write_bytes(b"bytes of an upload")
    return ServiceConfig(data=tmp_path / "data")


def elsewhere(tmp_path: Path) -> ServiceConfig:
    return ServiceConfig(data=tmp_path / "new")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.anyio
async def test_the_manifest_says_what_the_file_holds(config: ServiceConfig, tmp_path: Path) -> None:
    manifest = await write_backup(config, tmp_path / "b.tar", objects=True)
    assert manifest == check_backup(tmp_path / "b.tar")
    assert manifest.counts == {"jobs": 0, "uploads": 0, "tokens": 1}
    assert manifest.objects is not None
    assert (manifest.objects.count, manifest.objects.bytes) == (1, 18)
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["state.sqlite", "objects/uploads/a", "manifest.json"]
    assert not [name for name in everything(tmp_path) if name.startswith(".")]


@pytest.mark.anyio
async def test_a_backup_replaces_no_file(config: ServiceConfig, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists"):
        await write_backup(config, tmp_path / "b.tar", objects=False)
    assert (tmp_path / "b.tar").read_bytes() == b"precious"


@pytest.mark.anyio
async def test_there_must_be_state_and_a_folder_of_objects(config: ServiceConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no state to back up"):
        await write_backup(elsewhere(tmp_path), tmp_path / "b.tar", objects=False)
    with pytest.raises(ConfigError, match="--objects"):
        await write_backup(ServiceConfig(data=config.data, store="memory:"), tmp_path / "b.tar", objects=True)
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.anyio
async def test_every_cut_and_every_changed_byte_is_refused_before_anything_is_touched(
    config: ServiceConfig, tmp_path: Path
) -> None:
    await write_backup(config, tmp_path / "b.tar", objects=True)
    whole = (tmp_path / "b.tar").read_bytes()
    changed = bytearray(whole)
    changed[512 + 100_000] ^= 1
    end = whole.rindex(b"manifest.json")
    for bad in (bytes(changed), whole[:end], whole[: len(whole) // 2], whole[:700], b"", b"no tar at all" * 100):
        (tmp_path / "bad.tar").write_bytes(bad)
        with pytest.raises(ConfigError, match=r"bad\.tar is not a backup that can be restored"):
            await restore_backup(elsewhere(tmp_path), tmp_path / "bad.tar", force=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "objects/../../evil", "evil", "objects/"])
async def test_members_that_lead_elsewhere_are_refused(config: ServiceConfig, tmp_path: Path, name: str) -> None:
    await write_backup(config, tmp_path / "b.tar", objects=False)
    with tarfile.open(tmp_path / "b.tar") as old, tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
        for member in old:
            tar.addfile(member, old.extractfile(member))
    refused = run("restore", tmp_path / "bad.tar", "--data", tmp_path / "new")
    assert refused.returncode in {1, 2}
    assert "pixelmill: " in refused.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.anyio
async def test_a_link_in_the_file_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("state.sqlite")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(link)
    with pytest.raises(ConfigError, match="is no file"):
        await restore_backup(elsewhere(tmp_path), tmp_path / "bad.tar", force=False)


@pytest.mark.anyio
async def test_a_folder_with_state_is_replaced_by_force_only_and_kept(config: ServiceConfig, tmp_path: Path) -> None:
    await write_backup(config, tmp_path / "b.tar", objects=True)
    before = everything(config.data)
    with pytest.raises(ConfigError, match=r"not empty: it holds state\.sqlite"):
        await restore_backup(config, tmp_path / "b.tar", force=False)
    assert {name: data for name, data in everything(config.data).items() if name != "lock"} == before
    assert run("tokens", "create", "two", "--data", config.data).returncode == 0
    (config.data / "state.sqlite-wal").write_bytes(b"a log that does not belong to the backup")
    await restore_backup(config, tmp_path / "b.tar", force=True)
    assert tokens_in(config.data / "state.sqlite") == ["one"]
    assert not (config.data / "state.sqlite-wal").exists()
    (aside,) = config.data.glob("replaced-*")
    assert tokens_in(aside / "state.sqlite") == ["one", "two"]


def tokens_in(state: Path) -> list[str]:
    with closing(sqlite3.connect(state)) as database:
        return [row[0] for row in database.execute("SELECT name FROM tokens ORDER BY name")]


@pytest.mark.anyio
async def test_a_backup_of_a_newer_program_is_refused(config: ServiceConfig, tmp_path: Path) -> None:
    with closing(sqlite3.connect(config.data / "state.sqlite")) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.commit()
    await write_backup(config, tmp_path / "b.tar", objects=False)
    with pytest.raises(ConfigError, match="newer Pixelmill"):
        await restore_backup(elsewhere(tmp_path), tmp_path / "b.tar", force=False)
    assert not (tmp_path / "new").exists()


def test_a_damaged_database_is_not_copied_over_good_backups(config: ServiceConfig, tmp_path: Path) -> None:
    state = config.data / "state.sqlite"
    pages = bytearray(state.read_bytes())
    pages[8192:-8192] = b"\xa5" * (len(pages) - 16384)
    state.write_bytes(pages)
    refused = run("backup", tmp_path / "b.tar", "--data", config.data)
    assert refused.returncode == 1
    assert "damaged" in refused.stderr or "malformed" in refused.stderr
    assert not (tmp_path / "b.tar").exists()


# -- PostgreSQL ----------------------------------------------------------------------------------------


def test_on_postgresql_the_commands_that_are_told_do_it(postgres_server: Postgres, tmp_path: Path) -> None:
    with postgres_server.database() as first, postgres_server.database() as second:
        made = with_url(first, "tokens", "create", "one", "--data", tmp_path)
        assert made.returncode == 0, made.stderr
        for verb, url in (("backup", first), ("restore", second)):
            told = with_url(url, verb, tmp_path / "state.dump", "--data", tmp_path)
            assert told.returncode == 2
            (line,) = [line for line in told.stderr.splitlines() if line.startswith("    pg_")]
            subprocess.run(shlex.split(line), check=True, capture_output=True, timeout=60)
        listed = with_url(second, "tokens", "list", "--json", "--data", tmp_path)
        assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == ["one"]


def with_url(url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), "PIXELMILL_DATABASE_URL": url}
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=100, env=environment, check=False
    )


def test_the_password_of_postgresql_is_not_told(tmp_path: Path) -> None:
    for verb in ("backup", "restore"):
        told = with_url("postgresql://me:hidden-word@db.example/mill", verb, tmp_path / "x")
        assert told.returncode == 2
        assert "--dbname=postgresql://me@db.example/mill" in told.stderr
        assert "hidden-word" not in told.stderr + told.stdout
    assert not list(tmp_path.iterdir())
