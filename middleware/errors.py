"""The outermost component for exceptions: nothing of them leaks to a client.

``application = ErrorHandler(application, logging.getLogger("web"))``

An exception becomes a 500 that says only the request's id; the log, and Sentry
if there is one, get the traceback with the same id. A raised Problem is sent as
it is, and is no error. It maps no other exceptions: who raises them knows what
they mean to a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from logging import Logger, getLogger
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem, instance_of
from middleware.recover import Recovering

Capture = Callable[[BaseException], object]


class ErrorHandler:
    """``sentry`` is called with each exception, e.g. ``sentry_sdk.capture_exception``.

    What is raised after the first byte was sent is logged and raised again, so
    that the server breaks the connection.
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
        self, owner: ErrorHandler, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._owner = owner
        self._environ = environ
        self._inner = Recovering(owner.app, environ, start_response, self._answer)

    def _answer(self, error: Exception) -> Problem:
        return self._owner.answer(self._environ, error)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._inner)

    def close(self) -> None:
        # The response was sent whole: the client need not know.
        try:
            self._inner.close()
        except Exception as error:
            self._owner.report(self._environ, error)


filter_factory = paste.factory(ErrorHandler, logger=getLogger, sentry=paste.thing)
