"""HTTP client for webhooks: one POST to a checked address, with one deadline.

The name is resolved once, its address checked and connected to; TLS and the Host
header use the name. Redirects, proxies, cookies and passwords of the environment are
ignored. Of the answer only the status is read.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import httpcore

from backoffice.config import addresses
from backoffice.config.addresses import Hosts

_PORTS = {"http": 80, "https": 443}
_KEPT = "/%:=&?~#+!$,;'@()*[]"  # in a URL's path and query; other characters are quoted

_SocketOptions = Iterable[Any]


class Unreachable(Exception):
    """There was no answer. The message says why, without details of the receiver's
    network."""


def post(url: str, content: bytes, headers: Mapping[str, str], timeout: float, hosts: Hosts) -> int:
    """The status of the answer. ``timeout`` is in seconds and excludes name resolution.

    Raises HostRefused, or Unreachable.
    """
    try:
        return _post(url, content, headers, time.monotonic() + timeout, hosts)
    except (socket.gaierror, UnicodeError) as error:
        raise Unreachable("its name is not known") from error
    except httpcore.TimeoutException as error:
        raise Unreachable("it took too long") from error
    except httpcore.ConnectError as error:
        raise Unreachable(_unconnected(error)) from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise Unreachable("its answer is not HTTP") from error
    except (httpcore.NetworkError, OSError) as error:
        raise Unreachable("the connection broke") from error


def _post(
    url: str, content: bytes, headers: Mapping[str, str], deadline: float, hosts: Hosts
) -> int:
    parts = urlsplit(url)
    place = _place(parts)
    backend = _Pinned(hosts, deadline)
    tls = ssl.create_default_context()
    given = {**headers, **_login(parts), "host": _host(parts, place)}
    with (
        httpcore.ConnectionPool(ssl_context=tls, network_backend=backend) as pool,
        pool.stream("POST", place, headers=[*given.items()], content=content) as response,
    ):
        return response.status


def _place(parts: SplitResult) -> httpcore.URL:
    target = quote(parts.path or "/", safe=_KEPT)
    if parts.query:
        target += f"?{quote(parts.query, safe=_KEPT)}"
    host = (parts.hostname or "").encode("idna")
    port = parts.port or _PORTS[parts.scheme]
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=target)


def _host(parts: SplitResult, place: httpcore.URL) -> str:
    """The Host header: an IPv6 address in brackets, the port if the URL has one."""
    host = place.host.decode()
    written = f"[{host}]" if ":" in host else host
    return f"{written}:{parts.port}" if parts.port else written


def _login(parts: SplitResult) -> Mapping[str, str]:
    if parts.username is None:
        return {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"authorization": f"Basic {base64.b64encode(login).decode()}"}


def _unconnected(error: httpcore.ConnectError) -> str:
    (cause,) = error.args or (None,)  # the pool drops __cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "its certificate is not valid"
    return "it speaks no TLS" if isinstance(cause, ssl.SSLError) else "it takes no connection"


class _Pinned(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, one after the other."""

    def __init__(self, hosts: Hosts, deadline: float) -> None:
        self._hosts = hosts
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: _SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in addresses.resolve(host, port, self._hosts):
            try:
                stream = self._sockets.connect_tcp(address, port, _left(self._deadline))
                return _Bounded(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A connection whose every step ends by the deadline, so that a receiver cannot delay
    it by sending a byte now and then."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Bounded(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    """Seconds to the deadline; raises ReadTimeout once it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left
