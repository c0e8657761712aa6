"""Somebody who reads pages without scripts, and presses buttons on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from lxml import etree, html

from tests.middleware import wsgi
from tests.web.visitor import FORM, Visitor

# As Chromium says it.
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


_INLINE = {"a", "b", "bdi", "button", "code", "del", "i", "ins", "span", "strong", "time"}


def words(element: html.HtmlElement) -> str:
    """The text as it is seen: blocks stand apart, white space counts once."""
    parts: list[str] = []
    for event, one in etree.iterwalk(element, events=("start", "end")):
        if not isinstance(one.tag, str):
            parts.append(one.tail or "" if event == "end" else "")
            continue
        apart = "" if one.tag in _INLINE else " "
        parts += [apart, (one.text if event == "start" else "") or ""]
        if event == "end" and one is not element:
            parts.append(one.tail or "")
    return " ".join("".join(parts).split())


EVIL = "</title><script>alert(1)</script>&amp;\" onload='x' <b>"
LONG = "long" * 2500


@dataclass
class Page:
    path: str
    status: int
    root: html.HtmlElement

    def text(self, xpath: str = "//main") -> str:
        """What stands there, with its white space made even."""
        return words(self.root.xpath(xpath)[0])

    def all(self, xpath: str) -> list[str]:
        return [words(one) for one in self.root.xpath(xpath)]


@dataclass
class Reader:
    visitor: Visitor

    def open(self, path: str, status: int = 200, **more: Any) -> Page:
        answer = self.visitor.get(path, HTTP_ACCEPT=ACCEPT, **more)
        return self._read(path, answer, status)

    def press(self, page: Page, button: str, *changes: tuple[str, str], **more: Any) -> Page:
        """Press the button with this text, or which begins so; ``changes`` are fields
        that are ticked or typed before. What follows is followed."""
        pressed = next(one for one in page.root.iter("button") if words(one).startswith(button))
        form = next(pressed.iterancestors("form"))
        changed = {name for name, _ in changes}
        fields = [(name, value) for name, value in form.form_values() if name not in changed]
        fields += changes
        if pressed.get("name"):
            fields.append((pressed.get("name"), pressed.get("value")))
        where = urljoin(page.path, form.get("action"))
        if form.get("method", "get").lower() == "post":
            more |= {"HTTP_ORIGIN": "http://localhost", "HTTP_ACCEPT": ACCEPT}
            answer = self.visitor.post(where, urlencode(fields), FORM, **more)
        else:
            where += f"?{urlencode(fields)}"
            answer = self.visitor.get(where, HTTP_ACCEPT=ACCEPT)
        return self._follow(where, answer)

    def _follow(self, path: str, answer: wsgi.Answer) -> Page:
        if answer.status in (302, 303):
            parts = urlsplit(answer.headers["Location"] or "")
            return self.open(parts.path + (f"?{parts.query}" if parts.query else ""))
        return self._read(path, answer, answer.status)

    @staticmethod
    def _read(path: str, answer: wsgi.Answer, status: int) -> Page:
        assert answer.status == status, answer.text
        assert (answer.headers["Content-Type"] or "").startswith("text/html"), answer.text
        root = html.document_fromstring(answer.body, parser=html.HTMLParser(encoding="utf-8"))
        check(root)
        return Page(path, answer.status, root)


def check(root: html.HtmlElement) -> None:
    """What holds for every page: our policy lets no script or style stand in it,
    ids stand once, fields have labels, headings leave out no step."""
    assert not [one for one in root.iter("script") if not one.get("src")]
    assert not list(root.iter("style"))
    for one in root.iter():
        assert not any(str(name).startswith("on") or name == "style" for name in one.attrib)
    ids = root.xpath("//@id")
    assert len(ids) == len(set(ids)), sorted(ids)
    for field in root.xpath("//main//*[self::input or self::select or self::textarea]"):
        named = field.get("aria-label") or next(field.iterancestors("label"), None) is not None
        labelled = field.get("id") and root.xpath("//label[@for=$id]", id=field.get("id"))
        assert field.get("type") == "hidden" or named or labelled, html.tostring(field)
    levels = [int(one.tag[1]) for one in root.xpath("//main//*[self::h1 or self::h2 or self::h3]")]
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))
    for form in root.xpath("//main//form[@method='post']"):
        assert form.xpath(".//input[@name='csrf_token']") or not form.xpath(".//button")
