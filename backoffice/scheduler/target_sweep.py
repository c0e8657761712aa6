"""Sweep of targets: remove what dead attempts have staged there.

The next attempt of a task does so too, but the task of a cancelled job has none.
A staging area is removed only if the database says that its attempt has ended and
the publisher finds no process that still uses it.
"""

from __future__ import annotations

import logging

from backoffice import publishers
from backoffice.config.settings import Target
from backoffice.data.database import Database
from backoffice.engine import leases
from backoffice.errors import TaskFailed
from backoffice.publishers import Publisher, staging
from backoffice.system.logs import line

EVERY = 10.0  # seconds

_log = logging.getLogger("backoffice.scheduler")


class TargetSweep:
    def __init__(self, database: Database, target: Target) -> None:
        self.database = database
        self.target = target
        self._last_error = ""  # as last logged

    def run(self) -> None:
        try:
            cleared = self._clear(publishers.open(self.target))
        except TaskFailed as error:
            self._log_once(str(error))
            return
        self._last_error = ""
        for token in cleared:
            _log.info(line("target.swept", target=self.target.name, attempt=token))

    def _log_once(self, error: str) -> None:
        if error != self._last_error:
            self._last_error = error
            _log.warning(line("target.unswept", target=self.target.name, reason=error))

    def _clear(self, publisher: Publisher) -> list[str]:
        # The target is read before the database: an attempt stages after its claim.
        attempts = {token: staging.attempt_of(token) for token in publisher.staged()}
        known = {token: attempt for token, attempt in attempts.items() if attempt is not None}
        if not known:
            return []
        living = self.database.read(leases.still_running, list(known.values()))
        ended = [token for token, attempt in known.items() if attempt not in living]
        return [token for token in ended if publisher.clear(token)]
