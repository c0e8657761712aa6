"""RFC 9457 problem details, as XML, JSON or HTML by content negotiation.

A ``Problem`` is an exception and the WSGI application that answers with it:
``return problem(environ, start_response)``. It tells the client what is wrong
and logs nothing. A site can render its own HTML page, by a function in the
environ (``PAGE``). This module is a library, not a component.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from http import HTTPStatus
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

from webob.acceptparse import create_accept_header

NAMESPACE = "urn:ietf:rfc:7807"
# Environ key of page(environ, problem), which returns the HTML of a problem or None.
PAGE = "middleware.problem_page"

# Names of RFC 9110; Python before 3.13 has those of older RFCs.
_TITLES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
_OFFERS = {
    "application/problem+xml": "xml",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/problem+json": "json",
    "application/json": "json",
    "text/html": "html",
    "application/xhtml+xml": "html",
}
_MEDIA_TYPES = {
    "xml": "application/problem+xml",
    "json": "application/problem+json",
    "html": "text/html; charset=utf-8",
}
_MEMBERS = ("type", "title", "status", "detail", "instance")
_MAX_DETAIL = 1000  # characters; a detail may quote what the client sent
_plain = re.compile(r"[A-Za-z0-9/._~-]{0,1024}").fullmatch
_FORBIDDEN_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Problem(Exception):
    """An error and its response.

    ``errors`` has one mapping per fault, with ``line``, ``column`` and
    ``message``; ``more`` is the number of further faults. ``headers`` are added to
    the response (``Allow``, ``Retry-After``).
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        title: str | None = None,
        type: str = "about:blank",
        errors: Sequence[Mapping[str, object]] = (),
        more: int = 0,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.status = status
        self.title = title or _TITLES.get(status) or HTTPStatus(status).phrase
        self.detail = detail if len(detail) <= _MAX_DETAIL else detail[:_MAX_DETAIL] + "…"
        self.type = type
        self.errors = errors
        self.more = more
        self.headers = headers
        super().__init__(f"{status} {self.title}: {detail}" if detail else f"{status} {self.title}")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kind = format_of(environ)
        page = environ[PAGE](environ, self) if kind == "html" and PAGE in environ else None
        body = page or self.body(kind, instance_of(environ))
        headers = [
            *self.headers,
            ("Content-Type", _MEDIA_TYPES[kind]),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response(f"{self.status} {self.title}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def body(self, kind: str, instance: str) -> bytes:
        """The document as "xml", "json" or "html"; ``instance`` is a URL path."""
        members = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        shown = {key: _clean(value) for key, value in members.items() if value != ""}
        errors = [{key: _clean(value) for key, value in e.items()} for e in self.errors]
        return _WRITERS[kind](shown, errors, self.more).encode()


def format_of(environ: WSGIEnvironment) -> str:
    """ "xml", "json" or "html", as the client prefers; "xml" by default."""
    chosen = environ.get("middleware.format")
    if chosen in _MEDIA_TYPES:
        return str(chosen)
    accept = create_accept_header(environ.get("HTTP_ACCEPT"))
    best = accept.acceptable_offers(list(_OFFERS))
    return _OFFERS[best[0][0]] if best else "xml"


def instance_of(environ: WSGIEnvironment) -> str:
    """The path of the request, percent-encoded and at most about 3 kB."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if _plain(path):
        return str(path)
    return quote(path[:1024].encode("latin-1", "replace"), safe="/:@!$&'()*+,;=~-._")


_Members = Mapping[str, object]


def _as_xml(members: _Members, errors: Sequence[_Members], more: int) -> str:
    """List items are elements ``i``, as in RFC 9457, appendix B."""
    inner = "".join(_element(key, members[key]) for key in _MEMBERS if key in members)
    if errors:
        inner += f"<errors>{''.join(map(_fault, errors))}</errors>"
    if more:
        inner += _element("more", more)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<problem xmlns="{NAMESPACE}">{inner}</problem>'


def _fault(error: _Members) -> str:
    shown = ("line", "column", "message")
    return f"<i>{''.join(_element(k, error[k]) for k in shown if error.get(k) is not None)}</i>"


def _element(key: str, value: object) -> str:
    return f"<{key}>{_escape(value)}</{key}>"


def _as_json(members: _Members, errors: Sequence[_Members], more: int) -> str:
    faults: _Members = {"errors": errors} if errors else {}
    rest: _Members = {"more": more} if more else {}
    return json.dumps({**members, **faults, **rest}, ensure_ascii=False)


def _as_html(members: _Members, errors: Sequence[_Members], more: int) -> str:
    heading = _escape(f"{members['status']} {members['title']}")
    detail = f"<p>{_escape(members['detail'])}</p>" if "detail" in members else ""
    faults = "".join(f"<li>{_escape(_sentence(error))}</li>" for error in errors)
    faults += f"<li>and {more} more</li>" if more else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{heading}</title></head>\n<body><h1>{heading}</h1>{detail}"
        f"{f'<ul>{faults}</ul>' if faults else ''}</body></html>\n"
    )


def _sentence(error: _Members) -> str:
    place = f"line {error['line']}: " if error.get("line") else ""
    return f"{place}{error.get('message', '')}"


def _escape(value: object) -> str:
    # A parser would turn a bare carriage return into a line feed.
    return escape(str(value), quote=False).replace("\r", "&#13;")


def _clean(value: object) -> object:
    """Text without characters that XML and UTF-8 cannot represent."""
    return _FORBIDDEN_IN_XML.sub("\ufffd", value) if isinstance(value, str) else value


_WRITERS = {"xml": _as_xml, "json": _as_json, "html": _as_html}
