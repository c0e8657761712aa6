"""Error pages: a problem in the frame of the site, with advice.

Wraps what may answer with a Problem, and tells the Problem how it looks here. It
also puts the site into the environ, for this page and for all pages inside. Where
no page can be made, the plain HTML of ``middleware.problem`` does. It reads no
database: that may be what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from backoffice.web.context import BASE, SITE, RequestContext, Site
from backoffice.web.pages import render
from middleware.problem import PAGE, Problem

ADVICE = {
    400: "Go back, mend what is said above, and send it again.",
    401: "Log in, and come back to this address.",
    403: "If you should be allowed to do this, ask an administrator for the role.",
    404: "It may have been removed since, as jobs are when their time is over; or the address has a"
    " mistake in it.",
    405: "Use the buttons of the page that this belongs to.",
    409: "Somebody else, or the job itself, was faster. Look how it stands now.",
    413: "Send less at once.",
    422: "Go back, mend what is said above, and send it again.",
    429: "Wait a moment, then try again.",
    500: "This is not your fault. Try again; if it stays so, tell an administrator the id of the"
    " request: the log says more about it.",
    503: "Wait a moment, then try again. Jobs that run are not touched by this.",
}
Environ = dict[str, Any]


class ErrorPages:
    def __init__(self, app: Callable[..., Iterable[bytes]], site: Site) -> None:
        self.app = app
        self.site = site

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ[PAGE], environ[SITE] = self._page, self.site
        environ[BASE] = environ.get("SCRIPT_NAME", "")
        return self.app(environ, start_response)

    def _page(self, environ: Environ, problem: Problem) -> bytes | None:
        if "middleware.static" not in environ:
            return None  # refused before it came to where styles are known
        try:
            return self._rendered(environ, problem)
        except Exception:
            logging.getLogger(__name__).exception("the page of a problem cannot be shown")
            return None

    def _rendered(self, environ: Environ, problem: Problem) -> bytes:
        context = RequestContext(environ)
        return render.html(
            context,
            "frame/error.html",
            title=problem.title,
            problem=problem,
            advice=ADVICE.get(problem.status, ""),
            back=context.url(context.parent) if context.changes else "",
        )
