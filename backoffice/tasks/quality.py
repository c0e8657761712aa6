"""Decode a whole file and check it: length, damage, black, frozen, silent, loudness."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backoffice.errors import TaskFailed
from backoffice.media import (
    amr,
    decoding,
    ffmpeg,
    profiles,
    shortfall,
    soundtracks,
    timeline,
    transport,
    truncation,
)
from backoffice.media.profiles import Facts
from backoffice.media.shortfall import Shortfall
from backoffice.states import Reason
from backoffice.tasks import REFUSE, TOLERATE, Context, Plan, Result, facts_of, only_source

PARAMETERS: Mapping[str, str] = {
    "decode": "true (the default) or false: decode all of it, to find that it is whole",
    "damage": "refuse (the default), tolerate, or how many broken pictures or packets it may have;"
    " those of its first second pass",
    "min-duration": "seconds it must last at least",
    "max-duration": "seconds it may last at most",
    "black": "seconds that one stretch of black may last",
    "freeze": "seconds that one still picture may last",
    "silence": "seconds that one silence may last",
    "loudness-min": "LUFS that its integrated loudness must reach",
    "loudness-max": "LUFS that its integrated loudness may reach",
    "mode": "fail (the default) or warn, for all checks or as in 'black=warn,silence=fail'",
}
REQUIRED: frozenset[str] = frozenset()

_MODES = ("fail", "warn")
_CHECKS = ("decode", "duration", "black", "freeze", "silence", "loudness")
_LOUDNESS = ("loudness-min", "loudness-max")
_PICTURE_CHECKS = ("black", "freeze")

# check → filter with the shortest stretch it reports, and its two marks
_DETECTORS: Mapping[str, tuple[str, str, str]] = {
    "black": ("blackdetect=d={0:g}:pix_th=0.1", "lavfi.black_start", "lavfi.black_end"),
    "freeze": (
        "freezedetect=n=-60dB:d={0:g}",
        "lavfi.freezedetect.freeze_start",
        "lavfi.freezedetect.freeze_end",
    ),
    "silence": ("silencedetect=n=-60dB:d={0:g}", "lavfi.silence_start", "lavfi.silence_end"),
}

# A recording may begin amid a group of pictures and with a signal still unsteady:
# broadcasts give a picture to begin with each half to whole second. What breaks
# later was whole where it came from, and every viewer will see it; the default
# is therefore none at all. Nothing of the kind was said of whole clips of any
# container, nor of ones that began amid a group.
_JOINING = 1.0  # seconds
# Containers whose demuxers know which packets are broken → ticks of their clock a second.
_CLOCKS: Mapping[str, int] = {"mpegts": 90_000, "mpeg": 90_000, "flv": 1_000}
_CLOCK_RANGE = 1 << 33  # ticks of MPEG's; then it begins anew
_EARLY = 60.0  # seconds; what is decoded first may be shown after what starts the file

# Said by the null muxer of sources whose clocks are merely untidy.
_HARMLESS = ("non monotonically increasing dts", "Timestamps are unset")


@dataclass
class _Work:
    """The wishes, the source, and what was found wrong so far."""

    path: Path
    title: str
    file_id: int
    facts: Facts
    decode: bool
    limits: Mapping[str, float]
    modes: Mapping[str, str]
    report: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # whole sentences
    changed: bool = False  # the facts, by what was found
    extra: Sequence[str] = ()  # ffmpeg's arguments for more inputs

    @property
    def detectors(self) -> list[str]:
        return [check for check in _DETECTORS if check in self.limits and self.has_stream(check)]

    @property
    def loudness(self) -> bool:
        return bool(self.facts["audio"]) and any(name in self.limits for name in _LOUDNESS)

    @property
    def decodes(self) -> bool:
        return self.decode or self.loudness or bool(self.detectors)

    def has_stream(self, check: str) -> bool:
        return bool(self.facts["video" if check in _PICTURE_CHECKS else "audio"])

    def find(self, check: str, message: str) -> None:
        """Something exceeds a limit; whether it fails is up to the mode."""
        found = self.warnings if self.modes[check] == "warn" else self.faults
        found.append(message)


def plan(context: Context) -> Plan:
    work, copies = _unpacked(context, _prepare(context))
    return Plan(
        commands=[*copies.commands, _command(context, work)] if work.decodes else [],
        notes=[f"checks {', '.join(sorted(work.limits) or ['that it is whole'])}"],
    )


def run(context: Context) -> Result:
    work = _prepare(context)
    _check_duration(work)
    work, copies = _unpacked(context, work)
    if work.decodes:
        for command in copies.commands:
            context.execute(command, share=0.0)
        stderr = context.execute(
            _command(context, work), duration=work.facts["duration"] or None, share=0.99
        )
        decoded = _decoded_seconds(stderr)
        work.report["decoded"] = decoded
        copies.remove()
        if work.decode:
            _measure_joined(work, decoded, stderr)
            _check_whole(work, decoded, stderr)
            _check_sounds(context, work, stderr)
        for check in work.detectors:
            _check_stretches(context, work, check, decoded)
        if work.loudness:
            _check_loudness(work, stderr)
    _mention_unchecked(work)
    if work.faults:
        for warning in work.warnings:
            context.log(warning)
        raise TaskFailed(
            f"{work.title} {'; and '.join(work.faults)}", retry=False, reason=Reason.QUALITY
        )
    context.progress(1.0)
    return Result(
        facts={work.file_id: _without_inputs(work.facts)} if work.changed else {},
        report=work.report,
        warnings=[*(f"{work.title} {w}" for w in work.warnings), *work.told],
    )


# Parameters


def _prepare(context: Context) -> _Work:
    source = only_source(context)
    facts = facts_of(context, source)
    given = {name: text.strip() for name, text in context.parameters.items() if text.strip()}
    modes = _modes(given.get("mode", "fail"))
    if given.get("damage") in (REFUSE, TOLERATE):
        modes |= {"decode": "warn"} if given.pop("damage") == TOLERATE else {}
    numbers = (name for name in PARAMETERS if name not in ("decode", "mode"))
    return _Work(
        path=source.path,
        title=source.title,
        file_id=source.file_id,
        facts=facts,
        decode=_truth(given.get("decode", "true")),
        limits={name: _limit(name, given[name]) for name in numbers if name in given},
        modes=modes,
    )


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise TaskFailed(
            f"decode is {text!r}; it may be true or false", retry=False, reason=Reason.BAD_PARAMETER
        )
    return text == "true"


def _limit(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (value < 0 and name not in _LOUDNESS):
        raise TaskFailed(
            f"{name} is {text!r}; it must be {_unit(name)}",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return value


def _unit(name: str) -> str:
    if name in _LOUDNESS:
        return "a loudness in LUFS"
    return "refuse, tolerate or a number" if name == "damage" else "a number of seconds"


def _modes(text: str) -> dict[str, str]:
    if text in _MODES:
        return dict.fromkeys(_CHECKS, text)
    modes = dict.fromkeys(_CHECKS, "fail")
    for part in text.split(","):
        check, _, mode = (word.strip() for word in part.partition("="))
        if check not in _CHECKS or mode not in _MODES:
            raise TaskFailed(
                f"mode is {text!r}; it may be fail, warn or a list such as black=warn,silence=fail"
                f" with the checks {', '.join(_CHECKS)}",
                retry=False,
                reason=Reason.BAD_PARAMETER,
            )
        modes[check] = mode
    return modes


# The one pass


def _command(context: Context, work: _Work) -> list[str]:
    argv = [
        *ffmpeg.command(context.settings, level=decoding.LEVEL),
        *_sparing(work),
        *ffmpeg.input_arguments(work.path, context.settings),
        *work.extra,
        *timeline.arguments(work.facts),
    ]
    picture = profiles.first_picture(work.facts)
    if picture:
        argv += ["-map", f"0:{picture['index']}"]
        argv += _filters("-vf", _chain(context, work, _PICTURE_CHECKS))
    argv += _sounds(context, work)
    return [*argv, "-fps_mode", "passthrough", "-f", "null", "-"]


def _sparing(work: _Work) -> list[str]:
    """All is read and decoded; only the smoothing between blocks, in which nothing can be
    found to be broken, is spared unless a check looks at the pictures."""
    looks = any(check in _PICTURE_CHECKS for check in work.detectors)
    return ["-skip_loop_filter:v", "all"] if work.facts["video"] and not looks else []


def _sounds(context: Context, work: _Work) -> list[str]:
    """All, so that their samples are counted; the main one as it would be heard."""
    if not work.facts["audio"]:
        return []
    main = soundtracks.candidates(work.facts)[0]
    # Its running values would push all else out of the log: below all levels.
    meter = ["ebur128=peak=true:framelog=56"] if work.loudness else []
    chain = _chain(context, work, ("silence",)) + meter
    measured = main.streams if chain else ()
    argv = profiles.sound_arguments(_HEARD, main, 0, ",".join(chain)) if chain else []
    for stream in work.facts["audio"]:
        if stream not in measured:
            argv += ["-map", profiles.input_of(stream)]
    return argv


_HEARD = profiles.Audio("aac")


def _unpacked(context: Context, work: _Work) -> tuple[_Work, amr.Unpacked]:
    used = [stream["index"] for stream in work.facts["audio"]]
    copies = amr.unpacked(work.path, work.facts, used, context.folder, context.settings)
    return replace(work, facts=copies.facts, extra=copies.inputs), copies


def _without_inputs(facts: Facts) -> dict[str, Any]:
    audio = [{k: v for k, v in one.items() if k != "input"} for one in facts["audio"]]
    return {**facts, "audio": audio}


def _check_sounds(context: Context, work: _Work, stderr: str) -> None:
    """Each by the samples that were decoded of it. One of which there are none is set
    apart, so that the tasks after this one do without."""
    for stream in work.facts["audio"]:
        length = profiles.span(stream, work.facts).length
        found = shortfall.of(
            stream,
            length,
            stderr,
            source=work.path,
            facts=work.facts,
            settings=context.settings,
        )
        if found:
            _find_shortfall(work, stream, found)


def _find_shortfall(work: _Work, stream: Facts, found: Shortfall) -> None:
    match found.verdict:
        case decoding.NOTHING:
            name, reason = soundtracks.number(work.facts, stream), "nothing of it can be decoded"
            work.told.append(f"left out: sound {name}: {reason}")
            work.facts = soundtracks.without(work.facts, {stream["index"]}, reason)
            work.changed = True
        case decoding.HOLES:
            work.find("decode", f"is damaged: only {found.message}")
        case decoding.GAPS:
            work.told.append(f"{found.message}; the rest is silence")


def _filters(option: str, chain: list[str]) -> list[str]:
    return [option, ",".join(chain)] if chain else []


def _chain(context: Context, work: _Work, checks: tuple[str, ...]) -> list[str]:
    """Marks go into files: of a long programme there may be more than a log keeps."""
    chain = []
    for check in checks:
        if check not in work.detectors:
            continue
        detector, *keys = _DETECTORS[check]
        kind = "metadata" if check in _PICTURE_CHECKS else "ametadata"
        chain.append(detector.format(_shortest(work.limits[check])))
        for key in keys:
            path = ffmpeg.filter_value(str(_marks(context, key)))
            chain.append(f"{kind}=mode=print:key={key}:file={path}")
    return chain


def _shortest(limit: float) -> float:
    """What is reported is shorter than the limit, so that the longest is known."""
    return max(0.1, min(1.0, limit))


def _marks(context: Context, key: str) -> Path:
    return context.folder / f"{key.rpartition('.')[2]}.txt"


# What was found


def _check_duration(work: _Work) -> None:
    seconds = work.facts["duration"]
    work.report["duration"] = seconds
    low, high = work.limits.get("min-duration"), work.limits.get("max-duration")
    if low is not None and seconds < low:
        work.find("duration", f"lasts {seconds:.1f} s; it must last {low:g} s at least")
    if high is not None and seconds > high:
        work.find("duration", f"lasts {seconds:.1f} s; it may last {high:g} s at most")


def _decoded_seconds(stderr: str) -> float:
    times = re.findall(r"\btime=(\d+):(\d+):(\d+\.\d+)", stderr)
    if not times:
        return 0.0
    hours, minutes, seconds = times[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _check_whole(work: _Work, decoded: float, stderr: str) -> None:
    """Compare what could be decoded with what the container declares."""
    declared = max(0.0, work.facts["duration"] - max(0.0, work.facts.get("start", 0.0)))
    errors = list(_errors(stderr))
    if errors:
        work.warnings.append(f"has {len(errors)} decoding errors, such as: {errors[0]}")
    lack = truncation.missing(work.path) or _said_to_end_early(stderr)
    if lack:
        work.find("decode", f"is truncated: {lack}; copy it again")
    elif decoded < declared - ffmpeg.tolerance(declared):
        message = f"is truncated: {declared:.1f} s declared, {decoded:.1f} s decodable"
        if _declares(work.facts):
            work.find("decode", f"{message}; copy it again")
        else:
            work.warnings.append(f"is shorter than estimated: {decoded:.1f} s of {declared:.1f} s")
    elif (shown := _shown_seconds(work, stderr)) is not None:
        work.find("decode", f"is damaged: only {shown:.1f} s of its picture can be decoded")
    else:
        _check_damage(work, stderr)


def _measure_joined(work: _Work, decoded: float, stderr: str) -> None:
    """Take the lengths that were decoded where time stamps begin anew amid the file, and
    its length is thus that of a part. They must agree with each other."""
    facts, counts = work.facts, decoding.counts(stderr)
    if facts["format"] not in _CLOCKS or decoded <= facts["duration"] + ffmpeg.tolerance(decoded):
        return
    streams = [
        {**one, "duration": _counted(one, counts)} for one in (*facts["video"][:1], *facts["audio"])
    ]
    if any(abs(one["duration"] - decoded) > ffmpeg.tolerance(decoded) for one in streams):
        return
    pictures = len(facts["video"][:1])
    video, audio = [*streams[:pictures], *facts["video"][1:]], streams[pictures:]
    work.told.append(
        f"{work.title} consists of recordings with time stamps of their own: it lasts"
        f" {decoded:.1f} s, not {facts['duration']:.1f} s"
    )
    found = {"duration": decoded, "video": video, "audio": audio, "joined": True}
    work.facts = {**facts, **found}
    work.changed = True


def _counted(stream: Facts, counts: Mapping[str, decoding.Decoded]) -> float:
    """Seconds of a stream, by what was decoded of it."""
    found = counts.get(profiles.input_of(stream), decoding.Decoded(0, 0, 0))
    rate = stream.get("sample_rate")
    return float(found.samples / rate if rate else found.frames / stream["frame_rate"])


def _said_to_end_early(stderr: str) -> str:
    """Matroska's demuxer notices by itself."""
    return "it ends within a block" if "File ended prematurely" in stderr else ""


def _check_damage(work: _Work, stderr: str) -> None:
    """Packets that the demuxer knows to be broken say when they come; pictures
    that the decoder knows to be broken do not, and are counted only without."""
    packets = _broken_packets(stderr, work.facts)
    if packets and str(work.facts["format"]) == "mpegts" and transport.only_joined(work.path):
        packets = []
    late = [at for at in packets if at > _JOINING]
    pictures = 0 if packets else _broken_pictures(stderr)
    work.report["damage"] = len(late) or pictures
    if work.report["damage"] > work.limits.get("damage", 0):
        work.find("decode", f"is damaged: {_told(late, work.facts, pictures)}; copy it again")
    elif packets or pictures:
        work.warnings.append(f"is damaged: {_told(packets, work.facts, pictures)}")


def _broken_packets(stderr: str, facts: Facts) -> list[float]:
    """When they come, in seconds after the start of the file. Those near its
    end may be told twice: it is read first to learn the length."""
    clock = _CLOCKS.get(str(facts["format"]))
    if clock is None:
        return []
    found = set(re.findall(r"Packet corrupt \(stream = (\d+), dts = (\d+)\)", stderr))
    first = round((facts.get("start", 0.0) - _EARLY) * clock)
    return sorted((int(dts) - first) % _CLOCK_RANGE / clock - _EARLY for _, dts in found)


def _broken_pictures(stderr: str) -> int:
    """Slices of one picture may each be told; one that only lacks its end is
    not always told as a picture. A large hole takes whole pictures away."""
    marks = ("corrupt decoded frame", "max resync size reached")
    told = sum(times for line, times in _repeated(stderr) if any(mark in line for mark in marks))
    return told or int("error while decoding MB" in stderr)


def _repeated(stderr: str) -> Iterator[tuple[str, int]]:
    """Each line with how often it came: ffmpeg writes the same only once."""
    last = ""
    for line in stderr.splitlines():
        again = re.fullmatch(r"\s*Last message repeated (\d+) times", line)
        if again is None:
            last = line
        yield last, int(again[1]) if again else 1


def _told(packets: list[float], facts: Facts, pictures: int) -> str:
    if not packets:
        return f"pictures that cannot be decoded whole: {pictures}"
    message = f"broken packets: {len(packets)}, the first at {packets[0]:.1f} s"
    last = packets[-1] > facts["duration"] - _JOINING
    return f"{message}, the last at its very end" if last else message


def _errors(stderr: str) -> Iterator[str]:
    for line in stderr.splitlines():
        mark = re.match(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )*\[(?:error|fatal)\] (.*)", line)
        if mark and not any(words in line for words in _HARMLESS):
            yield mark[1][:200]


def _declares(facts: Facts) -> bool:
    return bool(ffmpeg.DECLARES_DURATION & set(str(facts["format"]).split(",")))


def _shown_seconds(work: _Work, stderr: str) -> float | None:
    """Seconds of picture, by counting frames, when far too few; else None.

    Only where the container counts its frames, for elsewhere the rate is a guess;
    and never more than its length holds, since an edit may hide some.
    """
    picture = profiles.first_picture(work.facts)
    counts = re.findall(r"\bframe=\s*(\d+)", stderr)
    if not picture or not picture["frames"] or not picture["frame_rate"] or not counts:
        return None
    frames, rate = _there(work, picture, stderr), float(picture["frame_rate"])
    shown = int(counts[-1]) / rate
    wanted = min(float(picture.get("duration", 0.0)), frames / rate)
    return shown if shown < 0.9 * wanted - 1.0 else None


def _there(work: _Work, picture: Facts, stderr: str) -> int:
    """The frames of a picture. AVI counts those too that were dropped when it was
    recorded: they have a place, and no content."""
    read = decoding.counts(stderr).get(profiles.input_of(picture))
    declared = int(picture["frames"])
    return min(declared, read.packets) if read and work.facts["format"] == "avi" else declared


def _check_stretches(context: Context, work: _Work, check: str, decoded: float) -> None:
    _, start, end = _DETECTORS[check]
    starts, ends = _times(_marks(context, start), start), _times(_marks(context, end), end)
    for key in (start, end):
        _marks(context, key).unlink(missing_ok=True)
    ends += [decoded] * (len(starts) - len(ends))  # it lasted until the end
    stretches = [(until - since, since) for since, until in zip(starts, ends, strict=False)]
    longest, since = max(stretches, default=(0.0, 0.0))
    work.report[check] = {"longest": round(longest, 3), "stretches": len(stretches)}
    limit = work.limits[check]
    if longest > limit:
        words = {"black": "is black", "freeze": "stands still", "silence": "is silent"}[check]
        work.find(check, f"{words} for {longest:.1f} s from {since:.1f} s on; {limit:g} s may be")


def _times(path: Path, key: str) -> list[float]:
    text = path.read_text(errors="replace") if path.exists() else ""
    return [float(value) for value in re.findall(rf"^{re.escape(key)}=([\d.]+)", text, re.M)]


def _check_loudness(work: _Work, stderr: str) -> None:
    summary = stderr.rpartition("Summary:")[2]
    values = {
        name: _value(summary, pattern)
        for name, pattern in (
            ("integrated", r"\bI:\s+(\S+) LUFS"),
            ("range", r"\bLRA:\s+(\S+) LU"),
            ("peak", r"\bPeak:\s+(\S+) dBFS"),
        )
    }
    work.report["loudness"] = values
    measured = values["integrated"]
    if measured is None:
        work.warnings.append("is too short for its loudness to be measured")
        return
    low = work.limits.get("loudness-min", -math.inf)
    high = work.limits.get("loudness-max", math.inf)
    if measured < low:
        work.find("loudness", f"has {measured:.1f} LUFS, quieter than {low:g} LUFS")
    if measured > high:
        work.find("loudness", f"has {measured:.1f} LUFS, louder than {high:g} LUFS")


def _value(text: str, pattern: str) -> float | None:
    match = re.search(pattern, text)
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _mention_unchecked(work: _Work) -> None:
    for check in (*_DETECTORS, "loudness"):
        wanted = any(name == check or name.startswith(f"{check}-") for name in work.limits)
        if wanted and not work.has_stream(check):
            lack = "picture" if check in _PICTURE_CHECKS else "sound"
            work.warnings.append(f"has no {lack}; {check} was not checked")
