"""Jobs as pages: what an operator sees of them, and does with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from storm.locals import Store

from backoffice.config import loading
from backoffice.config.settings import Settings
from backoffice.engine import bulk_actions, jobs
from backoffice.reports import records
from backoffice.tasks import Published
from backoffice.web.app import make_app
from backoffice.web.pages import actions as action_pages
from tests.board import Board, chain, made_file
from tests.web.reader import EVIL, LONG, Reader, words
from tests.web.visitor import Visitor

ODD = ["<b>bold</b> & \"'", "\u05e9\u05dc\u05d5\u05dd \u202eabc", "🎬👩‍👩‍👧", EVIL]
Media = Callable[..., Path]


@pytest.fixture
def reader(visitor: Visitor) -> Reader:
    return Reader(visitor)


def failed(board: Board, message: str = "no space left", **request: str) -> int:
    job = board.submit(**request)
    board.run(board.worker(), fail={"one": message})
    return job


# The list -------------------------------------------------------------------


def test_an_empty_list_says_what_to_do(reader: Reader) -> None:
    page = reader.open("/jobs")
    assert "There are no jobs yet. Submit one" in page.text()
    assert not page.root.xpath("//table")


def test_a_list_shows_what_each_job_is_about(board: Board, reader: Reader) -> None:
    failed(board, title="Episode 1")
    board.submit(title="Episode 2", submitter="alice", priority=7)
    page = reader.open("/jobs")
    second, first = page.all("//tbody/tr")
    assert second.startswith("2 ○ queued Episode 2 chain 0 % 7 alice")
    assert "✗ failed Episode 1 one failed: no space left" in first
    assert page.root.xpath("//tbody/tr/th/a/@href") == ["/jobs/2", "/jobs/1"]
    assert "2 jobs, newest first" in page.text()


@pytest.mark.parametrize("title", ODD)
def test_odd_titles_are_text(board: Board, reader: Reader, title: str) -> None:
    job = board.submit(title=title, metadata={title: title})
    assert reader.open("/jobs").all("//tbody/tr/td/bdi")[0] == " ".join(title.split())
    page = reader.open(f"/jobs/{job}")
    assert page.all("//h1/bdi") == [" ".join(title.split())]
    assert not page.root.xpath("//main//script | //main//b")


def test_the_longest_texts_are_shown_whole(board: Board, reader: Reader) -> None:
    job = board.submit(title="T" * 500, metadata={"n" * 128: LONG}, submitter="s" * 255)
    assert "T" * 500 in reader.open("/jobs").text("//tbody")
    page = reader.open(f"/jobs/{job}")
    assert f"{'n' * 128} {LONG}" in page.text()


def test_a_long_message_is_cut_in_the_list_and_whole_with_the_job(
    board: Board, reader: Reader
) -> None:
    job = failed(board, EVIL + LONG)
    (shown,) = reader.open("/jobs").all("//tbody//div[@class='tiny']")
    assert len(shown) < 400
    assert shown.endswith("…")
    assert f"{EVIL}{LONG[:1000]}" in reader.open(f"/jobs/{job}").text("//p[@class='error']")


def test_control_characters_are_shown(board: Board, reader: Reader) -> None:
    job = failed(board, "a\x1b[31mred\x07 \u202eb\u200b")
    assert "a␛[31mred␇ ⟨U+202E⟩b⟨U+200B⟩" in reader.open(f"/jobs/{job}").text()


def test_pages_lead_to_older_jobs_and_back_to_the_newest(board: Board, reader: Reader) -> None:
    for number in range(5):
        board.submit(title=f"Job {number}")
    first = reader.open("/jobs?limit=2&state=queued")
    assert "5 jobs match" in first.text()
    older = first.root.xpath("//nav[@class='pager']/a")
    assert [one.text for one in older] == ["Older"]
    second = reader.open(older[0].get("href"))
    assert second.all("//tbody/tr/th") == ["3", "2"]
    assert second.all("//nav[@class='pager']/a") == ["Newest", "Older"]
    newest = second.root.xpath("//nav[@class='pager']/a/@href")[0]
    assert newest == "/jobs?limit=2&state=queued"


def test_a_page_does_not_hold_more_than_can_be_read(reader: Reader, visitor: Visitor) -> None:
    assert "at most 500 jobs" in words(reader.open("/jobs?limit=501", 400).root)
    assert visitor.get("/jobs.xml?limit=501", HTTP_ACCEPT="text/html").status == 200


def test_an_old_cursor_still_leads_somewhere(board: Board, reader: Reader) -> None:
    for _ in range(3):
        board.submit()
    older = reader.open("/jobs?limit=1").root.xpath("//nav/a[@rel='next']/@href")[0]
    board.do(lambda store: store.execute("DELETE FROM job WHERE id IN (1, 2, 3)"))
    page = reader.open(older)
    assert "There are no older jobs. Back to the newest" in page.text()


def test_more_jobs_than_are_counted_are_said_to_be_more(
    board: Board, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "COUNTED", 3)
    for _ in range(5):
        board.submit()
    assert "more than 3 jobs match" in reader.open("/jobs?limit=2&state=queued").text()


def test_what_would_be_long_to_count_is_not_counted(board: Board, reader: Reader) -> None:
    for _ in range(5):
        board.submit(title="Episode")
    for query in ("q=episode", "state=queued&submitter=tester"):
        first = reader.open(f"/jobs?{query}&limit=2")
        assert "more than 2 jobs match" in first.text()
        older = first.root.xpath("//a[@rel='next']/@href")[0]
        last = reader.open(older.replace("limit=2", "limit=9"))
        assert "more than 3 jobs match" in last.text()
        assert "5 jobs match" in reader.open(f"/jobs?{query}").text()


# The filter -----------------------------------------------------------------


def test_what_is_typed_leads_to_the_address_that_means_it(board: Board, reader: Reader) -> None:
    failed(board, title="Broken clip")
    board.submit(title="Broken too")
    page = reader.press(reader.open("/jobs"), "Find", ("filter", "state:failed since:2d brok"))
    assert page.path == "/jobs?state=failed&q=brok&submitted-after=2d"
    assert page.all("//tbody/tr/th") == ["1"]
    assert page.root.xpath("//input[@name='filter']/@value") == ["state:failed since:2d brok"]
    assert page.root.xpath("//input[@name='state'][@checked]/@value") == ["failed"]
    assert page.root.xpath("//input[@name='submitted-after'][not(@type)]/@value") == ["2d"]


def test_the_fields_say_the_same_as_the_box(board: Board, reader: Reader) -> None:
    board.submit(title="Broken", submitter="Anna B.")
    form = reader.open("/jobs").root.xpath("//form[@action='/jobs']")[0]
    assert {one.get("name") for one in form.xpath(".//input | .//select")} == set(
        action_pages.FILTERS
    )
    page = reader.open("/jobs?state=queued&state=paused&workflow=&submitter=Anna+B.&q=")
    assert page.root.xpath("//input[@name='filter']/@value") == ['state:queued,paused by:"Anna B."']


def test_a_bad_word_is_named_and_what_was_typed_is_kept(reader: Reader) -> None:
    page = reader.open("/jobs/find?filter=colour:red+x", 400)
    assert "there is no colour: to filter by; there are state:" in page.text("//*[@id='fault']")
    assert page.root.xpath("//input[@name='filter']/@value") == ["colour:red x"]
    assert not page.root.xpath("//table | //button[@name='name']")


def test_a_script_gets_a_problem_for_a_bad_word(visitor: Visitor) -> None:
    answer = visitor.get("/jobs/find?filter=colour:red", HTTP_ACCEPT="application/json")
    assert (answer.status, "colour:" in answer.text) == (400, True)


def test_a_filter_that_nothing_matches_says_so(board: Board, reader: Reader) -> None:
    board.submit()
    page = reader.open("/jobs?submitter=nobody")
    assert "No job matches this filter." in page.text()


# Many jobs at once ----------------------------------------------------------


def test_ticked_jobs_are_acted_on_once_it_has_been_shown_what_would_be_done(
    board: Board, reader: Reader, visitor: Visitor
) -> None:
    queued, other, broken = board.submit(), board.submit(), board.submit()
    board.do(jobs.cancel, broken, "bob")
    ticked = [("job", str(one)) for one in (queued, broken)]
    preview = reader.press(reader.open("/jobs"), "Cancel…", *ticked)
    text = preview.text()
    assert "at the moment you press" not in text
    assert "Nothing has been done yet. Of 2 jobs, it is possible for 1 job." in text
    assert "Job 3 is cancelled; cancel is possible when it is queued or running or paused" in text
    assert "To undo it: Retry" in text
    assert visitor.json(f"/jobs/{queued}")["state"] == "queued"
    done = reader.press(preview, "Cancel 1 job")
    assert "1 job was told to stop. To undo it: Retry" in done.text()
    assert visitor.json(f"/jobs/{queued}")["state"] == "cancelled"
    assert visitor.json(f"/jobs/{other}")["state"] == "queued"
    again = reader.open(done.path)
    assert again.text() == done.text()
    assert len([e for e in _events(board) if e["action"] == "job.cancel-requested"]) == 2


def _events(board: Board) -> list[dict[str, str]]:
    found: list[dict[str, str]] = board.read(records.events, after=0, limit=1000)
    return found


def test_everything_that_matches_is_acted_on(
    board: Board, reader: Reader, visitor: Visitor
) -> None:
    mine = [board.submit(submitter="me") for _ in range(3)]
    other = board.submit(submitter="you")
    page = reader.open("/jobs?submitter=me&limit=1&submitted-after=1h")
    preview = reader.press(page, "Pause…", ("all", "true"))
    assert "possible for 3 jobs" in preview.text()
    assert "Jobs that match at the moment you press the button" in preview.text()
    done = reader.press(preview, "Pause 3 jobs")
    assert "3 jobs were paused" in done.text()
    states = {one: visitor.json(f"/jobs/{one}")["state"] for one in (*mine, other)}
    assert states == {**dict.fromkeys(mine, "paused"), other: "queued"}
    back = done.root.xpath("//a[text()='Back to the jobs']/@href")[0]
    assert reader.open(back).all("//tbody/tr/th") == [str(one) for one in mine[::-1]]


def test_a_priority_is_asked_for_before_it_is_set(
    board: Board, reader: Reader, visitor: Visitor
) -> None:
    job = board.submit()
    preview = reader.press(reader.open("/jobs"), "Priority…", ("job", str(job)))
    reader.press(preview, "Priority 1 job", ("value", "3"))
    assert visitor.json(f"/jobs/{job}")["priority"] == 3


def test_those_that_are_refused_are_named_with_how_they_are_now(
    board: Board, reader: Reader
) -> None:
    first, second = board.submit(), board.submit()
    preview = reader.press(
        reader.open("/jobs"), "Pause…", ("job", str(first)), ("job", str(second))
    )
    board.do(jobs.cancel, first, "bob")  # somebody else, meanwhile
    done = reader.press(preview, "Pause 2 jobs")
    assert "1 job was paused" in done.text()
    assert f"Job {first} is cancelled; pause is possible when" in done.text()


def test_nothing_ticked_is_told(board: Board, reader: Reader) -> None:
    board.submit()
    page = reader.press(reader.open("/jobs"), "Retry…")
    assert page.status == 422
    assert "no job is ticked" in page.root.text_content()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("job=1&name=nothing", 400),
        ("job=x&name=cancel", 400),
        ("job=1&name=cancel&what=1", 400),
        ("job=1", 422),
        ("name=cancel", 422),
        ("name=cancel&all=true", 422),
        ("name=cancel&all=true&state=broken", 400),
        ("job=1&name=priority", 422),
        ("job=1&name=priority&value=101", 400),
        ("job=1&name=cancel&name=retry", 400),
    ],
)
def test_a_bad_form_changes_nothing(board: Board, visitor: Visitor, body: str, status: int) -> None:
    board.submit()
    answer = visitor.post("/jobs/actions", body, "application/x-www-form-urlencoded")
    assert answer.status == status, answer.text
    assert visitor.json("/jobs/1")["state"] == "queued"


def test_a_result_needs_to_be_of_something(reader: Reader, visitor: Visitor) -> None:
    assert visitor.get("/jobs/actions").status == 400
    page = reader.open("/jobs/actions?name=retry&done=0&refused=99")
    assert "0 jobs were set going again" in page.text()
    assert "there is no job 99" in page.text()


# One job --------------------------------------------------------------------


def test_a_job_says_how_it_is_and_why(board: Board, reader: Reader) -> None:
    job = board.submit(title="T", submitter="alice", parameters={"colour": "red"})
    page = reader.open(f"/jobs/{job}")
    text = page.text()
    assert "task one is ready, but no worker is active: start one" in text
    assert "by alice" in text
    assert "colour red" in text
    assert page.root.xpath("//section[@data-running]")
    assert "No task has run a command yet." in text
    assert "This job has published nothing yet." in text


def test_its_plan_leads_to_its_tasks(board: Board, reader: Reader) -> None:
    job = board.submit(chain("one", "two"))
    page = reader.open(f"/jobs/{job}")
    assert page.root.xpath("//*[local-name()='svg'][@class='dag']//a/@href") == [
        "/tasks/1",
        "/tasks/2",
    ]
    assert page.all("//section[@id='tasks']//tbody/tr/th") == ["one", "two"]


def test_its_time_line_shows_each_attempt(board: Board, reader: Reader) -> None:
    job = failed(board)
    board.do(jobs.retry, job, "alice")
    board.run(board.worker())
    page = reader.open(f"/jobs/{job}")
    kinds = page.root.xpath("//*[local-name()='svg'][@class='gantt']//rect/@class")
    assert [one for one in kinds if one != "bar waiting"] == [
        "bar failed",
        "bar succeeded",
        "bar succeeded",
    ]
    assert page.all("//section[@id='tasks']//tbody/tr[1]/td[last()]")[0].count("succeeded") == 1


def test_its_time_line_shows_how_long_a_task_waited(board: Board, reader: Reader) -> None:
    job = board.submit(chain("one"))
    board.run(board.worker())
    now = board.clock()

    def earlier(store: Store) -> None:
        ages = {"submitted": 60, "ready_at": 30, "started": 20}
        then = {name: now - timedelta(minutes=minutes) for name, minutes in ages.items()}
        store.execute("UPDATE job SET submitted = ?", (then["submitted"],))
        store.execute("UPDATE task SET ready_at = ?", (then["ready_at"],))
        store.execute("UPDATE attempt SET started = ?, finished = ?", (then["started"], now))

    board.do(earlier)
    titles = reader.open(f"/jobs/{job}").root.xpath("//*[@class='gantt']//rect/title")
    assert [one.text.partition(" on ")[0] for one in titles] == [
        "waited 10 min",
        "attempt 1, succeeded, 20 min",
    ]


def test_commands_can_be_copied_a_line_each(board: Board, reader: Reader) -> None:
    job = board.submit(chain("one"))
    (claimed,) = board.claim(board.worker())
    board.finish(claimed.claim, commands=(("ffmpeg", "-i", "a b.mp4"), ("ls", "-l")))
    page = reader.open(f"/jobs/{job}")
    assert page.root.xpath("//pre[@id='argv-1']")[0].text == "ffmpeg -i 'a b.mp4'\nls -l"
    assert page.root.xpath("//button/@data-copy") == ["#argv-1"]


def test_what_came_of_it_can_be_seen_and_taken_back(board: Board, reader: Reader) -> None:
    job = board.submit(chain("one"))
    (claimed,) = board.claim(board.worker())
    made = [
        made_file(f"file:///x/{name}", name, role, kind, tree, 9, "a" * 64, {})
        for name, role, kind, tree in (
            ("still <1>.jpg", "thumbnail", "image/jpeg", False),
            ("master.m3u8", "hls", "application/vnd.apple.mpegurl", True),
        )
    ]
    published = Published(2, "site", "a/<b>.m3u8", "http://x/a", True, "a" * 64, 9)
    board.finish(claimed.claim, outputs=made, published=[published])
    page = reader.open(f"/jobs/{job}")
    assert page.root.xpath("//video/@data-hls") == ["/files/2/content"]
    assert page.root.xpath("//figure//a/@href") == ["/files/2/content"]
    assert page.root.xpath("//ul[@class='stills']//img/@src") == ["/files/1/content"]
    assert all(page.root.xpath("//img/@alt"))
    rows = page.all("//section[@id='outputs']//tbody/tr")
    assert rows[0] == "still <1>.jpg output thumbnail one image/jpeg 9 B"
    text = page.text("//section[@id='publications']")
    assert "published site a/<b>.m3u8" in text
    assert "removes a/<b>.m3u8 from target site" in text
    assert reader.press(page, "Retract publication 1").path == f"/jobs/{job + 1}"


def test_its_history_tells_who_did_what(board: Board, reader: Reader) -> None:
    job = board.submit(submitter="alice")
    board.do(jobs.pause, job, "<b>bob</b>")
    rows = reader.open(f"/jobs/{job}").all("//section[@id='history']//tbody/tr")
    assert "<b>bob</b> job.paused job 1" in rows[0]
    assert "alice job.submitted job 1" in rows[-1]


@pytest.mark.parametrize(
    ("move", "offered"),
    [
        (None, ["pause", "cancel", "priority", "clone"]),
        (jobs.pause, ["resume", "cancel", "priority", "clone"]),
        (jobs.cancel, ["retry", "clone"]),
    ],
)
def test_only_what_is_possible_is_offered(
    board: Board, reader: Reader, move: Callable[..., None] | None, offered: list[str]
) -> None:
    job = board.submit()
    if move:
        board.do(move, job, "alice")
    page = reader.open(f"/jobs/{job}")
    ids = page.root.xpath("//details[starts-with(@id, 'action-')]/@id")
    assert [one.removeprefix("action-") for one in ids] == offered
    for one in page.all("//details[starts-with(@id, 'action-')]"):
        assert "To undo it:" in one


def test_a_button_does_what_it_says_and_leads_back(
    board: Board, reader: Reader, visitor: Visitor
) -> None:
    job = board.submit()
    page = reader.press(reader.open(f"/jobs/{job}"), f"Pause job {job}")
    assert (page.path, page.all("//h1")) == (f"/jobs/{job}", [f"Job {job}: Chain"])
    page = reader.press(page, f"Priority job {job}", ("value", "9"))
    page = reader.press(page, f"Resume job {job}")
    assert visitor.json(f"/jobs/{job}")["state"] == "queued"
    assert visitor.json(f"/jobs/{job}")["priority"] == 9


def test_a_clone_leads_to_the_new_job(
    board: Board, reader: Reader, visitor: Visitor, media: Media
) -> None:
    body = (
        '<job xmlns="urn:backoffice:1" workflow="transcode">'
        f'<input role="source" href="{media().as_uri()}"/></job>'
    )
    visitor.post("/jobs", body)
    assert reader.press(reader.open("/jobs/1"), "Clone job 1").path == "/jobs/2"


def test_two_who_act_at_once_learn_how_it_is_now(board: Board, reader: Reader) -> None:
    job = board.submit()
    page = reader.open(f"/jobs/{job}")
    board.do(jobs.cancel, job, "somebody else")
    late = reader.press(page, f"Pause job {job}")
    assert late.status == 409
    text = " ".join(late.root.text_content().split())
    assert f"job {job} is cancelled; pause is possible when it is queued or running" in text
    assert f"/jobs/{job}" in late.root.xpath("//a/@href")


def test_a_job_that_vanished_is_explained(board: Board, reader: Reader) -> None:
    job = board.submit()
    board.do(lambda store: store.execute("DELETE FROM job"))
    page = reader.open(f"/jobs/{job}", 404)
    assert f"there is no job {job}" in page.root.text_content()


def test_its_message_and_the_retry_of_a_failed_job(board: Board, reader: Reader) -> None:
    job = failed(board, "no space left")
    page = reader.open(f"/jobs/{job}")
    assert "one failed: no space left" in page.text("//p[@class='error']")
    assert reader.press(page, f"Retry job {job}").path == f"/jobs/{job}"


# Who may ----------------------------------------------------------------


def test_who_may_only_look_is_offered_nothing_to_do(board: Board, settings: Settings) -> None:
    environ = {
        "BACKOFFICE_DATABASE_URI": settings.database.uri,
        "BACKOFFICE_PATHS_HOME": str(settings.paths.home),
        "BACKOFFICE_PATHS_ROOTS": "media",
        "BACKOFFICE_AUTH_REQUIRED": "yes",
        "BACKOFFICE_AUTH_VIEWERS": "vera",
    }
    reader = Reader(Visitor(make_app(loading.load(None, environ))))
    job = board.submit()
    for path in ("/jobs", "/jobs?state=queued", f"/jobs/{job}", "/tasks/1"):
        page = reader.open(path, HTTP_X_REMOTE_USER="vera")
        assert not page.root.xpath("//main//form[@method='post']//button")
        assert not page.root.xpath("//main//input[@type='checkbox'][@name='job']")
