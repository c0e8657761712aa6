"""Reading XML that others wrote: bounded, without DTD, valid against a schema.

Owns the parser's settings, how much a document may hold, and the compiled
schemas. It knows nothing of what the documents mean; workflows, profiles and the
web's documents do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, cast
from xml.parsers import expat

from lxml import etree

from backoffice.config.resources import share
from backoffice.errors import DefinitionError, Invalid

NAMESPACE = "urn:backoffice:1"
RECIPE = 1 << 20  # bytes of a workflow or profile

# How much one document may hold. For each fault libxml2 looks at the siblings
# before it, so that elements × faults must stay small.
ELEMENTS = 2500
ATTRIBUTES = 10_000  # namespaces are among them
DEPTH = 32
FAULTS = 100  # that are told of one document; of the others only the number
_LONGEST = 200  # characters of what is told of a fault

_XINCLUDE = "{http://www.w3.org/2001/XInclude}*"
_ENCODINGS = ("utf-8", "us-ascii", "ascii")
_local = threading.local()


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a document. Schema faults have no column (0)."""

    line: int
    column: int
    message: str


class Malformed(Invalid):
    """Not an XML document that we read at all: not well formed, DTD, encoding."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        place = f"line {line}, column {column}: " if line else ""
        super().__init__(place + message)
        self.fault = Fault(line, column, message)


class TooLarge(Malformed):
    """It has more bytes, elements or attributes than are read."""


class WrongEncoding(Malformed):
    """In another encoding than UTF-8."""


class SchemaViolation(Invalid):
    """Well formed, but not as the schema wants it. ``more`` is how many faults it
    has beyond ``faults``."""

    def __init__(self, faults: tuple[Fault, ...], more: int = 0) -> None:
        super().__init__("; ".join(f"line {f.line}: {f.message}" for f in faults))
        self.faults = faults
        self.more = more


def parse(data: bytes, schema: str, *, limit: int) -> etree._Element:
    """The root of a document that is valid against ``schema/<schema>.xsd``.

    Raises Malformed or SchemaViolation. ``limit`` is in bytes. What the document
    holds is counted before it is parsed: a small one may need much memory.
    """
    root = _well_formed(data, limit)
    validate(root, schema)
    return root


def validate(root: etree._Element, schema: str) -> None:
    """Raise SchemaViolation unless ``root`` follows ``schema/<schema>.xsd``."""
    validator = _schema(schema)
    if not validator.validate(root):
        log = cast(Any, validator.error_log)  # a sequence, but its stubs do not say so
        faults = tuple(Fault(e.line, 0, _plain(e.message)) for e in islice(log, FAULTS))
        raise SchemaViolation(faults, len(log) - len(faults))


def require_few(root: etree._Element) -> None:
    """Raise TooLarge for a tree of more elements than are validated."""
    if next(islice(root.iter(), ELEMENTS, None), None) is not None:
        raise TooLarge(f"the document has more than {ELEMENTS} elements; send it in parts")


def text(element: etree._Element) -> str:
    """All the text in an element, with spaces trimmed and runs of them joined."""
    return " ".join("".join(map(str, element.itertext())).split())


def local(element: etree._Element) -> str:
    """The element's name without its namespace."""
    return etree.QName(element).localname


def _well_formed(data: bytes, limit: int) -> etree._Element:
    if len(data) > limit:
        raise TooLarge(f"the document has {len(data)} bytes; at most {limit} are read")
    if not data.strip():
        raise Malformed("the document is empty")
    _require_utf8(data)
    try:
        _Count().read(data)
    except expat.ExpatError as error:
        _parsed(data)  # libxml2 has the better words for most of what is wrong
        message = expat.errors.messages[error.code]
        raise Malformed(message, line=error.lineno, column=error.offset + 1) from error
    root = _parsed(data)
    if (include := next(root.iter(_XINCLUDE), None)) is not None:
        line = include.sourceline
        message = "the document wants to include others (XInclude); send it whole"
        raise Malformed(message, line=line if isinstance(line, int) else 0)
    return root


def _parsed(data: bytes) -> etree._Element:
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise Malformed(_reason(error), line=line, column=column) from error


class _Count:
    """A first look at a document, which builds nothing: what it holds is counted,
    and what is not read at all is refused where it stands."""

    def __init__(self) -> None:
        self._elements = self._attributes = self._depth = 0
        self._parser = expat.ParserCreate("utf-8")
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def read(self, data: bytes) -> None:
        """Raises TooLarge, Malformed or expat.ExpatError."""
        self._parser.Parse(data, True)

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.strip().lower() not in _ENCODINGS:
            message = f"the document is in {_short(encoding)}; write it in UTF-8"
            raise WrongEncoding(message, line=1, column=1)

    def _doctype(self, *declared: object) -> None:
        self._refuse(Malformed, "the document has a DTD (<!DOCTYPE); remove it")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        self._attributes += len(attributes)
        self._depth += 1
        if self._elements > ELEMENTS:
            self._refuse(TooLarge, f"the document has more than {ELEMENTS} elements")
        if self._attributes > ATTRIBUTES:
            self._refuse(TooLarge, f"the document has more than {ATTRIBUTES} attributes")
        if self._depth > DEPTH:
            self._refuse(Malformed, f"elements stand within each other more than {DEPTH} deep")

    def _end(self, name: str) -> None:
        self._depth -= 1

    def _refuse(self, kind: type[Malformed], message: str) -> NoReturn:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        raise kind(message, line=line, column=column)


def _require_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise WrongEncoding("the document is not UTF-8", line=line, column=column) from error


def _reason(error: etree.XMLSyntaxError) -> str:
    message = error.msg or "not well formed"
    return _short(message.rpartition(", line ")[0] or message)


def _plain(message: str) -> str:
    return _short(message.replace("{" + NAMESPACE + "}", ""))


def _short(message: str) -> str:
    """Values may be long: the beginning names the place, the end what was expected."""
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]}…{message[-_LONGEST // 2 :]}"


def _schema(name: str) -> etree.XMLSchema:
    """One compiled schema a thread: its error log is not safe to share."""
    cache: dict[str, etree.XMLSchema] = _local.__dict__.setdefault("schemas", {})
    if name not in cache:
        cache[name] = etree.XMLSchema(etree.parse(str(share("schema") / f"{name}.xsd")))
    return cache[name]


def definition(path: Path, schema: str) -> etree._Element:
    """The document of a recipe of ours. Raises DefinitionError with its place."""
    try:
        return parse(path.read_bytes(), schema, limit=RECIPE)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}", source=str(path)) from error
    except Malformed as error:
        fault = error.fault
    except SchemaViolation as error:
        fault = error.faults[0]
    raise DefinitionError(fault.message, source=str(path), line=fault.line)


def refuse(path: Path, element: etree._Element, message: str) -> NoReturn:
    """Raise DefinitionError at an element of a recipe."""
    line = element.sourceline
    raise DefinitionError(message, source=str(path), line=line if isinstance(line, int) else 0)
