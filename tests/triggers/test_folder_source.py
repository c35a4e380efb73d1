"""A watched folder tells each file once it is whole, whatever way it comes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from takers import RecordingTaker, running

from pixelmill.errors import ConfigError
from pixelmill.triggers import folder as folder_module
from pixelmill.triggers.candidates import Candidates
from pixelmill.triggers.folder_scan import Walker, is_skipped
from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.source import EventSource, open_source
from pixelmill.triggers.wholeness import Looked, Verdict, look

pytestmark = pytest.mark.anyio


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def source_of(folder: Path, **options: str) -> EventSource:
    return open_source(SourceSpec("drop", "folder", {"path": str(folder), **options}), roots=[folder.parent])


async def ready(folder: Path, taker: RecordingTaker, name: str = "first.jpg") -> None:
    """Once the first file was told, the kernel watches the folder."""
    (folder / name).write_bytes(b"first")
    await taker.until((folder / name).as_uri())


async def test_a_file_that_is_written_is_told_with_what_is_known_of_it(inbox: Path) -> None:
    taker = RecordingTaker()
    path = inbox / "a b+ü%.JPG"
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        path.write_bytes(b"12345")
        uri = f"file://{inbox}/a%20b+%C3%BC%25.JPG"
        await taker.until(uri)
    (event,) = [event for event in taker.events if event.uri == uri]
    facts = path.stat()
    assert (event.kind, event.size, event.media_type, event.provider) == ("created", 5, "image/jpeg", "folder")
    assert event.version == f"{facts.st_mtime_ns}-5"
    assert event.at == pytest.approx(facts.st_ctime, abs=0.001)


async def test_a_file_counts_when_its_slow_writer_has_ended(inbox: Path) -> None:
    """Another process writes: pieces, flushed, with the file open; it goes on when told to."""
    taker = RecordingTaker()
    program = (
        "import sys\n"
        "with open(sys.argv[1], 'wb') as file:\n"
        "    for line in sys.stdin:\n"
        "        file.write(b'x' * 1000); file.flush(); print('written', flush=True)\n"
    )
    path = inbox / "slow.jpg"
    async with running(source_of(inbox, settle="0.05"), taker):
        await ready(inbox, taker)
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            for number in range(5):
                writer.stdin.write("more\n")
                writer.stdin.flush()
                assert await asyncio.to_thread(writer.stdout.readline) == "written\n"
                # What comes later is told, so the watch has had its chance with what came before.
                await ready(inbox, taker, f"between-{number}.jpg")
                assert path.as_uri() not in taker.uris
            writer.stdin.close()
            await asyncio.to_thread(writer.wait)
        await taker.until(path.as_uri())
    assert [event.size for event in taker.events if event.uri == path.as_uri()] == [5000]


async def test_a_file_that_is_renamed_into_place_counts_and_its_temporary_name_does_not(inbox: Path) -> None:
    taker = RecordingTaker()
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        for name in (".hidden.jpg", "x.jpg.part", "x.tmp", "x.crdownload", "x.jpg~", "~$x.jpg", "x.PART"):
            (inbox / name).write_bytes(b"half")
        (inbox / ".cache").mkdir()
        (inbox / ".cache" / "x.jpg").write_bytes(b"no")
        (inbox / "x.jpg.part").rename(inbox / "x.jpg")
        await taker.until((inbox / "x.jpg").as_uri())
        await ready(inbox, taker, "last.jpg")
    assert set(taker.uris) == {(inbox / name).as_uri() for name in ("first.jpg", "x.jpg", "last.jpg")}


async def test_an_empty_file_counts_when_something_is_written_into_it(inbox: Path) -> None:
    taker = RecordingTaker()
    path = inbox / "begun.jpg"
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        path.touch()
        await ready(inbox, taker, "between.jpg")
        assert path.as_uri() not in taker.uris
        path.write_bytes(b"now")
        await taker.until(path.as_uri())


async def test_a_file_that_is_written_again_is_another_version(inbox: Path) -> None:
    taker = RecordingTaker()
    path = inbox / "again.jpg"
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        path.write_bytes(b"one")
        await taker.until(path.as_uri())
        path.write_bytes(b"three")
        async with asyncio.timeout(30):
            while {event.size for event in taker.events if event.uri == path.as_uri()} != {3, 5}:
                await taker.until_called(taker.calls + 1)
    versions = [event.version for event in taker.events if event.uri == path.as_uri()]
    assert len(versions) == len(set(versions))


async def test_two_thousand_files_dropped_at_once_are_told_once_each(inbox: Path) -> None:
    taker = RecordingTaker()

    def drop() -> None:
        for number in range(2_000):
            folder = inbox / f"day {number % 7}" / f"{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(b"x" * (number + 1))

    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        await asyncio.to_thread(drop)
        await taker.until(*(path.as_uri() for path in inbox.rglob("*.jpg")))
    assert len(taker.uris) == 2_001
    last = {event.uri: event.size for event in taker.events}
    assert last == {path.as_uri(): path.stat().st_size for path in inbox.rglob("*.jpg")}


async def test_folders_that_come_go_and_come_back_are_watched(inbox: Path, tmp_path: Path) -> None:
    taker = RecordingTaker()
    prepared = tmp_path / "prepared"
    (prepared / "deep" / "deeper").mkdir(parents=True)
    (prepared / "deep" / "deeper" / "old.jpg").write_bytes(b"old")
    os.utime(prepared / "deep" / "deeper" / "old.jpg", (1_000_000_000, 1_000_000_000))
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        prepared.rename(inbox / "moved")
        await taker.until((inbox / "moved/deep/deeper/old.jpg").as_uri())
        (inbox / "moved/deep/deeper/new.jpg").write_bytes(b"new")
        await taker.until((inbox / "moved/deep/deeper/new.jpg").as_uri())
        (inbox / "moved/deep/deeper/new.jpg").unlink()
        (inbox / "moved/deep/deeper/old.jpg").unlink()
        (inbox / "moved/deep/deeper").rmdir()
        (inbox / "moved/deep/deeper").mkdir()
        (inbox / "moved/deep/deeper/third.jpg").write_bytes(b"third")
        await taker.until((inbox / "moved/deep/deeper/third.jpg").as_uri())


async def test_a_folder_that_is_taken_away_and_made_anew_is_watched_again(inbox: Path) -> None:
    taker = RecordingTaker()
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        (inbox / "first.jpg").unlink()
        inbox.rmdir()
        inbox.mkdir()
        (inbox / "second.jpg").write_bytes(b"second")
        await taker.until((inbox / "second.jpg").as_uri())


async def test_a_restart_catches_up_what_it_missed(inbox: Path) -> None:
    first, second = RecordingTaker(), RecordingTaker()
    async with running(source_of(inbox), first):
        await ready(inbox, first)
    (inbox / "sub").mkdir()
    (inbox / "sub" / "missed.jpg").write_bytes(b"missed")
    os.utime(inbox / "sub" / "missed.jpg", (1_000_000_000, 1_000_000_000))
    async with running(source_of(inbox), second):
        await second.until((inbox / "sub/missed.jpg").as_uri(), (inbox / "first.jpg").as_uri())
    known = {event.uri: event.version for event in first.events}
    again = {event.uri: event.version for event in second.events}
    assert again[(inbox / "first.jpg").as_uri()] == known[(inbox / "first.jpg").as_uri()]


async def test_without_catching_up_only_what_is_new_counts(inbox: Path) -> None:
    (inbox / "old").mkdir()
    (inbox / "old" / "before.jpg").write_bytes(b"before")
    await later_by_the_clock_of(inbox)
    taker = RecordingTaker()
    async with running(source_of(inbox, catch_up="no"), taker):
        await ready(inbox, taker)
        (inbox / "old" / "after.jpg").write_bytes(b"after")
        await taker.until((inbox / "old" / "after.jpg").as_uri())
    assert (inbox / "old" / "before.jpg").as_uri() not in taker.uris


async def later_by_the_clock_of(folder: Path) -> None:
    """Return when a new file would be younger than every file that is there, and by more than a tick."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    probe = folder / ".probe"
    while True:
        probe.write_bytes(b"x")
        if probe.stat().st_ctime_ns > newest + 100_000_000:
            probe.unlink()
            return
        probe.unlink()


async def test_links_are_not_followed(inbox: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "secret.jpg").write_bytes(b"secret")
    (inbox / "folder-link").symlink_to(outside)
    (inbox / "file-link.jpg").symlink_to(outside / "secret.jpg")
    taker = RecordingTaker()
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        (inbox / "late-link").symlink_to(outside / "deep")
        (outside / "deep" / "late.jpg").write_bytes(b"secret")
        (outside / "other.jpg").write_bytes(b"secret")
        await ready(inbox, taker, "last.jpg")
    assert set(taker.uris) == {(inbox / "first.jpg").as_uri(), (inbox / "last.jpg").as_uri()}


async def test_names_that_no_address_has_room_for_are_unread(inbox: Path) -> None:
    taker = RecordingTaker()
    (inbox / "line\nbreak.jpg").write_bytes(b"x")
    Path(os.fsdecode(bytes(inbox) + b"/\xff.jpg")).write_bytes(b"x")
    async with running(source_of(inbox), taker):
        await taker.until_unread(2)
        await ready(inbox, taker)
    assert {part.reason for part in taker.unread} == {"bad-key"}


async def test_a_name_that_is_no_utf8_does_not_end_the_watch(inbox: Path) -> None:
    taker = RecordingTaker()
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        Path(os.fsdecode(bytes(inbox) + b"/\xfe.jpg")).write_bytes(b"x")
        (inbox / "good.jpg").write_bytes(b"good")
        await taker.until((inbox / "good.jpg").as_uri())


async def test_events_that_can_not_be_recorded_are_kept(inbox: Path) -> None:
    taker = RecordingTaker(failures=2)
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
    assert taker.calls >= 3
    assert taker.uris == {(inbox / "first.jpg").as_uri(): 1}


async def test_a_change_while_the_taker_is_busy_is_not_lost(inbox: Path) -> None:
    taker = RecordingTaker()
    path = inbox / "busy.jpg"
    async with running(source_of(inbox), taker):
        await ready(inbox, taker)
        taker.gate.clear()
        path.write_bytes(b"one")
        await taker.until_called(taker.calls + 1)
        path.write_bytes(b"three")
        taker.gate.set()
        async with asyncio.timeout(30):
            while {event.size for event in taker.events if event.uri == path.as_uri()} != {3, 5}:
                await taker.until_called(taker.calls + 1)


async def test_more_files_than_there_is_room_for_are_found_by_the_scan(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "Candidates", lambda settle: Candidates(settle, maximum=16))
    for number in range(200):
        (inbox / f"old-{number}.jpg").write_bytes(b"old")
    taker = RecordingTaker()
    taker.gate.clear()
    async with running(source_of(inbox), taker):
        await taker.until_called()
        for number in range(200):
            (inbox / f"new-{number}.jpg").write_bytes(b"new")
        taker.gate.set()
        await taker.until(*(path.as_uri() for path in inbox.iterdir()))


async def test_the_scan_finds_what_no_watch_told(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an overflow of the kernel's queue: the watch goes on, and has dropped notices."""

    async def deaf(self: object, changes: object) -> None:
        return None

    monkeypatch.setattr(folder_module.FolderSource, "_hear", deaf)
    taker = RecordingTaker()
    async with running(source_of(inbox, rescan="1"), taker):
        await ready(inbox, taker)
        (inbox / "unheard.jpg").write_bytes(b"unheard")
        await taker.until((inbox / "unheard.jpg").as_uri())


async def test_a_polled_folder_tells_its_files_too(inbox: Path) -> None:
    taker = RecordingTaker()
    async with running(source_of(inbox, polling="true"), taker):
        await ready(inbox, taker)
        await ready(inbox, taker, "second.jpg")


@pytest.mark.parametrize("where", ["/", "..", "nowhere", "file.jpg", "relative"])
def test_a_folder_outside_the_source_roots_is_refused_with_what_to_do(tmp_path: Path, where: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.jpg").touch()
    path = where if where in {"/", "relative"} else str(root / where)
    with pytest.raises(ConfigError, match=r"source-root|no folder"):
        open_source(SourceSpec("drop", "folder", {"path": path}), roots=[root])
    with pytest.raises(ConfigError, match="--source-root"):
        open_source(SourceSpec("drop", "folder", {"path": str(root)}))


# -- wholeness -------------------------------------------------------------------------------------------------------


async def test_the_kernel_says_whether_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    with path.open("wb") as file:
        file.write(b"abc")
        file.flush()
        looked = look(str(tmp_path), "x.jpg")
        if looked.verdict is Verdict.UNKNOWN:
            pytest.skip("no leases on the file system of temporary files")
        assert looked.verdict is Verdict.WRITTEN
    assert look(str(tmp_path), "x.jpg").verdict is Verdict.WHOLE
    with path.open("rb"):
        assert look(str(tmp_path), "x.jpg") == Looked(
            Verdict.WHOLE, 3, path.stat().st_mtime_ns, path.stat().st_ctime_ns
        )


async def test_what_is_no_file_is_gone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "through").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "inner").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    for key in ("folder", "link", "through/inner", "pipe", "nothing", "file/below"):
        assert look(str(tmp_path), key).verdict is Verdict.GONE
    assert look(str(tmp_path), "folder/inner").size == 1


def test_a_writer_that_comes_while_the_kernel_is_asked_ends_nobody(tmp_path: Path) -> None:
    """The kernel tells the holder of a lease by a signal that a writer came; its default would end the process."""
    program = (
        "import sys, threading\n"
        "from pixelmill.triggers.wholeness import look\n"
        "path = sys.argv[1] + '/x.jpg'\n"
        "open(path, 'wb').write(b'x')\n"
        "seen = set()\n"
        "def write():\n"
        "    for _ in range(20000):\n"
        "        with open(path, 'r+b') as file: file.write(b'y')\n"
        "writers = [threading.Thread(target=write) for _ in range(2)]\n"
        "[one.start() for one in writers]\n"
        "while any(one.is_alive() for one in writers): seen.add(look(sys.argv[1], 'x.jpg').verdict.name)\n"
        "print(sorted(seen))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "WRITTEN" in done.stdout or "UNKNOWN" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_of_somebody_elses_file_the_kernel_says_nothing() -> None:
    program = (
        "import os, sys\n"
        "from pixelmill.triggers.wholeness import look\n"
        "look(sys.argv[1], 'x.jpg')\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "seen = look(sys.argv[1], 'x.jpg'); print(seen.verdict.name, seen.size)\n"
        "hidden = look(sys.argv[1], 'hidden.jpg'); print(hidden.verdict.name, hidden.size)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, mode in (("x.jpg", 0o644), ("hidden.jpg", 0o600)):
            (Path(folder) / name).write_bytes(b"12345")
            (Path(folder) / name).chmod(mode)
        done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True)
    assert done.stdout.split() == ["UNKNOWN", "5", "UNKNOWN", "5"], done.stderr


def unknown(size: int, modified: int = 1) -> Looked:
    return Looked(Verdict.UNKNOWN, size, modified, modified)


def test_where_the_kernel_can_not_say_a_file_must_lie_still() -> None:
    candidates = Candidates(settle_s=2.0)
    candidates.add("x", 0.0)
    assert candidates.due(0.0, 10) == ["x"]
    assert not candidates.judge("x", unknown(10), 0.0)
    assert candidates.due(1.9, 10) == []
    assert candidates.due(2.0, 10) == ["x"]
    assert not candidates.judge("x", unknown(20), 2.0)  # it has grown
    assert candidates.due(4.0, 10) == ["x"]
    assert candidates.judge("x", unknown(20), 4.0)
    assert len(candidates) == 0


def test_a_file_that_is_written_is_looked_at_less_and_less_often() -> None:
    candidates = Candidates(settle_s=2.0)
    candidates.add("x", 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        assert candidates.due(now, 10) == ["x"]
        assert not candidates.judge("x", Looked(Verdict.WRITTEN, 1), now)
        due = candidates.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == sorted(pauses)
    assert pauses[-1] == 1.0


def test_a_notice_that_comes_while_a_file_is_looked_at_is_not_lost() -> None:
    candidates = Candidates(settle_s=2.0)
    candidates.add("x", 0.0)
    assert candidates.due(0.0, 10) == ["x"]
    candidates.add("x", 0.1)
    assert candidates.judge("x", Looked(Verdict.WHOLE, 1, 1, 1), 0.2)
    assert candidates.due(0.2, 10) == ["x"]


def test_candidates_are_bounded() -> None:
    candidates = Candidates(settle_s=2.0, maximum=2)
    assert candidates.add("a", 0.0)
    assert candidates.add("b", 0.0)
    assert not candidates.add("c", 0.0)
    assert candidates.add("a", 0.0)
    assert candidates.due(0.0, 10) == ["b", "a"] or candidates.due(0.0, 10) == []
    assert len(candidates) == 2


@pytest.mark.parametrize(
    ("key", "skipped"),
    [
        ("a.jpg", False),
        ("b/a.jpg", False),
        (".a.jpg", True),
        ("b/.a.jpg", True),
        (".b/a.jpg", True),
        ("a.jpg.part", True),
        ("a.TMP", True),
        ("a.jpg~", True),
        ("~$a.docx", True),
        ("part/a.jpg", False),
        ("tmp", False),
    ],
)
def test_names_of_what_is_hidden_or_not_finished(key: str, skipped: bool) -> None:
    assert is_skipped(key) is skipped


def test_a_walk_leaves_out_what_it_has_seen_but_not_folders_that_are_new(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "one.jpg").write_bytes(b"1")
    walker = Walker(str(root))
    assert list(walker.walk()) == ["a/one.jpg"]
    later = max(path.stat().st_ctime for path in root.rglob("*")) + 1
    assert list(walker.walk(later)) == []
    moved = tmp_path / "moved" / "inner"
    moved.mkdir(parents=True)
    (moved / "two.jpg").write_bytes(b"2")
    (tmp_path / "moved").rename(root / "moved")
    assert list(walker.walk(later)) == ["moved/inner/two.jpg"]
    assert list(walker.walk(later)) == []
    assert list(walker.walk(start="a")) == ["a/one.jpg"]
    assert list(walker.walk(start="nothing")) == []


def test_a_walk_holds_no_list_of_a_large_folder(tmp_path: Path) -> None:
    """Names come while the folder is read."""
    for number in range(3_000):
        (tmp_path / f"{number}.jpg").touch()
    names = Walker(str(tmp_path)).walk()
    first = next(names)
    for path in tmp_path.iterdir():
        if path.name != first:
            path.unlink()
    assert len(list(names)) < 2_999
