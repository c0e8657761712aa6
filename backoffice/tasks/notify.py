"""Notify a URL of the job's state: one signed POST an attempt, see ``webhooks``.

The message's id stays the same over attempts. Trying again is the engine's, by
the task's attempts. The URL is a user's: ``[notify] hosts`` says where it may lead,
and neither its path nor anything a receiver answers is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from backoffice import publishers
from backoffice.config import webhook_keys
from backoffice.config.addresses import HostRefused
from backoffice.config.redaction import shown
from backoffice.config.settings import Settings
from backoffice.errors import Invalid, TaskFailed
from backoffice.states import Reason
from backoffice.system import webhooks
from backoffice.tasks import Context, Delivery, Plan, Publication, Result, Trait

PARAMETERS: Mapping[str, str] = {"url": "an http or https URL that gets the message"}
REQUIRED: frozenset[str] = frozenset({"url"})
TRAITS = frozenset({Trait.REPORT})

_LATER = (408, 425, 429)  # of 4xx, those that another try may mend


class DeliveryFailed(TaskFailed):
    """Not delivered; ``deliveries`` has the try, for the history."""

    def __init__(self, message: str, delivery: Delivery, *, retry: bool) -> None:
        super().__init__(message, retry=retry, reason=Reason.NOT_DELIVERED)
        self.deliveries = (delivery,)


def check(parameters: Mapping[str, str], settings: Settings) -> None:
    """Raise Invalid for a task that could not send anything, before its job begins."""
    url = parameters.get("url")
    if url is None:
        return  # was left out: the workflow skips the task then
    if not webhook_keys.is_url(url):
        raise Invalid(f"{shown(url)!r} is no http or https URL to notify")
    if not settings.notify.secret:
        raise Invalid("nothing can be notified: [notify] secret, which signs messages, is not set")


def plan(context: Context) -> Plan:
    return Plan(notes=(f"sends a signed message to {shown(_url(context))}",))


def run(context: Context) -> Result:
    url = _url(context)
    identity = f"job-{context.job.id}-task-{context.id}"
    now = datetime.now(UTC)
    content = body(context, now)
    notify = context.settings.notify
    headers = webhooks.sign(content, identity, int(now.timestamp()), notify.secret)
    try:
        answer = webhooks.post(url, content, headers, notify.timeout, notify.hosts)
    except HostRefused as error:
        raise TaskFailed(
            f"nothing was sent to {shown(url)}: {error}", retry=False, reason=Reason.NOT_DELIVERED
        ) from error
    delivery = Delivery(shown(url), answer.status, answer.message, answer.seconds)
    context.log(f"{delivery.url}: {delivery.status or 'no answer'} {delivery.message}".rstrip())
    if not answer.ok:
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


def _url(context: Context) -> str:
    """Checked again: the settings are this host's, and may be newer than the job."""
    url = context.parameters.get("url", "")
    try:
        check({"url": url}, context.settings)
    except Invalid as error:
        raise TaskFailed(str(error), retry=False, reason=Reason.BAD_PARAMETER) from error
    return url


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
