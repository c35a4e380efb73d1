"""Documents of every provider become events, and nothing that a stranger sends becomes anything else."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixelmill.storage.uris import parse_uri
from pixelmill.triggers.documents import MAX_ITEMS, MAX_TEXT, is_foreign, read_events, with_headers
from pixelmill.triggers.documents.parts import MAX_DETAIL, MAX_SEQUENCER, MAX_VERSION
from pixelmill.triggers.event import ObjectEvent, Parsed, order_of

EVENTS = Path(__file__).parent / "events"
FILES = sorted(EVENTS.glob("*.json"))
AT = 1795857330.482
ETAG = "9b2cf535f27731c974343645a3985328"
S3 = ObjectEvent("s3://photos-in/uploads/harbor.jpg", "created", ETAG, AT, 184320, "", "0065f1a2b3c4d5e6f7", "s3")
GENERATION = "1795857330482913"
BLOB = "0x8DD4BCC2E4835CD0"

# By file: what is read, as (address, kind, version, size, type) of each event, and the reasons of what is not.
EXPECTED: dict[str, tuple[list[tuple[str, str, str, int | None, str]], list[str]]] = {
    "s3-put": ([("s3://photos-in/uploads/harbor.jpg", "created", ETAG, 184320, "")], []),
    "s3-put-versioned-encoded": (
        [
            (
                "s3://photos-in/uploads/Z%C3%BCrich%20am%20See/a+b%20(1)%25.jpg",
                "created",
                "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                184320,
                "",
            )
        ],
        [],
    ),
    "s3-multipart": (
        [("s3://photos-in/uploads/panorama.tif", "created", "5f363e0e58a95f06cbe9bbc662c5dfb6-14", 73400320, "")],
        [],
    ),
    "s3-copy-null-version": ([("s3://photos-in/uploads/copy.png", "created", ETAG, 184320, "")], []),
    "s3-delete": ([("s3://photos-in/uploads/harbor.jpg", "removed", "0065f1a2b3c4d5e6f7", None, "")], []),
    "s3-delete-marker": (
        [("s3://photos-in/uploads/harbor.jpg", "removed", "tN2Kx4tqS8nqQYkTBOx6eAOo1O0aVQgE", None, "")],
        [],
    ),
    "s3-tagging": ([], ["other-event"]),
    "s3-folder-and-bad-key": (
        [("s3://photos-in/uploads/good.jpg", "created", ETAG, 184320, "")],
        ["folder-marker", "bad-key", "bad-key"],
    ),
    "s3-test-event": ([("s3://photos-in/", "test", "", None, "")], []),
    "sns-notification": ([("s3://photos-in/uploads/harbor.jpg", "created", ETAG, 184320, "")], []),
    "sns-subscription-confirmation": ([], ["handshake"]),
    "lambda-sqs": (
        [
            ("s3://photos-in/", "test", "", None, ""),
            ("s3://photos-in/uploads/harbor.jpg", "created", ETAG, 184320, ""),
            ("s3://photos-in/uploads/second.jpg", "created", ETAG, 184320, ""),
        ],
        [],
    ),
    "lambda-sns": ([("s3://photos-in/uploads/harbor.jpg", "created", ETAG, 184320, "")], []),
    "eventbridge-created": (
        [("s3://photos-in/uploads/a+b%20%2541%20(2).jpg", "created", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", 5210, "")],
        [],
    ),
    "eventbridge-deleted": (
        [("s3://photos-in/uploads/a+b.jpg", "removed", "1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF", None, "")],
        [],
    ),
    "eventbridge-tags": ([], ["other-event"]),
    "minio-put": ([("s3://photos-in/uploads/am%20See/a+b.jpg", "created", ETAG, 184320, "image/jpeg")], []),
    "minio-tagging": ([], ["other-event"]),
    "rustfs-put": ([("s3://photos-in/uploads/Z%C3%BCrich.jpg", "created", ETAG, 184320, "image/jpeg")], []),
    "ceph-put": ([("s3://photos-in/uploads/harbor.jpg", "created", ETAG, 184320, "")], []),
    "gcs-push-finalize": (
        [("gs://photos-in/uploads/am%20See/a+b%20%25.jpg", "created", GENERATION, 184320, "image/jpeg")],
        [],
    ),
    "gcs-push-without-payload": ([("gs://photos-in/uploads/harbor.jpg", "created", GENERATION, None, "")], []),
    "gcs-push-replaced": ([], ["other-event"]),
    "gcs-push-deleted": ([("gs://photos-in/uploads/harbor.jpg", "removed", GENERATION, 184320, "image/jpeg")], []),
    "gcs-push-metadata": ([], ["other-event"]),
    "eventarc-structured": ([("gs://photos-in/uploads/harbor.jpg", "created", GENERATION, 184320, "image/jpeg")], []),
    "eventarc-message-published": (
        [("gs://photos-in/uploads/harbor.jpg", "created", GENERATION, 184320, "image/jpeg")],
        [],
    ),
    "azure-grid-created": ([("az://photos-in/uploads/am%20See/a+b.jpg", "created", BLOB, 184320, "image/jpeg")], []),
    "azure-grid-single": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], []),
    "azure-grid-many": (
        [(f"az://photos-in/uploads/{number}.jpg", "created", BLOB, 184320, "image/jpeg") for number in range(3)],
        [],
    ),
    "azure-grid-deleted": (
        [("az://photos-in/uploads/harbor.jpg", "removed", "00000000000004420000000000028963", None, "image/jpeg")],
        [],
    ),
    "azure-data-lake-begun": ([], ["not-whole"]),
    "azure-data-lake-whole": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], []),
    "azure-data-lake-renamed": (
        [("az://photos-in/uploads/renamed.jpg", "created", "00000000000004420000000000028963", None, "")],
        [],
    ),
    "azure-sftp": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], ["not-whole"]),
    "azure-tier": ([], ["other-event"]),
    "azure-cloud-event": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], []),
    "azure-cloud-event-batch": (
        [
            ("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg"),
            ("az://photos-in/uploads/second.jpg", "created", BLOB, 184320, "image/jpeg"),
        ],
        [],
    ),
    "azure-validation": ([], ["handshake"]),
    "azure-queue-base64": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], []),
    "azure-queue-plain": ([("az://photos-in/uploads/harbor.jpg", "created", BLOB, 184320, "image/jpeg")], []),
}


def load(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_every_file_has_its_expectation() -> None:
    assert {path.stem for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_document_gives_its_events(name: str) -> None:
    parsed = read_events(load(name))
    events, reasons = EXPECTED[name]
    assert [(one.uri, one.kind, one.version, one.size, one.media_type) for one in parsed.events] == events
    assert [part.reason for part in parsed.unread] == reasons


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - {"azure-queue-base64"}))
def test_text_bytes_and_a_queue_message_in_base64_give_the_same(name: str) -> None:
    document = load(name)
    text = document if isinstance(document, str) else json.dumps(document)
    expected = read_events(document)
    for form in (text, text.encode(), base64.b64encode(text.encode()).decode(), f"\n{text}\n"):
        assert read_events(form) == expected


def test_every_part_of_an_event_is_read() -> None:
    assert read_events(load("s3-put")).events == (S3,)
    (blob,) = read_events(load("azure-grid-single")).events
    assert blob.at == pytest.approx(AT, abs=0.01)
    assert (blob.provider, blob.sequencer) == ("azure", "00000000000004420000000000028963")
    (object_,) = read_events(load("gcs-push-finalize")).events
    assert (object_.provider, object_.sequencer) == ("gcs", GENERATION)


def test_a_cloud_event_in_headers_is_read_with_its_body() -> None:
    request = json.loads((EVENTS / "http" / "eventarc-binary.json").read_text())
    (event,) = read_events(with_headers(request["headers"], request["body"])).events
    assert (event.uri, event.version, event.size) == ("gs://photos-in/uploads/Z%C3%BCrich.jpg", GENERATION, 184320)
    request["body"] = {}  # the attributes alone name the object too
    (event,) = read_events(with_headers(request["headers"], request["body"])).events
    assert event.uri == "gs://photos-in/uploads/Z%C3%BCrich.jpg"
    assert with_headers({"content-type": "application/json"}, {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("encoded", "uri"),
    [
        ("a+b.jpg", "s3://photos-in/a%20b.jpg"),
        ("a%2Bb.jpg", "s3://photos-in/a+b.jpg"),
        ("a%20b.jpg", "s3://photos-in/a%20b.jpg"),
        ("%E2%98%83/%F0%9F%98%80.png", "s3://photos-in/%E2%98%83/%F0%9F%98%80.png"),
        ("%2525.jpg", "s3://photos-in/%2525.jpg"),
        ("folder%2Fname.jpg", "s3://photos-in/folder/name.jpg"),
        ("what%3F%23.jpg", "s3://photos-in/what%3F%23.jpg"),
        ("%2E%2E/secret.jpg", None),
        ("a%00b.jpg", None),
        ("a%0Ab.jpg", None),
        ("%ZZ.jpg", None),
        ("a%5Cb.jpg", None),
        (".pixelmill/x.jpg", None),
        ("x" * 1025, None),
    ],
)
def test_keys_are_decoded_once_and_refused_where_the_grammar_has_no_place_for_them(
    encoded: str, uri: str | None
) -> None:
    document = load("s3-put")
    document["Records"][0]["s3"]["object"]["key"] = encoded
    parsed = read_events(document)
    assert [event.uri for event in parsed.events] == ([] if uri is None else [uri])
    assert [part.reason for part in parsed.unread] == (["bad-key"] if uri is None else [])


@pytest.mark.parametrize("bucket", ["Upper", "a", "$web", "a b", "..", "a/b", "", None, 3, {"name": "x"}])
def test_a_bucket_that_is_none_gives_no_event(bucket: Any) -> None:
    document = load("s3-put")
    document["Records"][0]["s3"]["bucket"]["name"] = bucket
    parsed = read_events(document)
    assert not parsed.events
    assert is_foreign(parsed)


@pytest.mark.parametrize("at", ["yesterday", "", None, 5, "2026-13-01T00:00:00Z", "0001-01-01T00:00:00Z", "9" * 30])
def test_an_event_without_a_time_is_unread(at: Any) -> None:
    document = load("s3-put")
    document["Records"][0]["eventTime"] = at
    assert [part.reason for part in read_events(document).unread] == ["missing-field"]


def test_a_new_major_version_of_s3_is_not_guessed_at() -> None:
    document = load("s3-put")
    document["Records"][0]["eventVersion"] = "3.0"
    assert [part.reason for part in read_events(document).unread] == ["unknown-document"]


def test_a_later_write_has_the_greater_order() -> None:
    first, second = load("s3-put"), load("s3-put")
    second["Records"][0]["s3"]["object"]["sequencer"] = "0065F1A2B3C4D5E6F8"
    orders = [order_of(read_events(document).events[0]) for document in (first, second)]
    assert orders[0] < orders[1]


def nested(levels: int) -> Any:
    document: Any = load("s3-put")
    for _ in range(levels):
        document = {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(document)}
    return document


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (None, "unknown-document"),
        (3, "unknown-document"),
        (float("nan"), "unknown-document"),
        ({}, "unknown-document"),
        ([], "unknown-document"),
        ({"Records": []}, "unknown-document"),
        ({"Records": [None]}, "unknown-document"),
        ({"message": {"data": "%%%"}}, "unknown-document"),
        ("", "not-json"),
        ("hello", "not-json"),
        ("12", "not-json"),
        ("[" * 100_000, "not-json"),
        (b"\xff\xfe", "not-json"),
        ("9" * 5_000, "not-json"),
        ("x" * (MAX_TEXT + 1), "too-large"),
        (nested(8), "too-deep"),
        ({"Records": [{}] * (MAX_ITEMS + 1)}, "too-many"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_rubbish_is_unread_with_its_reason(document: Any, reason: str) -> None:
    parsed = read_events(document)
    assert not parsed.events
    assert reason in {part.reason for part in parsed.unread}
    assert is_foreign(parsed)


def test_what_was_understood_is_not_foreign() -> None:
    for name in ("s3-tagging", "azure-validation", "azure-data-lake-begun", "s3-put"):
        assert not is_foreign(read_events(load(name)))
    assert is_foreign(read_events("hello"))


# -- whatever comes in -----------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["../../etc/passwd", "a\x00b", "\ud800", "null", "s3:TestEvent", "/", "%", "a" * 2000, "2.9"])
)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good document in which some values were replaced or removed, also in the documents within."""
    document = json.loads(draw(st.sampled_from(FILES)).read_text())
    for _ in range(draw(st.integers(1, 4))):
        every = places(document)
        if not every:
            break
        *front, last = draw(st.sampled_from(every))
        holder = document
        for key in front:
            holder = holder[key]
        if isinstance(holder[last], str) and holder[last].startswith("{") and draw(st.booleans()):
            inner = json.loads(holder[last])
            spot = draw(st.sampled_from(places(inner)))
            target = inner
            for key in spot[:-1]:
                target = target[key]
            target[spot[-1]] = draw(SCALARS.filter(lambda value: value != "\ud800"))
            holder[last] = json.dumps(inner)
        elif isinstance(holder, dict) and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = draw(JSON_VALUES)
    return document


def check(parsed: Parsed) -> None:
    for event in parsed.events:
        if event.kind == "test":
            assert parse_uri(event.uri + "key").path == "key"
        else:
            assert str(parse_uri(event.uri)) == event.uri
            assert event.version
        assert len(event.version) <= MAX_VERSION
        assert len(event.sequencer) <= MAX_SEQUENCER
        assert len(order_of(event)) == MAX_SEQUENCER
        assert event.size is None or event.size >= 0
        assert event.at >= 0
        event.version.encode()
        event.media_type.encode("ascii")
    for part in parsed.unread:
        assert len(part.detail) <= MAX_DETAIL
        assert part.detail.isprintable()
        part.detail.encode()
    assert parsed.events or parsed.unread


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated())
def test_a_damaged_document_never_raises_and_never_leaves_the_grammar(document: Any) -> None:
    check(read_events(document))


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES | st.binary(max_size=200) | st.text(max_size=200))
def test_anything_at_all_never_raises(value: Any) -> None:
    check(read_events(value))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_values_that_are_nested_as_deep_as_json_allows_are_unread(name: str) -> None:
    document = load(name)
    deep: Any = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    for spot in places(document):
        damaged = load(name)
        holder = damaged
        for key in spot[:-1]:
            holder = holder[key]
        holder[spot[-1]] = deep
        check(read_events(damaged))


def test_reading_events_loads_no_pydantic_and_no_network_library() -> None:
    program = (
        "import sys, pixelmill.triggers.documents; "
        "print([name for name in ('pydantic', 'httpx', 'obstore', 'numpy', 'asyncio', 'ssl', 'boto3') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
