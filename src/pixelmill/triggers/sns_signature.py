"""Messages that Amazon SNS sends by HTTP: who signed them, and the text that is signed.

SNS developer guide, "Verifying the signatures of Amazon SNS messages": the named fields, each with its value on a line
of its own, in the order of their names; RSA over SHA-1 (signature version 1) or SHA-256 (version 2). The certificate's
address is in the message, so it must be one of Amazon's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pixelmill.errors import MissingExtra
from pixelmill.triggers.public_keys import LOOPBACK, PublicKeys

NOTIFICATION = "Notification"
CONFIRMATIONS = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})
_FIELDS: Mapping[str, tuple[str, ...]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(CONFIRMATIONS, ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")),
}
_AMAZON = re.compile(r"sns\.[a-z0-9-]{3,40}\.amazonaws\.com(?:\.cn)?").fullmatch


def require_cryptography() -> None:
    """Raise :class:`MissingExtra` where signatures can't be verified."""
    try:
        import cryptography.x509  # noqa: F401 -- is it there?
    except ImportError as error:
        raise MissingExtra('Signatures of SNS are verified by cryptography: pip install "pixelmill[fleet]"') from error


def signed_text(message: Mapping[str, Any]) -> bytes | None:
    """What the signature is over; None for a message of another form. Only ``Subject`` may be missing."""
    lines: list[str] = []
    for name in _FIELDS.get(str(message.get("Type")), ()):
        value = message.get(name)
        if isinstance(value, str):
            lines += [name, value]
        elif value is not None or name != "Subject":
            return None
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass") if lines else None


def is_trusted(url: Any, hosts: Collection[str]) -> bool:
    """Whether an address is Amazon's, or of the ``hosts`` that were configured in its place."""
    if not isinstance(url, str) or len(url) > 2_048:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.username is not None or parts.password is not None:
        return False
    if hosts:
        good_scheme = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        return good_scheme and parts.netloc in hosts
    return parts.scheme == "https" and port in {None, 443} and bool(_AMAZON(parts.hostname or ""))


async def is_signed(message: Mapping[str, Any], *, hosts: Collection[str], keys: PublicKeys) -> bool:
    """Whether the signature is that of the certificate that the message names, and that one is to be trusted."""
    text, url = signed_text(message), message.get("SigningCertURL")
    version = message.get("SignatureVersion")
    if text is None or version not in {"1", "2"} or not is_trusted(url, hosts):
        return False
    assert isinstance(url, str)
    if not urlsplit(url).path.endswith(".pem"):
        return False
    try:
        signature = base64.b64decode(str(message.get("Signature")), validate=True)
    except (binascii.Error, ValueError):
        return False
    return _verify(await keys.get(url), signature, text, str(version))


def _verify(certificate: bytes, signature: bytes, text: bytes, version: str) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return False
    key = found.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
        return False
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()  # noqa: S303 -- version 1 of SNS is over SHA-1
    try:
        key.verify(signature, text, padding.PKCS1v15(), digest)
    except InvalidSignature:
        return False
    return True
