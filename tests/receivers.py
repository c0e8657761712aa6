"""Who is told, in tests: a web server and a mail server, each on a port of its own."""

from __future__ import annotations

import base64
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONG = 60.0  # seconds; only what hangs takes so long


def signing_key(name: str) -> str:
    """A key for webhooks that has this name in it, as settings have it."""
    return f"whsec_{base64.b64encode(name.encode().ljust(32, b'.')).decode()}"


KEY = signing_key("between us")
HERE = "127.0.0.1"  # what [notify] hosts must have for a receiver of these tests


class Hook(ThreadingHTTPServer):
    """Answers with each of ``answers`` in turn, then with 204. While ``mute``,
    it takes what it is sent and says nothing."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Hook)
        self.answers: list[int] = []
        self.words = ""  # of each answer: its body, and after its status
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.targets: list[str] = []
        self.speak = threading.Event()
        self.speak.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook/KEY"


class _Hook(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.targets.append(self.path)
        self.server.heard.append(({k.lower(): v for k, v in self.headers.items()}, body))
        self.server.speak.wait(LONG)
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status, self.server.words or None)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(self.server.words)))
        self.end_headers()
        self.wfile.write(self.server.words.encode())

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


class Post(socketserver.ThreadingTCPServer):
    """Takes mail, unless the address or the password is not to its liking. With a
    ``context`` only over TLS: from the beginning, or when it is asked to start."""

    daemon_threads = True

    def __init__(
        self,
        refuses: str = "",
        password: str = "",
        context: ssl.SSLContext | None = None,
        starts: bool = False,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Post)
        self.refuses, self.password = refuses, password
        self.context, self.starts = context, starts
        self.mail: list[tuple[list[str], EmailMessage]] = []  # recipients and message

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.server_address[:2]
        return str(host), int(port)


class _Post(socketserver.StreamRequestHandler):
    server: Post

    def handle(self) -> None:
        self.to: list[str] = []
        self.protected = False
        with suppress(OSError):
            if self.server.context and not self.server.starts:
                self.protect()
            self.say("220 here")
            while line := self.rfile.readline():
                word, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
                self.obey(word.upper(), rest)

    def protect(self) -> None:
        assert self.server.context is not None
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.setup()
        self.protected = True

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def obey(self, word: str, rest: str) -> None:
        match word:
            case "EHLO":
                more = "250-STARTTLS\r\n" if self.server.starts else ""
                self.say(f"250-here\r\n250-8BITMIME\r\n{more}250 AUTH PLAIN")
            case "STARTTLS":
                self.say("220 go on")
                self.protect()
            case _ if self.server.context and not self.protected:
                self.say("530 first STARTTLS")
            case "AUTH":
                given = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")[2]
                self.say("235 in" if given == self.server.password else "535 who are you?")
            case "RCPT":
                refused = bool(self.server.refuses) and self.server.refuses in rest
                self.to += [] if refused else [rest.partition("<")[2].partition(">")[0]]
                self.say("550 nobody here" if refused else "250 fine")
            case "DATA":
                self.say("354 go on")
                self.take()
            case _:
                self.say("221 bye" if word == "QUIT" else "250 fine")

    def take(self) -> None:
        content = b""
        while (line := self.rfile.readline()) != b".\r\n":
            content += line.removeprefix(b".") if line.startswith(b"..") else line
        self.server.mail.append((self.to, message_from_bytes(content, policy=policy.default)))
        self.say("250 taken")


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """Let it answer until the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        if isinstance(server, Hook):
            server.speak.set()
        server.shutdown()
        thread.join()
        server.server_close()
