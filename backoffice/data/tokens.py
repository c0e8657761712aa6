"""API tokens: create, authenticate, revoke.

Only a digest of a token's secret is stored: the secret is shown once, to the user
who created the token. A digest needs no salt and no stretching
here, because a secret is 256 random bits and not something a person chose.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from storm.locals import Store

from backoffice.config.names import ROLES, TOKEN_ACTOR
from backoffice.data import events
from backoffice.data.database import Database
from backoffice.data.sql import clock, insert_one, moment
from backoffice.errors import DatabaseUnavailable, Invalid, NotFound

PREFIX = "bo_"  # by which people and scanners for leaked secrets know it
USED_EVERY = timedelta(minutes=1)  # how exactly the last use is known
_LONGEST_NAME = 128
_LONGEST_LIFE = timedelta(days=36500)


@dataclass(frozen=True)
class Token:
    """A token that is neither revoked nor expired."""

    id: int
    name: str
    role: str
    used_lately: bool  # within ``USED_EVERY``

    @property
    def actor(self) -> str:
        """The actor, as history and jobs show it."""
        return f"{TOKEN_ACTOR}{self.name}"


def create(
    store: Store, name: str, role: str, actor: str, lifetime: timedelta | None = None
) -> tuple[int, str]:
    """A new token's id and its secret, which is stored nowhere.

    Without a lifetime the token is valid until it is revoked. Raises Invalid. A retry
    after a commit that took effect leaves a token behind whose secret is lost.
    """
    _check(name, role, lifetime)
    secret = PREFIX + secrets.token_urlsafe(32)
    now = clock(store)
    row = {
        "name": name,
        "role": role,
        "digest": _digest(secret),
        "created": now,
        "created_by": actor,
        "expires": None if lifetime is None else now + lifetime,
    }
    token = insert_one(store, "token", list(row), list(row.values()))
    events.append(store, now, _event("created", token, actor, f"{name}: {role}"))
    return token, secret


def revoke(store: Store, token_id: int, actor: str) -> None:
    """Revoke a token. Revoking twice changes nothing. Raises NotFound."""
    row = store.execute("SELECT name, revoked FROM token WHERE id = ?", (token_id,)).get_one()
    if row is None:
        raise NotFound(f"there is no token {token_id}")
    name, revoked = row
    if revoked is None:
        now = clock(store)
        store.execute("UPDATE token SET revoked = ? WHERE id = ?", (now, token_id))
        events.append(store, now, _event("revoked", token_id, actor, name))


def find(store: Store, secret: str) -> Token | None:
    """The valid token with this secret, or None. Only reads, and takes as long for an
    unknown secret as for an expired or revoked one."""
    now = clock(store)
    row = store.execute(
        "SELECT id, name, role, expires, revoked, last_used FROM token WHERE digest = ?",
        (_digest(secret),),
    ).get_one()
    if row is None:
        return None
    token, name, role, expires, revoked, used = row
    if revoked is not None or _before(moment(expires), now):
        return None
    return Token(
        token, name, role, used is not None and not _before(moment(used), now - USED_EVERY)
    )


def check(database: Database, secret: str) -> Token | None:
    """``find`` in its own transaction, and record the use. A database that takes no
    writes locks no user out."""
    token = database.read(find, secret)
    if token is not None and not token.used_lately:
        try:
            database.transact(_touch, token.id)
        except DatabaseUnavailable:
            return token
    return token


def _touch(store: Store, token_id: int) -> None:
    store.execute("UPDATE token SET last_used = ? WHERE id = ?", (clock(store), token_id))


def _before(time: datetime | None, now: datetime) -> bool:
    return time is not None and time <= now


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _check(name: str, role: str, lifetime: timedelta | None) -> None:
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise Invalid(f"a token's name has 1 to {_LONGEST_NAME} printable characters")
    if role not in ROLES:
        raise Invalid(f"there is no role {role!r}; there are {', '.join(ROLES)}")
    if lifetime is not None and not timedelta() < lifetime <= _LONGEST_LIFE:
        raise Invalid("a token's lifetime is longer than nothing and at most 100 years")


def _event(verb: str, token_id: int, actor: str, detail: str) -> events.Event:
    return events.Event(f"token.{verb}", f"token {token_id}", actor=actor, detail=detail)
