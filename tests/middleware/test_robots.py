"""Search engines are asked to stay out."""

from __future__ import annotations

from middleware.robots import Robots
from tests.middleware.wsgi import call, hello


def test_nothing_may_be_read_by_a_robot() -> None:
    answer = call(Robots(hello), path="/robots.txt")
    assert answer.text == "User-agent: *\nDisallow: /\n"
    assert answer.headers["Content-Length"] == str(len(answer.body))


def test_head_has_no_body_and_nobody_writes_to_it() -> None:
    assert call(Robots(hello), "HEAD", "/robots.txt").body == b""
    answer = call(Robots(hello), "POST", "/robots.txt", b"x")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_every_response_says_so() -> None:
    for path in ("/", "/robots.txt", "/robots.txt/"):
        assert call(Robots(hello), path=path).headers["X-Robots-Tag"] == "noindex, nofollow"
    assert call(Robots(hello), path="/robots.txt/").body == b"Hello\n"
