"""What must not get out: passwords in texts, and in files that others can read.

Owns how a password is told from the rest of a text, what of a URL may be shown,
and which permissions of a file are too wide. Which settings are secret is said in
``config``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

# What container engines mount: files that everybody may read, where nobody else is.
MOUNTED = "/run/secrets/"

_with_password = re.compile(r"(://[^\s/:@]*:)[^\s/]+@").sub
_with_key = re.compile(r"(https?://)[^\s/:@]+@").sub
# From "://" on: userinfo and host, path, query and fragment. A text in XML ends a
# URL earlier than a blank does. No two parts share a character: linear.
_url = re.compile(r"://([^\s/?#]*)([^\s?#]*)(\S*)").sub
_url_in_xml = re.compile(r"://([^\s/?#<>\"]*)([^\s?#<>\"]*)([^\s<>\"]*)").sub
_is_host = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?").fullmatch
_SECRETS = frozenset("key passphrase passwd password secret token".split())


def masked(text: str) -> str:
    """The text with the passwords of its URIs, and the keys of its DSNs, taken out."""
    if "://" not in text:
        return text
    return _with_key(r"\1***@", _with_password(r"\1***@", text))


def shown(text: str) -> str:
    """The text as viewers may see it: each http or https URL as ``https://host/…``.

    The path goes too, since for Slack and many others it is the password. URLs of
    other schemes, such as sftp: and s3:, lose their password and their query.
    """
    return _url(_shortened, text)


def shown_xml(text: str) -> str:
    """Like :func:`shown`, for a document in XML."""
    return _url_in_xml(_shortened, text)


def _shortened(match: re.Match[str]) -> str:
    authority, path, rest = match.groups()
    before = match.string[max(0, match.start() - 5) : match.start()].lower()
    if not before.endswith(("http", "https")):
        return masked(f"://{authority}{path}") + ("?…" if rest else "")
    host = authority.rpartition("@")[2]
    if host == authority and path + rest in ("", "/"):
        return match[0]
    # Userinfo with a / in it would show its beginning in the place of a host.
    return f"://{host}/…" if _is_host(host) else "://…"


class Redaction:
    """Shortens certain values, as :func:`shown` does, wherever they stand in a text:
    in a command's arguments, in what it says, in the reason of a failure."""

    def __init__(self, values: Iterable[str]) -> None:
        whole = sorted({one for one in values if shown(one) != one}, key=len, reverse=True)
        self._shown = {one: shown(one) for one in whole}

    def __call__(self, text: str) -> str:
        for value, short in self._shown.items():
            text = text.replace(value, short)
        return text


def holds_password(uri: str) -> bool:
    return masked(uri) != uri


def is_secret_name(name: str) -> bool:
    """Whether an option that we know nothing of is secret, by the last word of its name."""
    return re.split(r"[._-]", name.lower())[-1] in _SECRETS


def writable_by_others(status: os.stat_result) -> bool:
    """Whether who is neither us nor root can change a file."""
    if not stat.S_ISREG(status.st_mode):
        return False
    ours = status.st_gid in {0, os.getegid(), *os.getgroups()}
    return bool(status.st_mode & (stat.S_IWOTH if ours else stat.S_IWOTH | stat.S_IWGRP))


def readable_by_all(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & stat.S_IROTH)
