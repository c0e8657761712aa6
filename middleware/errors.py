"""Error handler: exceptions are logged and answered 500 without details.

``application = ErrorHandler(application, logging.getLogger("web"))``

The response tells only the request's id; the log, and Sentry if it is used, get
the traceback with the same id. A raised Problem is sent as it is and is not
logged. Other exceptions are not mapped to responses: the code that raises them
knows their meaning, and raises a Problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from logging import Logger, getLogger
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.error_response import ErrorResponse
from middleware.problem import Problem, instance_of

Capture = Callable[[BaseException], object]


class ErrorHandler:
    """``sentry`` is called with each exception, e.g. ``sentry_sdk.capture_exception``.

    An exception after the first byte is logged and raised again, so that the
    server breaks the connection.
    """

    def __init__(self, app: WSGIApplication, logger: Logger, sentry: Capture | None = None) -> None:
        self.app = app
        self.logger = logger
        self.sentry = sentry

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return _Response(self, environ, start_response)

    def answer(self, environ: WSGIEnvironment, error: Exception) -> Problem:
        if isinstance(error, Problem):
            return error
        self.report(environ, error)
        request_id = environ.get("middleware.request_id")
        return Problem(500, f"The request's id is {request_id}." if request_id else "")

    def report(self, environ: WSGIEnvironment, error: Exception) -> None:
        self.logger.error(
            "%s %s failed, request %s",
            environ["REQUEST_METHOD"],
            instance_of(environ),
            environ.get("middleware.request_id", "-"),
            exc_info=error,
        )
        if self.sentry is not None:
            self.sentry(error)


class _Response:
    def __init__(
        self, handler: ErrorHandler, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._handler = handler
        self._environ = environ
        self._response = ErrorResponse(handler.app, environ, start_response, self._answer)

    def _answer(self, error: Exception) -> Problem:
        return self._handler.answer(self._environ, error)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        # The whole response was sent; an error here is not the client's concern.
        try:
            self._response.close()
        except Exception as error:
            self._handler.report(self._environ, error)


filter_factory = paste.factory(ErrorHandler, logger=getLogger, sentry=paste.thing)
