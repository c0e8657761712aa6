"""Documents and forms of one shape each, as large as they are asked to be, that
cost a careless reader more than their size. ``[shape](size)`` gives their bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backoffice.documents import safe_xml

Shape = Callable[[int], bytes]

NAMESPACE = "urn:backoffice:1"
_DEEPEST = 100_000  # more would be refused by any parser; fewer show nothing new


def _fill(start: str, piece: str, end: str, size: int) -> bytes:
    """``piece`` again and again; where it holds {n}, with a number that is its own."""
    room = size - len(start.encode()) - len(end.encode())
    if "{n}" not in piece:
        return (start + piece * (room // len(piece.encode())) + end).encode()
    longest = piece.replace("{n}", f"{size:x}")
    count = room // len(longest.encode())
    return (start + "".join(piece.replace("{n}", f"{n:x}") for n in range(count)) + end).encode()


def _most(start: str, piece: str, end: str, count: int, pad: str = " ") -> Shape:
    """``piece`` so many times, which is about as often as it is read; the rest is ``pad``."""

    def shape(size: int) -> bytes:
        text = start + "".join(piece.replace("{n}", f"{n:x}") for n in range(count))
        return (text + pad * (size - len((text + end).encode())) + end).encode()

    return shape


# XML ------------------------------------------------------------------------


def _xml(tag: str, known: str, attributes: str, child: str) -> dict[str, Shape]:
    """``known`` is the one attribute that is asked for, ``attributes`` one of free
    text, ``child`` an element that may come again."""
    ns = f'xmlns="{NAMESPACE}"'
    head = f"<{tag} {ns} {known}>"
    tail = f"</{tag}>"
    bare = f"<{tag} {ns} {known} "

    def filled(start: str, piece: str, end: str) -> Shape:
        return lambda size: _fill(start, piece, end, size)

    def deep(opening: str, closing: str) -> Shape:
        def shape(size: int) -> bytes:
            count = min((size - len(head) - len(tail)) // len(opening + closing), _DEEPEST)
            return (head + opening * count + closing * count + tail).encode()

        return shape

    return {
        "elements that are not known": filled(head, "<x/>", tail),
        "elements that are not known, of many names": filled(head, "<x{n}/>", tail),
        "elements that lack what they need": filled(head, f"<{child}/>", tail),
        "elements with wrong attributes": filled(head, f'<{child} a="" b="" c=""/>', tail),
        "elements with an empty name": filled(head, f'<{child} name="" id="x" role="" />', tail),
        "elements on a line each": filled(head, "<x/>\n", tail),
        "roots within the root": filled(head, f"<{tag}/>", tail),
        "attributes": filled(bare, 'a{n}="" ', "/>"),
        "the same attribute": filled(bare, 'a="" ', "/>"),
        "attributes of a namespace": filled(bare + 'xmlns:p="p" ', 'p:a{n}="" ', "/>"),
        "namespaces": filled(bare, 'xmlns:a{n}="u" ', "/>"),
        "namespaces and attributes of them": filled(bare, 'xmlns:a{n}="u{n}" a{n}:b="" ', "/>"),
        "namespaces of elements": filled(head, '<a{n}:x xmlns:a{n}="u{n}"/>', tail),
        "prefixes that are not bound": filled(head, "<a{n}:x/>", tail),
        "depth": deep("<x>", "</x>"),
        "depth that is not closed": filled(head, "<x>", ""),
        "depth with namespaces": deep('<x xmlns="y">', "</x>"),
        "a long name of an element": filled(head + "<", "x", "/>" + tail),
        "a long name of an attribute": filled(bare, "x", '="1"/>'),
        "a long value that is not known": filled(bare + 'x="', "x", '"/>'),
        "a long text": filled(head, "x", tail),
        "a long text of blanks": filled(head, " ", "x" + tail),
        "a long text of combining marks": filled(head, "\u0301\u0316", tail),
        "a long attribute": filled(f"{bare} {attributes}='", "x", "'/>"),
        "a long attribute of blanks": filled(f"{bare} {attributes}='", " ", "x'/>"),
        "a long attribute of words": filled(f"{bare} {attributes}='", "x ", "'/>"),
        "a long attribute of entities": filled(f"{bare} {attributes}='", "&lt;", "'/>"),
        "a long attribute of lines": filled(f"{bare} {attributes}='", "&#10;", "'/>"),
        "comments": filled(head, "<!---->", tail),
        "a comment that is not closed": filled("<!--", "-", ""),
        "comments before the root": filled("", "<!---->", head + tail),
        "comments before a DTD": filled("", "<!---->", "<!DOCTYPE x><x/>"),
        "comments that are not closed": filled("", "<!--", ""),
        "instructions": filled(head, "<?x?>", tail),
        "instructions before the root": filled("", "<?x?>", head + tail),
        "an instruction that is not closed": filled("<?x ", "?", ""),
        "sections": filled(head, "<![CDATA[]]>", tail),
        "a section that is not closed": filled(head + "<![CDATA[", "]", ""),
        "references to characters": filled(head, "&#1234;", tail),
        "a reference to a character too large": filled(head + "&#", "9", ";" + tail),
        "references to entities": filled(head, "&x;", tail),
        "a DTD of entities": filled("<!DOCTYPE x [", '<!ENTITY a{n} "x">', "]><x/>"),
        "a DTD of attributes": filled("<!DOCTYPE x [", "<!ATTLIST x a{n} CDATA ''>", "]><x/>"),
        "blanks before the root": filled("", " ", head + tail),
        "blanks after the root": filled(head + tail, " ", "x"),
        "blanks": filled("", " ", ""),
        "blanks in a tag": filled(bare, " ", "/>"),
        "blanks in the declaration": filled("<?xml version='1.0'", " ", "?>" + head + tail),
        "a declaration that is not closed": filled("<?xml ", "encoding ", ""),
        "a long encoding": filled("<?xml version='1.0' encoding='", "x", "'?>" + head + tail),
        "angles": filled("", "<", ""),
        "ampersands": filled(head, "&", tail),
        "NUL": filled(head, "\0", tail),
        **_at_the_limits(head, bare, child, tail),
        "types of instances": filled(
            f'<{tag} {ns} xmlns:i="http://www.w3.org/2001/XMLSchema-instance" {known}>',
            f'<{child} i:type="t{{n}}"/>',
            tail,
        ),
        "others to be included": filled(
            f'<{tag} {ns} xmlns:i="http://www.w3.org/2001/XInclude" {known}>',
            '<i:include href="x"/>',
            tail,
        ),
    }


def _at_the_limits(head: str, bare: str, child: str, tail: str) -> dict[str, Shape]:
    """What is parsed and validated, with as many faults as it can have."""
    elements, attributes = safe_xml.ELEMENTS - 2, safe_xml.ATTRIBUTES - 4
    each = attributes // elements
    wrong = " ".join(f'{name}=""' for name in "abcdefgh"[: each - 1])
    long = f'<{child} role="{{}}" id="{{}}" name="{{}}" i:type="{{}}"/>'
    instance = head.replace(">", ' xmlns:i="http://www.w3.org/2001/XMLSchema-instance">', 1)
    return {
        "the most elements": _most(head, f"<{child}/>", tail, elements),
        "the most elements that are not known": _most(head, "<x/>\n", tail, elements),
        "the most elements with wrong attributes": _most(
            head, f"<{child} {wrong}/>", tail, elements
        ),
        "the most elements with long values": _most(
            instance, long.replace("{}", "x" * 75), tail, attributes // 5
        ),
        "the most elements with values that are escaped": _most(
            instance, long.replace("{}", "&amp;" * 15), tail, attributes // 5
        ),
        "the most elements with values of four bytes": _most(
            instance, long.replace("{}", "\U0001f600" * 18), tail, attributes // 5
        ),
        "the most attributes": _most(bare, 'a{n}="" ', "/>", attributes),
        "the most namespaces": _most(bare, 'xmlns:a{n}="u{n}" ', "/>", attributes),
        "the most namespaces and attributes of them": _most(
            bare, 'xmlns:a{n}="u{n}" a{n}:b="" ', "/>", attributes // 2
        ),
        "the most elements of namespaces": _most(
            head, '<a{n}:x xmlns:a{n}="u{n}"/>', tail, elements
        ),
        "the most depth": _most(
            head, "<x>" * (safe_xml.DEPTH - 2) + "</x>" * (safe_xml.DEPTH - 2), tail, elements // 40
        ),
    }


def _jobs_xml() -> dict[str, Shape]:
    ns = f'<job xmlns="{NAMESPACE}"'

    def filled(start: str, piece: str, end: str) -> Shape:
        return lambda size: _fill(start, piece, end, size)

    work = f'{ns} workflow="transcode"'
    return _xml("job", 'workflow="transcode"', "key", "input") | {
        "a long workflow": filled(f'{ns} workflow="', "x", '"/>'),
        "a long workflow of blanks": filled(f'{ns} workflow="', " ", '"/>'),
        "a long priority": filled(f'{work} priority="', "9", '"/>'),
        "a long priority of noughts": filled(f'{work} priority="', "0", '1"/>'),
        "a long delay": filled(f'{work} delay="', "9", 's"/>'),
        "a long delay of units": filled(f'{work} delay="1', "m", '"/>'),
        "a long title": filled(f"{work}><title>", "x ", "</title></job>"),
        "titles": filled(f"{work}>", "<title>x</title>", "</job>"),
        "inputs": filled(f"{work}>", '<input role="source" href="/x"/>', "</job>"),
        "inputs without a role": filled(f"{work}>", '<input href="/x"/>', "</job>"),
        "inputs with a bad role": filled(f"{work}>", '<input role="*" href="/"/>', "</job>"),
        "a long href": filled(f'{work}><input role="source" href="/', "a", '"/></job>'),
        "a long href of folders": filled(f'{work}><input role="source" href="/', "a/", '"/></job>'),
        "a long href upwards": filled(f'{work}><input role="source" href="/', "../", '"/></job>'),
        "a long href down and up": filled(
            f'{work}><input role="source" href="/', "tmp/../", '"/></job>'
        ),
        "a long href of escapes": filled(
            f'{work}><input role="source" href="file:///', "%41", '"/></job>'
        ),
        "a long href of colons": filled(f'{work}><input role="source" href="', ":", '"/></job>'),
        "a long href of a host": filled(
            f'{work}><input role="source" href="file://', "[", '"/></job>'
        ),
        "a long role": filled(f'{work}><input href="/x" role="', "x", '"/></job>'),
        "parameters": filled(f"{work}>", '<parameter name="n{n}">x</parameter>', "</job>"),
        "the same parameter": filled(f"{work}>", '<parameter name="n">x</parameter>', "</job>"),
        "metadata": filled(f"{work}>", '<metadata name="n{n}"/>', "</job>"),
        "the same metadata": filled(f"{work}>", '<metadata name="n"/>', "</job>"),
        "long metadata": filled(f'{work}><metadata name="n">', "x", "</metadata></job>"),
        "a long name of metadata": filled(f'{work}><metadata name="', "x", '"/></job>'),
    }


def _files_xml() -> dict[str, Shape]:
    ns = f'<file xmlns="{NAMESPACE}"'

    def filled(start: str, piece: str, end: str) -> Shape:
        return lambda size: _fill(start, piece, end, size)

    return _xml("file", 'href="/none"', "title", "metadata") | {
        "a long href": filled(f'{ns} href="/', "a", '"/>'),
        "a long href of folders": filled(f'{ns} href="/', "a/", '"/>'),
        "a long href down and up": filled(f'{ns} href="/', "tmp/../", '"/>'),
        "a long href of escapes": filled(f'{ns} href="file:///', "%41", '"/>'),
        "metadata": filled(f'{ns} href="/none">', '<metadata name="n{n}"/>', "</file>"),
        "the same metadata": filled(f'{ns} href="/none">', '<metadata name="n"/>', "</file>"),
        "metadata without a name": filled(f'{ns} href="/none">', "<metadata/>", "</file>"),
    }


def _actions_xml() -> dict[str, Shape]:
    ns = f'<action xmlns="{NAMESPACE}"'

    def filled(start: str, piece: str, end: str) -> Shape:
        return lambda size: _fill(start, piece, end, size)

    head = f'{ns} name="cancel">'
    return _xml("action", 'name="cancel"', "value", "job") | {
        "jobs": filled(head, '<job id="{n}"/>', "</action>"),
        "the same job": filled(head, '<job id="1"/>', "</action>"),
        "jobs with long numbers": filled(head, f'<job id="{"9" * 60}"/>', "</action>"),
        "a job with a long number": filled(f'{head}<job id="', "9", '"/></action>'),
        "a job with a long number of noughts": filled(f'{head}<job id="', "0", '1"/></action>'),
        "filters": filled(head, '<filter state="failed"/>', "</action>"),
        "states": filled(f'{head}<filter state="', "failed ", '"/></action>'),
        "states with commas": filled(f'{head}<filter state="', "failed,", '"/></action>'),
        "states that there are not": filled(f'{head}<filter state="', "x ", '"/></action>'),
        "commas": filled(f'{head}<filter state="', ",", '"/></action>'),
        "words": filled(f'{head}<filter q="', "a{n} ", '"/></action>'),
        "a long word": filled(f'{head}<filter q="', "a", '"/></action>'),
        "a long workflow": filled(f'{head}<filter workflow="', "a", '"/></action>'),
        "a long time": filled(f'{head}<filter submitted-after="', "1", '"/></action>'),
        "a long time of blanks": filled(f'{head}<filter submitted-after="', " ", '1"/></action>'),
        "a long value": filled(f'{ns} name="priority" value="', "9", '"/>'),
        "a long value of noughts": filled(
            f'{ns} name="priority" value="', "0", '1"><filter state="failed"/></action>'
        ),
        "a long name of an action": filled(f'{ns} name="', "cancel", '"/>'),
        "a long preview": filled(f'{head[:-1]} preview="', " ", 'x"><filter q="a"/></action>'),
    }


XML = {"/jobs": _jobs_xml(), "/files": _files_xml(), "/jobs/actions": _actions_xml()}


# JSON -----------------------------------------------------------------------


def _json(known: str, text: str, pairs: str, part: str) -> dict[str, Shape]:
    """``known`` are members that are right, ``text`` is the name of a free text,
    ``pairs`` of an object of texts, ``part`` of an object or a list of them."""

    def filled(start: str, piece: str, end: str) -> Shape:
        return lambda size: _fill(start, piece, end, size)

    def nested(start: str, opening: str, inner: str, closing: str, end: str) -> Shape:
        def shape(size: int) -> bytes:
            room = size - len(start) - len(inner) - len(end)
            count = min(room // len(opening + closing), _DEEPEST)
            return (start + opening * count + inner + closing * count + end).encode()

        return shape

    head = "{" + known + ", "
    return {
        "names that are not known": filled("{", '"x{n}":1,', '"y":1}'),
        "the same name": filled("{", '"x":1,', '"x":1}'),
        "the same known name": filled("{", f'"{text}":"",', f'"{text}":""}}'),
        "the same name within": filled(f'{head}"{pairs}": {{', '"x":"",', '"x":""}}'),
        "pairs": filled(f'{head}"{pairs}": {{', '"x{n}":"",', '"x":""}}'),
        "pairs that are no texts": filled(f'{head}"{pairs}": {{', '"x{n}":[],', '"x":[]}}'),
        "pairs of lists": filled(f'{head}"{pairs}": {{"x": [', '"",', '""]}}'),
        "parts": filled(f'{head}"{part}": [', "{},", "{}]}"),
        "parts that are not objects": filled(f'{head}"{part}": [', "1,", "1]}"),
        "parts with names not known": filled(f'{head}"{part}": [', '{"x":1},', "{}]}"),
        "parts with empty values": filled(
            f'{head}"{part}": [', '{"role":"","id":"","state":""},', "{}]}"
        ),
        "the most parts": _most(f'{head}"{part}": [', "{},", "{}]}", 2400),
        "the most parts with wrong values": _most(
            f'{head}"{part}": [', '{"role":"*"},', "{}]}", 2400
        ),
        "the most parts with values that are escaped": _most(
            f'{head}"{part}": [', '{"role":"%s"},' % ('\\"&' * 70), "{}]}", 2400
        ),
        "the most parts with values of four bytes": _most(
            f'{head}"{part}": [', '{"role":"%s"},' % ("\U0001f600" * 70), "{}]}", 2400
        ),
        "the most pairs": _most(f'{head}"{pairs}": {{', '"x{n}":"",', '"x":""}}', 2400),
        "the most values": _most(f'{head}"{text}": [', '"x",', '"x"]}', 12_000),
        "parts within parts": nested(f'{head}"{part}": ', f'{{"{part}":', "{}", "}", "}"),
        "depth of lists": nested("", "[", "", "]", ""),
        "depth of objects": nested("", '{"a":', "1", "}", ""),
        "depth in a text": nested(f'{head}"{text}": ', "[", "", "]", "}"),
        "depth in a pair": nested(f'{head}"{pairs}": {{"x":', "[", "", "]", "}}"),
        "depth that is not closed": filled("", "[", ""),
        "depth of 450": lambda size: f'{head}"{text}": {"[" * 450}{"]" * 450}}}'.encode(),
        "depth of 900": lambda size: f'{head}"{part}": {"[" * 900}{"]" * 900}}}'.encode(),
        "a list": filled("[", "1,", "1]"),
        "a list of words": filled(f'{head}"{text}": [', '"x",', '"x"]}'),
        "a list of empty lists": filled(f'{head}"{text}": [', "[],", "[]]}"),
        "a long number": filled(f'{head}"{text}": ', "9", "}"),
        "a long number of noughts": filled(f'{head}"{text}": 1.', "0", "1}"),
        "a long exponent": filled(f'{head}"{text}": 1e', "9", "}"),
        "numbers of 4,000 digits": filled(f'{head}"{text}": [', "9" * 4000 + ",", "1]}"),
        "a long text": filled(f'{head}"{text}": "', "x", '"}'),
        "a long text of escapes": filled(f'{head}"{text}": "', "\\u0041", '"}'),
        "a long text of halves": filled(f'{head}"{text}": "', "\\ud800", '"}'),
        "a long text of backslashes": filled(f'{head}"{text}": "', "\\\\", '"}'),
        "a long text of controls": filled(f'{head}"{text}": "', "\\u0001", '"}'),
        "a text that is not closed": filled(f'{head}"{text}": "', "x", ""),
        "a long name": filled('{"', "x", '": 1}'),
        "a long name within": filled(f'{head}"{pairs}": {{"', "x", '": 1}}'),
        "blanks": filled("", " ", ""),
        "blanks before": filled("", " ", "x"),
        "blanks within": filled("{", " ", "x"),
        "not a number": filled(f'{head}"{text}": [', "NaN,", "1]}"),
        "lines": filled("{", "\n", "x"),
    }


JSON = {
    "/jobs": _json('"workflow": "transcode"', "title", "metadata", "inputs"),
    "/files": _json('"href": "/none"', "href", "metadata", "metadata"),
    "/jobs/actions": _json('"name": "cancel"', "value", "filter", "jobs")
    | {
        "states": lambda size: _fill(
            '{"name": "cancel", "filter": {"state": [', '"failed",', '"failed"]}}', size
        ),
        "jobs": lambda size: _fill('{"name": "cancel", "jobs": [', '{"id":{n}},', "1]}", size),
    },
}


# Forms ----------------------------------------------------------------------


def _form(known: str, text: str) -> dict[str, Shape]:
    def filled(start: str, piece: str, end: str = "") -> Shape:
        return lambda size: _fill(start, piece, end, size)

    return {
        "fields": filled(f"{known}&", "x{n}=&"),
        "the same field": filled(f"{known}&", "x=&"),
        "the same known field": filled(f"{known}&", f"{text}=1&"),
        "separators": filled(f"{known}", "&"),
        "equals signs": filled(f"{known}&{text}=", "="),
        "percent signs": filled(f"{known}&{text}=", "%"),
        "escapes": filled(f"{known}&{text}=", "%41"),
        "escapes that are no UTF-8": filled(f"{known}&{text}=", "%ff"),
        "NUL": filled(f"{known}&{text}=", "%00"),
        "a long value": filled(f"{known}&{text}=", "9"),
        "a long value of words": filled(f"{known}&{text}=", "a+"),
        "a long value of lines": filled(f"{known}&{text}=", "%0A"),
        "a long value of angles": filled(f"{known}&{text}=", "%3C"),
        "a long value of escaped marks": filled(f"{known}&{text}=", "%CC%81%CC%96"),
        "a long name": filled(f"{known}&", "x"),
        "a value of commas": filled(f"{known}&{text}=", ","),
    }


FORMS = {
    "/jobs/actions": _form("name=cancel&preview=1&all=1", "state")
    | {
        "states": lambda size: _fill("name=cancel&all=1", "&state=failed", "", size),
        "states with commas": lambda size: _fill("name=cancel&all=1&state=", "failed,", "", size),
        "states of a preview": lambda size: _fill(
            "name=cancel&preview=1&all=1", "&state=failed", "", size
        ),
        "jobs": lambda size: _fill("name=cancel", "&job=1{n}", "", size).replace(b"a", b"0"),
        "jobs with commas": lambda size: _fill("name=cancel&job=", "1,", "", size),
        "jobs of a preview": lambda size: _fill("name=cancel&preview=1&job=", "1,", "", size),
        "words": lambda size: _fill("name=cancel&all=1&q=", "a{n}+", "", size),
    },
    "/submit": _form("workflow=transcode&do=plan", "metadata")
    | {
        "inputs": lambda size: _fill("workflow=transcode&input.source=", "/a%0A", "", size),
        "picks": lambda size: _fill(
            "workflow=transcode&input.source=", "/a&pick.source=", "", size
        ),
        "a long input": lambda size: _fill("workflow=transcode&input.source=/", "a/", "", size),
        "a long title": lambda size: _fill("workflow=transcode&title=", "x", "", size),
        "a long key": lambda size: _fill("workflow=transcode&key=", "x", "", size),
        "a long priority": lambda size: _fill("workflow=transcode&priority=", "0", "", size),
        "a long delay": lambda size: _fill("workflow=transcode&delay=", "0", "s", size),
        "a long workflow": lambda size: _fill("workflow=", "x", "", size),
        "lines of metadata": lambda size: _fill("workflow=transcode&metadata=", "a=b%0A", "", size),
        "a form that goes back": lambda size: _fill(
            "workflow=transcode&do=change&metadata=", "%26", "", size
        ),
        "a picked file": lambda size: _fill("workflow=transcode&pick.source=", "/a", "", size),
    },
    "/tokens": _form("role=viewer&days=", "name")
    | {"a long role": lambda size: _fill("name=x&days=&role=", "x", "", size)},
    "/jobs/1/priority": _form("x=1", "value"),
    "/queues/default/limit": _form("x=1", "value"),
}
FIELDS = {
    path: _json('"x": 1', "value", "value", "value")
    for path in ("/jobs/1/priority", "/queues/default/limit")
} | {
    "/submit": _json('"workflow": "transcode"', "metadata", "title", "input.source"),
    "/tokens": _json('"role": "viewer"', "name", "name", "name"),
}


def requests() -> list[tuple[str, str, str, Shape]]:
    """Path, media type, name and shape of everything that is sent to the service."""
    kinds: tuple[tuple[str, Mapping[str, Mapping[str, Shape]]], ...] = (
        ("application/xml", XML | {"/jobs/dry-run": XML["/jobs"]}),
        ("application/json", JSON | {"/jobs/dry-run": JSON["/jobs"]} | FIELDS),
        ("application/x-www-form-urlencoded", FORMS),
    )
    return [
        (path, media_type, name, shape)
        for media_type, shapes in kinds
        for path, named in shapes.items()
        for name, shape in named.items()
    ]
