"""What the service keeps and what it removes: deleted jobs, expired results, orphans, and images used as parameters."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import cv2
import numpy as np
import pytest
from PIL import ImageFont

from pixelmill.errors import InvalidParameter, LimitExceeded, NotFound, PixelmillError
from pixelmill.jobs.model import Job, State
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service, ServiceConfig
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(data: Path, **settings: Any) -> AsyncIterator[Service]:
    service = Service(ServiceConfig(data=data, workers=1, **settings))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def upload(service: Service, owner: str, name: str, data: bytes) -> str:
    return (await service.put_upload(owner, name, once(data))).id


async def finished(service: Service, job: Job) -> Job:
    with anyio.fail_after(30):
        async for _ in service.events(job.owner, job_id=job.id, after=0):
            pass
    return await service.job(job.owner, job.id)


async def objects(service: Service) -> set[str]:
    return {info.key async for info in service._parts.store.list("")}


async def test_deleting_a_job_removes_inputs_results_and_documents(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        kept, _ = await service.submit(
            "ann", Pipeline.parse("grayscale"), uploads=[await upload(service, "ann", "kept.jpg", pictures[0])]
        )
        await finished(service, kept)
        before = await objects(service)
        assert len(before) == 3
        gone, _ = await service.submit(
            "ann", Pipeline.parse("grayscale"), uploads=[await upload(service, "ann", "gone.jpg", pictures[1])]
        )
        assert (await finished(service, gone)).state is State.SUCCEEDED
        assert len(await objects(service)) == 6
        await service.delete("ann", gone.id)
        with pytest.raises(NotFound):
            await service.job("ann", gone.id)
        await service._wiring.housekeeping.clean()
        assert await objects(service) == before


async def test_an_input_that_two_jobs_share_goes_with_the_last(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        shared = await upload(service, "ann", "a.jpg", pictures[0])
        first, _ = await service.submit("ann", Pipeline.parse("grayscale"), uploads=[shared])
        second, _ = await service.submit("ann", Pipeline.parse("invert"), uploads=[shared])
        await finished(service, first)
        await finished(service, second)
        await service.delete("ann", first.id)
        await service._wiring.housekeeping.clean()
        assert sum(key.startswith("uploads/") for key in await objects(service)) == 1
        await service.delete("ann", second.id)
        await service._wiring.housekeeping.clean()
        assert await objects(service) == set()


async def test_results_are_removed_when_their_time_is_over(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data", retention_s=0.0) as service:
        job, _ = await service.submit(
            "ann", Pipeline.parse("grayscale"), uploads=[await upload(service, "ann", "a.jpg", pictures[0])]
        )
        with anyio.fail_after(30):
            while any(True for _ in (await service.jobs("ann")).items):
                await service._wiring.housekeeping.clean()
                await anyio.sleep(0.01)
        await service._wiring.housekeeping.clean()
        assert await objects(service) == set()
        with pytest.raises(NotFound):
            await service.job("ann", job.id)


async def test_more_jobs_than_a_page_that_expired_go_in_one_round(tmp_path: Path) -> None:
    """Else tables grow for ever where more jobs come than a page in each round."""
    async with running(tmp_path / "data", retention_s=-1.0, local_work=False) as service:
        store = service._parts.jobs
        for i in range(250):
            await store.create_job(job_of(f"job{i}"), tasks_of(f"job{i}", 1))
            await store.record([event_of("failed", f"job{i}-0")])
        await service._wiring.housekeeping.clean()
        assert not (await service.jobs("ann")).items


async def test_bytes_that_nobody_recorded_are_swept_and_recorded_ones_are_not(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    async with running(tmp_path / "data") as service:
        await service.store_upload("ann", "orphan.jpg", once(pictures[0]))
        recorded = await service.put_upload("ann", "recorded.jpg", once(pictures[1]))
        await service._wiring.housekeeping.sweep()
        assert len(await objects(service)) == 2, "too young to be an orphan"
        long_ago = recorded.created - service.config.upload_ttl_s - 60
        for key in await objects(service):
            path = service._parts.store.local_path(key)
            assert path is not None
            os.utime(path, (long_ago, long_ago))
        await service._wiring.housekeeping.sweep()
        assert await objects(service) == {recorded.key}


async def test_what_calls_of_dead_processes_left_is_swept(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as service:
        store = service._parts.store
        for key in ("transfer/a/source", "transfer/b/source"):
            await store.put(key, b"x")
        path = store.local_path("transfer/a/source")
        assert path is not None
        os.utime(path, (1, 1))
        await service._wiring.housekeeping.sweep()
        assert await objects(service) == {"transfer/b/source"}


def logo() -> bytes:
    return bytes(cv2.imencode(".png", np.full((16, 16, 4), (0, 0, 255, 255), np.uint8))[1])


async def test_an_image_parameter_is_resolved_to_stored_bytes(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        mark = await upload(service, "ann", "logo.png", logo())
        pipeline = Pipeline().watermark(f"upload:{mark}", opacity=1.0, position="center").format("png")
        result = await service.process("ann", pipeline, pictures[0], "a.jpg")
        assert result.outcome.bytes is not None
        decoded = result.outcome.image.pixels
        height, width = decoded.shape[:2]
        assert tuple(decoded[height // 2, width // 2]) == (255, 0, 0)
        job, _ = await service.submit("ann", pipeline, uploads=[await upload(service, "ann", "a.jpg", pictures[0])])
        assert "upload:" not in job.pipeline
        assert "sha256:" in job.pipeline
        assert (await finished(service, job)).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "reference", ["/etc/passwd", "file:///etc/passwd", "logo.png", "https://127.0.0.1/x.png", "sha256:" + "0" * 64]
)
async def test_an_image_parameter_never_reads_what_a_request_names(
    tmp_path: Path, pictures: list[bytes], reference: str
) -> None:
    async with running(tmp_path / "data") as service:
        pipeline = Pipeline().watermark(reference)
        with pytest.raises(PixelmillError) as caught:
            await service.process("ann", pipeline, pictures[0])
        assert caught.value.type in {"invalid-parameter", "source-refused", "invalid-uri"}
        with pytest.raises(type(caught.value)):
            await service.submit("ann", pipeline, uploads=[await upload(service, "ann", "a.jpg", pictures[0])])


async def test_another_owners_stored_image_is_not_there(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        mark = await upload(service, "ann", "logo.png", logo())
        job, _ = await service.submit(
            "ann",
            Pipeline().watermark(f"upload:{mark}"),
            uploads=[await upload(service, "ann", "a.jpg", pictures[0])],
        )
        stored = Pipeline.parse(job.pipeline)
        await service.process("ann", stored, pictures[0])
        with pytest.raises(InvalidParameter):
            await service.process("bob", stored, pictures[0])
        with pytest.raises(NotFound):
            await service.process("bob", Pipeline().watermark(f"upload:{mark}"), pictures[0])


async def test_a_result_that_lands_after_its_job_was_deleted_is_swept(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        job, _ = await service.submit(
            "ann", Pipeline.parse("grayscale"), uploads=[await upload(service, "ann", "a.jpg", pictures[0])]
        )
        await finished(service, job)
        before = await objects(service)
        await service._parts.store.put("results/ann/job_gone/task_1", b"late")
        long_ago = job.created - service.config.upload_ttl_s - 60
        for key in await objects(service):
            path = service._parts.store.local_path(key)
            assert path is not None
            os.utime(path, (long_ago, long_ago))
        await service._wiring.housekeeping.sweep()
        assert await objects(service) == before


async def test_results_of_an_owner_whose_name_holds_a_slash_are_not_swept(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    """New tokens can't have such an owner; older ones may."""
    async with running(tmp_path / "data") as service:
        name = await upload(service, "org/team", "a.jpg", pictures[0])
        job, _ = await service.submit("org/team", Pipeline.parse("grayscale"), uploads=[name])
        await finished(service, job)
        before = await objects(service)
        assert len(before) == 3
        for key in before:
            path = service._parts.store.local_path(key)
            assert path is not None
            os.utime(path, (0, 0))
        await service._wiring.housekeeping.sweep()
        assert await objects(service) == before


async def test_wild_cards_stand_for_a_bounded_number_of_files(
    tmp_path: Path, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for index in range(5):
        (root / f"{index}.jpg").write_bytes(pictures[0])
    monkeypatch.setattr("pixelmill.service.verbs.MAX_PAGE", 4)
    async with running(tmp_path / "data", source_roots=(root,)) as service:
        with pytest.raises(LimitExceeded, match="several jobs"):
            await service.submit("ann", Pipeline.parse("grayscale"), sources=[f"file://{root}/*.jpg"])
        job, _ = await service.submit("ann", Pipeline.parse("grayscale"), sources=[f"file://{root}/[0-3].jpg"])
        assert (await finished(service, job)).counts.succeeded == 4


async def test_a_font_is_one_of_the_configured_folder_by_name(tmp_path: Path, pictures: list[bytes]) -> None:
    folder = tmp_path / "fonts"
    folder.mkdir()
    body = ImageFont.load_default(20).path.getvalue()  # type: ignore[union-attr]  # a FreeTypeFont of bytes
    (folder / "own.ttf").write_bytes(body)
    (folder / "broken.ttf").write_bytes(body[:50])
    (tmp_path / "secret.ttf").write_bytes(body)
    async with running(tmp_path / "data", fonts=folder) as service:
        pipeline = Pipeline().text("Sunday", font="own.ttf")
        written = await service.process("ann", pipeline, pictures[0])
        built_in = await service.process("ann", Pipeline().text("Sunday"), pictures[0])
        assert written.outcome.bytes == built_in.outcome.bytes  # it is the same font
        job, _ = await service.submit("ann", pipeline, uploads=[await upload(service, "ann", "a.jpg", pictures[0])])
        assert "own.ttf" not in job.pipeline
        (folder / "own.ttf").unlink()  # what was resolved stays
        assert (await finished(service, job)).state is State.SUCCEEDED
        for name in ("../secret.ttf", str(tmp_path / "secret.ttf"), "none.ttf", ".ttf", "broken.ttf", "file:///x.ttf"):
            with pytest.raises(InvalidParameter, match="text: "):
                await service.process("ann", Pipeline().text("a", font=name), pictures[0])


async def test_without_a_folder_of_fonts_no_file_is_read(tmp_path: Path, pictures: list[bytes]) -> None:
    async with running(tmp_path / "data") as service:
        with pytest.raises(InvalidParameter, match="known are aileron"):
            await service.process("ann", Pipeline().text("a", font="own.ttf"), pictures[0])
