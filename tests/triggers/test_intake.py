"""Who may send events by HTTP, and how providers' handshakes are answered. Signers are real, on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import serving
from signers import Documents, Signer
from takers import RecordingTaker

from pixelmill.errors import CapacityError, ConfigError, MissingExtra, Unauthenticated
from pixelmill.triggers import public_keys
from pixelmill.triggers.intake import REFUSED, Answer, Posted, accept, answer_options
from pixelmill.triggers.public_keys import FETCHES, MAX_BYTES, PublicKeys
from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.sns_signature import is_trusted
from pixelmill.triggers.source import check_source, open_source
from pixelmill.triggers.source_options import OPTIONS, SECRETS, Options, read_options

pytestmark = pytest.mark.anyio
EVENTS = Path(__file__).parent / "events"
TOPIC = "arn:aws:sns:eu-central-1:111122223333:uploads"
GOOGLE = {
    "auth": "google-oidc",
    "audience": "https://other.example, https://pixelmill.example/v1/events/gcs",
    "service_account": "pusher@example-project.iam.gserviceaccount.com",
}


def load(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def http(**options: str) -> Options:
    return read_options(SourceSpec("uploads", "http", options))


def local() -> Options:
    """A source without credentials, of a service on loopback."""
    return read_options(SourceSpec("uploads", "http", {"auth": "none"}), on_loopback=True)


def posted(document: Any, headers: dict[str, str] | None = None, **query: str) -> Posted:
    return Posted(headers or {}, query, document if isinstance(document, bytes) else json.dumps(document).encode())


async def sent(options: Options, request: Posted, keys: PublicKeys | None = None) -> tuple[Answer, RecordingTaker]:
    taker = RecordingTaker()
    return await accept(options, request, taker, keys or PublicKeys()), taker


async def refused(options: Options, request: Posted, keys: PublicKeys | None = None) -> None:
    """It is, in words that tell no reason, and nothing was taken."""
    taker = RecordingTaker()
    with pytest.raises(Unauthenticated) as caught:
        await accept(options, request, taker, keys or PublicKeys())
    assert str(caught.value) == REFUSED
    assert not taker.calls


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.fixture(scope="module")
def stranger() -> Signer:
    return Signer()


@pytest.fixture
def documents() -> Iterator[Documents]:
    with serving(Documents()) as server:
        yield server


# -- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"authorization": "Bearer s3cret-ü"}, {}),
        ({"authorization": "bearer  s3cret-ü "}, {}),
        ({"authorization": "s3cret-ü"}, {}),
        ({"x-pixelmill-key": "s3cret-ü"}, {}),
        ({}, {"token": "s3cret-ü"}),
        ({"authorization": "Bearer wrong"}, {"token": "s3cret-ü"}),
    ],
)
async def test_a_token_is_taken_from_where_providers_can_put_it(headers: dict[str, str], query: dict[str, str]) -> None:
    answer, taker = await sent(http(auth="token", token="s3cret-ü"), posted(load("minio-put"), headers, **query))
    assert answer.status == 200
    assert answer.body == {"accepted": 1, "duplicate": 0, "unmatched": 0, "ignored": 0, "unread": []}
    assert [event.uri for event in taker.events] == ["s3://photos-in/uploads/am%20See/a+b.jpg"]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, {}),
        ({"authorization": "Bearer "}, {"token": ""}),
        ({"authorization": "Bearer s3cret"}, {}),
        ({"authorization": "Bearer s3cret-üx"}, {}),
        ({"authorization": "Basic s3cret-ü"}, {}),
        ({"x-pixelmill-key": "S3CRET-Ü"}, {}),
        ({}, {"key": "s3cret-ü"}),
    ],
)
async def test_another_token_is_refused(headers: dict[str, str], query: dict[str, str]) -> None:
    await refused(http(auth="token", token="s3cret-ü"), posted(load("minio-put"), headers, **query))


async def test_secrets_come_from_variables_and_files_and_files_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS_TOKEN", "from-variable")
    file = tmp_path / "token"
    file.write_text("from-file\n")
    for given, secret in (({"token_env": "EVENTS_TOKEN"}, "from-variable"), ({"token_file": str(file)}, "from-file")):
        options = http(auth="token", **given)
        assert secret not in repr(options)
        await sent(options, posted(load("s3-put"), {"authorization": f"Bearer {secret}"}))
    file.write_text("rotated")
    await refused(http(auth="token", token_file=str(file)), posted({}, {"authorization": "Bearer from-file"}))


async def test_without_credentials_only_loopback_is_served() -> None:
    answer, taker = await sent(local(), posted(load("s3-put")))
    assert (answer.status, len(taker.events)) == (200, 1)
    with pytest.raises(ConfigError, match="loopback"):
        http(auth="none")


# -- Google ----------------------------------------------------------------------------------------------------------


async def test_a_push_with_googles_token_is_taken_and_keys_are_fetched_once(
    signer: Signer, documents: Documents
) -> None:
    options, keys = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer)), PublicKeys()
    for _ in range(3):
        request = posted(load("gcs-push-finalize"), {"authorization": f"Bearer {signer.token()}"})
        answer, taker = await sent(options, request, keys)
        assert (answer.status, len(taker.events)) == (200, 1)
    assert documents.asked == {"/certs": 1}


async def test_a_cloud_event_in_headers_is_taken(signer: Signer, documents: Documents) -> None:
    request = load("http/eventarc-binary")
    options = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer))
    headers = {**request["headers"], "authorization": f"Bearer {signer.token()}"}
    _, taker = await sent(options, posted(request["body"], headers))
    assert [event.uri for event in taker.events] == ["gs://photos-in/uploads/Z%C3%BCrich.jpg"]


BAD_CLAIMS: list[dict[str, Any]] = [
    {"aud": "https://elsewhere.example"},
    {"aud": None},
    {"email": "somebody@example-project.iam.gserviceaccount.com"},
    {"email": None},
    {"email_verified": False},
    {"email_verified": "true"},
    {"iss": "https://accounts.example"},
    {"iss": None},
    {"exp": int(time.time()) - 60},
    {"exp": None},
    {"iat": int(time.time()) + 86_400},  # it is some time until the test runs
    {"iat": None},
    {"exp": "soon"},
    {"exp": []},
    {"iat": {}},
    {"aud": {}},
    {"email": []},
]


# The times in them differ from process to process; the names of tests must not.
@pytest.mark.parametrize(
    "claims", BAD_CLAIMS, ids=[f"{number}-{next(iter(claims))}" for number, claims in enumerate(BAD_CLAIMS)]
)
async def test_a_token_with_another_claim_is_refused(
    claims: dict[str, Any], signer: Signer, documents: Documents
) -> None:
    options = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer))
    token = signer.token(**claims)
    await refused(options, posted(load("gcs-push-finalize"), {"authorization": f"Bearer {token}"}))


@pytest.mark.parametrize("header", [b"[" * 5_000, b"[]", b"7", b"\xff", b'{"alg": ["RS256"], "kid": "one"}'])
async def test_a_token_of_another_form_is_refused(signer: Signer, documents: Documents, header: bytes) -> None:
    options = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer))
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, b"{}", b"x"))
    await refused(options, posted(load("gcs-push-finalize"), {"authorization": f"Bearer {token}"}))


async def test_a_token_of_a_stranger_is_refused(signer: Signer, stranger: Signer, documents: Documents) -> None:
    options = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer))
    good = signer.token()
    head, body, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","kid":"key-1"}').rstrip(b"=").decode()
    odd_head = base64.urlsafe_b64encode(b'{"alg":[],"kid":{}}').rstrip(b"=").decode()
    hmac_head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"key-1"}').rstrip(b"=").decode()
    for token in (
        stranger.token(),
        stranger.token(kid="key-2"),
        signer.token(kid=None),
        f"{unsigned}.{body}.",
        f"{odd_head}.{body}.{signature}",
        f"{hmac_head}.{body}.{signature}",
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        f"{head}.{body}",
        "x" * 10_000,
        "",
        "a.b.c",
        "ü.ü.ü",
    ):
        await refused(options, posted(load("gcs-push-finalize"), {"authorization": f"Bearer {token}"}))
    await refused(options, posted(load("gcs-push-finalize"), {}))
    await sent(options, posted(load("gcs-push-finalize"), {"authorization": f"Bearer {good}"}))


async def test_new_keys_are_fetched_when_a_token_names_one_but_not_for_every_stranger(
    signer: Signer, stranger: Signer, documents: Documents
) -> None:
    now = 0.0
    keys = PublicKeys(clock=lambda: now)
    options = http(**GOOGLE, certs_url=documents.put_certs(key_1=signer))
    request = posted(load("gcs-push-finalize"), {"authorization": f"Bearer {signer.token()}"})
    await sent(options, request, keys)
    newer = posted(load("gcs-push-finalize"), {"authorization": f"Bearer {stranger.token(kid='key-2')}"})
    documents.put_certs(key_1=signer, key_2=stranger)
    for _ in range(20):
        await refused(options, newer, keys)  # they were fetched just now
    assert documents.asked == {"/certs": 1}
    now = 61.0
    await sent(options, newer, keys)
    assert documents.asked == {"/certs": 2}


async def test_where_keys_can_not_be_had_the_provider_is_to_try_again(documents: Documents, signer: Signer) -> None:
    request = posted(load("gcs-push-finalize"), {"authorization": f"Bearer {signer.token()}"})
    documents.texts["/huge"] = "x" * (MAX_BYTES + 1)
    for url in (documents.url("/nothing"), documents.url("/huge"), "http://127.0.0.1:9/certs"):
        with pytest.raises(CapacityError, match="key"):
            await sent(http(**GOOGLE, certs_url=url), request)
    documents.texts["/odd"] = "[1]"
    await refused(http(**GOOGLE, certs_url=documents.url("/odd")), request)


async def test_a_key_that_comes_in_drops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_keys, "TIMEOUT_S", 0.5)
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)  # slower than the whole may take, and faster than each piece may
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with asyncio.timeout(30):
        with pytest.raises(CapacityError, match="TimeoutError"):
            await PublicKeys().fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/certs")
        await gone.wait()
    server.close()
    await server.wait_closed()


async def test_keys_are_not_fetched_without_end(documents: Documents) -> None:
    now = 0.0
    keys = PublicKeys(clock=lambda: now)
    for number in range(FETCHES):
        documents.texts[f"/{number}.pem"] = "x"
        await keys.get(documents.url(f"/{number}.pem"))
    with pytest.raises(CapacityError, match="last minute"):
        await keys.get(documents.url("/more.pem"))
    assert await keys.get(documents.url(f"/{FETCHES - 1}.pem")) == b"x"  # that is still kept
    assert len(keys._kept) <= public_keys.MAX_KEPT
    now = 61.0
    documents.texts["/more.pem"] = "x"
    assert await keys.get(documents.url("/more.pem")) == b"x"
    now = public_keys.KEPT_S + 62.0
    del documents.texts["/more.pem"]  # an outage: what is known serves for a day
    assert await keys.get(documents.url("/more.pem")) == b"x"
    now = public_keys.STALE_S + 62.0
    with pytest.raises(CapacityError):
        await keys.get(documents.url("/more.pem"))


# -- SNS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sns(signer: Signer, documents: Documents) -> Callable[..., dict[str, Any]]:
    """Makes messages of SNS, signed, with a certificate that is served here."""
    documents.texts["/cert.pem"] = signer.pem

    def make(name: str = "sns-notification", version: str = "2", by: Signer = signer, **changes: Any) -> dict[str, Any]:
        message = {**load(name), "SigningCertURL": documents.url("/cert.pem"), **changes}
        return by.sign({key: value for key, value in message.items() if value is not None}, version)

    return make


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_signed_notification_is_taken(
    version: str, sns: Callable[..., dict[str, Any]], documents: Documents
) -> None:
    options, keys = http(auth="sns", topics=TOPIC, cert_hosts=documents.host), PublicKeys()
    for message in (sns(version=version), sns(version=version, Subject=None)):
        answer, taker = await sent(options, posted(message, {"content-type": "text/plain; charset=UTF-8"}), keys)
        assert answer.status == 200
        assert [event.uri for event in taker.events] == ["s3://photos-in/uploads/harbor.jpg"]
    assert documents.asked == {"/cert.pem": 1}


async def test_a_message_that_was_changed_or_signed_by_others_is_refused(
    sns: Callable[..., dict[str, Any]], documents: Documents, stranger: Signer
) -> None:
    options = http(auth="sns", topics=TOPIC, cert_hosts=documents.host)
    documents.texts["/expired.pem"] = (old := Signer(days=0.5)).pem
    documents.texts["/odd.pem"] = "no certificate"
    good = sns()
    changed = [
        {**good, "Message": good["Message"].replace("harbor", "other")},
        {**good, "Timestamp": "2026-11-28T09:15:31.006Z"},
        {**good, "Subject": None},
        {**good, "SignatureVersion": "1"},
        {**good, "SignatureVersion": "3"},
        {**good, "SignatureVersion": []},
        {**good, "TopicArn": {}},
        {**good, "Type": []},
        {**good, "SigningCertURL": []},
        {**good, "Signature": {}},
        {**good, "Signature": "%%%"},
        {**good, "Signature": ""},
        {**good, "Message": 5},
        {**good, "Type": "Other"},
        sns(by=stranger),
        sns(by=old, SigningCertURL=documents.url("/expired.pem")),
        sns(SigningCertURL=documents.url("/odd.pem")),
        sns(SigningCertURL=documents.url("/cert.txt")),
        sns(SigningCertURL=f"http://other.example/{documents.host}/cert.pem"),
        sns(SigningCertURL=None),
        sns(TopicArn="arn:aws:sns:eu-central-1:111122223333:others"),
        {key: value for key, value in good.items() if key != "MessageId"},
        [good],
        "text",
        load("s3-put"),
    ]
    for message in changed:
        await refused(options, posted(message))
    await refused(options, posted(b"\xff"))
    await sent(options, posted(good))


async def test_without_other_hosts_only_amazons_are_asked_for_certificates(
    sns: Callable[..., dict[str, Any]], documents: Documents
) -> None:
    await refused(http(auth="sns", topics=TOPIC), posted(sns()))
    assert not documents.asked


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://sns.eu-central-1.amazonaws.com/x.pem", True),
        ("https://sns.cn-north-1.amazonaws.com.cn/x.pem", True),
        ("https://sns.us-gov-west-1.amazonaws.com:443/x.pem", True),
        ("http://sns.eu-central-1.amazonaws.com/x.pem", False),
        ("https://sns.eu-central-1.amazonaws.com:8443/x.pem", False),
        ("https://sns.eu-central-1.amazonaws.com.evil.example/x.pem", False),
        ("https://evil.example/sns.eu-central-1.amazonaws.com/x.pem", False),
        ("https://sns.eu-central-1.amazonaws.com@evil.example/x.pem", False),
        ("https://x:y@sns.eu-central-1.amazonaws.com/x.pem", False),
        ("https://bucket.s3.amazonaws.com/x.pem", False),
        ("https://sns.a.b.amazonaws.com/x.pem", False),
        ("https://sns.eu-central-1.amazonaws.com\\.evil.example/x.pem", False),
        ("https://[bad/x.pem", False),
        ("https://sns.eu-central-1.amazonaws.com:x/x.pem", False),
        ("", False),
        (None, False),
        ("https://sns.eu-central-1.amazonaws.com/" + "x" * 3_000, False),
    ],
)
def test_addresses_of_certificates(url: Any, good: bool) -> None:
    assert is_trusted(url, ()) is good


async def test_a_subscription_is_confirmed_for_topics_that_were_configured_only(
    sns: Callable[..., dict[str, Any]], documents: Documents
) -> None:
    documents.texts["/confirm"] = "<ConfirmSubscriptionResponse/>"
    options = http(auth="sns", topics=f"arn:other, {TOPIC}", cert_hosts=documents.host)
    message = sns("sns-subscription-confirmation", SubscribeURL=documents.url("/confirm"))
    await refused(http(auth="sns", topics="arn:other", cert_hosts=documents.host), posted(message))
    await refused(options, posted({**message, "Token": "other"}))
    elsewhere = sns("sns-subscription-confirmation", SubscribeURL="http://elsewhere.example/confirm")
    await refused(options, posted(elsewhere))
    assert documents.asked["/confirm"] == 0
    answer, taker = await sent(options, posted(message))
    assert (answer.status, taker.calls, documents.asked["/confirm"]) == (200, 0, 1)
    farewell = sns("sns-subscription-confirmation", Type="UnsubscribeConfirmation")
    answer, taker = await sent(options, posted(farewell))
    assert (answer.status, taker.calls) == (200, 0)


# -- Event Grid ------------------------------------------------------------------------------------------------------


async def test_event_grid_is_validated_with_its_key_only() -> None:
    options = http(auth="event-grid", key="k3y")
    request = posted(load("azure-validation"), {"aeg-event-type": "SubscriptionValidation"}, key="k3y")
    answer, taker = await sent(options, request)
    assert answer == Answer(200, {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"})
    assert taker.calls == 0
    await refused(options, posted(load("azure-validation"), {"aeg-event-type": "SubscriptionValidation"}, key="other"))
    _, taker = await sent(options, posted(load("azure-grid-many"), {"aeg-event-type": "Notification"}, key="k3y"))
    assert len(taker.events) == 3
    _, taker = await sent(options, posted(load("azure-cloud-event"), {"authorization": "Bearer k3y"}))
    assert len(taker.events) == 1


@pytest.mark.parametrize("odd", [[], {}, 5, None, "x" * 300])
async def test_an_odd_validation_is_no_handshake(odd: Any) -> None:
    document = load("azure-validation")
    document[0]["data"]["validationCode"] = odd
    document[0]["type"] = odd
    _, taker = await sent(http(auth="event-grid", key="k"), posted(document, key="k"))
    assert [part.reason for part in taker.unread] == ["handshake"]


async def test_a_validation_without_its_code_is_no_handshake() -> None:
    document = load("azure-validation")
    del document[0]["data"]["validationCode"]
    _, taker = await sent(http(auth="event-grid", key="k"), posted(document, key="k"))
    assert [part.reason for part in taker.unread] == ["handshake"]


async def test_cloud_events_are_allowed_to_origins_that_were_configured() -> None:
    options = http(auth="event-grid", key="k3y")
    origin = {"webhook-request-origin": "eventgrid.azure.net", "webhook-request-rate": "120"}
    answer = answer_options(options, Posted(origin, {"key": "k3y"}))
    assert answer.status == 200
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert answer.headers["webhook-allowed-rate"] == "*"
    for headers, key in (({}, "k3y"), ({"webhook-request-origin": "evil.example"}, "k3y"), (origin, "other")):
        with pytest.raises(Unauthenticated):
            answer_options(options, Posted(headers, {"key": key}))
    with pytest.raises(Unauthenticated):
        answer_options(http(auth="token", token="k3y"), Posted(origin, {"key": "k3y", "token": "k3y"}))


# -- what becomes of it ----------------------------------------------------------------------------------------------


async def test_what_could_not_be_recorded_is_to_be_sent_again() -> None:
    taker = RecordingTaker(failures=1)
    options = local()
    with pytest.raises(CapacityError) as caught:
        await accept(options, posted(load("s3-put")), taker, PublicKeys())
    assert caught.value.context["retry_after"] > 0
    assert (await accept(options, posted(load("s3-put")), taker, PublicKeys())).status == 200


async def test_what_can_not_be_read_is_answered_with_its_reason_and_counted() -> None:
    """A provider that got an error would send it again, for days."""
    answer, taker = await sent(local(), posted(b"hello"))
    assert answer.status == 200
    assert answer.body is not None
    assert [part["reason"] for part in answer.body["unread"]] == ["not-json"]
    assert [part.reason for part in taker.unread] == ["not-json"]


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("kafka", {}, "unknown"),
        ("sqs", {}, "'queue'"),
        ("sqs", {"queue": "q", "recievers": "2"}, "near: receivers"),
        ("sqs", {"queue": "q", "receivers": "17"}, "from 1 to 16"),
        ("sqs", {"queue": "q", "receivers": "two"}, "receivers"),
        ("sqs", {"queue": ""}, "1 to 2,048"),
        ("folder", {"path": "/x", "settle": "nan"}, "from 0.05"),
        ("folder", {"path": "/x", "catch_up": "maybe"}, "true or false"),
        ("azure-queue", {"queue": "q"}, "connection"),
        ("http", {}, "'auth'"),
        ("http", {"auth": "basic"}, "one of token"),
        ("http", {"auth": "token"}, "needs token"),
        ("http", {"auth": "token", "token": " "}, "1 to"),
        ("http", {"auth": "token", "token": "a", "token_env": "B"}, "one of them"),
        ("http", {"auth": "token", "token_env": "PIXELMILL_TEST_NOT_SET"}, "not set"),
        ("http", {"auth": "token", "token_file": "/nonexistent/token"}, "can't be read"),
        ("http", {"auth": "token", "token": "x", "audience": "y"}, "does nothing"),
        ("http", {"auth": "google-oidc", "audience": "x"}, "service_account"),
        ("http", {"auth": "sns"}, "topics"),
        ("http", {"auth": "event-grid"}, "needs key"),
        ("http", {"auth": "none"}, "loopback"),
        ("azure-queue", {"queue": "uploads", "account": "examplephotos"}, "must be a URL"),
    ],
)
def test_wrong_options_are_refused_with_what_they_may_be(kind: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_source(SourceSpec("uploads", kind, options))
    assert "'uploads'" in str(caught.value)
    assert "event-sources.md" in str(caught.value)


def test_what_a_request_would_find_out_later_is_found_when_the_source_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="https"):
        open_source(SourceSpec("g", "http", {**GOOGLE, "certs_url": "http://keys.example/certs"}))
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "cryptography.x509", None)
    with pytest.raises(MissingExtra, match=r"pixelmill\[fleet\]"):
        open_source(SourceSpec("s", "http", {"auth": "sns", "topics": TOPIC}))
    monkeypatch.setitem(modules, "google.auth", None)
    with pytest.raises(MissingExtra, match=r"pixelmill\[fleet\]"):
        open_source(SourceSpec("g", "http", GOOGLE))


def test_the_page_has_every_kind_and_every_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "event-sources.md").read_text(encoding="utf-8")
    for kind, options in OPTIONS.items():
        section = text.partition(f"### `{kind}`\n")[2].partition("\n### ")[0]
        assert section, kind
        for name, option in options.items():
            assert f"| `{name}` |" in section, (kind, name)
            assert option.meaning in section, (kind, name)
        for name in SECRETS[kind]:
            assert f"| `{name}` |" in section, (kind, name)
