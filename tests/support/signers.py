"""Those who sign events, with keys of their own, served on loopback: Google's tokens and Amazon SNS."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from pixelmill.triggers.sns_signature import signed_text


class Signer:
    """A key and its certificate, which is valid from a day ago for ``days``."""

    def __init__(self, days: float = 2.0) -> None:
        self.key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer.example")])
        start = datetime.now(UTC) - timedelta(days=1)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def token(self, kid: str | None = "key-1", algorithm: str = "RS256", **claims: Any) -> str:
        """A token as Pub/Sub sends it, with other claims where they are given; None takes one out."""
        now = int(time.time())
        every = {
            "iss": "https://accounts.google.com",
            "aud": "https://pixelmill.example/v1/events/gcs",
            "azp": "113774264463038321964",
            "sub": "113774264463038321964",
            "email": "pusher@example-project.iam.gserviceaccount.com",
            "email_verified": True,
            "iat": now - 5,
            "exp": now + 3_600,
            **claims,
        }
        every = {name: value for name, value in every.items() if value is not None}
        return jwt.encode(every, self.key, algorithm=algorithm, headers={"kid": kid} if kid else {})

    def sign(self, message: Mapping[str, Any], version: str = "2") -> dict[str, Any]:
        """The message of SNS with its signature."""
        text = signed_text(message)
        assert text is not None
        digest = hashes.SHA1() if version == "1" else hashes.SHA256()
        signature = self.key.sign(text, padding.PKCS1v15(), digest)
        return {**message, "SignatureVersion": version, "Signature": base64.b64encode(signature).decode()}


class Documents(ThreadingHTTPServer):
    """Serves texts by their path, and counts who asked for what."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def put_certs(self, **signers: Signer) -> str:
        """Google's form: certificates by the ids of their keys; returns the address."""
        self.texts["/certs"] = json.dumps({kid.replace("_", "-"): signer.pem for kid, signer in signers.items()})
        return self.url("/certs")


class _Handler(BaseHTTPRequestHandler):
    server: Documents

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked[self.path] += 1
        text = self.server.texts.get(self.path)
        body = (text or "").encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
        pass
