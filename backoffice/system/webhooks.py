"""Webhooks: sign and send a message once.

The signature follows Standard Webhooks (https://www.standardwebhooks.com):
HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, so that a receiver can refuse forgeries
and replays. A message that is sent again keeps its id, by which a receiver recognises
the repetition.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from backoffice.config.addresses import Hosts


@dataclass(frozen=True)
class Answer:
    """``status`` is 0 without an answer. ``message`` names the status, or says why there
    was no answer; it never contains text from the receiver."""

    status: int
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def sign(content: bytes, identity: str, timestamp: int, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a message, with a signature by each key. A receiver accepts any key
    that it knows, so a new key can be added before the old one is removed. ``identity``
    has no full stop; ``timestamp`` is Unix time in seconds."""
    signed = f"{identity}.{timestamp}.".encode() + content
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(digest).decode()}" for digest in digests
        ),
    }


def post(
    url: str, content: bytes, headers: Mapping[str, str], timeout: float, hosts: Hosts
) -> Answer:
    """Send JSON once, within ``timeout`` seconds. Raises HostRefused for a host that
    may not be reached."""
    from backoffice.system import http_client  # imported on first use: few processes send

    begin = time.monotonic()
    status = 0
    given = {"content-type": "application/json", "user-agent": "Backoffice", **headers}
    try:
        status = http_client.post(url, content, given, timeout, hosts)
        message = _phrase(status)
    except http_client.Unreachable as error:
        message = str(error)
    return Answer(status, message, time.monotonic() - begin)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
