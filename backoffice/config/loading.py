"""Loading: the settings file and the environment become one frozen :class:`Settings`.

No folder, program or database is looked at here: that is ``backoffice check``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backoffice.config import environment, ini_file, validation
from backoffice.config.ini_file import Given, Raw
from backoffice.config.names import DEFAULTS
from backoffice.config.resources import share
from backoffice.config.setting import Setting, group_of, settings_of
from backoffice.config.settings import NAMED, SECTIONS, Settings
from backoffice.errors import ConfigError

SEARCH = ("etc/backoffice.ini", "/etc/backoffice/backoffice.ini")
# [target site] without a section in the file, so that the shipped workflows can publish.
_SITE = {"path": "var/publish"}


def load(path: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings from ``path``, or from the first file found, and ``environ``.

    Raises ConfigError, one line, for the first fault.
    """
    return build(*gather(path, environ))


def gather(path: str | None, environ: Mapping[str, str]) -> tuple[str, Raw]:
    """The source of the settings, and every value as it is written."""
    source = _find(path, environ)
    raw = ini_file.read(source) if source != DEFAULTS else {}
    raw.setdefault("target site", {k: Given(v, DEFAULTS) for k, v in _SITE.items()})
    environment.override(raw, environ)
    return source, raw


def build(source: str, raw: Raw) -> Settings:
    """The settings from values as they are written. Raises ConfigError."""
    values = {title: _values(title, raw.get(title, {}), source) for title in SECTIONS}
    home = Path.cwd() / values["paths"]["home"]
    database, paths = values["database"], values["paths"]
    database["uri"] = _absolute_uri(database["uri"], home)
    for name in ("workflows", "profiles"):
        paths[name] = (share("etc") / name, *paths[name])
    once: dict[str, Any] = {
        title: cls(**_anchored(values[title], home)) for title, cls in SECTIONS.items()
    }
    named: dict[str, Any] = {
        title: {name: cls(name=name, **given) for name, given in _named(raw, kind, source, home)}
        for kind, (cls, title) in NAMED.items()
    }
    settings = Settings(source=source, **once, **named)
    validation.require_fit(settings, raw)
    return settings


def _find(path: str | None, environ: Mapping[str, str]) -> str:
    if path is not None:
        return path
    if environ.get(environment.FILE_VARIABLE):
        return environ[environment.FILE_VARIABLE]
    return next((name for name in SEARCH if os.path.lexists(name)), DEFAULTS)


def _named(raw: Raw, kind: str, source: str, home: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections ``[kind NAME]``: the name and the values of each."""
    for title, given in raw.items():
        if title.startswith(f"{kind} "):
            yield title.split()[1], _anchored(_values(title, given, source), home)


def _values(title: str, given: Mapping[str, Given], source: str) -> dict[str, Any]:
    """The values of a section by the names of its fields."""
    cls = ini_file.section_class(title.split()[0])
    values = {
        name: _value(title, setting, given.get(setting.key), source)
        for name, setting in settings_of(cls).items()
    }
    if found := group_of(cls):
        name, prefix = found[0], f"{found[1].prefix}."
        members = {key: value for key, value in given.items() if key.startswith(prefix)}
        values[name] = {key.removeprefix(prefix): value.text for key, value in members.items()}
    return values


def _value(title: str, setting: Setting, given: Given | None, source: str) -> Any:
    if given is None:
        if setting.default is None:
            raise ConfigError("must be given", source=source, section=title, key=setting.key)
        return setting.convert(setting.default)
    place = {"source": given.source, "section": title, "key": setting.key}
    if "\n" in given.text and not setting.multiline:
        # An indented key would otherwise silently become part of this one.
        message = "goes on in an indented line; begin each key at the left edge"
        raise ConfigError(message, **place)
    try:
        return setting.convert(given.text)
    except ValueError as error:
        raise ConfigError(f"is not {error}", **place) from error


def _anchored(values: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """``values`` with every path in them made absolute, beginning at ``home``."""

    def anchor(value: Any) -> Any:
        if isinstance(value, Path):
            return home / value
        if isinstance(value, tuple):
            return tuple(anchor(member) for member in value)
        return value

    return {name: anchor(value) for name, value in values.items()}


def _absolute_uri(uri: str, home: Path) -> str:
    if uri.startswith("sqlite:"):
        return f"sqlite:{home / uri.removeprefix('sqlite:')}"
    return uri
