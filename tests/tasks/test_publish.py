"""Publishing tasks: where things go, and what comes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backoffice.config.settings import Target
from backoffice.errors import LeaseLost, TaskFailed
from backoffice.system import files
from backoffice.tasks import Job, Source, publish
from tests.tasks.context import FakeContext, make_context, settings


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    root.mkdir()
    return root


def context(tmp_path: Path, site: Path, **parameters: str) -> FakeContext:
    target = Target("site", "folder", site, "https://v.example", {})
    given = replace(settings(tmp_path), targets={"site": target})
    package = tmp_path / "package"
    package.mkdir()
    (package / "master.m3u8").write_text("#EXTM3U\n")
    still = tmp_path / "still.jpg"
    still.write_bytes(b"jpeg")
    found = make_context(tmp_path, settings=given)
    found.parameters = {"target": "site", **parameters}
    found.sources = [
        Source(
            "hls",
            package / "master.m3u8",
            task="package",
            tree=True,
            sha256=files.tree_sha256(package),
        ),
        Source("thumbnail", still, task="thumbnails", name="still.jpg"),
    ]
    found.job = Job(12, "web-video", "Épisode 1", "ep-1", "alice", {})
    return found


def test_a_package_goes_into_a_folder_by_its_role(tmp_path: Path, site: Path) -> None:
    run = context(tmp_path, site)
    result = publish.run(run)
    assert [(p.path, p.href) for p in result.published] == [
        ("ep-1/hls", "https://v.example/ep-1/hls/master.m3u8"),
        ("ep-1/still.jpg", "https://v.example/ep-1/still.jpg"),
    ]
    assert (site / "ep-1/hls/master.m3u8").is_file()
    assert run.fences == 1
    assert result.published[1].size == 4


def test_the_plan_names_what_will_be_and_touches_nothing(tmp_path: Path, site: Path) -> None:
    notes = publish.plan(context(tmp_path, site)).notes
    assert "https://v.example/ep-1/hls/master.m3u8" in notes[0]
    assert list(site.iterdir()) == []


def test_a_rerun_adopts(tmp_path: Path, site: Path) -> None:
    run = context(tmp_path, site)
    publish.run(run)
    assert all(p.adopted for p in publish.run(replace(run, attempt=2)).published)


def test_a_lost_lease_publishes_nothing(tmp_path: Path, site: Path) -> None:
    with pytest.raises(LeaseLost):
        publish.run(replace(context(tmp_path, site), ours=False))
    assert list(site.iterdir()) == []


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("", "ep-1"),
        ("{id}", "12"),
        ("{workflow}/{title}", "web-video/Épisode-1"),
        ("/shows/{key}/", "shows/ep-1"),
    ],
)
def test_the_folder_follows_its_template(
    tmp_path: Path, site: Path, template: str, folder: str
) -> None:
    result = publish.run(context(tmp_path, site, folder=template))
    assert result.published[1].path == f"{folder}/still.jpg"


@pytest.mark.parametrize("key", ["../../etc", "/etc", "..", "a/../b", ".backoffice-1-1", "\0"])
def test_a_key_cannot_lead_out_of_the_target(tmp_path: Path, site: Path, key: str) -> None:
    run = context(tmp_path, site)
    run.job = replace(run.job, key=key)
    publish.run(run)
    assert all(len(p.relative_to(site).parts) <= 3 for p in site.rglob("*"))
    assert [p for p in tmp_path.iterdir() if p.name not in ("site", "package", "private")] == [
        tmp_path / "still.jpg"
    ]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"target": "moon"}, "no target 'moon'; there are site"),
        ({"folder": "../up"}, "no name for a published file"),
        ({"folder": "{secret}"}, "{secret}"),
        ({"overwrite": "perhaps"}, "overwrite is true or false"),
    ],
)
def test_refusals(tmp_path: Path, site: Path, parameters: dict[str, str], reason: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        publish.run(context(tmp_path, site, **parameters))
    assert reason in str(caught.value)
    assert not caught.value.retry
    assert list(site.iterdir()) == []


def test_nothing_to_publish_is_a_failure(tmp_path: Path, site: Path) -> None:
    run = context(tmp_path, site)
    run.sources = []
    with pytest.raises(TaskFailed, match="nothing to publish"):
        publish.run(run)


def test_files_of_users_with_one_name_are_numbered(tmp_path: Path, site: Path) -> None:
    run = context(tmp_path, site)
    sources = []
    for number in (1, 2):
        path = tmp_path / f"{number}" / "a.mp4"
        path.parent.mkdir()
        path.write_text(f"{number}")
        sources.append(Source("source", path))
    run.sources = sources
    assert [p.path for p in publish.run(run).published] == ["ep-1/a.mp4", "ep-1/a-2.mp4"]


def test_a_slug_is_bounded_and_whole_characters() -> None:
    assert len(publish.slug("ü" * 500).encode()) <= 100
    assert publish.slug("--. a / b ..") == "a-b"
    assert publish.slug("///") == ""
