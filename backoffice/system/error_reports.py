"""Error reports: the program's logged errors, sent to Sentry if a DSN is set.

A report has the log line or the traceback, the program's version and the host's
name. It has no user data: no headers, cookies, bodies, values of variables, users or
breadcrumbs. Without network or Sentry only the end of a process is delayed, by
FLUSH_WITHIN at most.
"""

from __future__ import annotations

import logging
from typing import Any

from backoffice import __version__
from backoffice.config.redaction import masked
from backoffice.errors import ConfigError

FLUSH_WITHIN = 2.0  # seconds that sending may take when a process ends

# The fields of an event that are sent.
_KEPT = frozenset(
    "contexts environment event_id exception fingerprint level logentry logger platform release"
    " sdk server_name tags timestamp".split()
)
_TAGS = frozenset("attempt job part request task worker".split())


class Reporter(logging.Handler):
    """A log handler that sends each error to Sentry. Raises ConfigError without the
    library."""

    def __init__(self, dsn: str) -> None:
        super().__init__(logging.ERROR)
        self._dsn = dsn
        self.connect()

    def connect(self) -> None:
        """Call it again in a forked process, which has no threads and connections."""
        _sdk().init(
            dsn=self._dsn,
            release=f"backoffice@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            send_client_reports=False,
            max_breadcrumbs=0,
            before_send=_scrubbed,
        )

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("sentry_sdk"):
            return
        try:
            with _sdk().new_scope() as scope:
                _capture(scope, record)
        except Exception:
            # A failed report must not end the work that logs; the record is in the log too.
            self.handleError(record)

    def flush(self) -> None:
        """Wait until reports are sent; also called when the process ends."""
        _sdk().flush(FLUSH_WITHIN)


def _sdk() -> Any:
    """Imported on first use, because it is large."""
    try:
        import sentry_sdk
    except ImportError as error:
        message = "needs sentry-sdk, which is not installed: pip install 'backoffice[sentry]'"
        raise ConfigError(message, source="settings", section="log", key="sentry") from error
    return sentry_sdk


def _capture(scope: Any, record: logging.LogRecord) -> None:
    text = record.getMessage()
    action = text.partition(" ")[0]
    scope.set_tag("logger", record.name)
    ids = getattr(record.msg, "ids", {})
    for name in sorted(_TAGS & ids.keys()):
        scope.set_tag(name, str(ids[name]))
    if record.exc_info and record.exc_info[1] is not None:
        scope.capture_exception(record.exc_info)
    else:
        # One Sentry issue for all lines of an action, whatever ids they have.
        scope.fingerprint = [record.name, action]
        scope.capture_message(text, level="error")


def _scrubbed(event: dict[str, Any], hint: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in event.items() if key in _KEPT}
    if "message" in event:
        kept["logentry"] = {"message": masked(event["message"])}
    for error in kept.get("exception", {}).get("values", ()):
        error["value"] = masked(str(error.get("value", "")))
    return kept
