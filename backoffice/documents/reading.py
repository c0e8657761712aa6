"""Reading documents: XML and JSON to plain values, valid against their schemas."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from lxml import etree

from backoffice import units
from backoffice.documents import safe_xml
from backoffice.documents.safe_xml import (
    Fault,
    Malformed,
    SchemaViolation,
    TooLarge,
    WrongEncoding,
)
from backoffice.documents.shapes import FORMS, Form
from backoffice.documents.xml_text import element_name, odd, root_element

_VALUES = safe_xml.ELEMENTS + safe_xml.ATTRIBUTES  # of a document in JSON, names among them
_TOO_MANY = f"the document has more than {_VALUES} values; send it in parts"
_DIGITS = 100  # of a number with a fraction or an exponent
_TOO_DEEP = f"objects and lists stand within each other more than {safe_xml.DEPTH} deep"
XML, JSON = "application/xml", "application/json"


def parse_job(data: bytes, *, limit: int, media_type: str = XML) -> dict[str, Any]:
    """A submission as the keyword arguments of ``submission.JobRequest``.

    Raises safe_xml.Malformed (or TooLarge, WrongEncoding) if it cannot be read,
    safe_xml.SchemaViolation if it is not what a submission looks like. Both are
    errors.Invalid and know the place. ``limit`` is in bytes.
    """
    root = _read("submission", data, media_type, limit)
    titles = root.findall(element_name("title"))
    if len(titles) > 1:
        raise SchemaViolation((_fault(titles[1], "a job has one title"),))
    return {
        "workflow": root.get("workflow"),
        "inputs": [
            (e.get("role"), e.get("href", "").strip()) for e in root.iter(element_name("input"))
        ],
        "title": safe_xml.text(titles[0]) if titles else "",
        "key": root.get("key", ""),
        "priority": int(root.get("priority", "50")),
        "parameters": _named(root, "parameter"),
        "metadata": _named(root, "metadata"),
        "delay": units.parse_duration(root.get("delay", "0s")),
    }


def parse_registration(data: bytes, *, limit: int, media_type: str = XML) -> dict[str, Any]:
    """A file to be registered: ``href`` and ``metadata``. Raises as parse_job."""
    root = _read("registration", data, media_type, limit)
    return {"href": root.get("href", "").strip(), "metadata": _named(root, "metadata")}


def parse_action(data: bytes, *, limit: int, media_type: str = XML) -> dict[str, Any]:
    """An action on many jobs: ``name``, ``value`` or None, ``preview``, ``ids``,
    and ``filter``, the texts of the parameters of ``GET /jobs``. Raises as parse_job."""
    root = _read("action", data, media_type, limit)
    value = root.get("value")
    wanted = root.find(element_name("filter"))
    return {
        "name": root.get("name"),
        "value": None if value is None else int(value),
        "preview": root.get("preview", "false").strip() in ("true", "1"),
        "ids": [int(e.get("id", "")) for e in root.iter(element_name("job"))],
        "filter": {} if wanted is None else {str(k): str(v) for k, v in wanted.items()},
    }


def fields(data: bytes, *, limit: int) -> dict[str, str]:
    """A small JSON object whose values are texts, whole numbers or true and false.
    Raises as parse_job."""
    members = _object("the document", _from_json(data, limit))
    return {name: _word(name, value) for name, value in members.items()}


def _read(schema: str, data: bytes, media_type: str, limit: int) -> etree._Element:
    """The root of a document, in XML or JSON, that is valid by its schema."""
    if media_type == XML:
        return safe_xml.parse(data, schema, limit=limit)
    root = _element(FORMS[schema], _from_json(data, limit))
    safe_xml.require_few(root)
    safe_xml.validate(root, schema)
    return root


def _from_json(data: bytes, limit: int) -> object:
    if len(data) > limit:
        raise TooLarge(f"the document has {len(data)} bytes; at most {limit} are read")
    # Each list and object costs far more than the bytes that it takes.
    if data.count(b"[") + data.count(b"{") > _VALUES:
        raise TooLarge(_TOO_MANY)
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_once, parse_float=_finite, parse_constant=_finite
        )
    except UnicodeDecodeError as error:
        raise WrongEncoding("the document is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Malformed(error.msg, line=error.lineno, column=error.colno) from error
    except RecursionError as error:
        raise Malformed(_TOO_DEEP) from error
    except ValueError as error:
        raise Malformed("a number in the document has too many digits") from error
    _require_plain(value)
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        count = Counter(name for name, _ in pairs)
        name = next(name for name in members if count[name] > 1)
        raise Malformed(f"the name {name[:100]!r} is given twice in an object; give it once")
    return members


def _finite(text: str) -> float:
    if len(text) > _DIGITS or not math.isfinite(number := float(text)):
        raise Malformed(f"{text[:20]} is not a number that is read here")
    return number


def _require_plain(value: object) -> None:
    """Raise Malformed or TooLarge unless XML could say the same in as few elements.
    It goes down a level at a time: what is nested must not use up the stack."""
    level, count = [value], 0
    for _ in range(safe_xml.DEPTH):
        count += len(level)
        if count > _VALUES:
            raise TooLarge(_TOO_MANY)
        if not (level := [inner for outer in level for inner in _inner(outer)]):
            return
    raise Malformed(_TOO_DEEP)


def _inner(value: object) -> Iterable[object]:
    """What is in an object or a list; a text is looked at."""
    if isinstance(value, dict):
        return (*value, *value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, str) and (found := odd(value)):
        raise Malformed(f"a text holds the character U+{ord(found):04X}, which cannot be kept")
    return ()


def _element(form: Form, value: object) -> etree._Element:
    """What the same document would be in XML; its schema then says what is wrong."""
    element = root_element(form.tag)
    for key, one in _object(form.tag, value).items():
        if key in form.attributes.split():
            element.set(key, _words(key, one))
        elif key in form.texts.split():
            etree.SubElement(element, element_name(key)).text = _word(key, one)
        elif key in form.pairs:
            for name, text in _object(key, one).items():
                named = etree.SubElement(element, element_name(form.pairs[key]), name=name)
                named.text = _word(name, text)
        elif key in form.parts:
            many = one if isinstance(one, list) else [one]
            element.extend(_element(form.parts[key], part) for part in many)
        else:
            raise _violation(f"{key[:100]!r} is not expected in {form.tag}")
    return element


def _object(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _violation(f"{name[:100]} is not an object")
    return value


def _words(name: str, value: object) -> str:
    """A value as an attribute has it; lists of words are joined by spaces."""
    many = value if isinstance(value, list) else [value]
    return " ".join(_word(name, one) for one in many)


def _word(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, int) else value
    if not isinstance(text, str):
        raise _violation(f"{name[:100]} is neither a text nor a whole number")
    return text


def _violation(message: str) -> SchemaViolation:
    return SchemaViolation((Fault(0, 0, message),))


def _named(root: etree._Element, tag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for element in root.iter(element_name(tag)):
        name = element.get("name", "")
        if name in found:
            raise SchemaViolation((_fault(element, f"{tag} {name[:100]!r} is given twice"),))
        found[name] = "".join(map(str, element.itertext())).strip()
    return found


def _fault(element: etree._Element, message: str) -> Fault:
    line = element.sourceline
    return Fault(line if isinstance(line, int) else 0, 0, message)
