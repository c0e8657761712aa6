"""A line to the web application inside this process, which can be cut and listened to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpx

Trouble = Callable[[httpx.Request], httpx.Response]


class Line(httpx.BaseTransport):
    """``troubles`` meet the next requests, one each; None lets one through."""

    def __init__(self, app: Any) -> None:
        self._line = httpx.WSGITransport(app, raise_app_exceptions=False)
        self.troubles: list[Trouble | None] = []
        self.asked: list[httpx.Request] = []
        self.answers: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        trouble = self.troubles.pop(0) if self.troubles else None
        answer = self._line.handle_request(request) if trouble is None else trouble(request)
        self.answers.append(answer.status_code)
        return answer

    @property
    def paths(self) -> list[str]:
        return [str(request.url.raw_path, "ascii") for request in self.asked]


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("Connection refused", request=request)


def dropped(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("Server disconnected", request=request)


def answers(status: int, body: bytes = b"", **headers: str) -> Trouble:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx.Response(status, content=body, headers=names, request=request)


def problem(status: int, body: bytes, **headers: str) -> Trouble:
    return answers(status, body, content_type="application/problem+json", **headers)


class Broken(httpx.SyncByteStream):
    """A body that ends before its end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Any:
        yield from self._pieces
        raise httpx.ReadError("Connection reset by peer")
