"""A whole installation in a private folder, with real processes.

It starts and ends the parts, submits jobs, looks into the database, and at
its end holds everything that is there against what must always be true.
"""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from storm.locals import Store

from backoffice.config import loading
from backoffice.config.settings import DatabaseSettings, Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.data.sql import clock, moment
from backoffice.engine import catalogue, leases, submission
from backoffice.states import JOB_ENDED
from backoffice.system import files
from tests.acceptance import proc
from tests.acceptance.proc import wait_for

ROOT = Path(__file__).resolve().parents[2]
LEASE = 2.0
POLL = 0.2  # of the scheduler


class Task(NamedTuple):
    id: int
    name: str
    state: str
    attempt: int
    losses: int
    message: str
    progress: float


class Attempt(NamedTuple):
    task: str
    number: int
    state: str
    message: str
    worker: int
    finished: str | None
    cpu: float | None
    memory: int | None


class Site:
    def __init__(self, home: Path, uri: str) -> None:
        self.home = home
        self.media = home / "media"
        self.publish = home / "publish"
        self.work = home / "work"
        self.logs = home / "logs"
        for folder in (self.media, self.publish, home / "recipes"):
            folder.mkdir(parents=True)
        self.sections: dict[str, dict[str, str]] = {
            "database": {"uri": uri, "timeout": "5s"},
            "paths": {
                "home": str(home),
                "roots": "media",
                "work": "work",
                "logs": "logs",
                "workflows": "recipes",
            },
            "service": {"parts": "scheduler worker"},
            "worker": {
                "lease": f"{LEASE}s",
                "heartbeat": "0.5s",
                "poll": "0.05s",
                "grace": "5s",
            },
            "scheduler": {"poll": f"{POLL}s"},
            "tools": {"threads": "1"},
            "target site": {"path": str(self.publish)},
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.accepted: list[int] = []
        self._settings: Settings | None = None
        self._database: Database | None = None

    # Settings and recipes

    def set(self, section: str, **values: str) -> None:
        self.sections.setdefault(section, {}).update(values)
        self._settings = None

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            parser = configparser.RawConfigParser()
            parser.read_dict(self.sections)
            self.ini.touch(0o600)  # it may hold secrets
            with open(self.ini, "w") as stream:
                parser.write(stream)
            self._settings = loading.load(str(self.ini), {})
        return self._settings

    @property
    def ini(self) -> Path:
        return self.home / "backoffice.ini"

    def recipe(self, name: str, tasks: str, inputs: str = '<input role="source"/>') -> str:
        """Add a workflow made of the XML ``tasks``."""
        (self.home / "recipes" / f"{name}.xml").write_text(
            f'<workflow xmlns="urn:backoffice:1" name="{name}" version="1">{inputs}{tasks}'
            "</workflow>"
        )
        return name

    def command(self, name: str, script: str, **attributes: str) -> str:
        """Add a workflow of one task that runs a shell script, which may do everything."""
        path = self.home / f"{name}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.set(f"command {name}", argv=str(path), confine="no")
        more = "".join(f' {key}="{value}"' for key, value in attributes.items())
        return self.recipe(
            name,
            f'<task name="run" type="command"{more}>'
            f'<parameter name="command">{name}</parameter></task>',
            inputs="",
        )

    def put(self, attempts: int = 5) -> str:
        """A workflow that does nothing but publish what it is given."""
        return self.recipe(
            "put",
            f'<task name="publish" type="publish" attempts="{attempts}" backoff="200ms">'
            '<input role="source"/><parameter name="target">site</parameter></task>',
            inputs='<input role="source" max="20"/>',
        )

    # The database, from beside the program

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = Database(self.settings.database)
            migrations.migrate(self._database)
        return self._database

    def look_at(self, uri: str) -> None:
        """Look at the database by another way than the program goes."""
        self._database = Database(DatabaseSettings(uri, 5))
        migrations.migrate(self._database)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.database.transact(function, *args)

    def rows(self, query: str, *values: Any) -> list[Any]:
        def read(store: Store) -> list[Any]:
            return list(store.execute(query, values).get_all())

        return self.database.read(read)

    def state(self, job: int) -> str:
        rows = self.rows("SELECT state FROM job WHERE id = ?", job)
        return str(rows[0][0]) if rows else "gone"

    def message(self, job: int) -> str:
        return str(self.rows("SELECT message FROM job WHERE id = ?", job)[0][0])

    def tasks(self, job: int) -> dict[str, Task]:
        rows = self.rows(
            "SELECT id, name, state, attempt, losses, message, progress FROM task"
            " WHERE job_id = ? ORDER BY id",
            job,
        )
        return {row[1]: Task(*row) for row in rows}

    def task(self, job: int, name: str) -> Task:
        return self.tasks(job)[name]

    def attempts(self, job: int) -> list[Attempt]:
        rows = self.rows(
            "SELECT t.name, a.number, a.state, a.message, a.worker_id, a.finished, a.cpu_seconds,"
            " a.peak_memory FROM attempt a JOIN task t ON t.id = a.task_id"
            " WHERE t.job_id = ? ORDER BY a.id",
            job,
        )
        return [Attempt(*row) for row in rows]

    def published(self, job: int | None = None) -> list[Path]:
        """Where what is published now should be."""
        query = "SELECT path, tree FROM publication WHERE state = 'published'"
        rows = self.rows(query + (" AND job_id = ?" if job else ""), *([job] if job else []))
        return [self.publish / path for path, _ in rows]

    # Jobs

    def prepare(self, workflow: str, *sources: Path, **request: Any) -> submission.PreparedJob:
        asked = submission.JobRequest(
            workflow=workflow, inputs=[("source", str(source)) for source in sources], **request
        )
        recipes = catalogue.load(self.settings).workflows
        return submission.prepare(asked, recipes, self.settings.paths.roots)

    def submit(self, workflow: str, *sources: Path, **request: Any) -> int:
        job: int = self.do(
            submission.submit, self.prepare(workflow, *sources, **request), "tester"
        )[0]
        self.accepted.append(job)
        return job

    def source(self, clip: Path, name: str = "") -> Path:
        """A copy of a clip that jobs may read."""
        return Path(shutil.copy(clip, self.media / (name or clip.name)))

    def ended(self, job: int, seconds: float = 60) -> str:
        """Wait for the end of a job; its state."""
        wait_for(lambda: self.state(job) in JOB_ENDED, f"job {job} ends", seconds)
        return self.state(job)

    def running(self, job: int, name: str, seconds: float = 30) -> None:
        wait_for(lambda: self.task(job, name).state == "running", f"{name} runs", seconds)

    # Processes

    def start(self, *parts: str, hold: str = "", **environ: str) -> subprocess.Popen[bytes]:
        """Start parts of the program; the last one is returned."""
        _ = self.database  # it has its tables
        with open(self.home / "log", "ab") as log:
            for part in parts:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "tests.acceptance.launch",
                        part,
                        *([hold] if hold else []),
                    ],
                    cwd=self.home,
                    env=self.environment | environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self.processes.append(process)
        return process

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command of the command line, to its end."""
        _ = self.database
        return subprocess.run(
            [sys.executable, "-P", "-m", "backoffice", *arguments],
            cwd=self.home,
            env=self.environment | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BACKOFFICE_", "BO_"))}
        _ = self.settings  # the file is written
        return kept | {"PYTHONPATH": str(ROOT), "BACKOFFICE_CONFIG": str(self.ini)}

    def started(self, count: int = 1) -> None:
        """Wait until so many workers have come to life."""
        wait_for(
            lambda: self.rows("SELECT COUNT(*) FROM worker WHERE state = 'active'")[0][0] >= count,
            f"{count} workers are active",
        )

    def held(self) -> int:
        """Wait until a process has come to where it is held; its id."""
        marker = self.home / "held"

        def stopped() -> bool:
            pid = marker.read_text() if marker.exists() else ""
            return bool(pid) and proc.state(int(pid)) == "T"

        wait_for(stopped, "a process comes to where it is held")
        return int(marker.read_text())

    def ffmpegs(self) -> list[int]:
        return [pid for pid in proc.beneath(self.home) if proc.command(pid)[:1] == ["ffmpeg"]]

    def encoding(self, seconds: float = 30) -> int:
        """Wait for an ffmpeg that encodes; its id."""

        def found() -> list[int]:
            return [pid for pid in self.ffmpegs() if "libx264" in proc.command(pid)]

        wait_for(found, "an ffmpeg encodes", seconds)
        pids = found()
        return pids[0] if pids else self.encoding(seconds)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """kill -9, and gone."""
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all parts in good order, or by force."""
        living = [p for p in self.processes if p.poll() is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        try:
            for process in living:
                process.wait(timeout=15)
        finally:
            for process in living:
                process.kill()
                process.wait()

    def log(self) -> str:
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    # What must always be true

    def check(self) -> None:
        """Every invariant; to be asked when everything has come to rest."""
        if self._database is None:
            return
        self._check_jobs()
        self._check_leases()
        self.stop()
        left = proc.beneath(self.home)
        assert not left, f"left running: {[proc.command(pid) for pid in left]}"
        self._check_publications()
        self._check_target()
        self._check_work()
        assert "Traceback" not in self.log(), "a part of the program met something unexpected"

    def _check_jobs(self) -> None:
        for job in self.accepted:
            assert self.state(job) in JOB_ENDED, f"job {job} is {self.state(job)}"
        open_ones = self.rows(
            "SELECT t.job_id, t.name, a.number FROM attempt a JOIN task t ON t.id = a.task_id"
            " WHERE a.state = 'running' OR a.finished IS NULL"
        )
        assert open_ones == [], "attempts that were never closed"
        gaps = self.rows(
            "SELECT t.id, t.attempt, COUNT(a.id) FROM task t LEFT JOIN attempt a"
            " ON a.task_id = t.id GROUP BY t.id, t.attempt HAVING COUNT(a.id) <> t.attempt"
        )
        assert gaps == [], "attempts that are not in the history"

    def _check_leases(self) -> None:
        late = self.do(leases.current)
        now = self.do(clock)
        limit = timedelta(seconds=2 * POLL)
        assert [one for one in late if one.until + limit < now] == [], "claims past their lease"

    def _check_publications(self) -> None:
        twice = self.rows(
            "SELECT target, path, COUNT(*) FROM publication WHERE state = 'published'"
            " GROUP BY target, path HAVING COUNT(*) > 1"
        )
        assert twice == [], "published twice"
        for path, tree, sha256 in self.rows(
            "SELECT path, tree, sha256 FROM publication WHERE state = 'published'"
        ):
            place = self.publish / path
            found = files.tree_sha256(place) if tree else files.sha256(place)
            assert found == sha256, f"{path} is not what was published"

    def _check_target(self) -> None:
        """No more there than what is published, and nothing half done."""
        known = self.published()
        for path in self.publish.rglob("*"):
            assert not path.name.startswith(".backoffice-"), f"staging was left: {path}"
            if path.is_file() and not path.name.startswith("strange"):
                assert any(path.is_relative_to(one) for one in known), f"nobody published {path}"

    def _check_work(self) -> None:
        """No attempt's folder is left but those whose outputs were accepted."""
        made = [
            Path(unquote(urlsplit(href).path)).parent
            for (href,) in self.rows("SELECT href FROM file WHERE task_id IS NOT NULL")
        ]
        for folder in self.work.glob("jobs/*/*"):
            assert any(one.is_relative_to(folder) for one in made), f"left behind: {folder}"

    def close(self) -> None:
        """Whatever happened: leave nothing behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in proc.beneath(self.home):
            proc.kill(pid)
        if self._database is not None:
            self._database.close()


def finished(value: object) -> object:
    """A time out of a row, comparable on both databases."""
    return moment(value) if isinstance(value, str) else value


def argv(pids: Sequence[int]) -> list[list[str]]:
    return [proc.command(pid) for pid in pids]
