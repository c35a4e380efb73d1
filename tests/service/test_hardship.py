"""Hostile files and names, slow and greedy tasks, full and vanishing disks: clear errors, and nobody else pays."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from service_process import ServiceProcess, all_tasks, submit, wait_until

Start = Callable[..., ServiceProcess]


def ended(url: str, job: str) -> bool:
    return httpx.get(f"{url}/v1/jobs/{job}").json()["state"] in {"succeeded", "failed", "cancelled"}


def noise(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def test_every_hostile_file_ends_with_an_outcome_or_a_named_reason(service_process: Start, assets: Path) -> None:
    service = service_process("--timeout", "20s")
    files = {
        f"{i}-{path.name}": path for i, path in enumerate(sorted((assets / "hostile").rglob("*"))) if path.is_file()
    }
    body = {name: path.read_bytes() for name, path in files.items()}
    job = submit(service.url, "resize:64,64/format:png", body)["id"]
    wait_until(lambda: ended(service.url, job), "the job ends", 100)
    tasks = all_tasks(service.url, job)
    assert len(tasks) == len(files)
    for task in tasks:
        if task["state"] == "failed":
            slug = task["error"]["type"].rsplit("/", 1)[-1]
            assert slug in {"unsupported-format", "corrupt-image", "limit-exceeded"}, (task["name"], task["error"])
        else:
            assert task["state"] == "succeeded"
    assert sum(task["state"] == "succeeded" for task in tasks) > 100, "the valid files of the PNG suite"
    assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_a_task_over_its_time_fails_alone(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process("--timeout", "2s")
    files = {"endless.jpg": noise(3000, 3000)} | {f"{i}.jpg": pictures[i] for i in range(6)}
    job = submit(service.url, "sketch:denoise=full", files)["id"]
    wait_until(lambda: ended(service.url, job), "the job ends")
    states = {task["name"]: task for task in all_tasks(service.url, job)}
    assert states["endless.jpg"]["error"]["type"].endswith("task-timeout")
    assert all(states[f"{i}.jpg"]["state"] == "succeeded" for i in range(6))


def test_a_task_that_eats_memory_fails_alone(service_process: Start, pictures: list[bytes]) -> None:
    service = service_process("--set", "memory=150MB")
    files = {"greedy.jpg": noise(5000, 5000)} | {f"{i}.jpg": pictures[i] for i in range(6)}
    job = submit(service.url, "gaussian:3/sharpen/canny", files)["id"]
    wait_until(lambda: ended(service.url, job), "the job ends")
    states = {task["name"]: task for task in all_tasks(service.url, job)}
    assert states["greedy.jpg"]["error"]["type"].endswith("out-of-memory")
    assert all(states[f"{i}.jpg"]["state"] == "succeeded" for i in range(6))


HOSTILE_NAMES = [
    "../../../etc/passwd.jpg",
    "..\\..\\boot.jpg",
    "a" * 300 + ".jpg",
    "日本語 фото.jpg",
    "same.jpg",
    "same.jpg",
    "SAME.jpg",
    "CON.jpg",
    ".hidden.jpg",
    "new\nline.jpg",
    "\u202egpj.exe.jpg",
    "album/one.jpg",
    "album/../two.jpg",
]


def test_names_are_safe_and_distinct(service_process: Start, pictures: list[bytes], tmp_path: Path) -> None:
    service = service_process()
    parts = [("files", (name, pictures[0], "image/jpeg")) for name in HOSTILE_NAMES]
    answer = httpx.post(f"{service.url}/v1/jobs", data={"pipeline": "format:png"}, files=parts, timeout=30)
    assert answer.status_code == 202, answer.text
    job = answer.json()["id"]
    wait_until(lambda: ended(service.url, job), "the job ends")
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(f"{service.url}/v1/jobs/{job}/archive", timeout=30).content))
    names = archive.namelist()
    assert len(names) == len(HOSTILE_NAMES)
    assert len({name.casefold() for name in names}) == len(names)
    target = tmp_path / "out"
    archive.extractall(target)
    for name in names:
        path = (target / name).resolve()
        assert path.is_relative_to(target.resolve())
        assert path.is_file(), f"{name!r} was written under another name"
        assert all(len(part.encode()) <= 255 for part in Path(name).parts)
        assert name.isprintable()


def test_a_source_that_vanished_fails_alone(service_process: Start, pictures: list[bytes], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for index in range(3):
        (root / f"{index}.jpg").write_bytes(pictures[index])
    service = service_process("--source-root", str(root), "--workers", "1")
    # Long work in front, so that the file is gone before its turn.
    first = submit(service.url, "sketch:denoise=full", {"long.jpg": noise(1500, 1000)})["id"]
    body = {"pipeline": "grayscale", "sources": [f"file://{root}/*.jpg"]}
    job = httpx.post(f"{service.url}/v1/jobs", json=body).json()["id"]
    (root / "1.jpg").unlink()
    wait_until(lambda: ended(service.url, job) and ended(service.url, first), "the jobs end")
    states = {task["name"]: task for task in all_tasks(service.url, job)}
    assert states["1.jpg"]["error"]["type"].endswith("object-not-found")
    assert states["0.jpg"]["state"] == states["2.jpg"]["state"] == "succeeded"


def test_files_outside_the_source_roots_are_refused(
    service_process: Start, pictures: list[bytes], tmp_path: Path
) -> None:
    root, secret = tmp_path / "root", tmp_path / "secret.jpg"
    root.mkdir()
    secret.write_bytes(pictures[0])
    (root / "link.jpg").symlink_to(secret)
    service = service_process("--source-root", str(root))
    for source in (f"file://{secret}", f"file://{root}/../secret.jpg", f"file://{root}/link.jpg", "file:///etc/*"):
        answer = httpx.post(f"{service.url}/v1/jobs", json={"pipeline": "grayscale", "sources": [source]})
        assert answer.status_code in {403, 422}, (source, answer.text)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass


def test_a_full_disk_is_a_clear_error_and_loses_nothing(
    service_process: Start, pictures: list[bytes], small_disk: Path
) -> None:
    service = service_process(data=small_disk / "data")
    job = submit(service.url, "grayscale", {f"{i}.jpg": pictures[i] for i in range(8)})["id"]
    wait_until(lambda: ended(service.url, job), "the job ends")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        fill(filler)
    big = noise(1200, 900)
    answer = httpx.put(f"{service.url}/v1/uploads/big.jpg", content=big)
    assert answer.status_code == 507, answer.text
    assert answer.json()["type"].endswith("storage-full")
    # Synchronous work needs no disk, and what was accepted is still there.
    processed = httpx.post(f"{service.url}/v1/process", params={"pipeline": "grayscale"}, content=pictures[0])
    assert processed.status_code == 200
    filler.unlink()
    assert httpx.put(f"{service.url}/v1/uploads/big.jpg", content=big).status_code == 201
    tasks = all_tasks(service.url, job)
    assert {task["state"] for task in tasks} == {"succeeded"}
    assert all(httpx.get(f"{service.url}{task['links']['result']}").status_code == 200 for task in tasks)
    service.stop()


def test_a_read_only_folder_is_refused_at_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    service = ServiceProcess(small_disk / "data")
    service.log = small_disk.parent / "service.log"
    with pytest.raises(AssertionError, match=r"can't be written|read-only"):
        service.start()
