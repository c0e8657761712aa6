"""A receiver of reports for Sentry, on a port of its own."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import brotli


class Sentry:
    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.port = 0

    @property
    def dsn(self) -> str:
        return f"http://key@127.0.0.1:{self.port}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The reports so far. Of an envelope's lines the last is the event."""
        return [json.loads(body.splitlines()[-1]) for body in self.raw]


@contextmanager
def receiving() -> Iterator[Sentry]:
    sentry = Sentry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            unpack = {"br": brotli.decompress, "gzip": gzip.decompress}
            sentry.raw.append(unpack.get(self.headers["Content-Encoding"] or "", bytes)(data))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sentry.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield sentry
    finally:
        server.shutdown()
        server.server_close()
