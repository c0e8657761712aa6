"""Languages: the tag of BCP 47 and the name of one, from what a file says."""

from __future__ import annotations

from functools import cache

import langcodes

UNKNOWN = "und"


@cache
def tag(text: str) -> str:
    """The shortest tag, ``de`` for ``ger``; empty for none and for what is no language."""
    try:
        language = langcodes.Language.get(langcodes.standardize_tag(text))
    except (ValueError, LookupError):
        return ""
    known = language.is_valid() and language.language not in (None, UNKNOWN, "zxx", "mis")
    return language.to_tag() if known else ""


@cache
def name(text: str) -> str:
    """As its speakers write it, ``Deutsch``; empty for none."""
    found = tag(text)
    return langcodes.Language.get(found).autonym() if found else ""
