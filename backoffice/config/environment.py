"""Settings from the environment: ``BACKOFFICE_<SECTION>_<KEY>``, which win over the file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from backoffice.config import ini_file, secret_files
from backoffice.config.ini_file import Given, Raw
from backoffice.config.setting import group_of
from backoffice.config.settings import NAMED, SECTIONS
from backoffice.errors import ConfigError

PREFIX: Final = "BACKOFFICE_"
FROM_FILE: Final = "_FILE"  # ends the name of a variable that names the file with the value
FILE_VARIABLE: Final = "BACKOFFICE_CONFIG"
URL_VARIABLE, TOKEN_VARIABLE = "BACKOFFICE_URL", "BACKOFFICE_TOKEN"  # of the command line
_NO_SETTINGS = (FILE_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE, TOKEN_VARIABLE + FROM_FILE)


def override(raw: Raw, environ: Mapping[str, str]) -> None:
    """Put the settings of the environment over those in ``raw``. Raises ConfigError for
    a variable that names no setting."""
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in _NO_SETTINGS:
            _override(raw, variable, environ)


def refuse_both(variable: str, environ: Mapping[str, str]) -> None:
    """Raises ConfigError if a value and the file that holds it are both given."""
    other = variable.removesuffix(FROM_FILE)
    if other in environ:
        raise ConfigError(f"{other} is set too; unset one of them", source=variable)


def _override(raw: Raw, variable: str, environ: Mapping[str, str]) -> None:
    setting = variable.removesuffix(FROM_FILE)
    kind, _, rest = setting.removeprefix(PREFIX).lower().partition("_")
    if kind in SECTIONS:
        title, key = kind, rest
    elif kind in NAMED:
        title, key = _named(raw, kind, rest, variable)
    else:
        raise _unknown(variable, "names no section")
    if not ini_file.is_key(kind, key) and "." not in key:
        raise _unknown(variable, f"names no setting of [{title}]")
    text = environ[variable] if setting == variable else _from_file(variable, environ)
    raw.setdefault(title, {})[key] = Given(text, variable)


def _from_file(variable: str, environ: Mapping[str, str]) -> str:
    """The content of the file that ``variable`` names, without the end of its last line."""
    refuse_both(variable, environ)
    path = environ[variable]
    place = f"{variable}: {path}"
    text = secret_files.read_secret(path, place)
    if not text.strip():
        raise ConfigError("is empty", source=place)
    return text.rstrip("\r\n")


def _named(raw: Raw, kind: str, rest: str, variable: str) -> tuple[str, str]:
    """The section and key meant by ``rest``: of an existing section, or of a new one."""
    meant = list(_existing(raw, kind, rest)) or list(_new(kind, rest))
    if len({title for title, _ in meant}) > 1:
        titles = " and ".join(f"[{title}]" for title, _ in meant)
        raise _unknown(variable, f"could mean {titles}; use the file")
    if not meant:
        raise _unknown(variable, f"names no setting of [{kind} NAME]")
    return meant[0]


def _existing(raw: Raw, kind: str, rest: str) -> Iterator[tuple[str, str]]:
    for title in raw:
        words = title.lower().replace("-", "_").split()
        if words[0] == kind and len(words) == 2 and rest.startswith(f"{words[1]}_"):
            key = _key_of(kind, rest.removeprefix(f"{words[1]}_"))
            if key:
                yield title, key


def _new(kind: str, rest: str) -> Iterator[tuple[str, str]]:
    for cut in (m.start() for m in re.finditer("_", rest)):
        key = _key_of(kind, rest[cut + 1 :])
        if key and ini_file.is_name(rest[:cut]):
            yield f"{kind} {rest[:cut]}", key
            return


def _key_of(kind: str, text: str) -> str:
    """The key that the end of a variable's name means; empty if none."""
    if found := group_of(NAMED[kind][0]):
        prefix = f"{found[1].prefix}_"
        if text.startswith(prefix) and text != prefix:
            return f"{found[1].prefix}.{text.removeprefix(prefix)}"
    return text if ini_file.is_key(kind, text) else ""


def _unknown(variable: str, reason: str) -> ConfigError:
    form = f"{PREFIX}<SECTION>_<KEY> or {PREFIX}<SECTION>_<NAME>_<KEY>"
    return ConfigError(f"{reason}; settings are {form}, as in backoffice.ini", source=variable)
