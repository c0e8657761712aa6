"""A client inside the process, which believes no answer: each one is checked
against the schema, or the OpenAPI document, that it should follow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
from lxml import etree

from backoffice.documents import safe_xml
from backoffice.web import openapi
from backoffice.web.addresses import ROUTES
from backoffice.web.routes import Route
from tests import schemas
from tests.middleware import wsgi

NS = "{urn:backoffice:1}"
FORM = "application/x-www-form-urlencoded"
PATTERNS = {"id": "[0-9]+", "path": ".+"}
_RECIPES = ("workflow", "profile")


@dataclass
class Visitor:
    app: Callable[..., Any]

    def __call__(
        self, method: str, path: str, body: bytes | str = b"", type: str = "", **more: Any
    ) -> wsgi.Answer:
        data = body.encode() if isinstance(body, str) else body
        more = {"HTTP_HOST": "localhost", "REMOTE_ADDR": ""} | more  # by the Unix socket
        if data:
            more["CONTENT_TYPE"] = type or "application/xml"
        answer = wsgi.call(self.app, method, path, data, **more)
        check(method, path.partition("?")[0], answer)
        return answer

    def get(self, path: str, **more: Any) -> wsgi.Answer:
        return self("GET", path, **more)

    def post(self, path: str, body: bytes | str = b"", type: str = "", **more: Any) -> wsgi.Answer:
        return self("POST", path, body, type, **more)

    def json(self, path: str, **more: Any) -> Any:
        answer = self.get(path, HTTP_ACCEPT="application/json", **more)
        assert answer.status == 200, answer.text
        return json.loads(answer.body)

    def xml(self, path: str, **more: Any) -> etree._Element:
        answer = self.get(path, **more)
        assert answer.status == 200, answer.text
        return etree.fromstring(answer.body)


def check(method: str, path: str, answer: wsgi.Answer) -> None:
    """Fail unless a document is what its schema says."""
    assert answer.headers["X-Request-ID"]
    kind = (answer.headers["Content-Type"] or "").partition(";")[0]
    if not answer.body or answer.status == 206 or path.startswith(("/schema", "/files/")):
        return
    if kind in ("application/xml", "application/problem+xml"):
        _check_xml(etree.fromstring(answer.body))
    elif kind in ("application/json", "application/problem+json") and path != "/openapi.json":
        _check_json(method, path, answer)


def _check_xml(root: etree._Element) -> None:
    tag = safe_xml.local(root)
    safe_xml.validate(root, tag if tag in _RECIPES else schemas.schema_of(tag))


def _check_json(method: str, path: str, answer: wsgi.Answer) -> None:
    if answer.status >= 400:
        validator("problem").validate(json.loads(answer.body))
        return
    routes = [route for route in ROUTES if _fits(route, method, path)]
    assert routes, f"{method} {path} answered, but is no route"
    validator(routes[0].gives).validate(json.loads(answer.body))


def _fits(route: Route, method: str, path: str) -> bool:
    pattern = re.sub(r"\{(\w+)\}", lambda name: PATTERNS.get(name[1], "[^/]+"), route.path)
    suffix = r"(\.(xml|json|atom))?" if route.gives else ""
    asked = "GET" if method == "HEAD" else method
    return route.method == asked and bool(re.fullmatch(f"{pattern}{suffix}/?", path))


@cache
def validator(kind: str) -> Any:
    whole = json.loads(openapi.document(ROUTES, ""))
    schema = {"$ref": f"#/components/schemas/{kind}", "components": whole["components"]}
    return jsonschema_rs.Draft202012Validator(schema)
