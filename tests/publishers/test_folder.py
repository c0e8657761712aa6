"""The folder publisher: whole and once, or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from backoffice import publishers
from backoffice.config.settings import Target
from backoffice.errors import LeaseLost, TaskFailed
from backoffice.publishers import Item, PublishedItem, folder
from backoffice.system import files, renames


def nothing(*_: object) -> None:
    """A fence that lets through, a tick that nobody watches."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    root.mkdir()
    return root


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """A picture and a package."""
    picture = tmp_path / "still.jpg"
    picture.write_bytes(b"picture" * 1000)
    package = tmp_path / "package"
    (package / "720").mkdir(parents=True)
    (package / "master.m3u8").write_text("720/index.m3u8\n")
    (package / "720" / "index.m3u8").write_text("segment\n")
    return [
        Item(picture, "ep-1/still.jpg", files.sha256(picture)),
        Item(package, "ep-1/hls", files.tree_sha256(package), tree=True),
    ]


def publish(
    site: Path,
    items: Sequence[Item],
    *,
    token: str = "7-1",
    overwrite: bool = False,
    fence: Callable[[], None] = nothing,
    tick: Callable[[float], None] = nothing,
) -> list[PublishedItem]:
    publisher = publishers.open(Target("site", "folder", site, "", {}))
    return publisher.publish(items, token=token, overwrite=overwrite, fence=fence, tick=tick)


def retract(site: Path, item: Item, *, name: str = "", fence: Callable[[], None] = nothing) -> bool:
    publisher = publishers.open(Target("site", "folder", site, "", {}))
    return publisher.retract(
        name or item.name, sha256=item.sha256, tree=item.tree, token="9-1", fence=fence
    )


def seen(site: Path) -> list[str]:
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file())


WHOLE = ["ep-1/hls/720/index.m3u8", "ep-1/hls/master.m3u8", "ep-1/still.jpg"]


def test_everything_is_there_whole_and_readable_by_others(site: Path, items: list[Item]) -> None:
    old = os.umask(0o077)
    try:
        outcomes = publish(site, items)
    finally:
        os.umask(old)
    assert seen(site) == WHOLE
    assert [(o.name, o.sha256, o.adopted) for o in outcomes] == [
        (i.name, i.sha256, False) for i in items
    ]
    for path in site.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


def test_progress_rises_to_one(site: Path, items: list[Item]) -> None:
    parts: list[float] = []
    publish(site, items, tick=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1.0


def test_nothing_is_visible_before_the_fence(site: Path, items: list[Item]) -> None:
    def fence() -> None:
        assert not (site / "ep-1").exists()
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        publish(site, items, fence=fence)
    assert list(site.iterdir()) == []


def test_what_is_there_with_the_same_content_is_adopted(site: Path, items: list[Item]) -> None:
    publish(site, items)
    before = (site / "ep-1/still.jpg").stat().st_ino
    outcomes = publish(site, items, token="8-1")
    assert all(o.adopted for o in outcomes)
    assert (site / "ep-1/still.jpg").stat().st_ino == before


@pytest.mark.parametrize("name", ["ep-1/still.jpg", "ep-1/hls/master.m3u8"])
def test_other_content_is_refused_and_nothing_is_changed(
    site: Path, items: list[Item], name: str
) -> None:
    (site / name).parent.mkdir(parents=True)
    (site / name).write_text("other")
    with pytest.raises(TaskFailed, match="already there with other content") as caught:
        publish(site, items)
    assert not caught.value.retry
    assert seen(site) == [name]
    assert (site / name).read_text() == "other"


def test_other_content_is_replaced_when_asked(site: Path, items: list[Item]) -> None:
    (site / "ep-1/hls").mkdir(parents=True)
    (site / "ep-1/hls/old.ts").write_text("old")
    (site / "ep-1/still.jpg").write_text("old")
    publish(site, items, overwrite=True)
    assert seen(site) == WHOLE


def test_an_empty_folder_in_the_way_is_nobodys_content(site: Path, items: list[Item]) -> None:
    (site / "ep-1/hls").mkdir(parents=True)
    publish(site, items)
    assert seen(site) == WHOLE


@pytest.mark.parametrize("supported", [True, False])
def test_content_that_comes_at_the_last_moment_is_not_overwritten(
    site: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    if not supported:
        monkeypatch.setattr(renames, "_renameat2", unsupported)

    def rival() -> None:
        (site / "ep-1/hls").mkdir(parents=True, exist_ok=True)
        (site / "ep-1/hls/rival.ts").write_text("rival")

    with pytest.raises(TaskFailed, match="already there"):
        publish(site, items, fence=rival)
    assert seen(site) == ["ep-1/hls/rival.ts"]


def unsupported(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("overwrite", [False, True])
def test_file_systems_without_renameat2_do_too(
    site: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    monkeypatch.setattr(renames, "_renameat2", unsupported)
    if overwrite:
        (site / "ep-1/hls").mkdir(parents=True)
        (site / "ep-1/hls/old.ts").write_text("old")
        (site / "ep-1/still.jpg").write_text("old")
    publish(site, items, overwrite=overwrite)
    assert seen(site) == WHOLE
    assert list(site.glob(".*")) == []


def test_a_source_that_changed_is_not_published(site: Path, items: list[Item]) -> None:
    items[0].path.write_text("changed")
    with pytest.raises(TaskFailed, match="has changed"):
        publish(site, items)
    assert list(site.iterdir()) == []


def test_a_link_in_a_package_is_refused(site: Path, items: list[Item]) -> None:
    (items[1].path / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(TaskFailed, match="link or device"):
        publish(site, items)
    assert list(site.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/x", "", "a//b", "./a", "a\0b", "a\nb", ".backoffice-1-1/x"]
)
def test_names_that_lead_elsewhere_are_refused(site: Path, items: list[Item], name: str) -> None:
    with pytest.raises(TaskFailed):
        publish(site, [Item(items[0].path, name)])
    with pytest.raises(TaskFailed):
        publishers.check_name(name)
    assert list(site.iterdir()) == []


def test_a_link_in_the_target_must_not_lead_out(
    site: Path, tmp_path: Path, items: list[Item]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (site / "ep-1").symlink_to(outside)
    with pytest.raises(TaskFailed, match="leads out"):
        publish(site, items)
    assert list(outside.iterdir()) == []


def test_a_missing_target_is_named(tmp_path: Path, items: list[Item]) -> None:
    with pytest.raises(TaskFailed, match="folder of target site is missing") as caught:
        publish(tmp_path / "away", items)
    assert caught.value.retry
    assert not (tmp_path / "away").exists()


def test_two_items_of_one_name_are_refused(site: Path, items: list[Item]) -> None:
    with pytest.raises(TaskFailed, match="two files"):
        publish(site, [items[0], items[0]])


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, items: list[Item]) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        big = tmp_path / "big"
        big.write_bytes(bytes(1 << 20))
        with pytest.raises(TaskFailed, match="disk of target site is full") as caught:
            publish(mount, [*items, Item(big, "ep-1/big")])
        assert caught.value.retry
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_failure_while_placing_takes_back_what_was_placed(
    site: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = folder.rename_new

    def fail_for_the_package(source: Path, final: Path) -> None:
        if final.name == "hls":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, final)

    monkeypatch.setattr(folder, "rename_new", fail_for_the_package)
    with pytest.raises(TaskFailed, match="full"):
        publish(site, items)
    assert list(site.iterdir()) == []


def test_leftovers_go_and_the_living_stay(site: Path, items: list[Item]) -> None:
    for name in (".backoffice-7-1", ".backoffice-3-1"):
        (site / name).mkdir()
        (site / name / "0").write_text("half")

    def fence() -> None:
        assert [p.name for p in site.glob(".*")] == [".backoffice-7-2"]
        publish(site, [Item(items[0].path, "other.jpg")], token="8-1")

    publish(site, items, token="7-2", fence=fence)
    assert list(site.glob(".*")) == []
    assert seen(site) == [*WHOLE, "other.jpg"]


def test_what_a_dead_attempt_left_is_told_and_cleared(site: Path, items: list[Item]) -> None:
    dead = site / ".backoffice-3-1"
    (dead / "0").mkdir(parents=True)
    publisher = publishers.open(Target("site", "folder", site, "", {}))
    assert publisher.staged() == ["3-1"]
    assert publisher.clear("3-1")
    assert not publisher.clear("3-1")
    assert list(site.iterdir()) == []


def test_what_a_living_attempt_has_staged_is_told_and_stays(site: Path, items: list[Item]) -> None:
    publisher = publishers.open(Target("site", "folder", site, "", {}))

    def fence() -> None:
        assert publisher.staged() == ["7-1"]
        assert not publisher.clear("7-1")

    publish(site, items, fence=fence)
    assert seen(site) == WHOLE


def test_a_target_that_is_not_there_has_nothing_staged(tmp_path: Path) -> None:
    publisher = publishers.open(Target("site", "folder", tmp_path / "away", "", {}))
    assert publisher.staged() == []


def audited(site: Path, items: list[Item], stop: int) -> int:
    """Publish in a process that dies at the ``stop``th call to the system."""
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event.startswith(("open", "os.", "shutil.", "fcntl.")):
                count += 1
                if count == stop:
                    os._exit(9)

        sys.addaudithook(hook)
        publish(site, items, overwrite=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def crashes(site: Path, items: list[Item]) -> Iterator[int]:
    stop = 1
    while audited(site, items, stop) == 9:
        yield stop
        stop += 1


@pytest.mark.parametrize("before", [False, True])
def test_killed_at_any_moment_then_run_again_gives_one_whole_publication(
    site: Path, items: list[Item], before: bool
) -> None:
    count = 0

    def reset() -> None:
        subprocess.run(["rm", "-rf", str(site)], check=True)
        site.mkdir()
        if before:
            (site / "ep-1/hls").mkdir(parents=True)
            (site / "ep-1/hls/old.ts").write_text("old")
            (site / "ep-1/still.jpg").write_text("old")

    reset()
    for _ in crashes(site, items):
        count += 1
        still = site / "ep-1/still.jpg"
        assert not still.exists() or still.read_bytes() in (b"old", items[0].path.read_bytes())
        publish(site, items, token="7-2", overwrite=before)
        assert seen(site) == WHOLE
        assert list(site.glob(".*")) == []
        reset()
    assert count > 30


def test_retracting_removes_it_and_the_folders_it_leaves_empty(
    site: Path, items: list[Item]
) -> None:
    publish(site, items)
    assert retract(site, items[1])
    assert seen(site) == ["ep-1/still.jpg"]
    assert retract(site, items[0])
    assert list(site.iterdir()) == []


def test_retracting_again_is_fine(site: Path, items: list[Item]) -> None:
    assert not retract(site, items[0])


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_changed_since_is_not_removed(site: Path, items: list[Item], number: int) -> None:
    publish(site, items)
    changed = ["ep-1/still.jpg", "ep-1/hls/720/index.m3u8"][number]
    (site / changed).write_text("precious")
    with pytest.raises(TaskFailed, match="no longer what was published"):
        retract(site, items[number])
    assert seen(site) == WHOLE


def test_retracting_asks_the_fence(site: Path, items: list[Item]) -> None:
    def fence() -> None:
        raise LeaseLost("another worker has it")

    publish(site, items)
    with pytest.raises(LeaseLost):
        retract(site, items[0], fence=fence)
    assert seen(site) == WHOLE


def test_links_to_people_are_encoded(site: Path) -> None:
    publisher = publishers.open(Target("site", "folder", site, "https://a.example/v/", {}))
    assert publisher.href("ep 1/ü?.jpg") == "https://a.example/v/ep%201/%C3%BC%3F.jpg"
    local = publishers.open(Target("site", "folder", site, "", {}))
    assert local.href("ep 1/a.jpg") == f"file://{site}/ep%201/a.jpg"
