"""Our errors as problems: which status says what went wrong, once for all handlers.

Wraps what handles requests. What is no error of ours passes through to the
component outside that answers 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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


class OwnProblems:
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
            return Problem(
                *(status, _detail(error)), errors=_faults(error), more=more, headers=retry
            )
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
