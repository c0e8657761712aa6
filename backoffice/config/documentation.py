"""``etc/backoffice.ini`` and the manual page ``backoffice.ini(5)``, written from the declarations.

``make settings`` writes both; a test compares.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from backoffice.config.resources import share
from backoffice.config.setting import Setting, group_of, settings_of
from backoffice.config.settings import NAMED, SECTIONS

_WIDTH: Final = 88
# The names of the sections that the shipped file shows as examples.
_EXAMPLES: Final = {
    "target": "site",
    "command": "stamp",
    "watch": "incoming",
    "schedule": "nightly",
    "alert": "ops",
}
_INTRODUCTION: Final = (
    "The settings file is looked for in this order: --config FILE, the file named in"
    " BACKOFFICE_CONFIG, ./etc/backoffice.ini, /etc/backoffice/backoffice.ini. Without a file"
    " the defaults hold.",
    "The environment wins over the file: BACKOFFICE_<SECTION>_<KEY>, such as"
    " BACKOFFICE_WORKER_SLOTS=4, or BACKOFFICE_<SECTION>_<NAME>_<KEY>, such as"
    " BACKOFFICE_TARGET_SITE_PATH=/srv/site. A variable that ends in _FILE names a file that"
    " holds the value, such as a password: BACKOFFICE_DATABASE_URI_FILE=/run/secrets/database.",
    "Only its owner and root may be able to change this file. Once it holds a password, a key"
    " or another secret, not all users may be able to read it: chmod 0640.",
    'A running service reads the file again on HUP ("reload"); if the file is wrong, the'
    " service keeps its settings. Settings that take effect at a restart say so."
    ' "backoffice check" tells what is wrong.',
    "Lengths of time: 30 or 30s, 5m, 2h, 30d. Sizes: 512M, 8G (powers of 1024). Lists of"
    " folders: separated by colons, or one in each line, indented.",
)


def ini() -> str:
    """The text of ``etc/backoffice.ini``: every setting with its help and default."""
    first = (
        "Every setting of Backoffice. A line that begins with #, then a name and =, shows a"
        " default or an example; remove the # to change it. Text has a blank after the #."
    )
    blocks = ["\n#\n".join(_comment(text) for text in (first, *_INTRODUCTION))]
    blocks += ["\n".join(_once(title, cls)) for title, cls in SECTIONS.items()]
    blocks += ["\n".join(_named(kind, cls)) for kind, (cls, _) in NAMED.items()]
    return "\n\n".join(blocks) + "\n"


def _once(title: str, cls: type) -> Iterator[str]:
    yield _comment(_about(cls))
    yield f"[{title}]"
    yield from _lines(settings_of(cls).values())


def _named(kind: str, cls: type) -> Iterator[str]:
    yield _comment(_about(cls))
    yield f"#[{kind} {_EXAMPLES[kind]}]"
    yield from _lines(settings_of(cls).values())
    if found := group_of(cls):
        yield _comment(found[1].help)
        if found[1].example:
            yield f"#{found[1].example}"


def _lines(settings: Iterable[Setting]) -> Iterator[str]:
    for setting in settings:
        shown = setting.default if setting.example is None else setting.example
        yield _comment(setting.help)
        yield f"#{setting.key} = {shown}".rstrip()


def _comment(text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _about(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split())


def manual() -> str:
    """The manual page ``backoffice.ini(5)``, as source for man."""
    titles: Mapping[str, type] = {
        **SECTIONS,
        **{f"{kind} NAME": cls for kind, (cls, _) in NAMED.items()},
    }
    lines = [
        '.\\" Written by make settings from the declarations in backoffice/config/settings.py.',
        ".TH BACKOFFICE.INI 5",
        ".ad l",
        ".SH NAME",
        "backoffice.ini \\- settings of Backoffice",
        ".SH DESCRIPTION",
    ]
    for text in _INTRODUCTION:
        lines += [_escaped(text), ".PP"]
    del lines[-1]
    for title, cls in titles.items():
        lines += [f".SH [{_escaped(title)}]", _escaped(_about(cls)), *_entries(cls)]
    lines += [".SH SEE ALSO", ".BR backoffice (1)"]
    return "\n".join(lines) + "\n"


def _entries(cls: type) -> Iterator[str]:
    for setting in settings_of(cls).values():
        yield ".TP"
        yield f".B {_escaped(setting.key)}"
        yield _escaped(setting.help)
        yield _default(setting)
    if found := group_of(cls):
        yield ".TP"
        yield f".BI {found[1].prefix}. NAME"
        yield _escaped(found[1].help)


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "It must be given."
    return f"Default: {_escaped(setting.default)}" if setting.default else "Default: empty"


def _escaped(text: str) -> str:
    """Text as roff shows it: no line begins with a control character."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain


def main() -> None:
    """Write ``etc/backoffice.ini`` and ``docs/backoffice.ini.5`` of a checkout."""
    folder = share("etc")
    (folder / "backoffice.ini").write_text(ini())
    (folder.parent / "docs" / "backoffice.ini.5").write_text(manual())


if __name__ == "__main__":
    main()
