"""Requests to one service: where it is, what is repeated, which error an answer is.

Owns everything about HTTP; it knows nothing of jobs or files.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx

from backoffice.errors import (
    BackofficeError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    ServiceFault,
    ServiceUnreachable,
)

PAUSES = (0.5, 1.0, 2.0)  # seconds before each repetition
LONGEST_WAIT = 30.0  # seconds; a service that asks for more is not waited for
OWN = "X-Backoffice-Token"  # what the service's replicas must have seen
_CONNECT = 5.0  # seconds
_TOKEN_HELP = (
    "give a token: in BACKOFFICE_TOKEN, or in a file with --token-file"
    " ('backoffice token create' makes one)"
)
_ERRORS: Mapping[int, type[BackofficeError]] = {
    **dict.fromkeys((400, 411, 413, 414, 415, 422, 431), Invalid),
    403: NotAllowed,
    **dict.fromkeys((404, 405, 410), NotFound),
    **dict.fromkeys((409, 412), Conflict),
}
_LATER = (429, 502, 503, 504)

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a service is; ``local`` if nobody on a network can listen."""

    url: str
    socket: str | None
    local: bool


def place(url: str, uds: str | None) -> Place:
    """Raises Invalid for what is no address of a service."""
    if url.startswith("http+unix://"):
        url, uds = "http://localhost", unquote(url.removeprefix("http+unix://"))
    if uds is not None and not uds.startswith("/"):
        raise Invalid("write the path of a socket as in http+unix:///run/backoffice/socket")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Invalid(f"{url!r} is no URL: {error}") from error
    if parsed.userinfo:
        raise Invalid("the URL of the service holds a user or a password; use a token instead")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise Invalid(f"{url!r} is no URL of a service such as https://backoffice.example.org")
    return Place(str(parsed), uds, uds is not None or _is_loopback(parsed.host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer(token: str | None, place: Place, insecure: bool) -> dict[str, str]:
    """The header for a token; raises Invalid where others could read it."""
    if not token:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise Invalid("the token holds blanks or other characters that no token has")
    if not (place.url.startswith("https:") or place.local or insecure):
        raise Invalid(
            f"the token could be read on the way to {place.url}; use https, or a tunnel from a"
            " port of this host"
        )
    return {"Authorization": f"Bearer {token}"}


class Connection:
    """``transport`` is httpx's; ``sleep`` takes seconds."""

    def __init__(
        self,
        place: Place,
        headers: Mapping[str, str],
        timeout: float,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None],
    ) -> None:
        if transport is None and place.socket is not None:
            transport = httpx.HTTPTransport(uds=place.socket)
        self.where = place.socket or place.url
        self.sleep = sleep
        self.http = httpx.Client(
            base_url=place.url,
            headers={"Accept": "application/json", **headers},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT)),
            transport=transport,
            trust_env=not place.local,  # a proxy is not for what is on this host
            event_hooks={"request": [self._ask_for_own], "response": [self._note_own]},
        )
        self._own: dict[bool, str] = {}

    def close(self) -> None:
        self.http.close()

    # What was written is seen again, also where another server is read from. Of
    # several threads a late answer that only looked takes no write away.

    def _ask_for_own(self, request: httpx.Request) -> None:
        if own := ",".join(dict.fromkeys(self._own.values())):
            request.headers[OWN] = own

    def _note_own(self, answer: httpx.Response) -> None:
        if own := answer.headers.get(OWN):
            self._own = {**self._own, answer.request.method == "GET": own}

    # Ask

    def get(
        self,
        path: str,
        parameters: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        also: Sequence[int] = (),
    ) -> httpx.Response:
        """Parameters that are None or empty are left out."""
        given = {k: str(v) for k, v in (parameters or {}).items() if v not in (None, "")}
        # No parameters at all would take the query off an address that has one.
        return self.patiently(
            lambda: self.once("GET", path, also=also, params=given or None, headers=headers)
        )

    def post(self, path: str, document: object = None, *, again: bool = False) -> httpx.Response:
        def ask() -> httpx.Response:
            if document is None:
                return self.once("POST", path)
            return self.once("POST", path, json=document)

        return self.patiently(ask) if again else ask()

    def patiently(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gives, asked again a few times while the service is away."""
        for pause in PAUSES:
            try:
                return ask()
            except ServiceUnreachable as error:
                if error.after > LONGEST_WAIT:
                    raise
                self.sleep(max(pause * random.uniform(0.5, 1.5), error.after))
        return ask()

    def once(
        self, method: str, path: str, *, also: Sequence[int] = (), **parts: Any
    ) -> httpx.Response:
        """The answer if it is a good one, or has one of the statuses ``also``."""
        try:
            answer = self.http.request(method, path, **parts)
        except httpx.RequestError as error:
            raise self._away(error, method) from error
        if answer.is_success or answer.status_code in also:
            return answer
        raise self._error(answer)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str], also: Sequence[int] = ()
    ) -> Iterator[httpx.Response]:
        """The answer to a GET, whose body is not yet read."""
        try:
            with self.http.stream("GET", path, headers=headers) as answer:
                if not answer.is_success and answer.status_code not in also:
                    answer.read()
                    raise self._error(answer)
                yield answer
        except httpx.RequestError as error:
            raise self._away(error, "GET") from error

    def following(self, answer: httpx.Response) -> str | None:
        """The next page, which must not lead the token elsewhere."""
        link = answer.links.get("next", {}).get("url")
        if link is None:
            return None
        url = answer.url.join(link)
        if (url.scheme, url.netloc) != (answer.url.scheme, answer.url.netloc):
            raise ServiceFault(f"the service at {self.where} links to another: {url}")
        return str(url)

    def document(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            kind = answer.headers.get("Content-Type", "nothing")
            raise ServiceFault(f"{answer.url} is no address of this service: it gives {kind}")
        return found

    # Errors

    def _away(self, error: httpx.RequestError, method: str) -> BackofficeError:
        if not isinstance(error, httpx.TransportError):
            return ServiceFault(f"the answer of {self.where} cannot be read: {error}")
        reason = str(error) or type(error).__name__
        text = f"the service at {self.where} cannot be reached: {reason}"
        if method != "GET" and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            text += "; whether it did what was asked is not known"
        return ServiceUnreachable(text)

    def _error(self, answer: httpx.Response) -> BackofficeError:
        """The error for an answer that is not a good one."""
        status = answer.status_code
        text = _words(problem(answer)) or f"{answer.url.path} answers {status}"
        if status == HTTPStatus.UNAUTHORIZED:
            return NotAllowed(f"{text}; {_TOKEN_HELP}")
        if status in _LATER:
            after = answer.headers.get("Retry-After", "")
            waits = float(after) if re.fullmatch(r"[0-9]{1,9}", after) else 0.0
            return ServiceUnreachable(f"the service at {self.where}: {text}", after=waits)
        if answer.has_redirect_location:
            where = answer.headers["Location"]
            return ServiceFault(f"the service at {self.where} is now at {where}; use that")
        if kind := _ERRORS.get(status):
            return kind(text)
        request = answer.headers.get("X-Request-ID", "")
        known_as = f" (request {request})" if request not in text else ""
        return ServiceFault(f"the service at {self.where} failed: {text}{known_as}")


def problem(answer: httpx.Response) -> dict[str, Any]:
    """What RFC 9457 says of an error; empty if the answer is no such document."""
    if "json" not in answer.headers.get("Content-Type", ""):
        return {}
    try:
        found = json.loads(answer.content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(problem: Mapping[str, Any]) -> str:
    """A problem in a line, with the first faults of a document."""
    text = str(problem.get("detail") or problem.get("title") or "")
    faults = []
    for fault in islice(problem.get("errors") or (), 5):
        line = f"line {fault['line']}: " if fault.get("line") else ""
        faults.append(f"{line}{fault.get('message', '')}")
    return f"{text}: {'; '.join(faults)}" if faults else text
