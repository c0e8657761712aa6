"""What must not get out: passwords in texts, and in files that others can read.

Owns how a password is told from the rest of a text, and which permissions of a
file are too wide. Which settings are secret is said in ``config``.
"""

from __future__ import annotations

import os
import re
import stat

# What container engines mount: files that everybody may read, where nobody else is.
MOUNTED = "/run/secrets/"

_with_password = re.compile(r"(://[^\s/:@]*:)[^\s/]+@").sub
_with_key = re.compile(r"(https?://)[^\s/:@]+@").sub
_SECRETS = frozenset("key passphrase passwd password secret token".split())


def masked(text: str) -> str:
    """The text with the passwords of its URIs, and the keys of its DSNs, taken out."""
    if "://" not in text:
        return text
    return _with_key(r"\1***@", _with_password(r"\1***@", text))


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
