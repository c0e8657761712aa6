"""One request as handlers see it, and how they answer.

Owns what every handler needs: the values of the query, the document in the
body, the store, who asks, and the answer in the client's format. It knows
nothing of jobs or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from storm.locals import Store
from webob import Request, Response
from webob.acceptparse import create_accept_header

from backoffice.config.settings import Settings
from backoffice.data.database import Database
from backoffice.engine.catalogue import Catalogue
from backoffice.web import documents, queries
from backoffice.web.routes import ADMIN, OPERATOR, VIEWER, Match
from middleware.problem import Problem

TYPES = {"xml": "application/xml", "json": "application/json", "atom": "application/atom+xml"}
FORM = "application/x-www-form-urlencoded"
SMALL = 128 << 10  # bytes of a form, or of an object of single values
FIELDS = 2500  # of a form
_OFFERS = {
    "application/xml": "xml",
    "text/xml": "xml",
    "application/json": "json",
    "application/atom+xml": "atom",
    "text/html": "html",
    "application/xhtml+xml": "html",
}

ROLES = (VIEWER, OPERATOR, ADMIN)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """What does not change from request to request."""

    settings: Settings
    database: Database
    catalogue: Catalogue
    metrics: Any  # prometheus_client's registry
    pages: Callable[..., Response | None]  # of ``pages``: the HTML of a record


class Call:
    def __init__(self, site: Site, environ: dict[str, Any], match: Match) -> None:
        self.site = site
        self.environ = environ
        self.match = match

    @cached_property
    def query(self) -> dict[str, Any]:
        return queries.read(self.environ.get("QUERY_STRING", ""), self.match.route.query)

    @cached_property
    def written(self) -> list[tuple[str, str]]:
        """The query as it was written, not converted."""
        return parse_qsl(self.environ.get("QUERY_STRING", ""), keep_blank_values=True)

    @property
    def store(self) -> Store:
        """Of this request; committed once the handler has answered."""
        store: Store = self.environ["middleware.store"]().store
        return store

    @property
    def user(self) -> str:
        """The name of who asks, as the history shows it."""
        name: str = self.environ["middleware.identity"].name
        return name

    @property
    def request_id(self) -> str:
        """As the logs and the client know it."""
        return str(self.environ.get("middleware.request_id", ""))

    def may(self, role: str) -> bool:
        """Whether who asks may do what needs this role."""
        return ROLES.index(self.environ["middleware.identity"].role) >= ROLES.index(role)

    @cached_property
    def format(self) -> str:
        return self.match.format or preferred(self.environ.get("HTTP_ACCEPT", ""))

    def url(self, path: str) -> str:
        """The address of a path of ours, as the client must write it."""
        return quote(self.environ.get("SCRIPT_NAME", "")) + path

    def absolute(self, path: str) -> str:
        """The same with scheme and host, for documents that are read elsewhere."""
        host: str = self.site.settings.web.url.rstrip("/") or Request(self.environ).host_url
        return host + self.url(path)

    # What comes in

    @cached_property
    def body(self) -> bytes:
        """All of it; BodyLimit has bounded it. Raises Problem 415 for a coded one."""
        coding = self.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise Problem(415, f"a body in the coding {coding[:50]!r} is not read; send it plain")
        data: bytes = Request(self.environ).body
        return data

    @cached_property
    def media_type(self) -> str:
        """Of the body, without parameters. Raises Problem 415 for a charset but UTF-8."""
        name, _, rest = self.environ.get("CONTENT_TYPE", "").partition(";")
        for parameter in rest.split(";"):
            key, _, value = parameter.strip().partition("=")
            charset = value.strip("\"' ").lower()
            if key.lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
                raise Problem(415, f"the charset {charset[:50]!r} is not read; send UTF-8")
        found: str = name.strip().lower()
        return found

    def document(self, parse: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """The document in the body, XML or JSON, as ``parse`` of ``documents`` reads it."""
        media_type = {"text/xml": documents.XML}.get(self.media_type, self.media_type)
        if media_type not in (documents.XML, documents.JSON):
            detail = f"send application/xml or application/json, not {media_type[:80]!r}"
            accept = [("Accept-Post", "application/xml, application/json")]
            raise Problem(415, detail, headers=accept)
        limit = self.site.settings.limits.document
        return parse(self.body, limit=limit, media_type=media_type)

    @cached_property
    def fields(self) -> dict[str, str]:
        """What a small body says: a form, or an object in JSON; empty without a body."""
        if not self.body:
            return {}
        if self.media_type == documents.JSON:
            return documents.fields(self.body, limit=SMALL)
        if self.media_type != FORM:
            raise Problem(415, f"send a form ({FORM}) or JSON, not {self.media_type[:80]!r}")
        return dict(self.form)

    @cached_property
    def form(self) -> list[tuple[str, str]]:
        """The fields of a form, in their order; a name may come again."""
        if len(self.body) > SMALL:
            raise Problem(413, f"the form has {len(self.body)} bytes; at most {SMALL} are read")
        try:
            pairs = parse_qsl(
                self.body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS
            )
        except UnicodeDecodeError:
            raise Problem(400, "the form is not UTF-8") from None
        except ValueError:
            raise Problem(413, f"the form has more than {FIELDS} fields") from None
        if odd := next((c for c in map(documents.odd, chain(*pairs)) if c), ""):
            detail = f"the form holds the character U+{ord(odd):04X}, which cannot be kept"
            raise Problem(400, detail)
        return pairs

    # What goes out

    def show(
        self,
        kind: str,
        record: Any,
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        """A document of this kind in the client's format."""
        if self.format == "html":
            page = self.site.pages(self, kind, record, status, headers)
            if page is not None:
                return page
        if self.format == "json":
            body = documents.to_json(kind, record).encode()
        else:
            body = documents.to_xml(kind, record)
        return self.respond(body, TYPES[self._written], status=status, headers=headers)

    def page(self, kind: str, fetch: Callable[..., list[Any]], **filters: Any) -> Response:
        """A page of a list that ``fetch(store, limit=, before=, **filters)`` gives,
        newest first, with a link to the next one."""
        limit = self.query.get("limit", queries.DEFAULT_LIMIT)
        found = fetch(self.store, limit=limit + 1, before=self.query.get("after"), **filters)
        links = self.older(found[limit - 1]["id"]) if len(found) > limit else []
        return self.show(kind, found[:limit], headers=links)

    def stream(
        self, kind: str, pages: Iterable[Sequence[Record]], headers: Iterable[tuple[str, str]]
    ) -> Response:
        """A list that is too long to be held. The first page is made before the
        response starts, so that what goes wrong at once is still an error."""
        write = documents.stream_json if self.format == "json" else documents.stream_xml
        chunks = write(kind, pages)
        begun = [next(chunks), next(chunks)]
        response = self.respond(b"", TYPES[self._written], headers=headers)
        del response.content_length
        response.app_iter = chain(begun, chunks)
        return response

    def older(self, last: int) -> list[tuple[str, str]]:
        """The header that links to the page after the record with this id."""
        return self.next_page(queries.cursor_after(last))

    def next_page(self, after: str) -> list[tuple[str, str]]:
        """The header that links to the same list, further on."""
        kept = ((name, text) for name, text in self.written if name != "after")
        query = urlencode([*kept, ("after", after)])
        path = quote(self.environ["PATH_INFO"].encode("latin-1"))
        return [("Link", f'<{self.url(path)}?{query}>; rel="next"')]

    def respond(
        self,
        body: bytes,
        media_type: str,
        *,
        status: int = 200,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        response = Response(body, status, content_type=media_type, charset=None)
        response.headers.update({"Cache-Control": "private, no-cache", "Vary": "Accept"})
        response.headers.update(headers)
        return response

    @property
    def _written(self) -> str:
        return "json" if self.format == "json" else "xml"


@lru_cache(maxsize=256)
def preferred(accept: str) -> str:
    """The format for an Accept header: XML unless another one is preferred."""
    best = create_accept_header(accept or None).acceptable_offers(list(_OFFERS))
    return _OFFERS[best[0][0]] if best else "xml"
