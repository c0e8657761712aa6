"""Scripts, styles and pictures, cached for ever under names that change.

``application = StaticFiles(application, root="static", prefix="static/")``

WhiteNoise serves them. Each file has two names: ``/static/app.css``, which a
browser asks for anew each time (304), and ``/static/app.3f2a1b9c04.css``, whose
middle part is made of the content and which it keeps. Pages write
``environ["middleware.static"]("app.css")``, which is the URL of the latter.

Files are looked for at the start: after a change, start again. References
inside a style sheet are left as they are and lead to the plain names, which is
right, and one small request each. Hidden files are not served; ``x.css.br`` and
``x.css.gz`` are sent for ``x.css`` to who takes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from wsgiref.headers import Headers
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from whitenoise import WhiteNoise

from middleware import paste

KEY = "middleware.static"
_COMPRESSED = (".br", ".gz")


class StaticFiles:
    """``root`` may be empty or missing."""

    def __init__(
        self, app: WSGIApplication, *, root: str | os.PathLike[str], prefix: str = "static/"
    ) -> None:
        self._prefix = f"/{prefix.strip('/')}/".replace("//", "/")
        self._hashed: dict[str, str] = {}  # URL below the prefix, by name
        self._immutable: set[str] = set()  # URLs
        self._tags: dict[str, str] = {}  # by path
        self._noise = WhiteNoise(
            app,
            max_age=None,
            allow_all_origins=False,
            add_headers_function=self._add_headers,
            immutable_file_test=lambda path, url: url in self._immutable,
        )
        for path in _files(Path(root)):
            self._add(path, path.relative_to(root).as_posix())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        script = environ.get("SCRIPT_NAME")
        environ[KEY] = (lambda name: script + self.url(name)) if script else self.url
        response: Iterable[bytes] = self._noise(environ, start_response)
        return response

    def url(self, name: str) -> str:
        """The path of a file that may be kept for ever; of no such file, its
        plain one, which leads to the app."""
        return self._prefix + self._hashed.get(name, name)

    def _add(self, path: Path, name: str) -> None:
        digest = blake2b(path.read_bytes(), digest_size=5).hexdigest()
        stem, dot, suffix = path.name.rpartition(".")
        hashed = f"{stem}.{digest}.{suffix}" if dot else f"{path.name}.{digest}"
        self._hashed[name] = name[: -len(path.name)] + hashed
        self._immutable.add(self.url(name))
        # One strong tag must not stand for the compressed files as well.
        weak = "W/" if any(_variants(path)) else ""
        self._tags[str(path)] = f'{weak}"{digest}"'
        self._noise.add_file_to_dictionary(self._prefix + name, str(path))
        self._noise.add_file_to_dictionary(self.url(name), str(path))

    def _add_headers(self, headers: Headers, path: str, url: str) -> None:
        headers["ETag"] = self._tags[path]
        if "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-cache"


def _files(root: Path) -> Iterator[Path]:
    """Sorted, so that two starts are alike."""
    if not root.is_dir():
        return
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        variant = path.suffix in _COMPRESSED and path.with_suffix("").is_file()
        if path.is_file() and not hidden and not variant:
            yield path


def _variants(path: Path) -> Iterator[bool]:
    return (path.with_name(path.name + suffix).is_file() for suffix in _COMPRESSED)


filter_factory = paste.factory(StaticFiles, root=paste.text, prefix=paste.text)
