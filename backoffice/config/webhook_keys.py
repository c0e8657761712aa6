"""Addresses of webhooks, and the keys that sign their messages, as settings give them.

Keys are written as Standard Webhooks has them (https://www.standardwebhooks.com):
``whsec_`` and base64 of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

_BASE64 = "whsec_"  # begins each key, as the specification has it
_KEY_BYTES = range(24, 65)


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
