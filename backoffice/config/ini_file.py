"""The settings file: INI text to sections of known keys, each value with its source."""

from __future__ import annotations

import configparser
import re
from typing import NamedTuple

from backoffice.config import redaction, secret_files
from backoffice.config.setting import group_of, settings_of
from backoffice.config.settings import NAMED, SECTIONS
from backoffice.errors import ConfigError


class Given(NamedTuple):
    """A value as it is written, and where."""

    text: str
    source: str


Raw = dict[str, dict[str, Given]]  # section title → key → value


def read(source: str) -> Raw:
    """The sections of a file. Raises ConfigError, also for secrets that all can read."""
    text, open_to_all = secret_files.read(source, source)
    raw = _sections(_parse(text, source), source)
    if open_to_all:
        _refuse_secrets(raw, source)
    return raw


def section_class(kind: str) -> type:
    return SECTIONS[kind] if kind in SECTIONS else NAMED[kind][0]


def is_key(kind: str, key: str) -> bool:
    return any(key == known.key for known in settings_of(section_class(kind)).values())


def is_member(kind: str, key: str) -> bool:
    """Whether the key is one of the section's group, such as ``parameter.target``."""
    found = group_of(section_class(kind))
    return found is not None and _is_member(key, found[1].prefix)


def is_name(name: str) -> bool:
    """Of a section that may stand several times."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None


def _is_member(key: str, prefix: str) -> bool:
    return re.fullmatch(rf"{prefix}\.[A-Za-z0-9][A-Za-z0-9_.-]*", key) is not None


class _Parser(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr  # parameters' names keep their case


def _parse(text: str, source: str) -> configparser.RawConfigParser:
    parser = _Parser(delimiters=("=",), default_section="", empty_lines_in_values=False)
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as error:
        message = f"stands twice (line {error.lineno}); make it one"
        raise ConfigError(message, source=source, section=error.section) from error
    except configparser.DuplicateOptionError as error:
        message = f"is set twice (line {error.lineno}); remove one"
        place = {"section": error.section, "key": error.option}
        raise ConfigError(message, source=source, **place) from error
    except configparser.MissingSectionHeaderError as error:
        message = f"line {error.lineno} stands before any [section]"
        raise ConfigError(message, source=source) from error
    except configparser.ParsingError as error:
        message = f"line {error.errors[0][0]} is neither [section] nor key = value"
        raise ConfigError(message, source=source) from error
    return parser


def _sections(parser: configparser.RawConfigParser, source: str) -> Raw:
    raw: Raw = {}
    for header in parser.sections():
        title = " ".join(header.split())
        kind, _, name = title.partition(" ")
        if title in raw:
            raise ConfigError("stands twice; make it one", source=source, section=title)
        if title not in SECTIONS and not (kind in NAMED and is_name(name)):
            raise _unknown_section(source, title)
        raw[title] = {}
        for key, text in parser.items(header):
            _require_known(kind, key, source, title)
            raw[title][key] = Given(text, source)
    return raw


def _unknown_section(source: str, title: str) -> ConfigError:
    if title in NAMED:
        message = f"needs a name of letters, digits, '-' and '_', such as [{title} main]"
        return ConfigError(message, source=source, section=title)
    known = [*SECTIONS, *(f"{kind} NAME" for kind in NAMED)]
    message = f"is no section; there are {', '.join(known)}"
    return ConfigError(message, source=source, section=title)


def _require_known(kind: str, key: str, source: str, title: str) -> None:
    if is_key(kind, key) or is_member(kind, key):
        return
    cls = section_class(kind)
    names = [known.key for known in settings_of(cls).values()]
    if found := group_of(cls):
        names.append(f"{found[1].prefix}.NAME")
    message = f"is no setting; there are {', '.join(names)}"
    raise ConfigError(message, source=source, section=title, key=key)


def _refuse_secrets(raw: Raw, source: str) -> None:
    for title, given in raw.items():
        for key, value in given.items():
            if value.text and _is_secret(title.split()[0], key, value.text):
                close = secret_files.closing(source)
                message = f"is secret, and everybody can read the file; type: {close}"
                raise ConfigError(message, source=source, section=title, key=key)


def _is_secret(kind: str, key: str, text: str) -> bool:
    if is_member(kind, key):
        # A target's options have names that tell; a workflow's parameters only values.
        named = key.startswith("option.")
        return redaction.is_secret_name(key) if named else redaction.shown(text) != text
    known = settings_of(section_class(kind)).values()
    return any(setting.key == key and setting.secret(text) for setting in known)
