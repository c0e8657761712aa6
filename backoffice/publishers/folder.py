"""Publisher for a folder, local or mounted.

Stages in a folder of the target's root (see ``staging``), verifies what was written,
and only then renames, so that no reader ever sees an incomplete file. A staging
folder is locked while its attempt lives. One that is not locked belongs to a dead
attempt; the next attempt or the scheduler removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backoffice.config.settings import Target
from backoffice.errors import Invalid, TaskFailed, reason_of
from backoffice.publishers import Fence, Item, PublishedItem, Tick, check_name, staging, url
from backoffice.states import Reason
from backoffice.system import files
from backoffice.system.renames import exchange, rename_new


def open(target: Target) -> FolderPublisher:
    """The publisher for a target of this type; it must have a path."""
    if target.path is None:
        raise TaskFailed(
            f"target {target.name} has no path; set one in [target {target.name}]",
            retry=False,
            reason=Reason.BAD_PARAMETER,
        )
    return FolderPublisher(target.name, target.path, target.url)


class FolderPublisher:
    """See :class:`backoffice.publishers.Publisher`."""

    def __init__(self, target: str, root: Path, base: str) -> None:
        self.target = target
        self.root = root
        self.base = base

    def href(self, name: str) -> str:
        return url(self.base, name) if self.base else files.href(self.root / name)

    def publish(
        self, items: Sequence[Item], *, token: str, overwrite: bool, fence: Fence, tick: Tick
    ) -> list[PublishedItem]:
        self._check(items)
        with self._explained(), self._staging(token) as folder:
            copier = _Copier(sum(_size(item.path, item.tree) for item in items), tick)
            ready = [self._stage(n, item, folder, copier) for n, item in enumerate(items)]
            for staged in ready:
                self._inspect(staged, overwrite)
            fence()
            self._place_all(ready, overwrite, fence)
            return [PublishedItem(o.name, o.sha256, o.size, o.adopted) for o in ready]

    def retract(self, name: str, *, sha256: str, tree: bool, token: str, fence: Fence) -> bool:
        check_name(name)
        with self._explained(), self._staging(token) as folder:
            final = self._final(name)
            if not os.path.lexists(final):
                return False
            if _digest(final, tree) != sha256:
                raise TaskFailed(
                    f"{final} is no longer what was published; remove it by hand if it is to go",
                    retry=False,
                    reason=Reason.TARGET_CONFLICT,
                )
            fence()
            os.rename(final, folder / "retracted")
            _sync_folder(final.parent)
            self._remove_empty(final.parent)
            return True

    def staged(self) -> list[str]:
        with self._explained():
            if not self.root.is_dir():
                return []
            names = (entry.name for entry in os.scandir(self.root))
            return [staging.token_of(name) for name in names if staging.is_staging(name)]

    def clear(self, token: str) -> bool:
        with self._explained():
            return _remove_dead(self.root / staging.name(token))

    # Checks

    def _check(self, items: Sequence[Item]) -> None:
        seen: set[str] = set()
        for item in items:
            check_name(item.name)
            if item.name in seen:
                raise TaskFailed(
                    f"two files would both become {item.name!r}",
                    retry=False,
                    reason=Reason.BAD_PARAMETER,
                )
            seen.add(item.name)

    def _final(self, name: str) -> Path:
        """Where ``name`` is; a link in the target must not lead out of it."""
        final = self.root / name
        real = Path(os.path.realpath(final.parent))
        if not real.is_relative_to(os.path.realpath(self.root)):
            raise TaskFailed(
                f"{final.parent} leads out of target {self.target}",
                retry=False,
                reason=Reason.TARGET_FAILED,
            )
        return final

    def _inspect(self, staged: _Staged, overwrite: bool) -> None:
        """Decide by what is at the final place now: adopt, replace or refuse. Raises
        TaskFailed."""
        staged.adopted = staged.replaces = False
        if not os.path.lexists(staged.final):
            return
        if _digest(staged.final, staged.tree) == staged.sha256:
            staged.adopted = True
        elif _is_empty_folder(staged.final):
            os.rmdir(staged.final)  # it has no content, but would block the rename
        elif overwrite:
            staged.replaces = True
        else:
            raise TaskFailed(
                f"{staged.final} is already there with other content; retract or remove it, publish"
                " to another folder, or allow overwriting",
                retry=False,
                reason=Reason.TARGET_CONFLICT,
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the operating system into sentences for operators."""
        try:
            yield
        except OSError as error:
            raise TaskFailed(self._sentence(error), reason=reason_of(error)) from error
        except Invalid as error:
            raise TaskFailed(str(error), retry=False, reason=Reason.MISSING_SOURCE) from error

    def _sentence(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"the disk of target {self.target} is full: {self.root}; free space there and"
                " retry the job"
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return (
                f"target {self.target} cannot be written: {error.filename or self.root}:"
                f" {error.strerror}; let the service's user write there"
            )
        return f"target {self.target}: {error.filename or self.root}: {error.strerror}"

    # Staging

    @contextlib.contextmanager
    def _staging(self, token: str) -> Iterator[Path]:
        """A private, locked folder in the target's root, removed afterwards."""
        if not self.root.is_dir():
            raise TaskFailed(
                f"the folder of target {self.target} is missing: {self.root}; create or mount it",
                reason=Reason.TARGET_FAILED,
            )
        self._sweep(token)
        folder = self.root / staging.name(token)
        lock = _make_locked(folder)
        try:
            yield folder
        finally:
            # An error here must not hide the first one; the next attempt cleans up.
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _sweep(self, token: str) -> None:
        """Remove the staging folders of this task's earlier attempts, and of dead attempts."""
        own = staging.task_prefix(token)
        for folder in self.root.glob(f"{staging.PREFIX}*"):
            if folder.name.startswith(own):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                _remove_dead(folder)

    def _stage(self, number: int, item: Item, folder: Path, copier: _Copier) -> _Staged:
        """A verified copy, synced to the disk, in the staging folder."""
        final = self._final(item.name)
        copy = folder / str(number)
        read = copier.tree(item.path, copy) if item.tree else copier.file(item.path, copy)
        if item.sha256 and read != item.sha256:
            raise TaskFailed(
                f"{item.path} has changed since it was checked; its checksum is {read}, not"
                f" {item.sha256}; submit the job anew",
                reason=Reason.CHANGED_SOURCE,
            )
        if copier.verify(copy, item.tree) != read:
            raise TaskFailed(
                f"what was written to target {self.target} reads back otherwise",
                reason=Reason.TARGET_FAILED,
            )
        files.sync(copy)
        return _Staged(item.name, copy, final, read, _size(copy, item.tree), item.tree)

    # Placing

    def _place_all(self, ready: Sequence[_Staged], overwrite: bool, fence: Fence) -> None:
        with contextlib.ExitStack() as undo:
            # Without the lease, another attempt may have adopted the placed files.
            placed: list[Callable[[], None]] = []
            undo.callback(lambda: _undo(placed, fence))
            for staged in ready:
                if not staged.adopted:
                    self._place(staged, overwrite, placed)
            undo.pop_all()

    def _place(self, staged: _Staged, overwrite: bool, placed: list[Callable[[], None]]) -> None:
        self._make_folders(staged.final.parent, placed)
        if not staged.replaces:
            try:
                rename_new(staged.copy, staged.final)
            except FileExistsError:
                self._inspect(staged, overwrite)  # it has just appeared: adopt, replace or refuse
            else:
                placed.append(lambda: rename_new(staged.final, staged.copy))
        if staged.replaces:
            exchange(staged.copy, staged.final)
            placed.append(lambda: exchange(staged.copy, staged.final))
        _sync_folder(staged.final.parent)

    def _make_folders(self, folder: Path, placed: list[Callable[[], None]]) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for parent in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent)
                os.chmod(parent, 0o755)
                placed.append(lambda parent=parent: os.rmdir(parent))  # type: ignore[misc]
            _sync_folder(parent.parent)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root and folder.is_relative_to(self.root):
            try:
                os.rmdir(folder)
            except OSError:
                return  # it has other files
            folder = folder.parent


@dataclass
class _Staged:
    """A verified copy, and what is to be done with it."""

    name: str
    copy: Path
    final: Path
    sha256: str
    size: int
    tree: bool
    adopted: bool = False
    replaces: bool = False


class _Copier:
    """Copies and verifies, and reports its progress."""

    def __init__(self, size: int, tick: Tick) -> None:
        self.total = 2 * size or 1  # each byte is copied, then read again
        self.done = 0
        self.tick = tick

    def file(self, source: Path, copy: Path) -> str:
        """Copy one file; the SHA-256 of what was read."""
        digest = hashlib.sha256()
        with source.open("rb") as reader, copy.open("xb") as writer:
            while block := reader.read(files.CHUNK):
                digest.update(block)
                writer.write(block)
                self._advance(len(block))
            os.fchmod(writer.fileno(), 0o644)
        return digest.hexdigest()

    def tree(self, source: Path, copy: Path) -> str:
        """Copy a folder; its checksum as :func:`files.tree_sha256` has it."""
        lines = {}
        _make_folder(copy)
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                _make_folder(copy / name)
            elif stat.S_ISREG(mode):
                lines[name.as_posix()] = self.file(path, copy / name)
            else:
                raise Invalid(f"{path}: is a link or device inside a package; remove it")
        text = "".join(f"{lines[name]}  {name}\n" for name in sorted(lines))
        return hashlib.sha256(text.encode()).hexdigest()

    def verify(self, copy: Path, tree: bool) -> str:
        """The SHA-256 of what is on the disk, read back."""
        size, before = _size(copy, tree), self.done
        digest = files.tree_sha256 if tree else files.sha256
        found = digest(copy, lambda part: self._report(before + part * size))
        self.done = before + size
        return found

    def _advance(self, count: int) -> None:
        self.done += count
        self._report(self.done)

    def _report(self, done: float) -> None:
        self.tick(min(1.0, done / self.total))


def _undo(placed: Sequence[Callable[[], None]], fence: Fence) -> None:
    """Undo the steps, last first."""
    fence()
    for step in reversed(placed):
        with contextlib.suppress(OSError):
            step()


def _size(path: Path, tree: bool) -> int:
    # size_of wants a file in the folder that is the tree.
    return files.size_of(path / "any" if tree else path, tree)


def _digest(path: Path, tree: bool) -> str:
    """The checksum of a file or, with ``tree``, a folder; empty for another kind."""
    mode = path.lstat().st_mode
    if tree:
        return files.tree_sha256(path) if stat.S_ISDIR(mode) else ""
    return files.sha256(path) if stat.S_ISREG(mode) else ""


def _is_empty_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode) and not any(path.iterdir())


def _make_folder(path: Path) -> None:
    os.mkdir(path)
    os.chmod(path, 0o755)  # whatever the umask: other users read it


def _make_locked(folder: Path) -> int:
    """Make a folder and lock it; the descriptor that holds the lock."""
    while True:
        os.mkdir(folder, 0o700)
        descriptor = _lock(folder, fcntl.LOCK_EX)
        if descriptor is not None:
            return descriptor  # else it was removed before it was locked: once more


def _remove_dead(folder: Path) -> bool:
    """Remove a staging folder that no living attempt holds; whether it is gone."""
    descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if descriptor is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)
    return not folder.exists()


def _lock(folder: Path, how: int) -> int | None:
    """A descriptor that holds the lock; None if another process holds it, or the folder is
    gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(descriptor, how)
        if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
            return descriptor
    os.close(descriptor)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
