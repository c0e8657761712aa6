"""Trusted proxy headers: X-Forwarded-For, -Proto, -Host and the user's name.

``application = TrustedProxy(application, hosts=("media.example.org",))``

Takes scheme, host, the client's address and the user from a trusted peer only.
The headers of all peers are removed, so that no component inside trusts them by
mistake. REMOTE_USER is always the user that a trusted proxy named. Authentication
gives it a role.

Requests to other hosts than ``hosts`` are answered 400, against DNS rebinding.
``environ["middleware.own_host"]`` is a Host that is one of ``hosts``, with its
port.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.framing import is_host
from middleware.problem import Problem

KEY = "middleware.own_host"
MAX_USER = 255  # characters

_control = re.compile(r"[\x00-\x1f\x7f]").search
# [2001:db8::1]:443, 192.0.2.1:443, or either without its port
_with_port = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+").fullmatch
_FORWARDED = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_REAL_IP",
)


class Peers:
    """Networks, and "unix" for peers at a Unix socket, which have no address.
    ValueError if a word is neither."""

    def __init__(self, words: Iterable[str]) -> None:
        names = list(words)
        self._unix = "unix" in names
        self._networks = [_network(word) for word in names if word != "unix"]
        self._cached = lru_cache(maxsize=1024)(self._contains)

    def __call__(self, peer: str) -> bool:
        """Whether the peer with this address is one of them."""
        return self._cached(peer)

    def _contains(self, peer: str) -> bool:
        if not peer:
            return self._unix
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(_plain(address) in network for network in self._networks)


class TrustedProxy:
    """``trusted`` has networks, and "unix" for peers at a Unix socket. Every user of
    this host can connect to its TCP ports, so by default only "unix" is trusted.

    ``hosts`` are the allowed values of Host, with or without a port, checked after
    X-Forwarded-Host has been applied. Without them every Host is allowed, and
    ``own_host`` is never set. ValueError if a word of ``trusted`` is wrong.
    """

    def __init__(
        self,
        app: WSGIApplication,
        trusted: Iterable[str] = ("unix",),
        user_header: str = "X-Remote-User",
        hosts: Iterable[str] = (),
    ) -> None:
        self.app = app
        self.user_header = user_header
        self.hosts = frozenset(host.lower() for host in hosts)
        self._user_key = "HTTP_" + user_header.upper().replace("-", "_")
        self._trusts = Peers(trusted)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._apply(environ)
        except Problem as problem:
            return problem(environ, start_response)
        return self.app(environ, start_response)

    def _apply(self, environ: WSGIEnvironment) -> None:
        forwarded = {key: environ.pop(key) for key in _FORWARDED if key in environ}
        user = environ.pop(self._user_key, None)
        environ.pop("REMOTE_USER", None)
        environ.pop(KEY, None)
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            if user is not None:
                environ["REMOTE_USER"] = self._checked_user(user)
            if forwarded:
                self._forward(environ, forwarded)
        if self.hosts and "HTTP_HOST" in environ:
            environ[KEY] = self._checked_host(environ["HTTP_HOST"])

    def _forward(self, environ: WSGIEnvironment, forwarded: dict[str, str]) -> None:
        # The proxy itself added the last value of each; a client may have sent the others.
        if "HTTP_X_FORWARDED_PROTO" in forwarded:
            scheme = _last(forwarded["HTTP_X_FORWARDED_PROTO"]).lower()
            if scheme not in ("http", "https"):
                raise Problem(400, "X-Forwarded-Proto is neither http nor https.")
            environ["wsgi.url_scheme"] = scheme
        if "HTTP_X_FORWARDED_HOST" in forwarded:
            host = environ["HTTP_HOST"] = _last(forwarded["HTTP_X_FORWARDED_HOST"])
            if not is_host(host):
                raise Problem(400, "X-Forwarded-Host is not a host.")
        if "HTTP_X_FORWARDED_FOR" in forwarded:
            environ["REMOTE_ADDR"] = self._client(forwarded["HTTP_X_FORWARDED_FOR"])

    def _client(self, hops: str) -> str:
        """The last hop that is not a trusted proxy; the first hop if all are."""
        address = ""
        for hop in reversed(hops.split(",")):
            address = _address(hop.strip())
            if not self._trusts(address):
                break
        return address

    def _checked_user(self, user: str) -> str:
        name = user.strip()
        if not name or name.lower() == "(null)":
            raise self._user_problem("names no user")
        if "," in name:
            raise self._user_problem("is given twice")
        if len(name) > MAX_USER:
            raise self._user_problem(f"has more than {MAX_USER} characters")
        if _control(name):
            raise self._user_problem("has control characters")
        return name

    def _user_problem(self, what: str) -> Problem:
        return Problem(400, f"The header {self.user_header} {what}; check the proxy's settings.")

    def _checked_host(self, host: str) -> str:
        name = host.lower()
        if name not in self.hosts and _without_port(name) not in self.hosts:
            raise Problem(400, "This host is not served here.")
        return host


def _network(word: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise ValueError(f"trusted: {word!r} is neither a network nor unix: {error}") from error


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address of an IPv4 peer at an IPv6 socket."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip()


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() and not port.endswith("]") else host


@lru_cache(maxsize=1024)
def _address(hop: str) -> str:
    match = _with_port(hop)
    text = (match[1] or match[2]) if match else hop
    try:
        return str(_plain(ip_address(text)))
    except ValueError as error:
        raise Problem(400, "X-Forwarded-For has a value that is not an address.") from error


filter_factory = paste.factory(
    TrustedProxy, trusted=paste.words, user_header=paste.text, hosts=paste.words
)
