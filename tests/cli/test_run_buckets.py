"""`pixelmill run` from buckets to buckets, by the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from buckets import Bucket, azure_container, content, fill, s3_bucket, stores
from cli_tools import Cli, picture

from servers import Azurite

PIPELINE = "grayscale/resize:32,32/format:png"


@pytest.fixture(params=["moto_server", "azurite_server"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    server = request.getfixturevalue(request.param)
    return azure_container(server) if isinstance(server, Azurite) else s3_bucket(server)


OBJECTS = {"in/a.jpg": picture(1), "in/sub/b.jpg": picture(2), "in/notes.txt": b"no image"}


def test_a_bucket_goes_to_a_bucket_with_the_names_of_folders(cli: Cli, bucket: Bucket) -> None:
    fill(bucket, OBJECTS)
    done = cli("run", PIPELINE, f"{bucket.uri}/in/", "-o", f"{bucket.uri}/out/", *stores(bucket))
    assert done.returncode == 0, done.stderr.decode()
    assert f"2 of 2 written to {bucket.uri}/out/" in done.stderr.decode()
    made = content(bucket)
    assert set(made) == {*OBJECTS, "out/a.png", "out/sub/b.png"}
    assert made["out/a.png"].startswith(b"\x89PNG")
    refused = cli("run", PIPELINE, f"{bucket.uri}/in/**/*.jpg", "-o", f"{bucket.uri}/out/", *stores(bucket))
    assert refused.returncode == 1
    assert "exists already" in refused.stderr.decode()
    assert content(bucket) == made
    other = PIPELINE.replace("32,32", "16,16")
    arguments = ["run", other, f"{bucket.uri}/in/*.jpg", "-o", f"{bucket.uri}/out/", *stores(bucket), "--json"]
    skipped = [json.loads(line) for line in cli(*arguments, "--skip-existing").stdout.splitlines()]
    assert skipped[0]["state"] == "skipped"
    assert skipped[0]["output"] == f"{bucket.uri}/out/a.png"
    assert content(bucket) == made
    over = cli(*arguments, "--overwrite")
    assert over.returncode == 0, over.stderr.decode()
    after = content(bucket)
    assert after["out/a.png"] != made["out/a.png"]
    assert {key for key in made if made[key] != after[key]} == {"out/a.png"}


def test_buckets_and_files_mix_and_one_bad_object_costs_itself(cli: Cli, bucket: Bucket, tmp_path: Path) -> None:
    fill(bucket, {**OBJECTS, "in/broken.jpg": b"\xff\xd8\xff no"})
    local = tmp_path / "local.jpg"
    local.write_bytes(picture(3))
    out = tmp_path / "out"
    done = cli("run", PIPELINE, f"{bucket.uri}/in/*.jpg", local, f"{bucket.uri}/none.jpg", "-o", out, *stores(bucket))
    assert done.returncode == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "local.png"]
    text = done.stderr.decode()
    assert "broken.jpg" in text
    assert "none.jpg" in text
    up = cli("run", PIPELINE, local, "-o", f"{bucket.uri}/up/named.png", *stores(bucket))
    assert up.returncode == 0, up.stderr.decode()
    assert "up/named.png" in content(bucket)
    data = cli("run", "info", f"{bucket.uri}/in/a.jpg", *stores(bucket))
    assert json.loads(data.stdout)["info"]["width"] == 160, data.stdout
    explained = cli("run", PIPELINE, f"{bucket.uri}/in/a.jpg", "--explain", *stores(bucket))
    assert b"grayscale" in explained.stdout


def test_secrets_are_not_shown(cli: Cli, bucket: Bucket) -> None:
    secret = str(bucket.options.get("secret_access_key") or bucket.options["account_key"])
    shown = cli("config", "show", "--json", *stores(bucket), *bucket.setting())
    assert shown.returncode == 0
    assert bucket.uri in shown.stdout.decode()
    assert secret not in shown.stdout.decode() + shown.stderr.decode()
    broken = cli("config", "show", "--set", f"store_options={{'account_key': '{secret}'")
    assert broken.returncode != 0
    assert secret not in broken.stdout.decode() + broken.stderr.decode()


def test_the_doctor_writes_to_the_store_and_says_what_is_wrong(cli: Cli, bucket: Bucket) -> None:
    def store_line(*arguments: str) -> dict[str, str]:
        lines = map(json.loads, cli("doctor", "--json", *arguments).stdout.splitlines())
        found: dict[str, str] = next(line for line in lines if line["what"] == "store")
        return found

    good = store_line(*bucket.setting())
    assert good["verdict"] == "ok", good
    assert content(bucket) == {}
    gone = Bucket(bucket.uri.replace("test", "gone"), bucket.options)
    assert store_line(*gone.setting())["verdict"] == "bad"


def test_wrong_options_are_refused_with_the_nearest_name(cli: Cli) -> None:
    options = ["--set", 'store_options={"end_point": "x"}']
    refused = cli("serve", "--port", "0", "--store", "s3://bucket/prefix", *options)
    assert refused.returncode != 0
    assert "Did you mean endpoint?" in refused.stderr.decode()
    unknown = cli("serve", "--port", "0", "--store", "ftp://bucket/prefix")
    assert "no store of the kind 'ftp'" in unknown.stderr.decode()
