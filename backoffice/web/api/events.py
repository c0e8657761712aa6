"""Events over HTTP: a document to poll, and a feed."""

from __future__ import annotations

import cherrypy

from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.web import queries, responses
from backoffice.web.api import atom
from backoffice.web.handlers import Handlers


class Events(Handlers):
    def index(self) -> list[Record] | bytes:
        """The tag tells which event was the last one, so that polling the same
        address again costs one look at an index."""
        context = self.context
        query, format = context.query, context.format
        after, limit = query.get("after"), query.get("limit", queries.DEFAULT_LIMIT)
        filters = {
            name: query.get(name) for name in ("before", "job", "actor", "action", "subject")
        }
        events = records.events(self.store, after=after, limit=limit, **filters)
        last = events[-1]["id"] if events else after or 0
        if format != "html":  # a page shows more than events
            cherrypy.serving.response.headers["ETag"] = f'"{format}-{last}"'
        if after is not None and len(events) == limit:
            self.link_next(str(last))
        if format == "atom":
            return responses.send(atom.feed(events, context), "application/atom+xml")
        return events
