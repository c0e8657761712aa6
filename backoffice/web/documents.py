"""Records to and from documents: XML and JSON with the same names.

Owns which parts of a record are shown, and their order; what is not in these
tables never leaves. Records are plain: dicts and lists of str, int, float,
bool, datetime (UTC) and None. What goes out is valid against ``schema/``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from lxml import etree

from backoffice import units
from backoffice.documents import safe_xml
from backoffice.documents.safe_xml import (
    NAMESPACE,
    Fault,
    Malformed,
    SchemaViolation,
    TooLarge,
    WrongEncoding,
)

PROBLEM = "urn:ietf:rfc:7807"
Record = Mapping[str, Any]

_UNHEARD_OF = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_VALUES = safe_xml.ELEMENTS + safe_xml.ATTRIBUTES  # of a document in JSON, names among them
_TOO_MANY = f"the document has more than {_VALUES} values; send it in parts"
_DIGITS = 100  # of a number with a fraction or an exponent
_TOO_DEEP = f"objects and lists stand within each other more than {safe_xml.DEPTH} deep"
XML, JSON = "application/xml", "application/json"


@dataclass(frozen=True)
class Shape:
    """How one kind of record is written. A key's value becomes …"""

    tag: str
    attributes: str = ""  # attributes; lists of words are joined by spaces
    texts: str = ""  # elements with a text
    # in this order: a shape, an element for each of a list; or a tag,
    # <tag name="key">value</tag> for each pair of a mapping
    parts: Mapping[str, Shape | str] = field(default_factory=dict)
    values: str = ""  # nested <entry name="key"> and <item>
    lines: Mapping[str, str] = field(
        default_factory=dict
    )  # <tag>text</tag>, one for each of a list
    commands: str = ""  # <command><argument>…, one for each list of a list

    def names(self) -> list[str]:
        """The keys of a record that are shown."""
        return [
            *f"{self.attributes} {self.texts}".split(),
            *self.parts,
            *self.values.split(),
            *self.lines,
            *self.commands.split(),
        ]


@dataclass(frozen=True)
class Form:
    """How a document that comes in is written as JSON. A key's value becomes …"""

    tag: str
    attributes: str = ""
    texts: str = ""  # elements with a text
    pairs: Mapping[str, str] = field(default_factory=dict)  # <tag name="key">value</tag>
    parts: Mapping[str, Form] = field(default_factory=dict)  # one, or each of a list


_FORMS = {
    "submission": Form(
        "job",
        "workflow priority key delay",
        texts="title",
        pairs={"parameters": "parameter", "metadata": "metadata"},
        parts={"inputs": Form("input", "role href")},
    ),
    "registration": Form("file", "href", pairs={"metadata": "metadata"}),
    "action": Form(
        "action",
        "name value preview",
        parts={
            "filter": Form("filter", "state workflow submitter q submitted-after submitted-before"),
            "jobs": Form("job", "id"),
        },
    ),
}

TASK = Shape(
    "task",
    "id job name type state reason queue tags priority attempt attempts progress speed eta worker"
    " host run_at started finished needs",
    texts="title message",
    values="report",
)
PUBLICATION = Shape(
    "publication",
    "id job task file target path href state sha256 size published retracted",
)
JOB = Shape(
    "job",
    "id state workflow version priority progress submitted started finished cancel_requested"
    " submitter key",
    texts="title message",
    parts={
        "inputs": Shape("input", "role file href"),
        "outputs": Shape("output", "role file href task media_type size sha256"),
        "parameters": "parameter",
        "metadata": "metadata",
        "tasks": TASK,
        "publications": PUBLICATION,
    },
)
ATTEMPT = Shape(
    "attempt",
    "id task number state reason worker host started finished ffmpeg exit_status cpu_seconds"
    " peak_memory wall_seconds log log_size",
    texts="message",
    commands="argv",
)
FILE = Shape(
    "file",
    "id name role href size sha256 media_type state job made_by created",
    parts={"metadata": "metadata"},
    values="facts",
)
WORKER = Shape(
    "worker",
    "id name host pid state slots queues tags started heartbeat running version",
)
NODE = Shape("node", "name role state lag reads writes share", texts="message")
QUEUE = Shape("queue", "name paused limit ready running oldest")
EVENT = Shape("event", "id at actor action job task subject reason host", values="detail")
TOKEN = Shape("token", "id name role state created created_by expires revoked last_used secret")
WHY = Shape("why", "subject", lines={"reasons": "reason"})
SCHEDULE = Shape("schedule", "name cron next_run last_run last_job", texts="message")
WORKFLOW = Shape(
    "workflow",
    "name version",
    texts="title description",
    parts={
        "inputs": Shape("input", "role optional many"),
        "parameters": Shape(
            "parameter",
            "name type default required",
            texts="title description",
            lines={"choices": "choice"},
        ),
        "tasks": Shape("task", "name type queue tags needs", texts="title"),
    },
)
PROFILE = Shape("profile", "name format", texts="title description")
PLAN = Shape(
    "plan",
    "workflow version",
    parts={
        "tasks": Shape(
            "task",
            "name type",
            texts="skipped fails",
            lines={"outputs": "output", "notes": "note"},
            commands="argv",
        )
    },
)
DIFFERENCE = Shape("difference", "kind subject path size", texts="message")
SERVICE = Shape("service", "version", parts={"links": Shape("link", "rel href", texts="title")})
RESULT = Shape(
    "result",
    "action preview matched possible done more",
    parts={"refusals": Shape("refusal", "job", texts="message")},
)

SHAPES = {
    shape.tag: shape
    for shape in (
        JOB,
        TASK,
        ATTEMPT,
        FILE,
        WORKER,
        NODE,
        QUEUE,
        EVENT,
        PUBLICATION,
        WHY,
        SCHEDULE,
        WORKFLOW,
        PROFILE,
        SERVICE,
        RESULT,
        TOKEN,
        PLAN,
        DIFFERENCE,
    )
}
PLURALS = {f"{tag}s": s for tag, s in SHAPES.items() if s not in (WHY, SERVICE, RESULT, PLAN)}
# A workflow as it is listed is less than the recipe, which workflow.xsd describes.
_SCHEMAS = {"workflow": "catalogue", "profile": "catalogue"}


def to_xml(kind: str | Shape, record: Record | Sequence[Record]) -> bytes:
    """The document for a record, or for a list of them. ``kind`` is the root's name, or a
    Shape of another application, whose list has an s at the end of its root's name."""
    if kind == "problem":
        root = _problem(cast(Record, record))
    elif isinstance(record, Mapping):
        shape = _shape(kind)
        root = _fill(_root(NAMESPACE, shape.tag), shape, record)
    else:
        root = _root(NAMESPACE, _plural(kind))
        for one in record:
            _write(root, _shape(kind), one)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def to_json(kind: str | Shape, record: Record | Sequence[Record]) -> str:
    """The same as JSON; a list of jobs is ``{"jobs": […]}``."""
    if kind == "problem":
        plain: object = _plain(record)
    elif isinstance(record, Mapping):
        plain = _shown(_shape(kind), record)
    else:
        plain = {_plural(kind): [_shown(_shape(kind), one) for one in record]}
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _shape(kind: str | Shape) -> Shape:
    """Of a record, or of each in a list."""
    if isinstance(kind, Shape):
        return kind
    return PLURALS.get(kind) or SHAPES[kind]


def _plural(kind: str | Shape) -> str:
    return f"{kind.tag}s" if isinstance(kind, Shape) else kind


def schema_of(kind: str) -> str:
    """The schema that documents of this kind follow: ``job`` for ``jobs``."""
    tag = PLURALS[kind].tag if kind in PLURALS else kind
    return _SCHEMAS.get(tag, tag)


def stream_xml(kind: str | Shape, pages: Iterable[Sequence[Record]]) -> Iterator[bytes]:
    """The document for a list that is too long to be held, a page at a time."""
    root_name, shape = _plural(kind), _shape(kind)
    tag = f'<{root_name} xmlns="{NAMESPACE}">'
    yield f"<?xml version='1.0' encoding='UTF-8'?>\n{tag}".encode()
    for page in pages:
        root = _root(NAMESPACE, root_name)
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


def parse_job(data: bytes, *, limit: int, media_type: str = XML) -> dict[str, Any]:
    """A submission as the keyword arguments of ``submission.JobRequest``.

    Raises xmlsafe.Malformed (or TooLarge, WrongEncoding) if it cannot be read,
    xmlsafe.SchemaViolation if it is not what a submission looks like. Both are
    errors.Invalid and know the place. ``limit`` is in bytes.
    """
    root = _read("submission", data, media_type, limit)
    titles = root.findall(_name("title"))
    if len(titles) > 1:
        raise SchemaViolation((_fault(titles[1], "a job has one title"),))
    return {
        "workflow": root.get("workflow"),
        "inputs": [(e.get("role"), e.get("href", "").strip()) for e in root.iter(_name("input"))],
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
    wanted = root.find(_name("filter"))
    return {
        "name": root.get("name"),
        "value": None if value is None else int(value),
        "preview": root.get("preview", "false").strip() in ("true", "1"),
        "ids": [int(e.get("id", "")) for e in root.iter(_name("job"))],
        "filter": {} if wanted is None else {str(k): str(v) for k, v in wanted.items()},
    }


def fields(data: bytes, *, limit: int) -> dict[str, str]:
    """A small JSON object whose values are texts, whole numbers or true and false.
    Raises as parse_job."""
    members = _object("the document", _from_json(data, limit))
    return {name: _word(name, value) for name, value in members.items()}


def odd(text: str) -> str:
    """The first character that XML, and so no document, can hold; or nothing."""
    found = _UNHEARD_OF.search(text)
    return found[0] if found else ""


# In


def _read(schema: str, data: bytes, media_type: str, limit: int) -> etree._Element:
    """The root of a document that is valid, whatever it was written in."""
    if media_type == XML:
        return safe_xml.parse(data, schema, limit=limit)
    root = _element(_FORMS[schema], _from_json(data, limit))
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
    element = _root(NAMESPACE, form.tag)
    for key, one in _object(form.tag, value).items():
        if key in form.attributes.split():
            element.set(key, _words(key, one))
        elif key in form.texts.split():
            etree.SubElement(element, _name(key)).text = _word(key, one)
        elif key in form.pairs:
            for name, text in _object(key, one).items():
                named = etree.SubElement(element, _name(form.pairs[key]), name=name)
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
    for element in root.iter(_name(tag)):
        name = element.get("name", "")
        if name in found:
            raise SchemaViolation((_fault(element, f"{tag} {name[:100]!r} is given twice"),))
        found[name] = "".join(map(str, element.itertext())).strip()
    return found


def _fault(element: etree._Element, message: str) -> Fault:
    line = element.sourceline
    return Fault(line if isinstance(line, int) else 0, 0, message)


# Out, as XML


def _name(tag: str) -> str:
    return f"{{{NAMESPACE}}}{tag}"


def _root(namespace: str, tag: str) -> etree._Element:
    # lxml takes None for the namespace without prefix; its stubs do not.
    return etree.Element(f"{{{namespace}}}{tag}", nsmap=cast(Any, {None: namespace}))


def _write(parent: etree._Element, shape: Shape, record: Record) -> None:
    _fill(etree.SubElement(parent, _name(shape.tag)), shape, record)


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
            _nest(etree.SubElement(element, _name(key)), record[key])
    for key, tag in shape.lines.items():
        for line in record.get(key) or ():
            _add(element, tag, line)
    for key in shape.commands.split():
        for argv in record.get(key) or ():
            command = etree.SubElement(element, _name("command"))
            for argument in argv:
                _add(command, "argument", argument)


def _add(parent: etree._Element, tag: str, value: object) -> etree._Element:
    element = etree.SubElement(parent, _name(tag))
    element.text = _text(value)
    return element


def _nest(element: etree._Element, value: object) -> None:
    if isinstance(value, Mapping):
        for key, one in value.items():
            entry = etree.SubElement(element, _name("entry"), name=clean(str(key)))
            _nest(entry, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _nest(etree.SubElement(element, _name("item")), one)
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


def clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _UNHEARD_OF.sub("\ufffd", text)


def _problem(record: Record) -> etree._Element:
    """In the form of RFC 9457, appendix B: lists are made of ``i``."""
    root = _root(PROBLEM, "problem")
    for key in ("type", "title", "status", "detail", "instance"):
        _add_problem(root, key, record)
    if record.get("errors"):
        errors = etree.SubElement(root, f"{{{PROBLEM}}}errors")
        for error in record["errors"]:
            one = etree.SubElement(errors, f"{{{PROBLEM}}}i")
            for key in ("line", "column", "message"):
                _add_problem(one, key, error)
    _add_problem(root, "more", record)
    return root


def _add_problem(parent: etree._Element, key: str, record: Record) -> None:
    if record.get(key) is not None:
        etree.SubElement(parent, f"{{{PROBLEM}}}{key}").text = _text(record[key])


# Out, as JSON


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


def utc(value: datetime) -> str:
    """ISO 8601 with a Z; without a zone it is UTC already."""
    moment = value.astimezone(UTC) if value.tzinfo else value
    precision = "milliseconds" if moment.microsecond else "seconds"
    return f"{moment.replace(tzinfo=None).isoformat(timespec=precision)}Z"
