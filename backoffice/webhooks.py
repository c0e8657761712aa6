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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_LONGEST = 200  # characters of a refusal that are kept
_BASE64 = "whsec_"  # begins a secret that is base64, as the specification has it


@dataclass(frozen=True)
class Answer:
    """``status`` is 0 when there was none; ``message`` then says why."""

    status: int
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def key(secret: str) -> bytes:
    """What is signed with; raises ValueError for ``whsec_`` before other than base64."""
    if not secret.startswith(_BASE64):
        return secret.encode()
    return base64.b64decode(secret.removeprefix(_BASE64), validate=True)


def sign(content: bytes, identity: str, timestamp: int, secret: str) -> dict[str, str]:
    """The headers of a message. Without a secret there is no signature."""
    headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp)}
    if secret:
        signed = f"{identity}.{timestamp}.".encode() + content
        digest = hmac.new(key(secret), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def post(url: str, content: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
    """Send JSON once. Redirects are not followed: they could lead inside our network.

    Proxies and passwords of the environment are not used either.
    """
    import httpx  # not before: most of those who could send never do

    begin = time.monotonic()
    status, message = 0, ""
    given = {"content-type": "application/json", "user-agent": "Backoffice", **headers}
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=content, headers=given) as response,
        ):
            status = response.status_code
            message = _message(response)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        message = str(error) or type(error).__name__
    return Answer(status, message, time.monotonic() - begin)


def _message(response: httpx.Response) -> str:
    """The reason, and the beginning of a refusal; never a whole unknown body."""
    if response.is_success:
        return response.reason_phrase
    first = next(response.iter_bytes(_LONGEST), b"").decode("utf-8", "replace")
    return " ".join(f"{response.reason_phrase} {first}".split())
