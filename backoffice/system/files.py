"""Files: locate, open, name, hash, sync.

Owns the rule for files that a user may name: regular files beneath the configured
roots, after every symlink has been followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit

from backoffice.errors import Invalid

CHUNK = 1 << 20
_PATH_MAX = 4096  # bytes of a path that Linux takes, and one more
NAME_BYTES = 150  # of an output; a publisher adds to the name while it copies

Tick = Callable[[float], None]


def href(path: Path) -> str:
    """The absolute ``path`` as a percent-encoded file URL."""
    return path.as_uri()


def path_of(href: str) -> Path:
    """The path of a file URL that :func:`href` made."""
    return Path(os.fsdecode(unquote_to_bytes(href.removeprefix("file://"))))


def resolve(name: str, roots: Sequence[Path]) -> Path:
    """The real path of a file that a user named by file URL or absolute path.

    Raises Invalid unless it is an existing regular file beneath one of
    ``roots``, with symlinks followed in both.
    """
    path = _absolute(name)
    try:
        real = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        # The answer must not reveal what exists outside the roots.
        with suppress(OSError):  # a link that is being replaced
            _confine(name, Path(os.path.realpath(path)), roots)
        raise _unreadable(name, error) from error
    _confine(name, real, roots)
    _require_regular(name, real)
    return real


def _unreadable(name: str, error: OSError) -> Invalid:
    return Invalid(f"{name}: cannot be read ({error.strerror}); check the path")


def open_beneath(name: str, roots: Sequence[Path], *, parent: bool = False) -> tuple[int, Path]:
    """A descriptor of the file that ``resolve`` finds, or with ``parent`` of its folder,
    and its real path. A file that was replaced by a link meanwhile is refused, by what
    the kernel says of the open file. The caller closes the descriptor.

    Raises Invalid.
    """
    real = resolve(name, roots)
    wanted = real.parent if parent else real
    # O_NONBLOCK: it may have been replaced by a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(wanted, flags | (os.O_DIRECTORY if parent else 0))
    except OSError as error:
        raise _unreadable(name, error) from error
    try:
        _require_same(name, descriptor, wanted, stat.S_ISDIR if parent else stat.S_ISREG)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, real


def _require_same(name: str, descriptor: int, wanted: Path, kind: Callable[[int], bool]) -> None:
    there = os.readlink(f"/proc/self/fd/{descriptor}")
    if there != str(wanted) or not kind(os.fstat(descriptor).st_mode):
        raise Invalid(f"{name}: was exchanged for another file while it was opened; leave it alone")


def _absolute(name: str) -> str:
    if len(name) > 3 * _PATH_MAX:  # each byte may be percent-encoded
        raise Invalid(f"{name[:100]!r} … has {len(name)} characters, more than any path")
    path = _path_of_url(name) if not name.startswith("/") else name
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise Invalid(f"{name!r}: control characters are not allowed in a name; rename the file")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{name!r}: the name is not UTF-8; rename the file") from error
    if len(path.encode()) >= _PATH_MAX:
        raise Invalid(f"{name[:100]!r} … is longer than any path")
    if not path.startswith("/"):
        raise Invalid(f"{name}: give an absolute path or a URL such as file:///srv/media/a.mp4")
    return path


def _path_of_url(name: str) -> str:
    try:
        url = urlsplit(name)
    except ValueError as error:
        raise Invalid(f"{name!r}: is no URL ({error})") from error
    if not url.scheme:
        raise Invalid(f"{name!r}: is a relative path; give an absolute one")
    if url.scheme != "file":
        raise Invalid(f"{name}: only files can be read, not {url.scheme}: URLs; copy it here first")
    if url.netloc not in ("", "localhost"):
        raise Invalid(f"{name}: is on the host {url.netloc}; only files of this host can be read")
    if url.query or url.fragment or name.endswith(("?", "#")):
        raise Invalid(f"{name}: write ? as %3F and # as %23 in a file URL")
    try:
        return unquote_to_bytes(url.path).decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{name}: the name is not UTF-8; rename the file") from error


def _confine(name: str, real: Path, roots: Sequence[Path]) -> None:
    allowed = [Path(os.path.realpath(root)) for root in roots]
    if not any(real.is_relative_to(root) for root in allowed):
        raise Invalid(
            f"{name}: lies outside the folders that may be read"
            f" ({', '.join(map(str, roots)) or 'none'}); move it there, or add its folder to"
            " [paths] roots"
        )


def _require_regular(name: str, real: Path) -> None:
    try:
        mode = os.stat(real).st_mode
    except OSError as error:  # it was there a moment ago
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(mode):
        raise Invalid(f"{name}: is a folder; name a file in it")
    if not stat.S_ISREG(mode):
        raise Invalid(f"{name}: is a pipe or device, not a file; copy it into one")


def output_name(source: str, suffix: str) -> str:
    """A name for a file made from ``source``, ending in ``suffix``.

    Keeps letters of any script. Replaces what a shell, a URL, a pattern of ffmpeg or a
    command line could misread, and bounds the length.
    """
    stem = unicodedata.normalize("NFC", PurePosixPath(source).stem)
    plain = re.sub(r"[^\w.+-]+", "_", stem).strip("-._+")
    room = NAME_BYTES - len(suffix.encode())
    short = plain.encode()[:room].decode(errors="ignore").rstrip("-._+")
    return (short or "media") + suffix


def sha256(path: Path, tick: Tick | None = None) -> str:
    """The SHA-256 of a file, in hex; ``tick`` gets the fraction read so far."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        done = 0
        while block := stream.read(CHUNK):
            digest.update(block)
            done += len(block)
            if tick is not None:
                tick(min(1.0, done / size) if size else 1.0)
    return digest.hexdigest()


def tree_sha256(folder: Path, tick: Tick | None = None) -> str:
    """One SHA-256 for a folder: of its sorted lines ``<sha256>  <relative path>``."""
    paths = sorted(_walk(folder), key=lambda p: p.relative_to(folder).as_posix())
    digest = hashlib.sha256()
    for number, path in enumerate(paths, 1):
        name = path.relative_to(folder).as_posix()
        digest.update(f"{sha256(path)}  {name}\n".encode())
        if tick is not None:
            tick(number / len(paths))
    return digest.hexdigest()


def size_of(path: Path, tree: bool = False) -> int:
    """Bytes in the file, or with ``tree`` in the whole folder that holds it."""
    if tree:
        return sum(p.stat().st_size for p in _walk(path.parent))
    return path.stat().st_size


def sync(path: Path) -> None:
    """Force a file, or a whole folder, and its name onto the disk."""
    if path.is_dir():
        for member in path.rglob("*"):
            _fsync(member)
    _fsync(path)
    _fsync(path.parent)


def _walk(folder: Path) -> Iterator[Path]:
    """Every regular file beneath ``folder``. Raises Invalid for links and devices."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield path
        elif not stat.S_ISDIR(mode):
            raise Invalid(f"{path}: is a link or device inside a package; remove it")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
