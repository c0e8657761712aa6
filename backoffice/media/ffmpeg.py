"""ffprobe and ffmpeg: probe a file, run a command, report its progress, explain its failure.

Owns how a tool is started (as a child that dies with us, with limits, an empty
environment and both pipes read) and what its answers mean. It knows nothing of
profiles, tasks or the database.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from unicodedata import category

from backoffice.config.settings import Settings
from backoffice.errors import BackofficeError, ProcessKilled, TaskFailed, reason_of
from backoffice.media import colour, decoding, mp4, pictures, rates, timeline
from backoffice.states import Reason
from backoffice.system.confinement import NOTHING, Confinement, entrance, of_tools
from backoffice.system.prctl import die_with

TAIL: Final = 64 << 10  # characters of stderr that are kept
STDOUT: Final = 16 << 20  # bytes of stdout that are kept
FULL: Final = 64 << 10  # bytes; with less room than this a disk is full
LINE: Final = 8 << 10  # bytes; a longer line of a log is cut into several
PACKETS: Final = 200  # of which the times are read to know a frame rate
_LONGEST_READ: Final = 120.0  # seconds that reading the times of all packets may take
LONG: Final = 20.0  # seconds; the middle of a longer file is looked at too
_FD: Final = "/proc/self/fd/"

# Containers that hold pictures and sound themselves. Whatever can name other
# files (hls, dash, concat, sdp, imf …) or has no clock (raw streams) stays out:
# the protocol list alone did not keep a playlist from reading its neighbours.
FORMATS: Final = (
    "mov,matroska,avi,mpegts,mpeg,mxf,flv,asf,wav,w64,mp3,aac,ac3,eac3,flac,ogg,aiff,caf,au,amr"
    ",gxf,dv,ivf,nut,wtv,rm,gif,yuv4mpegpipe"
    ",ape,dsf,dts,dtshd,mlp,mpc,mpc8,tak,truehd,tta,voc,wv,xwma"
)

# Containers whose length is written down rather than guessed from the file's
# size; only there does a shorter content mean a truncated file.
DECLARES_DURATION: Final = frozenset(
    {"mov", "matroska", "avi", "mxf", "flv", "asf", "wav", "flac", "aiff", "rm"}
    | {"ape", "dsf", "mpc", "mpc8", "tak", "tta", "wv"}
)

# Raw streams of frames: ffprobe computes their length from size and bit rate.
ESTIMATES_DURATION: Final = frozenset(
    {"mp3", "aac", "ac3", "eac3", "amr", "dts", "dtshd", "mlp", "truehd"}
)


@dataclass(frozen=True)
class Completed:
    """How a command ended. ``status`` is -1 when ``signal`` ended it."""

    status: int
    signal: int
    stdout: str
    stderr_tail: str
    cpu_seconds: float
    peak_memory: int  # bytes
    wall_seconds: float
    overflowed: bool = False  # there was more on stdout than is kept
    cpu_exhausted: bool = False  # it was ended at its limit


def run(
    argv: Sequence[str],
    *,
    folder: Path,
    log: Callable[[str], None],
    on_stdout_line: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
    confined: Confinement = NOTHING,
    environment: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv`` in ``folder`` and wait for it; its exit status is not judged.

    The child stays in our process group, and is killed when the *thread* that
    called this ends: call it from one that lives as long as the work. Should a
    callback raise, the child is killed and the exception goes on. ``on_tick``
    is called at least once a second. The child may use what ``confined`` allows.
    ``names`` maps descriptors (``/proc/self/fd/7``) to the names that lines of
    its stderr show in their place. Raises TaskFailed when the program cannot be
    started.
    """
    started = time.monotonic()
    child = _start(argv, folder, confined, environment or {})
    try:
        output = _Output(log, on_stdout_line, names or {})
        status, usage = _attend(child, output, on_tick)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Completed(
        status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1,
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        stdout=output.stdout.text(),
        overflowed=output.stdout.overflowed,
        stderr_tail=output.stderr.text(),
        cpu_seconds=cpu_seconds,
        cpu_exhausted=0 < confined.cpu <= cpu_seconds + 1 and status != 0,
        peak_memory=usage.ru_maxrss * 1024,
        wall_seconds=time.monotonic() - started,
    )


def _start(
    argv: Sequence[str], folder: Path, confined: Confinement, extra: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def prepare() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        die_with(parent, signal.SIGKILL)
        inner.enter()

    try:
        # One that comes for our whole group waits until the child is the program: until
        # then our own handler would get it there, and nothing would end.
        with entrance(confined, argv[0]) as inner, _without_term():
            return subprocess.Popen(
                list(argv),
                cwd=folder,
                env=_environment(folder, extra),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=confined.descriptors,
                preexec_fn=prepare,
            )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TaskFailed(
            f"cannot start {argv[0]}: {reason}; is it installed?", reason=Reason.NOT_STARTED
        ) from error


@contextmanager
def _without_term() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Nothing of ours but the marks by which a child is known (``BO_…``)."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # Else each thread reserves address space, which [limits] memory counts.
        "MALLOC_ARENA_MAX": "4",
        **{k: v for k, v in os.environ.items() if k.startswith("BO_")},
        **extra,
    }


def _attend(
    child: subprocess.Popen[bytes], output: _Output, on_tick: Callable[[], None] | None
) -> tuple[int, resource.struct_rusage]:
    """Read both pipes until the child has ended.

    A grandchild may hold the pipes open for longer than the child lives, hence
    the process is watched itself, and what it left in the pipes is read then.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    process = os.pidfd_open(child.pid)
    try:
        with selectors.DefaultSelector() as selector:
            for pipe, stream in ((child.stdout, output.stdout), (child.stderr, output.stderr)):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, stream)
            selector.register(process, selectors.EVENT_READ, None)
            ended = False
            ticked = time.monotonic()
            while not ended:
                for key, _ in selector.select(timeout=0.5):
                    if key.data is None:
                        ended = True
                    elif _read(key.fd, key.data) == 0:
                        selector.unregister(key.fileobj)
                if on_tick is not None and (now := time.monotonic()) - ticked >= 0.5:
                    ticked = now
                    on_tick()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        _drain(child.stdout.fileno(), output.stdout)
        _drain(child.stderr.fileno(), output.stderr)
        return status, usage
    finally:
        os.close(process)


class _Output:
    """What the two pipes bring: ``stderr`` goes to the log line by line, ``stdout`` to
    its callback, or is kept as it is."""

    def __init__(
        self,
        log: Callable[[str], None],
        on_stdout_line: Callable[[str], None] | None,
        names: Mapping[str, str],
    ) -> None:
        self.stdout: _Lines | _Kept = _Lines(on_stdout_line) if on_stdout_line else _Kept()
        self.stderr = _Lines(log, TAIL, names)


class _Kept:
    """The bytes of one pipe, unchanged: they will be parsed."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.overflowed = False

    def add(self, block: bytes) -> None:
        room = STDOUT - len(self._data)
        self._data += block[:room]
        self.overflowed |= len(block) > room

    def end(self) -> None:
        pass

    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


class _Lines:
    """One pipe cut into printable lines; their last ``keep`` characters are kept."""

    overflowed = False

    def __init__(
        self,
        on_line: Callable[[str], None],
        keep: int = 0,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._on_line = on_line
        self._keep = keep
        self._names = names or {}
        self._rest = b""
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, block: bytes) -> None:
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + block)
        while len(self._rest) > LINE:
            lines.append(self._rest[:LINE])
            self._rest = self._rest[LINE:]
        for line in lines:
            self._take(line)

    def end(self) -> None:
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, line: bytes) -> None:
        text = _printable(_named(line.decode("utf-8", "replace"), self._names))
        if not text:
            return
        self._on_line(text)
        if not self._keep:
            return
        self._lines.append(text)
        self._size += len(text) + 1
        while self._size > self._keep and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        return "\n".join(self._lines)


def _read(descriptor: int, into: _Lines | _Kept) -> int:
    """Take what is there; 0 at the end, -1 when there is nothing now."""
    try:
        block = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return -1
    into.add(block)
    return len(block)


def _drain(descriptor: int, into: _Lines | _Kept) -> None:
    for _ in range(64):  # more than a pipe holds: a grandchild may write for ever
        if _read(descriptor, into) <= 0:
            break
    into.end()


def _named(text: str, names: Mapping[str, str]) -> str:
    if not names or _FD not in text:
        return text
    return re.sub(f"{_FD}[0-9]+", lambda match: names.get(match[0], match[0]), text)


def named(argv: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """``argv`` as people can type it: with paths in place of descriptors."""
    return [_named(argument, names) for argument in argv]


def _printable(text: str) -> str:
    """For logs: control characters would forge lines there, or drive a terminal, and
    marks of direction would show them in another order. Blanks of all kinds stay."""
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else f"\\x{ord(c):02x}" for c in text)


def _is_shown(character: str) -> bool:
    return character == "\t" or character.isprintable() or category(character) == "Zs"


@dataclass
class Progress:
    """What ``-progress`` has told so far; feed it line by line.

    ``seconds`` is the time of the output. ffmpeg pads its values, writes N/A
    for what it does not know, and microseconds into ``out_time_ms`` as well.
    """

    seconds: float = 0.0
    speed: str = ""
    frame: int = 0
    ended: bool = False
    _block: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> bool:
        """Take one line; true when it completed a block, so that all is new."""
        key, separator, value = line.partition("=")
        if not separator:
            return False
        key, value = key.strip(), value.strip()
        if key != "progress":
            self._block[key] = value
            return False
        micros = self._block.get("out_time_us", "")
        if micros.isdigit():
            self.seconds = int(micros) / 1e6
        frame = self._block.get("frame", "")
        if frame.isdigit():
            self.frame = int(frame)
        speed = self._block.get("speed", "")
        self.speed = speed if speed != "N/A" else ""
        self.ended = value == "end"
        self._block.clear()
        return True


def command(settings: Settings, *, level: str = "warning") -> list[str]:
    """How every ffmpeg command of ours begins."""
    return [
        settings.tools.ffmpeg,
        "-hide_banner",
        "-nostdin",
        "-nostats",
        "-loglevel",
        f"+level+{level}",
        *"-progress pipe:1 -stats_period 1 -y".split(),
    ]


def input_arguments(source: Path, settings: Settings | None = None) -> list[str]:
    """``-i`` for a file that is not trusted; with settings, their threads too.

    ``file:`` and an absolute path keep ``-y.mp4`` from being an option, and
    ``http:x.mp4`` from being an address.
    """
    threads = threads_arguments(settings) if settings else []
    # Else ffmpeg takes eight channels without labels for 7.1, and mixes them as such.
    layouts = ["-guess_layout_max", "2"]
    return [*threads, *layouts, *_input_limits(FORMATS), "-i", f"file:{source.absolute()}"]


def threads_arguments(settings: Settings) -> list[str]:
    """``-threads`` as configured; before ``-i`` for decoders, after it for encoders."""
    return ["-threads", str(settings.tools.threads)] if settings.tools.threads else []


def _input_limits(formats: str) -> list[str]:
    return ["-protocol_whitelist", "file", "-format_whitelist", formats]


def tolerance(seconds: float) -> float:
    """By how much a result of that length may differ from what was expected."""
    return max(0.5, seconds * 0.02)


def filter_value(text: str) -> str:
    """``text`` as the value of a filter's option, through both levels of escaping."""
    option = re.sub(r"([\\':])", r"\\\1", text)
    return re.sub(r"([\\'\[\],;])", r"\\\1", option)


def probe(
    path: Path,
    settings: Settings,
    log: Callable[[str], None] = lambda line: None,
    *,
    name: str = "",
    formats: str = FORMATS,
) -> dict[str, Any]:
    """The facts of a media file, as stored with it.

    Raises TaskFailed, without retry, for what is no media file or exceeds the
    limits of the settings. ``name`` is what messages call it, if ``path`` is a
    descriptor. ``formats`` widens what may be opened, to playlists that we have
    written ourselves; their neighbours can then be read too.
    """
    looked = _Probed(path, name or path.name, settings)
    _check_readable(looked)
    document = _document(looked, log, formats)
    # Of playlists that we have written ourselves the headers are known to be right.
    times = _frame_times(looked, document, log) if formats == FORMATS else {}
    facts = _usable(_facts(document, times), _unusable(looked, document, log, formats))
    _mark_empty_edits(looked, document, facts)
    if facts["format"] in timeline.CLOCKED:
        facts = timeline.corrected(facts, _clock_facts(looked, facts, log))
    for picture in facts["video"]:
        if colour.of(picture).video_range != "SDR":
            picture.update(_light_metadata(looked, log, formats, picture["index"]) | picture)
    for picture in facts["video"][:1]:
        if formats == FORMATS and picture["codec"] in _CAPTIONED:
            picture.update(_captions(looked))
    if not facts["video"] and not facts["audio"]:
        raise looked.bad(_why_useless(facts))
    _check_limits(looked, document, facts)
    return facts


def _why_useless(facts: Mapping[str, Any]) -> str:
    if why := decoding.sentence(facts):
        return f"cannot be used: {why}"
    others = "; ".join(pictures.what_it_is(one) for one in facts["left_out"])
    return "has neither picture nor sound" + (f": {others}" if others else "")


@dataclass(frozen=True)
class _Probed:
    path: Path
    name: str
    settings: Settings

    def bad(self, what: str) -> TaskFailed:
        return TaskFailed(f"{self.name} {what}", retry=False, reason=Reason.UNUSABLE_SOURCE)


def _light_metadata(
    looked: _Probed, log: Callable[[str], None], formats: str, index: int
) -> dict[str, str]:
    """Of the first frame: few containers repeat what the stream itself says."""
    shown = ["-show_frames", "-select_streams", str(index), "-read_intervals", "%+#1"]
    done = _ffprobe(looked, log, formats, shown)
    frames = _parsed(looked, done).get("frames", []) if done.status == 0 else []
    return colour.light_metadata(frames[0].get("side_data_list", ())) if frames else {}


_CAPTIONED: Final = frozenset({"mpeg2video", "h264", "hevc", "av1"})
_CAPTIONS: Final = b"GA94\x03"  # how cc_data begins in each frame (ATSC A/53, part 4)
_LOOK: Final = 2 << 20  # bytes that are searched in each of several places


def _captions(looked: _Probed) -> dict[str, bool]:
    """Whether closed captions (CEA-608 and 708) go with the frames. ffprobe would have
    to decode them to tell; streams that have a channel for captions have it throughout."""
    size = looked.path.stat().st_size
    with open(looked.path, "rb") as stream:
        for place in (0, size // 2, size * 3 // 4):
            stream.seek(place)
            if _CAPTIONS in stream.read(_LOOK):
                return {"captions": True}
    return {}


def _ffprobe(
    looked: _Probed,
    log: Callable[[str], None],
    formats: str,
    shown: Sequence[str],
    form: str = "json",
    level: str = "error",
    on_stdout_line: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Completed:
    argv = [
        looked.settings.tools.ffprobe,
        "-v",
        level,
        "-of",
        form,
        *shown,
        *_input_limits(formats),
        "-i",
        f"file:{looked.path.absolute()}",
    ]
    readable = looked.path if formats == FORMATS else looked.path.parent
    return run(
        argv,
        folder=Path("/"),
        log=log,
        on_stdout_line=on_stdout_line,
        on_tick=on_tick,
        confined=of_tools(looked.settings, read=[readable.absolute()]),
        names=name_of_descriptor(looked.path, looked.name),
    )


def _document(looked: _Probed, log: Callable[[str], None], formats: str) -> dict[str, Any]:
    """ffprobe's own answer."""
    shown = ["-show_format", "-show_streams", "-show_chapters", "-show_error"]
    done = _ffprobe(looked, log, formats, shown)
    document: dict[str, Any] = {}
    if done.status == 0:
        document = _parsed(looked, done)
    if done.status != 0 or "error" in document or "format" not in document:
        if done.signal:
            raise failure(done)
        raise looked.bad(_why_no_media(looked, done))
    return document


def name_of_descriptor(path: Path, name: str) -> dict[str, str]:
    """``names`` for :func:`run`: what people call the file, if ``path`` is a descriptor."""
    match = re.match(f"{_FD}[0-9]+", str(path))
    return {match[0]: name} if match and name else {}


def _frame_times(
    looked: _Probed, document: Mapping[str, Any], log: Callable[[str], None]
) -> dict[int, list[list[float]]]:
    """When frames are shown, in seconds, at the beginning and in the middle, by the
    index of each picture whose header does not settle its rate."""
    form = document["format"]
    wanted = [
        stream
        for stream in document.get("streams", ())
        if stream.get("codec_type") == "video"
        and not pictures.role(stream)
        and not rates.settled(stream, form.get("format_name", ""))
    ]
    start, length = _number(form.get("start_time")), _number(form.get("duration"))
    middle = [start + length / 2] if length > LONG else []
    return {
        int(stream["index"]): [_times(looked, log, stream, place) for place in (None, *middle)]
        for stream in wanted
    }


def _times(
    looked: _Probed, log: Callable[[str], None], stream: Mapping[str, Any], place: float | None
) -> list[float]:
    # Two packets of H.264 may be the fields of one frame, which only decoding tells.
    fields = stream.get("codec_name") == "h264" and stream.get("field_order") != "progressive"
    shown = "frame=best_effort_timestamp_time" if fields else "packet=pts_time"
    span = f"{'' if place is None else f'{place:.3f}'}%+#{PACKETS}"
    done = _listed(looked, str(stream["index"]), span, shown, log)
    if done.signal:
        raise failure(done)
    return [float(time) for time in re.findall(r"^-?\d+\.\d+", done.stdout, re.MULTILINE)]


class _TimeIsUp(Exception):
    pass


def _clock_facts(
    looked: _Probed, facts: Mapping[str, Any], log: Callable[[str], None]
) -> dict[str, Any]:
    """What the times of all packets tell; see ``timeline``."""
    used = {stream["index"] for kind in decoding.KINDS for stream in facts[kind]}
    times, until = timeline.Times(facts["start"]), time.monotonic() + _LONGEST_READ

    def note(line: str) -> None:
        index, *clocks = line.split(",")
        known = next((float(clock) for clock in clocks[1::-1] if clock not in ("", "N/A")), None)
        if known is not None and int(index) in used:
            times.note(int(index), known)

    def check() -> None:
        if time.monotonic() > until:
            raise _TimeIsUp

    shown = ["-show_entries", "packet=stream_index,pts_time,dts_time"]
    try:
        done = _ffprobe(looked, log, FORMATS, shown, "csv=p=0", on_stdout_line=note, on_tick=check)
    except _TimeIsUp:
        log(f"the packets were read for {_LONGEST_READ:g} s; the times of later ones are not known")
    else:
        if done.signal:
            raise failure(done)
    return times.facts()


def _mark_empty_edits(
    looked: _Probed, document: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    if "mov" not in facts["format"].split(","):
        return
    edits = mp4.empty_edits(looked.path)
    tracks = {one["index"]: decoding.track(one) for one in document.get("streams", ())}
    for stream in (*facts["video"], *facts["audio"]):
        if found := edits.get(tracks[stream["index"]]):
            stream["empty_edits"] = [list(edit) for edit in found]


def _parsed(looked: _Probed, done: Completed) -> dict[str, Any]:
    if done.overflowed:
        raise looked.bad("has too many streams, chapters or tags to be described")
    try:
        document: dict[str, Any] = json.loads(done.stdout, strict=False)
    except ValueError as error:
        raise looked.bad(
            f"is described by ffprobe in a form that cannot be read: {error}"
        ) from error
    return document


def _check_readable(looked: _Probed) -> None:
    try:
        with open(looked.path, "rb"):
            size = looked.path.stat().st_size
    except OSError as error:
        raise TaskFailed(
            f"{looked.name} cannot be read: {error.strerror}", reason=reason_of(error)
        ) from error
    if size == 0:
        raise looked.bad("is empty (0 bytes); copy it again")


_PLAYLIST = re.compile(
    rb"\s*(#EXTM3U|ffconcat|\[playlist\]|v=0\s|(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(MPD|smil|asx)\b)",
    re.IGNORECASE | re.DOTALL,
)
# The last is the loader's, when not even the program itself has room.
_NO_MEMORY = re.compile(r"annot allocate memory|failed to map segment")
_MOV_BOXES = frozenset({b"ftyp", b"mdat", b"free", b"wide", b"skip", b"moov", b"pnot"})
_SEGMENT_BOXES = frozenset({b"styp", b"sidx", b"moof", b"emsg", b"prft"})
# How files begin that hold video or sound: MP4, Matroska, AVI and WAV, AIFF, Ogg, FLAC,
# MP3, ASF, FLV.
_MEDIA = re.compile(
    rb".{4}ftyp|\x1aE\xdf\xa3|RIFF|RF64|FORM|OggS|fLaC|ID3|\x30\x26\xb2\x75|FLV", re.DOTALL
)


def _why_no_media(looked: _Probed, done: Completed) -> str:
    with open(looked.path, "rb") as stream:
        head = stream.read(4096)
    refused = re.search(r"\[(\S+) @ \w+\] (?:\[\w+\] )?Format not on whitelist", done.stderr_tail)
    if _PLAYLIST.match(head) or (refused and refused[1] in ("hls", "dash", "concat", "sdp")):
        return "is a playlist, not a media file; give the media file itself"
    if refused:
        return f"is of a kind that is not taken as input ({refused[1]}); convert it first"
    if head[4:8] in _MOV_BOXES and "moov atom not found" in done.stderr_tail:
        return "is incomplete: its index (moov) is missing; copy or export it again"
    if _NO_MEMORY.search(done.stderr_tail):
        return "needs more memory to be opened than [limits] memory allows"
    if head[4:8] in _SEGMENT_BOXES:
        return "is a segment without the beginning (init segment) of its stream; give it whole"
    if schemes := sorted(set(mp4.encrypted_tracks(looked.path).values())):
        return f"is encrypted ({', '.join(schemes)})"
    return _unread(looked, head, done)


def _unread(looked: _Probed, head: bytes, done: Completed) -> str:
    if not done.stderr_tail:  # only warnings tell of a decoder that does not open
        warned = _ffprobe(looked, lambda line: None, FORMATS, (), level="warning")
        why = _first_line(looked, warned.stderr_tail)
        return f"has a stream that this ffmpeg cannot decode (ffprobe: {why})"
    known = _MEDIA.match(head)
    what = "is damaged, or of a form that is not known" if known else "is not a video or sound file"
    return f"{what} (ffprobe: {_first_line(looked, done.stderr_tail)})"


def _first_line(looked: _Probed, tail: str) -> str:
    """The cause; the last line tells what followed from it."""
    reason = _bare(tail.split("\n", 1)[0])
    for shown in (looked.path.absolute(), looked.name):
        reason = reason.removeprefix(f"file:{shown}: ")
    return reason


def _check_limits(looked: _Probed, document: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    limits = looked.settings.limits
    streams = len(document.get("streams", ()))
    if streams > limits.streams:
        raise looked.bad(f"has {streams} streams; [limits] streams allows {limits.streams}")
    if facts["duration"] > limits.duration:
        raise looked.bad(
            f"lasts {facts['duration']:.0f} s; [limits] duration allows {limits.duration:.0f} s"
        )
    for video in facts["video"][:1]:  # the others are not decoded
        if video["width"] * video["height"] > limits.pixels:
            size = f"{video['width']}×{video['height']}"
            raise looked.bad(f"is {size}; [limits] pixels allows {limits.pixels} in all")
        if video["frame_rate"] > limits.frame_rate:
            raise looked.bad(
                f"has {video['frame_rate']:g} frames a second;"
                f" [limits] frame_rate allows {limits.frame_rate:g}"
            )


def _facts(
    document: Mapping[str, Any], times: Mapping[int, Sequence[Sequence[float]]]
) -> dict[str, Any]:
    form = document["format"]
    streams = document.get("streams", ())
    video, left_out = _pictures(streams, times)
    facts: dict[str, Any] = {
        "format": form.get("format_name", ""),
        "duration": _number(form.get("duration")),
        "bit_rate": _integer(form.get("bit_rate")),
        "start": _number(form.get("start_time")),
        "estimated": form.get("format_name") in ESTIMATES_DURATION,
        "video": sorted(video, key=pictures.order),
        "audio": [_audio(s) for s in streams if s.get("codec_type") == "audio"],
        "subtitle": [_named_stream(s) for s in streams if s.get("codec_type") == "subtitle"],
        "chapters": len(document.get("chapters", ())),
        "left_out": left_out,
    }
    if not facts["duration"]:
        lengths = (s.get("duration", 0.0) for s in (*facts["video"], *facts["audio"]))
        facts["duration"] = max(lengths, default=0.0)
    return facts


def _pictures(
    streams: Sequence[Mapping[str, Any]], times: Mapping[int, Sequence[Sequence[float]]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The facts of those that move, and what is told of the others."""
    video, left_out = [], []
    for stream in (s for s in streams if s.get("codec_type") == "video"):
        windows = times.get(stream["index"])
        frames = None if windows is None else len({time for one in windows for time in one})
        if reason := pictures.unfit(stream, frames, alone=len(streams) == 1):
            codec = stream.get("codec_name", "unknown")
            left_out.append({"index": stream["index"], "codec": codec, "reason": reason})
        else:
            video.append(_video(stream, windows or ()))
    return video, left_out


def _unusable(
    looked: _Probed, document: Mapping[str, Any], log: Callable[[str], None], formats: str
) -> dict[int, str]:
    """The streams that cannot be used, by index, each with the reason."""
    settings = looked.settings
    codecs = decoders(settings.tools.ffmpeg, of_tools(settings))
    encrypted: dict[int, str] = {}
    if "mov" in document["format"].get("format_name", "").split(","):
        encrypted = mp4.encrypted_tracks(looked.path)
    found = {}
    for stream in document.get("streams", ()):
        if stream.get("codec_type") in decoding.KINDS:
            found[stream["index"]] = decoding.why_not(stream, codecs=codecs, encrypted=encrypted)
    empty = _without_packets(looked, document, log, formats)
    empty |= _without_samples(looked, document, log)
    for stream in document.get("streams", ()):
        if stream["index"] in empty:
            found[stream["index"]] = found[stream["index"]] or decoding.why_empty(stream)
        if stream.get("codec_type") == "audio" and 0 < _number(stream.get("duration")) < _SHORTEST:
            found[stream["index"]] = f"it lasts {1000 * _number(stream['duration']):.1f} ms"
    return {index: reason for index, reason in found.items() if reason}


_SHORTEST: Final = 0.005  # seconds; of a sound that is shorter encoders leave nothing


def _without_packets(
    looked: _Probed, document: Mapping[str, Any], log: Callable[[str], None], formats: str
) -> set[int]:
    """The sounds that are announced and never come. Most files tell it by a count;
    of the others the first packets are read, and all only for what is not there."""
    sounds = [s for s in document.get("streams", ()) if s.get("codec_type") == "audio"]
    if formats != FORMATS or all(_integer(s.get("nb_frames")) for s in sounds):
        return set()
    heard = _packets(looked, "a", 50 * len(sounds), log)
    missing = {s["index"] for s in sounds if s["index"] not in heard}
    return {index for index in missing if not _packets(looked, str(index), 1, log)}


def _without_samples(
    looked: _Probed, document: Mapping[str, Any], log: Callable[[str], None]
) -> set[int]:
    """The sounds of which it depends on ffmpeg's version whether it can decode them, and
    it cannot."""
    unsure = [s["index"] for s in document.get("streams", ()) if decoding.flac_bits(s)]
    return {index for index in unsure if not _decodes(looked, index, log)}


def _packets(
    looked: _Probed, streams: str, count: int, log: Callable[[str], None]
) -> frozenset[int]:
    """The streams, of those chosen, that the first ``count`` packets belong to."""
    done = _listed(looked, streams, f"%+#{count}", "packet=stream_index", log)
    return frozenset(int(number) for number in re.findall(r"^(\d+)", done.stdout, re.MULTILINE))


def _decodes(looked: _Probed, index: int, log: Callable[[str], None]) -> bool:
    """Whether the first packets of a sound give any samples."""
    done = _listed(looked, str(index), "%+#9", "frame=nb_samples", log)
    return bool(re.search(r"\d", done.stdout))


def _listed(
    looked: _Probed, streams: str, span: str, entries: str, log: Callable[[str], None]
) -> Completed:
    """A line for each packet or frame of the streams chosen."""
    shown = ["-select_streams", streams, "-read_intervals", span, "-show_entries", entries]
    return _ffprobe(looked, log, FORMATS, shown, form="csv=p=0")


def packet_seconds(
    path: Path, index: int, settings: Settings, most: float, *, name: str = ""
) -> float:
    """How long the packets of a stream last together, of its first ``most`` seconds:
    holes between them do not count, nor what MP4 writes for them: a packet that lasts
    much longer than others do."""
    looked = _Probed(path, name or path.name, settings)
    entries = "packet=duration_time"
    done = _listed(looked, str(index), f"%+{most:.3f}", entries, lambda line: None)
    lengths = sorted(_number(line.strip(",")) for line in done.stdout.split())
    usual = lengths[len(lengths) // 2] if lengths else 0.0
    return math.fsum(min(one, 2 * usual) for one in lengths)


_PLACES: Final = 120  # of a long file where its colour is looked at
_WINDOW: Final = 3.0  # seconds of each, in which most files have a key frame


def colours(
    path: Path,
    facts: Mapping[str, Any],
    settings: Settings,
    log: Callable[[str], None] = lambda line: None,
    *,
    name: str = "",
) -> list[tuple[float, dict[str, Any]]]:
    """What key frames of the first picture say of their colour, and when, in seconds after
    the start of the file: all of a short file, of a longer one those in many places."""
    looked, picture = _Probed(path, name or path.name, settings), facts["video"][0]
    shown = [
        "-skip_frame",
        "nokey",
        "-select_streams",
        str(picture["index"]),
        "-show_entries",
        f"frame=best_effort_timestamp_time,width,height,pix_fmt,{','.join(_COLOUR.values())}",
        *_windows(float(facts.get("start", 0.0)), float(facts["duration"])),
    ]
    done = _ffprobe(looked, log, FORMATS, shown)
    if done.signal:
        raise failure(done)
    frames = json.loads(done.stdout or "{}", strict=False).get("frames", ())
    start = float(facts.get("start", 0.0))
    return [
        (_number(one.get("best_effort_timestamp_time")) - start, _of_frame(one)) for one in frames
    ]


def _windows(start: float, length: float) -> list[str]:
    if length <= _PLACES * _WINDOW:
        return []
    places = (start + length * number / _PLACES for number in range(_PLACES))
    return ["-read_intervals", ",".join(f"{place:.3f}%+{_WINDOW:g}" for place in places)]


def _of_frame(frame: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: frame.get(key, "unknown") for name, key in _COLOUR.items()}
    return {
        "width": _integer(frame.get("width")),
        "height": _integer(frame.get("height")),
        "pixel_format": str(frame.get("pix_fmt", "")),
        "colour": {name: value for name, value in said.items() if value not in _UNSAID},
    }


def _usable(facts: dict[str, Any], unusable: Mapping[int, str]) -> dict[str, Any]:
    """``facts`` with those streams apart, each with its ``kind`` and ``reason``."""
    apart = [
        {**stream, "kind": word, "reason": unusable[stream["index"]]}
        for kind, word in decoding.KINDS.items()
        for stream in facts[kind]
        if stream["index"] in unusable
    ]
    kept = {k: [s for s in facts[k] if s["index"] not in unusable] for k in decoding.KINDS}
    return facts | kept | {"unusable": apart}


def _common(stream: Mapping[str, Any]) -> dict[str, Any]:
    tags = {k.lower(): v for k, v in stream.get("tags", {}).items()}
    facts: dict[str, Any] = {
        "index": stream["index"],
        "codec": stream.get("codec_name", "unknown"),
        "language": _language(tags.get("language", "")),
    }
    # Matroska keeps a stream's length in a tag.
    seconds = _number(stream.get("duration")) or _clock(tags.get("duration", ""))
    if seconds:
        facts["duration"] = seconds
    if start := _number(stream.get("start_time")):
        facts["start"] = start
    return facts


def _language(tag: str) -> str:
    """A tag of BCP 47 or ISO 639; files hold all kinds of text there."""
    if tag == "sve":  # FFmpeg's name of Swedish in MOV
        return "swe"
    return tag if re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}", tag) else "und"


def _video(stream: Mapping[str, Any], times: Sequence[Sequence[float]]) -> dict[str, Any]:
    rotation = _rotation(stream)
    width, height = _displayed(stream, rotation)
    facts = _common(stream)
    del facts["language"]
    return facts | {
        "profile": stream.get("profile", ""),
        "width": width,
        "height": height,
        "frame_rate": round(float(rates.real(stream, times)), 6),
        "pixel_format": _pixel_format(stream),
        **_colour(stream),
        "default": bool(stream.get("disposition", {}).get("default")),
        "interlaced": stream.get("field_order") in ("tt", "bb", "tb", "bt"),
        "field_order": stream.get("field_order", ""),
        "rotation": rotation,
        "bit_rate": _integer(stream.get("bit_rate")),
        "frames": _integer(stream.get("nb_frames")),
    }


def _pixel_format(stream: Mapping[str, Any]) -> str:
    """With the alpha that WebM keeps beside the picture, and decoders leave there."""
    pixels = str(stream.get("pix_fmt", ""))
    beside = stream.get("tags", {}).get("alpha_mode") == "1"
    return "yuva420p" if beside and pixels == "yuv420p" else pixels


# What is said of the colour → ffprobe's name for it.
_COLOUR: Final = {
    "range": "color_range",
    "matrix": "color_space",
    "transfer": "color_transfer",
    "primaries": "color_primaries",
}


def _colour(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Only what the stream says; see ``colour.of`` for what it means."""
    said = {name: stream.get(key, "unknown") for name, key in _COLOUR.items()}
    side_data = stream.get("side_data_list", ())
    facts = {
        "colour": {name: value for name, value in said.items() if value not in _UNSAID},
        "dolby_vision": colour.dolby_vision(side_data),
        **colour.light_metadata(side_data),
    }
    return {name: value for name, value in facts.items() if value}


_UNSAID: Final = frozenset({"unknown", "reserved", "unspecified"})


def _audio(stream: Mapping[str, Any]) -> dict[str, Any]:
    facts = _named_stream(stream) | {
        "channels": _integer(stream.get("channels")),
        "layout": stream.get("channel_layout", ""),
        "sample_rate": _integer(stream.get("sample_rate")),
        "bit_rate": _integer(stream.get("bit_rate")),
    }
    return facts | ({"packed": True} if _packed(stream) else {})


_AMR_FRAME: Final = 0.020  # seconds


def _packed(stream: Mapping[str, Any]) -> bool:
    """Whether it is AMR with several frames a packet; see ``amr``."""
    frames, seconds = _integer(stream.get("nb_frames")), _number(stream.get("duration"))
    amr = stream.get("codec_name") in ("amr_nb", "amr_wb")
    return amr and seconds > 1.5 * _AMR_FRAME * frames > 0


def _named_stream(stream: Mapping[str, Any]) -> dict[str, Any]:
    """Of sound or subtitles: what tells one from another."""
    title, marks = _title(stream), stream.get("disposition", {})
    return (
        _common(stream)
        | ({"title": title} if title else {})
        | {"dispositions": sorted(name for name, given in marks.items() if given)}
    )


def _title(stream: Mapping[str, Any]) -> str:
    tags = {k.lower(): str(v) for k, v in stream.get("tags", {}).items()}
    return _printable(" ".join(tags.get("title", "").split()))[:100]


def _rotation(stream: Mapping[str, Any]) -> int:
    """Degrees clockwise that a player turns the picture: 0, 90, 180 or 270."""
    for data in stream.get("side_data_list", ()):
        if "rotation" in data:
            return round(-_number(data["rotation"]) / 90) * 90 % 360
    return 0


def _displayed(stream: Mapping[str, Any], rotation: int) -> tuple[int, int]:
    width, height = _integer(stream.get("width")), _integer(stream.get("height"))
    aspect = _ratio(stream.get("sample_aspect_ratio"), ":") or 1.0
    width = round(width * aspect)
    return (height, width) if rotation in (90, 270) else (width, height)


def _number(value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if abs(number) < 1e12 else 0.0  # also drops NaN


def _integer(value: object) -> int:
    return int(_number(value))


def _ratio(value: object, sign: str = "/") -> float:
    above, _, below = str(value).partition(sign)
    divisor = _number(below)
    return round(_number(above) / divisor, 6) if divisor else 0.0


def _clock(text: str) -> float:
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


_PREFIX = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )?\[(\w+)\] |^\[[^\]]* @ 0x[0-9a-f]+\] ")
_TALK = re.compile(r"^(?:\[[^\]]* @ 0x[0-9a-f]+\] )*\[(?:info|verbose)\] ")
_EMPTY_WORDS = (
    "Conversion failed!",
    "Could not write header",
    "Error initializing output stream",
    "Error while filtering",
    "Error while processing",
)

# words in ffmpeg's stderr → what they mean for an operator, whether a retry may help
_MEANINGS: Final = (
    (
        "error while loading shared libraries",
        "its libraries lie where it may not read; name their folder in [tools] read",
        False,
    ),
    ("no space left on device", "the disk is full; make room and retry", True),
    ("disk quota exceeded", "the disk quota is used up; make room and retry", True),
    ("file too large", "a file grew beyond [limits] output; raise it or shorten the source", False),
    ("read-only file system", "the disk is mounted read-only; mount it writable and retry", True),
    ("cannot allocate memory", "memory ran out; see [limits] memory", True),
    ("malloc of size", "memory ran out; see [limits] memory", True),
    ("failed to map segment", "memory ran out; see [limits] memory", True),
    ("bad_alloc", "memory ran out; see [limits] memory", True),
    ("unknown encoder", "this ffmpeg lacks an encoder; run `backoffice check`", False),
    ("no such filter", "this ffmpeg lacks a filter; run `backoffice check`", False),
    ("not on whitelist", "the source points at other files, which is not allowed", False),
    ("permission denied", "a file may not be read or written; check its permissions", True),
    ("input/output error", "the disk reports errors, or the source is damaged", True),
    ("codec not currently supported in container", "the container cannot hold this codec", False),
    ("matches no streams", "the source lacks a stream that is needed", False),
    ("contains (near) nan", "the sound holds values that are no numbers; repair it", False),
    ("moov atom not found", "the source is damaged or no media file", False),
    ("invalid data found", "the source is damaged or no media file", False),
    ("no such file or directory", "a file has vanished; check that it is still there", True),
)

_UNWRITTEN: Final = frozenset(
    {"no space left on device", "disk quota exceeded", "file too large", "input/output error"}
)


# Of the words above; what is not here is told by the exit status alone.
_CODES: Final = {
    "no space left on device": Reason.DISK_FULL,
    "disk quota exceeded": Reason.DISK_FULL,
    "file too large": Reason.OUTPUT_TOO_LARGE,
    "read-only file system": Reason.NOT_PERMITTED,
    "cannot allocate memory": Reason.OUT_OF_MEMORY,
    "malloc of size": Reason.OUT_OF_MEMORY,
    "failed to map segment": Reason.OUT_OF_MEMORY,
    "bad_alloc": Reason.OUT_OF_MEMORY,
    "not on whitelist": Reason.UNUSABLE_SOURCE,
    "permission denied": Reason.NOT_PERMITTED,
    "input/output error": Reason.FILE_ERROR,
    "matches no streams": Reason.UNUSABLE_SOURCE,
    "moov atom not found": Reason.DAMAGED_SOURCE,
    "invalid data found": Reason.DAMAGED_SOURCE,
    "no such file or directory": Reason.MISSING_SOURCE,
}


def failure(completed: Completed) -> BackofficeError:
    """What to raise for a command that did not end well: ProcessKilled when
    somebody ended it, TaskFailed otherwise."""
    reason = explain(completed)
    if _killed(completed):
        return ProcessKilled(reason)
    _, retry = _meaning(completed)
    return TaskFailed(reason, retry=retry, reason=_code(completed))


def disk_full(folder: Path) -> bool:
    """Whether nothing to speak of can be written there."""
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize < FULL


def require_written(stderr: str) -> None:
    """Raise TaskFailed if a command that ended well said that it could not write. Where
    demuxers find a source cut, some say that there was an error of input."""
    tail = "\n".join(one for one in _faults(stderr).lower().splitlines() if not _READ.search(one))
    for words, meaning, retry in _MEANINGS:
        if words in _UNWRITTEN and words in tail:
            raise TaskFailed(meaning + _quote(stderr), retry=retry, reason=_CODES[words])


_READ = re.compile(r"\] file:.*: input/output error$")


def explain(completed: Completed) -> str:
    """One sentence why a command failed, ending in the tool's own last word on it."""
    if number := _killed(completed):
        return f"it was ended from outside by {_signal_name(number)}"
    if completed.signal and not completed.cpu_exhausted:
        return f"it crashed ({_signal_name(completed.signal)}){_quote(completed.stderr_tail)}"
    meaning, _ = _meaning(completed)
    return (meaning or f"it ended with status {completed.status}") + _quote(completed.stderr_tail)


def _killed(completed: Completed) -> int:
    """The signal by which somebody else ended the command, or 0."""
    if completed.cpu_exhausted:
        return 0
    if completed.signal in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return completed.signal
    # ffmpeg catches the milder ones, closes its file and exits with 255.
    caught = re.search(r"received signal (\d+)", completed.stderr_tail)
    return int(caught[1]) if caught and completed.status in (255, 123) else 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _meaning(completed: Completed) -> tuple[str, bool]:
    if completed.cpu_exhausted:
        return "it took more processor time than [limits] cpu allows", False
    tail = _faults(completed.stderr_tail).lower()
    for words, meaning, retry in _MEANINGS:
        if words in tail:
            return meaning, retry
    return "", True


def _code(completed: Completed) -> Reason:
    if completed.cpu_exhausted:
        return Reason.CPU_LIMIT
    if completed.signal:
        return Reason.CRASHED
    tail = _faults(completed.stderr_tail).lower()
    words = next((words for words, _, _ in _MEANINGS if words in tail), "")
    return _CODES.get(words, Reason.EXIT_STATUS)


def _quote(tail: str) -> str:
    line = _telling_line(tail)
    return f": {line}" if line else ""


def _telling_line(tail: str) -> str:
    """The line that best says what went wrong, without ffmpeg's prefixes."""
    lines = _faults(tail).splitlines()
    for words, _, _ in _MEANINGS:
        for line in reversed(lines):
            if words in line.lower():
                return _bare(line)
    for line in reversed(lines):
        mark = _PREFIX.match(line)
        if (
            mark
            and mark[1] in ("error", "fatal", "panic")
            and not _bare(line).startswith(_EMPTY_WORDS)
        ):
            return _bare(line)
    return _bare(lines[-1]) if lines else ""


def _faults(tail: str) -> str:
    """Without what ffmpeg says of the files and of itself: it holds their tags."""
    lines = tail.splitlines()
    return "\n".join(line for line in lines if not _TALK.match(line))


def _bare(line: str) -> str:
    return _PREFIX.sub("", line).strip()[:300]


@lru_cache
def version(tool: str, confined: Confinement = NOTHING) -> str:
    """The version of ffmpeg or ffprobe, such as ``5.1.9-0+deb12u1``."""
    match = re.match(r"\S+ version (\S+)", _ask(tool, "-version", confined))
    if match is None:
        raise TaskFailed(f"{tool} is not ffmpeg or ffprobe; see [tools]", retry=False)
    return match[1]


@lru_cache
def encoders(tool: str, confined: Confinement = NOTHING) -> frozenset[str]:
    """The encoders that this ffmpeg has."""
    return frozenset(
        re.findall(r"^ [VAS][A-Z.]{5} (\w+)", _ask(tool, "-encoders", confined), re.MULTILINE)
    )


@lru_cache
def decoders(tool: str, confined: Confinement = NOTHING) -> frozenset[str]:
    """The codecs that this ffmpeg can decode."""
    return decoding.decodable(_ask(tool, "-codecs", confined))


@lru_cache
def filters(tool: str, confined: Confinement = NOTHING) -> frozenset[str]:
    """The filters that this ffmpeg has."""
    return frozenset(
        re.findall(r"^ [T.][S.][C.] (\w+)", _ask(tool, "-filters", confined), re.MULTILINE)
    )


def _ask(tool: str, option: str, confined: Confinement) -> str:
    argv = [tool, "-hide_banner", option]
    done = run(argv, folder=Path("/"), log=lambda line: None, confined=confined)
    return done.stdout
