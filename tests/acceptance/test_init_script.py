"""The init script, run for real: each action in each state of the service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.installation import PROGRAM, USER, Instance, add_instance, install
from tests.acceptance.proc import wait_for
from tests.machine import CHECKOUT, Machine

ACTIONS = ("start", "stop", "restart", "try-restart", "reload", "force-reload", "configtest")
LIGHT = "[service]\nparts = scheduler\n"  # starts fastest
AS_USER = "setpriv --reuid=backoffice --regid=backoffice --clear-groups"


@pytest.fixture(scope="module")
def service(machine: Machine) -> Instance:
    instance = install(machine)
    instance.configure(LIGHT)
    return instance


@pytest.fixture
def stopped(service: Instance) -> Instance:
    assert service.act("stop").returncode == 0
    return service


@pytest.fixture
def running(service: Instance) -> Instance:
    assert service.act("start").returncode == 0
    return service


@pytest.fixture
def configured(stopped: Instance) -> Iterator[Instance]:
    """One that a test may configure and break as it likes."""
    yield stopped
    stopped.configure(LIGHT)
    stopped.machine.run("rm", "-f", "/etc/default/backoffice")
    stopped.act("stop")


def processes(instance: Instance) -> set[int]:
    """Every process of the service's user that lives."""
    found = instance.machine.run("ps", "-o", "pid=,stat=", "-U", USER, check=False)
    rows = map(str.split, found.stdout.splitlines())
    return {int(pid) for pid, stat in rows if stat[0] not in "ZX"}


def run_aside(machine: Machine, script: str) -> int:
    """Run a script in the background; its PID."""
    return int(machine.run("sh", "-c", f"({script}) </dev/null >/dev/null 2>&1 & echo $!").stdout)


def status(instance: Instance) -> int:
    return instance.act("status").returncode


def kill(instance: Instance) -> None:
    """Its parent, which cannot clean up then."""
    instance.machine.run("kill", "-KILL", str(instance.pid()))
    wait_for(lambda: not processes(instance), "its children ended with it")


# Each action in each state


@dataclass
class State:
    """The service as a test finds it: what runs, and what must not be touched."""

    instance: Instance
    pid: int = 0
    stranger: int = 0

    def now(self) -> str:
        if status(self.instance) != 0:
            return "none"
        return "same" if self.instance.pid() == self.pid else "new"


def make(state: str, instance: Instance) -> State:
    if state == "running":
        instance.act("start")
        return State(instance, instance.pid())
    if state == "dead":
        if status(instance) != 1:
            instance.act("start")
            kill(instance)
        return State(instance)
    instance.act("stop")
    if state == "stopped":
        return State(instance)
    stranger = run_aside(instance.machine, f"exec {AS_USER} sleep 1000")
    instance.machine.write(instance.pid_file, f"{stranger}\n1\n")
    instance.machine.run("chown", USER, instance.pid_file)
    return State(instance, stranger=stranger)


OUTCOMES = {
    "stopped": {
        "status": (3, "none"),
        "stop": (0, "none"),
        "try-restart": (0, "none"),
        "reload": (7, "none"),
        "force-reload": (7, "none"),
        "configtest": (0, "none"),
        "start": (0, "new"),
        "restart": (0, "new"),
    },
    "running": {
        "status": (0, "same"),
        "start": (0, "same"),
        "reload": (0, "same"),
        "force-reload": (0, "same"),
        "configtest": (0, "same"),
        "restart": (0, "new"),
        "try-restart": (0, "new"),
        "stop": (0, "none"),
    },
    "dead": {
        "status": (1, "none"),
        "try-restart": (0, "none"),
        "reload": (7, "none"),
        "force-reload": (7, "none"),
        "configtest": (0, "none"),
        "start": (0, "new"),
        "restart": (0, "new"),
        "stop": (0, "none"),
    },
    "a stranger has its PID": {
        "status": (1, "none"),
        "try-restart": (0, "none"),
        "reload": (7, "none"),
        "configtest": (0, "none"),
        "start": (0, "new"),
        "restart": (0, "new"),
        "stop": (0, "none"),
    },
}


@pytest.mark.parametrize(
    ("state", "action", "code", "then"),
    [(state, action, *end) for state, ends in OUTCOMES.items() for action, end in ends.items()],
)
def test_action_in_state(service: Instance, state: str, action: str, code: int, then: str) -> None:
    before = make(state, service)
    try:
        done = service.act(action)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert before.now() == then
        if before.stranger:
            service.machine.run("kill", "-0", str(before.stranger))
    finally:
        if before.stranger:
            service.machine.run("kill", str(before.stranger))
    if action == "stop":
        assert status(service) == 3  # and not 1: no PID file stays
        assert not processes(service)


def test_the_header_tells_when_it_is_to_be_started() -> None:
    text = (CHECKOUT / "init.d/backoffice").read_text()
    header = text.partition("### BEGIN INIT INFO\n")[2].partition("### END INIT INFO\n")[0]
    fields = dict(re.findall(r"^# ([A-Z][A-Za-z-]+): +(\S.*)$", header, re.MULTILINE))
    assert fields["Provides"] == "backoffice"
    assert {"$local_fs", "$remote_fs", "$network"} <= set(fields["Required-Start"].split())
    assert {"mariadb", "mysql"} <= set(fields["Should-Start"].split())
    assert (fields["Default-Start"], fields["Default-Stop"]) == ("2 3 4 5", "0 1 6")
    assert {"Required-Stop", "Should-Stop", "Short-Description", "Description"} <= set(fields)


# Who may, and what must be there


def test_only_root_may_do_more_than_look(stopped: Instance) -> None:
    as_other = ("setpriv", "--reuid=daemon", "--clear-groups", stopped.script)
    for action in ACTIONS:
        done = stopped.machine.run(*as_other, action, check=False)
        assert (done.returncode, done.stderr) == (4, "backoffice: only root may do this\n")
    assert stopped.machine.run(*as_other, "status", check=False).returncode == 4  # cannot know


@pytest.mark.parametrize("words", [(), ("nonsense",), ("--help",)])
def test_wrong_use_is_told_the_right_one(service: Instance, words: tuple[str, ...]) -> None:
    done = service.machine.run(service.script, *words, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: /etc/init.d/backoffice {start|stop|")


def test_without_the_program(stopped: Instance) -> None:
    stopped.machine.run("mv", PROGRAM, f"{PROGRAM}.away")
    try:
        for action in ("start", "restart", "reload", "configtest"):
            done = stopped.act(action)
            assert done.returncode == 5
            assert done.stderr == f"backoffice: {PROGRAM} is missing; install Backoffice\n"
        assert stopped.act("stop").returncode == 0
        assert status(stopped) == 3
    finally:
        stopped.machine.run("mv", f"{PROGRAM}.away", PROGRAM)


def test_without_its_user(configured: Instance) -> None:
    configured.machine.write("/etc/default/backoffice", "RUN_AS=gone\n")
    done = configured.act("start")
    assert done.returncode == 5
    assert "the user gone is missing" in done.stderr
    assert status(configured) == 3


def test_without_settings(configured: Instance) -> None:
    configured.machine.run("rm", configured.config)
    for action in ("start", "restart", "configtest"):
        done = configured.act(action)
        assert done.returncode == 6
        assert done.stderr.startswith("backoffice: /etc/backoffice/backoffice.ini is missing; ")
    assert configured.act("stop").returncode == 0


def test_wrong_settings_are_told_and_nothing_runs(configured: Instance) -> None:
    configured.configure(LIGHT + "pots = 1\n")
    done = configured.act("start")
    assert done.returncode == 6
    assert "backoffice: /etc/backoffice/backoffice.ini: [service] pots: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert configured.act("configtest").returncode == 6
    assert not processes(configured)


def test_wrong_settings_do_not_touch_what_runs(configured: Instance) -> None:
    configured.act("start")
    pid = configured.pid()
    configured.configure("[service]\nparts = nothing\n")
    for action in ("restart", "try-restart", "reload", "force-reload"):
        done = configured.act(action)
        assert done.returncode == 6
        assert "[service] parts" in done.stderr
        assert status(configured) == 0
        assert configured.pid() == pid


# Start


def test_start_returns_when_the_service_is_ready(configured: Instance) -> None:
    configured.configure("[service]\nparts = web\n")
    configured.act("start")
    ask = ("curl", "-sS", "--fail", "--unix-socket", "/run/backoffice/web.sock")
    configured.machine.run(*ask, "http://localhost/health/live")


def test_it_runs_as_its_user_and_others_cannot_read_what_it_writes(running: Instance) -> None:
    machine = running.machine
    assert running.pid() in processes(running)
    assert machine.run("pgrep", "-U", "root", "-f", "serve|scheduler", check=False).stdout == ""
    modes = machine.run(
        "stat",
        "-c",
        "%a %U:%G",
        "/run/backoffice",
        "/var/log/backoffice/console.out",
        running.pid_file,
    ).stdout.splitlines()
    assert modes[0] == "2750 backoffice:www-data"
    assert [mode.split()[0] for mode in modes[1:]] == ["640", "640"]


def test_none_of_its_processes_dumps_its_memory(running: Instance) -> None:
    found = [running.machine.read(f"/proc/{pid}/limits") for pid in processes(running)]
    cores = [line.split()[4:6] for text in found for line in text.splitlines() if "core" in line]
    assert cores == [["0", "0"]] * len(found)


def test_two_starts_at_once_make_one_service(stopped: Instance) -> None:
    script = f"{stopped.script} start & first=$!; {stopped.script} start && wait $first"
    stopped.machine.run("sh", "-c", script)
    found = stopped.machine.run("pgrep", "-f", "backoffice .*serve")
    assert found.stdout.split() == [str(stopped.pid())]


def test_the_callers_environment_does_not_reach_it(configured: Instance) -> None:
    configured.machine.write("/etc/default/backoffice", "BACKOFFICE_LOG_LEVEL=warning\n")
    around = {"BACKOFFICE_LOG_LEVEL": "none of yours", "HOME": "/root", "SECRET": "s3cret"}
    configured.machine.run(configured.script, "start", env=around)
    environ = configured.machine.read(f"/proc/{configured.pid()}/environ").split("\0")
    assert {"BACKOFFICE_LOG_LEVEL=warning", "HOME=/var/lib/backoffice"} <= set(environ)
    assert not [one for one in environ if "s3cret" in one]


def test_it_needs_no_environment_and_no_functions_of_the_distribution(stopped: Instance) -> None:
    machine, functions = stopped.machine, "/lib/lsb/init-functions"
    machine.run("mv", functions, f"{functions}.away")
    try:
        for action, doing in (("start", "Starting"), ("stop", "Stopping")):
            told = machine.run("env", "-i", stopped.script, action).stdout
            assert told == f"{doing} Backoffice: backoffice.\n"
    finally:
        machine.run("mv", f"{functions}.away", functions)


def test_a_program_that_ends_at_once_is_not_waited_for(configured: Instance) -> None:
    machine = configured.machine
    machine.run("mv", PROGRAM, f"{PROGRAM}.away")
    try:
        machine.write(PROGRAM, "#!/bin/sh\necho no Python here\nexit 1\n", 0o755)
        done = configured.act("start", timeout=20)
        assert (done.returncode, done.stderr) == (1, "no Python here\n")
    finally:
        machine.run("mv", f"{PROGRAM}.away", PROGRAM)
    assert machine.run("find", "/run", "-name", "*s-s-d*", "-o", "-name", "*.starting").stdout == ""
    assert machine.run("pgrep", "start-stop", check=False).stdout == ""


def test_a_database_that_is_away_is_told_and_waited_for(configured: Instance) -> None:
    uri = "mysql://backoffice@127.0.0.1:1/backoffice"
    default = f"START_TIMEOUT=2\nBACKOFFICE_DATABASE_URI={uri}\n"
    configured.machine.write("/etc/default/backoffice", default)
    done = configured.act("start")
    assert done.returncode == 1
    assert done.stderr.startswith("not ready after 2 s; it goes on trying, ")
    assert "\nFAIL database" in done.stderr
    assert status(configured) == 0
    assert configured.act("start").returncode == 0  # it runs; it is not said to be well
    assert configured.act("stop").returncode == 0
    assert not processes(configured)


def test_root_does_not_write_where_a_link_of_its_users_leads(configured: Instance) -> None:
    console, prey = "/var/log/backoffice/console.out", "/etc/of-root"
    configured.machine.write(prey, "mine\n")
    configured.machine.run("ln", "-sf", prey, console)
    try:
        done = configured.act("start")
    finally:
        configured.machine.run("rm", console)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert configured.machine.read(prey) == "mine\n"


# Stop


def test_a_process_of_another_user_is_never_signalled(stopped: Instance) -> None:
    machine = stopped.machine
    pid = run_aside(machine, "exec sleep 1000")
    started = machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    machine.write(stopped.pid_file, f"{pid}\n{started}\n")
    assert status(stopped) == 1
    assert stopped.act("stop").returncode == 0
    machine.run("kill", str(pid))  # it is still there


def test_a_service_that_does_not_answer_is_killed(configured: Instance) -> None:
    configured.machine.write("/etc/default/backoffice", "STOP_TIMEOUT=0\n")
    configured.act("start")
    configured.machine.run("kill", "-STOP", str(configured.pid()))
    assert configured.act("stop").returncode == 0
    assert not processes(configured)
    assert status(configured) == 3


def test_nothing_is_left_when_the_parent_was_killed(configured: Instance) -> None:
    configured.configure()  # with all its parts
    configured.act("start")
    assert len(processes(configured)) > 3
    kill(configured)
    assert status(configured) == 1


def test_restart_leaves_no_process_of_the_old_one(running: Instance) -> None:
    old = processes(running)
    running.act("restart")
    assert not old & processes(running)


def test_what_a_killed_parent_left_is_ended_before_the_next_start(configured: Instance) -> None:
    machine = configured.machine
    left = f"trap '' TERM; exec env SERVICE_OF=backoffice {AS_USER} sleep 1000"
    pid = run_aside(machine, left)
    machine.write("/etc/default/backoffice", "STOP_TIMEOUT=0\n")
    assert configured.act("start").returncode == 0
    assert pid not in processes(configured)


# Instances


@pytest.fixture(scope="module")
def second(service: Instance) -> Instance:
    instance = add_instance(service, "backoffice-eu")
    instance.configure(LIGHT)
    return instance


def test_instances_know_nothing_of_each_other(running: Instance, second: Instance) -> None:
    first = running.pid()
    assert status(second) == 3
    assert second.act("start").returncode == 0
    assert second.pid() != first
    assert second.act("stop").returncode == 0
    assert status(second) == 3
    assert status(running) == 0
    assert running.pid() == first


def test_links_of_run_levels_are_the_instance(running: Instance, second: Instance) -> None:
    link = "/etc/rc2.d/S01backoffice-eu"
    running.machine.run("ln", "-sf", second.script, link)
    assert (
        running.machine.run(link, "status", check=False).stdout == "backoffice-eu is not running\n"
    )
