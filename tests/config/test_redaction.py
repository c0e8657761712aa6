"""What of a text may be shown, and that finding out takes time linear in it."""

from __future__ import annotations

import time

import pytest

from backoffice.config import redaction
from backoffice.config.redaction import Redaction, shown, shown_xml

SHOWN = [
    ("", ""),
    ("no URL: a/b?c=d#e", "no URL: a/b?c=d#e"),
    ("https://example.org", "https://example.org"),
    ("https://example.org:8443/", "https://example.org:8443/"),
    ("https://example.org/hooks/T0/B0/hush", "https://example.org/…"),
    ("HTTPS://example.org/hush", "HTTPS://example.org/…"),
    ("http://example.org?token=hush", "http://example.org/…"),
    ("http://example.org#hush", "http://example.org/…"),
    ("http://hush@example.org", "http://example.org/…"),
    ("http://user:hush@example.org/", "http://example.org/…"),
    ("http://user:hu@sh@example.org/", "http://example.org/…"),
    ("http://user:hu/sh@example.org/", "http://…"),
    ("http://example.org\\@hush/", "http://hush/…"),
    ("http://[2001:db8::1]:81/hush", "http://[2001:db8::1]:81/…"),
    ("see http://a.org/hush, http://b.org/hush", "see http://a.org/… http://b.org/…"),
    ("sftp://bo:hush@example.org/in/a.mp4", "sftp://bo:***@example.org/in/a.mp4"),
    ("s3://bucket/a.mp4?X-Amz-Signature=hush", "s3://bucket/a.mp4?…"),
    ("file:///srv/media/a b.mp4", "file:///srv/media/a b.mp4"),
    ('http://example.org/a"hush', "http://example.org/…"),
]


@pytest.mark.parametrize(("text", "expected"), SHOWN)
def test_a_url_is_shown_up_to_its_host(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(expected) == expected


def test_in_xml_a_url_ends_where_its_text_does() -> None:
    text = '<parameter default="https://a.org/hush">https://b.org/hush</parameter>'
    assert shown_xml(text) == '<parameter default="https://a.org/…">https://b.org/…</parameter>'


def test_a_value_is_shortened_wherever_it_stands() -> None:
    redact = Redaction(["https://a.org/hush", "https://a.org/hush/too", "plain"])
    assert redact("curl: https://a.org/hush/too and --to=https://a.org/hush, plain") == (
        "curl: https://a.org/… and --to=https://a.org/…, plain"
    )


@pytest.mark.parametrize("function", [shown, shown_xml, redaction.masked])
@pytest.mark.parametrize(
    "unit", ["http://", "a", "://", "://a:", "http://a@", "https://a/", "@", "?", "://[", "h"]
)
def test_64_kilobytes_of_anything_take_no_time(function: object, unit: str) -> None:
    assert callable(function)
    text = unit * (65536 // len(unit))
    begin = time.thread_time()
    function(text)
    assert time.thread_time() - begin < 0.5
