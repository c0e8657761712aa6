"""Tells a URL how the job stands: one signed POST an attempt.

The signature follows Standard Webhooks (https://www.standardwebhooks.com):
HMAC-SHA256 over ``ID.TIMESTAMP.BODY``, so that a receiver can refuse forgeries
and replays. The id stays the same over attempts: a receiver that has seen it
may ignore the repetition. Trying again is the engine's, by the task's attempts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx

from backoffice import publishers
from backoffice.errors import TaskFailed
from backoffice.tasks import Context, Delivery, Plan, Publication, Result

PARAMETERS: Mapping[str, str] = {"url": "an http or https URL that gets the message"}
REQUIRED: frozenset[str] = frozenset({"url"})

_LATER = (408, 425, 429)  # of 4xx, those that another try may mend
_ANSWER = 200  # characters of a refusal that are kept


class DeliveryFailed(TaskFailed):
    """Not delivered; ``deliveries`` has the try, for the history."""

    def __init__(self, message: str, delivery: Delivery, *, retry: bool) -> None:
        super().__init__(message, retry=retry)
        self.deliveries = (delivery,)


def plan(context: Context) -> Plan:
    return Plan(notes=(f"sends a signed message to {_url(context)}",))


def run(context: Context) -> Result:
    url = _url(context)
    identity = f"job-{context.job.id}-task-{context.id}"
    now = datetime.now(UTC)
    content = body(context, now)
    headers = {
        "content-type": "application/json",
        "user-agent": "Backoffice",
        **sign(content, identity, int(now.timestamp()), context.settings.notify.secret),
    }
    delivery = _deliver(url, content, headers, context.settings.notify.timeout)
    context.log(f"{url}: {delivery.status or 'no answer'} {delivery.message}".rstrip())
    if not 200 <= delivery.status < 300:
        raise _failure(delivery)
    return Result(deliveries=(delivery,))


def body(context: Context, now: datetime) -> bytes:
    """The message: what the task may know of its job, and what was published."""
    job = context.job
    message = {
        "type": "job.notify",
        "timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": {
            "id": job.id,
            "workflow": job.workflow,
            "title": job.title,
            "key": job.key,
            "submitter": job.submitter,
            "metadata": dict(job.metadata),
            "tasks": [dict(task) for task in job.tasks],
            "publications": [_publication(context, one) for one in context.publications],
        },
    }
    return json.dumps(message, ensure_ascii=False, default=str).encode()


def _publication(context: Context, publication: Publication) -> dict[str, object]:
    """With where it is found; of a package that is its folder."""
    target = context.settings.targets.get(publication.target)
    return {
        "id": publication.id,
        "target": publication.target,
        "path": publication.path,
        "href": publishers.open(target).href(publication.path) if target else "",
        "sha256": publication.sha256,
        "package": publication.tree,
    }


def sign(content: bytes, identity: str, timestamp: int, secret: str) -> dict[str, str]:
    """The headers of a message. Without a secret there is no signature.

    A secret ``whsec_…`` is base64, as the specification has it; any other is
    used as it stands.
    """
    headers = {"webhook-id": identity, "webhook-timestamp": str(timestamp)}
    if secret:
        signed = f"{identity}.{timestamp}.".encode() + content
        digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise TaskFailed(
            "[notify] secret begins with whsec_ but is not base64; correct it", retry=False
        ) from error


def _url(context: Context) -> str:
    url = context.parameters.get("url", "")
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        right = False
    if not right:
        raise TaskFailed(f"{url!r} is no http or https URL to notify", retry=False)
    return url


def _deliver(url: str, content: bytes, headers: Mapping[str, str], timeout: float) -> Delivery:
    """One try. Redirects are not followed: they could lead inside our network.

    Proxies and passwords of the environment are not used either.
    """
    begin = time.monotonic()
    status, message = 0, ""
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", url, content=content, headers=dict(headers)) as response,
        ):
            status = response.status_code
            message = _answer(response)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        message = str(error) or type(error).__name__
    return Delivery(url, status, message, time.monotonic() - begin)


def _answer(response: httpx.Response) -> str:
    """The reason, and the beginning of a refusal; never a whole unknown body."""
    if response.is_success:
        return response.reason_phrase
    first = next(response.iter_bytes(_ANSWER), b"").decode("utf-8", "replace")
    return " ".join(f"{response.reason_phrase} {first}".split())


def _failure(delivery: Delivery) -> DeliveryFailed:
    if not delivery.status:
        return DeliveryFailed(
            f"{delivery.url} could not be reached: {delivery.message}", delivery, retry=True
        )
    status = delivery.status
    if 300 <= status < 400:
        text = f"{delivery.url} redirects ({status}); give the URL it leads to"
        return DeliveryFailed(text, delivery, retry=False)
    retry = status >= 500 or status in _LATER
    text = f"{delivery.url} refused the message: {status} {delivery.message}".rstrip()
    return DeliveryFailed(text, delivery, retry=retry)
