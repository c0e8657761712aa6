"""Files and publications over HTTP: show, fetch, register, retract."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import quote

from backoffice.data import model
from backoffice.data.model import File as FileRow
from backoffice.documents import reading
from backoffice.engine import file_registry, submission
from backoffice.errors import NotFound
from backoffice.media import media_types
from backoffice.reports import records
from backoffice.reports.records import Record
from backoffice.system import files
from backoffice.web import content, responses
from backoffice.web.handlers import Handlers


class Files(Handlers):
    def index(self) -> list[Record]:
        query = self.context.query
        return self.newest(records.files, job=query.get("job"), text=query.get("q", ""))

    def show(self, id: int) -> Record:
        return records.file(self.store, id)

    def register(self) -> Record:
        """Make a file known; one that is known already stays the one it is."""
        context = self.context
        asked = context.document(reading.parse_registration)
        path = files.resolve(asked["href"], context.site.settings.paths.roots)
        size = path.stat().st_size
        file, new = file_registry.register(self.store, path, size, context.user, asked["metadata"])
        self.created(f"/files/{file}", new)
        return records.file(self.store, file)

    def content(self, id: int) -> bytes | Iterable[bytes]:
        """The bytes of a file. A package is a folder: its own address ends in the
        name of its playlist, so that what is written there leads to its segments."""
        file = self._row(id)
        if file.tree:
            name = PurePosixPath(file.href).name
            return responses.redirect(self.context.url(f"/files/{id}/content/{name}"), 302)
        return self._send(file.href, file.media_type)

    def member(self, id: int, path: str) -> Iterable[bytes]:
        """A part of a package."""
        file = self._row(id)
        parts = path.split("/")
        if not file.tree or not all(parts) or {".", ".."} & set(parts):
            raise NotFound(f"file {id} has no part {path[:200]!r}")
        href = f"{file.href.rsplit('/', 1)[0]}/{quote('/'.join(parts))}"
        return self._send(href, media_types.of_name(parts[-1]))

    def thumbnail(self, id: int) -> Iterable[bytes]:
        """A still of a video: the newest that a job made of it, or of the job it came from."""
        file = self._row(id)
        still = file if file.media_type == "image/jpeg" else records.still_of(self.store, file)
        if still is None:
            raise NotFound(f"there is no still of file {id}; a job with thumbnails makes some")
        return self._send(still.href, still.media_type)

    def _row(self, id: int) -> FileRow:
        row: FileRow = model.get(self.store, FileRow, id, "file")
        return row

    def _send(self, href: str, media_type: str) -> Iterable[bytes]:
        return content.send(href, content.folders(self.context.site.settings), media_type)


class Publications(Handlers):
    def index(self) -> list[Record]:
        query = self.context.query
        return self.newest(records.publications, job=query.get("job"), state=query.get("state"))

    def show(self, id: int) -> Record:
        return records.publication(self.store, id)

    def retract(self, id: int) -> Record:
        """Submit the job that takes it back: workers may be the only ones to reach a
        target. The answer is that job."""
        context = self.context
        request = submission.retraction(records.publication(self.store, id))
        prepared = context.site.catalogue.prepare(request, context.site.settings)
        made = submission.add(self.store, prepared, context.user, context.request_id)
        self.created(f"/jobs/{made.job}")
        return records.submitted(self.store, made)
