"""HTTP/1.1 request framing, strictly checked, against request smuggling.

``application = StrictFraming(application)``

``check_start``, ``check_head`` and ``Chunks`` are for a server and take the bytes
of the connection. h11 parses heads, but accepts some that other programs read
differently (bare LF, folded lines, the same length given twice), and its time
grows with the square of a run of blanks before a control character. So bytes that
do not belong in a head are refused before h11 sees them. Chunks are decoded here,
because h11 would parse their trailers unchecked.

The component sees only the environ: no duplicates, folded lines or bad chunks. A
server that accepts those needs the functions too. All take time linear in the
size of the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import h11

from middleware import paste
from middleware.problem import Problem

MAX_TARGET = 16 * 1024
MAX_HEAD = 64 * 1024
MAX_FIELDS = 200
MAX_CHUNK_LINE = 1024
MAX_TRAILER = 8 * 1024
# Bytes of all chunk lines may exceed those of the body by this many.
CHUNK_OVERHEAD = 8 * 1024
# Fields that a request has once: programs differ in which of two they use.
SINGLETONS = frozenset(
    b"authorization content-length content-type host origin transfer-encoding x-remote-user"
    b" x-forwarded-for x-forwarded-host x-forwarded-proto".split()
)
REFUSED_METHODS = frozenset({"TRACE", "TRACK", "CONNECT"})

_CLOSE = ("Connection", "close")
_REQUEST_LINE = 64  # bytes of a request line without its target
_method = re.compile(rb"[A-Z][A-Z0-9._-]{0,31}").fullmatch
# Control characters, bare CR or LF, folded lines. A CR at the end may precede an LF.
_misplaced = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n|\Z)|(?<!\r)\n|\n[ \t]").search
_lengths = re.compile(rb"\ncontent-length:([^\r]*)", re.IGNORECASE).findall
_field_name = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:").match
_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_controls = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
is_host = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?").fullmatch
_digits = re.compile(r"[0-9]{1,18}").fullmatch
_chunk_size = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch


def _refuse(detail: str, status: int = 400) -> NoReturn:
    headers = [_CLOSE]
    if status == 405:
        headers.append(("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    raise Problem(status, detail, headers=headers)


@dataclass(frozen=True)
class Head:
    """A parsed request head. Names of fields are in lower case.

    ``length`` is None for a chunked body. Fields that came more than once are
    joined. Fields with an underscore in their name are dropped: in an environ,
    X_A equals X-A.
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
        """Percent-decoded."""
        return unquote_to_bytes(self.target.partition(b"?")[0])

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]


def check_start(
    data: bytes | bytearray,
    seen: int = 0,
    *,
    max_target: int = MAX_TARGET,
    max_head: int = MAX_HEAD,
) -> None:
    """Check the beginning of a head; raises the Problem to answer with.

    The first ``seen`` bytes have been checked before.
    """
    line = max_target + _REQUEST_LINE
    if seen <= line < len(data) and data.find(b"\r\n", 0, line) < 0:
        _refuse("The URL is too long.", 414)
    if _misplaced(data, max(0, seen - 2)):
        _refuse("The header has control characters, a folded line, or a line without CR LF.")
    if len(data) > max_head:
        _refuse(f"The header has more than {max_head} bytes.", 431)


def check_head(
    head: bytes,
    *,
    singletons: frozenset[bytes] = SINGLETONS,
    max_target: int = MAX_TARGET,
    max_head: int = MAX_HEAD,
) -> Head:
    """Parse a head, from its first byte to its empty line.

    Raises the Problem to answer with; the connection must be closed then, because
    the start of the next request is uncertain.
    """
    check_start(head, max_target=max_target, max_head=max_head)
    if head.count(b"\r\n") > MAX_FIELDS + 2:
        _refuse(f"There are more than {MAX_FIELDS} header fields.", 431)
    # h11 accepts several equal lengths, and "1, 1".
    lengths = _lengths(head)
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        _refuse("Content-Length is given twice.")
    request = _parsed(head)
    _check_request_line(request, max_target)
    version = b"HTTP/1.0" if request.http_version == b"1.0" else b"HTTP/1.1"
    fields = _fields(request.headers, singletons)
    _check_host(fields.get(b"host"), version)
    length = _length(fields, version)
    expects = _expects(fields, version, length)
    persistent = _persists(fields, version)
    return Head(request.method, request.target, version, fields, length, expects, persistent)


def _parsed(head: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        # After the colon, h11 quotes what the client sent.
        _refuse(f"The header is malformed: {str(error).partition(':')[0].lower()}.")
    if not isinstance(event, h11.Request):
        _refuse("The header is malformed.")
    return event


def _check_request_line(request: h11.Request, max_target: int) -> None:
    method, target = request.method, request.target
    if not _method(method):
        _refuse("The method is malformed.")
    if not request.http_version.startswith(b"1."):
        _refuse("Only HTTP/1.0 and HTTP/1.1 are supported.", 505)
    if method.decode() in REFUSED_METHODS:
        _refuse(f"{method.decode()} is not allowed.", 405)
    if len(target) > max_target:
        _refuse("The URL is too long.", 414)
    if not target.startswith(b"/") or b"#" in target or b"%00" in target:
        _refuse("The URL is malformed; it must be a path.")


def _fields(
    headers: Iterable[tuple[bytes, bytes]], singletons: frozenset[bytes]
) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if b"_" in name:
            continue
        if name not in fields:
            fields[name] = value
        elif name in singletons:
            _refuse(f"The header {name.decode()} is given twice.")
        else:
            fields[name] += (b"; " if name == b"cookie" else b", ") + value
    return fields


def _check_host(host: bytes | None, version: bytes) -> None:
    if host is None:
        if version != b"HTTP/1.0":
            _refuse("The header Host is missing.")
    elif not is_host(host.decode("latin-1")):
        _refuse("The header Host is malformed.")


def _length(fields: dict[bytes, bytes], version: bytes) -> int | None:
    """Bytes of the body; None for a chunked one."""
    if b"transfer-encoding" not in fields:
        return int(fields.get(b"content-length", b"0"))
    if b"content-length" in fields:
        _refuse("Content-Length and Transfer-Encoding are both given.")
    if version == b"HTTP/1.0":
        _refuse("HTTP/1.0 has no Transfer-Encoding.")
    return None


def _expects(fields: dict[bytes, bytes], version: bytes, length: int | None) -> bool:
    expectation = fields.get(b"expect", b"").lower()
    if expectation not in (b"", b"100-continue"):
        _refuse("Only 100-continue can be expected.", 417)
    return bool(expectation) and version != b"HTTP/1.0" and length != 0


def _persists(fields: dict[bytes, bytes], version: bytes) -> bool:
    tokens = [t.strip() for t in fields.get(b"connection", b"").lower().split(b",")]
    return b"close" not in tokens and (version != b"HTTP/1.0" or b"keep-alive" in tokens)


class Chunks:
    """Decoder of a chunked body; raises the Problem to answer with.

    ``limit`` is the size of the decoded body in bytes. Trailers are checked and
    dropped.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.done = False
        self._limit = limit
        self._remaining = 0  # bytes of this chunk still to come
        self._overhead = 0  # bytes of chunk lines and line ends
        self._trailers = 0  # bytes
        self._seen = 0  # bytes of an unfinished line that have been checked
        self._step = self._size

    def feed(self, data: bytearray) -> None:
        """Decode as much of ``data`` as possible and remove it from its front."""
        while not self.done and self._step(data):
            pass

    def _size(self, data: bytearray) -> bool:
        line = self._line(data, MAX_CHUNK_LINE)
        if line is None:
            return False
        match = _chunk_size(line)
        if match is None:
            _refuse("The size of a chunk is malformed.")
        self._count(len(line) + 4)
        self._remaining = int(match[1], 16)
        if len(self.body) + self._remaining > self._limit:
            _refuse(f"The body has more than {self._limit} bytes.", 413)
        self._step = self._data if self._remaining else self._trailer
        return True

    def _count(self, size: int) -> None:
        """Tiny chunks would cost the server more than the sender."""
        self._overhead += size
        if self._overhead > CHUNK_OVERHEAD + len(self.body):
            _refuse("The chunks are too small: their framing is larger than the body.")

    def _data(self, data: bytearray) -> bool:
        piece = data[: self._remaining]
        del data[: len(piece)]
        self.body += piece
        self._remaining -= len(piece)
        if not self._remaining:
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
        line = self._line(data, MAX_TRAILER - self._trailers)
        if line is None:
            return False
        if line and not _field_name(line):
            _refuse("A trailer field is malformed.")
        self._trailers += len(line) + 2
        self.done = not line
        return True

    def _line(self, data: bytearray, max_size: int) -> bytes | None:
        """The next line without its end; None if it is incomplete."""
        end = data.find(b"\r\n", max(0, self._seen - 1))
        size = len(data) if end < 0 else end
        if size > max_size:
            _refuse("A chunk's line, or the trailer, is too long.", 431)
        if end < 0:
            if _misplaced(data, max(0, self._seen - 1)):
                _refuse("A line does not end with CR LF, or has control characters.")
            self._seen = size
            return None
        line = bytes(data[:end])
        if _control(line):
            _refuse("A line around a chunk has control characters.")
        self._seen = 0
        del data[: end + 2]
        return line


class StrictFraming:
    """Refuses malformed requests that the server let pass, and closes the connection.

    ``max_target`` and ``max_head`` are the bytes of the URL and of all header
    fields. Set ``close`` to False for servers that refuse a ``Connection`` header
    from an application (wsgiref's).
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
