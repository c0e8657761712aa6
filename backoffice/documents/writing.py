"""Writing documents: records to XML and JSON with the same names.

Records are plain: dicts and lists of str, int, float, bool, datetime (UTC) and
None. What goes out is valid against ``schema/``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from lxml import etree

from backoffice.documents.safe_xml import NAMESPACE
from backoffice.documents.shapes import PLURALS, SHAPES, Record, Shape
from backoffice.documents.xml_text import clean, element_name, root_element, utc

_SURROGATES = re.compile("[\ud800-\udfff]")


def to_xml(kind: str | Shape, record: Record | Sequence[Record]) -> bytes:
    """The document for a record, or for a list of them. ``kind`` is the root's name, or a
    Shape of another application, whose list has an s at the end of its root's name."""
    if isinstance(record, Mapping):
        shape = _shape(kind)
        root = _fill(root_element(shape.tag), shape, record)
    else:
        root = root_element(_plural(kind))
        for one in record:
            _write(root, _shape(kind), one)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def to_json(kind: str | Shape, record: Record | Sequence[Record]) -> str:
    """The same as JSON; a list of jobs is ``{"jobs": […]}``."""
    plain: object
    if isinstance(record, Mapping):
        plain = _shown(_shape(kind), record)
    else:
        plain = {_plural(kind): [_shown(_shape(kind), one) for one in record]}
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def stream_xml(kind: str | Shape, pages: Iterable[Sequence[Record]]) -> Iterator[bytes]:
    """The document for a list that is too long to be held, a page at a time."""
    root_name, shape = _plural(kind), _shape(kind)
    tag = f'<{root_name} xmlns="{NAMESPACE}">'
    yield f"<?xml version='1.0' encoding='UTF-8'?>\n{tag}".encode()
    for page in pages:
        root = root_element(root_name)
        for one in page:
            _write(root, shape, one)
        text = etree.tostring(root, encoding="UTF-8", xml_declaration=False)
        if page:
            yield text[len(tag.encode()) : -len(f"</{root_name}>")]
    yield f"</{root_name}>\n".encode()


def stream_json(kind: str | Shape, pages: Iterable[Sequence[Record]]) -> Iterator[bytes]:
    """The same as JSON."""
    shape = _shape(kind)
    yield f'{{"{_plural(kind)}": ['.encode()
    comma = ""
    for page in pages:
        shown = (_shown(shape, one) for one in page)
        texts = [json.dumps(one, ensure_ascii=False, allow_nan=False) for one in shown]
        if texts:
            yield (comma + ", ".join(texts)).encode()
            comma = ", "
    yield b"]}"


def _shape(kind: str | Shape) -> Shape:
    """Of a record, or of each in a list."""
    if isinstance(kind, Shape):
        return kind
    return PLURALS.get(kind) or SHAPES[kind]


def _plural(kind: str | Shape) -> str:
    return f"{kind.tag}s" if isinstance(kind, Shape) else kind


def _write(parent: etree._Element, shape: Shape, record: Record) -> None:
    _fill(etree.SubElement(parent, element_name(shape.tag)), shape, record)


def _fill(element: etree._Element, shape: Shape, record: Record) -> etree._Element:
    for key in shape.attributes.split():
        value = _text(record.get(key))
        if value:
            element.set(key, value)
    for key in shape.texts.split():
        if record.get(key):
            _add(element, key, record[key])
    for key, part in shape.parts.items():
        _write_part(element, part, record.get(key))
    _write_rest(element, shape, record)
    return element


def _write_part(element: etree._Element, part: Shape | str, value: Any) -> None:
    if isinstance(part, Shape):
        for one in value or ():
            _write(element, part, one)
    else:
        for name, one in (value or {}).items():
            _add(element, part, one).set("name", clean(str(name)))


def _write_rest(element: etree._Element, shape: Shape, record: Record) -> None:
    for key in shape.values.split():
        if record.get(key):
            _nest(etree.SubElement(element, element_name(key)), record[key])
    for key, tag in shape.lines.items():
        for line in record.get(key) or ():
            _add(element, tag, line)
    for key in shape.commands.split():
        for argv in record.get(key) or ():
            command = etree.SubElement(element, element_name("command"))
            for argument in argv:
                _add(command, "argument", argument)


def _add(parent: etree._Element, tag: str, value: object) -> etree._Element:
    element = etree.SubElement(parent, element_name(tag))
    element.text = _text(value)
    return element


def _nest(element: etree._Element, value: object) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            entry = etree.SubElement(element, element_name("entry"), name=clean(str(key)))
            _nest(entry, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _nest(etree.SubElement(element, element_name("item")), one)
    else:
        element.text = _text(value)


def _text(value: object) -> str | None:
    """A value as XML has it; None leaves it out."""
    if isinstance(value, list | tuple | set | frozenset):
        return " ".join(clean(str(one)) for one in _ordered(value))
    plain = _plain(value)
    if plain is None:
        return None
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float):
        return f"{plain:.6f}".rstrip("0").rstrip(".")  # xs:decimal knows no exponent
    return clean(str(plain))


def _shown(shape: Shape, record: Record) -> dict[str, object]:
    shown: dict[str, object] = {}
    for key in shape.names():
        if key not in record:
            continue
        part = shape.parts.get(key)
        if isinstance(part, Shape):
            shown[key] = [_shown(part, one) for one in record[key] or ()]
        else:
            shown[key] = _plain(record[key])
    return shown


def _plain(value: object) -> object:
    """As JSON has it: times as text, and nothing that JSON cannot hold."""
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_SURROGATES.sub("\ufffd", str(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in _ordered(value)]
    return value if value is None or isinstance(value, bool | int) else str(value)


def _ordered(
    value: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any],
) -> Sequence[Any]:
    return sorted(value) if isinstance(value, set | frozenset) else value
