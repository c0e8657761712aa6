"""Reading XML that others wrote: bounded, without DTD, valid against a schema.

Owns the parser's settings and the compiled schemas. It knows nothing of what
the documents mean; workflows, profiles and the web's documents do.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from lxml import etree

from backoffice.errors import DefinitionError, Invalid
from backoffice.files import share

NAMESPACE = "urn:backoffice:1"
RECIPE = 1 << 20  # bytes of a workflow or profile

# A DTD may stand only before the root element. Refusing it before libxml2 sees
# it means that no entity is ever expanded. Possessive, so that it stays linear.
_DOCTYPE = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|<\?(?s:.*?)\?>|<!--(?s:.*?)-->)*+<!DOCTYPE")
_DECLARED = re.compile(rb"(?:\xef\xbb\xbf)?<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([^\"'>]*)[\"']")
_XINCLUDE = "{http://www.w3.org/2001/XInclude}*"
_ENCODINGS = (b"utf-8", b"us-ascii", b"ascii")
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
    """Over the limit; it was not parsed."""


class WrongEncoding(Malformed):
    """In another encoding than UTF-8."""


class SchemaViolation(Invalid):
    """Well formed, but not as the schema wants it."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"line {f.line}: {f.message}" for f in faults))
        self.faults = faults


def parse(data: bytes, schema: str, *, limit: int) -> etree._Element:
    """The root of a document that is valid against ``schema/<schema>.xsd``.

    Raises Malformed or SchemaViolation. ``limit`` is in bytes: a small
    document may still need much memory, so it is checked before parsing.
    """
    root = _well_formed(data, limit)
    validate(root, schema)
    return root


def validate(root: etree._Element, schema: str) -> None:
    """Raise SchemaViolation unless ``root`` follows ``schema/<schema>.xsd``."""
    validator = _schema(schema)
    if not validator.validate(root):
        log = cast(Any, validator.error_log)  # iterable, but its stubs do not say so
        raise SchemaViolation(tuple(Fault(e.line, 0, _plain(e.message)) for e in log))


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
    if _DOCTYPE.match(data):
        raise Malformed("the document has a DTD (<!DOCTYPE); remove it")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise Malformed(_reason(error), line=line, column=column) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise Malformed("the document has a DTD (<!DOCTYPE); remove it")
    if (include := next(root.iter(_XINCLUDE), None)) is not None:
        line = include.sourceline
        message = "the document wants to include others (XInclude); send it whole"
        raise Malformed(message, line=line if isinstance(line, int) else 0)
    return root


def _require_utf8(data: bytes) -> None:
    declared = _DECLARED.match(data)
    if declared and declared.group(1).strip().lower() not in _ENCODINGS:
        name = declared.group(1).decode("ascii", "replace")
        raise WrongEncoding(f"the document is in {name}; write it in UTF-8", line=1, column=1)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise WrongEncoding("the document is not UTF-8", line=line, column=column) from error


def _reason(error: etree.XMLSyntaxError) -> str:
    return re.sub(r"(, line \d+, column \d+)?( \(.*\))?$", "", error.msg or "not well formed")


def _plain(message: str) -> str:
    return message.replace("{" + NAMESPACE + "}", "")


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
