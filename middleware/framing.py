"""What is strict about the framing of a request, and a component that refuses the rest.

``application = StrictFraming(application)``

The functions on bytes are for a server: ``check_head`` and ``Chunks`` take what
came over the wire. The component sees only what a server left in the environ,
so it cannot see duplicates, folded lines or bad chunks: a server that is loose
about those needs the functions too. Neither looks at what a request means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from middleware import paste
from middleware.problem import Problem

MAX_TARGET = 16 * 1024
MAX_HEAD = 64 * 1024
MAX_FIELDS = 200
MAX_TRAILER = 8 * 1024
# Of these a request has one: which of two is meant, each program guesses anew.
SINGLETONS = frozenset(
    b"authorization content-length content-type host origin transfer-encoding x-remote-user"
    b" x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)
REFUSED_METHODS = frozenset({"TRACE", "TRACK", "CONNECT"})

_CLOSE = ("Connection", "close")
_method = re.compile(rb"[A-Z][A-Z0-9._-]{0,31}").fullmatch
_version = re.compile(rb"HTTP/([0-9])\.([0-9])").fullmatch
_target = re.compile(rb"[\x21\x22\x24-\x7e]*").fullmatch  # visible, and no fragment
_field = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*").fullmatch
_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_controls = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
is_host = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_digits = re.compile(r"[0-9]{1,18}").fullmatch
_chunk_size = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
# What can be seen to be wrong before the empty line has come.
_broken_line = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\x00").search


def _refuse(detail: str, status: int = 400) -> NoReturn:
    headers = [_CLOSE]
    if status == 405:
        headers.append(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    raise Problem(status, detail, headers=headers)


@dataclass(frozen=True)
class Head:
    """The facts of a request's head. Names of fields are in lower case.

    ``length`` is None for a chunked body. Fields that came more than once are
    joined, and those whose name has an underscore are gone: in an environ they
    would look like others.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: dict[bytes, bytes]
    length: int | None
    expects: bool  # 100-continue
    persistent: bool

    @property
    def path(self) -> bytes:
        """Without percent-encoding."""
        return unquote_to_bytes(self.target.partition(b"?")[0])

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]


def check_head(
    head: bytes, *, singletons: frozenset[bytes] = SINGLETONS, max_target: int = MAX_TARGET
) -> Head:
    """The facts of a head, from its first byte to its empty line.

    Raises the Problem to answer with; the connection must be closed then, for
    nobody knows where the next request would begin.
    """
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, target, version = _request_line(line, max_target)
    fields = _fields(lines, singletons)
    _check_host(fields.get(b"host"), version)
    length = _length(fields, version)
    tokens = [t.strip() for t in fields.get(b"connection", b"").lower().split(b",")]
    persistent = b"close" not in tokens and (version != b"HTTP/1.0" or b"keep-alive" in tokens)
    return Head(
        method, target, version, fields, length, _expects(fields, version, length), persistent
    )


def check_start(
    data: bytes | bytearray,
    seen: int = 0,
    *,
    max_target: int = MAX_TARGET,
    max_head: int = MAX_HEAD,
) -> None:
    """Refuse what is wrong already with the beginning of a head.

    The first ``seen`` bytes were checked before.
    """
    # The request line has a method and a version too.
    if data.find(b"\r\n", 0, max_target + 64) < 0 and len(data) > max_target + 64:
        _refuse("The URL is too long.", 414)
    if _broken_line(data, max(0, seen - 1)):
        _refuse("A line does not end with CR LF, or holds a NUL.")
    if len(data) > max_head:
        _refuse(f"The header has more than {max_head} bytes.", 431)


def _request_line(line: bytes, max_target: int) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3 or not _method(parts[0]):
        _refuse("The request line is malformed.")
    method, target, version = parts
    number = _version(version)
    if not number:
        _refuse("The request line is malformed.")
    if number[1] != b"1":
        _refuse("Only HTTP/1.0 and HTTP/1.1 are spoken here.", 505)
    if method.decode() in REFUSED_METHODS:
        _refuse(f"{method.decode()} is not allowed.", 405)
    if len(target) > max_target:
        _refuse("The URL is too long.", 414)
    if not target.startswith(b"/") or not _target(target) or b"%00" in target:
        _refuse("The URL is malformed; it must be a path.")
    return method, target, b"HTTP/1.0" if version == b"HTTP/1.0" else b"HTTP/1.1"


def _fields(lines: Iterable[bytes], singletons: frozenset[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for number, line in enumerate(lines):
        if number >= MAX_FIELDS:
            _refuse(f"There are more than {MAX_FIELDS} header fields.", 431)
        name, value = _name_and_value(line)
        if b"_" in name:
            continue
        if name not in fields:
            fields[name] = value
        elif name in singletons:
            _refuse(f"The header {name.decode()} is given twice.")
        else:
            fields[name] += (b"; " if name == b"cookie" else b", ") + value
    return fields


def _name_and_value(line: bytes) -> tuple[bytes, bytes]:
    # A lone CR or LF, a NUL and a folded line are control characters or no name.
    match = None if _control(line) else _field(line)
    if match is None:
        _refuse("A header field is malformed.")
    return match[1].lower(), match[2]


def _check_host(host: bytes | None, version: bytes) -> None:
    if host is None:
        if version != b"HTTP/1.0":
            _refuse("The header Host is missing.")
    elif not is_host(host.decode("latin-1")):
        _refuse("The header Host is malformed.")


def _length(fields: dict[bytes, bytes], version: bytes) -> int | None:
    """Bytes of the body; None if it is chunked."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            _refuse("Content-Length and Transfer-Encoding are both given.")
        if coding.lower() != b"chunked" or version == b"HTTP/1.0":
            _refuse("The Transfer-Encoding is not chunked.")
        return None
    if length is None:
        return 0
    if not _digits(length.decode("latin-1")):
        _refuse("Content-Length is not a number.")
    return int(length)


def _expects(fields: dict[bytes, bytes], version: bytes, length: int | None) -> bool:
    expectation = fields.get(b"expect", b"").lower()
    if expectation not in (b"", b"100-continue"):
        _refuse("Only 100-continue can be expected.", 417)
    return bool(expectation) and version != b"HTTP/1.0" and length != 0


class Chunks:
    """Decodes a chunked body as it arrives; raises the Problem to answer with.

    ``limit`` is of the decoded body, in bytes. Trailers are checked and dropped.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.done = False
        self._limit = limit
        self._left = 0  # bytes of this chunk still to come
        self._overhead = 0
        self._step = self._size

    def feed(self, data: bytearray) -> None:
        """Take from the front of ``data`` all that can be decoded yet."""
        while not self.done and self._step(data):
            pass

    def _size(self, data: bytearray) -> bool:
        line = self._line(data)
        if line is None:
            return False
        match = _chunk_size(line)
        if match is None:
            _refuse("The size of a chunk is malformed.")
        self._left = int(match[1], 16)
        if len(self.body) + self._left > self._limit:
            _refuse(f"The body has more than {self._limit} bytes.", 413)
        self._step = self._data if self._left else self._trailer
        return True

    def _data(self, data: bytearray) -> bool:
        piece = data[: self._left]
        del data[: len(piece)]
        self.body += piece
        self._left -= len(piece)
        if not self._left:
            self._step = self._end
        return bool(piece)

    def _end(self, data: bytearray) -> bool:
        if not b"\r\n".startswith(data[:2]):
            _refuse("A chunk is longer than its size says.")
        if len(data) < 2:
            return False
        del data[:2]
        self._step = self._size
        return True

    def _trailer(self, data: bytearray) -> bool:
        line = self._line(data)
        if line is None:
            return False
        if line:
            _name_and_value(line)
        self.done = not line
        return True

    def _line(self, data: bytearray) -> bytes | None:
        """The next line, without its end; None if it is not whole yet."""
        end = data.find(b"\r\n")
        line = bytes(data if end < 0 else data[:end])
        # Without a bound, tiny chunks cost us more than they cost the sender.
        if self._overhead + len(line) > MAX_TRAILER + len(self.body):
            _refuse("The chunks have more around them than in them.")
        if end < 0:
            if _broken_line(line):
                _refuse("A line does not end with CR LF, or holds a NUL.")
            return None
        self._overhead += end + 4
        del data[: end + 2]
        return line


class StrictFraming:
    """Refuses what a server should not have let through, and closes the connection.

    ``max_target`` and ``max_head`` are in bytes of URL and of all header fields.
    Set ``close`` to False for servers that take no ``Connection`` header from an
    application (wsgiref's own).
    """

    def __init__(
        self,
        app: WSGIApplication,
        max_target: int = MAX_TARGET,
        max_head: int = MAX_HEAD,
        close: bool = True,
    ) -> None:
        self.app = app
        self.max_target = max_target
        self.max_head = max_head
        self.close = close

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._check(environ)
        except Problem as problem:
            if not self.close:
                problem.headers = [pair for pair in problem.headers if pair != _CLOSE]
            return problem(environ, start_response)
        return self.app(environ, start_response)

    def _check(self, environ: WSGIEnvironment) -> None:
        method = environ["REQUEST_METHOD"]
        if method in REFUSED_METHODS:
            _refuse(f"{method} is not allowed.", 405)
        path, query = environ.get("PATH_INFO", ""), environ.get("QUERY_STRING", "")
        if len(path) + len(query) > self.max_target:
            _refuse("The URL is too long.", 414)
        if _controls(f"{method}{path}{query}"):
            _refuse("The request line has control characters.")
        self._check_fields(environ)
        _check_length(environ)
        host = environ.get("HTTP_HOST")
        if host is None and environ.get("SERVER_PROTOCOL") != "HTTP/1.0":
            _refuse("The header Host is missing.")
        if host is not None and not is_host(host):
            _refuse("The header Host is malformed.")

    def _check_fields(self, environ: WSGIEnvironment) -> None:
        values = "".join([value for key, value in environ.items() if key.startswith("HTTP_")])
        if len(values) > self.max_head:
            _refuse(f"The header has more than {self.max_head} bytes.", 431)
        if _controls(values) or _controls(environ.get("CONTENT_TYPE", "")):
            _refuse("A header field has control characters.")


def _check_length(environ: WSGIEnvironment) -> None:
    length = environ.get("CONTENT_LENGTH")
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if length and not _digits(length):
        _refuse("Content-Length is not a number.")
    if coding is not None:
        if length:
            _refuse("Content-Length and Transfer-Encoding are both given.")
        if coding.lower() != "chunked":
            _refuse("The Transfer-Encoding is not chunked.")


filter_factory = paste.factory(
    StrictFraming, max_target=paste.whole, max_head=paste.whole, close=paste.flag
)
