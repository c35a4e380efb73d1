from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pixelmill.errors import InvalidURI, ObjectNotFound, StorageDenied, StorageFull
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.store import ObjectStore
from pixelmill.testing.object_store import MEGABYTE, ObjectStoreConformance, keys_of, pieces


class TestFolderStore(ObjectStoreConformance):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ObjectStore]:
        store = FolderStore(tmp_path / "store")
        yield store
        assert temps(store.root) == []
        store.close()


class TestFsyncFolderStore(ObjectStoreConformance):
    """With fsync every put goes through a thread."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ObjectStore]:
        store = FolderStore(tmp_path / "store", fsync=True)
        yield store
        assert temps(store.root) == []
        store.close()

    async def test_a_long_listing_is_whole(self, store: ObjectStore) -> None:
        """Not again: 1,200 times fsync says nothing new about listings."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    store = FolderStore(tmp_path / "store")
    yield store
    store.close()


def temps(root: Path) -> list[Path]:
    return sorted((root / ".pixelmill" / "tmp").glob("*/*"))


@pytest.mark.anyio
async def test_the_folder_is_made_by_the_first_put_and_an_absent_one_reads_as_empty(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "not" / "there")
    with pytest.raises(ObjectNotFound):
        await store.get("a")
    await store.delete(["a"])
    assert await keys_of(store) == []
    assert await store.sweep() == 0
    assert not store.root.exists()
    await store.put("a", b"x")
    assert store.local_path("a") == tmp_path / "not" / "there" / "a"
    store.close()


@pytest.mark.anyio
async def test_deletes_prune_empty_folders_but_not_the_root(store: FolderStore) -> None:
    await store.put("a/b/c/1", b"x")
    await store.put("a/2", b"x")
    await store.delete(["a/b/c/1"])
    assert sorted(path.name for path in store.root.rglob("*") if ".pixelmill" not in str(path)) == ["2", "a"]
    await store.delete(["a/2"])
    assert [path.name for path in store.root.iterdir()] == [".pixelmill"]


@pytest.mark.anyio
async def test_puts_survive_the_pruning_of_their_folder(store: FolderStore) -> None:
    async def put_and_delete(number: int) -> None:
        for _ in range(30):
            await store.put(f"deep/er/{number}", b"x" * (MEGABYTE + 1))  # larger ones go through threads
            await store.delete([f"deep/er/{number}", "deep/er/nothing"])

    await asyncio.gather(*map(put_and_delete, range(4)))
    assert await keys_of(store) == []


@pytest.mark.anyio
async def test_an_object_can_not_be_a_folder_too(store: FolderStore) -> None:
    await store.put("a", b"object")
    await store.put("b/c", b"object")
    with pytest.raises(InvalidURI, match="object and a folder"):
        await store.put("a/below", b"x")
    with pytest.raises(InvalidURI, match="object and a folder"):
        await store.put("b", b"x")
    assert await keys_of(store) == ["a", "b/c"]
    assert temps(store.root) == []


@pytest.mark.anyio
async def test_symbolic_links_inside_are_never_followed(store: FolderStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    await store.put("real/object", b"x")
    (store.root / "link").symlink_to(outside)
    (store.root / "file").symlink_to(outside / "secret")
    (store.root / "inner").symlink_to(store.root / "real")
    for key in ("link/secret", "file", "inner/object"):
        for call in (store.get(key), store.head(key), anext(store.stream(key)), store.get_range(key, 0, 1)):
            with pytest.raises(StorageDenied, match="Symbolic links"):
                await call
        assert store.local_path(key) is None
    with pytest.raises(StorageDenied, match="Symbolic links"):
        await store.put("link/new", b"x")
    with pytest.raises(StorageDenied, match="Symbolic links"):
        await store.delete(["link/secret"])
    assert await keys_of(store) == ["real/object"]
    await store.put("file", b"a put replaces the link, not what it points to")
    assert (outside / "secret").read_bytes() == b"secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.anyio
async def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    store = FolderStore(tmp_path / "data")
    await store.put("a", b"x")
    assert (tmp_path / "disk" / "a").read_bytes() == b"x"
    store.close()


@pytest.mark.anyio
async def test_foreign_things_in_the_folder_do_no_harm(store: FolderStore) -> None:
    await store.put("a", b"x")
    os.mkfifo(store.root / "fifo")
    (store.root / "line\nbreak").write_bytes(b"x")
    (store.root / os.fsdecode(b"latin-\xe9")).write_bytes(b"x")
    with pytest.raises(ObjectNotFound):
        await store.get("fifo")
    assert await keys_of(store) == ["a"]


@pytest.mark.anyio
async def test_a_stream_keeps_the_version_it_began_with(store: FolderStore) -> None:
    await store.put("object", b"old" * MEGABYTE)
    chunks = store.stream("object", MEGABYTE)
    first = await anext(chunks)
    await store.put("object", b"new")
    await store.delete(["object"])
    assert first + b"".join([chunk async for chunk in chunks]) == b"old" * MEGABYTE


@pytest.mark.anyio
async def test_the_store_recovers_when_its_folder_is_emptied_under_it(store: FolderStore) -> None:
    await store.put("a/b", b"x")
    shutil.rmtree(store.root)
    with pytest.raises(ObjectNotFound):
        await store.get("a/b")
    await store.put("a/b", b"y")
    assert await store.get("a/b") == b"y"


@pytest.mark.anyio
async def test_an_object_deeper_than_a_path_can_say_has_no_local_path(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 3500:
        deep /= "d" * 200
    store = FolderStore(deep)
    key = "/".join(["k" * 200] * 5)
    await store.put(key, b"x")
    assert await store.get(key) == b"x"
    assert store.local_path(key) is None
    await store.put("shallow", b"x")
    assert store.local_path("shallow") == deep / "shallow"
    store.close()


@pytest.mark.anyio
async def test_too_long_a_path_of_the_folder_is_a_bad_address(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "/".join(["d" * 200] * 25))
    with pytest.raises(InvalidURI, match="shorter"):
        await store.put("a", b"x")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "pixelmill-test", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


@pytest.mark.anyio
@pytest.mark.parametrize("as_stream", [False, True], ids=["bytes", "stream"])
async def test_a_full_disk_is_said_and_nothing_is_lost(small_disk: Path, as_stream: bool) -> None:
    store = FolderStore(small_disk / "store")
    await store.put("kept", b"k" * MEGABYTE)
    for key in ("kept", "new"):
        data = pieces(*[b"x" * MEGABYTE] * 4) if as_stream else b"x" * 4 * MEGABYTE
        with pytest.raises(StorageFull, match=r"No space left.*Free some space"):
            await store.put(key, data)
    assert temps(store.root) == []
    assert await keys_of(store) == ["kept"]
    assert await store.get("kept") == b"k" * MEGABYTE
    await store.delete(["kept"])
    await store.put("new", b"x" * 3 * MEGABYTE)
    store.close()


@pytest.mark.anyio
async def test_a_disk_that_fills_up_fails_the_check_until_there_is_room(small_disk: Path) -> None:
    store = FolderStore(small_disk / "store")
    filler = small_disk / "filler"
    await store.check()
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):  # noqa: PT012 fills the disk
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(StorageFull):
        await store.check()
    filler.unlink()
    await store.check()
    store.close()


@pytest.mark.anyio
async def test_a_read_only_folder_can_be_read_and_says_that_it_can_not_be_written(small_disk: Path) -> None:
    store = FolderStore(small_disk / "store")
    await store.put("folder/object", b"x")
    store.close()
    make_read_only(small_disk)
    store = FolderStore(small_disk / "store")
    assert await store.get("folder/object") == b"x"
    assert await keys_of(store) == ["folder/object"]
    for call in (store.put("new", b"x"), store.delete(["folder/object"]), store.check()):
        with pytest.raises(StorageDenied, match="Read-only"):
            await call
    assert await store.sweep() == 0


@pytest.mark.anyio
async def test_a_folder_that_turns_read_only_refuses_the_next_put(small_disk: Path) -> None:
    store = FolderStore(small_disk / "store")
    await store.put("object", b"x")
    make_read_only(small_disk)
    with pytest.raises(StorageDenied, match="Read-only"):
        await store.put("object", b"y")
    with pytest.raises(StorageDenied, match="Read-only"):
        await store.put("object", pieces(b"y" * MEGABYTE, b"y" * MEGABYTE))
    assert await store.get("object") == b"x"
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the read-only mount is tested instead")
@pytest.mark.anyio
async def test_a_folder_without_permission_says_so(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.root.mkdir(mode=0o500)
    with pytest.raises(StorageDenied, match="Permission denied"):
        await store.put("object", b"x")


LIMITED = """
    import asyncio, resource, sys
    from pathlib import Path
    from pixelmill.errors import StorageFull
    from pixelmill.storage.folder import FolderStore

    async def main() -> None:
        store = FolderStore(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
        for data in (b"x" * 2_000_000, b"y" * 1_500_000):
            try:
                await store.put("object", data)
                print("stored")
            except StorageFull as error:
                print("full")

    asyncio.run(main())
"""


def test_a_write_that_stops_half_way_is_no_object(tmp_path: Path) -> None:
    done = run_python(LIMITED, tmp_path / "store")
    assert done.stdout is not None
    assert done.stdout.read() == "full\nstored\n"
    assert done.wait() == 0
    done.stdout.close()
    assert (tmp_path / "store" / "object").read_bytes() == b"y" * 1_500_000
    assert temps(tmp_path / "store") == []


KILLED = """
    import asyncio, sys
    from pathlib import Path
    from pixelmill.storage.folder import FolderStore

    async def stuck():
        for _ in range(3):
            yield b"n" * (1 << 20)
        print("half", flush=True)
        await asyncio.Event().wait()

    async def main() -> None:
        store = FolderStore(Path(sys.argv[1]))
        await store.put("old", b"old")
        await store.put("old", stuck())

    asyncio.run(main())
"""


def run_python(text: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.anyio
async def test_a_put_that_was_killed_is_invisible_and_swept(tmp_path: Path) -> None:
    root = tmp_path / "store"
    writer = run_python(KILLED, root)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "half\n"
    store = FolderStore(root)
    assert await store.sweep() == 0, "a living process keeps its temporary files"
    assert len(temps(root)) == 1
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    writer.stdout.close()
    assert await keys_of(store) == ["old"]
    assert await store.get("old") == b"old"
    assert await store.sweep() == 1
    assert temps(root) == []
    assert list((root / ".pixelmill" / "tmp").iterdir()) == []
    await store.put("new", b"x")
    assert await store.sweep() == 0, "our own files are not swept"
    assert await store.get("new") == b"x"
    store.close()


@pytest.mark.anyio
async def test_a_check_that_was_never_finished_is_swept_when_it_is_old(store: FolderStore) -> None:
    await store.check()
    checks = store.root / ".pixelmill" / "check"
    checks.mkdir(exist_ok=True)
    for name in ("old", "new"):
        (checks / name).write_bytes(b"pixelmill")
    os.utime(checks / "old", (0, 0))
    assert await store.sweep() == 1
    assert [path.name for path in checks.iterdir()] == ["new"]


@pytest.mark.anyio
async def test_large_streams_take_little_memory(store: FolderStore) -> None:
    block = bytes(MEGABYTE)

    async def much() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield block

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await store.put("large", much())
    size = 0
    async for chunk in store.stream("large"):
        size += len(chunk)
    assert size == 300 * MEGABYTE
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 30_000, "the peak of the whole process may not grow by a tenth of the object"
