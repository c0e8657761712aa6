"""Outbox: the unsent rest of a response, and the speed at which its client reads.

A request's thread writes here, and never waits for a response that is finished:
what the socket does not take stays, and the loop of connections sends it on. Only a
response that goes on and on waits for its client, when more than HELD bytes stay.
One thread has an outbox at a time: the request's until it has responded, then the
loop's.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Callable

HELD = 512 << 10  # bytes
PIECE = 256 << 10  # bytes that the socket is offered at once
LOOK = 0.2  # seconds between looks at a client that is waited for


class TooSlow(ConnectionError):
    """The client takes less of its response than it must."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client takes its response too slowly")


class Outbox:
    """``sock`` does not block. A client must take ``rate`` bytes a second of what
    waits for it, as a mean over ``seconds``, and some at any rate."""

    def __init__(
        self,
        sock: socket.socket,
        rate: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = sock
        self._least = max(1, int(rate * seconds))
        self._seconds = seconds
        self._clock = clock
        self._data = bytearray()
        self._sent = 0  # bytes, as the kernel has taken them
        self._due: float | None = None  # when the client is looked at
        self._taken = 0  # bytes, as the client had taken them at the last look

    @property
    def pending(self) -> int:
        """Bytes that wait here."""
        return len(self._data)

    def keep(self, data: bytes) -> None:
        """To be sent with what comes next."""
        self._data += data

    def write(self, data: bytes) -> int:
        """Send ``data``, or keep what the socket does not take. While more than HELD
        bytes are kept from before, wait. Raises TooSlow, and OSError if the client
        is gone; nothing is kept then."""
        while len(self._data) > HELD:
            self._wait()
        if self._data:
            self._data += data
            self.flush()
        else:
            self._data += memoryview(data)[self._give(data) :]
            self._watch()
        return len(data)

    def flush(self) -> bool:
        """Send a piece, without waiting; whether nothing is left."""
        if self._data:
            del self._data[: self._give(self._data[:PIECE])]
            self._watch()
        return not self._data

    def discard(self) -> None:
        self._data.clear()

    def abort(self) -> None:
        """Discard what the kernel has too, as soon as the socket is closed."""
        self.discard()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def late(self) -> bool:
        """Whether the client took too little since the last look; looks when it is time."""
        now = self._clock()
        if self._due is None or now < self._due:
            return False
        before, self._taken = self._taken, self._sent - _queued(self._socket)
        self._due = now + self._seconds
        return self._taken - before < self._least

    def _watch(self) -> None:
        if not self._data:
            self._due = None
        elif self._due is None:
            self._due = self._clock() + self._seconds
            self._taken = self._sent - _queued(self._socket)

    def _give(self, data: bytes | bytearray) -> int:
        """How many bytes the socket takes now."""
        try:
            taken = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.discard()
            raise
        self._sent += taken
        return taken

    def _wait(self) -> None:
        ready = select.poll()
        ready.register(self._socket, select.POLLOUT)
        ready.poll(min(LOOK, self._seconds) * 1000)
        self.flush()
        if self.late():
            self.abort()
            raise TooSlow


def _queued(sock: socket.socket) -> int:
    """Bytes that the kernel has still to deliver. What it has taken tells little of
    the client: it takes megabytes, and then none for as long as they last."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])
