"""``make demo``: encode and publish one clip with the real service, in a folder of its own.

Uses the embedded database and serves the pages on http://127.0.0.1:8080/. ``MEDIA``
names a clip to use instead of the generated one. With ``DEMO_EXIT=1`` it stops once the
job has ended, with status 0 only if that succeeded.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from backoffice.config import environment, loading
from backoffice.config.settings import Settings
from backoffice.data.database import Database
from backoffice.reports import records
from backoffice.system.prctl import die_with
from backoffice.system.protection import protect_process

HOME = Path("var/demo")
REMOTE = (environment.URL_VARIABLE, environment.TOKEN_VARIABLE)  # the demo uses its own service
SECONDS = 12
START_WITHIN = 15.0  # seconds
STOP_AFTER = 60.0  # seconds that the service is given to stop


def main(environ: Mapping[str, str] = os.environ) -> int:
    protect_process()
    home = HOME.absolute()
    (home / "media").mkdir(parents=True, exist_ok=True)
    try:
        clip = _clip(environ, home)
        key = time.strftime("demo-%Y%m%d-%H%M%S")
        settings_environ = _environ(environ, home, clip)
        _backoffice(settings_environ, "migrate").check_returncode()
        service = _start_service(settings_environ, home)
        _print_address(settings_environ)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    try:
        title = f"Demo: {clip.name}"
        arguments = ("--key", key, "--title", title, "--wait")
        status = _backoffice(
            settings_environ, "submit", "web-video", str(clip), *arguments
        ).returncode
        _print_result(loading.load(None, settings_environ), key)
        if environ.get("DEMO_EXIT", "0") in ("", "0"):
            _serve_until_interrupted(service)
        return status
    except KeyboardInterrupt:
        return 130
    finally:
        _stop(service)


def _clip(environ: Mapping[str, str], home: Path) -> Path:
    if environ.get("MEDIA"):
        clip = Path(environ["MEDIA"]).absolute()
        if not clip.is_file():
            raise FileNotFoundError(f"MEDIA={clip}: there is no such file")
        return clip
    clip = home / "media" / "demo.mp4"
    if not clip.exists():
        _generate(clip)
    return clip


def _generate(clip: Path) -> None:
    """Moving picture and sound, under another name until it is complete."""
    if shutil.which("ffmpeg") is None:
        raise FileNotFoundError("ffmpeg is missing; type: apt-get install ffmpeg")
    print(f"Generating {SECONDS} s of video in {clip} …", flush=True)
    private = clip.with_suffix(".part")
    command = [
        *"ffmpeg -hide_banner -nostdin -loglevel error -y".split(),
        "-f",
        "lavfi",
        "-i",
        f"testsrc2=size=1280x720:rate=25:duration={SECONDS}",
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=440:beep_factor=4:duration={SECONDS}",
        *"-c:v libx264 -preset veryfast -pix_fmt yuv420p".split(),
        *"-c:a aac -shortest -movflags +faststart -f mp4".split(),
        f"file:{private}",
    ]
    subprocess.run(command, check=True)
    private.rename(clip)


def _environ(environ: Mapping[str, str], home: Path, clip: Path) -> dict[str, str]:
    roots = os.pathsep.join([str(home / "media"), str(clip.resolve().parent)])
    demo = {"BACKOFFICE_PATHS_HOME": str(home), "BACKOFFICE_PATHS_ROOTS": roots}
    inherited = {name: value for name, value in environ.items() if name not in REMOTE}
    return {**inherited, **demo}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "backoffice", *arguments]


def _backoffice(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(_command(*arguments), env=environ, check=False)


def _start_service(environ: Mapping[str, str], home: Path) -> subprocess.Popen[bytes]:
    log = home / "service.log"
    print(f"Starting the service; its log is {log}", flush=True)
    parent = os.getpid()
    with open(log, "ab") as stream:
        return subprocess.Popen(
            _command("serve"),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            process_group=0,  # Ctrl-C stops the demo, which then stops the service
            preexec_fn=lambda: die_with(parent, signal.SIGTERM),
        )


def _print_address(environ: Mapping[str, str]) -> None:
    """Print where the pages are, once they are served. If the port is in use, the
    service's log says so."""
    host, port = _address(loading.load(None, environ))
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        if _is_backoffice(host, port):
            print(f"Jobs, files and all else: http://{host}:{port}/", flush=True)
            return
        time.sleep(0.1)
    print(f"The web server does not answer on port {port}; the log tells why", file=sys.stderr)


def _is_backoffice(host: str, port: int) -> bool:
    """Whether Backoffice answers there, and not another program."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().getheader("Server") == "Backoffice"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _address(settings: Settings) -> tuple[str, int]:
    listen = settings.web.listen
    if not isinstance(listen, tuple):
        raise OSError(f"the demo needs [web] listen to be a host and a port, not {listen}")
    return listen


def _print_result(settings: Settings, key: str) -> None:
    """Print the job's state, and where its publications are."""
    database = Database(settings.database)
    newest = database.read(lambda store: records.jobs(store, limit=1))
    if not newest or newest[0]["key"] != key:
        return  # it was refused, and submit has said why
    job = database.read(records.job, newest[0]["id"])
    database.close()
    print(f"\nJob {job['id']} {job['state']}. {job['message'] or ''}".rstrip())
    for publication in job["publications"]:
        print(f"  {publication['href']}")


def _serve_until_interrupted(service: subprocess.Popen[bytes]) -> None:
    print("\nThe service goes on; Ctrl-C ends it.", flush=True)
    service.wait()


def _stop(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    try:
        service.wait(STOP_AFTER)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


if __name__ == "__main__":
    sys.exit(main())
