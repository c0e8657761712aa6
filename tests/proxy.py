"""A socket between the program and its database server that can cut the line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Word = bytes


class Proxy:
    """Passes everything on until a client sends ``word``: then it cuts that
    connection, once, before the word reaches the server or after the server
    has answered."""

    def __init__(self, path: Path, server: Path, word: Word = b"", answered: bool = False) -> None:
        self.server = server
        self.word = word
        self.answered = answered
        self.cuts = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listener, *self._open]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self.server))
                self._open += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.word and self.word in data and not self.cuts:
                    self.cuts += 1
                    if self.answered:
                        # The answer is left unread: the other thread is cut
                        # off from the client first.
                        source.shutdown(socket.SHUT_RDWR)
                        sink.sendall(data)
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(path: Path, server: Path, word: Word = b"", *, answered: bool = False) -> Iterator[Proxy]:
    made = Proxy(path, server, word, answered)
    try:
        yield made
    finally:
        made.close()
