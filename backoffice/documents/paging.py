"""Paging: the opaque cursor at which the next page of a list begins."""

from __future__ import annotations

import base64

LARGEST_ID = (1 << 63) - 1  # of a row


def cursor(text: str) -> int:
    """The id after which a page begins. Raises ValueError, whose message ends the sentence
    "… is not"."""
    try:
        plain = base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii")
        last = int(plain.removeprefix("id:"))
        if not 1 <= last <= LARGEST_ID:
            raise ValueError("no id")
        return last
    except ValueError:
        raise ValueError("a cursor; take it from the Link header of the page before") from None


def cursor_after(last: int) -> str:
    """The opaque ``after`` of the page that follows the record with this id."""
    return base64.urlsafe_b64encode(f"id:{last:014}".encode()).decode()
