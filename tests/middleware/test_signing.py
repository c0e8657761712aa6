"""A signed value is valid for its purpose, its secret and its lifetime only."""

from __future__ import annotations

import pytest

from middleware.signing import CLOCK_SKEW, SignedValues

SECRET = b"a secret that is long enough"
NOW = 1_800_000_000.0


def at(seconds: float, secret: bytes = SECRET, purpose: str = "form") -> SignedValues:
    """Values at a time after NOW, in seconds, that live for 100 seconds."""
    return SignedValues(secret, purpose, 100, clock=lambda: NOW + seconds)


@pytest.mark.parametrize("value", ["", "a", "é\ud800", ["a", 1], {"a": None}])
def test_a_value_comes_back_from_url_safe_text(value: object) -> None:
    text = at(0).sign(value)
    assert at(0).verified(text) == value
    assert text.isascii()
    assert not set(text) & set(' ",;%&=+/')


@pytest.mark.parametrize(
    ("seconds", "value"),
    [(100, "a"), (101, None), (-CLOCK_SKEW, "a"), (-CLOCK_SKEW - 1, None)],
)
def test_a_value_expires_and_other_hosts_clocks_may_be_late(
    seconds: float, value: str | None
) -> None:
    assert at(seconds).verified(at(0).sign("a")) == value


def test_another_secret_or_purpose_does_not_verify_it() -> None:
    text = at(0).sign("a")
    assert at(0, secret=SECRET + b"!").verified(text) is None
    assert at(0, purpose="cookie").verified(text) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="secret: is shorter than 16 bytes"):
        at(0, secret=b"fifteen bytes..")
