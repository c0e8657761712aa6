"""The event history as an Atom feed (RFC 4287)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from lxml import etree

from backoffice.documents.xml_text import clean, utc
from backoffice.reports.records import Record
from backoffice.web.context import RequestContext

ATOM = "http://www.w3.org/2005/Atom"
_BEGINNING = datetime(1970, 1, 1)  # of a feed with nothing in it


def feed(events: Sequence[Record], context: RequestContext) -> bytes:
    """The newest first, as readers expect."""
    root = etree.Element(f"{{{ATOM}}}feed", nsmap={None: ATOM})  # type: ignore[dict-item]
    _add(root, "id", f"tag:{_host(context)},2026:events")
    _add(root, "title", "Backoffice: what happened")
    _add(root, "updated", utc(events[-1]["at"] if events else _BEGINNING))
    for rel, path in (("self", "/events.atom"), ("alternate", "/events")):
        etree.SubElement(root, f"{{{ATOM}}}link", rel=rel, href=context.absolute(path))
    for event in reversed(events):
        root.append(_entry(event, context))
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _entry(event: Record, context: RequestContext) -> etree._Element:
    entry = etree.Element(f"{{{ATOM}}}entry")
    _add(entry, "id", f"tag:{_host(context)},2026:event:{event['id']}")
    _add(entry, "title", clean(f"{event['subject']}: {event['action']}"))
    _add(entry, "updated", utc(event["at"]))
    author = etree.SubElement(entry, f"{{{ATOM}}}author")
    _add(author, "name", clean(event["actor"]) or "unknown")
    subject = f"/jobs/{event['job']}" if event["job"] else "/events"
    etree.SubElement(entry, f"{{{ATOM}}}link", rel="alternate", href=context.absolute(subject))
    _add(entry, "summary", clean(event["detail"]) or event["action"])
    return entry


def _host(context: RequestContext) -> str:
    """The authority of the tags: ids must stay the same, whoever asks."""
    host: str = context.absolute("/").split("/")[2].split(":")[0]
    return host or "localhost"


def _add(parent: etree._Element, tag: str, text: str) -> None:
    etree.SubElement(parent, f"{{{ATOM}}}{tag}").text = text
