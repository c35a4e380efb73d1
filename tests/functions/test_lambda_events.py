"""The handler in fresh processes under the real runtime client, with S3 by moto: every kind of event, every outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from function_tools import SEED_D, Buckets, bridge_event, jpeg, metrics, s3_event, s3_record, sns_event, sqs_event

from pixelmill import Pipeline
from pixelmill.testing.lambda_runtime import LambdaRuntime
from servers import Moto

pytest.importorskip("awslambdaric")

MEMORY = 128 << 20


@pytest.fixture
def buckets(moto_server: Moto) -> Buckets:
    return Buckets(moto_server)


@pytest.fixture
def runtime(buckets: Buckets) -> Iterator[LambdaRuntime]:
    """A function of 128 MB and 3 s: above either its process is killed."""
    with LambdaRuntime(environment=buckets.environment(), timeout_s=3, memory_bytes=MEMORY, retry_s=(0, 0)) as runtime:
        yield runtime


def test_two_variables_are_enough_for_the_study_that_this_reproduces(runtime: LambdaRuntime, buckets: Buckets) -> None:
    photo = jpeg(1200, 800, 1)
    invocation = runtime.invoke(buckets.put("2026/a b+é.jpg", photo))
    assert invocation.ok, (invocation, list(runtime.lines))
    assert invocation.cold
    assert buckets.keys() == ["2026/a b+é.jpg"]
    assert buckets.head("2026/a b+é.jpg")["ContentType"] == "image/jpeg"
    result = buckets.get("2026/a b+é.jpg")
    assert result == Pipeline.parse(SEED_D).run(photo).bytes
    pixels = cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.shape == (256, 256)


@pytest.mark.parametrize(("width", "height"), [(1200, 800), (1500, 997), (2040, 1536)])
def test_a_fresh_process_stays_within_128_mb_and_3_s_at_each_resolution(
    runtime: LambdaRuntime, buckets: Buckets, width: int, height: int
) -> None:
    invocation = runtime.invoke(buckets.put("a.jpg", jpeg(width, height, 2, quality=97)))
    assert invocation.ok, invocation.error
    assert invocation.cold
    assert 0 < invocation.memory_bytes < MEMORY
    assert invocation.duration_s < 3


def test_the_same_event_again_writes_the_same_bytes_under_the_same_name(
    runtime: LambdaRuntime, buckets: Buckets
) -> None:
    event = buckets.put("a.jpg", jpeg(600, 400, 3))
    results = []
    for _ in range(2):
        assert runtime.invoke(event).ok
        results.append(buckets.get("a.jpg"))
    assert results[0] == results[1]
    assert buckets.keys() == ["a.jpg"]
    assert [document["ColdStarts"] for document in metrics(runtime.lines)] == [1, 0]


def test_every_wrapping_of_an_event_is_understood(runtime: LambdaRuntime, buckets: Buckets) -> None:
    photo = jpeg(300, 200, 4)
    plain = [buckets.put(f"{name}.jpg", photo) for name in ("direct", "sns", "bridge", "sqs", "sqs-sns")]
    etag = plain[2]["Records"][0]["s3"]["object"]["eTag"]
    events = [
        plain[0],
        sns_event(plain[1]),
        bridge_event(buckets.source, "bridge.jpg", len(photo), etag),
        sqs_event({"1": plain[3], "2": sns_event(plain[4])["Records"][0]["Sns"]}),
    ]
    answers = [runtime.invoke(event) for event in events]
    assert all(answer.ok for answer in answers), answers
    assert answers[-1].result == {"batchItemFailures": []}
    assert sorted(buckets.keys()) == ["bridge.jpg", "direct.jpg", "sns.jpg", "sqs-sns.jpg", "sqs.jpg"]


def test_of_a_batch_only_messages_that_failed_come_again(moto_server: Moto, buckets: Buckets) -> None:
    good, bad = buckets.put("good.jpg", jpeg(300, 200, 5)), buckets.put("bad.jpg", b"no image")
    denied = s3_event([s3_record(buckets.source, "good.jpg"), s3_record(buckets.target, "x.jpg")])
    with LambdaRuntime(environment=buckets.environment(), timeout_s=10) as runtime:
        answer = runtime.invoke(sqs_event({"good": good, "bad": bad, "loop": denied, "rubbish": "hello"}))
    assert answer.ok, answer
    # What can't succeed is settled; the message whose second record would loop comes again, as a whole; and what nobody
    # can read is left to the queue's redrive policy.
    assert answer.result == {"batchItemFailures": [{"itemIdentifier": "loop"}, {"itemIdentifier": "rubbish"}]}
    assert buckets.keys() == ["good.jpg"]


def test_what_is_left_when_time_is_short_comes_again(buckets: Buckets) -> None:
    event = sqs_event({str(number): buckets.put(f"{number}.jpg", jpeg(200, 100, number)) for number in range(3)})
    with LambdaRuntime(environment=buckets.environment(), timeout_s=0.3) as runtime:
        answer = runtime.invoke(event)  # the reserve is more than the whole time
    assert answer.result == {"batchItemFailures": [{"itemIdentifier": str(number)} for number in range(3)]}, answer
    assert not buckets.keys()


def test_a_broken_image_ends_with_its_event_and_leaves_a_dead_letter(buckets: Buckets) -> None:
    environment = buckets.environment(DEAD_LETTERS=f"s3://{buckets.target}/failed/")
    event = buckets.put("broken.jpg", jpeg(300, 200, 6)[:500])
    with LambdaRuntime(environment=environment, timeout_s=10, retry_s=(0, 0)) as runtime:
        for _ in range(2):
            assert runtime.invoke(event).ok
        runtime.invoke_async(event)
        assert runtime.drain()
        assert runtime.counts().retries == 0
        told = metrics(runtime.lines)
    (key,) = buckets.keys()
    letter = json.loads(buckets.get(key))
    assert letter["error"]["type"] == "corrupt-image"
    assert letter["uri"] == f"s3://{buckets.source}/broken.jpg"
    assert [document.get("ErrorType") for document in told] == [None, "corrupt-image"] * 3
    assert all(document["Errors"] == 1 for document in told)


def test_an_object_that_is_gone_is_no_error(runtime: LambdaRuntime, buckets: Buckets) -> None:
    answer = runtime.invoke(s3_event([s3_record(buckets.source, "never-there.jpg")]))
    assert answer.ok
    (document,) = metrics(runtime.lines)
    assert (document["Errors"], document["Results"], document["EventsReceived"]) == (0, 0, 1)


def test_a_store_that_does_not_answer_is_tried_again_and_then_a_dead_letter(buckets: Buckets) -> None:
    environment = buckets.environment(AWS_ENDPOINT_URL="http://127.0.0.1:9")
    with LambdaRuntime(environment=environment, timeout_s=15, retry_s=(0, 0)) as runtime:
        runtime.invoke_async(buckets.put("a.jpg", jpeg(100, 100, 7)))
        assert runtime.drain(100)
        counts = runtime.counts()
        (letter,) = runtime.dead_letters
    assert (counts.retries, counts.dead) == (2, 1)
    assert letter.last.error is not None
    assert letter.last.error["errorType"] == "StorageUnavailable"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PIPELINE": "grayscal"}, "Did you mean grayscale"),
        ({"PIPELINE": ""}, "PIPELINE and OUTPUT_BUCKET"),
        ({"OUTPUT_NAME": "{stm}.jpg"}, "{stem}"),
        ({"PIXELMILL_MAX_BYTES": "many"}, "PIXELMILL_MAX_BYTES"),
        ({"TRIGGERS": "/nowhere/rules.toml", "PIPELINE": "", "OUTPUT_BUCKET": ""}, "/nowhere/rules.toml"),
    ],
)
def test_a_setting_that_is_wrong_is_told_at_each_call(buckets: Buckets, variables: dict[str, str], says: str) -> None:
    with LambdaRuntime(environment=buckets.environment(**variables), timeout_s=10) as runtime:
        for _ in range(2):
            answer = runtime.invoke(buckets.put("a.jpg", jpeg(100, 100, 8)))
            assert answer.error is not None
            assert says in answer.error["errorMessage"]
    assert not buckets.keys()


def test_a_result_never_starts_the_function_again(buckets: Buckets) -> None:
    same = {"OUTPUT_BUCKET": buckets.source}
    event = buckets.put("a.jpg", jpeg(100, 100, 9))
    with LambdaRuntime(environment=buckets.environment(**same), timeout_s=10) as runtime:
        refused = runtime.invoke(event)
        assert refused.error is not None
        assert "for ever" in refused.error["errorMessage"]
        assert buckets.keys(buckets.source) == ["a.jpg"]
    with LambdaRuntime(environment=buckets.environment(**same, OUTPUT_PREFIX="small"), timeout_s=10) as runtime:
        assert runtime.invoke(event).ok
        again = runtime.invoke(s3_event([s3_record(buckets.source, "small/a.jpg")]))
        assert again.ok
        assert again.result == {"results": []}
        assert metrics(runtime.lines)[-1]["EventsDropped"] == 1
    assert sorted(buckets.keys(buckets.source)) == ["a.jpg", "small/a.jpg"]


def test_a_rules_file_and_a_name_template(buckets: Buckets, tmp_path: Any) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        f"""
        [[rules]]
        name = "small"
        watch = "s3://{buckets.source}/in/"
        pipeline = "resize:64/format:webp"
        output = "s3://{buckets.target}/{{stem}}-{{width}}.{{ext}}"
        cache_control = "max-age=60"

        [[rules]]
        name = "faint"
        watch = "s3://{buckets.source}/in/"
        suffixes = [".jpg"]
        pipeline = "phash"
        output = "s3://{buckets.target}/data/"
        """
    )
    environment = {**buckets.environment(TRIGGERS=str(rules)), "PIPELINE": "", "OUTPUT_BUCKET": ""}
    with LambdaRuntime(environment=environment, timeout_s=10) as runtime:
        answer = runtime.invoke(buckets.put("in/a.jpg", jpeg(640, 480, 10)))
        assert answer.ok, answer
        assert runtime.invoke(buckets.put("else/a.jpg", jpeg(640, 480, 10))).result == {"results": []}
    assert sorted(buckets.keys()) == ["a-64.webp", "data/a.json"]
    assert buckets.head("a-64.webp")["CacheControl"] == "max-age=60"
    assert buckets.head("data/a.json")["ContentType"] == "application/json"
    assert "phash" in json.loads(buckets.get("data/a.json"))


def test_what_would_not_fit_into_the_memory_is_refused_before_it_is_killed(buckets: Buckets) -> None:
    environment = buckets.environment(PIPELINE="rotate:45/format:png")
    with LambdaRuntime(environment=environment, timeout_s=30, memory_bytes=MEMORY) as runtime:
        answer = runtime.invoke(buckets.put("large.jpg", jpeg(6000, 5000, 11, quality=50)))
        assert answer.ok, answer
        assert not buckets.keys()
        assert metrics(runtime.lines)[-1]["ErrorType"] == "limit-exceeded"
        assert any("Give it more" in line for line in runtime.lines)


def test_an_object_that_would_not_fit_into_the_memory_is_not_fetched(runtime: LambdaRuntime, buckets: Buckets) -> None:
    answer = runtime.invoke(buckets.put("huge.jpg", jpeg(300, 200, 12) + bytes(60 << 20)))
    assert answer.ok, answer
    assert metrics(runtime.lines)[-1]["ErrorType"] == "limit-exceeded"
    assert answer.memory_bytes < MEMORY
