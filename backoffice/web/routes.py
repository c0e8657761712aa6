"""Which handler a request belongs to: templates of paths, and what stands behind.

Owns matching and the difference between "there is nothing" (404) and "not with
this method" (405). What a route does is its handler's; the table of all of
them is ``api.ROUTES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from middleware.problem import Problem

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
SUFFIXES = {".xml": "xml", ".json": "json", ".atom": "atom"}
MATCH = "backoffice.match"  # in the environ, once it has been found

Environ = MutableMapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query. ``convert`` raises ValueError, whose message ends
    the sentence "… is not"; ``schema`` is its JSON Schema."""

    name: str
    convert: Callable[[str], Any]
    description: str
    schema: Mapping[str, object]
    many: bool = False  # may be repeated, or hold several values with commas


@dataclass(frozen=True)
class Route:
    """``path`` is a template: {id} stands for a whole number, {name} for any
    segment, {path} for all that follows."""

    method: str
    path: str
    handler: Callable[..., Any]
    summary: str
    gives: str = ""  # kind of document in ``documents``; empty: something else
    takes: str = ""  # kind of document in the body
    role: str = VIEWER
    status: int = 200
    query: tuple[Parameter, ...] = ()
    media_type: str = ""  # of what it gives when that is no document
    refuses: tuple[int, ...] = ()  # statuses beyond those that any route may have


@dataclass(frozen=True)
class Match:
    route: Route
    arguments: Mapping[str, Any]
    format: str = ""  # as the path's suffix asks for; empty: as Accept does


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._long: list[tuple[list[str], Route]] = []
        self._short: dict[tuple[int, str], list[tuple[list[str], Route]]] = {}
        for route in routes:
            parts = _split(route.path)
            if parts[-1] == "{path}":
                self._long.append((parts[:-1], route))
            else:
                self._short.setdefault((len(parts), parts[0]), []).append((parts, route))

    def match(self, environ: Environ) -> Match:
        """The route of a request; raises Problem 404 or 405. Found once a request."""
        found: Match | None = environ.get(MATCH)
        if found is None:
            found = environ[MATCH] = self.find(
                environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
            )
            environ["middleware.route"] = found.route.path
            if found.format:
                environ["middleware.format"] = found.format
        return found

    def find(self, method: str, path: str) -> Match:
        method = "GET" if method == "HEAD" else method
        matches = self._of_path(path)
        if not matches:
            raise Problem(404, "there is nothing at this address; / tells what there is")
        for match in matches:
            if match.route.method == method:
                return match
        allowed = {match.route.method for match in matches}
        allowed |= {"HEAD"} if "GET" in allowed else set()
        names = ", ".join(sorted(allowed))
        detail = f"{method} is not possible here; possible are {names}"
        raise Problem(405, detail, headers=[("Allow", names)])

    def _of_path(self, path: str) -> list[Match]:
        parts = _split(path)
        stem, suffix = _suffix(parts[-1])
        if suffix:
            found = self._exactly([*parts[:-1], stem], SUFFIXES[suffix])
            if documents := [one for one in found if one.route.gives]:
                return documents
        return self._exactly(parts, "") or self._beneath(parts)

    def _exactly(self, parts: list[str], wanted: str) -> list[Match]:
        found = []
        for template, route in self._short.get((len(parts), parts[0]), ()):
            arguments = _arguments(template, parts)
            if arguments is not None:
                found.append(Match(route, arguments, wanted))
        return found

    def _beneath(self, parts: list[str]) -> list[Match]:
        found = []
        for template, route in self._long:
            size = len(template)
            arguments = _arguments(template, parts[:size]) if len(parts) > size else None
            if arguments is not None:
                rest = "/".join(parts[size:])
                found.append(Match(route, {**arguments, "path": rest}))
        return found


def _split(path: str) -> list[str]:
    """The segments of a path; one slash at its end makes no difference."""
    return path.removeprefix("/").removesuffix("/").split("/")


def _suffix(segment: str) -> tuple[str, str]:
    stem, dot, end = segment.rpartition(".")
    return (stem, dot + end) if dot + end in SUFFIXES else (segment, "")


def _arguments(template: list[str], parts: list[str]) -> dict[str, Any] | None:
    """What stands where the template has a name; None if it does not fit."""
    found: dict[str, Any] = {}
    for wanted, part in zip(template, parts, strict=True):
        if not wanted.startswith("{"):
            if wanted != part:
                return None
        elif wanted == "{id}":
            if not (part.isascii() and part.isdigit() and len(part) <= 18):
                return None
            found["id"] = int(part)
        elif part:
            found[wanted[1:-1]] = part
        else:
            return None
    return found
