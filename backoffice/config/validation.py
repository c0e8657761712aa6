"""Settings that must fit each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from backoffice.config.ini_file import Raw
from backoffice.config.settings import Alert, NotifySettings, Settings, is_loopback
from backoffice.errors import ConfigError

_SOCKET_PATH = 107  # bytes that Linux has room for
_ALERT_NAME = 64  # characters that the database has room for


def require_fit(settings: Settings, raw: Raw) -> None:
    """Raises ConfigError for a value that another one rules out."""

    def wrong(title: str, key: str, message: str) -> ConfigError:
        given = raw.get(title, {}).get(key)
        source = given.source if given else settings.source
        return ConfigError(message, source=source, section=title, key=key)

    worker = settings.worker
    if worker.heartbeat * 3 > worker.lease:
        message = f"is more than a third of lease ({worker.lease:g}s); two may get lost"
        raise wrong("worker", "heartbeat", message)
    if isinstance(listen := settings.web.listen, Path):
        if len(os.fsencode(listen)) > _SOCKET_PATH:
            message = f"is a path of more than {_SOCKET_PATH} bytes, too long for a socket"
            raise wrong("web", "listen", message)
    elif not (settings.auth.required or is_loopback(listen[0])):
        message = (
            "can be reached from other hosts without a login: set [auth] required = yes,"
            " or listen on 127.0.0.1:PORT or unix:PATH"
        )
        raise wrong("web", "listen", message)
    elif not (settings.web.named or is_loopback(listen[0])):
        message = (
            "can be reached from other hosts, and no name is given by which it is to be asked"
            " for: set [web] url or hosts"
        )
        raise wrong("web", "listen", message)
    for target in settings.targets.values():
        if target.type == "folder" and target.path is None:
            raise wrong(f"target {target.name}", "path", "must be given for a folder")
    for watch in settings.watches.values():
        if not _is_beneath(watch.folder, settings.paths.roots):
            message = "lies outside [paths] roots, so nothing in it could be read; add it there"
            raise wrong(f"watch {watch.name}", "folder", message)
    for alert in settings.alerts.values():
        for key, message in _alert_faults(alert, settings.notify):
            raise wrong(f"alert {alert.name}", key, message)


def _is_beneath(folder: Path, roots: Iterable[Path]) -> bool:
    """By the names alone if they decide it: a disk that hangs must not stop the start.
    Links are followed before a file is opened."""
    for name in (os.path.normpath, os.path.realpath):
        path = Path(name(folder))
        if any(path.is_relative_to(name(root)) for root in roots):
            return True
    return False


def _alert_faults(alert: Alert, notify: NotifySettings) -> Iterator[tuple[str, str]]:
    """The key and the fault of each, of keys that are right each by itself."""
    if len(alert.name) > _ALERT_NAME:
        yield "", f"has a name of more than {_ALERT_NAME} characters"
    if alert.type != "email":
        if not alert.url:
            yield "url", f"must be given for {alert.type}"
        if alert.type == "webhook" and not (alert.secret or notify.secret):
            yield "secret", "must be given for webhook, here or in [notify]: each is signed"
        return
    for key, value in (("to", alert.to), ("from", alert.sender)):
        if not value:
            yield key, "must be given for email"
    if alert.password and alert.tls == "none" and not is_loopback(alert.smtp[0]):
        yield "tls", "would send the password in clear; set starttls or tls"
