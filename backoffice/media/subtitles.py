"""Subtitles of a source: which are text, what each is called, what is left out.

Text becomes WebVTT; pictures of text (of DVDs, Blu-rays, broadcasts) cannot, and are
told. It looks at facts (see ``media.probe``) and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backoffice.media import languages

MEDIA_TYPE: Final = "text/vtt"

Facts = Mapping[str, Any]

# Codecs, by ffmpeg's names, that it can turn into WebVTT. Teletext is not among them:
# it is text on pages, of which one would have to be chosen.
_TEXT: Final = frozenset(
    """subrip srt ass ssa mov_text webvtt text microdvd mpl2 jacosub sami realtext
    subviewer subviewer1 vplayer stl pjs""".split()
)


def textual(facts: Facts) -> list[Facts]:
    """Those of the source that are text, in its order."""
    return [one for one in facts.get("subtitle", ()) if one["codec"] in _TEXT]


def name(facts: Facts, stream: Facts) -> str:
    """``subtitles 2 (hdmv_pgs_subtitle, eng)``, for people."""
    number = 1 + [one["index"] for one in facts["subtitle"]].index(stream["index"])
    known = [str(stream["codec"]), str(stream.get("title", ""))]
    if (language := stream.get("language", languages.UNKNOWN)) != languages.UNKNOWN:
        known.insert(1, str(language))
    return f"subtitles {number} ({', '.join(filter(None, known))})"


def left_out(facts: Facts, used: Sequence[Facts], reason: str) -> list[str]:
    """A sentence for each that is not used; ``reason`` is why text is not."""
    taken = {one["index"] for one in used}
    text = {one["index"] for one in textual(facts)}
    return [
        f"left out: {name(facts, one)}: {reason if one['index'] in text else 'it is no text'}"
        for one in facts.get("subtitle", ())
        if one["index"] not in taken
    ]


def extraction(streams: Sequence[Facts], targets: Sequence[Path]) -> list[str]:
    """ffmpeg's arguments, after the input, that write each stream as WebVTT."""
    arguments = []
    for stream, target in zip(streams, targets, strict=True):
        arguments += ["-map", f"0:{stream['index']}", "-c:s", "webvtt", "-map_metadata", "-1"]
        arguments += ["-f", "webvtt", str(target)]
    return arguments


def has_cues(path: Path) -> bool:
    return " --> " in path.read_text(encoding="utf-8", errors="replace")
