"""The base class of handlers: the request's context, its store, pages of lists.

A handler is a method that ``addresses.ROUTES`` names. It returns the record of its
document, or a template's variables; the tools make the response of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cherrypy
from storm.locals import Store

from backoffice.documents import paging
from backoffice.web import queries
from backoffice.web.context import RequestContext

Record = dict[str, Any]


class Handlers:
    @property
    def context(self) -> RequestContext:
        context: RequestContext = cherrypy.serving.request.context
        return context

    @property
    def store(self) -> Store:
        """Of this request, by the tool ``store``."""
        store: Store = cherrypy.serving.request.store
        return store

    def newest(self, fetch: Callable[..., list[Record]], **filters: Any) -> list[Record]:
        """A page of a list that ``fetch(store, limit=, before=, **filters)`` gives,
        newest first, with a link to the next one."""
        query = self.context.query
        limit = query.get("limit", queries.DEFAULT_LIMIT)
        rows = fetch(self.store, limit=limit + 1, before=query.get("after"), **filters)
        if len(rows) > limit:
            self.link_older(rows[limit - 1]["id"])
        return rows[:limit]

    def link_older(self, last: int) -> None:
        """The page after the record with this id."""
        self.link_next(paging.cursor_after(last))

    def link_next(self, after: str) -> None:
        context = self.context
        context.older = context.following(after)
        cherrypy.serving.response.headers["Link"] = f'<{context.older}>; rel="next"'

    def created(self, path: str, new: bool = True) -> None:
        """201 for what is new; 200 for what was there already."""
        response = cherrypy.serving.response
        response.status = 201 if new else 200
        response.headers["Location"] = self.context.url(path)
