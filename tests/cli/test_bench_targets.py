"""`pixelmill bench evaluate` where nobody asks for work: watched folders, buckets that tell a queue, functions."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from buckets import ACCESS_KEY, REGION, SECRET_KEY, Bucket, s3_bucket, s3_client
from cli_tools import Cli, picture

from pixelmill.cli.bench_places import Wanted, command_line, opened
from pixelmill.client import Client
from pixelmill.evaluation.document import Document, read
from pixelmill.evaluation.figures import figures
from pixelmill.evaluation.observation import Resolution
from pixelmill.evaluation.subject import Batch
from servers import Moto, wait_until

SMALL = ("--resolutions", "96x64", "--pipeline", "grayscale/resize:32,32,fit=fill/format:jpeg")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": REGION}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return folder


def whole(report: Path, sizes: list[int]) -> Document:
    """Every event came, and gave a result."""
    made = read(report.with_suffix(".json"))
    assert [cell.size for cell in made.cells] == 2 * sizes
    for cell in made.cells:
        (one,) = cell.rounds
        assert one.sent == one.received == one.succeeded == cell.size
        assert one.dropped == one.failed == 0
        assert one.duration.count == one.age.count == cell.size
        assert one.age.max >= 0
        assert one.bytes_in > one.bytes_out > 0
    return made


def options(bucket: Bucket) -> list[str]:
    return [word for name, value in bucket.options.items() for word in ("--store-option", f"{name}={value}")]


def objects(moto: Moto, bucket: Bucket) -> list[Any]:
    name = bucket.uri.split("/")[2]
    return list(s3_client(moto).list_objects_v2(Bucket=name).get("Contents", []))


def queue_of(moto: Moto, bucket: Bucket) -> str:
    """A queue that the bucket tells of new objects; its URL."""
    client = boto3.client(
        "sqs",
        endpoint_url=moto.url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    url = str(client.create_queue(QueueName=f"events-{secrets.token_hex(4)}")["QueueUrl"])
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3_client(moto).put_bucket_notification_configuration(
        Bucket=bucket.uri.split("/")[2],
        NotificationConfiguration={"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]},
    )
    return url


def test_files_that_are_dropped_into_a_watched_folder(cli: Cli, photos: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = cli("bench", "evaluate", "--target", "folder", "--sizes", "2,6", *SMALL, "--images", photos, "-o", report)
    assert done.returncode == 0, done.stderr
    made = whole(report, [2, 6])
    assert made.configurations[0].target == "folder"
    assert "watched folder" in report.read_text()


def test_objects_of_a_bucket_whose_queue_tells_of_them(
    cli: Cli, photos: Path, tmp_path: Path, moto_server: Moto
) -> None:
    report = tmp_path / "report.html"
    source, results = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    done = cli(
        *("bench", "evaluate", "--target", "s3", "--sizes", "2,6", *SMALL, "--images", photos, "-o", report),
        *("--store", source.uri, "--results", results.uri, *options(source)),
        *("--queue", queue_of(moto_server, source), "--queue-option", f"endpoint={moto_server.url}"),
        *("--queue-option", "wait=1"),
        env=CREDENTIALS,
    )
    assert done.returncode == 0, done.stderr
    made = whole(report, [2, 6])
    assert SECRET_KEY not in report.read_text()
    assert f"--store-option region={REGION}" in made.command
    assert objects(moto_server, source) == objects(moto_server, results) == []


def test_a_function_that_is_invoked_with_its_images(cli: Cli, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric")
    report = tmp_path / "report.html"
    done = cli(
        *("bench", "evaluate", "--target", "function", "--sizes", "2,6", *SMALL, "--images", photos, "-o", report),
        *("--concurrency", "2"),
    )
    assert done.returncode == 0, done.stderr
    made = whole(report, [2, 6])
    starts = [one.cold_starts for cell in made.cells for one in cell.rounds]
    assert 1 <= sum(start or 0 for start in starts) <= 2
    cold = [one for cell in made.cells for one in cell.rounds if one.cold_starts]
    assert all(one.start.average > 0 for one in cold)
    assert made.configurations[0].slots == {"function": 2}


def test_a_function_that_a_bucket_triggers(cli: Cli, photos: Path, tmp_path: Path, moto_server: Moto) -> None:
    pytest.importorskip("awslambdaric")
    report = tmp_path / "report.html"
    source, results = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    done = cli(
        *("bench", "evaluate", "--target", "function", "--sizes", "4", *SMALL, "--images", photos, "-o", report),
        *("--store", source.uri, "--results", results.uri, *options(source), "--concurrency", "2"),
    )
    assert done.returncode == 0, done.stderr
    whole(report, [4])
    assert objects(moto_server, source) == objects(moto_server, results) == []


def test_an_image_that_a_function_can_not_process_fails_with_its_reason(cli: Cli, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric")
    report = tmp_path / "report.html"
    done = cli(
        *("bench", "evaluate", "--target", "function", "--sizes", "2", "--resolutions", "64x64", "-o", report),
        *("--images", photos, "--pipeline", "crop:1000,1000,100,100", "--concurrency", "1"),
    )
    assert done.returncode == 1, done.stderr
    plain = json.loads(report.with_suffix(".json").read_text())
    assert {reason for cell in plain["cells"] for one in cell["rounds"] for reason in one["errors"]} == {
        "not-applicable"
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--target", "s3"), "--store"),
        (("--target", "s3", "--store", "s3://a", "--results", "s3://b"), "--queue"),
        (("--target", "folder", "--url", "http://127.0.0.1:9"), "--store"),
        (("--target", "function", "--url", "http://127.0.0.1:9"), "leave out --url"),
        (("--target", "function", "--set", "workers=1"), "function is none"),
        (("--target", "function", "--store", "s3://a"), "--results"),
        (("--target", "s3", "--store-option", "region"), "--store-option"),
    ],
)
def test_what_a_target_needs_is_named(arguments: tuple[str, ...], says: str, cli_here: Cli) -> None:
    done = cli_here("bench", "evaluate", *arguments)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr.decode()


def test_options_of_stores_are_shown_without_their_secrets() -> None:
    shown = command_line(
        ["bench", "--store-option", "secret_access_key=abc", "--queue-option=token=abc", "--store-option", "region=x"]
    )
    assert (
        shown == "pixelmill bench --store-option 'secret_access_key=…' '--queue-option=token=…' --store-option region=x"
    )


def test_files_and_jobs_of_others_are_left_alone(tmp_path: Path) -> None:
    """Somebody else uses the rule too: what is theirs is neither counted nor removed."""
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(files):
        path.write_bytes(picture(number))
    service = tmp_path / "service"
    with ExitStack() as stack:
        place = opened(Wanted("folder", "grayscale/resize:32,32/format:jpeg"), service, stack)
        (service / "in" / "theirs.jpg").write_bytes(picture(9))
        with Client(place.url) as client:
            wait_until(lambda: any(job.is_final for job in client.jobs()), "their file is done")
            theirs = [job.id for job in client.jobs()]
            harvest = asyncio.run(place.subject.run(Batch("manual", Resolution(160, 120), files, 60.0), lambda _: None))
            assert [job.id for job in client.jobs()] == theirs
        found = figures(harvest)
        assert (found.sent, found.succeeded) == (3, 3)
        assert [path.name for path in (service / "in").glob("[!.]*")] == ["theirs.jpg"]
        assert [path.name for path in (service / "out").glob("[!.]*")] == ["theirs.jpg"]
