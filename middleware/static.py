"""Static files, served by WhiteNoise, with content hashes in their URLs.

``application = StaticFiles(application, root="static", prefix="static/")``

Each file has two URLs: ``/static/app.css``, which browsers revalidate each time
(304), and ``/static/app.3f2a1b9c04.css``, whose hash is made of the content and
which browsers keep for ever. Pages use ``environ["middleware.static"]("app.css")``
to get the second.

Files are read at the start; restart after a change. URLs inside style sheets are
not rewritten and lead to the first URL. Hidden files are not served. ``x.css.br``
and ``x.css.gz`` are sent as ``x.css`` to clients that accept them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from whitenoise import WhiteNoise

from middleware import paste

KEY = "middleware.static"


class StaticFiles(WhiteNoise):
    """``root`` may be empty or missing."""

    def __init__(
        self, app: WSGIApplication, *, root: str | os.PathLike[str], prefix: str = "static/"
    ) -> None:
        super().__init__(app, max_age=None, allow_all_origins=False)
        self._prefix = f"/{prefix.strip('/')}/".replace("//", "/")
        self._hashed: dict[str, str] = {}  # URL with the hash, by plain URL
        if Path(root).is_dir():
            self.add_files(os.fspath(root), self._prefix)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        script = environ.get("SCRIPT_NAME")
        environ[KEY] = (lambda name: script + self.url(name)) if script else self.url
        response: Iterable[bytes] = super().__call__(environ, start_response)
        return response

    def url(self, name: str) -> str:
        """The URL with the hash; for a missing file the plain one, which leads to the app."""
        plain = self._prefix + name
        return self._hashed.get(plain, plain)

    # What WhiteNoise calls for each file

    def add_file_to_dictionary(self, url: str, path: str, stat_cache: Any = None) -> None:
        """Add both URLs."""
        hidden = "/." in url
        if hidden or self.is_compressed_variant(path, stat_cache=stat_cache):
            return
        self._hashed[url] = _with_hash(url, Path(path))
        for each in (url, self._hashed[url]):
            super().add_file_to_dictionary(each, path, stat_cache=stat_cache)

    def immutable_file_test(self, path: str, url: str) -> bool:
        return url not in self._hashed

    def add_cache_headers(self, headers: Headers, path: str, url: str) -> None:
        headers["Cache-Control"] = "no-cache"
        super().add_cache_headers(headers, path, url)


def _with_hash(url: str, path: Path) -> str:
    """``/static/app.css`` with a hash of the content before its last dot."""
    digest = blake2b(path.read_bytes(), digest_size=5).hexdigest()
    folder, _, name = url.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{folder}/{stem}.{digest}.{suffix}" if dot else f"{url}.{digest}"


filter_factory = paste.factory(StaticFiles, root=paste.text, prefix=paste.text)
