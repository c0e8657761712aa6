"""Webhooks: how a message is signed and sent. What it says is its sender's.

The signature follows Standard Webhooks (https://www.standardwebhooks.com):
HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, so that a receiver can refuse forgeries
and replays. A message that is sent again keeps its id: a receiver that has seen
it may ignore the repetition.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from backoffice.addresses import Hosts

_BASE64 = "whsec_"  # begins each key, as the specification has it
_KEY_BYTES = range(24, 65)


@dataclass(frozen=True)
class Answer:
    """``status`` is 0 when there was none. ``message`` is never of the receiver's
    making: what it is, or why there was none."""

    status: int
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def is_url(text: str) -> bool:
    """Whether a webhook can be sent there: an http or https URL with a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        return False
    written = text.isprintable() and " " not in text
    return written and parts.scheme in ("http", "https") and bool(parts.hostname)


def keys(text: str) -> tuple[bytes, ...]:
    """The keys to sign with, from their texts separated by blanks; raises ValueError
    that ends "… is not" and tells none of them."""
    found = tuple(_key(word) for word in text.split())
    if not all(len(one) in _KEY_BYTES for one in found):
        raise ValueError(
            f"a list of keys, each {_BASE64} and base64 of 24 to 64 bytes;"
            f' type: echo "{_BASE64}$(openssl rand -base64 32)"'
        )
    return found


def _key(word: str) -> bytes:
    """Empty for what is no key."""
    try:
        prefix, text = word[: len(_BASE64)], word[len(_BASE64) :]
        return base64.b64decode(text, validate=True) if prefix == _BASE64 else b""
    except ValueError:
        return b""


def sign(content: bytes, identity: str, timestamp: int, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a message, with a signature by each key: receivers take any
    that they know, so a new key can come before the old one goes. ``identity`` has
    no full stop, ``timestamp`` is in seconds since 1970."""
    signed = f"{identity}.{timestamp}.".encode() + content
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in digests),
    }


def post(
    url: str, content: bytes, headers: Mapping[str, str], timeout: float, hosts: Hosts
) -> Answer:
    """Send JSON once, within ``timeout`` seconds. Raises HostRefused for a host that
    may not be reached."""
    from backoffice import outbound  # not before: most of those who could send never do

    begin = time.monotonic()
    status = 0
    given = {"content-type": "application/json", "user-agent": "Backoffice", **headers}
    try:
        status = outbound.post(url, content, given, timeout, hosts)
        message = _phrase(status)
    except outbound.Unreachable as error:
        message = str(error)
    return Answer(status, message, time.monotonic() - begin)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
