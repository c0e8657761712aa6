"""The command line: runs one command, and turns errors into lines and exit statuses.

What a command needs is loaded once its arguments are known: ``--help`` must be quick.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence

from backoffice.cli import arguments
from backoffice.config import loading, service_address
from backoffice.config.redaction import masked
from backoffice.config.settings import Settings
from backoffice.errors import (
    BackofficeError,
    ConfigError,
    DatabaseUnavailable,
    DefinitionError,
    Invalid,
    SchemaMismatch,
    ServiceUnreachable,
)
from backoffice.system.protection import protect_process

FAILED, WRONG, AWAY, INTERRUPTED = 1, 2, 4, 130
PROCESSES = {
    "serve": "service.supervisor",
    "worker": "workers.worker",
    "scheduler": "scheduler.scheduler",
    "web": "web.server.process",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    protect_process()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names may hold what the terminal cannot
            stream.reconfigure(errors="backslashreplace")
    args = arguments.parser().parse_args(argv)
    try:
        address = service_address.service(args.url, args.token_file, os.environ)
        if address is not None:
            status = _run_over_http(args, address)
        else:
            status = _run(args, loading.load(args.config, os.environ))
        sys.stdout.flush()
        return status
    except BackofficeError as error:
        return _explain(error)
    except BrokenPipeError:
        # The reader has closed the pipe; flushing at exit must not fail on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _report(error)


def _run(args: Namespace, settings: Settings) -> int:
    if args.function in PROCESSES:
        return _run_process(args.function, settings)
    module, _, name = args.function.partition(".")
    function = getattr(importlib.import_module(f"backoffice.cli.{module}"), name)
    if module == "installation":
        return int(function(args, settings))
    from backoffice.cli.database_backend import DatabaseBackend

    with DatabaseBackend(settings) as backend:
        return int(function(args, backend))


def _run_over_http(args: Namespace, address: service_address.Address) -> int:
    """The settings are those of the service; no settings are read here."""
    module, _, name = args.function.partition(".")
    if module != "commands":
        words = " ".join(filter(None, (args.command, getattr(args, "action", ""))))
        raise Invalid(f"'{words}' is not for a service elsewhere; run it there, without --url")
    from backoffice import client
    from backoffice.cli import commands
    from backoffice.cli.http_backend import HTTPBackend

    with HTTPBackend(client.Client(address.url, address.token)) as backend:
        return int(getattr(commands, name)(args, backend))


def _run_process(name: str, settings: Settings) -> int:
    """Without what other commands need: a worker should be small."""
    import logging

    from backoffice.system import logs
    from backoffice.system.sd_notify import Notifier

    parent = Notifier(os.environ.get("NOTIFY_SOCKET", ""))
    logs.setup(settings.log)
    log = logging.getLogger("backoffice.process")
    module = importlib.import_module(f"backoffice.{PROCESSES[name]}")
    try:
        status: int = module.main(settings)
        return status
    except BackofficeError as error:
        parent(STATUS=error)
        if settings.log.to != "stderr":  # else the error is printed there anyway
            log.error(logs.line("process.failed", process=name, reason=error))
        raise
    except Exception:
        log.exception(logs.line("process.crashed", process=name))
        raise


def _explain(error: BackofficeError) -> int:
    text = masked(str(error))
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(f"backoffice: {text}", file=sys.stderr)
    if isinstance(error, ConfigError | Invalid | DefinitionError):
        return WRONG
    away = isinstance(error, DatabaseUnavailable | SchemaMismatch | ServiceUnreachable)
    return AWAY if away else FAILED


def _report(error: Exception) -> int:
    """A fault of the program's own: a sentence, with the place for who mends it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    text = ascii(masked(f"{type(error).__name__} at {place}: {error}"))
    print(f"backoffice: a fault of the program, please report it: {text}", file=sys.stderr)
    return FAILED
