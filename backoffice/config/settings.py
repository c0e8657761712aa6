"""Every setting: its name, type, default and help, a dataclass for each section.

``etc/backoffice.ini`` and the manual page ``backoffice.ini(5)`` are written from
these declarations. Relative paths in them begin at ``[paths] home``; in a
:class:`Settings` every path is absolute.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from backoffice.config import addresses, converters, redaction, webhook_keys
from backoffice.config.addresses import Hosts
from backoffice.config.converters import (
    Floor,
    age,
    any_text,
    choice,
    number,
    paths,
    required,
    seconds,
    size,
    whole,
    yes_or_no,
)
from backoffice.config.names import (
    ADMIN,
    EVERYBODY,
    EXCLUDED,
    LEAVE,
    LOOPBACK_HOSTS,
    OPERATOR,
    PARTS,
    VIEWER,
)
from backoffice.config.setting import group, section, setting


@section
class DatabaseSettings:
    """The database. A change takes effect at a restart."""

    uri: str = setting(
        converters.database_uri,
        "sqlite:var/backoffice.sqlite",
        "sqlite:PATH, for one host and with nothing to install, or"
        " mysql://USER:PASSWORD@HOST/DATABASE, with ?unix_socket=PATH for a local server."
        " Write : @ and / in a password as %3A %40 and %2F."
        " With replicas, requests that only read go to the replicas:"
        " mysql-replicated://USER:PASSWORD@DB1,DB2:3307/DATABASE?replicas=DB2:3307,DB3"
        " (docs/replication.md). A host before DATABASE may become the primary; a host in"
        " both lists also serves reads. [auth] secret must then be set, the same on all"
        " web servers.",
        secret=redaction.holds_password,
    )
    timeout: float = setting(
        seconds(0.1, 600), "10s", "How long to wait for a connection, and for a row lock."
    )


@section
class PathSettings:
    """Folders. A change takes effect at a restart."""

    home: Path = setting(
        converters.path,
        ".",
        "Where all relative paths in this file begin; . is where the program was started.",
    )
    work: Path = setting(
        converters.path,
        "var/work",
        "Private folders of running attempts, and outputs until their job is pruned.",
    )
    logs: Path = setting(converters.path, "var/log", "Logs of attempts.")
    run: Path = setting(converters.path, "var/run", "PID files and sockets.")
    roots: tuple[Path, ...] = setting(
        paths,
        "var/media",
        "Folders whose files may be used as input. No other file is ever opened.",
        multiline=True,
    )
    workflows: tuple[Path, ...] = setting(
        paths,
        "",
        "More folders with workflows. A workflow there replaces a shipped one of the same name.",
        multiline=True,
    )
    profiles: tuple[Path, ...] = setting(
        paths,
        "",
        "More folders with profiles. A profile there replaces a shipped one of the same name.",
        multiline=True,
    )


@section
class ServiceSettings:
    """What "backoffice serve" starts. A change takes effect at a restart."""

    parts: tuple[str, ...] = setting(
        converters.parts,
        " ".join(PARTS),
        "The processes to keep running on this host: scheduler, worker and web, or some of them.",
    )
    watchdog: float = setting(
        seconds(3, 86400),
        "60s",
        "A process that gives no sign of life for this long is killed and started again."
        " At least six times [database] timeout is allowed in any case.",
    )


@section
class WorkerSettings:
    """The worker of this host."""

    slots: int = setting(
        whole(1, 256), "2", "Number of tasks that run at the same time, each in its own process."
    )
    queues: tuple[str, ...] = setting(
        converters.queues,
        "*",
        "Queues to take tasks from: names or patterns, separated by blanks; * is every queue.",
    )
    tags: frozenset[str] = setting(
        converters.tags,
        "",
        "What this host offers to tasks that ask for it, such as gpu; separated by blanks.",
    )
    poll: float = setting(
        seconds(0.01, 60), "0.1s", "How long an idle worker waits before it looks for work again."
    )
    lease: float = setting(
        seconds(1, 86400),
        "60s",
        "A worker without a heartbeat for this long is lost, and its tasks are given back.",
    )
    heartbeat: float = setting(
        seconds(0.05, 3600), "10s", "How often a worker reports; at most a third of the lease."
    )
    grace: float = setting(
        seconds(0, 86400),
        "30s",
        "How long running tasks may go on when the worker is told to stop. Then they are"
        " stopped and given back.",
    )


@section
class SchedulerSettings:
    """The scheduler."""

    poll: float = setting(
        seconds(0.01, 60),
        "1s",
        "How often to look for what is due: delayed tasks, lost workers, schedules.",
    )


@section
class ToolSettings:
    """Programs that tasks run."""

    ffmpeg: str = setting(required, "ffmpeg", "The ffmpeg program, by name or path.")
    ffprobe: str = setting(required, "ffprobe", "The ffprobe program, by name or path.")
    threads: int = setting(
        whole(0, 256), "0", "Threads of each ffmpeg; 0 leaves the number to ffmpeg."
    )
    read: tuple[Path, ...] = setting(
        paths,
        "",
        "Folders that ffmpeg and commands may read besides those of the system: libraries,"
        " fonts or models of an ffmpeg of your own.",
        multiline=True,
    )
    devices: tuple[Path, ...] = setting(
        paths,
        "",
        "Devices that they may use, for encoders in hardware: /dev/dri.",
        multiline=True,
    )


@section
class LimitSettings:
    """Limits of files, programs and disks."""

    confine: str = setting(
        choice("no", "auto", "require"),
        "auto",
        "Whether ffmpeg, ffprobe and commands are confined: they read their inputs and the"
        " system's programs and libraries, write to their own folder, and open no connection."
        ' auto: as far as the kernel can (Landlock, seccomp); "backoffice check" says what is'
        " missing. require: run nothing without it. no: only the four limits that follow hold.",
    )
    memory: int = setting(
        size(0),
        "8G",
        "Memory of one command, as address space; 0 is no limit, which CUDA needs."
        " Encoding 4K takes about 4G.",
    )
    cpu: float = setting(
        seconds(0), "48h", "Processor time of one command over all its threads; 0 is no limit."
    )
    processes: int = setting(
        whole(0, 1_000_000),
        "4096",
        "Processes and threads of the service's user when a command starts another one;"
        " 0 is no limit.",
    )
    output: int = setting(
        size(0), "512G", "The largest single file that a command may write; 0 is no limit."
    )
    pixels: int = setting(
        converters.area, "8192x4320", "The largest picture that is accepted, width x height."
    )
    streams: int = setting(whole(1, 10000), "64", "The most streams of a file.")
    frame_rate: float = setting(
        number(1, 100000), "240", "The highest frame rate of a file, in frames a second."
    )
    duration: float = setting(seconds(1), "24h", "The longest playing time of a file.")
    document: int = setting(
        size(1024), "1M", "The largest document, XML or JSON, that a request may hold."
    )
    log: int = setting(
        size(1 << 16),
        "64M",
        "The largest log of an attempt. A longer log keeps its head and its tail, and a line"
        " between them says how much was left out.",
    )
    disk_free: Floor = setting(
        converters.floor,
        "5%",
        "Free space, in percent or as a size, below which a disk is reported: on the overview,"
        " in the metrics, by [alert NAME]. 0 never reports.",
    )


@section
class RetentionSettings:
    """How long finished jobs are kept."""

    jobs: timedelta = setting(
        age,
        "30d",
        'Time after the end of a job until it is removed, by the scheduler or "backoffice prune".',
    )
    batch: int = setting(
        whole(1, 10000), "500", "Rows removed in one transaction; few rows keep locks short."
    )


@section
class NotifySettings:
    """Webhooks of jobs: the notify parameter of a workflow."""

    secret: tuple[bytes, ...] = setting(
        webhook_keys.keys,
        "",
        "Keys that sign the messages (standardwebhooks.com), separated by blanks. Every key"
        " signs, so that receivers can change from an old key to a new one. Without a key"
        ' nothing is sent. To make one: echo "whsec_$(openssl rand -base64 32)"',
        secret=bool,
    )
    hosts: Hosts = setting(
        addresses.parse,
        addresses.PUBLIC,
        'Where the messages may go. "public" is every public address; a name or pattern such as'
        " *.example.org is that host, at a public or private address; an address or network such"
        " as 10.1.2.0/24 is every host there. An [alert NAME] may go anywhere.",
    )
    timeout: float = setting(
        seconds(0.1, 600), "10s", "How long sending a message may take, answer included."
    )


@section
class LogSettings:
    """Logs of the service. Attempts have logs of their own, in [paths] logs."""

    to: str = setting(
        choice("stderr", "stdout", "files", "syslog"),
        "stderr",
        "stderr, stdout, syslog (the socket /dev/log), or files: access.log and error.log in"
        " the folder.",
    )
    folder: Path = setting(converters.path, "var/log/service", "The folder of these two files.")
    level: str = setting(
        choice("debug", "info", "warning", "error"), "info", "debug, info, warning or error."
    )
    format: str = setting(
        choice("plain", "json"), "plain", "plain for people, or json: one object a line."
    )
    sentry: str = setting(
        converters.dsn,
        "",
        "Where faults of the program are reported: the DSN of a Sentry project.",
        secret=bool,
    )


@section
class WebSettings:
    """The web server."""

    listen: Path | tuple[str, int] = setting(
        converters.listen,
        "127.0.0.1:8080",
        "HOST:PORT or unix:PATH; loopback or a socket only, while [auth] required = no."
        " A change takes effect at a restart.",
    )
    threads: int = setting(
        whole(1, 1024),
        "8",
        "How many requests are answered at the same time. A change takes effect at a restart.",
    )
    url: str = setting(
        converters.web_url,
        "",
        "Where people find the pages, such as https://media.example.org, with a path if there"
        " is one. Without it, links begin with the name that a request asked for.",
    )
    proxies: tuple[str, ...] = setting(
        converters.networks,
        "unix",
        "Proxies whose headers are trusted: the user, the client's address and the host."
        " Networks, and unix for every process that can open the Unix socket. With 127.0.0.1"
        " here, every user of this host would be trusted.",
    )
    hosts: tuple[str, ...] = setting(
        converters.hosts,
        "",
        "Host names that requests may ask for, without ports. The names of loopback and of url"
        " are always allowed; a request for another name is refused, which prevents DNS"
        " rebinding: a page of another site cannot point its own name at this service. A"
        " service that listens elsewhere than on loopback needs hosts or url, and so does a"
        " service behind a proxy that passes the Host header on.",
    )
    maintenance: Path = setting(
        converters.path,
        "var/run/maintenance",
        "While this file exists, pages answer 503 and show its text.",
    )
    rate: float = setting(
        number(0, 1_000_000), "200", "Requests a second from one client; 0 is no limit."
    )
    burst: int = setting(
        whole(1, 1_000_000), "1000", "Requests that one client may send at once above the rate."
    )
    access_log: str = setting(
        choice("combined", "json", "none"),
        "combined",
        "combined (the format of Apache), json (an object a line) or none.",
    )
    head_timeout: float = setting(
        seconds(0.1, 3600), "10s", "How long a client may take to send a request's headers."
    )
    body_timeout: float = setting(
        seconds(0.1, 3600), "30s", "How long a client may take to send a request's body."
    )
    send_rate: int = setting(
        size(1),
        "4K",
        "How fast a client must read its response, in bytes a second on average over half a"
        " minute. A slower client is disconnected.",
    )
    connections_per_client: int = setting(
        whole(1, 1_000_000),
        "100",
        "Connections of one address; proxies, as above, have no limit. Connections that wait"
        " for their next request are closed to make room; if none waits, the answer is 503.",
    )

    @property
    def named(self) -> tuple[str, ...]:
        """The hosts that the settings name, in ``hosts`` and ``url``."""
        host = urlsplit(self.url).hostname
        return (*self.hosts, bracketed(host)) if host else self.hosts

    @property
    def own_hosts(self) -> tuple[str, ...]:
        """Every host that a Host header may name, with any port.

        The names of loopback are included: health checks use them, and no page of
        another site can have them.
        """
        bound: tuple[str, ...] = ()
        if isinstance(self.listen, tuple) and is_loopback(self.listen[0]):
            bound = (bracketed(self.listen[0].lower()),)
        return tuple(dict.fromkeys((*LOOPBACK_HOSTS, *bound, *self.named)))


@section
class AuthSettings:
    """Who may do what."""

    required: bool = setting(
        yes_or_no,
        "no",
        "no: no login, and every client has the role admin. yes: a request needs a user name"
        ' from a proxy (see [web] proxies) or a token ("backoffice token create").',
    )
    user_header: str = setting(
        converters.header, "X-Remote-User", "The header in which the proxy gives the user's name."
    )
    viewers: frozenset[str] = setting(
        converters.users,
        "",
        "Users who may look: names, separated by blanks; * is every user who is logged in.",
    )
    operators: frozenset[str] = setting(
        converters.users, "", "Users who may also submit and control jobs."
    )
    admins: frozenset[str] = setting(
        converters.users, "", "Users who may also control queues, workers and tokens."
    )
    secret: str = setting(
        any_text,
        "",
        "The key that signs forms and cookies, the same for all web processes. Without it a key"
        " is made at each start, and forms opened before must be loaded again.",
        secret=bool,
    )

    def role_of(self, user: str) -> str | None:
        """The highest role of a user; None without a role or a name."""
        members = (ADMIN, self.admins), (OPERATOR, self.operators), (VIEWER, self.viewers)
        names = {user, EVERYBODY} if user else set()
        return next((role for role, users in members if names & users), None)


@section
class Target:
    """Where files are published: a section for each target, [target NAME]. Workflows name
    the target. [target site] exists even if this file does not set it."""

    name: str
    type: str = setting(converters.publisher, "folder", "The kind of target.")
    path: Path | None = setting(
        converters.path_or_none,
        "",
        "The folder, for kinds that publish into one.",
        example="var/publish",
    )
    url: str = setting(
        converters.url,
        "",
        "Where people find what is published there. Without it, file: URLs are shown.",
    )
    options: Mapping[str, str] = group(
        "option", "Other settings of this kind of target: option.NAME = value", secret=True
    )


@section
class Command:
    """Commands that "command" tasks may run, and no others: a section for each command,
    [command NAME]. There is no shell."""

    name: str
    argv: tuple[str, ...] = setting(
        converters.argv,
        None,
        "The program and its arguments. {input}, {output} and {parameter.NAME} are replaced"
        " within one argument each.",
        example="/usr/local/bin/stamp --label {parameter.label} {input} {output}",
        multiline=True,
    )
    confine: bool = setting(
        yes_or_no, "yes", "Whether the command is confined as ffmpeg is, see [limits] confine."
    )
    network: bool = setting(
        yes_or_no, "no", "Whether a confined command may open network connections."
    )
    read: tuple[Path, ...] = setting(
        paths, "", "More folders that a confined command may read.", multiline=True
    )


@section
class Watch:
    """Folders whose new files become jobs: a section for each folder, [watch NAME]."""

    name: str
    folder: Path = setting(
        converters.path, None, "The folder, beneath [paths] roots.", example="var/media/incoming"
    )
    pattern: tuple[str, ...] = setting(
        converters.patterns,
        "*",
        "Names to take: patterns, separated by blanks. Case does not count.",
        multiline=True,
    )
    exclude: tuple[str, ...] = setting(
        converters.arguments,
        EXCLUDED,
        "Names of files and folders to leave alone; case does not count. The default lists what"
        " programs call an unfinished file, and what systems leave in folders.",
        multiline=True,
    )
    recursive: bool = setting(
        yes_or_no,
        "no",
        "Whether to look into subfolders, 16 levels deep. Links are not followed.",
    )
    workflow: str = setting(converters.word, None, "The workflow of the jobs.", example="web-video")
    role: str = setting(converters.word, "source", "The role of the file in the workflow.")
    sidecars: Mapping[str, str] = setting(
        converters.sidecars,
        "srt:subtitles vtt:subtitles xml:metadata",
        "Endings of files that belong to another file, film.srt or film.de.srt to film.mp4, and"
        " their role in the workflow. They never become jobs of their own.",
    )
    quiet: timedelta = setting(
        age,
        "30s",
        "A file is taken when its size and time, and those of its sidecars, have not changed"
        " for this long.",
    )
    patience: timedelta = setting(
        age,
        "10m",
        "How long since its last change to wait for a file that is open for writing, or that is"
        " shorter than it says itself.",
    )
    after: str = setting(
        converters.after,
        LEAVE,
        "What happens to the files of a job that has succeeded: leave, or move:FOLDER to move"
        " them to that folder beneath the watched one.",
    )
    priority: int = setting(
        whole(0, 100), "50", "The priority of the jobs, from 0 (first) to 100 (last)."
    )
    parameters: Mapping[str, str] = group(
        "parameter",
        "Parameters of the workflow: parameter.NAME = value",
        example="parameter.target = site",
    )

    @property
    def done(self) -> Path | None:
        """The folder to which files of succeeded jobs are moved; None: they stay."""
        return None if self.after == LEAVE else self.folder / self.after


@section
class Schedule:
    """Jobs at set times: a section for each schedule, [schedule NAME]."""

    name: str
    cron: str = setting(
        converters.cron,
        None,
        "Minute, hour, day of month, month and day of week, in UTC.",
        example="30 2 * * *",
    )
    workflow: str = setting(converters.word, None, "The workflow of the jobs.", example="web-video")
    inputs: tuple[str, ...] = setting(
        converters.arguments,
        "",
        "Input files, separated by blanks; put a name with blanks in quotes.",
        multiline=True,
    )
    priority: int = setting(
        whole(0, 100), "50", "The priority of the jobs, from 0 (first) to 100 (last)."
    )
    parameters: Mapping[str, str] = group(
        "parameter",
        "Parameters of the workflow: parameter.NAME = value",
        example="parameter.target = site",
    )


@section
class Alert:
    """Messages when something goes wrong: a section for each receiver, [alert NAME].
    Schedulers send them, so every scheduler needs the same sections.
    "backoffice alert test NAME" sends a test message."""

    name: str
    type: str = setting(
        choice("webhook", "email", "slack"),
        None,
        "webhook, email or slack (also for Mattermost and Rocket.Chat).",
        example="email",
    )
    on: tuple[str, ...] = setting(
        converters.alert_kinds,
        "job.failed task.stalled worker.lost disk.low",
        "What to report. publish.refused can be added; such a job also fails.",
    )
    every: timedelta = setting(
        age,
        "5m",
        "At most one message of each kind in this time; the next one gathers what happened"
        " meanwhile.",
    )
    workflow: str = setting(
        required, "*", "Report jobs and tasks of workflows that match this pattern."
    )
    url: str = setting(
        converters.receiver,
        "",
        "Where webhook and slack send to, also inside the network: [notify] hosts does not apply.",
        secret=bool,
    )
    secret: tuple[bytes, ...] = setting(
        webhook_keys.keys,
        "",
        "The keys that sign this webhook. Without them [notify] secret is used; one of both"
        " must be set.",
        secret=bool,
    )
    to: tuple[str, ...] = setting(
        converters.mail_addresses,
        "",
        "The addresses that email goes to, separated by blanks.",
        example="ops@example.org",
    )
    sender: str = setting(
        converters.mail_address,
        "",
        "The address that email comes from.",
        key="from",
        example="backoffice@example.org",
    )
    smtp: tuple[str, int] = setting(
        converters.server, "localhost:25", "The mail server, HOST:PORT."
    )
    tls: str = setting(
        choice("none", "starttls", "tls"), "none", "How the connection to it is encrypted."
    )
    user: str = setting(any_text, "", "The user name, if the mail server wants one.")
    password: str = setting(
        any_text, "", "The password, if the mail server wants one.", secret=bool
    )


@section
class Settings:
    source: str  # the file they came from, or "defaults"
    database: DatabaseSettings
    paths: PathSettings
    service: ServiceSettings
    worker: WorkerSettings
    scheduler: SchedulerSettings
    tools: ToolSettings
    limits: LimitSettings
    retention: RetentionSettings
    notify: NotifySettings
    log: LogSettings
    web: WebSettings
    auth: AuthSettings
    targets: Mapping[str, Target]
    commands: Mapping[str, Command]
    watches: Mapping[str, Watch]
    schedules: Mapping[str, Schedule]
    alerts: Mapping[str, Alert]


# Sections that stand once, by their title, which is the field of Settings.
SECTIONS: Final[Mapping[str, type]] = {
    "database": DatabaseSettings,
    "paths": PathSettings,
    "service": ServiceSettings,
    "worker": WorkerSettings,
    "scheduler": SchedulerSettings,
    "tools": ToolSettings,
    "limits": LimitSettings,
    "retention": RetentionSettings,
    "notify": NotifySettings,
    "log": LogSettings,
    "web": WebSettings,
    "auth": AuthSettings,
}
# Sections that stand as often as wanted, each as [kind NAME], and their field of Settings.
NAMED: Final[Mapping[str, tuple[type, str]]] = {
    "target": (Target, "targets"),
    "command": (Command, "commands"),
    "watch": (Watch, "watches"),
    "schedule": (Schedule, "schedules"),
    "alert": (Alert, "alerts"),
}


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
