"""Alerts: what is told, to whom, how often, and that none is lost or told twice."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from backoffice.cli import main
from backoffice.config import addresses, webhook_keys
from backoffice.config.converters import Floor
from backoffice.config.names import ALERT_KINDS
from backoffice.config.settings import Alert, NotifySettings
from backoffice.data import events
from backoffice.data.alert_states import AlertState
from backoffice.engine import jobs, worker_registry
from backoffice.engine.workflows import TaskSpec
from backoffice.reports.alert_events import AlertEvent
from backoffice.scheduler import alert_channels, alerts, disk_alerts, scheduler
from backoffice.scheduler.alert_channels import Notice, NoticeItem
from backoffice.scheduler.alerts import AlertDispatcher
from backoffice.scheduler.notices import PendingEvents
from backoffice.states import FAILED, Reason
from backoffice.system import logs
from backoffice.system.disk_space import Disk, Disks, Room
from tests.board import Board, chain, recipe
from tests.crowd import together
from tests.receivers import KEY, Hook, Post, serving, signing_key

EVERY = timedelta(minutes=5)
# For what is decided without the database's help.
on_sqlite = pytest.mark.parametrize("database_uri", ["sqlite"], indirect=True)
MOMENT = datetime(2026, 11, 21, 10, 0, 0)
NASTY = 'É <!channel> & <a href="x"> ``` @all\r\nBcc: evil@example.org\u202e'


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving(Hook()) as server:
        yield server


@pytest.fixture
def post() -> Iterator[Post]:
    with serving(Post(refuses="nobody@", password="hush")) as server:
        yield server


def an_alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "name": "ops",
        "type": "webhook",
        "url": "",
        "secret": (),
        "every": EVERY,
        "on": ALERT_KINDS,
        "workflow": "*",
        "smtp": ("127.0.0.1", 1),
        "tls": "none",
        "to": ("ops@example.org",),
        "sender": "bo@example.org",
        "user": "",
        "password": "",
    }
    return Alert(**values | changes)


class Ops:
    """A board, an alert about it, and a clock that only goes on when told to."""

    def __init__(self, board: Board, hook: Hook) -> None:
        self.board = board
        self.hook = hook
        self.now = board.clock()
        self.worker = board.worker(host="enc1")
        web = replace(board.settings.web, url="https://bo.example.org")
        notify = replace(board.settings.notify, secret=webhook_keys.keys(KEY), timeout=5.0)
        self.settings = replace(board.settings, web=web, notify=notify)
        self.dispatcher = self.another()

    def another(self, **changes: Any) -> AlertDispatcher:
        alert = an_alert(**{"url": self.hook.url} | changes)
        return AlertDispatcher(alert, self.board.database, self.settings)

    def fail(self, title: str = "", message: str = "no such codec", **workflow: str) -> int:
        """A job that fails; its id."""
        job = self.board.submit(chain("one", **workflow), title=title)
        self.board.run(self.worker, fail={"one": message})
        return job

    def go(self, by: timedelta) -> None:
        self.now += by
        self.dispatcher.run()

    def append(self, *happened: events.Event) -> None:
        self.board.do(lambda store: events.append(store, self.board.clock(), *happened))

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.hook.heard]

    @property
    def headlines(self) -> list[str]:
        return [one["data"]["headline"] for one in self.told]

    def history(self, action: str) -> list[str]:
        rows = self.board.read(
            lambda s: s.execute("SELECT detail FROM event WHERE action = ?", (action,)).get_all()
        )
        return [detail for (detail,) in rows]


@pytest.fixture
def ops(board: Board, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Ops:
    ops = Ops(board, hook)
    monkeypatch.setattr(alerts, "clock", lambda store: ops.now)
    ops.dispatcher.run()
    return ops


# What is told ---------------------------------------------------------------


def test_a_failed_job_is_told_with_what_why_where_and_when(ops: Ops) -> None:
    job = ops.fail("Episode 1")
    ops.dispatcher.run()
    (told,) = ops.told
    (item,) = told["data"]["items"]
    assert (told["type"], told["data"]["headline"]) == ("job.failed", f"Job {job} failed")
    assert (item["job"], item["title"], item["workflow"]) == (job, "Episode 1", "chain")
    assert (item["why"], item["host"]) == ("one failed: no such codec", "enc1")
    assert item["href"] == f"https://bo.example.org/jobs/{job}"
    text = told["data"]["text"].splitlines()
    assert text[:4] == [
        f"Job {job} failed",
        f"job   {job}, Episode 1 (chain)",
        "why   one failed: no such codec",
        "host  enc1",
    ]
    assert text[5] == f"page  https://bo.example.org/jobs/{job}"


def test_what_was_told_is_not_told_again(ops: Ops) -> None:
    ops.fail()
    for _ in range(3):
        ops.go(EVERY)
    assert len(ops.told) == 1
    assert ops.history("alert.sent") == [
        f"job.failed to webhook at {place(ops.hook)}: Job 1 failed"
    ]


def place(hook: Hook) -> str:
    return f"http://127.0.0.1:{hook.server_address[1]}/…"


def test_what_happened_before_the_first_start_is_not_told(ops: Ops) -> None:
    ops.fail()
    late = ops.another(name="late")
    late.run()
    ops.fail()
    late.run()
    assert ops.headlines == ["Job 2 failed"]


@pytest.mark.parametrize("reason", [Reason.STALLED, Reason.TIMED_OUT])
def test_a_stalled_task_is_told_though_it_is_tried_again(ops: Ops, reason: Reason) -> None:
    message = "said in other words"
    ops.board.submit(chain("encode", attempts=3))
    (one,) = ops.board.claim(ops.worker)
    ops.board.finish(one.claim, FAILED, message, reason=reason)
    ops.dispatcher.run()
    assert ops.headlines == [f"Task {one.claim.task_id} stalled"]
    (item,) = ops.told[0]["data"]["items"]
    assert (item["href"], item["host"]) == (f"https://bo.example.org/tasks/{item['task']}", "enc1")
    assert message in item["why"]


def test_the_host_is_the_one_where_it_happened_then(ops: Ops) -> None:
    job = ops.fail()
    ops.board.do(jobs.retry, job, "tester")
    ops.board.run(ops.board.worker(host="enc2"), fail={"one": "no"})
    ops.dispatcher.run()
    assert [item["host"] for item in ops.told[0]["data"]["items"]] == ["enc1", "enc2"]


@on_sqlite
def test_a_task_that_failed_for_another_reason_has_not_stalled(ops: Ops) -> None:
    ops.fail(message="stalled: no progress for 60 s")  # only words
    ops.dispatcher.run()
    assert [one["type"] for one in ops.told] == ["job.failed"]


def test_a_lost_worker_is_told_with_its_host(ops: Ops) -> None:
    ops.board.do(worker_registry.mark_lost, ops.board.read(worker_registry.living), ops.now)
    ops.dispatcher.run()
    assert ops.headlines == [f"Worker {ops.worker} is lost"]
    (item,) = ops.told[0]["data"]["items"]
    assert item["host"] == "enc1"
    assert item["why"].startswith("process 7 on enc1 sent no heartbeat for 60 s")


def test_a_refused_publication_is_told_beside_its_job(ops: Ops) -> None:
    ops.board.submit(recipe(TaskSpec(name="publish", type="publish", parameters={"target": "x"})))
    ops.board.run(ops.worker, fail={"publish": "already there with other content"})
    ops.dispatcher.run()
    assert sorted(ops.headlines) == ["Job 1 failed", "Task 1 could not publish"]


@on_sqlite
def test_only_what_is_wanted_is_told(ops: Ops) -> None:
    ops.dispatcher = ops.another(name="lost", on=("worker.lost",))
    ops.dispatcher.run()
    ops.fail()
    ops.go(EVERY)
    assert ops.told == []


def test_only_jobs_of_the_workflows_wanted_are_told(ops: Ops) -> None:
    ops.dispatcher = ops.another(name="web", workflow="web-*")
    ops.dispatcher.run()
    ops.fail()
    wanted = ops.board.submit(chain("one", name="web-video"))
    ops.board.run(ops.worker, fail={"one": "no"})
    ops.append(events.Event("worker.lost", f"worker {ops.worker}"))
    ops.go(EVERY)
    assert sorted(ops.headlines) == [f"Job {wanted} failed", f"Worker {ops.worker} is lost"]


def test_a_job_that_is_gone_is_not_told(ops: Ops) -> None:
    ops.append(events.of_job("failed", 4711, detail="no"))
    ops.dispatcher.run()
    assert ops.told == []


# How often ------------------------------------------------------------------


def test_a_burst_is_one_message_and_one_that_sums_up(ops: Ops) -> None:
    made = [ops.board.submit(chain("one")) for _ in range(10)]
    ops.append(events.of_job("failed", made[0], detail="no"))
    ops.dispatcher.run()
    ops.append(*[events.of_job("failed", made[n % 10], detail="no") for n in range(999)])
    for _ in range(4):
        ops.go(EVERY / 5)
    assert len(ops.told) == 1
    for _ in range(20):
        ops.go(EVERY / 5)
    assert ops.headlines == [f"Job {made[0]} failed", "999 jobs failed"]
    data = ops.told[1]["data"]
    assert (data["count"], len(data["items"]), len(data["others"])) == (999, 20, 100)
    assert "and 996 more: jobs 4, 5, 6, 7, 8, 9, 10, 1, 2, 3\n" in data["text"]


@on_sqlite
def test_kinds_do_not_wait_for_each_other(ops: Ops) -> None:
    ops.fail()
    ops.dispatcher.run()
    ops.append(events.Event("worker.lost", f"worker {ops.worker}"))
    ops.dispatcher.run()
    assert [one["type"] for one in ops.told] == ["job.failed", "worker.lost"]


@on_sqlite
def test_a_clock_that_is_set_back_silences_nobody(ops: Ops) -> None:
    ops.fail()
    ops.dispatcher.run()
    ops.fail()
    ops.go(timedelta(hours=-2))
    assert len(ops.told) == 2


def test_events_that_are_none_of_its_own_are_not_looked_through_for_ever(ops: Ops) -> None:
    ops.append(*[events.Event("watch.refused", "watch in")] * (alerts.IDLE + 1))
    before = ops.board.read(cursors)
    ops.dispatcher.run()
    assert min(ops.board.read(cursors)) > max(before)
    ops.fail()
    ops.dispatcher.run()
    assert ops.headlines == ["Job 1 failed"]


def cursors(store: Any) -> list[int]:
    return [last for (last,) in store.execute("SELECT last_event FROM alert").get_all()]


# Once, and not lost ---------------------------------------------------------


def test_of_schedulers_that_look_together_one_tells(ops: Ops) -> None:
    for number in range(1, 4):
        ops.fail()
        ops.now += EVERY
        both = [ops.another() for _ in range(4)]
        together(ops.board.database, *[one.run for one in both])
        assert len(ops.told) == number


def test_of_schedulers_that_meet_a_new_alert_together_none_stumbles(ops: Ops) -> None:
    new = [ops.another(name="new") for _ in range(4)]
    together(ops.board.database, *[one.run for one in new])
    rows = ops.board.read(
        lambda s: s.execute("SELECT COUNT(*) FROM alert WHERE name = 'new'").get_one()
    )
    assert rows == (len(ALERT_KINDS),)


def test_a_restart_between_event_and_message_loses_nothing(ops: Ops) -> None:
    ops.fail()
    ops.dispatcher = ops.another()
    ops.dispatcher.run()
    assert ops.headlines == ["Job 1 failed"]


def test_what_a_scheduler_that_died_had_begun_to_send_is_sent_by_another(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> alert_channels.Sent:
        raise KeyboardInterrupt

    ops.fail()
    with monkeypatch.context() as patched:
        patched.setattr(alert_channels, "send", die)
        with pytest.raises(KeyboardInterrupt):
            ops.dispatcher.run()
    ops.dispatcher = ops.another()
    ops.go(ops.dispatcher.send_time - timedelta(seconds=1))
    assert ops.told == []
    ops.go(timedelta(seconds=1))
    assert ops.headlines == ["Job 1 failed"]


def test_who_lost_the_right_to_send_writes_nothing_down(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took so long that another has sent meanwhile."""

    def slow(*_: object) -> alert_channels.Sent:
        monkeypatch.undo()
        monkeypatch.setattr(alerts, "clock", lambda store: ops.now)
        ops.now += ops.dispatcher.send_time
        ops.another().run()
        return alert_channels.Sent(False, "no answer: timed out")

    ops.fail()
    monkeypatch.setattr(alert_channels, "send", slow)
    ops.dispatcher.run()
    assert ops.headlines == ["Job 1 failed"]
    assert ops.history("alert.failed") == []
    assert len(ops.history("alert.sent")) == 1


@on_sqlite
def test_a_reload_adds_changes_and_removes_alerts(board: Board, hook: Hook) -> None:
    running = scheduler.Scheduler(board.settings, board.database)

    def dispatchers(*alerts: Alert, url: str = "") -> dict[str, AlertDispatcher]:
        settings = replace(board.settings, web=replace(board.settings.web, url=url))
        running.reload(replace(settings, alerts={one.name: one for one in alerts}))
        return {dispatcher.alert.name: dispatcher for dispatcher in running.dispatchers}

    ops, web = (an_alert(name=name, url=hook.url) for name in ("ops", "web"))
    first = dispatchers(ops, web)
    second = dispatchers(ops, replace(web, workflow="web-*"), url="https://bo.example.org")
    assert second["ops"] is first["ops"]
    assert second["ops"].settings.web.url == "https://bo.example.org"
    assert second["web"].alert.workflow == "web-*"
    assert dispatchers() == {}


# Receivers in trouble -------------------------------------------------------


@on_sqlite
def test_a_message_that_was_refused_is_sent_again_as_it_was(ops: Ops) -> None:
    ops.hook.answers = [500]
    ops.fail()
    ops.dispatcher.run()
    assert ops.history("alert.failed") == [
        "job.failed: 500 Internal Server Error; it is tried again for a day"
    ]
    ops.dispatcher.run()
    assert len(ops.told) == 1
    ops.go(alerts.FIRST_PAUSE)
    first, second = ops.hook.heard
    assert first[1] == second[1]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert len(ops.history("alert.sent")) == 1


@on_sqlite
def test_a_receiver_that_does_not_speak_is_left_after_a_while(ops: Ops) -> None:
    ops.settings = replace(ops.settings, notify=replace(ops.settings.notify, timeout=0.2))
    ops.dispatcher = ops.another()
    ops.hook.speak.clear()
    ops.fail()
    ops.dispatcher.run()
    assert ops.history("alert.failed") == [
        "job.failed: no answer: it took too long; it is tried again for a day"
    ]


@on_sqlite
def test_a_redirection_is_not_followed(ops: Ops) -> None:
    ops.hook.answers = [307]
    ops.fail()
    ops.dispatcher.run()
    assert len(ops.told) == 1
    assert len(ops.history("alert.failed")) == 1


@on_sqlite
def test_a_dead_receiver_is_tried_for_a_day_ever_more_rarely_and_then_told_anew(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    ops.dispatcher = ops.another(on=("job.failed",))
    ops.fail()
    began = ops.now
    with monkeypatch.context() as patched:
        patched.setattr(
            alert_channels, "send", lambda *_: alert_channels.Sent(False, "no answer: gone")
        )
        while not ops.history("alert.failed")[1:]:
            assert ops.now - began < timedelta(days=2)
            ops.dispatcher.run()
            ops.now = due(ops)
            tries.append(ops.now)
    waits = [after - before for before, after in pairwise(tries)]
    assert waits[:3] == [timedelta(seconds=s) for s in (10, 20, 40)]
    assert max(waits) == alerts.LONGEST_PAUSE
    assert timedelta(days=1) <= ops.now - began < timedelta(days=1) + 2 * alerts.LONGEST_PAUSE
    _, last = ops.history("alert.failed")
    assert last == "job.failed: gave up 1 after a day: no answer: gone"
    ops.fail()
    ops.dispatcher.run()
    assert ops.headlines == ["Job 2 failed"]


def due(ops: Ops) -> datetime:
    row = ops.board.read(
        lambda s: s.execute("SELECT next_try FROM alert WHERE kind = 'job.failed'").get_one()
    )
    return datetime.fromisoformat(str(row[0]))


def test_giving_up_leaves_what_is_not_a_day_old() -> None:
    pending = PendingEvents(AlertState("job.failed", 0, MOMENT, None))
    for number, hours in enumerate((30, 25, 23, 1), 1):
        at = MOMENT - timedelta(hours=hours)
        event = AlertEvent(
            number, at, "job.failed", "job 1", 1, None, "", "", "", "", "chain", None
        )
        pending.add(event, MOMENT)
    assert (pending.count, pending.stale, pending.last_stale, pending.last) == (4, 2, 2, 4)


# Webhook, chat, mail --------------------------------------------------------


def a_notice(title: str = "", why: str = "no", count: int = 1, href: str = "") -> Notice:
    item = NoticeItem(
        "Job 4 failed", "job 4", MOMENT, why, 41, 4, None, title, "chain", "enc1", href
    )
    others = [f"job {number}" for number in range(5, 4 + count)]
    return Notice("alert-ops-1", "ops", "job.failed", "Job 4 failed", MOMENT, [item], count, others)


GENERAL, OWN = signing_key("general"), signing_key("own")


def send(alert: Alert, notice: Notice, timeout: float = 5) -> alert_channels.Sent:
    """With no host allowed to jobs: alerts are not asked about that."""
    notify = NotifySettings(webhook_keys.keys(GENERAL), addresses.parse(""), timeout)
    return alert_channels.send(alert, notice, notify)


@pytest.mark.parametrize(("own", "key"), [("", GENERAL), (OWN, OWN)])
def test_a_webhook_is_signed_with_its_own_keys_or_the_general_ones(
    hook: Hook, own: str, key: str
) -> None:
    alert = an_alert(url=hook.url, secret=webhook_keys.keys(own))
    assert send(alert, a_notice(NASTY)) == alert_channels.Sent(True, "204 No Content")
    ((headers, body),) = hook.heard
    told = Webhook(key).verify(body, headers)
    assert told["data"]["items"][0]["title"] == NASTY


@on_sqlite
def test_the_id_of_an_alert_has_no_full_stop_which_would_end_it(ops: Ops) -> None:
    ops.fail()
    ops.dispatcher.run()
    ((headers, body),) = ops.hook.heard
    assert "." not in headers["webhook-id"]
    Webhook(KEY).verify(body, headers)


@on_sqlite
def test_what_a_receiver_answers_is_neither_history_nor_log(
    ops: Ops, caplog: pytest.LogCaptureFixture
) -> None:
    ops.hook.answers, ops.hook.words = [500], "inside: the password is hush"
    ops.fail()
    with caplog.at_level("DEBUG"):
        ops.dispatcher.run()
    assert ops.history("alert.failed") == [
        "job.failed: 500 Internal Server Error; it is tried again for a day"
    ]
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("backoffice")]
    assert ours
    assert "hush" not in str(ours)
    assert "/hook/KEY" not in caplog.text  # nor do libraries tell it


def test_chat_gets_text_in_which_nothing_is_markup(hook: Hook) -> None:
    alert = an_alert(type="slack", url=hook.url)
    assert send(alert, a_notice(NASTY, href="https://x/jobs/4")).ok
    ((headers, body),) = hook.heard
    text = json.loads(body)["text"]
    assert text.startswith("*Job 4 failed*\n```\nJob 4 failed\njob   4, É &lt;!channel&gt; &amp; ")
    assert text.endswith("\n```\n<https://x/jobs/4>")
    assert text.count("```") == 2
    assert "<!channel>" not in text
    assert "webhook-signature" not in headers


def test_mail_says_in_its_subject_what_happened_and_nobody_can_add_a_header(post: Post) -> None:
    alert = an_alert(type="email", smtp=post.place, to=("ops@example.org", "boss@example.org"))
    assert send(alert, a_notice(NASTY)) == alert_channels.Sent(True, "accepted")
    ((to, mail),) = post.mail
    assert to == ["ops@example.org", "boss@example.org"]
    assert mail["Subject"].startswith("[Backoffice] Job 4 failed: É <!channel> &")
    assert mail.get_all("Bcc") is None
    assert (mail["From"], mail["To"]) == ("bo@example.org", "ops@example.org, boss@example.org")
    assert (mail["Message-ID"], mail["Auto-Submitted"]) == (
        "<alert-ops-1@example.org>",
        "auto-generated",
    )
    content = mail.get_content()
    assert "why   no\r\nhost  enc1\r\n" in content
    assert "\u202e" not in content  # or the rest would be read backwards


HEADERS = tuple(
    (
        "Subject From To Date Message-ID Auto-Submitted Content-Type"
        " Content-Transfer-Encoding MIME-Version"
    ).split()
)


@given(st.text(max_size=300), st.text(max_size=2000))
def test_any_title_and_message_can_be_told(title: str, why: str) -> None:
    notice, single = a_notice(title, why or "no", count=200), a_notice(title, why)
    mail = message_from_bytes(alert_channels._message(an_alert(), single).as_bytes())
    assert {name: len(mail.get_all(name, [])) for name in mail} == dict.fromkeys(HEADERS, 1)
    assert len(notice.text.splitlines()) == 9
    assert "and 199 more: jobs 5, 6, 7, " in notice.text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"to": ("nobody@example.org",)}, "refused for nobody@example.org (550)"),
        ({"user": "bo", "password": "guessed"}, "the mail server refuses (535)"),
        ({"tls": "starttls"}, "STARTTLS extension not supported by server."),
        ({"tls": "tls"}, "WRONG_VERSION_NUMBER"),
        ({"smtp": ("127.0.0.1", 1)}, "Connection refused"),
    ],
)
def test_mail_that_is_not_taken_says_why(post: Post, changes: dict[str, Any], text: str) -> None:
    sent = send(an_alert(**{"type": "email", "smtp": post.place} | changes), a_notice())
    assert not sent.ok
    assert text in sent.text
    assert "guessed" not in sent.text


def test_what_a_mail_server_answers_is_for_admins(post: Post) -> None:
    alert = an_alert(type="email", smtp=post.place, user="bo", password="guessed")
    sent = send(alert, a_notice())
    assert (sent.text, sent.said) == ("the mail server refuses (535)", "who are you?")


def test_mail_may_need_a_password_and_reaches_whom_it_can(post: Post) -> None:
    to = ("nobody@example.org", "ops@example.org")
    alert = an_alert(type="email", smtp=post.place, to=to, user="bo", password="hush")
    sent = send(alert, a_notice())
    expected = "accepted, but not for nobody@example.org (550)"
    assert sent == alert_channels.Sent(True, expected, "nobody here")
    assert post.mail[0][0] == ["ops@example.org"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -keyout {path} -out {path}.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    with open(path, "a") as stream:
        stream.write(Path(f"{path}.crt").read_text())
    return path


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_mail_goes_over_tls_to_a_server_that_can_be_trusted(
    tls: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(Post(password="hush", context=context, starts=tls == "starttls")) as post:
        place = {"smtp": ("localhost", post.place[1]), "tls": tls}
        alert = an_alert(type="email", user="bo", password="hush", **place)
        doubtful = send(alert, a_notice())
        assert (doubtful.ok, "certificate verify failed" in doubtful.text) == (False, True)
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert send(alert, a_notice()) == alert_channels.Sent(True, "accepted")
        assert not send(replace(alert, tls="none"), a_notice(), 0.5).ok
        assert len(post.mail) == 1


def test_secrets_do_not_show_in_what_is_said_of_a_receiver() -> None:
    alert = an_alert(url="https://user:hush@chat.example.org:8443/hooks/KEY?token=hush")
    assert alert_channels.receiver(alert) == "webhook at https://chat.example.org:8443/…"
    assert "hush" not in repr(alert)


# The test command -----------------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Path:
    ini = tmp_path / "backoffice.ini"
    ini.write_text(f"[alert ops]\ntype = slack\nurl = {hook.url}\n")
    ini.chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "setup", lambda settings: None)
    return ini


def test_an_alert_can_be_tried(
    configured: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.answers = [200, 404]
    argv = ["--config", str(configured), "alert", "test", "ops"]
    assert main.main(argv) == 0
    assert capsys.readouterr().out == f"sent to slack at {place(hook)}: 200 OK\n"
    assert b"This is a test" in hook.heard[0][1]
    assert main.main(argv) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        f"backoffice: not sent to slack at {place(hook)}: 404 Not Found\n",
    )


def test_an_alert_that_is_not_there_is_named(
    configured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["--config", str(configured), "alert", "test", "opps"]) == 1
    assert "there is no alert opps; there are ops" in capsys.readouterr().err


# Disks ----------------------------------------------------------------------


class Host:
    """Disks whose room is as the test says."""

    def __init__(self, board: Board, least: Floor) -> None:
        self.board = board
        self.least = least
        self.total = 100
        self.free = {"work": 50, "root in": 50}
        self.silent: set[str] = set()

    def watch(self) -> None:
        disk_alerts.watch_disks(self.board.database, self.disks(), self.least, "enc1")

    def look(self) -> list[tuple[str, str]]:
        """The events there are after a look."""
        self.watch()
        rows = self.board.read(
            lambda s: s.execute(
                "SELECT action, subject FROM event WHERE action LIKE ? ORDER BY id", ("disk.%",)
            ).get_all()
        )
        return [(action, subject) for action, subject in rows]

    def disks(self) -> list[Disk]:
        folders = {name: Path("/", name) for name in self.free}
        return Disks(folders, self.ask).look(30)

    def ask(self, path: Path) -> Room:
        if path.name in self.silent:
            raise PermissionError(13, "Permission denied")
        device = list(self.free).index(path.name)
        return Room(device, self.free[path.name], self.total, True, True)


@pytest.fixture
def host(board: Board) -> Host:
    return Host(board, Floor(0.1, 0))


@on_sqlite
def test_a_disk_is_low_once_and_well_when_it_has_a_good_deal_more(host: Host) -> None:
    assert host.look() == []
    host.free["work"] = 9
    low = [("disk.low", "disk work")]
    assert host.look() == host.look() == low
    host.free["work"] = 12  # above the least, but hardly
    assert host.look() == low
    host.free["work"] = 13
    assert host.look() == host.look() == [*low, ("disk.ok", "disk work")]
    host.free["work"] = 9
    assert host.look() == [*low, ("disk.ok", "disk work"), *low]


@on_sqlite
def test_a_low_disk_is_told_with_its_host_and_folders(host: Host) -> None:
    host.free["root in"], host.total = 4 * 10**9, 100 * 10**9
    host.free["work"] = host.total
    host.look()
    rows = host.board.read(
        lambda s: s.execute("SELECT detail FROM event WHERE action = 'disk.low'").get_all()
    )
    expected = "enc1: 4.0 GB of 100 GB are free (4.0 %) on the disk of /root in; it should be 10 %"
    assert rows == [(expected,)]


@on_sqlite
def test_a_disk_that_does_not_answer_stays_as_it_was(host: Host) -> None:
    host.free["work"] = 1
    before = host.look()
    host.silent = {"work", "root in"}
    host.free["root in"] = 1
    assert host.look() == before


def test_of_schedulers_on_a_host_one_tells_of_a_disk(host: Host) -> None:
    host.free["work"] = 1
    together(host.board.database, *[host.watch] * 4)
    assert host.look() == [("disk.low", "disk work")]
    host.free["work"] = 60
    together(host.board.database, *[host.watch] * 4)
    assert host.look() == [("disk.low", "disk work"), ("disk.ok", "disk work")]


@on_sqlite
@pytest.mark.parametrize(
    ("least", "free", "low"),
    [(Floor(0.0, 30), 29, True), (Floor(0.0, 30), 30, False), (Floor(0.0, 0), 0, False)],
)
def test_the_least_may_be_a_size_or_nothing(
    board: Board, least: Floor, free: int, low: bool
) -> None:
    host = Host(board, least)
    host.free["work"] = free
    assert bool(host.look()) is low


@on_sqlite
def test_a_least_that_is_nearly_all_can_still_be_had(board: Board) -> None:
    host = Host(board, Floor(0.0, 90))
    host.free["work"] = 89
    assert len(host.look()) == 2  # the other is low as well
    host.free["work"] = 96
    assert host.look()[-1] == ("disk.ok", "disk work")


@on_sqlite
def test_a_low_disk_and_its_recovery_are_told(ops: Ops) -> None:
    host = Host(ops.board, Floor(0.1, 0))
    host.free["work"] = 1
    host.look()
    ops.dispatcher.run()
    host.free["work"] = 50
    host.look()
    ops.go(EVERY)
    assert ops.headlines == ["Disk work is nearly full", "Disk work has room again"]
    assert ops.told[0]["data"]["items"][0]["host"] == "enc1"


def test_a_disk_that_is_low_when_an_alert_is_new_is_told(ops: Ops) -> None:
    host = Host(ops.board, Floor(0.1, 0))
    for free in (1, 50, 1):
        ops.now += EVERY
        host.free["work"] = free
        host.look()
    ops.another(name="new").run()
    ops.another(name="new").run()
    assert ops.headlines == ["Disk work is nearly full"]
