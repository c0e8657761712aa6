"""The client against the real web application."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from backoffice import client as clients
from backoffice.client import Client, Filter
from backoffice.client.answers import build
from backoffice.config.settings import Settings
from backoffice.data import tokens
from backoffice.data.sql import insert_one
from backoffice.engine.claims import ClaimedTask
from backoffice.errors import (
    BackofficeError,
    Conflict,
    Invalid,
    NotAllowed,
    NotFound,
    ServiceFault,
    ServiceUnreachable,
)
from backoffice.tasks import Output
from backoffice.web.app import make_app
from backoffice.web.server.http_server import serve
from tests import line, test_layers
from tests.board import Board, chain, made_file
from tests.line import Line

SQLITE = pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)
URL = "http://localhost"


def unlimited(settings: Settings) -> Settings:
    settings.paths.work.mkdir(parents=True, exist_ok=True)
    return replace(settings, web=replace(settings.web, rate=0))


@pytest.fixture
def wire(settings: Settings, board: Board) -> Line:
    return Line(make_app(unlimited(settings)))


@pytest.fixture
def naps() -> list[float]:
    """How long the client has paused, without waiting for it."""
    return []


@pytest.fixture
def client(wire: Line, naps: list[float]) -> Iterator[Client]:
    with Client(URL, transport=wire, sleep=naps.append) as client:
        yield client


@pytest.fixture
def film(settings: Settings) -> Path:
    path = settings.paths.roots[0] / "a.mp4"
    path.write_bytes(b"0123456789" * 100)
    return path


# Jobs -----------------------------------------------------------------------


def test_a_job_is_submitted_with_all_that_was_said(client: Client, film: Path) -> None:
    job = client.submit(
        "transcode",
        [("source", film.as_uri())],
        title="Folge 影",
        key="ep1",
        priority=7,
        parameters={"profile": "mp4-360"},
        metadata={"dc:creator": "Studio"},
        delay=90,
    )
    assert (job.new, job.state, job.title, job.key, job.priority) == (
        True,
        "queued",
        "Folge 影",
        "ep1",
        7,
    )
    assert [(one.role, one.href) for one in job.inputs] == [("source", film.as_uri())]
    assert job.parameters["profile"] == "mp4-360"
    assert job.metadata == {"dc:creator": "Studio"}
    assert [one.name for one in job.tasks] == ["probe", "transcode", "publish"]
    assert job.submitted is not None
    assert job.submitted.tzinfo is UTC
    assert "waits until" in client.why(job.id)[0]
    assert client.job(job.id) == clients.Job(**{k: v for k, v in vars(job).items() if k != "new"})


def test_the_same_key_gives_the_same_job_and_other_content_a_conflict(
    client: Client, film: Path
) -> None:
    inputs = [("source", film.as_uri())]
    first = client.submit("transcode", inputs, key="k")
    again = client.submit("transcode", inputs, key="k")
    assert (again.id, again.new) == (first.id, False)
    with pytest.raises(Conflict, match="choose another key"):
        client.submit("transcode", inputs, key="k", title="Other")


@SQLITE
@pytest.mark.parametrize(
    ("delay", "text"), [(0.25, "250ms"), (90, "90000ms"), (86_400.0 * 365, "31536000s")]
)
def test_a_delay_of_any_length_fits(client: Client, wire: Line, delay: float, text: str) -> None:
    with pytest.raises(Invalid, match="takes"):
        client.submit("transcode", delay=delay)
    assert f'"delay":"{text}"' in wire.asked[-1].content.decode().replace(": ", ":")


def test_jobs_come_newest_first_over_all_pages(
    client: Client, board: Board, wire: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PAGE", 2)
    for n in range(5):
        board.submit(submitter="bob" if n else "alice", title=f"Folge {n}")
    assert [job.id for job in client.jobs()] == [5, 4, 3, 2, 1]
    assert [job.id for job in client.jobs(Filter(submitter="bob"))] == [5, 4, 3, 2]
    assert [job.id for job in client.jobs(limit=3)] == [5, 4, 3]
    assert list(client.jobs(limit=0)) == []
    before = len(wire.asked)
    jobs = client.jobs(limit=4)
    assert next(jobs).id == 5
    assert len(wire.asked) == before + 1  # the rest is fetched when it is wanted


def test_jobs_are_found_by_state_words_and_time(client: Client, board: Board) -> None:
    board.submit(title="Ä")
    board.submit(title="B")
    client.cancel(1)
    now = datetime.now(UTC)

    def found(**wanted: Any) -> list[int]:
        return [job.id for job in client.jobs(Filter(**wanted))]

    assert found(states=["cancelled", "failed"]) == [1]
    assert found(workflow="chain", text="a") == [1]
    assert found(submitted_after=now - timedelta(hours=1)) == [2, 1]
    assert found(submitted_before=now - timedelta(hours=1)) == []
    with pytest.raises(Invalid, match="time zone"):
        found(submitted_after=datetime(2026, 11, 21))


def test_a_job_is_steered(client: Client, board: Board, film: Path) -> None:
    job = client.submit("transcode", [("source", film.as_uri())], key="k").id
    assert client.pause(job).state == "paused"
    assert client.resume(job).state == "queued"
    assert client.priority(job, 3).priority == 3
    assert client.cancel(job).state == "cancelled"
    assert client.retry(job).state == "queued"
    clone = client.clone(job)
    assert (clone.id, clone.key) == (2, "")
    with pytest.raises(Conflict, match="resume is possible"):
        client.resume(job)
    with pytest.raises(NotFound, match="no job 9"):
        client.cancel(9)


def test_many_jobs_are_counted_before_they_are_changed(client: Client, board: Board) -> None:
    for _ in range(3):
        board.submit(submitter="bob")
    client.cancel(2)
    seen = client.act("cancel", Filter(submitter="bob"), preview=True)
    assert (seen.preview, seen.matched, seen.possible, seen.done) == (True, 3, 2, 0)
    done = client.act("priority", Filter(submitter="bob", states=["queued"]), value=1)
    assert (done.matched, done.done) == (2, 2)
    one = client.act("resume", [2, 9])
    assert [refusal.job for refusal in one.refusals] == [2, 9]
    with pytest.raises(Invalid):
        client.act("cancel", Filter())


# Tasks ----------------------------------------------------------------------


@pytest.fixture
def failed(board: Board, settings: Settings) -> Path:
    """Job 1, whose first task failed and left this log; its second waits."""
    log = settings.paths.logs / "one.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"first line\nsecond \xff line\n")
    board.submit()
    (one,) = board.claim(board.worker())
    board.finish(
        one.claim, "failed", "no sound", retry=False, log=str(log), commands=[["ffmpeg", "-i", "a"]]
    )
    return log


def test_tasks_and_their_attempts_are_shown(client: Client, board: Board, failed: Path) -> None:
    assert [task.name for task in client.job_tasks(1)] == ["one", "two"]
    assert [task.name for task in client.tasks()] == ["two", "one"]
    assert [task.name for task in client.tasks(job=1, state="failed", limit=5)] == ["one"]
    assert client.task(1).message == "no sound"
    (attempt,) = client.attempts(1)
    assert (attempt.number, attempt.state, attempt.argv) == (1, "failed", (("ffmpeg", "-i", "a"),))
    assert client.why_task(2)


def test_a_log_is_read_in_parts(client: Client, failed: Path) -> None:
    whole = failed.read_bytes()
    assert client.log(1) == client.log(1, attempt=1) == whole
    assert client.log(1, offset=6) == whole[6:]
    assert client.log(1, offset=6, size=4) == b"line"
    assert client.log(1, size=5) == b"first"
    assert client.log(1, offset=len(whole)) == b""
    with pytest.raises(NotFound, match="no attempt 2"):
        client.log(1, attempt=2)
    with pytest.raises(NotFound, match="no attempt yet"):
        client.log(2)


# Files and publications -----------------------------------------------------


def test_a_file_is_registered_and_found(client: Client, film: Path) -> None:
    file = client.register(film.as_uri(), {"dc:title": "T"})
    assert client.register(film.as_uri()).id == file.id
    assert client.file(file.id).metadata == {"dc:title": "T"}
    assert [one.size for one in client.files()] == [1000]
    with pytest.raises(Invalid, match="outside"):
        client.register("file:///etc/passwd")


def made(settings: Settings, name: str, data: bytes, **more: Any) -> Output:
    path = settings.paths.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    plain: dict[str, Any] = {
        "role": "rendition",
        "media_type": "video/mp4",
        "tree": False,
        "facts": {},
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return made_file(href=path.as_uri(), name=path.name, **(plain | more))


DATA = bytes(range(256)) * 40


@pytest.fixture
def outputs(board: Board, settings: Settings) -> None:
    """File 1, a still of it, and a package; the first one is published."""
    job = board.submit(chain("one"))
    (one,) = board.claim(board.worker())
    files = [
        made(settings, "a.mp4", DATA),
        made(settings, "still.jpg", b"JPEG", role="thumbnail", media_type="image/jpeg"),
        made(settings, "hls/main.m3u8", b"#EXTM3U", tree=True, sha256="", media_type="video/x"),
    ]
    board.finish(one.claim, outputs=files)
    row = {
        "job_id": job,
        "task_id": 1,
        "file_id": 1,
        "target": "site",
        "path": "a.mp4",
        "href": "file:///site/a.mp4",
        "tree": False,
        "state": "published",
        "size": len(DATA),
        "sha256": files[0].sha256,
        "published": board.clock(),
    }
    board.do(insert_one, "publication", list(row), list(row.values()))


def test_publications_are_listed_and_taken_back(client: Client, outputs: None) -> None:
    (publication,) = client.publications(state="published")
    assert client.publication(publication.id) == publication
    assert (publication.target, publication.path, publication.retracted) == ("site", "a.mp4", None)
    assert client.retract(publication.id).workflow == "retract"
    assert [one.id for one in client.files(job=1, text="a.mp4")] == [1]
    assert [one.id for one in client.files(job=1)] == [3, 2, 1]
    assert [one.role for one in client.job(1).outputs] == ["rendition", "thumbnail", "rendition"]


@SQLITE
def test_a_still_is_fetched(client: Client, outputs: None) -> None:
    assert client.thumbnail(1) == b"JPEG"
    with pytest.raises(NotFound):
        client.thumbnail(9)


@SQLITE
def test_a_download_is_whole_and_leaves_nothing_else(
    client: Client, outputs: None, tmp_path: Path
) -> None:
    goal = tmp_path / "here" / "b.mp4"
    goal.parent.mkdir()
    assert client.download(1, str(goal)) == goal
    assert goal.read_bytes() == DATA
    assert list(goal.parent.iterdir()) == [goal]


def breaks_after(wire: Line, size: int) -> Callable[[httpx.Request], httpx.Response]:
    """A connection that is reset when so many bytes of an answer have come."""

    def trouble(request: httpx.Request) -> httpx.Response:
        answer = wire._line.handle_request(request)
        body = line.Broken([answer.read()[:size]])
        return httpx.Response(answer.status_code, headers=answer.headers, stream=body)

    return trouble


@SQLITE
def test_a_download_that_breaks_goes_on_where_it_broke(
    client: Client, wire: Line, outputs: None, tmp_path: Path
) -> None:
    wire.troubles = [None, breaks_after(wire, 1000), line.refused]
    client.download(1, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == DATA
    last = wire.asked[-1].headers
    assert last["Range"] == "bytes=1000-"
    assert last["If-Range"]
    assert wire.answers[-1] == 206


@SQLITE
def test_a_file_that_changes_while_it_comes_is_begun_again(
    client: Client, wire: Line, outputs: None, settings: Settings, tmp_path: Path
) -> None:
    def changes(request: httpx.Request) -> httpx.Response:
        answer = breaks_after(wire, 1000)(request)
        (settings.paths.work / "a.mp4").write_bytes(DATA[::-1])
        return answer

    wire.troubles = [None, changes]
    with pytest.raises(Conflict, match="its digest is another"):
        client.download(1, tmp_path / "b.mp4")
    assert wire.answers[-1] == 200  # whole: its tag is another
    assert not (tmp_path / "b.mp4").exists()


@SQLITE
def test_a_download_that_was_given_up_is_taken_up_later(
    client: Client, wire: Line, outputs: None, tmp_path: Path
) -> None:
    wire.troubles = [None, breaks_after(wire, 1000), *[line.refused] * 3]
    with pytest.raises(ServiceUnreachable):
        client.download(1, tmp_path / "b.mp4")
    client.download(1, tmp_path / "b.mp4")
    assert wire.asked[-1].headers["Range"] == "bytes=1000-"
    assert (tmp_path / "b.mp4").read_bytes() == DATA


@SQLITE
@pytest.mark.parametrize("rest", [b"of another", DATA + b"longer", b"x" * len(DATA)])
def test_what_is_left_of_another_file_does_no_harm(
    client: Client, outputs: None, tmp_path: Path, rest: bytes
) -> None:
    (tmp_path / ".b.mp4.part").write_bytes(rest)
    client.download(1, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == DATA
    assert not (tmp_path / ".b.mp4.part").exists()


@SQLITE
def test_a_file_without_digest_is_never_patched_together(
    client: Client, wire: Line, film: Path, tmp_path: Path
) -> None:
    file = client.register(film.as_uri())
    (tmp_path / ".b.mp4.part").write_bytes(b"xxxx")
    client.download(file.id, tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == film.read_bytes()
    assert not any("Range" in request.headers for request in wire.asked)
    film.write_bytes(b"shorter")
    with pytest.raises(Conflict, match="it has 7 bytes, not 1000"):
        client.download(file.id, tmp_path / "c.mp4")
    assert not (tmp_path / ".c.mp4.part").exists()


@SQLITE
def test_of_a_package_a_member_is_fetched(client: Client, outputs: None, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"'main\.m3u8'"):
        client.download(3, tmp_path / "x")
    client.download(3, tmp_path / "x", member="main.m3u8")
    assert (tmp_path / "x").read_bytes() == b"#EXTM3U"
    with pytest.raises(NotFound):
        client.download(3, tmp_path / "y", member="../a.mp4")


@SQLITE
def test_two_downloads_to_one_place_do_not_mix(
    client: Client, wire: Line, outputs: None, tmp_path: Path
) -> None:
    def meanwhile(request: httpx.Request) -> httpx.Response:
        with pytest.raises(Conflict, match="another download"):
            client.download(1, tmp_path / "b.mp4")
        return wire._line.handle_request(request)

    wire.troubles = [None, meanwhile]
    client.download(1, tmp_path / "b.mp4")
    with pytest.raises(Invalid, match="cannot be written"):
        client.download(1, tmp_path / "no" / "b.mp4")


# Queues, workers, definitions, the history ----------------------------------


def test_queues_and_workers_are_controlled(client: Client, board: Board) -> None:
    board.submit()
    worker = board.worker(tags=("gpu",))
    assert client.queue_pause("default").paused
    assert not client.queue_resume("default").paused
    assert client.queue_limit("default", 4).limit == 4
    assert client.queue_limit("default", None).limit is None
    assert [(one.name, one.ready) for one in client.queues()] == [("default", 1)]
    assert client.queue("default").ready == 1
    assert client.worker(worker).tags == ("gpu",)
    assert client.drain(worker).state == "draining"
    assert [one.id for one in client.workers(["draining"])] == [worker]
    assert client.workers(["active"]) == ()
    with pytest.raises(NotFound):
        client.queue("a/b?c#d")


@SQLITE
def test_definitions_are_shown(client: Client) -> None:
    assert "transcode" in [one.name for one in client.workflows()]
    flow = client.workflow("transcode")
    assert flow.inputs[0].role == "source"
    assert [one.name for one in flow.tasks] == ["probe", "transcode", "publish"]
    names = [one.name for one in client.profiles()]
    assert client.profile(names[0]).name == names[0]
    assert client.schedules() == ()
    assert client.version()
    with pytest.raises(NotFound):
        client.workflow("nope")


def test_the_history_is_read_to_its_end(
    client: Client, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PAGE", 2)
    for _ in range(5):
        board.submit(submitter="bob")
    events = list(client.events(0))
    assert [one.id for one in events] == sorted(one.id for one in events)
    assert [one.job for one in events] == [1, 2, 3, 4, 5]
    assert {(one.actor, one.action) for one in events} == {("bob", "job.submitted")}
    assert [one.job for one in client.events(events[1].id, limit=2)] == [3, 4]
    assert [one.job for one in client.events(limit=2)] == [4, 5]
    assert [one.job for one in client.events(0, job=3)] == [3]
    assert list(client.events(events[-1].id)) == []


# Following ------------------------------------------------------------------


def test_a_job_is_followed_to_its_end_and_told_only_when_it_changes(
    client: Client, board: Board, wire: Line
) -> None:
    job, worker = board.submit(chain("one")), board.worker()
    claimed: list[ClaimedTask] = []
    steps: Iterator[Callable[[], object]] = iter([
        lambda: None, lambda: None, lambda: claimed.extend(board.claim(worker)),
        lambda: None, lambda: board.finish(claimed[0].claim),
    ])  # fmt: skip

    def step(seconds: float) -> None:
        next(steps)()

    client._connection.sleep = step
    seen = [one.state for one in client.follow(job)]
    assert seen == ["queued", "running", "succeeded"]
    assert wire.answers == [200, 304, 304, 200, 304, 200]


@SQLITE
def test_pauses_grow_while_nothing_happens_and_have_a_limit(
    client: Client, board: Board, naps: list[float]
) -> None:
    looks = client.follow(board.submit())
    next(looks)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 20:
            client.cancel(1)

    client._connection.sleep = nap
    assert next(looks).state == "cancelled"
    assert naps == sorted(naps)
    assert naps[0] < 0.5
    assert naps[-1] == 5.0


@SQLITE
def test_a_follower_outlives_a_service_that_is_away_for_a_while(
    client: Client, board: Board, wire: Line, naps: list[float]
) -> None:
    looks = client.follow(board.submit())
    next(looks)
    board.do(lambda store: store.execute("UPDATE job SET state = 'cancelled'"))
    wire.troubles = [line.refused, line.dropped, line.answers(503, retry_after="7")]
    assert next(looks).state == "cancelled"
    assert 7.0 in naps


@SQLITE
def test_a_follower_gives_up_in_the_end(
    client: Client, board: Board, wire: Line, naps: list[float]
) -> None:
    wire.troubles = [line.refused]
    with pytest.raises(ServiceUnreachable):  # it was never there
        next(client.follow(board.submit()))
    looks = client.follow(1)
    next(looks)
    wire.troubles = [line.refused] * 1000
    with pytest.raises(ServiceUnreachable):
        next(looks)
    assert 0.9 * clients.PATIENCE < sum(naps) < 1.5 * clients.PATIENCE


# Errors and repetitions -----------------------------------------------------


@SQLITE
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Invalid) for status in (400, 413, 415, 422)),
        (401, NotAllowed),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        *((status, ServiceUnreachable) for status in (429, 502, 503)),
        (500, ServiceFault),
        (304, ServiceFault),
    ],
)
def test_a_status_is_an_error_with_the_services_words(
    client: Client, wire: Line, status: int, kind: type[BackofficeError]
) -> None:
    body = b'{"detail": "so it is", "errors": [{"line": 3, "message": "no"}]}'
    wire.troubles = [line.problem(status, body, x_request_id="r1")] * 4
    with pytest.raises(kind, match="so it is: line 3: no") as caught:
        client.pause(1)
    assert ("BACKOFFICE_TOKEN" in str(caught.value)) == (status == 401)
    assert ("r1" in str(caught.value)) == (status in (500, 304))


@SQLITE
def test_a_service_that_has_moved_says_where(client: Client, wire: Line) -> None:
    wire.troubles = [line.answers(301, location="https://other.example/jobs")]
    with pytest.raises(ServiceFault, match=r"is now at https://other\.example/jobs"):
        client.queues()
    assert len(wire.asked) == 1


@SQLITE
@pytest.mark.parametrize(
    "trouble",
    [
        line.answers(200, b"<html>", content_type="text/html"),
        line.answers(200, b"[1]", content_type="application/json"),
        line.answers(200, b'{"title": "no id"}', content_type="application/json"),
        line.answers(200, b'{"id": 1, "submitted": "yesterday"}', content_type="application/json"),
        line.answers(200, b'{"id": 1, "tasks": 7}', content_type="application/json"),
        line.answers(200, b"x", content_encoding="gzip"),
    ],
)
def test_an_answer_of_something_else_is_told_as_such(
    client: Client, wire: Line, trouble: line.Trouble
) -> None:
    wire.troubles = [trouble]
    with pytest.raises(ServiceFault, match="localhost"):
        client.job(1)


def test_what_a_newer_service_says_and_an_older_one_does_not_is_no_trouble() -> None:
    job = build(clients.Job, {"id": 1, "colour": "red", "tasks": [{"id": 2, "job": 1, "name": "a",
                              "shape": {}}], "message": None})  # fmt: skip
    assert (job.id, job.state, job.message) == (1, "", "")
    assert job.tasks == (clients.Task(id=2, job=1, name="a"),)


REPEATED: dict[str, Callable[[Client, str], object]] = {
    "look": lambda client, film: client.job(1),
    "list": lambda client, film: list(client.jobs()),
    "submit with a key": lambda client, film: client.submit("audio", [("source", film)], key="k"),
    "preview": lambda client, film: client.act("pause", [1], preview=True),
}
ONCE: dict[str, Callable[[Client, str], object]] = {
    "submit": lambda client, film: client.submit("audio", [("source", film)]),
    "act": lambda client, film: client.act("pause", [1]),
    "cancel": lambda client, film: client.cancel(1),
    "clone": lambda client, film: client.clone(1),
    "register": lambda client, film: client.register(film),
    "limit": lambda client, film: client.queue_limit("default", 3),
}
TROUBLES = [line.refused, line.dropped, line.answers(503), line.answers(502)]


@SQLITE
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("call", REPEATED)
def test_what_may_be_done_twice_is_repeated(
    client: Client, board: Board, wire: Line, film: Path, call: str, trouble: line.Trouble
) -> None:
    board.submit()
    wire.troubles = [trouble] * 3
    REPEATED[call](client, film.as_uri())
    assert len(wire.asked) == 4
    wire.troubles = [trouble] * 4
    with pytest.raises(ServiceUnreachable, match="localhost"):
        REPEATED[call](client, film.as_uri())


@SQLITE
@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("call", ONCE)
def test_anything_else_is_done_once(
    client: Client, board: Board, wire: Line, film: Path, call: str, trouble: line.Trouble
) -> None:
    board.submit()
    wire.troubles = [trouble]
    with pytest.raises(ServiceUnreachable) as caught:
        ONCE[call](client, film.as_uri())
    assert len(wire.asked) == 1
    assert ("is not known" in str(caught.value)) == (trouble is line.dropped)


@SQLITE
def test_a_service_that_asks_for_time_gets_it_within_reason(
    client: Client, wire: Line, naps: list[float]
) -> None:
    wire.troubles = [line.answers(503, retry_after="9")]
    client.queues()
    assert naps == [9.0]
    wire.troubles = [line.answers(429, retry_after="3600")]
    with pytest.raises(ServiceUnreachable) as caught:
        client.queues()
    assert caught.value.after == 3600
    assert naps == [9.0]


@SQLITE
def test_reasons_why_a_service_is_not_ready_are_no_error(
    client: Client, settings: Settings, wire: Line
) -> None:
    assert client.health() == ()
    body = b'{"errors": [{"message": "the disk is full"}, {"message": "no schema"}]}'
    wire.troubles = [line.problem(503, body)]
    assert client.health() == ("the disk is full", "no schema")
    wire.troubles = [line.refused]
    with pytest.raises(ServiceUnreachable):
        client.health()


# Tokens and addresses -------------------------------------------------------


def test_a_token_opens_what_its_role_may_do(board: Board, settings: Settings) -> None:
    settings = unlimited(settings)
    auth = replace(settings.auth, required=True)
    wire = Line(make_app(replace(settings, auth=auth)))
    secret = board.do(tokens.create, "look", "viewer", "tester")[1]
    board.submit()
    with Client(URL, transport=wire) as stranger:
        with pytest.raises(NotAllowed, match="--token-file"):
            stranger.job(1)
        assert stranger.health() == ()
    with Client(URL, "bo_wrong", transport=wire) as liar, pytest.raises(NotAllowed):
        liar.job(1)
    with Client(URL, secret, transport=wire) as viewer:
        assert viewer.job(1).id == 1
        with pytest.raises(NotAllowed, match="operator"):
            viewer.cancel(1)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://backoffice.example.org", False),
        ("http://10.0.0.1:8080/", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org", False),
        ("https://backoffice.example.org/app", True),
        ("http://127.9.9.9:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost", True),
        ("http+unix:///run/backoffice/socket", True),
    ],
)
def test_a_token_goes_over_no_network_in_the_clear(url: str, sent: bool) -> None:
    if sent:
        Client(url, "secret").close()
        return
    with pytest.raises(Invalid, match="https") as caught:
        Client(url, "secret")
    assert "secret" not in str(caught.value)
    Client(url).close()
    Client(url, "secret", insecure=True).close()


@pytest.mark.parametrize("token", ["a b", "a\n", "ä", "a\r\nX-Remote-User: root"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(Invalid, match="token"):
        Client(URL, token)


@pytest.mark.parametrize(
    "url",
    [
        "",
        *"localhost:8080 ftp://localhost http:// http+unix://run/socket".split(),
        "https://user:pass@host",
        "http://host/?a=b",
        "http://host/#x",
        "http://a\nb/",
    ],
)
def test_what_is_no_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        Client(url)
    assert "pass@" not in str(caught.value)


@SQLITE
def test_a_link_to_another_host_is_not_followed(client: Client, wire: Line) -> None:
    wire.troubles = [
        line.answers(200, b'{"jobs": []}', link='<http://evil.example/jobs>; rel="next"')
    ]
    with pytest.raises(ServiceFault, match="links to another"):
        list(client.jobs())
    assert len(wire.asked) == 1


def test_no_proxy_is_asked_for_what_is_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens here
        proxy.settimeout(0)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        client = Client(url, "secret", timeout=2, sleep=lambda seconds: None)
        with client, pytest.raises(ServiceUnreachable, match="refused"):
            client.queues()
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize("kind", ["port", "socket", "mounted"])
def test_over_a_real_line(
    board: Board,
    settings: Settings,
    film: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    app = make_app(unlimited(settings))

    def mounted(environ: dict[str, Any], start_response: Any) -> Any:
        assert environ["PATH_INFO"].startswith("/app/")
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/app", environ["PATH_INFO"][4:]
        return app(environ, start_response)

    bind = tmp_path / "s" if kind == "socket" else ("127.0.0.1", 0)
    with serve(mounted if kind == "mounted" else app, bind, threads=2) as server:
        address = server.address
        if isinstance(address, Path):
            url = f"http+unix://{address}"
        else:
            url = f"http://127.0.0.1:{address[1]}" + ("/app" if kind == "mounted" else "")
        with Client(url) as client:
            for _ in range(3):
                job = client.submit("transcode", [("source", film.as_uri())])
            monkeypatch.setattr(clients, "PAGE", 2)
            assert [one.id for one in client.jobs()] == [3, 2, 1]
            client.download(job.inputs[0].file, tmp_path / "b.mp4")
            client.cancel(job.id)
            assert [one.state for one in client.follow(job.id)] == ["cancelled"]
    assert (tmp_path / "b.mp4").read_bytes() == film.read_bytes()


def test_the_client_needs_nothing_of_the_program_but_errors_and_states() -> None:
    modules = {name: path for name, path in test_layers.MODULES.items() if name[:6] == "client"}
    known = test_layers.MODULES
    needed = set().union(*(test_layers.inner_imports(path, known) for path in modules.values()))
    assert {n for n in needed if not n.startswith("client")} <= {"errors", "states"}
    outer = {n.split(".")[0] for path in modules.values() for n in test_layers.imports(path, known)}
    assert {"storm", "lxml", "webob", "cherrypy"}.isdisjoint(outer)
