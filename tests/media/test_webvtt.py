"""WebVTT that shows what SubRip and ASS say."""

from __future__ import annotations

import pytest

from backoffice.media import subtitles, webvtt
from tests import playlists


def shown(text: str) -> str:
    """One cue of SubRip, as WebVTT."""
    (cue,) = webvtt.subrip(f"1\n00:00:01,000 --> 00:00:02,500\n{text}\n\n")
    (checked,) = playlists.webvtt(webvtt.write([cue]), mapped=False)
    return checked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("AT&T <3", "AT&amp;T &lt;3"),
        ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
        ("1 --> 2", "1 --&gt; 2"),
        ("<Anna> hello", "&lt;Anna&gt; hello"),
        ("&amp; &lt;i&gt;", "&amp; &lt;i&gt;"),
        ("&eacute; &unknown;", "&amp;eacute; &amp;unknown;"),
        ("<i>one <b>both</i> two</b>", "<i>one </i><b><i>both</i></b><b> two</b>"),
        ("<I>never closed", "<i>never closed</i>"),
        ('<font color="#fff">white</font> <s>s</s>', "white s"),
        ("first<br/>second", "first\nsecond"),
        ("first\n\nsecond\n\n3", "first\nsecond\n3"),
        ("{\\i1}slanted{\\i0} {note}", "<i>slanted</i> {note}"),
        (r"C:\New \ 5", r"C:\New \ 5"),
    ],
)
def test_a_cue_shows_the_text_that_was_there(text: str, wanted: str) -> None:
    assert shown(text) == wanted


def test_subrip_at_the_top_stays_there() -> None:
    written = webvtt.write(webvtt.subrip("1\n00:00:01,000 --> 01:02:03,004\n{\\an8}Top\n"))
    assert written == "WEBVTT\n\n00:00:01.000 --> 01:02:03.004 line:0\nTop\n"


def test_what_shows_nothing_is_left_out_and_the_rest_is_in_order() -> None:
    text = (
        "1\n00:00:05,000 --> 00:00:06,000\nlater\n\n2\n00:00:01,000 --> 00:00:02,000\n&nbsp;\n\n"
        "3\n00:00:03,000 --> 00:00:04,000\nearlier\n\n"
    )
    cues = playlists.webvtt(webvtt.write(webvtt.subrip(text)), mapped=False)
    assert cues == ["earlier", "later"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"{\i1}one{\i0} & two", "<i>one</i> &amp; two"),
        (r"one\Ntwo\hthree", "one\ntwo\u00a0three"),
        (r"one\N\Ntwo", "one\ntwo"),
        (r"{\b700\c&HFF&}bold{\r} plain", "<b>bold</b> plain"),
        (r"{\p1}m 0 0 l 100 0{\p0}seen", "seen"),
        (r"a, b, c < d", "a, b, c &lt; d"),
        (r"\{braces\}", "{braces}"),
    ],
)
def test_ass_shows_its_text(text: str, wanted: str) -> None:
    line = f"Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{text}\n"
    written = webvtt.write(webvtt.ass(f"[Events]\n{line}"))
    assert "00:00:01.000 --> 00:00:02.500\n" in written
    assert playlists.webvtt(written, mapped=False) == [wanted]


def test_text_that_is_no_utf_8_is_kept() -> None:
    assert subtitles._decoded("café\r\n".encode("cp1252")) == "café\n"
