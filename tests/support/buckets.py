"""Empty buckets on real servers, as addresses with the options that reach them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import anyio
import boto3
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pixelmill.storage.opening import open_store
from servers import Azurite, Moto

ACCESS_KEY, SECRET_KEY, REGION = "AKIATEST", "test-secret-key", "us-east-1"


@dataclass(frozen=True, slots=True)
class Bucket:
    """``uri`` names the bucket and a prefix in it; ``options`` are what ``open_store`` takes."""

    uri: str
    options: Mapping[str, str]

    def setting(self) -> list[str]:
        """For a command line: this is the service's store."""
        return ["--set", f"store={self.uri}", "--set", f"store_options={json.dumps(dict(self.options))}"]


def s3_bucket(moto: Moto, *, prefix: str = "some/prefix") -> Bucket:
    name = _make_s3(moto)
    options = {
        "endpoint": moto.url,
        "region": REGION,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }
    return Bucket(f"s3://{name}/{prefix}", options)


def gcs_bucket(moto: Moto, *, prefix: str = "some/prefix") -> Bucket:
    """The XML API of Google is S3's in what is needed here; the rest the emulator can't do."""
    account = json.dumps(service_account(moto.url))
    return Bucket(f"gs://{_make_s3(moto)}/{prefix}", {"service_account_key": account})


def azure_container(azurite: Azurite, *, prefix: str = "some/prefix") -> Bucket:
    name = f"test-{secrets.token_hex(6)}"
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        client.create_container(name)
    options = {"endpoint": azurite.blob_url, "account": azurite.account, "account_key": azurite.key}
    return Bucket(f"az://{name}/{prefix}", options)


def s3_client(moto: Moto) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=moto.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
    )


def _make_s3(moto: Moto) -> str:
    name = f"test{secrets.token_hex(6)}"
    s3_client(moto).create_bucket(Bucket=name)
    return name


@cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def service_account(url: str) -> dict[str, Any]:
    """Of nobody; ``gcs_base_url`` is what object_store reads for emulators. Its tokens are self-signed."""
    return {
        "type": "service_account",
        "project_id": "test",
        "private_key_id": "one",
        "private_key": _private_key(),
        "client_email": "test@test.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{url}/token",
        "gcs_base_url": url,
    }


def fill(bucket: Bucket, objects: Mapping[str, bytes]) -> None:
    """Put objects below the prefix."""

    async def put() -> None:
        store = open_store(bucket.uri, bucket.options)
        for key, data in objects.items():
            await store.put(key, data)

    anyio.run(put)


def content(bucket: Bucket) -> dict[str, bytes]:
    """All objects below the prefix."""

    async def get() -> dict[str, bytes]:
        store = open_store(bucket.uri, bucket.options)
        return {info.key: await store.get(info.key) async for info in store.list()}

    return anyio.run(get)


def stores(bucket: Bucket) -> list[str]:
    """For a command line: a store that sources and results may lie in."""
    return ["--set", f"stores={json.dumps({'one': {'uri': bucket.uri, **bucket.options}})}"]
