"""Subtitles of a source: which are text, their names, which are left out.

Text becomes WebVTT; pictures of text (of DVDs, Blu-rays, broadcasts) cannot, and are
told. It looks at facts (see ``media.probe``) and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backoffice.media import languages, webvtt

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


# Of these the text is taken as it is: ffmpeg's own reading loses what looks like a tag.
_SUBRIP: Final = frozenset({"subrip", "srt", "text"})


def extraction(streams: Sequence[Facts], targets: Sequence[Path]) -> list[str]:
    """ffmpeg's arguments, after the input, that write each stream for :func:`convert`."""
    arguments = []
    for stream, target in zip(streams, targets, strict=True):
        raw = _raw(stream, target)
        how = ["-c:s", "copy", "-f", "srt"] if raw.suffix == ".srt" else ["-c:s", "ass"]
        arguments += ["-map", f"0:{stream['index']}", *how, "-map_metadata", "-1", str(raw)]
    return arguments


def convert(streams: Sequence[Facts], targets: Sequence[Path]) -> None:
    """Make WebVTT of what ``extraction`` wrote, which is removed."""
    for stream, target in zip(streams, targets, strict=True):
        raw = _raw(stream, target)
        read = webvtt.subrip if raw.suffix == ".srt" else webvtt.ass
        target.write_text(webvtt.write(read(_decoded(raw.read_bytes()))), encoding="utf-8")
        raw.unlink()


def _raw(stream: Facts, target: Path) -> Path:
    return target.with_suffix(".srt" if stream["codec"] in _SUBRIP else ".ass")


def _decoded(data: bytes) -> str:
    """Matroska asks for UTF-8; old SubRip files in it are not always."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def has_cues(path: Path) -> bool:
    return " --> " in path.read_text(encoding="utf-8", errors="replace")
