"""Links that the clouds' own libraries would have made, and uploads and downloads through them."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from buckets import ACCESS_KEY, REGION, SECRET_KEY, Bucket, azure_container, gcs_bucket, s3_bucket, service_account
from google.cloud.storage._signing import generate_signed_url_v4  # type: ignore[import-untyped]  # it has no types
from google.oauth2.service_account import Credentials as GoogleCredentials

from pixelmill.storage.opening import open_store, put_headers
from servers import Azurite, Moto

PLAIN = ["plain.jpg", "results/ann/job_01a1fd/task_01-r2.B", "incoming/ann-2/up_01"]
ODD = ["folder/größe ñ 日本語.jpg", "folder/a+b & c=d,e;f~g.jpg"]
SERVERS = ["s3", "gcs", "azure"]


@pytest.fixture(params=SERVERS)
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "azure":
        return azure_container(request.getfixturevalue("azurite_server"))
    make = gcs_bucket if request.param == "gcs" else s3_bucket
    return make(request.getfixturevalue("moto_server"))


def as_botocore_signs(url: str, method: str) -> dict[str, str]:
    """The query of a link for the same resource, moment and lifetime."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    request = AWSRequest(method, urlunsplit(parts._replace(query="")))
    request.context["timestamp"] = query["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, expires=int(query["X-Amz-Expires"]))
    auth._modify_request_before_signing(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    return dict(parse_qsl(urlsplit(request.url).query))


@pytest.mark.anyio
@pytest.mark.parametrize("key", [*PLAIN, *ODD])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_botocore_signs_s3_links_alike(moto_server: Moto, key: str, method: str) -> None:
    bucket = s3_bucket(moto_server)
    url = await open_store(bucket.uri, bucket.options).presign(key, method, 1234)  # type: ignore[arg-type]  # a literal
    assert url is not None
    assert dict(parse_qsl(urlsplit(url).query)) == as_botocore_signs(url, method)


@pytest.mark.anyio
@pytest.mark.parametrize("key", PLAIN)
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_google_signs_its_links_alike(key: str, method: str) -> None:
    account = service_account("")
    del account["gcs_base_url"]  # Google's own address: it is the host that is signed, whatever an emulator's is
    store = open_store("gs://bucket/some/prefix", {"service_account_key": json.dumps(account)})
    url = await store.presign(key, method, 1234)  # type: ignore[arg-type]  # a literal
    assert url is not None
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    assert parts.netloc == "storage.googleapis.com"
    theirs = generate_signed_url_v4(
        GoogleCredentials.from_service_account_info(account),  # type: ignore[no-untyped-call]  # it has no types
        resource=f"/bucket/some/prefix/{quote(key, safe='/~')}",
        expiration=timedelta(seconds=1234),
        api_access_endpoint=f"{parts.scheme}://{parts.netloc}",
        method=method,
        _request_timestamp=query["X-Goog-Date"],
    )
    assert url.partition("?")[0] == theirs.partition("?")[0]
    assert query == dict(parse_qsl(urlsplit(theirs).query))


@pytest.mark.anyio
async def test_bytes_go_in_and_out_by_a_link_alone(bucket: Bucket) -> None:
    store = open_store(bucket.uri, bucket.options)
    secrets = [value for name, value in bucket.options.items() if name in {"secret_access_key", "account_key"}]
    async with httpx.AsyncClient() as client:
        for key in PLAIN:
            up = await store.presign(key, "PUT", 600)
            down = await store.presign(key, "GET", 600)
            assert up is not None
            assert down is not None
            assert not any(secret in up for secret in secrets)
            answer = await client.put(up, content=key.encode() * 1000, headers=dict(put_headers(store)))
            assert answer.is_success, answer.text
            assert (await client.get(down)).content == await store.get(key) == key.encode() * 1000


@pytest.mark.anyio
async def test_azure_asks_for_the_header_that_we_name(azurite_server: Azurite) -> None:
    bucket = azure_container(azurite_server)
    store = open_store(bucket.uri, bucket.options)
    url = await store.presign("a", "PUT", 600)
    assert url is not None
    async with httpx.AsyncClient() as client:
        assert (await client.put(url, content=b"x")).status_code == 400
        assert (await client.put(url, content=b"x", headers=dict(put_headers(store)))).status_code == 201
        # A link to write is none to read.
        assert (await client.get(url)).status_code == 403


@pytest.mark.anyio
async def test_keys_that_would_be_signed_wrongly_get_no_link(bucket: Bucket) -> None:
    store = open_store(bucket.uri, bucket.options)
    for key in ("p%20ct/x y", *ODD):
        assert (await store.presign(key, "GET", 60) is not None) == bucket.uri.startswith("s3:")
