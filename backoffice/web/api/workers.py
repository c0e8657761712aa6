"""Workers and database servers over HTTP: show, drain."""

from __future__ import annotations

from backoffice.data.cluster import Status
from backoffice.engine import worker_registry
from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.web.handlers import Handlers


class Workers(Handlers):
    def index(self) -> list[Record]:
        return records.workers(self.store, states=self.context.query.get("state", ()))

    def show(self, id: int) -> Record:
        return records.worker(self.store, id)

    def drain(self, id: int) -> Record:
        worker_registry.drain(self.store, id, self.context.user)
        return self.show(id)


class Nodes(Handlers):
    def index(self) -> list[Record]:
        """As this process sees them, with the transactions that are its own."""
        return [_node(status) for status in self.context.site.database.nodes()]


def _node(status: Status) -> Record:
    return {**vars(status), "message": status.error}
