"""Settings of an ini file become arguments, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware import paste
from tests.middleware.wsgi import call, hello


class Echoing:
    """A component that answers with its settings."""

    def __init__(self, app: WSGIApplication, *, size: int, names: tuple[str, ...] = ()) -> None:
        self.app = app
        self.size = size
        self.names = names

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("X-Settings", f"{self.size} {self.names}")])
        return self.app(environ, lambda status, headers, exc_info=None: lambda data: None)


filter_factory = paste.factory(Echoing, size=paste.whole, names=paste.words)


def test_settings_are_converted() -> None:
    app = filter_factory({}, size="12", names="a b")(hello)
    assert call(app).headers["X-Settings"] == "12 ('a', 'b')"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"size": "much"}, "test_paste: size: 'much' is not a whole number of 0 or more"),
        ({"size": "1", "colour": "red"}, "test_paste: colour: is not a setting of it; there are:"),
        ({"names": "a"}, "test_paste: size: is missing; set it"),
    ],
)
def test_what_is_wrong_is_refused_by_name(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        filter_factory({}, **settings)


SHIPPED: dict[str, dict[str, str]] = {
    "request_id": {"header": "X-Trace", "trust": "yes"},
    "access_log": {"logger": "access", "format": "json"},
    "errors": {"logger": "web", "sentry": "builtins:repr"},
    "framing": {"max_target": "1000", "max_head": "10000", "close": "no"},
    "body_limit": {"limit": "1000"},
    "stream_limit": {"most": "4", "small": "1000"},
    "time_limit": {"seconds": "2.5"},
    "trusted_proxy": {"trusted": "10.0.0.0/8 unix", "user_header": "X-User", "hosts": "127.0.0.1"},
}


@pytest.mark.parametrize("module", SHIPPED)
def test_a_component_is_made_from_an_ini_file(module: str) -> None:
    factory = import_module(f"middleware.{module}").filter_factory
    assert call(factory({}, **SHIPPED[module])(hello)).body == b"Hello\n"
    with pytest.raises(ValueError, match=f"{module}: colour: is not a setting of it"):
        factory({}, **SHIPPED[module], colour="red")


@pytest.mark.parametrize(
    ("converter", "text", "value"),
    [
        (paste.text, " a b ", "a b"),
        (paste.flag, "Yes", True),
        (paste.flag, "off", False),
        (paste.number, "0.5", 0.5),
        (paste.choice("a", "b"), "b", "b"),
        (paste.thing, "tests.middleware.wsgi:hello", hello),
        (paste.words, "", ()),
    ],
)
def test_a_converter_reads(converter: Callable[[str], object], text: str, value: object) -> None:
    assert converter(text) == value


@pytest.mark.parametrize(
    ("converter", "text"),
    [
        (paste.text, "  "),
        (paste.flag, "maybe"),
        (paste.whole, "-1"),
        (paste.whole, "²"),
        (paste.number, "nan"),
        (paste.number, "inf"),
        (paste.number, "-1"),
        (paste.choice("a"), "b"),
        (paste.thing, "no.such.module:x"),
        (paste.thing, "middleware.paste:x"),
        (paste.thing, "json"),
    ],
)
def test_a_converter_refuses(converter: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        converter(text)
