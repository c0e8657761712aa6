"""Settings: where they come from, and what is refused, with which words."""

from __future__ import annotations

import base64
import contextlib
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.config import converters, loading, names, redaction, service_address
from backoffice.config.resources import share
from backoffice.config.setting import settings_of
from backoffice.config.settings import NAMED, SECTIONS, Settings
from backoffice.errors import ConfigError

INI = share("etc") / "backoffice.ini"
WATCH = {"folder": "var/media/in", "workflow": "web-video"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


KEY_BYTES = b"hush, hush, hush, hush, hush"
KEY = f"whsec_{base64.b64encode(KEY_BYTES).decode()}"


def load(text: str | bytes, **environ: str) -> Settings:
    path = Path("test.ini")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return loading.load(str(path), {f"BACKOFFICE_{k}": v for k, v in environ.items()})


def refusal(text: str | bytes, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def section(title: str, **keys: str) -> str:
    return f"[{title}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[\[a-z])", "", INI.read_text())


def documented() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in uncommented().splitlines():
        if match := re.fullmatch(r"\[(.+)\]", line):
            found[match[1].split()[0]] = keys = {}
        elif match := re.fullmatch(r"([a-z_]+) =\s*(.*)", line):
            keys[match[1]] = match[2]
    return found


def test_the_shipped_file_documents_exactly_the_settings_there_are() -> None:
    tables = {**SECTIONS, **{kind: cls for kind, (cls, _) in NAMED.items()}}
    assert {kind: set(keys) for kind, keys in documented().items()} == {
        kind: {setting.key for setting in settings_of(cls).values()} for kind, cls in tables.items()
    }


def test_the_shipped_file_shows_the_defaults() -> None:
    shown = documented()
    for kind, cls in SECTIONS.items():
        settings = settings_of(cls).values()
        assert shown[kind] == {setting.key: setting.default for setting in settings}
    for kind, (cls, _) in NAMED.items():
        for setting in settings_of(cls).values():
            if setting.example is None:
                assert shown[kind][setting.key] == setting.default


def test_the_shipped_file_changes_nothing() -> None:
    shipped = loading.load(str(INI), {})
    defaults = loading.load(None, {})
    assert shipped.source == str(INI)
    assert vars(shipped) | {"source": ""} == vars(defaults) | {"source": ""}


def test_a_watch_says_which_files_it_takes_and_what_becomes_of_them() -> None:
    keys = {"pattern": "*.mp4 'my *.mov'", "sidecars": "SRT:text", "after": "move:done/films"}
    watch = load(section("watch in", **WATCH, **keys)).watches["in"]
    assert watch.pattern == ("*.mp4", "my *.mov")
    assert watch.sidecars == {"srt": "text"}
    assert watch.done == watch.folder / "done/films"
    plain = load(section("watch in", **WATCH)).watches["in"]
    assert (plain.recursive, plain.done) == (False, None)
    assert {"*.part", "#recycle", "System Volume Information"} <= set(plain.exclude)
    assert load(section("watch in", **WATCH, exclude="")).watches["in"].exclude == ()


def test_the_shipped_file_loads_with_its_examples() -> None:
    settings = load(uncommented())
    defaults = loading.load(None, {})
    assert settings.worker == defaults.worker
    assert settings.targets == defaults.targets
    assert settings.commands["stamp"].argv[1:3] == ("--label", "{parameter.label}")
    assert settings.watches["incoming"].parameters == {"target": "site"}
    assert settings.schedules["nightly"].cron == "30 2 * * *"


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    settings = loading.load(None, {})
    assert settings.source == "defaults"
    assert settings.database.uri == f"sqlite:{tmp_path}/var/backoffice.sqlite"
    assert settings.targets["site"].path == tmp_path / "var/publish"
    assert settings.retention.jobs == timedelta(days=30)


def test_a_given_path_wins_over_the_variable_and_the_variable_over_the_folder() -> None:
    Path("etc").mkdir()
    for name, slots in (("etc/backoffice.ini", 3), ("variable.ini", 4), ("given.ini", 5)):
        Path(name).write_text(section("worker", slots=str(slots)))
    variable = {"BACKOFFICE_CONFIG": "variable.ini"}
    assert loading.load(None, {}).worker.slots == 3
    assert loading.load(None, variable).worker.slots == 4
    assert loading.load("given.ini", variable).worker.slots == 5


@pytest.mark.parametrize("by_variable", [True, False])
def test_a_file_that_is_asked_for_must_be_there(by_variable: bool) -> None:
    path, environ = (None, {"BACKOFFICE_CONFIG": "no.ini"}) if by_variable else ("no.ini", {})
    with pytest.raises(ConfigError, match=r"^no.ini: cannot be read: No such file"):
        loading.load(path, environ)


def test_the_environment_wins_over_the_file() -> None:
    settings = load(section("limits", frame_rate="50"), LIMITS_FRAME_RATE="60")
    assert settings.limits.frame_rate == 60


def test_other_variables_are_none_of_ours() -> None:
    assert loading.load(None, {"PATH": "/bin", "XBACKOFFICE_A": "1"}).source == "defaults"


def test_relative_paths_begin_at_home(tmp_path: Path) -> None:
    text = section("paths", home="/srv/bo", roots="in:/mnt/a\n  more", workflows="mine")
    paths = load(text).paths
    assert paths.roots == (Path("/srv/bo/in"), Path("/mnt/a"), Path("/srv/bo/more"))
    assert paths.work == Path("/srv/bo/var/work")
    assert paths.workflows == (share("etc") / "workflows", Path("/srv/bo/mine"))


def test_a_relative_home_begins_where_the_program_started(tmp_path: Path) -> None:
    assert load(section("paths", home="sub")).paths.run == tmp_path / "sub/var/run"


def test_percent_signs_mean_nothing() -> None:
    uri = "mysql://bo:a%40b%(x)s@db.example.org/bo"
    assert load(section("database", uri=uri)).database.uri == uri


def test_secrets_do_not_show() -> None:
    text = section("database", uri="mysql://bo:hush@db/bo") + section("notify", secret=KEY)
    text += section("target s", path="/x", **{"option.password": "hush"})
    text += section("auth", secret="hush") + section("log", sentry="https://hush@s.org/1")
    settings = load(text)
    assert settings.notify.secret == (KEY_BYTES,)
    assert "hush" not in repr(settings)
    assert "hush" not in refusal(section("database", uri="mysql://bo:hush@db:port/bo"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert load(section("worker", lease=text, heartbeat="0.1")).worker.lease == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("2048", 2048), ("512M", 512 << 20), ("8G", 8 << 30), ("8gb", 8 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert load(section("limits", memory=text)).limits.memory == size


BAD_KEYS = ("hush", "whsec_!", "whsec_", "whsec_aHVzaA==", f"{KEY} hush", KEY[6:])

BAD_VALUES = [
    ("database", "uri", "postgres://x/y", "sqlite:PATH or mysql://"),
    ("database", "uri", "sqlite:", "sqlite:PATH"),
    ("database", "uri", "sqlite::memory:", "sqlite:PATH"),
    ("database", "uri", "mysql://host", "sqlite:PATH or mysql://"),
    ("database", "timeout", "soon", "a length of time such as"),
    ("database", "timeout", "0", "at least 0.1s"),
    ("paths", "home", "", "a value"),
    ("service", "parts", "web printer", "a list of parts; there are scheduler, worker, web"),
    ("service", "parts", "", "a list of parts"),
    ("worker", "slots", "two", "a whole number from 1 to 256"),
    ("worker", "slots", "0", "a whole number from 1 to 256"),
    ("worker", "slots", "1_0", "a whole number"),
    ("worker", "slots", "٢", "a whole number"),
    ("worker", "queues", ",", "a list of queues"),
    ("worker", "lease", "0.5", "at least 1s"),
    ("worker", "lease", "nan", "a length of time"),
    ("worker", "heartbeat", "25s", "more than a third of lease (60s)"),
    ("limits", "memory", "8 apples", "a size such as"),
    ("limits", "document", "10", "at least 1024 bytes"),
    ("limits", "pixels", "4k", "8192x4320"),
    ("limits", "frame_rate", "inf", "a number from"),
    ("retention", "jobs", "999999999d", "at most"),
    ("web", "listen", "8080", "HOST:PORT, such as 127.0.0.1:8080"),
    ("web", "listen", "localhost:65536", "HOST:PORT"),
    ("web", "listen", "::1:8080", "[::1]:8080"),
    ("web", "listen", "unix:", "unix:PATH"),
    ("web", "listen", "unix:/" + "x" * 107, "too long for a socket"),
    ("web", "url", "media.example.org", "a URL such as https://"),
    ("web", "url", "https://a:b@example.org/", "a URL such as https://"),
    ("web", "proxies", "10.0.0.1/8", "networks such as 127.0.0.1 or 10.0.0.0/8"),
    ("web", "proxies", "proxy.example.org", "a list of addresses"),
    ("web", "hosts", "http://example.org", "names such as media.example.org"),
    ("web", "rate", "-1", "a number from 0"),
    ("web", "burst", "0", "a whole number from 1"),
    ("web", "access_log", "yes", "one of combined, json, none"),
    ("web", "head_timeout", "0", "at least 0.1s"),
    ("auth", "required", "true", "one of yes, no"),
    ("auth", "user_header", "X_Remote_User", "letters, digits and '-'"),
    ("log", "to", "file", "one of stderr, stdout, files, syslog"),
    ("log", "level", "loud", "one of debug, info, warning, error"),
    ("log", "sentry", "https://sentry.example.org/1", "a DSN such as"),
    ("target x", "type", "pigeon", "there are folder"),
    ("target x", "type", "folder", "path: must be given for a folder"),
    ("target x", "url", "example.org", "a URL such as"),
    ("command x", "argv", "", "give the program"),
    ("command x", "argv", "cp 'a", "a quote is not closed"),
    ("command x", "argv", "cp {inptu}", "use {input}"),
    ("limits", "disk_free", "100%", "a share such as 5% or a size such as 20G"),
    *(("notify", "secret", text, "each whsec_ and base64 of 24 to 64 bytes") for text in BAD_KEYS),
    ("notify", "hosts", "*", "a list of names, patterns such as *.example.org"),
    ("notify", "hosts", "https://hooks.example.org", "a list of names, patterns"),
    ("notify", "hosts", "2130706433", "a list of names, patterns"),
    ("notify", "hosts", "10.0.0.1/8", "a list of names, patterns"),
]


@pytest.mark.parametrize(("title", "key", "value", "advice"), BAD_VALUES)
def test_a_bad_value_is_refused_with_its_place(
    title: str, key: str, value: str, advice: str
) -> None:
    message = refusal(section(title, **{key: value}))
    assert message.startswith(f"test.ini: [{title}] ")
    assert advice in message


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        ({"priority": "101"}, "priority: is not a whole number from 0 to 100"),
        ({"folder": "/elsewhere"}, "folder: lies outside [paths] roots"),
        ({"folder": "var/media/../x"}, "folder: lies outside [paths] roots"),
        ({"workflow": "../x"}, "workflow: is not a name"),
        ({"parameter.": "x"}, "parameter.: is no setting"),
        ({"parameters": "x"}, "parameters: is no setting"),
        ({"pattern": ""}, "pattern: is not a list of patterns"),
        ({"sidecars": "srt"}, "sidecars: is not a list of endings"),
        ({"sidecars": ".srt:text"}, "sidecars: is not a list of endings"),
        ({"after": "delete"}, "after: is not leave, or move:FOLDER"),
        ({"after": "move:"}, "after: is not leave, or move:FOLDER"),
        ({"after": "move:/srv"}, "after: is not leave, or move:FOLDER"),
        ({"after": "move:../done"}, "after: is not leave, or move:FOLDER"),
        ({"after": "move:."}, "after: is not leave, or move:FOLDER"),
    ],
)
def test_a_bad_watch_is_refused(keys: dict[str, str], advice: str) -> None:
    assert advice in refusal(section("watch in", **(WATCH | keys)))


MAIL = {"type": "email", "to": "a@example.org", "from": "b@example.org"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "type: must be given"),
        ({"type": "pager"}, "type: is not one of webhook, email, slack"),
        ({"type": "slack"}, "url: must be given for slack"),
        (
            {"type": "webhook", "url": "https://example.org/"},
            "secret: must be given for webhook, here or in [notify]",
        ),
        ({"type": "webhook", "url": "example.org/x"}, "url: is not a URL such as https://"),
        ({"type": "webhook", "url": "https://example.org:x/"}, "url: is not a URL such as"),
        ({"type": "webhook", "url": "ftp://example.org/"}, "url: is not a URL such as"),
        (MAIL | {"to": ""}, "to: must be given for email"),
        (MAIL | {"from": ""}, "from: must be given for email"),
        (MAIL | {"to": "Ops <ops@example.org>"}, "to: is not a list of addresses"),
        (MAIL | {"from": "a@b, c@d"}, "from: is not one address; there are several"),
        (MAIL | {"smtp": "mail.example.org"}, "smtp: is not HOST:PORT"),
        (MAIL | {"tls": "ssl"}, "tls: is not one of none, starttls, tls"),
        (MAIL | {"smtp": "mail.example.org:25", "password": "x"}, "tls: would send the password"),
        (MAIL | {"on": "job.failde"}, "on: is not a list of what to tell; there are job.failed"),
        (MAIL | {"on": ""}, "on: is not a list of what to tell"),
        (MAIL | {"every": "often"}, "every: is not a length of time"),
        (MAIL | {"workflow": ""}, "workflow: is not a value"),
        (MAIL | {"sender": "b@example.org"}, "sender: is no setting; there are type, on,"),
    ],
)
def test_a_bad_alert_is_refused(keys: dict[str, str], message: str) -> None:
    assert refusal(section("alert ops", **keys)).startswith(f"test.ini: [alert ops] {message}")


def test_the_name_of_an_alert_fits_into_the_database() -> None:
    title = f"alert {'x' * 65}"
    assert refusal(section(title, **MAIL)) == (
        f"test.ini: [{title}]: has a name of more than 64 characters"
    )


def test_an_alert_tells_all_but_what_fails_its_job_anyway() -> None:
    alert = load(section("alert ops", **MAIL)).alerts["ops"]
    assert alert.on == ("job.failed", "task.stalled", "worker.lost", "disk.low")
    assert (alert.sender, alert.to) == ("b@example.org", ("a@example.org",))
    assert (alert.smtp, alert.tls) == (("localhost", 25), "none")


@pytest.mark.parametrize("key", ["url", "secret", "password"])
def test_an_alert_that_everybody_can_read_holds_no_secret(key: str) -> None:
    path = Path("open.ini")
    value = KEY if key == "secret" else "https://chat.example.org/KEY"
    path.write_text(section("alert ops", **MAIL | {key: value}))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=rf"\[alert ops\] {key}: is secret"):
        loading.load(str(path), {})


@pytest.mark.parametrize(
    ("text", "floor", "shown"),
    [
        ("5%", converters.Floor(0.05, 0), "5 %"),
        ("7.5 %", converters.Floor(0.075, 0), "7.5 %"),
        ("20G", converters.Floor(0.0, 20 << 30), "21 GB"),
        ("0", converters.Floor(0.0, 0), "0 %"),
    ],
)
def test_what_is_to_stay_free_is_a_share_or_a_size(
    text: str, floor: converters.Floor, shown: str
) -> None:
    found = load(section("limits", disk_free=text)).limits.disk_free
    assert (found, str(found)) == (floor, shown)
    assert found.of(1000) == max(floor.share * 1000, floor.size)


@pytest.mark.parametrize("cron", ["", "daily", "61 * * * *", "* * * *", "0 0 30 2 *"])
def test_a_bad_cron_expression_is_refused(cron: str) -> None:
    message = refusal(section("schedule n", workflow="w", cron=cron))
    assert message.startswith("test.ini: [schedule n] cron: is not a cron expression")


@pytest.mark.parametrize(
    ("title", "missing"), [("command c", "argv"), ("watch w", "folder"), ("schedule s", "cron")]
)
def test_what_must_be_given_is_asked_for(title: str, missing: str) -> None:
    assert refusal(section(title)) == f"test.ini: [{title}] {missing}: must be given"


BAD_FILES = [
    ("[wroker]\n", "test.ini: [wroker]: is no section; there are database,"),
    ("[target]\n", "test.ini: [target]: needs a name"),
    ("[target a b]\n", "test.ini: [target a b]: is no section"),
    ("[DEFAULT]\nslots = 2\n", "test.ini: [DEFAULT]: is no section"),
    ("[worker]\nslot = 2\n", "test.ini: [worker] slot: is no setting; there are slots,"),
    ("[worker]\nSlots = 2\n", "test.ini: [worker] Slots: is no setting"),
    ("[worker]\n[worker]\n", "test.ini: [worker]: stands twice (line 2)"),
    ("[target a]\n[target  a]\n", "test.ini: [target a]: stands twice"),
    ("[worker]\nslots = 1\nslots = 1\n", "test.ini: [worker] slots: is set twice (line 3)"),
    ("slots = 1\n", "test.ini: line 1 stands before any [section]"),
    ("[worker]\nslots\n", "test.ini: line 2 is neither [section] nor key = value"),
    ("[worker]\nslots = 1\n  poll = 1\n", "test.ini: [worker] slots: goes on in an indented"),
    (b"[worker]\ntags = \xff\n", "test.ini: is not UTF-8"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_file_is_refused_with_the_place(text: str | bytes, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_folder_is_no_file() -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        loading.load(".", {})


@pytest.mark.parametrize(
    "variable",
    ["NONSENSE", "WROKER_SLOTS", "WORKER", "WORKER_SLOT", "TARGET_PATH", "TARGET_A_PAHT", "WATCH_"],
)
def test_an_unknown_variable_is_refused(variable: str) -> None:
    message = refusal("", **{variable: "1"})
    assert message.startswith(f"BACKOFFICE_{variable}: names no se")


def test_a_bad_value_in_a_variable_is_refused_with_its_name() -> None:
    message = refusal(section("worker", slots="1"), WORKER_SLOTS="many")
    assert message.startswith("BACKOFFICE_WORKER_SLOTS: [worker] slots: is not a whole number")


def test_a_variable_changes_a_named_section_of_the_file() -> None:
    text = section("target web-site", path="/a") + section("target web", path="/b")
    settings = load(text, TARGET_WEB_SITE_PATH="/c", TARGET_WEB_URL="https://b/")
    assert settings.targets["web-site"].path == Path("/c")
    assert settings.targets["web"].url == "https://b/"
    assert set(settings.targets) == {"site", "web-site", "web"}


def test_variables_can_make_a_named_section() -> None:
    environ = {f"WATCH_TAPE_IN_{key.upper()}": value for key, value in WATCH.items()}
    watch = load("", **environ, WATCH_TAPE_IN_PARAMETER_MAX_RATE="5").watches["tape_in"]
    assert (watch.workflow, watch.priority) == ("web-video", 50)
    assert watch.parameters == {"max_rate": "5"}


def test_a_variable_that_could_mean_two_sections_is_refused() -> None:
    text = section("target a-b", path="/a") + section("target a_b", path="/b")
    assert "could mean" in refusal(text, TARGET_A_B_PATH="/c")


def test_the_site_can_be_changed() -> None:
    assert load("", TARGET_SITE_URL="https://x/").targets["site"].url == "https://x/"
    settings = load(section("target site", path="/srv/site"))
    assert settings.targets["site"].path == Path("/srv/site")


@given(st.binary(max_size=200))
def test_any_file_is_either_loaded_or_refused(content: bytes) -> None:
    with contextlib.suppress(ConfigError):
        load(b"[worker]\n" + content)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("127.1.2.3:80", ("127.1.2.3", 80)),
        ("[::1]:8080", ("::1", 8080)),
        ("LocalHost:1", ("LocalHost", 1)),
        ("unix:/run/bo.sock", Path("/run/bo.sock")),
    ],
)
def test_without_authentication_this_host_alone_is_listened_to(
    text: str, listen: Path | tuple[str, int]
) -> None:
    assert load(section("web", listen=text)).web.listen == listen


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "media.example.org:80"])
def test_other_hosts_are_listened_to_only_with_authentication(text: str) -> None:
    web = section("web", listen=text)
    message = refusal(web)
    assert message.startswith("test.ini: [web] listen: can be reached from other hosts")
    assert "[auth] required = yes" in message
    web = section("web", listen=text, hosts="media.example.org")
    assert load(web + section("auth", required="yes")).web.listen[1] == 80  # type: ignore[index]


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "media.example.org:80"])
def test_other_hosts_are_listened_to_only_by_names_that_are_given(text: str) -> None:
    auth = section("auth", required="yes")
    message = refusal(section("web", listen=text) + auth)
    assert message.startswith("test.ini: [web] listen: can be reached from other hosts")
    assert "set [web] url or hosts" in message
    for named in ({"url": "https://media.example.org"}, {"hosts": "media.example.org"}):
        load(section("web", listen=text, **named) + auth)


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({}, ()),
        ({"listen": "unix:socket"}, ()),
        ({"listen": "127.1.2.3:80"}, ("127.1.2.3",)),
        ({"listen": "[0:0::1]:80"}, ("[0:0::1]",)),
        ({"hosts": "A.example b.example"}, ("a.example", "b.example")),
        ({"url": "https://C.example:8443/media"}, ("c.example",)),
        ({"url": "https://[2001:db8::1]", "hosts": "a.example"}, ("a.example", "[2001:db8::1]")),
    ],
)
def test_only_names_of_loopback_and_those_that_are_given_are_served(
    given: dict[str, str], hosts: tuple[str, ...]
) -> None:
    assert load(section("web", **given)).web.own_hosts == (*names.LOOPBACK_HOSTS, *hosts)


def test_by_default_no_process_at_a_port_is_believed() -> None:
    assert load(b"").web.proxies == ("unix",)


@pytest.mark.parametrize("role", ["viewers", "operators", "admins"])
def test_a_user_is_not_named_like_a_token(role: str) -> None:
    message = refusal(section("auth", **{role: "alice token:ci"}))
    assert f"[auth] {role}: is not a list of users; no user is token:NAME" in message


def test_a_relative_socket_begins_at_home(tmp_path: Path) -> None:
    web = load(section("web", listen="unix:var/run/web")).web
    assert web.listen == tmp_path / "var/run/web"
    assert web.maintenance == tmp_path / "var/run/maintenance"


def test_the_public_url_has_no_slash_at_its_end() -> None:
    assert load(section("web", url="https://example.org/media/")).web.url.endswith("/media")


@pytest.mark.parametrize(
    ("user", "role"), [("ann", "admin"), ("ben", "operator"), ("cid", "viewer"), ("dan", None)]
)
def test_a_user_has_the_highest_role_that_names_him(user: str, role: str | None) -> None:
    auth = load(section("auth", admins="ann", operators="ben ann", viewers="ann, ben, cid")).auth
    assert auth.role_of(user) == role


def test_a_star_is_everybody() -> None:
    auth = load(section("auth", admins="ann", viewers="*")).auth
    assert (auth.role_of("ann"), auth.role_of("zoe")) == ("admin", "viewer")
    assert auth.role_of("") is None


# Secrets -------------------------------------------------------------------

PASSWORD = section("database", uri="mysql://bo:hush@db/bo")
SECRETS = [
    (PASSWORD, "[database] uri"),
    (section("notify", secret=KEY), "[notify] secret"),
    (section("auth", secret="hush"), "[auth] secret"),
    (section("log", sentry="https://hush@s.org/1"), "[log] sentry"),
    (section("target t", path="/t", **{"option.api-token": "hush"}), "[target t] option.api-token"),
    (section("alert a", type="slack", url="https://h.org/hush"), "[alert a] url"),
    (
        section("watch w", **WATCH, **{"parameter.notify": "https://h.org/hush"}),
        "[watch w] parameter.notify",
    ),
]


def load_with(text: str, mode: int) -> Settings:
    path = Path("test.ini")
    path.write_text(text)
    path.chmod(mode)
    return loading.load(str(path), {})


@pytest.mark.parametrize(("text", "place"), SECRETS)
def test_a_file_with_a_secret_must_not_be_readable_for_everybody(text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_with(text, 0o644)
    reason = "is secret, and everybody can read the file; type: chmod o-r test.ini"
    assert str(caught.value) == f"test.ini: {place}: {reason}"
    load_with(text, 0o640)


@pytest.mark.parametrize(
    "text",
    [
        section("database", uri="mysql://bo@db/bo"),
        section("notify", secret=""),
        section("target t", path="/t", **{"option.key_file": "/etc/key", "option.keys": "2"}),
        section("watch w", **WATCH, **{"parameter.token": "x"}),
    ],
)
def test_a_file_without_one_may_be(text: str) -> None:
    load_with(text, 0o644)


@pytest.mark.parametrize(("group", "mode"), [(True, 0o646), (False, 0o664), (False, 0o606)])
def test_a_file_that_others_can_change_is_refused(
    group: bool, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("test.ini").touch()
    own = Path("test.ini").stat().st_gid
    monkeypatch.setattr(os, "getegid", lambda: own if group else 4711)
    monkeypatch.setattr(os, "getgroups", lambda: [])
    if not group and own == 0:
        os.chown("test.ini", -1, 4712)
    with pytest.raises(ConfigError, match=r"^test.ini: can be changed by others .* chmod go-w"):
        load_with("", mode)


def test_one_that_its_group_can_change_is_fine_if_that_is_ours() -> None:
    load_with(PASSWORD, 0o660)


def test_what_is_no_ordinary_file_has_no_permissions_to_speak_of() -> None:
    reader, writer = os.pipe()
    os.fchmod(reader, 0o666)
    os.write(writer, PASSWORD.encode())
    os.close(writer)
    assert "hush" in loading.load(f"/proc/self/fd/{reader}", {}).database.uri
    os.close(reader)


def test_a_variable_may_name_a_file_with_the_value() -> None:
    Path("uri").touch(0o600)
    Path("uri").write_text("mysql://bo:hush@db/bo\n")
    Path("key").touch(0o640)
    Path("key").write_text(" hush\r\n")
    settings = load("", DATABASE_URI_FILE="uri", TARGET_SITE_OPTION_KEY_FILE="key")
    assert settings.database.uri == "mysql://bo:hush@db/bo"
    assert settings.targets["site"].options == {"key": " hush"}


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("hush", 0o644, "secret: can be read by everybody; type: chmod o-r secret"),
        ("hush", 0o602, "secret: can be changed by others than its owner; type: chmod go-w"),
        ("\n", 0o600, "secret: is empty"),
        ("\udcff", 0o600, "secret: is not UTF-8"),
        (None, 0, "secret: cannot be read: No such file"),
    ],
)
def test_a_file_with_a_value_must_be_fit_for_it(
    content: str | None, mode: int, message: str
) -> None:
    if content is not None:
        Path("secret").write_bytes(os.fsencode(content))
        Path("secret").chmod(mode)
    assert refusal("", AUTH_SECRET_FILE="secret").startswith(
        f"BACKOFFICE_AUTH_SECRET_FILE: {message}"
    )


def test_what_a_container_engine_mounts_may_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "MOUNTED", f"{tmp_path}/run/secrets/")
    Path("run/secrets").mkdir(parents=True)
    Path("run/secrets/key").write_text("hush")
    assert load("", AUTH_SECRET_FILE="run/secrets/key").auth.secret == "hush"


def test_a_value_is_given_once() -> None:
    Path("secret").touch(0o600)
    message = refusal("", AUTH_SECRET="a", AUTH_SECRET_FILE="secret")
    assert message.endswith("BACKOFFICE_AUTH_SECRET is set too; unset one of them")


def test_an_unknown_setting_is_not_looked_for_in_a_file() -> None:
    assert "names no setting of [auth]" in refusal("", AUTH_SECRTE_FILE="secret")


def test_the_token_of_the_command_line_may_be_in_a_file() -> None:
    Path("token").write_text("bo_x\n")
    Path("token").chmod(0o600)
    environ = {"BACKOFFICE_URL": "http://h", "BACKOFFICE_TOKEN_FILE": "token"}
    found = service_address.service(None, None, environ)
    assert found is not None
    assert found.token == "bo_x"
    with pytest.raises(ConfigError, match="BACKOFFICE_TOKEN is set too"):
        service_address.service(None, None, environ | {"BACKOFFICE_TOKEN": "bo_y"})
    assert loading.load(None, {"BACKOFFICE_TOKEN_FILE": "token"}).source == "defaults"
