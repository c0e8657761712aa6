"""The drill: jobs run, a backup is made, everything is lost, and comes back."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

from lxml import etree
from storm.locals import Store

from backoffice.data import tables
from backoffice.documents import safe_xml
from backoffice.operations import backup
from backoffice.system import files
from tests.acceptance import proc
from tests.acceptance.site import Site
from tests.clips import Clips

TABLES = ("job", "task", "attempt", "file", "publication", "job_input", "job_parameter")


def command(site: Site, *arguments: str | Path, status: int = 0) -> str:
    """What a command says; it must end like that, and without a traceback."""
    done = site.run(*map(str, arguments))
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def drop_everything(store: Store) -> None:
    dialect = "mysql" if "MySQL" in type(store.get_database()).__name__ else "sqlite"
    for name in [*tables.names(dialect), "schema_step"]:
        store.execute(f"DROP TABLE IF EXISTS {name}")


def counts(site: Site) -> dict[str, int]:
    return {table: site.rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES}


def at_target(site: Site) -> dict[Path, tuple[str, int]]:
    """Every file there, with its checksum and what tells it from a copy."""
    found = (path for path in site.publish.rglob("*") if path.is_file())
    return {path: (files.sha256(path), path.stat().st_ino) for path in found}


def test_the_drill(either_site: Site, clips: Clips, tmp_path: Path) -> None:
    """Faults 35 and 52: the same counts and hashes, and nothing published twice."""
    site, saved = either_site, tmp_path / "saved.backup"
    workflow, source = site.put(), site.source(clips["plain.mp4"])
    site.start(
        "scheduler",
        "worker",
        hold="backoffice.publishers.folder:FolderPublisher._place_all:before",
    )
    load = [site.submit(workflow, source) for _ in range(13)]
    running = site.held()  # one of them, and will publish after the backup
    command(site, "backup", saved)  # while the others run
    proc.kill(running, signal.SIGCONT)
    for job in load:
        assert site.ended(job) == "succeeded"
    refused = command(site, "restore", saved, "--replace", "--yes", status=1)
    assert "workers are at work on this database" in refused
    site.stop()
    published = at_target(site)
    assert len(published) == 13

    site.do(drop_everything)
    said = command(site, "restore", saved)
    with backup.opened(saved) as archive:
        assert counts(site) == {table: archive.manifest.rows[table] for table in TABLES}
    unfinished = [job for job in load if site.state(job) != "succeeded"]
    assert unfinished
    assert {site.state(job) for job in unfinished} == {"paused"}
    assert f"{len(unfinished)} unfinished jobs" in said
    assert said.count("publication-unknown /") == 13 - len(site.published())

    site.start("scheduler", "worker")
    site.started()
    command(site, "resume", "--state", "paused", "--yes")
    for job in unfinished:
        assert site.ended(job) == "succeeded"
    assert at_target(site) == published
    assert command(site, "reconcile") == "the database and the disks agree\n"


def test_a_database_that_holds_something_is_not_replaced_unasked(
    site: Site, clips: Clips, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.backup"
    command(site, "backup", saved)
    job = site.submit(site.put(), site.source(clips["plain.mp4"]))
    site.accepted.clear()
    assert "is not empty (jobs 1, files 1, publications 0)" in command(
        site, "restore", saved, status=1
    )
    assert "say --yes" in command(site, "restore", saved, "--replace", status=2)
    assert site.state(job) == "queued"
    command(site, "restore", saved, "--replace", "--yes")
    assert site.state(job) == "gone"
    assert "is there already" in command(site, "backup", saved, status=1)
    (tmp_path / "text").write_text("no archive")
    assert "is no backup of Backoffice" in command(site, "restore", tmp_path / "text", status=2)


def test_half_a_restore_keeps_the_service_from_starting(site: Site, tmp_path: Path) -> None:
    saved = tmp_path / "saved.backup"
    command(site, "backup", saved)
    site.do(lambda s: s.execute("INSERT INTO schema_step VALUES (0, 0, '', 'then', 'then')"))
    for part in ("serve", "migrate", "jobs"):
        assert "run 'backoffice restore' with the same file again" in command(site, part, status=4)
    command(site, "restore", saved)
    command(site, "jobs")


def test_reconciling_tells_people_and_scripts_the_same(site: Site, clips: Clips) -> None:
    site.start("scheduler", "worker")
    assert site.ended(site.submit(site.put(), site.source(clips["plain.mp4"]))) == "succeeded"
    site.stop()
    (path,) = site.published()
    shutil.move(path, path.with_name("strange.mp4"))
    said = command(site, "reconcile", status=1).splitlines()
    size = path.with_name("strange.mp4").stat().st_size
    assert said[0].startswith(f"publication-missing {path} (publication 1, ")
    assert said[1].startswith(f"publication-unknown {path.with_name('strange.mp4')} (")
    assert said[2].split() == ["KIND", "COUNT", "SIZE"]
    shown = json.loads(command(site, "reconcile", "--deep", "--json", status=1))["differences"]
    assert [(one["kind"], one["size"]) for one in shown] == [
        ("publication-missing", size),
        ("publication-unknown", size),
    ]
    root = etree.fromstring(command(site, "reconcile", "--xml", status=1).encode())
    safe_xml.validate(root, "difference")
    assert [one.get("path") for one in root] == [one["path"] for one in shown]
    shutil.move(path.with_name("strange.mp4"), path)
