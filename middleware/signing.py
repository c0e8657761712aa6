"""Signed values: JSON with a signature and a date, for forms and cookies.

itsdangerous signs; this adds what CSRFProtection and ReadYourWrites share: the
check of the secret, the lifetime and a clock. This module is a library, not a
component.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from middleware import paste

MIN_SECRET = 16  # bytes
CLOCK_SKEW = 60  # seconds by which the clocks of several hosts may differ


class SignedValues:
    """``purpose`` keeps values of one use from being valid in another.

    A value is valid for ``lifetime`` seconds; ``clock`` returns seconds since
    1970. ValueError if ``secret`` is too short.
    """

    def __init__(
        self,
        secret: bytes,
        purpose: str,
        lifetime: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"secret: is shorter than {MIN_SECRET} bytes and easy to guess")
        self.lifetime = lifetime
        self.clock = clock
        self._serializer = URLSafeTimedSerializer(
            secret,
            salt=purpose,
            serializer_kwargs={"ensure_ascii": True},  # lone surrogates have no UTF-8
            signer=_Signer,
            signer_kwargs={"clock": clock},
        )

    def sign(self, value: object) -> str:
        """URL-safe text that holds ``value``; anyone can read it, only the secret makes it."""
        return str(self._serializer.dumps(value))

    def verified(self, text: str) -> Any:
        """The value in ``text``; None if it is forged, damaged or too old."""
        try:
            value, signed = self._serializer.loads(text, return_timestamp=True)
        except (BadData, UnicodeError):
            return None
        age = self.clock() - signed.timestamp()
        return value if -CLOCK_SKEW <= age <= self.lifetime else None


class _Signer(TimestampSigner):
    """HMAC-SHA256, dated by ``clock``; itsdangerous has SHA-1 and its own clock."""

    default_digest_method = staticmethod(hashlib.sha256)

    def __init__(self, *args: Any, clock: Callable[[], float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock())


def secret(text: str) -> bytes:
    """Converter for an ini file's secret."""
    return paste.text(text).encode()
