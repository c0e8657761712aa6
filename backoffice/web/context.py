"""Request context: query, body, user and format of one request.

``Site`` is what does not change from request to request. The answer is made by the
tools and by ``responses``; the context knows nothing of jobs or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from storm.locals import Store
from webob import Request
from webob.acceptparse import create_accept_header

from backoffice.config.settings import Settings
from backoffice.data.database import Database
from backoffice.documents import reading, xml_text
from backoffice.engine.catalogue import Catalogue
from backoffice.web.routes import ADMIN, OPERATOR, VIEWER
from middleware.problem import Problem

# In the environ: the site, and the path that it is mounted at.
SITE, BASE = "backoffice.site", "backoffice.base"
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


@dataclass(frozen=True)
class Site:
    """What does not change from request to request."""

    settings: Settings
    database: Database
    catalogue: Catalogue
    metrics: Any  # prometheus_client's registry


class RequestContext:
    """``query`` holds the values of the query, as the tool ``query`` has read them;
    ``older`` is the address of the next page of a list, if there is one."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.site: Site = environ[SITE]
        self.query: dict[str, Any] = {}
        self.older = ""

    @property
    def changes(self) -> bool:
        """Whether the request may change something."""
        return self.environ["REQUEST_METHOD"] not in ("GET", "HEAD")

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
        chosen: str | None = self.environ.get("middleware.format")
        return chosen or preferred(self.environ.get("HTTP_ACCEPT", ""))

    @property
    def path(self) -> str:
        """The path of the request below the site, percent-encoded."""
        environ = self.environ
        path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        return quote(path.removeprefix(environ[BASE]).encode("latin-1", "replace"))

    @property
    def parent(self) -> str:
        """Of an action, the path of what it belongs to."""
        return self.path.rpartition("/")[0] or "/"

    def url(self, path: str) -> str:
        """The address of a path of the site, as the client must write it."""
        return quote(self.environ[BASE]) + path

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
        media_type = {"text/xml": reading.XML}.get(self.media_type, self.media_type)
        if media_type not in (reading.XML, reading.JSON):
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
        if self.media_type == reading.JSON:
            return reading.fields(self.body, limit=SMALL)
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
        if odd := next((c for c in map(xml_text.odd, chain(*pairs)) if c), ""):
            detail = f"the form holds the character U+{ord(odd):04X}, which cannot be kept"
            raise Problem(400, detail)
        return pairs

    # Further on

    def following(self, after: str) -> str:
        """The address of the same list, after this cursor."""
        kept = ((name, text) for name, text in self.written if name != "after")
        return f"{self.url(self.path)}?{urlencode([*kept, ('after', after)])}"


@lru_cache(maxsize=256)
def preferred(accept: str) -> str:
    """The format for an Accept header: XML unless another one is preferred."""
    best = create_accept_header(accept or None).acceptable_offers(list(_OFFERS))
    return _OFFERS[best[0][0]] if best else "xml"
