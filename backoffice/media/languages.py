"""Languages: the BCP 47 tag and the name of a language, from what a file says."""

from __future__ import annotations

from functools import cache

import langcodes

UNKNOWN = "und"
# Three letters → those that FFmpeg has for QuickTime's own numbers of languages, where
# they differ. All but the last are of ISO 639-2 too.
_QUICKTIME = {
    "deu": "ger",
    "nld": "dut",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "sqi": "alb",
    "mkd": "mac",
    "swe": "sve",
}


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


@cache
def code(text: str) -> str:
    """The three letters of ISO 639-2/T, ``deu`` for ``de``, as media files hold them."""
    found = tag(text)
    try:
        return langcodes.Language.get(found).to_alpha3() if found else UNKNOWN
    except LookupError:
        return UNKNOWN


def quicktime(text: str) -> str:
    """As :func:`code`, for MOV."""
    found = code(text)
    return _QUICKTIME.get(found, found)
