"""Tasks over HTTP: show, attempts, logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from storm.locals import Store

from backoffice.reports import records, why
from backoffice.reports.records import Record
from backoffice.web import content
from backoffice.web.handlers import Handlers
from backoffice.web.pages import tasks as task_pages


class Tasks(Handlers):
    def index(self) -> list[Record]:
        query = self.context.query
        return self.newest(_newest_tasks, state=query.get("state"), job=query.get("job"))

    def show(self, id: int) -> Record:
        return records.task(self.store, id)

    def attempts(self, id: int) -> list[Record]:
        return records.attempts(self.store, id)

    def compare(self, id: int) -> dict[str, Any]:
        return task_pages.compare(self.context, id)

    def why(self, id: int) -> Record:
        return {"subject": f"task {id}", "reasons": why.task(self.store, id)}

    def log(self, id: int) -> Iterable[bytes]:
        """Of the newest attempt, or of the one that is asked for."""
        attempt = records.attempt_with_log(self.store, id, self.context.query.get("attempt"))
        folders = [self.context.site.settings.paths.logs]
        return content.send(attempt["log"], folders, "text/plain", charset="utf-8")


def _newest_tasks(store: Store, **wanted: Any) -> list[Record]:
    tasks = records.tasks(store, **wanted)
    return sorted(tasks, key=lambda task: task["id"], reverse=True)
