"""Mounted applications: WSGI applications of others beneath a path prefix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from wsgiref.types import WSGIApplication


class Mounts:
    """Calls the application whose prefix the path has, and ``app`` for any other path.

    A prefix begins with a slash and ends without one. The components around, and so
    the identity, the transaction and CSRF protection, are the same for all.
    """

    def __init__(self, app: WSGIApplication, applications: Mapping[str, WSGIApplication]) -> None:
        self.app = app
        self.applications = applications

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        for prefix, application in self.applications.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["middleware.route"] = prefix
                script_name = environ.get("SCRIPT_NAME", "") + prefix
                moved = {"SCRIPT_NAME": script_name, "PATH_INFO": path.removeprefix(prefix)}
                return application({**environ, **moved}, start_response)
        return self.app(environ, start_response)
