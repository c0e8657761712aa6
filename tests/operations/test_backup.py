"""A backup is whole and of one moment, and becomes the same database again."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backoffice.config import loading
from backoffice.config.settings import DatabaseSettings, Settings
from backoffice.data import migrations, search, tables
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import jobs, leases
from backoffice.errors import BackofficeError, Conflict, Invalid, SchemaMismatch
from backoffice.operations import backup, restore
from backoffice.operations.backup import Archive, Manifest
from backoffice.system import pidfile
from tests.board import Board, chain
from tests.conftest import MariaDB

MEMBERS = {"manifest.json", "tables/job.jsonl.gz", "published.jsonl.gz", "files.jsonl.gz"}


@pytest.fixture
def filled(board: Board) -> Board:
    """Jobs in every state, with text that is hard to keep."""
    worker = board.worker()
    board.submit(chain("a", "b"), title="naïve — 'quoted' \\ \n 🎬", metadata={"k": "v\t\x1f"})
    board.run(worker)
    board.submit(chain("a"), key="failing")
    board.run(worker, fail={"a": "no"})
    board.submit(chain("a"), key="waiting", parameters={"colour": "ré?d %s"})
    return board


@pytest.fixture
def saved(filled: Board, tmp_path: Path) -> Path:
    path = tmp_path / "saved.backup"
    backup.write(filled.database, filled.settings, path)
    return path


def embedded_in(home: Path) -> Board:
    """For what is no matter of the database: SQLite is the quickest."""
    environ = {"DATABASE_URI": f"sqlite:{home}/database", "PATHS_HOME": str(home)}
    named = {f"BACKOFFICE_{name}": text for name, text in environ.items()}
    board = Board(loading.load(None, named))
    board.submit()
    return board


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Board]:
    board = embedded_in(tmp_path)
    yield board
    board.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup to be broken."""
    home = tmp_path_factory.mktemp("whole")
    board = embedded_in(home)
    backup.write(board.database, board.settings, home / "whole.backup")
    board.close()
    return home / "whole.backup"


def contents(database: Database, folder: Path) -> dict[str, bytes]:
    """Every table as a backup would have it now."""
    folder.mkdir()
    database.read(backup._dump, folder)
    return {p.name: p.read_bytes() for p in (folder / "tables").iterdir()}


def take_back(database: Database, settings: Settings, path: Path, **more: Any) -> list[int]:
    with backup.opened(path) as archive:
        restore.load(database, archive)
        more = {"hold": True, "actor": "tester"} | more
        return restore.finish(database, settings, archive, **more)


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = database.read(lambda s: s.execute(query, values).get_all())
    return found


def lines_of(tar: tarfile.TarFile, name: str) -> list[bytes]:
    member = tar.extractfile(name)
    assert member is not None
    return gzip.decompress(member.read()).splitlines()


def rebuilt(saved: Path, change: Callable[[dict[str, bytes]], object], to: Path) -> Path:
    """The archive with its members changed."""
    with tarfile.open(saved) as tar:
        members = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar}
    change(members)
    with tarfile.open(to, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return to


# Writing


def test_a_backup_has_a_manifest_and_is_for_its_owner_alone(saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    with tarfile.open(saved) as tar:
        assert tar.getnames()[0] == "manifest.json"
        assert set(tar.getnames()) > MEMBERS
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert manifest["rows"]["job"] == 3
    assert manifest["schema"] == 1
    assert [p.name for p in saved.parent.iterdir() if ".part" in p.name] == []


def test_its_tables_are_readable_without_the_program(saved: Path) -> None:
    with tarfile.open(saved) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
        lines = lines_of(tar, "tables/job.jsonl.gz")
    first = dict(zip(manifest["tables"]["job"], json.loads(lines[0]), strict=True))
    assert first["title"] == "naïve — 'quoted' \\ \n 🎬"


def test_it_lists_what_is_published_and_known(filled: Board, tmp_path: Path) -> None:
    filled.do(publish, "now.mp4", "published")
    filled.do(publish, "once.mp4", "retracted")
    backup.write(filled.database, filled.settings, tmp_path / "b")
    with tarfile.open(tmp_path / "b") as tar:
        lines = lines_of(tar, "published.jsonl.gz")
    (one,) = [json.loads(line) for line in lines]
    assert (one["target"], one["path"], one["sha256"]) == ("site", "now.mp4", "a" * 64)


def publish(store: Any, path: str, state: str) -> None:
    store.execute(
        "INSERT INTO publication (file_id, job_id, task_id, target, path, href, state, tree,"
        " sha256, size, published) VALUES (1, 1, 1, 'site', ?, '', ?, 0, ?, 5, ?)",
        (path, state, "a" * 64, clock(store)),
    )


def test_it_never_replaces_a_file(embedded: Board, whole: Path) -> None:
    before = whole.read_bytes()
    with pytest.raises(Conflict, match="is there already"):
        backup.write(embedded.database, embedded.settings, whole)
    assert whole.read_bytes() == before


def test_nor_one_that_comes_while_it_is_written(
    embedded: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b"
    inner = backup._pack

    def meanwhile(*args: Any) -> None:
        inner(*args)
        path.write_text("somebody's")

    monkeypatch.setattr(backup, "_pack", meanwhile)
    with pytest.raises(Conflict, match="is there already"):
        backup.write(embedded.database, embedded.settings, path)
    assert path.read_text() == "somebody's"


@pytest.mark.parametrize("taken", [False, True])
def test_a_disk_that_knows_no_links_will_do(
    taken: bool, embedded: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b"

    def link(ready: Path, final: Path) -> None:
        if taken:
            path.write_text("somebody's")
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(Conflict) if taken else nullcontext():
        backup.write(embedded.database, embedded.settings, path)
    assert (path.read_bytes() == b"somebody's") is taken


def test_what_a_killed_one_left_is_removed_by_the_next(embedded: Board, tmp_path: Path) -> None:
    left = tmp_path / ".new.part"
    (left / "tables").mkdir(parents=True)
    (left / "ready").write_text("half")
    backup.write(embedded.database, embedded.settings, tmp_path / "new")
    assert not left.exists()


def test_a_folder_that_is_missing_is_told(embedded: Board, tmp_path: Path) -> None:
    with pytest.raises(BackofficeError, match=r"no backup was made: .*No such file"):
        backup.write(embedded.database, embedded.settings, tmp_path / "none" / "b")


def test_a_full_disk_leaves_nothing(
    embedded: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small").mkdir()
    monkeypatch.setattr(backup, "_dump_table", full)
    with pytest.raises(BackofficeError, match="is full; make room"):
        backup.write(embedded.database, embedded.settings, tmp_path / "small" / "b")
    assert list((tmp_path / "small").iterdir()) == []


def full(*args: object) -> int:
    with open("/dev/full", "wb", buffering=0) as stream:
        return stream.write(b"x")


def test_a_database_without_tables_is_no_backup(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SchemaMismatch, match="nothing to back up"):
        backup.write(Database(settings.database), settings, tmp_path / "b")


def test_all_of_it_is_of_one_moment(
    filled: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that comes while tables are being read is in none of them."""
    inner = backup._dump_table

    def slow(store: Any, table: tables.Table, folder: Path) -> int:
        if table.name == "job":
            other = threading.Thread(target=one_more, args=(filled.settings,))
            other.start()
            other.join()
        return inner(store, table, folder)

    monkeypatch.setattr(backup, "_dump_table", slow)
    found = backup.write(filled.database, filled.settings, tmp_path / "b").rows
    assert (found["job"], found["task"]) == (3, 4)
    assert rows(filled.database, "SELECT COUNT(*) FROM job") == [(4,)]


def one_more(settings: Settings) -> None:
    board = Board(settings)
    board.submit(chain("late"))
    board.close()


def test_pages_have_every_row_once(
    filled: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the primary key has two columns."""
    for number in range(5):
        filled.submit(metadata={f"{n}": "x" for n in range(number)})
    expected = contents(filled.database, tmp_path / "whole")
    monkeypatch.setattr(tables, "PAGE", 2)
    assert contents(filled.database, tmp_path / "paged") == expected


# Reading


def flip(members: dict[str, bytes]) -> None:
    data = members["tables/job.jsonl.gz"]
    members["tables/job.jsonl.gz"] = data[:20] + bytes([data[20] ^ 1]) + data[21:]


def newer_format(members: dict[str, bytes]) -> None:
    manifest = json.loads(members["manifest.json"]) | {"format": 2}
    members["manifest.json"] = json.dumps(manifest).encode()


@pytest.mark.parametrize(
    "change",
    [
        flip,
        newer_format,
        lambda members: members.pop("tables/task.jsonl.gz"),
        lambda members: members.pop("manifest.json"),
        lambda members: members.update({"more": b""}),
        lambda members: members.update({"manifest.json": b"{"}),
        lambda members: members.update({"manifest.json": b"[]"}),
        lambda members: members.update({"manifest.json": b'{"format": 1}'}),
    ],
)
def test_an_archive_that_is_not_whole_is_refused(
    change: Callable[[dict[str, bytes]], object], whole: Path, tmp_path: Path
) -> None:
    broken = rebuilt(whole, change, tmp_path / "broken")
    with pytest.raises(Invalid, match="is damaged"), backup.opened(broken):
        pass


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_one_that_was_cut_off_is_refused(size: int, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:size])
    with pytest.raises(Invalid, match="is damaged"), backup.opened(tmp_path / "cut"):
        pass


def test_one_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="none: No such file"), backup.opened(tmp_path / "none"):
        pass


# Restoring


def test_what_is_restored_is_what_was_there(filled: Board, saved: Path, tmp_path: Path) -> None:
    before = contents(filled.database, tmp_path / "before")
    filled.submit(chain("later"))
    with backup.opened(saved) as archive:
        restore.load(filled.database, archive)
    assert contents(filled.database, tmp_path / "after") == before


def test_an_older_schema_is_brought_up_to_date(
    filled: Board, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = migrations.Step(2, 1, "ALTER TABLE queue ADD COLUMN note VARCHAR(9) NULL")
    every = [*migrations.steps(filled.database.dialect), newer]
    monkeypatch.setattr(migrations, "steps", lambda dialect, folder=None: every)
    take_back(filled.database, filled.settings, saved)
    assert filled.read(migrations.version) == 2
    assert not rows(filled.database, "SELECT note FROM queue")
    migrations.require_current(filled.database)


@pytest.fixture
def others(tmp_path: Path, mariadb: MariaDB) -> Iterator[dict[str, Database]]:
    """An empty database of each kind."""
    mariadb.execute("CREATE DATABASE other CHARACTER SET utf8mb4")
    uris = {"sqlite": f"sqlite:{tmp_path}/other.sqlite", "mysql": mariadb.uri("other")}
    found = {kind: Database(DatabaseSettings(uri, 10)) for kind, uri in uris.items()}
    yield found
    for database in found.values():
        database.close()
    mariadb.execute("DROP DATABASE other")


def test_it_can_move_to_the_other_kind_of_database(
    filled: Board, saved: Path, others: dict[str, Database], tmp_path: Path
) -> None:
    before = contents(filled.database, tmp_path / "before")
    other = others["sqlite" if filled.database.mysql else "mysql"]
    with backup.opened(saved) as archive:
        restore.load(other, archive)
    assert contents(other, tmp_path / "after") == before


def test_the_search_is_made_anew(filled: Board, saved: Path) -> None:
    while filled.do(search.index):
        pass
    take_back(filled.database, filled.settings, saved)
    assert filled.read(search.behind) > 0


def test_unfinished_jobs_are_held_and_go_on_when_told(filled: Board, saved: Path) -> None:
    (held,) = take_back(filled.database, filled.settings, saved)
    worker = filled.worker()
    assert filled.claim(worker) == []
    filled.do(jobs.resume, held, "tester")
    filled.run(worker)
    assert rows(filled.database, "SELECT state FROM job WHERE id = ?", held) == [("succeeded",)]


def test_without_hold_they_go_on(filled: Board, saved: Path) -> None:
    assert take_back(filled.database, filled.settings, saved, hold=False) == []
    assert len(filled.claim(filled.worker())) == 1


def test_what_was_running_is_given_back_and_its_worker_lost(board: Board, tmp_path: Path) -> None:
    job = board.submit(chain("one"))
    (claimed,) = board.claim(board.worker())
    backup.write(board.database, board.settings, tmp_path / "b")
    board.do(lambda s: s.execute("UPDATE worker SET state = 'stopped'"))
    take_back(board.database, board.settings, tmp_path / "b", hold=False)
    assert board.read(leases.current) == []
    assert rows(board.database, "SELECT state FROM worker") == [("lost",)]
    (again,) = board.claim(board.worker())
    assert (again.claim.job_id, again.claim.attempt) == (job, claimed.claim.attempt + 1)
    assert rows(board.database, "SELECT losses FROM task") == [(0,)]


def test_numbers_go_on_after_a_gap(filled: Board, saved: Path) -> None:
    """What the lost time made, and what is on the disks of it, stays apart."""
    (filled.settings.paths.logs / "attempts" / "5678").mkdir(parents=True)
    take_back(filled.database, filled.settings, saved)
    assert filled.submit(chain("new")) == restore.next_number(5678) == 8000
    assert filled.worker() == 2000


@pytest.mark.parametrize(("last", "then"), [(1, 2000), (999, 3000), (1000, 3000), (10**6, 1102000)])
def test_the_gap_is_a_tenth_and_a_thousand(last: int, then: int) -> None:
    assert restore.next_number(last) >= last + last // 10 + 1000 - 1
    assert restore.next_number(last) % 1000 == 0
    assert abs(restore.next_number(last) - then) <= 1000


def test_schedules_do_not_make_up_for_the_lost_time(board: Board, tmp_path: Path) -> None:
    then = board.clock() - timedelta(days=2)
    board.do(
        lambda s: s.execute(
            "INSERT INTO schedule (name, cron, next_run, message) VALUES ('n', '0 2 * * *', ?, '')",
            (then,),
        )
    )
    backup.write(board.database, board.settings, tmp_path / "b")
    take_back(board.database, board.settings, tmp_path / "b")
    ((due,),) = rows(board.database, "SELECT COUNT(*) FROM schedule WHERE next_run > ?", then)
    assert due == 1


def test_a_newer_schema_is_refused(filled: Board, saved: Path, tmp_path: Path) -> None:
    def newer(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"]) | {"schema": 99}
        members["manifest.json"] = json.dumps(manifest).encode()

    path = rebuilt(saved, newer, tmp_path / "newer")
    with backup.opened(path) as archive, pytest.raises(Conflict, match="upgrade it first"):
        restore.contents(filled.database, archive)


def test_tables_of_another_shape_are_refused_and_nothing_uses_the_rest(
    filled: Board, saved: Path, tmp_path: Path
) -> None:
    def other(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["tables"]["job"][-1] = "novel"
        members["manifest.json"] = json.dumps(manifest).encode()

    path = rebuilt(saved, other, tmp_path / "other")
    with backup.opened(path) as archive, pytest.raises(Conflict, match="'job' that is not"):
        restore.load(filled.database, archive)
    with pytest.raises(SchemaMismatch, match="restored by half"):
        migrations.require_current(filled.database)


def test_a_database_that_is_worked_on_is_refused(filled: Board, saved: Path) -> None:
    with backup.opened(saved) as archive, pytest.raises(Conflict, match=r"here \(process 7\)"):
        restore.contents(filled.database, archive)
    later = timedelta(seconds=-61)
    now = filled.clock() + later
    filled.do(lambda s: s.execute("UPDATE worker SET heartbeat = ?", (now,)))
    with backup.opened(saved) as archive:
        assert restore.contents(filled.database, archive)["job"] == 3


def test_the_service_must_not_run(embedded: Board) -> None:
    settings = embedded.settings
    running = pidfile.take(settings.paths.run)
    with pytest.raises(Conflict, match="is running already"), restore.alone(settings):
        pass
    running.release()
    with restore.alone(settings), pytest.raises(Conflict):
        pidfile.take(settings.paths.run)


def test_an_empty_database_has_nothing_to_lose(board: Board, saved: Path) -> None:
    board.do(lambda s: [s.execute(f"DELETE FROM {t.name}") for t in tables.known(s)])
    with backup.opened(saved) as archive:
        assert restore.contents(board.database, archive) == {}


def test_half_a_restore_is_used_by_nobody_and_can_be_repeated(
    filled: Board, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(filled.database, tmp_path / "before")
    inner = tables.replace_rows

    def broken(store: Any, table: tables.Table, some: Any) -> None:
        if table.name == "task":
            raise OSError("the power went")
        inner(store, table, some)

    monkeypatch.setattr(tables, "replace_rows", broken)
    with backup.opened(saved) as archive, pytest.raises(OSError, match="power"):
        restore.load(filled.database, archive)
    for use in (migrations.require_current, migrations.migrate, migrations.pending):
        with pytest.raises(SchemaMismatch, match="run 'backoffice restore' with the same file"):
            use(filled.database)
    monkeypatch.undo()
    with backup.opened(saved) as archive:
        assert restore.contents(filled.database, archive) == {}
        restore.load(filled.database, archive)
        assert contents(filled.database, tmp_path / "after") == before
        restore.finish(filled.database, filled.settings, archive, hold=True, actor="tester")
    migrations.require_current(filled.database)


def test_a_row_that_is_missing_is_noticed(filled: Board, saved: Path) -> None:
    with backup.opened(saved) as archive:
        more = replace(archive.manifest, rows={**archive.manifest.rows, "job": 4})
        other = Archive(saved, archive._tar, more)
        with pytest.raises(BackofficeError, match="table job has 3 rows, and the archive 4"):
            restore.load(filled.database, other)


# Recipes


@pytest.fixture
def recipes(embedded: Board, tmp_path: Path) -> Settings:
    settings = embedded.settings
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.xml").write_text("<workflow/>")
    paths = replace(settings.paths, workflows=(*settings.paths.workflows, own))
    return replace(settings, paths=paths)


@pytest.fixture
def kept(recipes: Settings, tmp_path: Path) -> Iterator[Archive]:
    board = Board(recipes)
    manifest: Manifest = backup.write(board.database, recipes, tmp_path / "b")
    board.close()
    assert "workflows/1/mine.xml" in manifest.members
    with backup.opened(tmp_path / "b") as archive:
        yield archive


def test_recipes_of_the_site_come_back(recipes: Settings, kept: Archive) -> None:
    path = recipes.paths.workflows[-1] / "mine.xml"
    assert list(restore.recipes(kept, recipes)) == []
    path.unlink()
    assert list(restore.recipes(kept, recipes)) == [f"{path} was put back"]
    assert path.read_text() == "<workflow/>"


def test_a_recipe_that_was_changed_stays(recipes: Settings, kept: Archive) -> None:
    path = recipes.paths.workflows[-1] / "mine.xml"
    path.write_text("<changed/>")
    (said,) = restore.recipes(kept, recipes)
    assert said.endswith("stays as it is")
    assert path.read_text() == "<changed/>"


def test_a_recipe_without_a_folder_stays_in_the_archive(embedded: Board, kept: Archive) -> None:
    (said,) = restore.recipes(kept, embedded.settings)
    assert "stays in the archive" in said
