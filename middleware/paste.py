"""PasteDeploy filter factories: a component's settings from an ini file.

Each component's module has the line
``filter_factory = paste.factory(RequestID, header=paste.text, trust=paste.flag)``.
A converter takes the text and returns the value, or raises ValueError with the
fault.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from wsgiref.types import WSGIApplication

Converter = Callable[[str], object]
Filter = Callable[[WSGIApplication], WSGIApplication]

_FLAGS = {"yes": True, "true": True, "on": True, "1": True}
_FLAGS |= {"no": False, "false": False, "off": False, "0": False}


def factory(
    component: Callable[..., WSGIApplication], **converters: Converter
) -> Callable[..., Filter]:
    """A ``paste.filter_factory`` for ``component(app, **settings)``.

    The filter factory raises ValueError, with the component and the setting, if a
    setting is unknown, missing or has a wrong value.
    """
    name = component.__module__.rpartition(".")[2]
    required = [
        key
        for key, parameter in inspect.signature(component).parameters.items()
        if key in converters and parameter.default is parameter.empty
    ]

    def filter_factory(global_conf: Mapping[str, str], **local_conf: str) -> Filter:
        for key in required:
            if key not in local_conf:
                raise ValueError(f"{name}: {key}: is missing; set it")
        settings = {key: _convert(name, key, text, converters) for key, text in local_conf.items()}
        return lambda app: component(app, **settings)

    return filter_factory


def _convert(name: str, key: str, value: str, converters: Mapping[str, Converter]) -> object:
    if key not in converters:
        choice = ", ".join(sorted(converters)) or "none"
        raise ValueError(f"{name}: {key}: is not a setting of it; there are: {choice}")
    try:
        return converters[key](value)
    except ValueError as error:
        raise ValueError(f"{name}: {key}: {error}") from error


# Converters


def text(value: str) -> str:
    """Text without surrounding spaces; not empty."""
    if not value.strip():
        raise ValueError("is empty")
    return value.strip()


def words(value: str) -> tuple[str, ...]:
    """Words separated by spaces; may be empty."""
    return tuple(value.split())


def flag(value: str) -> bool:
    try:
        return _FLAGS[value.strip().lower()]
    except KeyError:
        raise ValueError(f"{value!r} is neither yes nor no") from None


def whole(value: str) -> int:
    """A whole number, not negative."""
    if not (value.strip().isascii() and value.strip().isdigit()):
        raise ValueError(f"{value!r} is not a whole number of 0 or more")
    return int(value)


def number(value: str) -> float:
    """A decimal number, not negative: seconds, a rate."""
    try:
        parsed = float(value)
    except ValueError:
        parsed = -1.0
    if not 0 <= parsed < float("inf"):
        raise ValueError(f"{value!r} is not a number of 0 or more")
    return parsed


def choice(*names: str) -> Converter:
    """One of ``names``."""

    def convert(value: str) -> str:
        if value.strip() not in names:
            raise ValueError(f"{value!r} is not one of {', '.join(names)}")
        return value.strip()

    return convert


def thing(value: str) -> Any:
    """The object at ``package.module:name``, such as a function."""
    module, _, name = value.strip().partition(":")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{value!r} is not the module:name of an object ({error})") from error
