"""Settings that a running service reads again; some change at a restart only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from backoffice.config import loading, validation
from backoffice.config.ini_file import Given
from backoffice.config.names import DEFAULTS
from backoffice.config.settings import (
    DatabaseSettings,
    PathSettings,
    ServiceSettings,
    Settings,
)
from backoffice.errors import ConfigError

# What changes at a restart only, because the process was built upon it.
_AT_RESTART = {
    "database": [member.name for member in fields(DatabaseSettings)],
    "paths": [member.name for member in fields(PathSettings)],
    "service": [member.name for member in fields(ServiceSettings)],
    "web": ["listen", "threads"],
}


def reload(old: Settings, environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings as they are written now, but what only a restart changes as in
    ``old``; and which of those have been changed, as ``[section] key``.

    Raises ConfigError like ``load``, and for what does not fit what is kept.
    """
    source, raw = loading.gather(None if old.source == DEFAULTS else old.source, environ)
    wanted = loading.build(source, raw)
    raw.setdefault("paths", {})["home"] = Given(str(old.paths.home), source)
    waiting = [f"[{t}] {key}" for t, key in _restarted() if _at(wanted, t, key) != _at(old, t, key)]
    kept = _with_kept(loading.build(source, raw), old)
    try:
        validation.require_fit(kept, raw)
    except ConfigError as error:
        message = f"needs {', '.join(waiting)} as written now, which needs a restart"
        place = {"section": error.section, "key": error.key}
        raise ConfigError(message, source=error.source, **place) from error
    return kept, waiting


def _restarted() -> Iterator[tuple[str, str]]:
    return ((title, key) for title, keys in _AT_RESTART.items() for key in keys)


def _at(settings: Settings, title: str, key: str) -> Any:
    return getattr(getattr(settings, title), key)


def _with_kept(new: Settings, old: Settings) -> Settings:
    kept = {
        title: replace(getattr(new, title), **{key: _at(old, title, key) for key in keys})
        for title, keys in _AT_RESTART.items()
    }
    return replace(new, **kept)
