"""``backoffice check``: test that everything works that the settings need.

Changes nothing. Each finding is a line; one that fails says what to do.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path

from lxml import etree

from backoffice import publishers
from backoffice.config import resources
from backoffice.config.settings import (
    AuthSettings,
    LogSettings,
    NotifySettings,
    Settings,
    WebSettings,
)
from backoffice.data import cluster, migrations
from backoffice.data.cluster import Status
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.engine import catalogue
from backoffice.engine.catalogue import Catalogue
from backoffice.errors import BackofficeError
from backoffice.media import ffmpeg, rendering
from backoffice.system import confinement, logs
from backoffice.units import size

LAG_WITHIN = 3.0  # seconds to find out how late the replicas are
LEAST_FREE = 1_000_000_000  # bytes


@dataclass(frozen=True)
class Finding:
    ok: bool
    what: str
    text: str


def run(settings: Settings) -> list[Finding]:
    """All findings."""
    lines = [Finding(True, "config", settings.source)]
    lines += _database(settings)
    lines += _recipes(settings)
    lines += _tools(settings)
    paths = settings.paths
    for name, folder in (("work", paths.work), ("logs", paths.logs), ("run", paths.run)):
        lines.append(_writable(f"[paths] {name}", folder))
    lines += _log(settings.log)
    if not paths.roots:
        lines.append(Finding(False, "[paths] roots", "no folder may be read: name one"))
    lines += [_readable("[paths] roots", root) for root in paths.roots]
    for watch in settings.watches.values():
        lines.append(_readable(f"watch {watch.name}", watch.folder))
        if watch.done is not None:
            lines.append(_writable(f"watch {watch.name} after", watch.done))
    lines += _targets(settings)
    lines.append(_notify(settings.notify))
    lines += [_schemas(), _templates()]
    if "web" in settings.service.parts:
        lines += _web(settings)
    return lines


def _asked(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(True, what, ask())
    except BackofficeError as error:
        return Finding(False, what, str(error))


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(settings.database)
    except BackofficeError as error:
        yield Finding(False, "database", str(error))
        return
    yield from map(_node, _nodes(database))
    if database.replicated and not settings.auth.secret:
        text = "is not set: each web server would forget what users wrote through another"
        yield Finding(False, "[auth] secret", text)
    try:
        database.read(clock)
    except BackofficeError as error:
        yield Finding(False, "database", str(error))
        return
    yield Finding(True, "database", f"{database.dialect}, answers")

    def schema() -> str:
        migrations.require_current(database)
        return f"version {migrations.steps(database.dialect)[-1].version}"

    yield _asked("schema", schema)
    database.close()


def _nodes(database: Database) -> list[Status]:
    """The lag of a replica is known only after several readings."""
    until = time.monotonic() + LAG_WITHIN
    while True:
        found = database.nodes()
        unknown = [node for node in found if node.state == cluster.LATE and not _is_known(node.lag)]
        if not (unknown and database.takes_writes) or time.monotonic() > until:
            return found
        time.sleep(0.05)


def _node(node: Status) -> Finding:
    what = f"database {node.name}"
    if node.state == cluster.DOWN:
        return Finding(False, what, f"{node.role}, down: {node.error}")
    if node.role == cluster.PRIMARY:
        return Finding(True, what, "primary, up")
    if node.state == cluster.UP:
        return Finding(True, what, f"replica, up{_late(node.lag)}")
    late = f"{node.lag:.0f} s" if _is_known(node.lag) else "an unknown time"
    return Finding(False, what, f"replica, {late} late: not read from until it has caught up")


def _late(lag: float | None) -> str:
    return f", {lag:.1f} s late" if _is_known(lag) else ""


def _is_known(lag: float | None) -> bool:
    return lag is not None and math.isfinite(lag)


def _recipes(settings: Settings) -> Iterator[Finding]:
    try:
        known = catalogue.load(settings)
    except BackofficeError as error:
        yield Finding(False, "recipes", str(error))
        return
    yield Finding(
        True, "profiles", f"{len(known.profiles)} from {_folders(settings.paths.profiles)}"
    )
    yield Finding(
        True, "workflows", f"{len(known.workflows)} from {_folders(settings.paths.workflows)}"
    )
    yield _asked("encoders", lambda: _encoders(settings, known))
    yield _asked("filters", lambda: _filters(settings))
    for kind, wanted in (("watch", settings.watches), ("schedule", settings.schedules)):
        for entry in wanted.values():
            if entry.workflow not in known.workflows:
                text = f"there is no workflow {entry.workflow!r}: correct its setting"
                yield Finding(False, f"{kind} {entry.name}", text)


def _folders(folders: tuple[Path, ...]) -> str:
    return ", ".join(map(str, folders))


def _encoders(settings: Settings, known: Catalogue) -> str:
    there = ffmpeg.encoders(settings.tools.ffmpeg, confinement.of_tools(settings))
    users: dict[str, list[str]] = {}
    for profile in known.profiles.values():
        for encoder in profile.encoders:
            users.setdefault(encoder, []).append(profile.name)
    missing = [
        f"{encoder} (for {', '.join(names)})"
        for encoder, names in sorted(users.items())
        if encoder not in there
    ]
    if missing:
        raise BackofficeError(
            f"ffmpeg lacks {'; '.join(missing)}: install a fuller one, see [tools] ffmpeg"
        )
    return ", ".join(sorted(users))


def _filters(settings: Settings) -> str:
    there = ffmpeg.filters(settings.tools.ffmpeg, confinement.of_tools(settings))
    missing = rendering.FILTERS - there
    if missing:
        raise BackofficeError(
            f"ffmpeg lacks {', '.join(sorted(missing))}: install a fuller one, see [tools] ffmpeg"
        )
    return ", ".join(sorted(rendering.FILTERS))


def _tools(settings: Settings) -> Iterator[Finding]:
    for name in ("ffmpeg", "ffprobe"):
        yield _asked(name, partial(_version, getattr(settings.tools, name), settings))
    yield _confinement(settings)


def _version(tool: str, settings: Settings) -> str:
    return f"{tool}, version {ffmpeg.version(tool, confinement.of_tools(settings))}"


def _confinement(settings: Settings) -> Finding:
    what, mode = "confinement", settings.limits.confine
    if mode == confinement.NONE:
        text = "none, by [limits] confine: ffmpeg may do all that the service may"
        return Finding(True, what, text)
    found = confinement.missing()
    text = f"missing: {'; '.join(found)}" if found else "files, network, system calls, resources"
    return Finding(
        not (mode == confinement.REQUIRE and confinement.lacks()), what, f"{mode}; {text}"
    )


def _writable(what: str, folder: Path) -> Finding:
    """The folder may be missing: it is made when it is needed."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        return Finding(False, what, f"{there} is no folder: move it away")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        text = f"{there} cannot be written: change its owner, or mount it writable"
        return Finding(False, what, text)
    return _space(what, folder, there)


def _log(log: LogSettings) -> Iterator[Finding]:
    if log.to == "files":
        yield _writable("[log] folder", log.folder)
    elif log.to == "syslog" and not Path(logs.SYSLOG).is_socket():
        text = f"there is no {logs.SYSLOG}: start a syslog daemon, or log elsewhere"
        yield Finding(False, "[log] to", text)
    if log.sentry and find_spec("sentry_sdk") is None:
        yield Finding(
            False, "[log] sentry", "sentry-sdk is missing: pip install 'backoffice[sentry]'"
        )


def _space(what: str, folder: Path, there: Path) -> Finding:
    free = shutil.disk_usage(there).free
    text = f"{folder}, writable, {size(free)} free"
    return (
        Finding(True, what, text)
        if free >= LEAST_FREE
        else Finding(False, what, f"{text}: make room")
    )


def _readable(what: str, folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding(False, what, f"{folder} is not there: make it, or change the setting")
    if not os.access(folder, os.R_OK | os.X_OK):
        return Finding(False, what, f"{folder} cannot be read: change its permissions")
    return Finding(True, what, f"{folder}, readable")


def _targets(settings: Settings) -> Iterator[Finding]:
    for target in settings.targets.values():
        what = f"target {target.name}"
        try:
            publishers.open(target)
        except BackofficeError as error:
            yield Finding(False, what, str(error))
            continue
        if target.path is None:
            yield Finding(True, what, target.type)
        elif not target.path.exists() and target.path.is_relative_to(settings.paths.home):
            yield Finding(True, what, f"{target.path}, will be made")
        elif not target.path.is_dir():
            yield Finding(False, what, f"{target.path} is not there: make it, or mount it")
        else:
            yield _writable(what, target.path)


def _notify(notify: NotifySettings) -> Finding:
    if not notify.secret:
        text = "off: jobs that notify are refused until [notify] secret is set"
        return Finding(True, "notify", text)
    keys = "1 key" if len(notify.secret) == 1 else f"{len(notify.secret)} keys"
    return Finding(True, "notify", f"signs with {keys}, sends to {notify.hosts}")


def _schemas() -> Finding:
    paths = sorted(resources.share("schema").glob("*.xsd"))
    for path in paths:
        try:
            etree.XMLSchema(etree.parse(str(path)))
        except (etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
            return Finding(False, "XML schemas", f"{path}: {error}: install Backoffice again")
    return Finding(True, "XML schemas", f"{len(paths)} from {resources.share('schema')}")


def _templates() -> Finding:
    return _asked("templates", lambda: str(resources.share("templates")))


def _web(settings: Settings) -> Iterator[Finding]:
    """Where the web server listens, who may use it, and which peers are trusted to name
    the user."""
    where = settings.web.listen
    address = f"{where[0]}:{where[1]}" if isinstance(where, tuple) else f"unix:{where}"
    yield Finding(True, "web", f"{address}; {_let_in(settings.auth)}")
    yield Finding(True, "[web] hosts", f"requests may ask for {', '.join(settings.web.own_hosts)}")
    yield Finding(True, "[web] proxies", _believed(settings.web))


def _let_in(auth: AuthSettings) -> str:
    if not auth.required:
        return "no login is needed there"
    if not auth.admins | auth.operators | auth.viewers:
        return "only tokens are let in: name users in [auth]"
    return "users log in"


def _believed(web: WebSettings) -> str:
    """At a TCP port of this host, every local process can pose as the proxy."""
    at_socket = isinstance(web.listen, Path)
    networks = [] if at_socket else [proxy for proxy in web.proxies if proxy != "unix"]
    peers = [f"peers at {network}" for network in networks]
    if at_socket and "unix" in web.proxies:
        peers.append("each process that can open the socket")
    if any(map(_has_this_host, networks)):
        peers.append("which is every process of this host")
    return f"a user's name is believed from {', '.join(peers) or 'no peer'}"


def _has_this_host(network: str) -> bool:
    return any(ip_address(own) in ip_network(network) for own in ("127.0.0.1", "::1"))
