"""The pages read and write pipelines as the library does: same text in, same text out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from made_pipelines import pipelines

from pixelmill import Pipeline
from pixelmill.api.operations import operation_body
from pixelmill.operations.listing import format_records
from pixelmill.operations.table import all_operations
from pixelmill.pipelines.presets import BUILT_IN

WEB = Path(__file__).parents[2] / "web"
ESBUILD = WEB / "node_modules" / "esbuild" / "bin" / "esbuild"
LIMIT_S = 120


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages' codec as one file for node."""
    if shutil.which("node") is None or not ESBUILD.exists():
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("node or web/node_modules is missing; `make pages` brings both")
    out = tmp_path_factory.mktemp("conformance") / "conformance.mjs"
    command = ["node", str(ESBUILD), "tests/conformance.ts", "--bundle", "--platform=node", "--format=esm"]
    subprocess.run([*command, f"--outfile={out}"], cwd=WEB, check=True, capture_output=True, timeout=LIMIT_S)
    return out


def read_by_pages(bundle: Path, folder: Path, texts: list[str]) -> list[dict[str, Any]]:
    """What the pages make of each text."""
    given_file = folder / "texts.json"
    operations = [operation_body(cls) for cls in all_operations()]
    formats = format_records()
    given_file.write_text(json.dumps({"operations": operations, "formats": formats, "texts": texts}))
    done = subprocess.run(
        ["node", str(bundle), str(given_file)], check=True, capture_output=True, text=True, timeout=LIMIT_S
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def must_agree(bundle: Path, folder: Path, texts: list[str]) -> None:
    for text, found in zip(texts, read_by_pages(bundle, folder, texts), strict=True):
        canonical = Pipeline.parse(text).to_text()
        assert found.get("meaning") == canonical, f"{text}: {found}"
        assert Pipeline.parse(found["grammar"]).to_text() == canonical


def test_examples_of_all_operations_and_presets(bundle: Path, tmp_path: Path) -> None:
    texts = [f"{cls.name}:{cls.example}" if cls.example else cls.name for cls in all_operations()]
    known = {cls.name for cls in all_operations()}
    texts += [preset.form for preset in BUILT_IN if preset.form.split("/")[0].split(":")[0] in known]
    must_agree(bundle, tmp_path, ["", *texts])


def test_pipelines_with_any_values(bundle: Path, tmp_path: Path) -> None:
    texts: list[str] = []

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(pipelines())
    def collect(pipeline: Pipeline) -> None:
        texts.append(pipeline.to_text())

    collect()
    must_agree(bundle, tmp_path, texts)


@pytest.mark.parametrize(
    "text",
    [
        " grayscale/resize:64 ",
        "resize:height=64,width=32",
        "tint:F80,0.50",
        "tint:~23ff8800",
        "canny:low=1e2,high=2.5e2",
        "resize:100,enlarge=True",
        "sobel:both,5,2.0",
        "format:jpeg,quality=90/metadata:keep,gps=yes",
        "rotate:-0.0",
        "vignette:0.00001",
    ],
)
def test_what_people_write_becomes_the_same(bundle: Path, tmp_path: Path, text: str) -> None:
    must_agree(bundle, tmp_path, [text])


@pytest.mark.parametrize(
    "text",
    [
        "grayscale/",
        "resize:",
        "resize:1,,2",
        "gauss ian",
        "resize:~zz",
        "resize:width=1,2",
        "resize:1,width=2",
        "a:~FF",
    ],
)
def test_what_the_library_refuses_the_pages_refuse(bundle: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(Exception, match=r"\S"):
        Pipeline.parse(text)
    (found,) = read_by_pages(bundle, tmp_path, [text])
    assert found["error"]
    assert found["position"] is not None
