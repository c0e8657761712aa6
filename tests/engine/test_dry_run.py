from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from backoffice.config import loading
from backoffice.engine import catalogue, dry_run, submission
from backoffice.engine.dry_run import DryTask
from tests.clips import Clips


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


def plan(folder: Path, workflow: str, *files: Path, **parameters: str) -> dict[str, DryTask]:
    settings = loading.load(
        None,
        {
            "BACKOFFICE_PATHS_HOME": str(folder),
            "BACKOFFICE_PATHS_ROOTS": ":".join({str(file.parent) for file in files}),
        },
    )
    request = submission.JobRequest(
        workflow=workflow,
        inputs=[("source", str(file)) for file in files],
        parameters=parameters,
    )
    known = catalogue.load(settings)
    prepared = submission.prepare(request, known.workflows, settings.paths.roots)
    return {task.name: task for task in dry_run.plan(prepared, settings)}


def test_a_whole_workflow_is_planned_with_exact_commands(tmp_path: Path, clips: Clips) -> None:
    done = plan(tmp_path, "web-video", clips["plain.mp4"])
    assert [t for t in done.values() if t.fails] == []
    (command,) = done["rung"].commands
    assert command[0] == "ffmpeg"
    assert f"file:{clips['plain.mp4']}" in command
    (made,) = done["rung"].outputs
    assert made.parent == tmp_path / "var/work/jobs/JOB/rung-1"
    assert f"file:{made}" in done["package"].commands[0]
    assert any(note.endswith("/job-JOB/hls/master.m3u8") for note in done["publish"].notes)


def test_tasks_whose_conditions_do_not_hold_are_skipped(tmp_path: Path, clips: Clips) -> None:
    done = plan(tmp_path, "web-video", clips["plain.mp4"])
    assert done["notify"].skipped_because is not None
    assert done["notify"].commands == ()


def test_variants_whose_conditions_do_not_hold_are_told(tmp_path: Path, clips: Clips) -> None:
    notes = plan(tmp_path, "web-video", clips["plain.mp4"])["rung"].notes
    assert "leaves out 720: not source.lines is at least 648" in notes
    assert not any(note.startswith("leaves out 360") for note in notes)


def test_nothing_is_written(tmp_path: Path, clips: Clips) -> None:
    plan(tmp_path, "web-video", clips["plain.mp4"])
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_would_fail_says_why_and_stops_what_follows(
    tmp_path: Path, clips: Clips
) -> None:
    done = plan(tmp_path, "web-video", clips["sound.m4a"])
    assert "has sound but no picture" in done["probe"].fails
    assert done["check"].fails == "is not reached: it needs probe"
    assert done["publish"].fails


def test_a_profile_that_does_not_fit_is_found(tmp_path: Path, clips: Clips) -> None:
    done = plan(tmp_path, "transcode", clips["sound.m4a"], profile="mp4-360")
    assert done["transcode"].fails


@pytest.mark.parametrize(
    ("workflow", "names"),
    [
        ("transcode", ["plain.mp4"]),
        ("audio", ["sound.wav"]),
        ("proxy", ["portrait.mp4"]),
        ("publish-only", ["plain.mp4", "sound.wav"]),
    ],
)
def test_every_shipped_workflow_can_be_planned(
    tmp_path: Path, clips: Clips, workflow: str, names: Sequence[str]
) -> None:
    done = plan(tmp_path, workflow, *(clips[name] for name in names), target="site")
    assert [t for t in done.values() if t.fails] == []


def test_a_retraction_says_what_it_would_look_for(tmp_path: Path) -> None:
    done = plan(tmp_path, "retract", publication="3 4")
    assert done["retract"].notes == ["retracts these publications if they are there: 3 4"]
