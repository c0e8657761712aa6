"""Jobs in a database, moved on step by step as workers would move them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from storm.locals import Store

from backoffice.config.settings import Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import claims, outcomes, submission, worker_registry
from backoffice.engine.claims import Claim, ClaimedTask
from backoffice.engine.outcomes import Outcome
from backoffice.engine.workflows import InputRef, InputSpec, ParameterSpec, TaskSpec, Workflow
from backoffice.states import FAILED, SUCCEEDED
from backoffice.tasks import Output, Result


def chain(*names: str, name: str = "chain", **changes: Any) -> Workflow:
    """Tasks that do nothing, each after the one before; ``changes`` are theirs."""
    tasks = [
        TaskSpec(name=one, type="noop", needs=tuple(names[:n][-1:]), **changes)
        for n, one in enumerate(names)
    ]
    return recipe(*tasks, name=name)


def recipe(*tasks: TaskSpec, name: str = "chain", inputs: Sequence[InputSpec] = ()) -> Workflow:
    return Workflow(
        name=name,
        version=1,
        title=name.capitalize(),
        description="",
        inputs=tuple(inputs),
        parameters=(ParameterSpec("colour"),),
        tasks=tasks,
        source="test",
    )


SOURCE = InputRef("source")
ENCODE = recipe(
    TaskSpec(name="encode", type="noop", inputs=(SOURCE,)),
    name="encode",
    inputs=(InputSpec("source"),),
)


def made_file(
    href: str,
    name: str,
    role: str,
    media_type: str,
    tree: bool = False,
    size: int = 0,
    sha256: str = "",
    facts: Mapping[str, Any] | None = None,
) -> Output:
    """An output as the executor has measured it."""
    path = Path(href.removeprefix("file://"))
    assert path.name == name
    return Output(role, path, media_type, tree, facts or {}, size, sha256)


RESULT = {field.name for field in fields(Result)}


class Board:
    """A migrated database and what can be done to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database)
        migrations.migrate(self.database)

    def read(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.database.read(function, *args, **kwargs)

    def do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.database.transact(function, *args, **kwargs)

    def submit(
        self,
        workflow: Workflow | None = None,
        *,
        inputs: Sequence[tuple[str, str]] = (),
        submitter: str = "tester",
        **request: Any,
    ) -> int:
        workflow = workflow or chain("one", "two")
        asked = submission.JobRequest(workflow=workflow.name, inputs=inputs, **request)
        prepared = submission.prepare(asked, {workflow.name: workflow}, self.settings.paths.roots)
        job: int = self.do(submission.submit, prepared, submitter)[0]
        return job

    def worker(
        self,
        *,
        host: str = "here",
        pid: int = 7,
        queues: Sequence[str] = ("*",),
        tags: Sequence[str] = (),
        slots: int = 2,
    ) -> int:
        worker: int = self.do(
            lambda store: worker_registry.register(
                store,
                clock(store),
                host=host,
                pid=pid,
                slots=slots,
                queues=queues,
                tags=tags,
                lease=60,
                version="1",
            )
        )
        return worker

    def claim(self, worker: int, limit: int = 1) -> list[ClaimedTask]:
        return self.do(self._claim, worker, limit)  # type: ignore[no-any-return]

    @staticmethod
    def _claim(store: Store, worker: int, limit: int) -> list[ClaimedTask]:
        host, queues, tags = store.execute(
            "SELECT host, queues, tags FROM worker WHERE id = ?", (worker,)
        ).get_one()
        lanes = claims.lanes(store, queues.split(), tags.split())
        take = claims.waiting(store, lanes, limit)
        return claims.claim(store, worker, host, take, 60, clock(store))

    def finish(
        self,
        held: Claim,
        state: str = SUCCEEDED,
        message: str = "",
        **given: Any,
    ) -> None:
        """``given`` are further fields of the Outcome, or of its Result."""
        made = {name: given.pop(name) for name in RESULT & given.keys()}
        outcome = Outcome(state, message, result=Result(**made), **given)
        assert self.do(lambda store: outcomes.finish(store, held, outcome, clock(store)))

    def run(self, worker: int, *, fail: Mapping[str, str] | None = None) -> None:
        """Claim and finish whatever can run; tasks named in ``fail`` fail for good."""
        while claimed := self.claim(worker, 10):
            for one in claimed:
                if message := (fail or {}).get(one.name):
                    self.finish(one.claim, FAILED, message, retry=False)
                else:
                    self.finish(one.claim)

    def clock(self) -> datetime:
        now: datetime = self.read(clock)
        return now

    def age(self, job: int, by: timedelta) -> None:
        """Let the end of a job lie further back."""
        then = self.clock() - by
        self.do(lambda s: s.execute("UPDATE job SET finished = ? WHERE id = ?", (then, job)))

    def close(self) -> None:
        self.database.close()
