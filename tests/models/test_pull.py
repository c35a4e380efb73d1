"""Fetching weights, against a real HTTP server on the loopback."""

from __future__ import annotations

import fcntl
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pixelmill.errors import ModelError, StorageDenied
from pixelmill.models.folder import ModelFolder
from pixelmill.models.pull import ATTEMPTS, pull
from pixelmill.models.registry import REGISTRY, Entry, Weights

BODY = bytes(range(256)) * 4_000  # a megabyte


class Source:
    """A server of files that may break off, refuse ranges, or say something else."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks = 0  # answers that end in the middle
        self.after = 100_000  # bytes of those
        self.ranges = True
        self.status = 0
        self.tag = ""
        self.asked: list[str | None] = []
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                source.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        body = self.files.get(request.path.lstrip("/"))
        if self.status or body is None:
            request.send_error(self.status or 404)
            return
        if request.headers.get("If-Range", self.tag) != self.tag:
            asked = None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(body) and start:
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body) - start))
        if self.tag:
            request.send_header("ETag", self.tag)
        request.end_headers()
        part = body[start:]
        if self.breaks:
            self.breaks -= 1
            part = part[: self.after]
        request.wfile.write(part)

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    made.files["weights.onnx"] = BODY
    try:
        yield made
    finally:
        made.close()


def entry_at(source: Source, data: bytes = BODY) -> Entry:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return replace(
        REGISTRY["u2netp"], files=(Weights("weights.onnx", f"{source.url}/weights.onnx", digest, len(data)),)
    )


@pytest.fixture
def entry(source: Source) -> Entry:
    return entry_at(source)


@pytest.fixture
def folder(tmp_path: Path, entry: Entry) -> ModelFolder:
    return ModelFolder(tmp_path / "models", registry={"u2netp": entry})


def left(folder: ModelFolder) -> Mapping[str, int]:
    return {path.name: path.stat().st_size for path in folder.path.iterdir()} if folder.path.is_dir() else {}


def test_weights_come_whole_and_progress_is_told(source: Source, entry: Entry, folder: ModelFolder) -> None:
    told: list[tuple[str, int, int]] = []
    assert pull(entry, folder, progress=lambda *state: told.append(state)) == [folder.path / "weights.onnx"]
    assert (folder.path / "weights.onnx").read_bytes() == BODY
    assert told[-1] == ("weights.onnx", len(BODY), len(BODY))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert left(folder) == {"weights.onnx": len(BODY)}
    assert pull(entry, folder) == []
    assert len(source.asked) == 1


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(source: Source, entry: Entry, folder: ModelFolder) -> None:
    source.breaks = 5
    pull(entry, folder)
    assert (folder.path / "weights.onnx").read_bytes() == BODY
    assert source.asked[0] is None
    starts = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in source.asked[1:]]
    assert starts == sorted(starts)
    assert starts[0] > 0
    assert len(source.asked) == 6


def test_what_an_earlier_run_left_is_used(source: Source, entry: Entry, folder: ModelFolder) -> None:
    folder.path.mkdir()
    (folder.path / "weights.onnx.part").write_bytes(BODY[:300_000])
    pull(entry, folder)
    assert source.asked == ["bytes=300000-"]
    assert (folder.path / "weights.onnx").read_bytes() == BODY


@pytest.mark.parametrize(
    ("before", "now", "asked"),
    [
        ('"a"', '"a"', "bytes=300000-"),
        ('"a"', '"b"', "bytes=300000-"),
        ('W/"a"', 'W/"a"', None),
        ("", "", None),
    ],
)
def test_without_a_sum_only_the_same_version_is_gone_on_with(
    source: Source, entry: Entry, folder: ModelFolder, before: str, now: str, asked: str | None
) -> None:
    """Else the file would be made of two, and nothing would tell."""
    unknown = replace(entry, files=(replace(entry.files[0], digest=""),))
    source.tag, source.breaks, source.after = before, 1, 300_000
    source.files["weights.onnx"] = BODY if before and before == now else bytes(len(BODY))

    def stop(_file: str, done: int, _size: int) -> None:
        if not source.breaks and done >= 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(unknown, folder, progress=stop)
    source.tag = now
    source.files["weights.onnx"] = BODY
    pull(unknown, folder)
    assert (folder.path / "weights.onnx").read_bytes() == BODY
    assert source.asked == [None, asked]
    assert left(folder) == {"weights.onnx": len(BODY)}


def test_a_left_part_of_something_else_is_thrown_away(source: Source, entry: Entry, folder: ModelFolder) -> None:
    folder.path.mkdir()
    for stale in (b"stale" * 1_000, BODY + b"more", b"x" * len(BODY)):
        (folder.path / "weights.onnx.part").write_bytes(stale)
        pull(entry, folder, force=True)
        assert (folder.path / "weights.onnx").read_bytes() == BODY


def test_a_server_without_ranges_sends_all_again(source: Source, entry: Entry, folder: ModelFolder) -> None:
    source.ranges, source.breaks = False, 1
    pull(entry, folder)
    assert (folder.path / "weights.onnx").read_bytes() == BODY


def test_a_server_that_brings_nothing_is_given_up_and_the_part_stays(
    source: Source, entry: Entry, folder: ModelFolder
) -> None:
    source.breaks, source.after = 10**6, 0
    folder.path.mkdir()
    (folder.path / "weights.onnx.part").write_bytes(BODY[:300_000])
    with pytest.raises(ModelError, match="goes on where it stopped"):
        pull(entry, folder)
    assert len(source.asked) == ATTEMPTS
    assert left(folder) == {"weights.onnx.part": 300_000}
    source.breaks, source.status = 0, 503
    with pytest.raises(ModelError, match="503"):
        pull(entry, folder)


def test_another_sum_is_refused_and_nothing_is_left_to_be_used(source: Source, folder: ModelFolder) -> None:
    source.files["weights.onnx"] = BODY[:-1] + b"!"
    with pytest.raises(ModelError, match="with another sum"):
        pull(entry_at(source), folder)
    assert left(folder) == {}
    assert len(source.asked) == 1


def test_weights_that_are_here_stay_when_new_ones_are_wrong(source: Source, entry: Entry, folder: ModelFolder) -> None:
    pull(entry, folder)
    source.files["weights.onnx"] = b"something else"
    with pytest.raises(ModelError, match="another sum"):
        pull(entry, folder, force=True)
    assert (folder.path / "weights.onnx").read_bytes() == BODY


def test_a_file_that_is_gone_or_far_too_large_is_an_error_at_once(
    source: Source, entry: Entry, folder: ModelFolder
) -> None:
    source.status = 404
    with pytest.raises(ModelError, match="HTTP status 404"):
        pull(entry, folder)
    source.status = 0
    source.files["weights.onnx"] = BODY * 3
    with pytest.raises(ModelError, match="sends more than"):
        pull(entry, folder)
    assert len(source.asked) == 2


def test_offline_never_tries_the_network(source: Source, entry: Entry, folder: ModelFolder) -> None:
    with pytest.raises(ModelError, match=r"network may not be used.*PIXELMILL_OFFLINE"):
        pull(entry, folder, offline=True)
    assert source.asked == []
    pull(entry, folder)
    assert pull(entry, folder, offline=True) == []
    assert len(source.asked) == 1


def test_nobody_listening_is_told(entry: Entry, folder: ModelFolder, source: Source) -> None:
    nowhere = replace(entry, files=(replace(entry.files[0], url="http://127.0.0.1:1/weights.onnx"),))
    with pytest.raises(ModelError, match="could not be fetched"):
        pull(nowhere, folder)


def test_two_at_once_do_not_write_into_each_other(entry: Entry, folder: ModelFolder) -> None:
    folder.path.mkdir()
    with (folder.path / "weights.onnx.part").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="Another process is fetching"):
            pull(entry, folder)


def test_a_folder_that_can_not_be_made_is_told(entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="can't be used") as caught:
        pull(entry, ModelFolder(tmp_path / "file" / "models"))
    assert not isinstance(caught.value, StorageDenied)


# -- checkpoint folders --------------------------------------------------------------------------


def captioner_files(captioner: Path) -> dict[str, bytes]:
    """The tiny captioner under the names that the registry has."""
    names = {"processor_config.json": "preprocessor_config.json"}
    wanted = {item.file.rpartition("/")[2] for item in REGISTRY["blip-base"].files}
    found = {names.get(path.name, path.name): path.read_bytes() for path in captioner.iterdir()}
    return {name: found[name] for name in sorted(wanted)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("remote", [True, False])
def test_a_folder_as_newer_tools_write_it_comes_as_well(
    source: Source, captioner: Path, tmp_path: Path, remote: bool
) -> None:
    assert not (captioner / "preprocessor_config.json").exists()
    source.files.update({f"m/{path.name}": path.read_bytes() for path in captioner.iterdir()})
    folder, entry = ModelFolder(tmp_path / "models"), REGISTRY["blip-base"]
    fetched = pull(entry, folder, place=f"{source.url}/m" if remote else str(captioner))
    assert "processor_config.json" in {path.name for path in fetched}
    assert folder.state(entry, check=True) == "here"
    assert not [path.name for path in (folder.path / "blip-base").iterdir() if path.suffix == ".part"]
    assert pull(entry, folder) == []
    assert folder.remove(entry) > 0
    assert not list(folder.path.iterdir())


@pytest.mark.timeout(600)
def test_a_folder_comes_from_an_address_that_has_its_files(source: Source, captioner: Path, tmp_path: Path) -> None:
    files = captioner_files(captioner)
    source.files.update({f"mirror/{name}": data for name, data in files.items()})
    source.breaks, source.after = 2, 1_000
    folder, entry = ModelFolder(tmp_path / "models"), REGISTRY["blip-base"]
    assert folder.state(entry) == "missing"
    fetched = pull(entry, folder, place=f"{source.url}/mirror/")
    assert {path.name: path.read_bytes() for path in fetched} == files
    assert folder.state(entry, check=True) == "here"
    assert {path.name for path in (folder.path / "blip-base").iterdir() if path.name[0] != "."} == set(files)
    assert pull(entry, folder) == []
    assert len(pull(entry, folder, force=True, place=str(folder.path / "blip-base"))) == len(files)
    assert folder.remove(entry) > 0
    assert not list(folder.path.iterdir())


@pytest.mark.timeout(600)
def test_what_is_not_of_its_kind_is_thrown_away(source: Source, captioner: Path, tmp_path: Path) -> None:
    folder, entry = ModelFolder(tmp_path / "models"), REGISTRY["blip-base"]
    good = captioner_files(captioner)
    for name, data in (
        ("model.safetensors", b"<html>a page that wants a login</html>"),
        ("model.safetensors", good["model.safetensors"][:-100]),
        ("config.json", b"<html>"),
    ):
        source.files.update({f"m/{file}": data if file == name else body for file, body in good.items()})
        with pytest.raises(ModelError, match=rf"{name} came from .* is not what it is called.*thrown away"):
            pull(entry, folder, place=f"{source.url}/m")
        assert not (folder.path / "blip-base" / name).exists()


def test_a_folder_without_a_place_is_told_what_to_do(tmp_path: Path) -> None:
    folder, entry = ModelFolder(tmp_path / "models"), REGISTRY["blip-base"]
    with pytest.raises(ModelError, match=r"knows no address of blip-base.*--from FOLDER-OR-URL.*model.safetensors"):
        pull(entry, folder)
    with pytest.raises(ModelError, match=r"There is no model.safetensors in"):
        pull(entry, folder, place=str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="the network may not be used"):
        pull(entry, folder, offline=True, place="https://127.0.0.1:9/m")


def test_a_mirror_is_held_to_the_sums_of_the_registry(source: Source, entry: Entry, folder: ModelFolder) -> None:
    source.files["mirror/weights.onnx"] = BODY[::-1]
    with pytest.raises(ModelError, match="another sum than the registry knows"):
        pull(entry, folder, place=f"{source.url}/mirror")
    source.files["mirror/weights.onnx"] = BODY
    assert pull(entry, folder, place=f"{source.url}/mirror") == [folder.path / "weights.onnx"]
