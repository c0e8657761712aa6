"""WebVTT from SubRip and ASS, with the text unchanged.

FFmpeg writes neither ``&amp;`` nor ``&lt;``, cuts a cue at an empty line, and takes
``a < b and c > d`` in SubRip for a tag. It gives the cues; their text is written here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_STYLES: Final = "biu"  # in the order in which their tags are opened


@dataclass(frozen=True)
class Cue:
    begin: float  # seconds
    end: float
    text: str  # in WebVTT's markup
    settings: str = ""


def write(cues: list[Cue]) -> str:
    """A file with the cues in order of time; those that show nothing are left out."""
    shown = [one for one in cues if one.begin < one.end and one.text.strip("\n\u00a0 ")]
    blocks = [_block(one) for one in sorted(shown, key=lambda one: (one.begin, one.end))]
    return "\n\n".join(["WEBVTT", *blocks]) + "\n"


def _block(cue: Cue) -> str:
    settings = f" {cue.settings}" if cue.settings else ""
    return f"{_clock(cue.begin)} --> {_clock(cue.end)}{settings}\n{cue.text}"


def _clock(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


# SubRip

_TIME = r"(\d+):(\d\d):(\d\d),(\d{3})"
_HEAD = re.compile(rf"^\d+\r?\n{_TIME} --> {_TIME}[^\n]*\n", re.MULTILINE)
# Whatever else is in angle brackets is text.
_TAG = re.compile(
    r"<(?P<off>/?)(?P<style>[biu])\s*>|</?(?:font\b[^<>]*|s)>|(?P<line><br\s*/?>)"
    r"|\{(?P<codes>\\[^}]*)\}",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp);")  # which tools write there, and players read


def subrip(text: str) -> list[Cue]:
    """The cues of a file as ffmpeg writes it. Text may hold empty lines."""
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return [
        _cue(_hours(*head.groups()[:4]), _hours(*head.groups()[4:]), body, _TAG, _plain_subrip)
        for head, end in zip(heads, ends, strict=True)
        for body in [text[head.end() : end]]
    ]


def _hours(hours: str, minutes: str, seconds: str, thousandths: str) -> float:
    return (int(hours) * 60 + int(minutes)) * 60 + int(seconds) + int(thousandths) / 1000


def _plain_subrip(text: str) -> str:
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text)


# ASS

_DIALOGUE = re.compile(r"^Dialogue: (?:[^,]*,)(.*?),(.*?),(?:[^,]*,){6}(.*)$", re.MULTILINE)
_CODES = re.compile(r"\{(?P<codes>\\[^}]*)\}")


def ass(text: str) -> list[Cue]:
    """The cues of a file as ffmpeg writes it."""
    return [
        _cue(_ass_seconds(begin), _ass_seconds(end), body, _CODES, _plain_ass)
        for begin, end, body in _DIALOGUE.findall(text)
    ]


def _ass_seconds(clock: str) -> float:
    hours, minutes, seconds = clock.strip().split(":")
    return (int(hours) * 60 + int(minutes)) * 60 + float(seconds)


def _plain_ass(text: str) -> str:
    text = re.sub(r"\\[Nn]", "\n", text).replace(r"\h", "\u00a0")
    return re.sub(r"\\([{}\\])", r"\1", text)


# Both


@dataclass
class _State:
    """What holds for the text that follows."""

    styles: frozenset[str] = frozenset()
    settings: str = ""
    drawing: bool = False  # the text is a shape, in ASS

    def obey(self, match: re.Match[str]) -> str:
        """What the mark itself shows."""
        known = match.groupdict()
        if style := known.get("style"):
            change = {style.lower()}
            self.styles = self.styles - change if known["off"] else self.styles | change
        for code in (known.get("codes") or "").split("\\")[1:]:
            self._obey(code.strip())
        return "\n" if known.get("line") else ""

    def _obey(self, code: str) -> None:
        if match := re.fullmatch(r"([biu])(\d*)", code):
            on = match[2] not in ("", "0")
            self.styles = self.styles | {match[1]} if on else self.styles - {match[1]}
        elif match := re.fullmatch(r"an([1-9])", code):
            self.settings = _LINES.get((int(match[1]) - 1) // 3, "")
        elif match := re.fullmatch(r"p(\d+)", code):
            self.drawing = match[1] != "0"
        elif re.fullmatch(r"r\S*", code):
            self.styles = frozenset()


_LINES: Final = {1: "line:50%", 2: "line:0"}  # by thirds of the picture, from below


def _cue(
    begin: float, end: float, body: str, mark: re.Pattern[str], plain: Callable[[str], str]
) -> Cue:
    state = _State()
    text = "".join(_runs(body.strip(), mark, plain, state))
    # An empty line would end the cue.
    return Cue(begin, end, re.sub(r"\s*\n\s*", "\n", text).strip(), state.settings)


def _runs(
    body: str, mark: re.Pattern[str], plain: Callable[[str], str], state: _State
) -> Iterator[str]:
    """Stretches of one style, each with tags of its own, so that these nest."""
    position = 0
    for match in mark.finditer(body):
        yield _styled(plain(body[position : match.start()]), state)
        yield state.obey(match)
        position = match.end()
    yield _styled(plain(body[position:]), state)


def _styled(text: str, state: _State) -> str:
    if state.drawing or not text:
        return ""
    escaped = html.escape(text, quote=False)
    if not text.strip():
        return escaped
    styles = [style for style in _STYLES if style in state.styles]
    opened = "".join(f"<{style}>" for style in styles)
    return opened + escaped + "".join(f"</{style}>" for style in reversed(styles))
