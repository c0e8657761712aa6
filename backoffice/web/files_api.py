"""Files and publications over HTTP: look at them, fetch them, take them back."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

from webob import Response

from backoffice.data import model
from backoffice.data.model import File
from backoffice.engine import file_registry, submission
from backoffice.errors import NotFound
from backoffice.media import media_types
from backoffice.reports import records
from backoffice.system import files
from backoffice.web import content, documents
from backoffice.web.call import Call
from middleware.problem import Problem


def list_files(call: Call) -> Response:
    filters = {"job": call.query.get("job"), "text": call.query.get("q", "")}
    return call.page("files", records.files, **filters)


def show_file(call: Call, id: int) -> Response:
    return call.show("file", records.file(call.store, id))


def register(call: Call) -> Response:
    """Make a file known; one that is known already stays the one it is."""
    asked = call.document(documents.parse_registration)
    path = files.resolve(asked["href"], call.site.settings.paths.roots)
    size = path.stat().st_size
    file, new = file_registry.register(call.store, path, size, call.user, asked["metadata"])
    headers = [("Location", call.url(f"/files/{file}"))]
    status = 201 if new else 200
    return call.show("file", records.file(call.store, file), status=status, headers=headers)


def fetch(call: Call, id: int) -> Response:
    """The bytes of a file. A package is a folder: its own address ends in the
    name of its playlist, so that what is written there leads to its segments."""
    file = model.get(call.store, File, id, "file")
    if file.tree:
        name = PurePosixPath(file.href).name
        where = call.url(f"/files/{id}/content/{name}")
        return Response(status=302, location=where, content_type=None)
    return _send(call, file.href, file.media_type)


def fetch_member(call: Call, id: int, path: str) -> Response:
    file = model.get(call.store, File, id, "file")
    parts = _utf8(path).split("/")
    if not file.tree or not all(parts) or {".", ".."} & set(parts):
        raise NotFound(f"file {id} has no part {path[:200]!r}")
    href = f"{file.href.rsplit('/', 1)[0]}/{quote('/'.join(parts))}"
    return _send(call, href, media_types.of_name(parts[-1]))


def _send(call: Call, href: str, media_type: str) -> Response:
    folders = content.folders(call.site.settings)
    return content.respond(href, folders, media_type)


def _utf8(path: str) -> str:
    try:
        return path.encode("latin-1").decode()
    except UnicodeDecodeError:
        raise Problem(404, "the address is not UTF-8") from None


def fetch_thumbnail(call: Call, id: int) -> Response:
    """A still of a video: the newest that a job made of it, or of the job it came from."""
    file = model.get(call.store, File, id, "file")
    still = file if file.media_type == "image/jpeg" else records.still_of(call.store, file)
    if still is None:
        raise NotFound(f"there is no still of file {id}; a job with thumbnails makes some")
    return _send(call, still.href, still.media_type)


def list_publications(call: Call) -> Response:
    filters = {"job": call.query.get("job"), "state": call.query.get("state")}
    return call.page("publications", records.publications, **filters)


def show_publication(call: Call, id: int) -> Response:
    return call.show("publication", records.publication(call.store, id))


def retract(call: Call, id: int) -> Response:
    """Submit the job that takes it back: workers may be the only ones to reach a
    target. The answer is that job."""
    publication = records.publication(call.store, id)
    request = submission.retraction(publication)
    prepared = call.site.catalogue.prepare(request, call.site.settings)
    job, _ = submission.submit(call.store, prepared, call.user, call.request_id)
    headers = [("Location", call.url(f"/jobs/{job}"))]
    return call.show("job", records.job(call.store, job), status=201, headers=headers)
