"""`pixelmill models`, and weights of one's own on the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_tools import Cli
from PIL import Image as Pil
from tiny_captioner import drawn, sentence
from tiny_models import fill

from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image
from pixelmill.models.registry import REGISTRY


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[16:48, 24:72] = (250, 240, 230)
    path = tmp_path / "photo.png"
    path.write_bytes(encode(Image(pixels), "png"))
    return path


def test_the_list_says_what_is_here_and_what_may_be_done_with_it(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path)
    listed = {item["name"]: item for item in json.loads(cli("models", "list", "--models", tmp_path, "--json").stdout)}
    assert set(REGISTRY) < set(listed)
    assert listed["u2netp"]["state"] == "wrong"
    assert listed["silueta"]["state"] == "missing"
    assert listed["u2netp"]["licence"] == "Apache-2.0"
    assert listed["u2netp"]["commercial"] is True
    assert listed["bright"] == {"name": "bright", "state": "here", "own": True}
    text = cli("models", "list", "--models", tmp_path).stdout.decode()
    assert "DAMAGED" in text
    assert "pixelmill models pull NAME" in text


def test_the_folder_is_a_setting_and_lies_in_the_data_folder_by_default(cli: Cli, tmp_path: Path) -> None:
    asked = cli("models", "path", "u2netp", "--set", f"data={tmp_path}").stdout.decode().strip()
    assert asked == str(tmp_path / "models" / "u2netp.onnx")
    by_variable = cli("models", "path", env={"PIXELMILL_MODELS": str(tmp_path / "mine")}).stdout.decode().strip()
    assert by_variable == str(tmp_path / "mine")


def test_sums_are_verified_and_weights_removed(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path)
    done = cli("models", "verify", "--models", tmp_path)
    assert done.returncode == 1
    assert "u2netp: THE SUM IS WRONG" in done.stdout.decode()
    assert "u2netp: 0.0 MB deleted" in cli("models", "remove", "u2netp", "--models", tmp_path).stdout.decode()
    assert not (tmp_path / "u2netp.onnx").exists()
    assert "was not here" in cli("models", "remove", "u2netp", "--models", tmp_path).stdout.decode()
    assert "No model of the registry" in cli("models", "verify", "--models", tmp_path / "none").stdout.decode()


def test_checkpoints_of_ones_own_are_listed_by_the_name_they_go_by(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "colors").rename(tmp_path / "colors-1.2")
    listed = [item["name"] for item in json.loads(cli("models", "list", "--models", tmp_path, "--json").stdout)]
    assert listed[-2:] == ["bright", "colors-1.2"]
    for name, place in (("bright", "bright.onnx"), ("colors-1.2", "colors-1.2")):
        found = cli("models", "path", name, "--models", tmp_path).stdout.decode().strip()
        assert found == str(tmp_path / place)
    for command in ("verify", "remove"):
        done = cli("models", command, "bright", "--models", tmp_path)
        assert done.returncode == 2
        assert "a checkpoint of your own" in done.stderr.decode()
    assert (tmp_path / "bright.onnx").is_file()


def test_a_checkpoint_folder_is_pulled_from_where_it_lies_and_looked_after(
    cli: Cli, tmp_path: Path, captioner: Path
) -> None:
    models = tmp_path / "models"
    nowhere = cli("models", "pull", "blip-base", "--models", models)
    assert nowhere.returncode == 1
    assert "knows no address of blip-base" in nowhere.stderr.decode()
    publisher = tmp_path / "publisher"
    shutil.copytree(captioner, publisher)
    (publisher / "processor_config.json").rename(publisher / "preprocessor_config.json")
    pulled = cli("models", "pull", "blip-base", "--from", publisher, "--models", models, env={"PIXELMILL_OFFLINE": "1"})
    assert pulled.returncode == 0, pulled.stderr
    folder = models / "blip-base"
    assert cli("models", "path", "blip-base", "--models", models).stdout.decode().strip() == str(folder)
    assert "as it was at the last look" in cli("models", "verify", "--models", models).stdout.decode()
    weights = folder / "model.safetensors"
    data, status = bytearray(weights.read_bytes()), weights.stat()
    data[-1] ^= 1  # a bit that the disk has turned
    weights.write_bytes(data)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    bad = cli("models", "verify", "blip-base", "--models", models)
    assert bad.returncode == 1
    assert "CHANGED SINCE THE LAST LOOK" in bad.stdout.decode()
    shutil.copytree(captioner, models / "shapes")
    listed = {item["name"]: item for item in json.loads(cli("models", "list", "--models", models, "--json").stdout)}
    assert listed["blip-base"]["state"] == "here"
    assert listed["blip-large"]["state"] == "missing"
    assert listed["shapes"] == {"name": "shapes", "state": "here", "own": True}
    assert "MB deleted" in cli("models", "remove", "blip-base", "--models", models).stdout.decode()
    assert not folder.exists()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sources", [1, 2])
def test_a_captioner_of_ones_own_stands_in_by_a_path(cli: Cli, tmp_path: Path, captioner: Path, sources: int) -> None:
    """In the process of the command for one file; through a pool and its model process for several."""
    shutil.copytree(captioner, tmp_path / "mine")
    whats = [(1, "red", "circle"), (2, "blue", "square")][:sources]
    files = [tmp_path / f"{number}.png" for number in range(sources)]
    for file, what in zip(files, whats, strict=True):
        file.write_bytes(encode(Image(drawn(*what, 5)), "png"))
    pipeline = "caption:a~20photography~20of,beams=2,embed=true/format:jpeg"
    done = cli("run", pipeline, *files, "-o", tmp_path / "out", "--model", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for file, what in zip(files, whats, strict=True):
        data = json.loads((tmp_path / "out" / file.with_suffix(".json").name).read_text())
        assert data["caption"]["caption"] == f"a photography of {sentence(*what)}"
        with Pil.open(tmp_path / "out" / file.with_suffix(".jpg").name) as picture:
            assert picture.getexif()[270] == f"a photography of {sentence(*what)}"


def test_offline_and_unknown_names_are_told_without_the_network(cli: Cli, tmp_path: Path) -> None:
    offline = cli("models", "pull", "u2netp", "--models", tmp_path, env={"PIXELMILL_OFFLINE": "true"})
    assert offline.returncode == 1
    assert "the network may not be used" in offline.stderr.decode()
    unknown = cli("models", "pull", "u2nettp", "--models", tmp_path)
    assert unknown.returncode == 2
    assert "Did you mean u2netp" in unknown.stderr.decode()


def test_missing_weights_end_a_run_with_the_command_that_brings_them(
    cli: Cli, tmp_path: Path, photo_file: Path
) -> None:
    failed = cli("run", "remove_background", photo_file, "-o", tmp_path / "out", "--set", f"models={tmp_path}/none")
    assert failed.returncode == 1
    assert "pixelmill models pull u2netp" in failed.stderr.decode()


@pytest.mark.parametrize("sources", [1, 3])
def test_weights_of_ones_own_stand_in_by_a_path(cli: Cli, tmp_path: Path, photo_file: Path, sources: int) -> None:
    fill(tmp_path / "weights")
    files = [tmp_path / f"{number}.png" for number in range(sources)]
    for file in files:
        file.write_bytes(photo_file.read_bytes())
    cli(
        "run",
        "remove_background:threshold=0.5/format:png",
        *files,
        "-o",
        tmp_path / "out",
        "--model",
        "weights/bright.onnx",
        cwd=tmp_path,
    )
    for file in files:
        pixels = decode((tmp_path / "out" / file.name).read_bytes()).pixels
        assert (pixels[32, 48] == (250, 240, 230, 255)).all()
        assert (pixels[2, 2] == 0).all()
    nothing = cli("run", "invert", files[0], "-o", tmp_path / "x.png", "--model", "weights/bright.onnx", cwd=tmp_path)
    assert nothing.returncode == 2
    assert "no step of the pipeline asks for a model" in nothing.stderr.decode()
