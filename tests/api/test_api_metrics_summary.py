"""The summary of metrics as a client gets it."""

from __future__ import annotations

import httpx
import pytest
from service_process import wait_until

from pixelmill.api.metrics_schemas import SummaryBody
from pixelmill.client import Client


def test_what_was_processed_is_in_the_summary_at_once(client: httpx.Client, pictures: list[bytes]) -> None:
    before = SummaryBody.model_validate(client.get("/v1/metrics/summary").json())
    params = {"pipeline": "resize:32/format:png"}
    made = client.post("/v1/process", params=params, content=pictures[0])
    assert client.post("/v1/process", params=params, content=b"no image").status_code >= 400
    answer = client.get("/v1/metrics/summary", params={"span": "hour"})
    assert answer.headers["cache-control"] == "no-store"
    after = SummaryBody.model_validate(answer.json())
    assert after.invocations - before.invocations == 2
    assert after.errors.total - before.errors.total == 1
    assert after.bytes.into - before.bytes.into == len(pictures[0])
    assert after.bytes.out - before.bytes.out == len(made.content)
    assert after.duration_s.count - before.duration_s.count == 2
    wait_until(
        lambda: client.get("/v1/metrics/summary").json()["concurrent"]["peak"] >= 1,
        "the second is over, and has a peak",
    )
    with Client(str(client.base_url)) as sdk:
        assert sdk.summary("minute")["span"] == "minute"


@pytest.mark.parametrize("span", ["week", "range"])
def test_a_span_that_there_is_not_is_refused(client: httpx.Client, span: str) -> None:
    answer = client.get("/v1/metrics/summary", params={"span": span})
    assert answer.status_code == 400
    assert "minute, hour, day" in answer.json()["detail"]
