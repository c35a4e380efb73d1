from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from cli_tools import Cli, clean_environment, command, picture
from PIL import Image as Pillow

from pixelmill import Pipeline, __version__, probe
from pixelmill.cli import COMMANDS
from pixelmill.cli.doctor import EXTRAS, NEEDED
from pixelmill.cli.operations import usage
from pixelmill.cli.samples import SAMPLES, draw_all
from pixelmill.client import Client
from pixelmill.images.encoders import ENDS
from pixelmill.images.formats import FORMATS
from pixelmill.operations.table import all_operations, operation_named

OPERATIONS = {operation.name for operation in all_operations()}
ROOT = Path(__file__).parent.parent.parent


# -- the front door ------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_none(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    for row in COMMANDS:
        assert re.search(rf"^  {row.name} +{re.escape(row.summary[:30])}", done.stdout.decode(), re.MULTILINE)
    code = (
        "import sys; from pixelmill.cli import build; build(['--help']); "
        "print([name for name in ('cv2', 'numpy', 'pydantic', 'httpx', 'fastapi', 'rich') if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, env=clean_environment(), timeout=60)
    assert seen.stdout.decode().strip() == "[]", seen.stderr


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_every_command_explains_itself(cli: Cli, row: object) -> None:
    name = row.name  # type: ignore[attr-defined]  # parametrize gives object
    done = cli(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"pixelmill {name}" in done.stdout.decode()


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").stdout.decode().strip() == f"pixelmill {__version__}"


def test_a_traceback_is_shown_only_on_request(cli: Cli) -> None:
    assert b"Traceback" not in cli("operations", "greyscale").stderr
    debugged = cli("--debug", "operations", "greyscale")
    assert b"Traceback" in debugged.stderr
    assert debugged.returncode == 2


def test_a_reader_that_leaves_is_no_error_message(tmp_path: Path) -> None:
    """As in `pixelmill operations --json | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command("operations", "--json"),
        stdout=write,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
        timeout=60,
    )
    os.close(write)
    assert done.stderr == b""


# -- operations, inspect, config, doctor ---------------------------------------------------------


def test_operations_lists_all_and_explains_one(cli: Cli) -> None:
    listed = cli("operations").stdout.decode()
    assert all(name in listed for name in OPERATIONS)
    explained = cli("operations", "gaussian").stdout.decode()
    assert "sigma" in explained
    assert "0.1" in explained
    records = json.loads(cli("operations", "--json").stdout)
    assert {record["name"] for record in records} == OPERATIONS


def test_formats_lists_all_and_explains_the_options_of_one(cli: Cli) -> None:
    listed = cli("formats").stdout.decode()
    assert all(f"{name} " in listed for name in FORMATS)
    assert "pixelmill[heic]" in listed
    for name, options in list(ENDS.items())[::3]:
        explained = cli("formats", name).stdout.decode()
        assert all(field in explained for field in options.model_fields)
    records = {record["name"]: record for record in json.loads(cli("formats", "--json").stdout)}
    assert {name for name, record in records.items() if record["written"]} == set(ENDS)
    assert records["svg"]["parameters"] is None
    assert b"heic is read, not written" in cli("formats", "heic").stderr


@pytest.mark.parametrize("step", ["frame", "metadata", "preset", "format"])
def test_a_step_that_is_no_operation_is_told_of_as_what_it_is(cli: Cli, step: str) -> None:
    told = cli("operations", step).stderr.decode()
    assert f"{step} is a step beside the operations" in told
    assert "Did you mean" not in told


def test_an_extension_that_is_only_read_is_not_offered_for_results(cli: Cli, pictures: Path) -> None:
    told = cli("run", "invert", next(pictures.iterdir()), "-o", "a.heic").stderr.decode()
    assert ".webp" in told
    assert ".svg" not in told


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_example_of_every_operation_can_be_read(name: str) -> None:
    assert Pipeline.parse(usage(operation_named(name))).operations


def test_inspect_tells_which_metadata_there_is(cli: Cli, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif.update({271: "Maker", 272: "Model X", 315: "Joan"})
    exif.get_ifd(0x8825).update({1: "N"})
    file = tmp_path / "a.jpg"
    Pillow.new("RGB", (8, 6)).save(file, exif=exif.tobytes())
    told = json.loads(cli("inspect", "--json", file).stdout)["metadata"]
    assert told == {"exif": told["exif"], "gps": True, "camera": "Maker Model X", "artist": "Joan"}
    assert "exif gps" in cli("inspect", file).stdout.decode()
    listed = cli("inspect", "--metadata", file).stdout.decode()
    for text in ("Maker Model X", "Joan", "gps", f"{told['exif']:,} bytes"):
        assert text in listed


def test_inspect_reads_headers_and_names_what_is_no_image(cli: Cli, pictures: Path) -> None:
    done = cli("inspect", pictures / "a.jpg", pictures / "notes.txt", pictures / "absent.png")
    assert done.returncode == 1
    assert re.search(r"a\.jpg +jpeg +160x120", done.stdout.decode())
    assert b"notes.txt: " in done.stderr
    assert b"absent.png: There is no such file" in done.stderr
    record = json.loads(cli("inspect", "--json", pictures / "b.png").stdout)
    assert (record["format"], record["size"]) == ("png", [160, 120])


def test_config_show_names_the_source_of_every_value(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("port = 9001\n")
    done = cli(
        "--config", file, "config", "show", "--json", env={"PIXELMILL_WORKERS": "3", "PIXELMILL_TOKEN": "pm_secret"}
    )
    shown = json.loads(done.stdout)
    assert shown["port"] == {"value": "9001", "source": f"file {file}"}
    assert shown["workers"] == {"value": "3", "source": "variable PIXELMILL_WORKERS"}
    assert shown["host"]["source"] == "default"
    assert b"pm_secret" not in done.stdout


def test_doctor_finds_this_machine_fit(cli: Cli, tmp_path: Path) -> None:
    done = cli("doctor", "--json", "--data", tmp_path / "data")
    findings = {record["what"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert findings["codecs"]["verdict"] == "ok"
    assert findings["data folder"]["verdict"] == "ok"


def test_doctor_says_what_to_do_about_a_data_folder_that_cannot_be(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("doctor", "--data", tmp_path / "file")
    assert done.returncode == 1
    assert b"MISSING" in done.stdout
    assert b"--data" in done.stdout


def test_doctor_checks_what_the_package_depends_on() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", line)[0] for line in declared}
    assert names - {"python-multipart"} <= {name for name, _ in NEEDED} | {"python-multipart"}
    for name, least in NEEDED:
        assert any(re.match(rf"{name}(\[.*\])?>={re.escape(least)}\b", line) for line in declared), name


def test_doctor_knows_every_extra_and_what_it_brings() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared)
    for name, packages in EXTRAS.items():
        assert set(packages) <= {re.split(r"[\[<>=]", line)[0] for line in declared[name]}


# -- tokens --------------------------------------------------------------------------------------


def test_tokens_are_created_listed_without_secret_and_revoked(cli: Cli, tmp_path: Path) -> None:
    data = tmp_path / "data"
    created = cli("tokens", "create", "laptop", "--scope", "process", "--expires", "30d", "--data", data, "--json")
    token = json.loads(created.stdout)
    assert token["secret"].startswith("pm_")
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    listed = cli("tokens", "list", "--data", data, "--json").stdout
    assert token["secret"].encode() not in listed
    assert json.loads(listed)["scopes"] == "process"
    assert cli("tokens", "revoke", token["id"], "--data", data).returncode == 0
    assert json.loads(cli("tokens", "list", "--data", data, "--json").stdout)["revoked"]
    assert cli("tokens", "revoke", "0000", "--data", data).returncode == 1
    wrong = cli("tokens", "create", "x", "--scope", "root", "--data", data)
    assert wrong.returncode == 2
    assert b"jobs:read" in wrong.stderr


def test_only_the_secret_is_on_stdout(cli: Cli, tmp_path: Path) -> None:
    done = cli("tokens", "create", "script", "--data", tmp_path / "data")
    assert re.fullmatch(rb"pm_[\w-]+\n", done.stdout)


# -- jobs ----------------------------------------------------------------------------------------


def test_jobs_from_submit_to_delete(cli: Cli, pictures: Path, service_url: str, tmp_path: Path) -> None:
    at = {"PIXELMILL_URL": service_url}
    (pictures / "torn.jpg").write_bytes(picture(9)[:200])
    submitted = cli("jobs", "submit", "grayscale/format:png", pictures, "--name", "mine", env=at)
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.decode().strip()
    watched = cli("jobs", "watch", job, env=at)
    assert watched.returncode == 1  # one is torn
    assert b"torn.jpg" in watched.stdout
    shown = json.loads(cli("jobs", "show", job, "--json", env=at).stdout.splitlines()[0])
    assert (shown["state"], shown["counts"]["succeeded"], shown["counts"]["failed"]) == ("failed", 4, 1)
    assert job in {json.loads(line)["id"] for line in cli("jobs", "list", "--json", env=at).stdout.splitlines()}
    assert job.encode() in cli("jobs", "list", env=at).stdout
    fetched = cli("jobs", "fetch", job, "-o", tmp_path / "out", env=at)
    assert fetched.returncode == 1
    assert b"4 written" in fetched.stderr
    first = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(first) == 4
    again = cli("jobs", "fetch", job, "-o", tmp_path / "out", env=at)
    assert b"0 written" in again.stderr
    assert b"4 were there" in again.stderr
    assert cli("jobs", "fetch", job, "-o", tmp_path / "all.zip", env=at).returncode == 0
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert sum(name.endswith(".png") for name in archive.namelist()) == 4
    sheet = cli("jobs", "montage", job, "-o", tmp_path / "sheet.png", "--cell", "64x48", "--failed", "mark", env=at)
    assert sheet.returncode == 0, sheet.stderr
    assert b"5 cells in 3\xc3\x972, 1 marked" in sheet.stderr
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert cli("jobs", "montage", job, "-o", tmp_path / "no.png", "--cell", "wide", env=at).returncode == 2
    refused = cli("jobs", "montage", job, "-o", tmp_path / "no.png", "--columns", "0", env=at)
    assert b"from 1 to 1,000" in refused.stderr
    retried = cli("jobs", "retry", job, env=at)
    assert retried.returncode == 0, retried.stderr
    assert cli("jobs", "watch", job, "--json", env=at).returncode == 1
    assert cli("jobs", "delete", job, env=at).returncode == 0
    gone = cli("jobs", "show", job, env=at)
    assert gone.returncode == 1
    assert job.encode() in gone.stderr


def test_tasks_are_searched(cli: Cli, pictures: Path, service_url: str) -> None:
    at = {"PIXELMILL_URL": service_url}
    submitted = cli("jobs", "submit", "faces:detector=haar", pictures, "--wait", env=at)
    job = submitted.stdout.decode().split()[0]
    found = cli("jobs", "search", "--faces", "0..", "--job", job, "--json", env=at)
    assert found.returncode == 0, found.stderr
    assert {json.loads(line)["job"] for line in found.stdout.splitlines()} == {job}
    assert job.encode() in cli("jobs", "search", "--faces", "0..", "--job", job, env=at).stdout
    none = cli("jobs", "search", "--label", "cat", "--min-score", "0.5", "--caption", "beach", "--job", job, env=at)
    assert (none.returncode, none.stdout.count(b"task_")) == (1, 0)
    assert cli("jobs", "search", "--job", job, env=at).returncode == 2
    wrong = cli("jobs", "search", "--faces", "5..2", env=at)
    assert wrong.returncode == 1
    assert b"2..5" in wrong.stderr


def test_a_job_can_be_cancelled(cli: Cli, tmp_path: Path, service_url: str) -> None:
    (tmp_path / "big.jpg").write_bytes(picture(1, 4000, 3000))
    with Client(service_url) as client:
        job = client.submit([tmp_path / "big.jpg"] * 3, "sketch:full/format:jpeg")
        assert cli("jobs", "cancel", job.id, "--url", service_url).returncode == 0
        assert job.wait(30).state == "cancelled"


def test_a_service_that_is_not_there_is_named_with_what_to_do(cli: Cli) -> None:
    done = cli("jobs", "list", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert b"pixelmill serve" in done.stderr
    assert cli("jobs", "list", "--url", "nonsense").returncode == 2


# -- demo and serve ------------------------------------------------------------------------------


def test_samples_are_the_same_every_time_and_of_the_format_they_say(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for first, second, sample in zip(draw_all(tmp_path / "one"), draw_all(tmp_path / "two"), SAMPLES, strict=True):
        assert first.read_bytes() == second.read_bytes()
        info = probe(first.read_bytes())
        assert info.size == (sample.width, sample.height)
        assert info.format == {".jpg": "jpeg"}.get(first.suffix, first.suffix[1:])
        drawn = cv2.imread(str(first))
        assert drawn is not None
        assert drawn.std() > 5


def test_demo_makes_results_prints_a_table_and_leaves_nothing_running(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "web").mkdir(parents=True)
    (out / "web" / "mine.txt").write_text("keep me")
    done = cli("demo", "--images", pictures, "-o", out)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"thumbnails", "web", "edges", "sketch"}
    assert all(len(list(folder.glob("*.[pjw]*"))) == 4 for folder in out.iterdir())
    assert (out / "web" / "mine.txt").read_text() == "keep me"
    assert b"pencil sketch" in done.stdout
    match = re.search(rb"process (\d+)", done.stderr)
    assert match is not None
    assert not psutil.pid_exists(int(match[1]))


@pytest.fixture
def plenty(tmp_path: Path) -> Path:
    """Pictures that keep a demo busy for seconds, so that it can't have ended when it is interrupted."""
    folder = tmp_path / "plenty"
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 256, (1500, 2000, 3), np.uint8)
    body = bytes(cv2.imencode(".jpg", noise)[1])
    for index in range(60):
        (folder / f"{index:02}.jpg").write_bytes(body)
    return folder


def test_an_interrupt_while_text_runs_as_code_gives_the_exit_code_too(tmp_path: Path) -> None:
    # As while a dataclass is made: CPython would end itself by SIGINT after all.
    (tmp_path / "interrupted.py").write_text(
        "from pixelmill import cli\n"
        "def boom() -> None:\n"
        "    exec('raise KeyboardInterrupt')\n"
        "cli.COMMANDS = (cli.Row('boom', 'interrupted', 'boom', 'Is interrupted.'),)\n"
        "if __name__ == '__main__':\n"
        "    cli.main(['boom'])\n"
    )
    environment = clean_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run([sys.executable, "-m", "interrupted"], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")


def test_an_interrupted_demo_ends_its_service(plenty: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("demo", "--images", plenty),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
        process_group=0,
    )
    assert process.stderr is not None
    while b"Private service" not in process.stderr.readline():
        assert process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_the_kernel_ends_the_service_of_a_demo_that_was_killed(plenty: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("demo", "--images", plenty),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
    )
    assert process.stderr is not None
    while b"Private service" not in process.stderr.readline():
        assert process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive


def test_serve_says_where_it_listens_and_ends_in_order(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("serve", "--port", "0", "--data", tmp_path / "data", "--log-format", "json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
    )
    assert process.stdout is not None
    match = re.search(rb"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert match is not None
    with Client(match[0].decode()) as client:
        assert {operation["name"] for operation in client.operations()} == OPERATIONS
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert events[-1] == "service.stopped", errors


def test_serve_beyond_loopback_needs_tokens(cli: Cli, tmp_path: Path) -> None:
    done = cli("serve", "--host", "0.0.0.0", "--port", "0", "--data", tmp_path / "data")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(b"pixelmill: Listening on 0.0.0.0 needs")
    assert b"tokens create" in last


def test_a_start_that_fails_is_told_once_as_a_critical_event_and_a_sentence(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    done = cli("serve", "--port", "0", "--data", tmp_path / "taken", "--log-format", "json")
    assert done.returncode == 1
    line, sentence = done.stderr.decode().splitlines()
    logged = json.loads(line)
    assert (logged["event"], logged["type"]) == ("service.failed", "storage-denied")
    assert sentence.startswith("pixelmill: The data folder")


def test_defaults_are_shown_as_the_text_form_writes_them(cli: Cli) -> None:
    done = cli("operations", "resize")
    assert b" false " in done.stdout
    assert b" False " not in done.stdout
