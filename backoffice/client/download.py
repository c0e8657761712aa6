"""Downloads: the bytes of a file, whole or not at all, resumed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from backoffice.client.answers import File
from backoffice.client.connection import Connection
from backoffice.errors import Conflict, Invalid

_NO_MORE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def download(connection: Connection, known: File, goal: Path, member: str) -> None:
    """As ``Client.download`` says."""
    digest = "" if member else known.sha256
    address = f"/files/{known.id}/content" + (f"/{quote(member)}" if member else "")
    with _Part(goal) as part:
        if not digest:
            part.empty()  # nothing would show that it is the beginning of another
        begun = part.size() > 0
        _bring(connection, address, part)
        if begun and part.sha256() != digest:
            part.empty()
            _bring(connection, address, part)
        if not member:
            _compare(part, known)
        part.finish()


def _bring(connection: Connection, address: str, part: _Part) -> None:
    tags: list[str] = []
    connection.patiently(lambda: _bring_rest(connection, address, part, tags))


def _bring_rest(connection: Connection, address: str, part: _Part, tags: list[str]) -> None:
    """All that is missing, of the version with the newest of ``tags`` if there is one."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if have := part.size():
        headers |= {"Range": f"bytes={have}-", **({"If-Range": tags[-1]} if tags else {})}
    with connection.stream(address, headers, also=(_NO_MORE, HTTPStatus.FOUND)) as answer:
        if answer.status_code == _NO_MORE:
            return  # what there is may be all, or too much: its digest will tell
        if answer.status_code == HTTPStatus.FOUND:
            entry = answer.headers.get("Location", "").rpartition("/")[2]
            raise Conflict(f"{address} is a package; say which member of it, such as {entry!r}")
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
            part.empty()
        if "ETag" in answer.headers:
            tags.append(answer.headers["ETag"])
        for block in answer.iter_raw():  # of a given size the last would be lost in a break
            part.append(block)


def _compare(part: _Part, known: File) -> None:
    """Raises Conflict, and forgets what came, unless it is the file."""
    came = part.size()
    if known.size is not None and came != known.size:
        wrong = f"it has {came} bytes, not {known.size}"
    elif known.sha256 and part.sha256() != known.sha256:
        wrong = "its digest is another"
    else:
        return
    part.empty()
    raise Conflict(f"what came is not file {known.id} as it is known: {wrong}")


class _Part:
    """A file that is not yet whole, beside the one it will be. One at a time
    writes it; what is empty is not left behind."""

    def __init__(self, goal: Path) -> None:
        self.goal = goal
        self.path = goal.with_name(f".{goal.name}.part")
        try:
            self.stream = open(self.path, "a+b")  # noqa: SIM115 - closed on exit
        except OSError as error:
            raise Invalid(f"{self.path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.stream.close()
            raise Conflict(f"{self.path} is being written by another download") from error

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, failed: type[BaseException] | None, *error: object) -> None:
        if failed is not None and self.size() == 0:
            self.path.unlink(missing_ok=True)
        self.stream.close()

    def size(self) -> int:
        return self.stream.seek(0, os.SEEK_END)

    def empty(self) -> None:
        self.stream.truncate(0)

    def append(self, block: bytes) -> None:
        self.stream.write(block)

    def sha256(self) -> str:
        self.stream.seek(0)
        return hashlib.file_digest(self.stream, "sha256").hexdigest()

    def finish(self) -> None:
        self.stream.flush()
        os.fsync(self.stream.fileno())
        os.replace(self.path, self.goal)
