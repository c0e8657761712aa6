from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backoffice.errors import ProcessKilled, TaskFailed
from backoffice.media import ffmpeg as media
from backoffice.states import Reason
from backoffice.system.confinement import Confinement
from tests.clips import REAL, Clips, ffmpeg
from tests.tasks.context import settings as make_settings


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("media-clips"))


PYTHON = (Path(sys.prefix), Path(sys.base_prefix))  # what a program in Python reads


def shell(
    folder: Path, script: str, environment: Mapping[str, str] | None = None, **limits: Any
) -> tuple[media.Completed, list[str]]:
    lines: list[str] = []
    done = media.run(
        ["sh", "-c", script],
        folder=folder,
        log=lines.append,
        environment=environment,
        confined=Confinement(write=(folder,), programs=PYTHON, **limits),
    )
    return done, lines


# Running


def test_status_output_and_resource_use_come_back(tmp_path: Path) -> None:
    done, lines = shell(tmp_path, "echo out; echo err >&2; exit 3")
    assert (done.status, done.signal, done.stdout, done.stderr_tail) == (3, 0, "out\n", "err")
    assert lines == ["err"]
    assert done.wall_seconds > 0
    assert done.peak_memory > 0
    assert done.cpu_seconds >= 0


def test_it_runs_in_its_folder_with_nothing_to_read(tmp_path: Path) -> None:
    done, _ = shell(tmp_path, "pwd; cat")
    assert done.stdout == f"{tmp_path}\n"


def test_much_on_both_pipes_neither_blocks_nor_piles_up(tmp_path: Path) -> None:
    script = "import sys\nfor n in range(40000): print(n); print('e%d' % n, file=sys.stderr)"
    seen: list[str] = []
    done = media.run(
        [sys.executable, "-c", script],
        folder=tmp_path,
        log=lambda line: None,
        on_stdout_line=seen.append,
        confined=Confinement(programs=PYTHON),
    )
    assert len(seen) == 40000
    assert done.stdout == ""
    assert len(done.stderr_tail) <= media.TAIL
    assert done.stderr_tail.endswith("e39999")


def test_a_line_without_end_is_cut(tmp_path: Path) -> None:
    done, lines = shell(tmp_path, "head -c 50000 /dev/zero | tr '\\0' x >&2")
    assert max(map(len, lines)) <= media.LINE
    assert sum(map(len, lines)) == 50000
    assert done.status == 0


def test_control_characters_cannot_forge_lines_of_the_log(tmp_path: Path) -> None:
    _, lines = shell(tmp_path, r"printf 'a\033[2Jb\rc\n\377\n' >&2")
    assert lines == ["a\\x1b[2Jb", "c", "\ufffd"]


def test_secrets_are_not_inherited_but_marks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("BACKOFFICE_DATABASE_URI", "mysql://user:s3cret@host/db")
    monkeypatch.setenv("BO_TASK", "7")
    done, _ = shell(tmp_path, "env", environment={"BO_ATTEMPT": "2"})
    names = {line.split("=")[0] for line in done.stdout.splitlines()}
    assert "s3cret" not in done.stdout
    assert {"PATH", "LANG", "HOME", "BO_TASK", "BO_ATTEMPT"} <= names


def test_the_child_stays_in_our_process_group(tmp_path: Path) -> None:
    done, _ = shell(tmp_path, "ps -o pgid= -p $$ || cut -d' ' -f5 /proc/$$/stat")
    assert int(done.stdout.split()[0]) == os.getpgrp()


def test_a_child_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom backoffice.media import ffmpeg as media\n"
        "media.run(['sh', '-c', 'echo $$ >&2; exec sleep 60'], folder=Path(sys.argv[1]),"
        " log=lambda line: print(line, flush=True))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent, os.fdopen(os.pidfd_open(int(parent.stdout.readline()))) as child:
        parent.kill()
        assert select.select([child], [], [], 10)[0], "the child outlived its parent"


def test_a_child_ends_that_is_told_to_before_it_is_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own handler is not for it."""
    monkeypatch.setattr(media, "die_with", lambda *_: os.kill(os.getpid(), signal.SIGTERM))

    def own(number: int, frame: object) -> None:
        raise AssertionError("ours was called")

    before = signal.signal(signal.SIGTERM, own)
    try:
        completed, _ = shell(tmp_path, "sleep 60")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert completed.signal == signal.SIGTERM
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ending_is_noticed_though_a_grandchild_holds_the_pipes(tmp_path: Path) -> None:
    done, lines = shell(tmp_path, "sleep 60 & echo $!; echo last >&2")
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.wall_seconds < 30
    assert lines == ["last"]


def test_a_callback_that_raises_kills_the_child(tmp_path: Path) -> None:
    def lost() -> None:
        raise ProcessKilled("lost")

    pid = tmp_path / "pid"
    with pytest.raises(ProcessKilled):
        media.run(
            ["sh", "-c", f"echo $$ > {pid}; exec sleep 60"],
            folder=tmp_path,
            log=lambda line: None,
            on_tick=lost,
            confined=Confinement(write=(tmp_path,)),
        )
    assert not Path(f"/proc/{int(pid.read_text())}").exists()


def test_a_file_beyond_its_limit_is_explained(tmp_path: Path) -> None:
    done, _ = shell(tmp_path, "LC_ALL=C head -c 100000 /dev/zero > big", file_size=50_000)
    assert (tmp_path / "big").stat().st_size == 50_000
    assert "[limits] output" in media.explain(done)


def test_the_child_gets_its_limits(tmp_path: Path) -> None:
    done, _ = shell(tmp_path, "ulimit -v; ulimit -f; ulimit -c", memory=1 << 30, file_size=1 << 20)
    assert done.stdout.split() == ["1048576", "2048", "0"]  # the shell counts kB and half kB


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="no-such-tool"):
        media.run(["no-such-tool"], folder=tmp_path, log=lambda line: None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_from_outside_is_no_failure_of_the_task(
    tmp_path: Path, number: signal.Signals
) -> None:
    done, _ = shell(tmp_path, f"kill -{number.value} $$")
    assert (done.status, done.signal) == (-1, number)
    error = media.failure(done)
    assert isinstance(error, ProcessKilled)
    assert number.name in str(error)


def test_a_crash_is_a_failure_of_the_task(tmp_path: Path) -> None:
    done, _ = shell(tmp_path, "kill -SEGV $$")
    error = media.failure(done)
    assert isinstance(error, TaskFailed)
    assert "SIGSEGV" in str(error)
    assert error.reason is Reason.CRASHED


def test_ffmpeg_that_was_told_to_stop_counts_as_killed(tmp_path: Path) -> None:
    done = completed(255, "[info] Exiting normally, received signal 15.")
    assert isinstance(media.failure(done), ProcessKilled)


# Explaining


def completed(status: int, stderr: str) -> media.Completed:
    return media.Completed(status, 0, "", stderr, 0.0, 0, 0.0)


@pytest.mark.parametrize(
    ("stderr", "words", "retry"),
    [
        ("av_interleaved_write_frame(): No space left on device", "disk is full", True),
        ("[error] /a/b.mp4: Permission denied", "permissions", True),
        ("[fatal] Unknown encoder 'libx266'", "libx266", False),
        ("file:/a.mp4: Invalid data found when processing input", "damaged", False),
        ("[mov @ 0x5f] [error] Format not on whitelist 'mov'", "not allowed", False),
        ("x264 [error]: malloc of size 1 failed", "memory", True),
        ("[error] Something new\n[fatal] Conversion failed!", "Something new", True),
        ("", "status 1", True),
    ],
)
def test_a_failure_is_told_in_an_operators_words(stderr: str, words: str, retry: bool) -> None:
    error = media.failure(completed(1, stderr))
    assert isinstance(error, TaskFailed)
    assert words in str(error)
    assert "\n" not in str(error)
    assert error.retry is retry


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("[error] x: No space left on device", Reason.DISK_FULL),
        ("[error] x: Invalid data found when processing input", Reason.DAMAGED_SOURCE),
        ("[error] x: Permission denied", Reason.NOT_PERMITTED),
        ("[error] Unknown encoder 'x'", Reason.EXIT_STATUS),
        ("", Reason.EXIT_STATUS),
    ],
)
def test_a_failure_has_a_reason_for_programs(stderr: str, reason: Reason) -> None:
    error = media.failure(completed(1, stderr))
    assert isinstance(error, TaskFailed)
    assert error.reason is reason


def test_a_command_that_could_not_write_failed_whatever_it_says() -> None:
    media.require_written("[error] av_interleaved_write_frame(): Invalid argument")
    with pytest.raises(TaskFailed, match="disk is full"):
        media.require_written("[hls @ 0x1] [error] failed: No space left on device")


# Progress


def test_progress_reads_padded_values_and_microseconds() -> None:
    seen = media.Progress()
    lines = ["frame=   50", "out_time_us=2000000", "out_time_ms=2000000", "speed=  10x"]
    assert not any(seen.feed(line) for line in lines)
    assert seen.feed("progress=continue")
    assert (seen.seconds, seen.frame, seen.speed, seen.ended) == (2.0, 50, "10x", False)


def test_progress_keeps_what_it_knew_when_there_is_no_news() -> None:
    seen = media.Progress(seconds=2.0)
    for line in ("out_time_us=N/A", "speed=N/A", "junk", "frame=-1"):
        seen.feed(line)
    assert seen.feed("progress=end")
    assert (seen.seconds, seen.speed, seen.ended) == (2.0, "", True)


# Probing


def test_facts_of_a_plain_clip(tmp_path: Path, clips: Clips) -> None:
    facts = media.probe(clips["plain.mp4"], make_settings(tmp_path))
    assert facts["duration"] == pytest.approx(4, abs=0.1)
    (video,) = facts["video"]
    assert (video["codec"], video["width"], video["height"]) == ("h264", 320, 180)
    assert (video["frame_rate"], video["frames"], video["interlaced"]) == (25.0, 100, False)
    (audio,) = facts["audio"]
    assert (audio["codec"], audio["channels"], audio["sample_rate"]) == ("aac", 1, 48000)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("portrait.mp4", (180, 320)),
        ("anamorphic.mp4", (512, 288)),
        ("rotated.mp4", (180, 320)),
        ("odd.mkv", (321, 181)),
    ],
)
def test_sizes_are_those_that_people_see(
    tmp_path: Path, clips: Clips, name: str, size: tuple[int, int]
) -> None:
    (video,) = media.probe(clips[name], make_settings(tmp_path))["video"]
    assert (video["width"], video["height"]) == size


def test_interlaced_pictures_are_known(tmp_path: Path, clips: Clips) -> None:
    assert media.probe(clips["interlaced.mp4"], make_settings(tmp_path))["video"][0]["interlaced"]


def test_cover_art_is_no_video(tmp_path: Path, clips: Clips) -> None:
    facts = media.probe(clips["cover.mp3"], make_settings(tmp_path))
    assert facts["video"] == []
    assert len(facts["audio"]) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("playlist.mp4", "is a playlist"),
        ("concat.mp4", "is a playlist"),
        ("empty.mp4", "0 bytes"),
        ("text.mp4", "not a video or sound file"),
        ("headless.mp4", "incomplete"),
    ],
)
def test_what_is_no_media_is_refused_in_words(
    tmp_path: Path, clips: Clips, name: str, words: str
) -> None:
    with pytest.raises(TaskFailed, match=words) as caught:
        media.probe(clips[name], make_settings(tmp_path))
    assert not caught.value.retry
    assert str(caught.value).startswith(name)


def test_a_playlist_is_not_followed_by_ffmpeg_either(tmp_path: Path, clips: Clips) -> None:
    given = make_settings(tmp_path)
    argv = [
        *media.command(given),
        *media.input_arguments(clips["playlist.mp4"]),
        *("-f", "null", "-"),
    ]
    confined = Confinement(read=(clips.folder,))
    done = media.run(argv, folder=tmp_path, log=lambda line: None, confined=confined)
    assert done.status != 0
    assert "not allowed" in media.explain(done)


@pytest.mark.parametrize("name", ["-y.mp4", "http:x.mp4", "a b'\"$(x).mp4", "é.mp4", "%d.mp4"])
def test_names_cannot_become_options_or_addresses(
    tmp_path: Path, clips: Clips, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).symlink_to(clips["plain.mp4"])
    monkeypatch.chdir(tmp_path)
    assert media.probe(Path(name), make_settings(tmp_path))["video"]


@pytest.mark.parametrize(
    ("limit", "value"),
    [("pixels", 1000), ("streams", 1), ("frame_rate", 24.0), ("duration", 1.0)],
)
def test_what_exceeds_a_limit_is_refused_with_its_name(
    tmp_path: Path, clips: Clips, limit: str, value: float
) -> None:
    given = make_settings(tmp_path, limits={limit: value})
    with pytest.raises(TaskFailed, match=rf"\[limits\] {limit}"):
        media.probe(clips["plain.mp4"], given)


def test_a_file_that_has_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match=r"gone\.mp4 cannot be read: No such file"):
        media.probe(tmp_path / "gone.mp4", make_settings(tmp_path))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_clips_are_understood(tmp_path: Path, path: Path) -> None:
    facts = media.probe(path, make_settings(tmp_path))
    (video,) = facts["video"]
    assert f"{video['height']}" in path.name
    assert facts["duration"] > 5


def test_values_of_filters_survive_both_levels_of_escaping(tmp_path: Path, clips: Clips) -> None:
    odd = tmp_path / "a:b,c;[d]'e\\f.txt"
    chain = (
        f"metadata=mode=add:key=k:value=v,metadata=mode=print:file={media.filter_value(str(odd))}"
    )
    argv = [
        *media.command(make_settings(tmp_path)),
        *media.input_arguments(clips["frame.mp4"]),
        *("-vf", chain, "-f", "null", "-"),
    ]
    confined = Confinement(read=(clips.folder,), write=(tmp_path,))
    done = media.run(argv, folder=tmp_path, log=lambda line: None, confined=confined)
    assert done.status == 0
    assert "k=v" in odd.read_text()


def test_the_tools_tell_their_version_and_encoders() -> None:
    assert media.version("ffmpeg")[0].isdigit() or media.version("ffmpeg").startswith("n")
    assert {"libx264", "aac"} <= media.encoders("ffmpeg")


# Names and tags that people use


AWKWARD = {
    "a no-break space": "Bildschirmaufnahme\u00a02024",
    "a narrow no-break space": "Screen Recording 2024-01-01 at 9.41.00\u202fAM",
    "an ideographic space": "第一回\u3000開会",
    "a joined emoji": "Family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "marks of direction": "\u200f\u202eתוכנית\u202c",
    "control characters": "a\x1b[2Jb\x7f",
    "quotes and braces": '{"streams": []}\\',
    "a tag longer than a line of a log": "x" * 30_000,
}


@pytest.mark.parametrize("title", AWKWARD.values(), ids=AWKWARD.keys())
def test_any_title_is_read(tmp_path: Path, title: str) -> None:
    path = tmp_path / "clip.mp4"
    tags = ("-metadata", f"title={title}", "-metadata:s:v", f"handler_name={title}")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=1", *tags, str(path))
    assert media.probe(path, make_settings(tmp_path))["duration"] == 1.0


@pytest.mark.parametrize("name", ["a\u00a0b\u202fc.mp4", "\u200f\u202ex.mp4", "👨\u200d👩.mp4"])
def test_any_name_is_read(tmp_path: Path, clips: Clips, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(clips["plain.mp4"].read_bytes())
    assert media.probe(path, make_settings(tmp_path))["video"]


def test_an_answer_that_is_too_long_is_told_as_that(
    tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "STDOUT", 1000)
    with pytest.raises(TaskFailed, match="too many streams, chapters or tags"):
        media.probe(clips["plain.mp4"], make_settings(tmp_path))


def test_what_is_no_language_is_none(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    tags = ("-metadata:s:a", "language=\x01 <b>")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", *tags, "-c:a", "flac", str(path))
    (sound,) = media.probe(path, make_settings(tmp_path))["audio"]
    assert sound["language"] == "und"


def test_logs_keep_blanks_of_all_kinds_and_escape_marks_of_direction(tmp_path: Path) -> None:
    _, lines = shell(tmp_path, "printf 'a\\302\\240b\\342\\200\\256c\\n' >&2")
    assert lines == ["a\u00a0b\\x202ec"]


def test_what_a_file_says_of_itself_is_no_fault_of_the_disk() -> None:
    told = "[info]     comment : No space left on device\n"
    media.require_written(told)
    done = media.Completed(1, 0, "", f"{told}[error] odd thing", 0, 0, 0)
    assert media.explain(done) == "it ended with status 1: odd thing"
    with pytest.raises(TaskFailed, match="disk is full"):
        media.require_written("[mp4 @ 0x5] [error] No space left on device\n")
