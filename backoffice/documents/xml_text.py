"""Text as XML can hold it, names of elements, and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast

from lxml import etree

from backoffice.documents.safe_xml import NAMESPACE

_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def odd(text: str) -> str:
    """The first character that XML, and so no document, can hold; or nothing."""
    found = _IMPOSSIBLE.search(text)
    return found[0] if found else ""


def clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _IMPOSSIBLE.sub("\ufffd", text)


def utc(value: datetime) -> str:
    """ISO 8601 with a Z; without a zone it is UTC already."""
    moment = value.astimezone(UTC) if value.tzinfo else value
    precision = "milliseconds" if moment.microsecond else "seconds"
    return f"{moment.replace(tzinfo=None).isoformat(timespec=precision)}Z"


def element_name(tag: str) -> str:
    return f"{{{NAMESPACE}}}{tag}"


def root_element(tag: str) -> etree._Element:
    # lxml takes None for the namespace without prefix; its stubs do not.
    return etree.Element(element_name(tag), nsmap=cast(Any, {None: NAMESPACE}))
