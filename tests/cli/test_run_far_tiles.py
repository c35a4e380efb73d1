"""`pixelmill run` of images too large to be held, from buckets and into buckets, by the command line alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from big_images import scene, write_tiff
from buckets import Bucket, azure_container, content, fill, s3_bucket, s3_client, stores
from cli_tools import Cli, clean_environment, command
from cli_tools import picture as small_picture
from service_process import wait_until

from pixelmill import Pipeline
from pixelmill.errors import PixelmillError
from pixelmill.images.decode import decode
from pixelmill.targets.launch import command as ranks_command
from pixelmill.targets.tiled_settings import MpiConfig
from servers import Azurite, Moto

STEPS = "gaussian:2/threshold"
SMALL = {"PIXELMILL_MAX_PIXELS": "1000000", "PIXELMILL_MAX_BYTES": "200000"}
"""Too small for the picture in pixels and in bytes: the command can't have fetched it whole."""


@pytest.fixture(params=["moto_server", "azurite_server"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    server = request.getfixturevalue(request.param)
    return azure_container(server) if isinstance(server, Azurite) else s3_bucket(server)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("picture") / "big.tif", scene(1500, 1200))


def expected(picture: Path) -> Any:
    return Pipeline.parse(f"{STEPS}/format:png").run(picture).image.pixels


def unfinished(moto: Moto, bucket: Bucket) -> list[Any]:
    found: list[Any] = s3_client(moto).list_multipart_uploads(Bucket=bucket.uri.split("/")[2]).get("Uploads", [])
    return found


def test_a_large_object_goes_to_an_object_by_ranges(cli: Cli, bucket: Bucket, picture: Path, tmp_path: Path) -> None:
    fill(bucket, {"in/big.tif": picture.read_bytes()})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    line = ["run", STEPS, f"{bucket.uri}/in/big.tif", "-o", f"{bucket.uri}/out/edges.tif", *stores(bucket)]
    line += ["--set", f"scratch={scratch}", "--json"]
    told = cli(*line, "--explain", env=SMALL)
    assert "the file has" in json.loads(told.stdout)["tiles"]["why"]
    assert list(content(bucket)) == ["in/big.tif"]
    done = cli(*line, env=SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[0])
    made = content(bucket)
    assert (report["output"], report["bytes"]) == (f"{bucket.uri}/out/edges.tif", len(made["out/edges.tif"]))
    assert set(made) == {"in/big.tif", "out/edges.tif"}
    assert np.array_equal(decode(made["out/edges.tif"]).pixels, expected(picture))
    refused = cli(*line, env=SMALL)
    assert refused.returncode == 1
    assert b"exists already" in refused.stdout
    assert content(bucket) == made
    other = [STEPS.replace("2", "5") if part == STEPS else part for part in line]
    assert cli(*other, "--overwrite", env=SMALL).returncode == 0
    assert content(bucket)["out/edges.tif"] != made["out/edges.tif"]
    assert not list(scratch.iterdir())


def test_among_several_sources_the_large_one_runs_in_tiles(cli: Cli, moto_server: Moto, picture: Path) -> None:
    bucket = s3_bucket(moto_server)
    fill(bucket, {"in/big.tif": picture.read_bytes(), "in/a.jpg": small_picture(1)})
    steps = f"{STEPS}/format:png"
    line = ["run", steps, f"{bucket.uri}/in/*", picture.parent, "-o", f"{bucket.uri}/out/", "--json", *stores(bucket)]
    done = cli(*line, env=SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    *reports, summary = map(json.loads, done.stdout.splitlines())
    assert summary["summary"]["succeeded"] == 3
    assert {report["output"].rpartition("/")[2] for report in reports if "tiles" in report} == {"big.png", "big-2.png"}
    made = content(bucket)
    assert set(made) == {"in/big.tif", "in/a.jpg", "out/a.png", "out/big.png", "out/big-2.png"}
    for name in ("out/big.png", "out/big-2.png"):
        assert np.array_equal(decode(made[name]).pixels, expected(picture))


def test_objects_come_to_files_and_files_go_to_trees_of_objects(
    cli: Cli, moto_server: Moto, picture: Path, tmp_path: Path
) -> None:
    bucket = s3_bucket(moto_server)
    fill(bucket, {"big.tif": picture.read_bytes()})
    out = tmp_path / "edges.tif"
    down = cli("run", STEPS, f"{bucket.uri}/big.tif", "-o", out, "--tile", "256", *stores(bucket))
    assert down.returncode == 0, down.stderr
    assert np.array_equal(decode(out.read_bytes()).pixels, expected(picture))
    up = ["run", f"{STEPS}/components", picture, "-o", f"{bucket.uri}/tree/out.zarr", *stores(bucket)]
    assert cli(*up).returncode == 0
    made = content(bucket)
    assert {"tree/out.zarr/zarr.json", "tree/out.json"} <= set(made)
    assert json.loads(made["tree/out.json"])["components"]["count"] > 0
    skipped = cli(*up, "--skip-existing", "--json")
    assert json.loads(skipped.stdout.splitlines()[0])["state"] == "skipped"
    assert content(bucket) == made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_aborts_the_upload_and_leaves_nothing(
    moto_server: Moto, picture: Path, tmp_path: Path, number: signal.Signals
) -> None:
    bucket = s3_bucket(moto_server)
    fill(bucket, {"big.tif": picture.read_bytes()})
    line = command("run", "denoise:10", f"{bucket.uri}/big.tif", "-o", f"{bucket.uri}/out.tif", "--tile", "64")
    line += stores(bucket)
    with subprocess.Popen(line, env=clean_environment(), stderr=subprocess.PIPE, cwd=tmp_path) as running:
        wait_until(lambda: bool(unfinished(moto_server, bucket)) or running.poll() is not None, "an upload begins")
        running.send_signal(number)
        assert running.wait(60) == 128 + number
        assert running.stderr is not None
        assert b"Traceback" not in running.stderr.read()
    assert list(content(bucket)) == ["big.tif"]
    assert not unfinished(moto_server, bucket)


def test_ranks_read_the_object_by_ranges_and_the_result_is_uploaded(
    cli: Cli, moto_server: Moto, picture: Path, tmp_path: Path
) -> None:
    bucket = s3_bucket(moto_server)
    try:
        ranks_command(2, MpiConfig(2))
    except PixelmillError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    fill(bucket, {"in/big.tif": picture.read_bytes()})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    line = ["run", STEPS, f"{bucket.uri}/in/big.tif", "-o", f"{bucket.uri}/out/edges.tif", "--mpi", "2", "--json"]
    line += ["--set", "mpi_oversubscribe=true", "--set", f"scratch={scratch}", *stores(bucket)]
    done = cli(*line, env=SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[0])
    assert (report["ranks"], report["output"]) == (2, f"{bucket.uri}/out/edges.tif")
    made = content(bucket)
    assert np.array_equal(decode(made["out/edges.tif"]).pixels, expected(picture))
    assert b"exists already" in cli(*line, env=SMALL).stdout
    assert content(bucket) == made
    assert not list(scratch.iterdir())
