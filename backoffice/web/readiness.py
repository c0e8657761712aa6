"""Readiness: whether this process can serve requests now, for /health/ready.

It is for load balancers, so it asks what another host might do better: the
database, its schema, and the folders of this host. What stops work, but no
request, is no reason: no worker, no scheduler. That is on the pages and in
/metrics, which must be reached to be seen.
"""

from __future__ import annotations

from backoffice.config.settings import Settings
from backoffice.data import migrations
from backoffice.data.database import Database
from backoffice.errors import BackofficeError
from backoffice.system import disk_space
from backoffice.system.disk_space import Disk


def reasons(database: Database, settings: Settings) -> list[str]:
    """Why requests cannot be served, a sentence each; none if they can."""
    try:
        migrations.require_current(database)
    except BackofficeError as error:
        return [str(error)]
    finally:
        database.close()
    found = (_trouble(disk, settings) for disk in disk_space.of(settings).each())
    return [reason for reason in found if reason]


def _trouble(disk: Disk, settings: Settings) -> str:
    """What keeps the folder from its use on this host, if anything does. Targets
    are of no use where no worker is. A root elsewhere may be a disk that is not
    mounted; one in our home was not needed yet."""
    use, folder = disk.names[0].split()[0], disk.folders[0]
    if use == "target" and "worker" not in settings.service.parts:
        return ""
    if disk.away:
        return f"{folder} {disk.trouble}"
    if disk.room is None:
        return ""  # it is being looked at for the first time
    if use == "root":
        missing = not disk.room.there and not folder.is_relative_to(settings.paths.home)
        return f"{folder} is not there: mount it or make it" if missing else ""
    return "" if disk.room.writable else f"{folder} cannot be written"
