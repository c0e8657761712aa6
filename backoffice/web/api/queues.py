"""Queues and schedules over HTTP: show, pause, resume, limit."""

from __future__ import annotations

import re

from backoffice.engine import queue_control
from backoffice.errors import Invalid, NotFound
from backoffice.reports import queue_depths, queue_statistics, records
from backoffice.reports.records import Record
from backoffice.web.handlers import Handlers


class Queues(Handlers):
    def index(self) -> list[Record]:
        """A page tells more of them, but counts no further than people care to know."""
        if self.context.format == "html":
            return queue_statistics.queues(self.store)
        return queue_depths.queues(self.store)

    def show(self, name: str) -> Record:
        for queue in self.index():
            if queue["name"] == name:
                return queue
        raise NotFound(f"there is no queue {name!r}; a queue appears with its first task")

    def pause(self, name: str) -> Record:
        queue_control.pause(self.store, name, self.context.user)
        return self.show(name)

    def resume(self, name: str) -> Record:
        queue_control.resume(self.store, name, self.context.user)
        return self.show(name)

    def limit(self, name: str) -> Record:
        """``value`` is a number, or "none"."""
        text = self.context.fields.get("value")
        if text is None or not re.fullmatch(r"none|[0-9]{1,6}", text):
            raise Invalid("say how many tasks may run at once: value=4, or value=none")
        most = None if text == "none" else int(text)
        queue_control.limit(self.store, name, most, self.context.user)
        return self.show(name)


class Schedules(Handlers):
    def index(self) -> list[Record]:
        return records.schedules(self.store)
