"""Silent sounds of a source, where no tag says which sound to take.

Recorders write tracks that nothing was connected to. Owns the command that listens to
them, and the reading of its answer; starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from backoffice.media import languages
from backoffice.media.soundtracks import Soundtrack

_SILENCE: Final = -60.0  # dBFS; a peak below it is noise of an open line
_PEAK = re.compile(r"\[Parsed_volumedetect_(\d+) @ \w+\] \[info\] max_volume: (\S+) dB")


def unsure(tracks: Sequence[Soundtrack]) -> list[Soundtrack]:
    """Those of unknown language, if there is another of the same role as the best."""
    same = [one for one in tracks if one.role == tracks[0].role]
    return [one for one in same if not languages.tag(one.language)] if len(same) > 1 else []


def arguments(tracks: Sequence[Soundtrack]) -> list[str]:
    """ffmpeg's, after the input; the answer is on stderr at level info."""
    inputs = [stream["index"] for track in tracks for stream in track.streams]
    graph = ";".join(f"[0:{index}]volumedetect[s{n}]" for n, index in enumerate(inputs))
    maps = [word for n in range(len(inputs)) for word in ("-map", f"[s{n}]")]
    return ["-filter_complex", graph, *maps, "-f", "null", "-"]


def silent(tracks: Sequence[Soundtrack], stderr: str, *, only: bool) -> set[int]:
    """The indexes of the streams of silent sounds. Where there are no others (``only``)
    and all are silent, the first one stays: silence was recorded then."""
    peaks = {int(number): float(peak) for number, peak in _PEAK.findall(stderr)}
    order = [stream["index"] for track in tracks for stream in track.streams]
    quiet = {index for n, index in enumerate(order) if peaks.get(n, -99.0) < _SILENCE}
    gone = [one for one in tracks if all(stream["index"] in quiet for stream in one.streams)]
    if only and len(gone) == len(tracks):
        gone = gone[1:]
    return {stream["index"] for track in gone for stream in track.streams}
