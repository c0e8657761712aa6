"""How a setting is declared: a field of a frozen dataclass with its key, default and help.

The declaration is the one place that says what a setting is. Reading
(``loading``), the comments of ``etc/backoffice.ini`` and the manual page
(``documentation``) follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar, dataclass_transform

_METADATA: Final = "setting"
_T = TypeVar("_T")


def never(text: str) -> bool:
    return False


@dataclass(frozen=True)
class Setting:
    """One key of one section.

    ``convert`` raises ValueError whose message ends the sentence "… is not" and
    never repeats the text, which may be secret. ``default`` is written as in the
    file; None: the key must be given. ``example`` is what the shipped file shows
    instead of the default. ``secret`` says whether a text must not be readable by
    all. Only a ``multiline`` setting goes on in indented lines.
    """

    key: str
    convert: Callable[[str], Any]
    default: str | None
    help: str
    secret: Callable[[str], bool]
    example: str | None
    multiline: bool


@dataclass(frozen=True)
class Group:
    """Keys of the form ``prefix.NAME``, gathered into one mapping."""

    prefix: str
    help: str
    example: str | None


def setting(
    convert: Callable[[str], Any],
    written: str | None,
    help: str,
    *,
    key: str = "",
    secret: Callable[[str], bool] = never,
    example: str | None = None,
    multiline: bool = False,
) -> Any:
    """Declare a setting with its default as ``written`` in the file. ``key`` is its name
    there where that is a keyword of Python. The ``repr`` of the section leaves out secrets."""
    declared = Setting(key, convert, written, help, secret, example, multiline)
    return field(metadata={_METADATA: declared}, repr=secret is never)


def group(prefix: str, help: str, *, example: str | None = None, secret: bool = False) -> Any:
    return field(metadata={_METADATA: Group(prefix, help, example)}, repr=not secret)


@dataclass_transform(frozen_default=True, field_specifiers=(field, setting, group))
def section(cls: type[_T]) -> type[_T]:
    """A frozen dataclass whose fields are settings."""
    return dataclass(frozen=True)(cls)


def settings_of(cls: type) -> dict[str, Setting]:
    """The settings of a section by the name of their field, in order."""
    found = {}
    for member in fields(cls):
        declared = member.metadata.get(_METADATA)
        if isinstance(declared, Setting):
            found[member.name] = Setting(**{**vars(declared), "key": declared.key or member.name})
    return found


def group_of(cls: type) -> tuple[str, Group] | None:
    """The group of a section, with the name of its field; None if it has none."""
    for member in fields(cls):
        if isinstance(declared := member.metadata.get(_METADATA), Group):
            return member.name, declared
    return None
