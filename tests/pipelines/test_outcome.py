"""An outcome travels as JSON values beside its bytes, and comes back equal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.images.image import Size
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.pipelines.spec import Pipeline

SIZES = st.builds(Size, st.integers(1, 70_000), st.integers(1, 70_000))
DATA = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3))
MILLISECONDS = st.floats(0, 1e9)


@given(
    st.builds(
        Outcome,
        bytes=st.none() | st.binary(max_size=9),
        format=st.none() | st.sampled_from(["jpeg", "png"]),
        media_type=st.none() | st.just("image/png"),
        size=st.none() | SIZES,
        source_size=SIZES,
        source_format=st.sampled_from(["jpeg", "pixels"]),
        data=DATA,
        timings=st.builds(Timings, MILLISECONDS, MILLISECONDS, MILLISECONDS),
    )
)
def test_to_dict_and_from_dict_invert_through_json(outcome: Outcome) -> None:
    record = json.loads(json.dumps(outcome.to_dict()))
    assert Outcome.from_dict(record, outcome.bytes) == outcome


def test_a_real_outcome_survives_too_and_its_image_is_decoded_again(photo: bytes) -> None:
    outcome = Pipeline.parse("resize:64,64,fit=fill/format:png").run(photo)
    copy = Outcome.from_dict(json.loads(json.dumps(outcome.to_dict())), outcome.bytes)
    assert copy == outcome
    assert copy.image.size == copy.size == (64, 64)
    assert outcome.timings.total_ms == pytest.approx(
        outcome.timings.decode_ms + outcome.timings.apply_ms + outcome.timings.encode_ms
    )


def test_an_outcome_without_bytes_says_so() -> None:
    data_only = Outcome(None, None, None, None, Size(1, 1), "png", {"answer": 42})
    with pytest.raises(ValueError, match="data only"):
        _ = data_only.image
