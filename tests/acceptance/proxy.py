"""A TCP proxy in front of a database server that can be told to misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from pathlib import Path

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


class Proxy:
    """Listens on a port of its own and passes on to a Unix socket.

    ``delay`` holds every block back for so many seconds, both ways. While
    ``hole`` is set nothing is passed on, and nobody is told. ``cut_commits``
    is how many commits reach the server whose answers never come back: the
    connection is reset instead.
    """

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.delay = 0.0
        self.hole = False
        self.cut_commits = 0
        self.cut = 0  # commits that were cut so far
        self._open = True
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def uri(self, database: str) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{database}"

    def reset_all(self) -> int:
        """RST to every connection; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._reset(*pair)
        return len(pairs)

    def close(self) -> None:
        self._open = False
        self._listener.close()
        self.reset_all()

    def _listen(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self.upstream))
            except OSError:
                self._reset(client, server)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            for one, other, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(one, other, asks), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(1 << 16):
                if self.delay:
                    time.sleep(self.delay)
                while self.hole and self._open:
                    time.sleep(0.02)
                if asks and self._cuts(block):
                    self._commit_and_cut(source, sink, block)
                    return
                sink.sendall(block)
        self._reset(source, sink)

    def _cuts(self, block: bytes) -> bool:
        # A packet: length (3 bytes), number, 3 (a query), text.
        if block[4:].lower() != b"\x03commit":
            return False
        with self._lock:
            wanted = self.cut < self.cut_commits
            self.cut += wanted
        return wanted

    def _commit_and_cut(self, client: socket.socket, server: socket.socket, block: bytes) -> None:
        """The other thread must not pass the answer on: the client goes first,
        and the server is given time to have done it."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.shutdown(socket.SHUT_RD)
        client.close()
        server.sendall(block)
        time.sleep(0.1)
        server.close()

    @staticmethod
    def _reset(*ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
