"""Names that settings use and other packages know; standard library only."""

from __future__ import annotations

from typing import Final

SCHEDULER, WORKER, WEB = PARTS = ("scheduler", "worker", "web")  # of [service] parts
# Roles: each may do what those before it may do.
VIEWER, OPERATOR, ADMIN = ROLES = ("viewer", "operator", "admin")
EVERYBODY: Final = "*"  # in a list of users: each that is logged in
TOKEN_ACTOR: Final = "token:"  # begins the name by which a token acts; no user's begins so
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
ALERT_KINDS = ("job.failed", "task.stalled", "worker.lost", "disk.low", "publish.refused")
LEAVE: Final = "leave"  # of [watch NAME] after
REPLICATED: Final = "mysql-replicated"  # scheme of a database with replicas
DEFAULTS: Final = "defaults"  # the source of settings that came from no file

# What programs call a file that they have not finished, and what systems leave in folders.
EXCLUDED = (
    ".* ~* *~ *.part *.filepart *.crdownload *.tmp *.temp *.partial *.download *.opdownload"
    " *.!ut *.!qb *.aria2 *.ytdl *.aspera-ckpt *.lock Thumbs.db ehthumbs.db desktop.ini @eaDir"
    " #recycle @Recycle $RECYCLE.BIN 'System Volume Information' lost+found"
)
