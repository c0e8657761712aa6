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

from backoffice.config.addresses import Hosts


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
    from backoffice.system import http_client  # not before: most of those who could send never do

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
