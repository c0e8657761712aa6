"""Database transaction per request: open on first use, commit or roll back, retry.

``application = TransactionPerRequest(application, open=open_store)``

``environ["middleware.store"]()`` returns the request's store, which is what
``open(environ)`` returned: any object with ``commit``, ``rollback`` and
``close``. A request that never asks for it opens none.

The order of events:

1. The app runs until its head is final: it has returned a list, or given the
   first piece of its body, or called ``write``.
2. The store is committed if the status is below 400, else rolled back. Only
   then does the response start: a client that sees success has it.
3. A body that is still being read may use the store, or open it only now.
   Its changes are rolled back.
4. When the body is closed, the store is rolled back, if the body may have used
   it, and closed. For a list this happens at once.

If the app, ``open`` or the commit raises before the response has started, the
store is rolled back and closed and the error is raised again; but if
``retryable(error)`` is true, the app runs again from its start, up to ``tries``
times, after a growing, random pause. There is no retry after the response has
started, nor if the request's body is larger than ``MAX_BUFFERED_BODY``: up to
that size it is read into memory first, so that each try reads all of it. A
status of 400 or more is an answer, not an error, and is not retried. A commit
whose reply was lost may have succeeded: requests that must not take effect
twice need an idempotency key.

Each try gets the same environ dictionary, restored to its first content. What
the last try puts into it (``middleware.route``, ``middleware.format``) is seen
by the components outside. Other changes of a failed try, to files or inside
values of the environ, stay.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.buffering import BufferedStart, PrefetchedBody, buffer_input, close, prefetch

KEY = "middleware.store"
MAX_BUFFERED_BODY = 1 << 20  # bytes of a request's body that are kept for a retry


class Store(Protocol):
    def commit(self) -> object: ...
    def rollback(self) -> object: ...
    def close(self) -> object: ...


def never(error: BaseException) -> bool:
    """No error is retryable."""
    return False


class TransactionPerRequest:
    """``tries`` is how often the app runs at most; ``sleep`` takes seconds."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        open: Callable[[WSGIEnvironment], Store],
        retryable: Callable[[BaseException], bool] = never,
        tries: int = 5,
        key: str = KEY,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if tries < 1:
            raise ValueError("tries: is less than 1; the app would never run")
        self.app = app
        self.open = open
        self.retryable = retryable
        self.tries = tries
        self.key = key
        self.sleep = sleep

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        data, complete = buffer_input(environ, MAX_BUFFERED_BODY)
        original = dict(environ)
        for number in range(1, self.tries + 1):
            attempt = _Attempt(self, environ, start_response)
            try:
                return attempt.run(self.app)
            except Exception as error:
                last = attempt.settled or number == self.tries or not complete
                if last or not self.retryable(error):
                    raise
            self.sleep(random.uniform(0.2, 1.0) * min(0.8, 0.01 * 2**number))
            environ.clear()
            environ.update(original)
            if data:
                environ["wsgi.input"] = io.BytesIO(data)
        raise AssertionError("unreachable")


class _Attempt:
    """One run of the app, with its own store."""

    def __init__(
        self,
        component: TransactionPerRequest,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self._environ = environ
        self._start = BufferedStart(start_response, self._settle)
        self._handle = environ[component.key] = Handle(component.open, environ)
        self.settled = False  # committed or rolled back, so no retry

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        try:
            body = prefetch(app(self._environ, self._start))
            self._respond(body)
        except BaseException:
            self._handle.abandon()
            raise
        if isinstance(body, PrefetchedBody):
            body.after_close = self._handle.end
        else:
            self._handle.close()
        return body

    def _respond(self, body: Iterable[bytes]) -> None:
        try:
            if not self.settled:
                self._settle()
            self._start.send()
        except BaseException:
            with suppress(Exception):  # report the first failure
                close(body)
            raise

    def _settle(self) -> None:
        if self._start.status >= "400":
            self._handle.rollback()
        else:
            self._handle.commit()
        self.settled = True


class Handle:
    """Calling it returns the request's store, opened at the first call.

    RuntimeError after the end of the request, or of the try.
    """

    __slots__ = ("_ended", "_environ", "_open", "_store")

    def __init__(self, open: Callable[[WSGIEnvironment], Store], environ: WSGIEnvironment) -> None:
        self._open = open
        self._environ = environ
        self._store: Store | None = None
        self._ended = False

    def __call__(self) -> Any:
        if self._ended:
            raise RuntimeError("the store was asked for after its request had ended")
        if self._store is None:
            self._store = self._open(self._environ)
        return self._store

    def commit(self) -> None:
        if self._store is not None:
            self._store.commit()

    def rollback(self) -> None:
        """Errors are ignored: the connection is gone then, and the changes with it."""
        if self._store is not None:
            with suppress(Exception):
                self._store.rollback()

    def end(self) -> None:
        """Roll back what the body did after the commit, and close."""
        try:
            if self._store is not None:
                self._store.rollback()
        finally:
            self.close()

    def abandon(self) -> None:
        """Like ``end`` after a failure; ignores errors, so that the first one is reported."""
        self.rollback()
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        store, self._store, self._ended = self._store, None, True
        if store is not None:
            store.close()


filter_factory = paste.factory(
    TransactionPerRequest,
    open=paste.thing,
    retryable=paste.thing,
    tries=paste.whole,
    key=paste.text,
)
