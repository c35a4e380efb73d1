"""What the environment of a function is understood to mean, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelmill.errors import ConfigError, InvalidParameter
from pixelmill.functions.assignment import Assignment
from pixelmill.functions.settings import settings_of
from pixelmill.functions.work import run_here
from pixelmill.images.limits import Limits
from pixelmill.triggers.event import ObjectEvent

EVENT = ObjectEvent("s3://inbox/a.jpg", "created", "1", 0.0)


def pipeline_for(**variables: str) -> str:
    settings = settings_of({"PIPELINE": "grayscale", "OUTPUT_BUCKET": "results", **variables})
    (rule,) = Assignment(settings).rules_for(EVENT)
    return rule.pipeline


def test_the_extension_of_the_name_decides_the_format_as_it_does_for_rules() -> None:
    assert pipeline_for(OUTPUT_NAME="{stem}.webp") == "grayscale/format:webp"
    assert pipeline_for(OUTPUT_NAME="{stem}.{ext}") == pipeline_for() == "grayscale"


def test_a_name_that_contradicts_the_pipeline_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="format:png"):
        pipeline_for(PIPELINE="grayscale/format:png", OUTPUT_NAME="{stem}.webp")


def test_a_pipeline_that_cannot_be_read_is_a_wrong_setting_and_costs_no_event() -> None:
    with pytest.raises(ConfigError, match="PIPELINE can't be used"):
        pipeline_for(PIPELINE="greyscale")


def test_a_pipeline_of_a_request_names_no_file_of_weights(photo: bytes, tmp_path: Path) -> None:
    weights = tmp_path / "own.onnx"
    weights.write_bytes(b"x")
    run = run_here(None, str(tmp_path))
    with pytest.raises(InvalidParameter, match="path"):
        run(f"remove_background:model={str(weights).replace('/', '~2F')}", photo, Limits())
