"""Components can be set up from an ini file, as PasteDeploy does it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from tests.middleware.wsgi import call, hello

HERE = "tests.middleware.test_settings"


def nothing(*arguments: Any) -> None:
    """What a setting names: nobody knows, nothing is needed."""


def reasons() -> list[str]:
    return []


SETTINGS: dict[str, dict[str, str]] = {
    "authentication": {
        "tokens": f"{HERE}:nothing",
        "role_of": f"{HERE}:nothing",
        "anonymous": "viewer",
        "exempt": "/health/ /metrics",
    },
    "roles": {"required": f"{HERE}:nothing", "order": "viewer admin"},
    "csrf": {"secret": "sixteen bytes long", "origins": "https://a", "lifetime": "60"},
    "security_headers": {"policy": "default-src 'none'", "hsts": "0"},
    "conditional": {"limit": "1000"},
    "compression": {"minimum": "100", "gzip_level": "1", "brotli_quality": "1"},
    "transaction": {
        "open": f"{HERE}:nothing",
        "retryable": f"{HERE}:nothing",
        "tries": "2",
        "key": "k",
    },
    "read_your_writes": {
        "secret": "sixteen bytes long",
        "merged": f"{HERE}:nothing",
        "header": "X-Token",
        "cookie": "pos",
        "lifetime": "60",
    },
    "rate_limit": {
        "rate": "0.5",
        "burst": "10",
        "key": "middleware.rate_limit:client",
        "exempt": "/health/",
        "clients": "10",
    },
    "maintenance": {"mode": "/no/such/file", "exempt": "/health/", "retry_after": "5"},
    "timing": {},
    "robots": {},
    "static": {"root": "/no/such/folder", "prefix": "s"},
    "health": {"checks": f"{HERE}:reasons", "live": "/live", "ready": "/ready"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_can_stand_in_an_ini_file(name: str) -> None:
    factory = import_module(f"middleware.{name}").filter_factory
    assert call(factory({}, **SETTINGS[name])(hello)).body == b"Hello\n"


@pytest.mark.parametrize("name", [*SETTINGS, "metrics"])
def test_a_setting_that_there_is_not_is_refused(name: str) -> None:
    factory = import_module(f"middleware.{name}").filter_factory
    with pytest.raises(ValueError, match=f"{name}: colour: is not a setting of it"):
        factory({}, **SETTINGS.get(name, {}), colour="red")


def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [repr(environ["middleware.identity"]).encode()]


def test_an_ini_file_says_which_role_anybody_has() -> None:
    factory = import_module("middleware.authentication").filter_factory
    answer = call(factory({}, anonymous="viewer")(who))
    assert answer.text == "Identity(name='anonymous', role='viewer', via='anonymous')"
