"""The web application: WSGI components around the handlers, one a line.

Owns the order, and what each component is told of the settings. What the
components do is theirs.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from storm.locals import Store

from backoffice.config.names import TOKEN_ACTOR
from backoffice.config.resources import share
from backoffice.config.settings import AuthSettings, Settings
from backoffice.data import counter_store, database_errors, events, replication, tokens
from backoffice.data.database import Database
from backoffice.engine import catalogue
from backoffice.system import logs
from backoffice.web import application, readiness
from backoffice.web.addresses import ROUTES
from backoffice.web.context import Site
from backoffice.web.mounts import Mounts
from backoffice.web.pages.errors import ErrorPages
from backoffice.web.problems import DatabaseProblems
from backoffice.web.routes import Route
from middleware.access_log import AccessLog
from middleware.authentication import Authentication, Identity
from middleware.body_limit import BodyLimit
from middleware.compression import Compression
from middleware.conditional import Conditional
from middleware.csrf import CSRFProtection
from middleware.errors import ErrorHandler
from middleware.framing import StrictFraming
from middleware.health import Health
from middleware.maintenance import Maintenance
from middleware.metrics import Metrics
from middleware.rate_limit import RateLimit
from middleware.read_your_writes import POSITION, READ_AFTER, ReadYourWrites
from middleware.request_id import RequestID
from middleware.robots import Robots
from middleware.security_headers import SecurityHeaders
from middleware.static import StaticFiles
from middleware.stream_limit import StreamLimit
from middleware.time_limit import TimeLimit
from middleware.timing import Timing
from middleware.transaction import TransactionPerRequest
from middleware.trusted_proxy import TrustedProxy

_OWN_KEY = secrets.token_bytes(32)  # outlives a reload, so that open forms do
Environ = dict[str, Any]
Application = Callable[..., Iterable[bytes]]

OPEN = ("/health/", "/static/")  # for everybody, whoever it is
ANYBODY = Identity("anonymous", "admin", "anonymous")  # where nobody need log in
TOKEN = "X-Backoffice-Token"  # what must be seen in replicas
RESERVED = (TOKEN_ACTOR, events.ENGINE, ANYBODY.name)  # no user of the proxy is one of these


def make_app(
    settings: Settings,
    routes: Sequence[Route] = ROUTES,
    base: Database | None = None,
    mounted: Mapping[str, Application] | None = None,
) -> Application:
    """The whole of it. Raises DefinitionError for a broken workflow or profile.

    ``mounted`` are applications of others by the prefix of their paths. With ``base``,
    the connections of an application that this one follows are used.
    """
    web, auth = settings.web, settings.auth
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    base = base or Database(settings.database, replicas=True)
    counter_writer = counter_store.CounterWriter(base.apart(), apart=True)
    site = Site(settings, base, catalogue.load(settings), registry)

    app: Application = application.Application(routes)
    if mounted:
        app = Mounts(app, mounted)
    app = TransactionPerRequest(
        app, open=_opener(base, counter_writer), retryable=database_errors.again
    )
    if base.replicated:
        app = ReadYourWrites(app, secret=_key(auth.secret), merged=replication.merged, header=TOKEN)
    app = CSRFProtection(app, secret=_key(auth.secret))
    app = Authentication(
        app,
        tokens=_token_of(base),
        role_of=_role_of(auth),
        anonymous=None if auth.required else ANYBODY,
        exempt=OPEN,
        reserved=RESERVED,
    )
    app = Maintenance(app, mode=web.maintenance, exempt=OPEN)
    app = Conditional(app)
    app = Compression(app)
    app = BodyLimit(app, limit=settings.limits.document)
    app = TimeLimit(app, seconds=web.body_timeout)
    app = StaticFiles(app, root=share("static"), prefix="static/")
    app = Health(app, checks=partial(readiness.reasons, base.apart(replicas=True), settings))
    app = StreamLimit(app, most=max(1, web.threads // 2))
    if web.rate:
        app = RateLimit(app, rate=web.rate, burst=web.burst, exempt=OPEN)
    app = DatabaseProblems(app)
    app = ErrorHandler(app, logging.getLogger("backoffice.web"))
    app = ErrorPages(app, site)
    app = TrustedProxy(app, trusted=web.proxies, user_header=auth.user_header, hosts=web.own_hosts)
    app = StrictFraming(app)
    app = Robots(app)
    app = SecurityHeaders(app)
    app = Metrics(app, registry=registry)
    app = Timing(app)
    if web.access_log != "none":
        app = AccessLog(app, logging.getLogger(logs.ACCESS), format=web.access_log)
    return RequestID(app)


# What they are told --------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """A request's transaction, as TransactionPerRequest drives it."""

    store: Store
    close: Callable[[], None]
    book: counter_store.CounterWriter

    def commit(self) -> None:
        self.store.commit()
        self.book.turn()  # now that the database answers

    def rollback(self) -> None:
        self.store.rollback()


def _opener(base: Database, book: counter_store.CounterWriter) -> Callable[[Environ], Unit]:
    def open(environ: Environ) -> Unit:
        reading = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        store = base.request_store(reading, environ.get(READ_AFTER, ""))
        environ[POSITION] = base.position
        return Unit(store, base.release, book)

    return open


def _role_of(auth: AuthSettings) -> Callable[[str], str | None]:
    """Where nobody need log in, a name takes nothing away."""
    if auth.required:
        return auth.role_of
    return lambda user: auth.role_of(user) or ANYBODY.role


def _token_of(base: Database) -> Callable[[str], Identity | None]:
    def find(secret: str) -> Identity | None:
        token = tokens.check(base, secret)
        return Identity(token.actor, token.role, "token") if token else None

    return find


def _key(secret: str) -> bytes:
    """What forms are signed with: the same for all processes if there is a
    secret, however long it is."""
    return hashlib.sha256(secret.encode()).digest() if secret else _OWN_KEY
