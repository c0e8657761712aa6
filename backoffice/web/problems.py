"""Errors as RFC 9457 problems: which exception gives which status.

The tool ``problems`` answers at the edge of a handler, for this application and
for any other that turns it on. DatabaseProblems stands around the transaction,
whose commit may fail after the handler. Any other exception passes through to the
component outside that answers 500.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cherrypy
from storm.exceptions import DatabaseError

from backoffice.data.database_errors import explained
from backoffice.documents.safe_xml import (
    Fault,
    Malformed,
    SchemaViolation,
    TooLarge,
    WrongEncoding,
)
from backoffice.errors import (
    BackofficeError,
    Conflict,
    DatabaseUnavailable,
    Invalid,
    NotFound,
    SchemaMismatch,
)
from backoffice.web.responses import starting
from middleware.problem import Problem

RETRY_AFTER = "5"  # seconds

# The first that fits counts.
_STATUS: tuple[tuple[type[BackofficeError], int], ...] = (
    (TooLarge, 413),
    (WrongEncoding, 415),
    (Malformed, 400),
    (SchemaViolation, 422),
    (Invalid, 400),
    (NotFound, 404),
    (Conflict, 409),
    (DatabaseUnavailable, 503),
    (SchemaMismatch, 503),
)


class HTTPProblem(cherrypy.HTTPError):  # type: ignore[misc]
    """A Problem as CherryPy's dispatcher, tools and handlers may raise it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem

    def set_response(self) -> None:
        request, response = cherrypy.serving.request, cherrypy.serving.response
        response.stream = False
        response.body = list(self.problem(request.wsgi_environ, starting(response)))


def answered(handler: Callable[[], Any]) -> Any:
    """What the handler gives; what it raises as HTTPProblem. A DatabaseError passes:
    the transaction may be run again."""
    try:
        return handler()
    except Problem as error:
        raise HTTPProblem(error) from error
    except BackofficeError as error:
        known = problem(error)
        if isinstance(known, Problem):
            raise HTTPProblem(known) from error
        raise


def error_page(status: str, message: str, traceback: str, version: str) -> bytes:
    """``error_page.default`` of CherryPy: one of its own errors as a problem."""
    response = cherrypy.serving.response
    allow = [("Allow", value)] if (value := response.headers.get("Allow")) else []
    own = HTTPProblem(Problem(int(status[:3]), html.unescape(message), headers=allow))
    own.set_response()
    return b"".join(response.body)


class DatabaseProblems:
    """A WSGI component: errors of the database, and of what stands around a handler."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return self.app(environ, start_response)
        except DatabaseError as error:
            raise problem(explained(error)) from error
        except BackofficeError as error:
            raise problem(error) from error


def problem(error: BaseException) -> BaseException:
    """The problem for an error of ours; any other is given back as it is."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            retry = [("Retry-After", RETRY_AFTER)] if status == 503 else []
            more = error.more if isinstance(error, SchemaViolation) else 0
            return Problem(status, _detail(error), errors=_faults(error), more=more, headers=retry)
    return error


def _detail(error: BackofficeError) -> str:
    if isinstance(error, SchemaViolation):
        return "the document does not follow its schema; see errors"
    if isinstance(error, DatabaseUnavailable | SchemaMismatch):
        # What exactly is wrong with the server is for its admin: health and logs tell.
        return "the database cannot be used now; try again"
    return str(error)


def _faults(error: BackofficeError) -> list[Mapping[str, object]]:
    if isinstance(error, SchemaViolation):
        return [_fault(one) for one in error.faults]
    return [_fault(error.fault)] if isinstance(error, Malformed) else []


def _fault(fault: Fault) -> dict[str, object]:
    shown: dict[str, object] = {"line": fault.line} if fault.line else {}
    if fault.column:
        shown["column"] = fault.column
    return shown | {"message": fault.message}
