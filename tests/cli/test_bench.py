"""`pixelmill bench`: measured as a user would, interrupted, compared, and refused where it can't be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from cli_tools import Cli, clean_environment, command, picture
from live_service import LiveService

from pixelmill.cli.bench import _ended_by, _why
from pixelmill.cli.bench_images import Pictures, commented
from pixelmill.cli.bench_output import Files
from pixelmill.cli.bench_places import Wanted, command_line, second, without_secrets
from pixelmill.client import Client
from pixelmill.errors import ConfigError
from pixelmill.evaluation.document import read
from pixelmill.evaluation.observation import Resolution
from pixelmill.images.probe import probe

ANN = {"owner": "ann", "scopes": ["process", "jobs:read", "jobs:write"]}
SMALL = ("--resolutions", "96x64,64x64", "--pipeline", "grayscale/resize:32,32,fit=fill/format:jpeg")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    (folder / "broken.jpg").write_bytes(picture(4)[:400])
    return folder


def test_an_evaluation_measures_every_batch_and_leaves_nothing_running(cli: Cli, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = cli("bench", "evaluate", "--sizes", "3,5", *SMALL, "--images", photos, "-o", report)
    assert done.returncode == 0, done.stderr
    assert b"broken.jpg is left out" in done.stderr
    made = read(report.with_suffix(".json"))
    assert not made.partial
    assert len(made.cells) == 2 * 2 * 2
    for cell in made.cells:
        (one,) = cell.rounds
        assert one.sent == one.received == one.succeeded == one.invocations == one.own == cell.size
        assert (one.dropped, one.failed, one.throttles, one.overflow) == (0, 0, 0, 0)
        assert one.duration.count == one.age.count == cell.size
        assert one.concurrency_peak >= 1
        assert one.bytes_in > one.bytes_out > 0
    assert sum(one.cold_starts or 0 for cell in made.cells for one in cell.rounds) >= 1
    (configuration,) = made.configurations
    assert configuration.place == "private"
    assert configuration.slots["local"] >= 2
    assert configuration.machine == made.sender
    assert {"Pixelmill", "Python", "OpenCV"} <= set(made.sender.versions)
    assert made.command.startswith("pixelmill bench evaluate --sizes 3,5")
    assert made.images == "a folder of 4 photographs, those large enough cropped and scaled, JPEG of quality 90"
    assert "<svg" in report.read_text()
    assert b"high-rate" in done.stdout
    match = re.search(rb"process (\d+)", done.stderr)
    assert match is not None
    assert not psutil.pid_exists(int(match[1]))


@pytest.mark.slow
def test_two_configurations_take_turns_and_are_compared(cli: Cli, photos: Path, tmp_path: Path) -> None:
    report, data = tmp_path / "report.html", tmp_path / "other.json"
    common = ("--sizes", "4", "--resolutions", "96x64", "--images", photos, "--rounds", "3", "--trigger", "high-rate")
    done = cli("bench", "evaluate", *common, "--against", "target=process workers=1", "-o", report, "--json", data)
    assert done.returncode == 0, done.stderr
    made = read(data)
    assert [one.target for one in made.configurations] == ["service", "process"]
    assert made.configurations[1].settings == {"workers": "1"}
    assert [(cell.configuration, len(cell.rounds)) for cell in made.cells] == [(0, 3), (1, 3)]
    assert made.comparison is not None
    assert made.comparison.paired
    assert {one.verdict for one in made.comparison.ratios} <= {"better", "worse", "same", "unclear"}
    assert "Comparison" in report.read_text()
    again = cli("bench", "evaluate", *common, "--compare", data, "-o", report)
    assert again.returncode == 0, again.stderr
    compared = read(report.with_suffix(".json")).comparison
    assert compared is not None
    assert not compared.paired
    assert len(compared.ratios) == 7


def test_a_running_service_is_measured_and_left_as_it_was(cli: Cli, service_url: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with Client(service_url) as client:
        job = client.submit([picture(1)], "grayscale")  # somebody else's, which an evaluation leaves alone
        job.wait(30)
    before = cli("jobs", "list", "--url", service_url, "--json").stdout
    assert job.id.encode() in before
    for target in ("service", "process", service_url):
        done = cli("bench", "evaluate", "--sizes", "3", *SMALL, "--url", service_url, "--target", target, "-o", report)
        assert done.returncode == 0, done.stderr
        assert b"Private service" not in done.stderr
        made = read(report.with_suffix(".json"))
        assert made.configurations[0].place == service_url
        assert "drawn pictures" in made.images
    assert cli("jobs", "list", "--url", service_url, "--json").stdout == before


def test_failures_are_in_the_report_and_in_the_exit_code(cli: Cli, tmp_path: Path, service_url: str) -> None:
    report = tmp_path / "report.html"
    done = cli(
        *("bench", "evaluate", "--sizes", "3", "--resolutions", "64x64", "--url", service_url),
        *("--pipeline", "crop:1000,1000,100,100", "-o", report),
    )
    assert done.returncode == 1, done.stderr
    made = read(report.with_suffix(".json"))
    assert {reason for cell in made.cells for one in cell.rounds for reason in one.errors} == {"not-applicable"}
    assert "not-applicable" in report.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_evaluation_writes_what_there_is(number: signal.Signals, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    process = subprocess.Popen(
        command("bench", "evaluate", "--sizes", "2,2000", "--pause", "1", *SMALL, "--images", photos, "-o", report),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
        process_group=0,
    )
    assert process.stderr is not None
    family: list[psutil.Process] = []
    for line in process.stderr:
        if b"2,000 images" in line:
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, number)
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert b"Traceback" not in errors
    assert b"Partial report" in output
    made = read(report.with_suffix(".json"))
    assert made.partial
    assert made.why
    assert 1 <= len(made.cells) < made.planned == 8
    assert "Partial." in report.read_text()
    assert family
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_users_at_once_are_owners_of_their_own(cli: Cli, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "load.html"
    done = cli(
        *("bench", "load", "--users", "3", "--images-per-user", "4", "--resolution", "96x64"),
        *("--images", photos, "-o", report),
    )
    assert done.returncode == 0, done.stderr
    made = read(report.with_suffix(".json"))
    assert made.kind == "load"
    assert made.load is not None
    assert made.load.owners
    assert [user.name for user in made.load.users] == ["user-1", "user-2", "user-3"]
    assert all((user.images, user.succeeded) == (4, 4) for user in made.load.users)
    assert made.load.all.sent == 12
    assert made.load.interactive is not None
    assert made.load.interactive.idle.count > 0
    assert b"slowest to fastest" in done.stdout


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("evaluate", "--sizes", "ten"), "--sizes"),
        (("evaluate", "--resolutions", "big"), "--resolutions"),
        (("evaluate", "--trigger", "never"), "--trigger"),
        (("evaluate", "--rounds", "0"), "--rounds"),
        (("evaluate", "--target", "moon"), "--target"),
        (("evaluate", "--images", "nowhere"), "is not a folder"),
        (("evaluate", "--images", "."), "There is no image in the folder"),
        (("evaluate", "--compare", "nowhere.json"), "nowhere.json can't be read"),
        (("evaluate", "--against", "fast"), "--against"),
        (("evaluate", "--against", "'open"), "--against"),
        (("evaluate", "-o", "no/such/report.html"), "must name a file in a folder that exists"),
        (("evaluate", "-o", "a.json"), "names of their own"),
        (("evaluate", "--url", "http://127.0.0.1:9", "--set", "workers=1"), "private service"),
        (("evaluate", "--pipeline", "greyscale", "--sizes", "1"), "grayscale"),
        (("load", "--users", "0"), "--users"),
        (("load", "--images-per-user", "1000000"), "images"),
        (("load", "--resolution", "1x1,2x2"), "--resolution"),
        (("load", "--rate", "0"), "--rate"),
    ],
)
def test_what_can_not_be_measured_is_refused_before_anything_starts(
    arguments: tuple[str, ...], says: str, cli_here: Cli, tmp_path: Path
) -> None:
    done = cli_here("bench", *arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not list((tmp_path / "cwd").iterdir())


def test_a_service_that_is_away_or_refuses_is_told(cli: Cli, tmp_path: Path) -> None:
    away = cli("bench", "evaluate", "--url", "http://127.0.0.1:9", "--sizes", "1")
    assert away.returncode == 1
    assert b"can't be reached" in away.stderr
    with LiveService(tmp_path / "data", api={"require_tokens": True}, tokens=[ANN]) as service:
        wrong = cli("bench", "evaluate", "--url", service.url, "--sizes", "1", env={"PIXELMILL_TOKEN": "wrong"})
        assert service.stop() == 0
    assert wrong.returncode == 1
    assert b"token" in wrong.stderr.lower()


def test_a_service_that_dies_ends_the_evaluation_with_a_partial_report(tmp_path: Path, photos: Path) -> None:
    report = tmp_path / "report.html"
    with LiveService(tmp_path / "data") as service:
        process = subprocess.Popen(
            command(
                *("bench", "evaluate", "--url", service.url, "--sizes", "2,5000", "--trigger", "manual"),
                *(*SMALL, "--images", photos, "-o", report),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            cwd=tmp_path,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if b"5,000 images" in line:
                break
        service.signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=90)
    assert process.returncode == 1, errors
    assert b"can't be reached" in errors or b"broke" in errors
    assert b"Partial report" in output
    assert read(report.with_suffix(".json")).why.startswith("It was ended by an error")


# -- parts ---------------------------------------------------------------------------------------


def test_no_two_files_are_the_same_and_each_has_the_resolution(photos: Path, tmp_path: Path) -> None:
    for own in (photos, None):
        folder = tmp_path / f"made-{own is None}"
        folder.mkdir()
        pictures = Pictures(folder, own)
        for resolution in (Resolution(120, 80), Resolution(200, 200), Resolution(64, 96)):
            files = list(pictures.files(resolution, 9))
            assert files[:4] == list(pictures.files(resolution, 4))
            bodies = [path.read_bytes() for path in files]
            assert len(set(bodies)) == 9
            for body in bodies:
                assert probe(body).size == (resolution.width, resolution.height)
        # Files of one resolution at a time.
        assert [path.name for path in folder.iterdir()] == ["64x96"]
    assert commented(bodies[0], "x")[:8] == b"\xff\xd8\xff\xfe\x00\x03x\xff"


def test_secrets_are_not_shown() -> None:
    shown = command_line(
        ["bench", "--token", "abc", "--token=abc", "--url", "http://me:abc@host:1/x", "--against", "url=http://u:abc@h"]
    )
    assert "abc" not in shown
    assert "http://host:1/x" in shown
    assert without_secrets("plain text") == "plain text"


def test_settings_that_are_secrets_are_in_no_report(cli: Cli, photos: Path, tmp_path: Path) -> None:
    shown = command_line(
        [
            *("bench", "--set", "database_url=postgresql://me:abc@db/x", "--set=redis_url=redis://:abc@r/0"),
            *("--set", "workers=1", "--against", "queue_url=amqp://me:abc@q/v workers=2"),
        ]
    )
    assert "abc" not in shown
    assert "workers=1" in shown
    assert "workers=2" in shown
    other = second(Wanted("service", "sketch"), 'webhook_secret="abc abc" workers=2')
    assert other.label == "webhook_secret=… workers=2"
    report = tmp_path / "r.html"
    given = ("--set", f"database_url=sqlite:///{tmp_path}/abc-secret.db", "--set", "workers=1")
    done = cli(
        *("bench", "evaluate", "--sizes", "1", "--resolutions", "64x64", "--trigger", "high-rate", *given),
        *("--images", photos, "-o", report),
    )
    assert done.returncode == 0, done.stderr
    assert "abc-secret" not in report.read_text() + report.with_suffix(".json").read_text()
    assert read(report.with_suffix(".json")).configurations[0].settings == {"database_url": "…", "workers": "1"}


def test_what_ends_it_that_nobody_expected_leaves_a_report_too() -> None:
    async def work() -> None:
        raise OSError(28, "No space left on device")

    ending = _ended_by(work)
    assert isinstance(ending, OSError)
    assert _why(ending) == "It was ended by an error: OSError: [Errno 28] No space left on device"


def test_the_report_that_is_compared_is_not_written_over(tmp_path: Path) -> None:
    earlier = tmp_path / "report.json"
    with pytest.raises(ConfigError, match="written over"):
        Files(tmp_path / "report.html", None, kept=earlier)
    Files(tmp_path / "new.html", None, kept=earlier)


def test_a_second_configuration_has_of_the_first_what_it_does_not_say() -> None:
    first = Wanted("service", "sketch", "http://one", "secret", {})
    assert second(first, "target=process") == Wanted("process", "sketch", "http://one", "secret", {}, "target=process")
    other = second(first, "url=http://two pipeline='canny:80,160'")
    assert (other.url, other.token, other.pipeline) == ("http://two", None, "canny:80,160")
    private = second(first, "workers=1")
    assert (private.url, private.token, private.settings) == (None, None, {"workers": "1"})
    with pytest.raises(ConfigError):
        second(first, "")


def test_the_json_is_what_scripts_read(cli: Cli, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    cli("bench", "evaluate", "--sizes", "2", "--resolutions", "64x64", "--images", photos, "-o", report)
    plain: dict[str, Any] = json.loads(report.with_suffix(".json").read_text())
    assert plain["pixelmill_evaluation"] == 1
    assert plain["cells"][0]["rounds"][0]["succeeded"] == 2
