"""What the kernel tells of a folder (inotify), so that it need not be looked through.

Only hints: a look at the folder decides what is there. Events get lost when too
many come at once, and none come from other hosts that write to a network disk;
then, and where the kernel watches no more folders, the folder is looked through
again and again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from inotify_simple import Event, INotify, flags

from backoffice.system import open_files
from backoffice.system.logs import line

_WATCHED: Final = (
    flags.CREATE
    | flags.MODIFY
    | flags.CLOSE_WRITE
    | flags.ATTRIB
    | flags.MOVED_TO
    | flags.MOVED_FROM
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_WHOLE: Final = flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE
_GONE: Final = flags.IGNORED | flags.MOVE_SELF | flags.UNMOUNT
_log = logging.getLogger("backoffice.scheduler")


class FolderEvents:
    """``written`` are the files that were written to and have not been closed since."""

    def __init__(self) -> None:
        self.written: set[Path] = set()
        self._inotify: INotify | None = None
        self._folders: dict[int, Path] = {}
        self._refused = False

    def follow(self, folders: Collection[Path]) -> bool:
        """Tell of these folders from now on, and of no others. False if that cannot be
        done for all of them."""
        new = set(folders) - set(self._folders.values())
        if self._refused or not all(map(open_files.is_local, new)):
            self.close()
            return False
        try:
            self._follow(folders)
        except OSError as error:
            self._refuse(error)
            return False
        return True

    def happened(self) -> bool:
        """Whether anything has happened since this was last asked."""
        if self._inotify is None:
            return False
        events = list(self._inotify.read(timeout=0))
        for event in events:
            self._note(event)
        return bool(events)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
        self._folders.clear()
        self.written.clear()

    def _follow(self, folders: Collection[Path]) -> None:
        if self._inotify is None:
            self._inotify = INotify()
        for folder in set(folders) - set(self._folders.values()):
            self._folders[self._inotify.add_watch(folder, _WATCHED)] = folder
        for number, folder in list(self._folders.items()):
            if folder not in folders:
                self._inotify.rm_watch(number)
                del self._folders[number]

    def _refuse(self, error: OSError) -> None:
        """The kernel has a limit to how many folders it watches."""
        self.close()
        self._refused = True
        reason = os.strerror(error.errno or 0)
        _log.warning(line("watch.polled", reason=reason, sysctl="fs.inotify"))

    def _note(self, event: Event) -> None:
        if event.mask & flags.Q_OVERFLOW:
            self.written.clear()
            return
        folder = self._folders.get(event.wd)
        if folder is None:
            return
        if event.mask & _GONE:
            del self._folders[event.wd]
        elif event.mask & flags.MODIFY:
            self.written.add(folder / event.name)
        elif event.mask & _WHOLE:
            self.written.discard(folder / event.name)
