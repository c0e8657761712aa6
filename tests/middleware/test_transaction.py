"""A request's store: when it opens, commits, rolls back and closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from middleware.transaction import KEY, MAX_BUFFERED_BODY, TransactionPerRequest
from tests.middleware.wsgi import Answer, call, echo, environ, hello, run

OK = [("Content-Type", "text/plain")]


class Deadlock(Exception):
    """Goes well the next time."""


class Diary:
    """Opens stores that write down what happens to them, in one list with the
    start of the response and whatever else a test wants to see the order of."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pauses: list[float] = []
        self.failing: dict[str, list[Exception]] = {}

    def note(self, line: str) -> None:
        self.lines.append(line)
        if self.failing.get(line):
            raise self.failing[line].pop(0)

    def open(self, environ: WSGIEnvironment) -> Diary:
        self.note("open")
        return self

    def commit(self) -> None:
        self.note("commit")

    def rollback(self) -> None:
        self.note("rollback")

    def close(self) -> None:
        self.note("close")

    def around(self, app: WSGIApplication, tries: int = 5) -> WSGIApplication:
        return TransactionPerRequest(
            app,
            open=self.open,
            retryable=lambda error: isinstance(error, Deadlock),
            tries=tries,
            sleep=self.pauses.append,
        )

    def run(self, app: WSGIApplication, given: dict[str, Any] | None = None) -> Answer:
        """Run ``app`` around which there is a store; the start is a line too."""
        inner = self.around(app)

        def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            def start(status: str, headers: Any, exc_info: Any = None) -> Any:
                self.note(f"start {status[:3]}")
                return start_response(status, headers, exc_info)

            return inner(environ, start)

        return run(outer, given or environ())


@pytest.fixture
def diary() -> Diary:
    return Diary()


def answering(status: str = "200 OK", body: list[bytes] | None = None) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY]()
        start_response(status, OK)
        return body if body is not None else [b"done"]

    return app


def failing(times: int, error: Exception | None = None) -> WSGIApplication:
    """Uses the store and fails, ``times`` times; then answers with its number."""
    calls: list[int] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY]()
        calls.append(1)
        start_response("200 OK", OK)
        if len(calls) <= times:
            raise error or Deadlock()
        return [str(len(calls)).encode()]

    return app


class Stream:
    """A body that is read from the store as it goes out."""

    def __init__(self, diary: Diary, environ: WSGIEnvironment, *steps: bytes | Exception) -> None:
        self.diary = diary
        self.environ = environ
        self.steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for step in self.steps:
            self.environ[KEY]()
            self.diary.note("read")
            if isinstance(step, Exception):
                raise step
            yield step

    def close(self) -> None:
        self.diary.note("close body")


def streaming(diary: Diary, *steps: bytes | Exception) -> WSGIApplication:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", OK)
        return Stream(diary, environ, *steps)

    return app


def test_a_request_that_needs_no_store_opens_none(diary: Diary) -> None:
    assert diary.run(hello).body == b"Hello\n"
    assert diary.lines == ["start 200"]


def test_it_is_committed_before_the_response_starts(diary: Diary) -> None:
    assert diary.run(answering()).body == b"done"
    assert diary.lines == ["open", "commit", "start 200", "close"]


def test_a_request_has_one_store_however_often_it_asks(diary: Diary) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert environ[KEY]() is environ[KEY]()
        start_response("200 OK", OK)
        return []

    diary.run(app)
    assert diary.lines.count("open") == diary.lines.count("close") == 1


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "503 Service Unavailable"])
def test_an_answer_of_400_or_more_rolls_back(diary: Diary, status: str) -> None:
    assert diary.run(answering(status)).status == int(status[:3])
    assert diary.lines == ["open", "rollback", f"start {status[:3]}", "close"]


@pytest.mark.parametrize("status", ["201 Created", "303 See Other", "304 Not Modified"])
def test_an_answer_below_commits(diary: Diary, status: str) -> None:
    diary.run(answering(status))
    assert diary.lines == ["open", "commit", f"start {status[:3]}", "close"]


def test_a_rollback_that_fails_leaves_the_answer_as_it_is(diary: Diary) -> None:
    diary.failing["rollback"] = [Deadlock("the connection is gone")]
    assert diary.run(answering("404 Not Found")).status == 404
    assert diary.lines == ["open", "rollback", "start 404", "close"]


def test_an_error_rolls_back_closes_and_goes_on(diary: Diary) -> None:
    with pytest.raises(ZeroDivisionError):
        diary.run(failing(1, ZeroDivisionError()))
    assert diary.lines == ["open", "rollback", "close"]


def test_the_error_of_the_app_is_told_and_not_that_of_the_rollback(diary: Diary) -> None:
    diary.failing = {"rollback": [OSError()], "close": [OSError()]}
    with pytest.raises(ZeroDivisionError):
        diary.run(failing(1, ZeroDivisionError()))


def test_a_passing_error_runs_the_app_again_with_a_new_store(diary: Diary) -> None:
    assert diary.run(failing(2)).body == b"3"
    failed = ["open", "rollback", "close"]
    assert diary.lines == [*failed, *failed, "open", "commit", "start 200", "close"]


def test_pauses_grow_and_differ(diary: Diary) -> None:
    with pytest.raises(Deadlock):
        diary.run(failing(9))
    assert len(diary.pauses) == 4
    for number, pause in enumerate(diary.pauses, 1):
        assert 0.2 * 0.01 * 2**number <= pause <= 0.01 * 2**number
    other = Diary()
    with pytest.raises(Deadlock):
        other.run(failing(9))
    assert other.pauses != diary.pauses


def test_the_last_try_tells_its_error(diary: Diary) -> None:
    with pytest.raises(Deadlock):
        run(diary.around(failing(2), tries=2), environ())
    assert diary.lines.count("open") == 2


def test_a_commit_that_fails_is_tried_again_whole(diary: Diary) -> None:
    diary.failing["commit"] = [Deadlock()]
    assert diary.run(failing(0)).body == b"2"
    again = ["open", "commit", "start 200", "close"]
    assert diary.lines == ["open", "commit", "rollback", "close", *again]


def test_a_commit_that_fails_for_good_starts_no_response(diary: Diary) -> None:
    diary.failing["commit"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        diary.run(answering())
    assert diary.lines == ["open", "commit", "rollback", "close"]


def test_an_opening_that_fails_is_tried_again(diary: Diary) -> None:
    diary.failing["open"] = [Deadlock()]
    assert diary.run(answering()).status == 200
    assert diary.lines == ["open", "open", "commit", "start 200", "close"]


def test_nothing_runs_again_after_the_commit(diary: Diary) -> None:
    diary.failing["close"] = [Deadlock()]
    with pytest.raises(Deadlock):
        diary.run(answering())
    assert diary.lines == ["open", "commit", "start 200", "close"]


def test_nor_when_the_server_refuses_the_head(diary: Diary) -> None:
    diary.failing["start 200"] = [Deadlock()]
    with pytest.raises(Deadlock):
        diary.run(answering())
    assert diary.lines == ["open", "commit", "start 200", "rollback", "close"]


def test_a_stream_is_committed_at_its_first_piece_and_closed_after_its_last(diary: Diary) -> None:
    assert diary.run(streaming(diary, b"a", b"b")).body == b"ab"
    began = ["open", "read", "commit", "start 200"]
    assert diary.lines == [*began, "read", "close body", "rollback", "close"]


def test_a_stream_may_open_the_store_after_the_response_has_started(diary: Diary) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", OK)
        yield b"a"
        environ[KEY]()
        yield b"b"

    assert diary.run(app).body == b"ab"
    assert diary.lines == ["start 200", "open", "rollback", "close"]


def test_a_stream_that_fails_at_its_first_piece_is_tried_again(diary: Diary) -> None:
    steps: list[Any] = [Deadlock()]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", OK)
        return Stream(diary, environ, *(steps.pop() for _ in steps[:1]), b"a")

    assert diary.run(app).body == b"a"
    failed = ["open", "read", "close body", "rollback", "close"]
    ended = ["close body", "rollback", "close"]
    assert diary.lines == [*failed, "open", "read", "commit", "start 200", *ended]


def test_a_stream_that_fails_later_is_not(diary: Diary) -> None:
    with pytest.raises(Deadlock):
        diary.run(streaming(diary, b"a", Deadlock()))
    began = ["open", "read", "commit", "start 200"]
    assert diary.lines == [*began, "read", "close body", "rollback", "close"]


def test_the_store_is_closed_once_and_even_when_the_body_cannot_be(diary: Diary) -> None:
    diary.failing["close body"] = [ZeroDivisionError()]
    result = diary.around(streaming(diary, b"a", b"b"))(environ(), lambda *head: lambda data: None)
    with pytest.raises(ZeroDivisionError):
        result.close()  # type: ignore[attr-defined]
    result.close()  # type: ignore[attr-defined]
    assert diary.lines.count("close") == 1
    assert diary.lines[-2:] == ["rollback", "close"]


def test_the_body_is_closed_when_the_commit_fails(diary: Diary) -> None:
    diary.failing["commit"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        diary.run(streaming(diary, b"a"))
    assert diary.lines == ["open", "read", "commit", "close body", "rollback", "close"]


def test_writing_commits_first(diary: Diary) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY]()
        write = start_response("200 OK", OK)
        write(b"a")
        raise Deadlock

    with pytest.raises(Deadlock):
        diary.run(app)
    assert diary.lines == ["open", "commit", "start 200", "rollback", "close"]


def test_the_store_cannot_be_had_after_the_request(diary: Diary) -> None:
    given = environ()
    diary.run(answering(), given)
    with pytest.raises(RuntimeError, match="ended"):
        given[KEY]()


def spoiling(times: int) -> WSGIApplication:
    """Reads the body and changes the environ, as apps do, before it fails."""
    seen: list[tuple[str, bytes, bool]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        seen.append((environ["PATH_INFO"], body, "app.seen" in environ))
        environ["PATH_INFO"], environ["SCRIPT_NAME"] = "", environ["PATH_INFO"]
        environ["app.seen"] = True
        environ["middleware.route"] = f"try {len(seen)}"
        environ["wsgi.input"].close()
        if len(seen) <= times:
            raise Deadlock
        start_response("200 OK", OK)
        return [repr(seen).encode()]

    return app


def test_each_try_sees_the_request_as_the_first_did(diary: Diary) -> None:
    given = environ("POST", "/jobs", b"a body")
    answer = diary.run(spoiling(2), given)
    assert answer.text == repr([("/jobs", b"a body", False)] * 3)


def test_what_the_last_try_puts_into_the_environ_is_seen_outside(diary: Diary) -> None:
    given = environ("POST", "/jobs", b"a body")
    diary.run(spoiling(2), given)
    assert given["middleware.route"] == "try 3"


def test_what_a_stream_puts_into_it_later_is_seen_too(diary: Diary) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", OK)
        yield b"a"
        environ["middleware.route"] = "late"

    given = environ()
    diary.run(app, given)
    assert given["middleware.route"] == "late"


@pytest.mark.parametrize(("size", "tries"), [(MAX_BUFFERED_BODY, 2), (MAX_BUFFERED_BODY + 1, 1)])
def test_a_large_body_is_not_kept_for_another_try(diary: Diary, size: int, tries: int) -> None:
    given = environ("POST", "/", b"a" * size)
    app = diary.around(failing(9), tries=2)
    with pytest.raises(Deadlock):
        run(app, given)
    assert diary.lines.count("open") == tries


def test_a_large_body_still_comes_through(diary: Diary) -> None:
    body = bytes(range(256)) * 8192
    assert call(diary.around(echo), "POST", "/", body).body == body


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_process_is_rolled_back_and_never_tried_again(
    diary: Diary, error: type[BaseException]
) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[KEY]()
        raise error

    asked: Callable[[BaseException], bool] = lambda error: True  # noqa: E731
    with pytest.raises(error):
        run(TransactionPerRequest(app, open=diary.open, retryable=asked), environ())
    assert diary.lines == ["open", "rollback", "close"]


def test_an_app_may_have_another_store_under_another_key(diary: Diary) -> None:
    other = Diary()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert environ["a"]() is not environ["b"]()
        start_response("200 OK", OK)
        return []

    run(
        TransactionPerRequest(
            TransactionPerRequest(app, open=diary.open, key="a"), open=other.open, key="b"
        ),
        environ(),
    )
    assert diary.lines == other.lines == ["open", "commit", "close"]


def test_no_tries_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="tries"):
        TransactionPerRequest(hello, open=lambda environ: Diary(), tries=0)
