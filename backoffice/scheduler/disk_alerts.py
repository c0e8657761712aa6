"""Disks that become nearly full, or have room again, as events of the history.

Which disks are low is in the database, so that each change is recorded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from storm.locals import Store

from backoffice import units
from backoffice.config.converters import Floor
from backoffice.data import events, low_disks
from backoffice.data.database import Database
from backoffice.data.sql import clock
from backoffice.system.disk_space import Disk, Room

_NAME = 100  # characters of a disk's name


def watch_disks(database: Database, disks: Sequence[Disk], least: Floor, host: str) -> None:
    """Record which disks of ``host`` have become low, and which have room again. A disk
    of which nothing is known now stays as it was."""
    low = database.read(low_disks.names, host)
    for disk in disks:
        if disk.room is not None and not disk.trouble and disk.room.total:
            _watch_disk(database, disk, disk.room, least, host, low)


def _watch_disk(
    database: Database, disk: Disk, room: Room, least: Floor, host: str, low: set[str]
) -> None:
    names = [name[:_NAME] for name in disk.names]
    known = low & set(names)  # under the name that came first then
    detail = f"{host}: {_shown(room, disk.folders)}; it should be {least}"
    if not known and room.free < least.of(room.total):
        database.transact(_record_low, host, names[0], detail)
    elif known and room.free >= _enough(room, least):
        database.transact(_record_room, host, sorted(known), detail)


def _enough(room: Room, least: Floor) -> float:
    """A quarter more than the least, where the disk is large enough for that: free
    space that swings around the limit must not alert all day."""
    low = least.of(room.total)
    return min(1.25 * low, (low + room.total) / 2)


def _shown(room: Room, folders: Sequence[Path]) -> str:
    free = f"{units.size(room.free)} of {units.size(room.total)} are free"
    there = ", ".join(map(str, folders))
    return f"{free} ({100 * room.free / room.total:.1f} %) on the disk of {there}"


def _record_low(store: Store, host: str, name: str, detail: str) -> None:
    """Of two schedulers on a host the second's insert fails; its transaction is run
    again and finds the row."""
    if name in low_disks.names(store, host):
        return
    now = clock(store)
    low_disks.add(store, host, name, now)
    events.append(store, now, events.Event("disk.low", f"disk {name}", detail=detail, host=host))


def _record_room(store: Store, host: str, names: Sequence[str], detail: str) -> None:
    if low_disks.remove(store, host, names):
        event = events.Event("disk.ok", f"disk {names[0]}", detail=detail, host=host)
        events.append(store, clock(store), event)
