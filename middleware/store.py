"""One store a request: opened when it is first used, committed or rolled back.

``application = StorePerRequest(application, open=open_store)``

``environ["middleware.store"]()`` gives the request's store, which is whatever
``open(environ)`` returns: anything with ``commit``, ``rollback`` and ``close``.
A request that never asks for it opens none.

When what happens, in this order:

1. The app runs until its head is final: it has returned a list, or the first
   piece of its body is there, or it has called ``write``.
2. The store is committed if the status is below 400; else it is rolled back.
   Only then does the response start: who hears of success has it.
3. A body that is still to be read may go on using the store, or open it only
   now. What it does there is rolled back in the end.
4. When the body was closed, the store is rolled back, if anything may have
   used it since, and closed. For a list that is at once.

If the app, the opening or the commit raises before the response has started,
the store is rolled back and closed and the error goes on; but if
``passing(error)`` says that it may go well the next time, the whole app runs
again from its start, up to ``tries`` times, after a pause that grows and is
never the same. Nothing is run again after the response has started, nor when
the body of the request is larger than ``HELD``: up to there it is read into
memory first, so that each try reads it from its start. A status of 400 or more
is an answer, not an error, and is not tried again: errors that are to be must
come out of the app. A commit whose answer was lost may have been done: what
must not happen twice needs a key of its own.

Each try sees the environ as the first one did: the same dictionary, which is
put back to what it was. What the last try puts into it (``middleware.route``,
``middleware.format``) is therefore seen outside, at any time. What else an app
changed in a failed try, in files or in values of the environ, stays changed.
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
from middleware.held import Begun, HeldStart, begin, close, hold_input

KEY = "middleware.store"
HELD = 1 << 20  # bytes of a request's body that are kept for another try


class Store(Protocol):
    def commit(self) -> object: ...
    def rollback(self) -> object: ...
    def close(self) -> object: ...


def never(error: BaseException) -> bool:
    """No error passes by itself."""
    return False


class StorePerRequest:
    """``tries`` is how often the app runs at most; ``sleep`` waits seconds."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        open: Callable[[WSGIEnvironment], Store],
        passing: Callable[[BaseException], bool] = never,
        tries: int = 5,
        key: str = KEY,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if tries < 1:
            raise ValueError("tries: is less than 1; the app would never run")
        self.app = app
        self.open = open
        self.passing = passing
        self.tries = tries
        self.key = key
        self.sleep = sleep

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        data, whole = hold_input(environ, HELD)
        first = dict(environ)
        for number in range(1, self.tries + 1):
            attempt = _Attempt(self, environ, start_response)
            try:
                return attempt.run(self.app)
            except Exception as error:
                last = attempt.settled or number == self.tries or not whole
                if last or not self.passing(error):
                    raise
            self.sleep(random.uniform(0.2, 1.0) * min(0.8, 0.01 * 2**number))
            environ.clear()
            environ.update(first)
            if data:
                environ["wsgi.input"] = io.BytesIO(data)
        raise AssertionError("unreachable")


class _Attempt:
    """One run of the app, with a store of its own."""

    def __init__(
        self, component: StorePerRequest, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._environ = environ
        self._held = HeldStart(start_response, self._settle)
        self._handle = environ[component.key] = Handle(component.open, environ)
        self.settled = False  # committed or rolled back: never again from the start

    def run(self, app: WSGIApplication) -> Iterable[bytes]:
        try:
            body = begin(app(self._environ, self._held))
            self._respond(body)
        except BaseException:
            self._handle.abandon()
            raise
        if isinstance(body, Begun):
            body.after = self._handle.end
        else:
            self._handle.close()
        return body

    def _respond(self, body: Iterable[bytes]) -> None:
        try:
            if not self.settled:
                self._settle()
            self._held.release()
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                close(body)
            raise

    def _settle(self) -> None:
        if self._held.status >= "400":
            self._handle.forget()
        else:
            self._handle.commit()
        self.settled = True


class Handle:
    """Calling it gives the request's store, opened at the first call.

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

    def forget(self) -> None:
        """Roll back what an answer of 400 or more leaves behind. If that cannot
        be done, the connection is gone, and the changes with it."""
        if self._store is not None:
            with suppress(Exception):
                self._store.rollback()

    def end(self) -> None:
        """Roll back, as the body may have used the store after the commit, and close."""
        try:
            if self._store is not None:
                self._store.rollback()
        finally:
            self.close()

    def abandon(self) -> None:
        """The same after a failure, which is the one to tell."""
        self.forget()
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        store, self._store, self._ended = self._store, None, True
        if store is not None:
            store.close()


filter_factory = paste.factory(
    StorePerRequest, open=paste.thing, passing=paste.thing, tries=paste.whole, key=paste.text
)
