"""One attempt, inside its process: run the task module, return the outcome.

Runs in a child of the worker and has no database. It exchanges tuples with its
worker over a pipe; the first word of each is its kind. It kills itself when its
lease ends, whatever it is doing: a worker that is stopped, cut off or dead
renews no lease.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection

from backoffice import tasks
from backoffice.config.settings import Settings
from backoffice.engine import job_folders
from backoffice.engine.assignments import Assignment
from backoffice.engine.outcomes import Outcome
from backoffice.errors import BackofficeError, LeaseLost, ProcessKilled, TaskFailed, reason_of
from backoffice.states import FAILED, LOST, SUCCEEDED, Reason
from backoffice.system import logs
from backoffice.system.logs import line
from backoffice.tasks import Result
from backoffice.workers.executors import attempt_log, bounded_log, results
from backoffice.workers.executors.attempt_log import AttemptLog
from backoffice.workers.executors.lease_deadline import LeaseDeadline
from backoffice.workers.executors.sources import open_sources
from backoffice.workers.executors.task_context import AttemptContext, attempt_folder

_log = logging.getLogger("backoffice.attempt")


def serve(pipe: Connection, lease: LeaseDeadline, settings: Settings) -> None:
    """Run the assignments that come through the pipe until it is closed."""
    lease.guard()
    while True:
        try:
            assignment = pipe.recv()
        except EOFError:
            return
        lease.guard()
        outcome = _run(assignment, pipe, settings)
        lease.release()
        pipe.send(("done", outcome))


def run_here(assignment: Assignment, settings: Settings) -> Outcome:
    """Run a trivial task (``Trait.TRIVIAL``) in this process, without opening
    its sources: it uses none."""
    log = AttemptLog(settings, assignment)
    context = AttemptContext(assignment, None, settings, log)
    try:
        tasks.load(assignment.type).run(context)
    except Exception as error:  # a fault in a task module must not end the worker
        return _crashed(context, error)
    finally:
        log.close()
    return Outcome(SUCCEEDED)


def _run(assignment: Assignment, pipe: Connection, settings: Settings) -> Outcome:
    """Run the attempt; never raises."""
    began, cpu = time.monotonic(), _cpu_seconds()
    os.environ["BO_ATTEMPT"] = f"{assignment.claim.task_id}-{assignment.claim.attempt}"
    log = AttemptLog(settings, assignment)
    context = AttemptContext(assignment, pipe, settings, log)
    try:
        with ExitStack() as opened:
            outcome = _outcome(context, opened)
    finally:
        log.close()
    if outcome.state != SUCCEEDED:
        job_folders.discard(attempt_folder(settings, assignment))
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return replace(
        outcome,
        message=context.redact(outcome.message),
        exit_status=context.exit_status,
        cpu_seconds=_cpu_seconds() - cpu,
        peak_memory=max(context.peak_memory, own_peak),
        wall_seconds=time.monotonic() - began,
    )


def _outcome(context: AttemptContext, opened: ExitStack) -> Outcome:
    assignment, settings = context.assignment, context.settings
    try:
        _clean_up_earlier_attempts(context)
        context.sources, context.names = open_sources(assignment.references, settings, opened)
        return results.succeeded(context, tasks.load(assignment.type).run(context))
    except TaskFailed as error:
        context.log(f"failed: {error}")
        result = Result(deliveries=getattr(error, "deliveries", ()))
        return Outcome(FAILED, str(error), error.reason, retry=error.retry, result=result)
    except ProcessKilled as error:
        context.log(f"killed: {error}")
        return Outcome(LOST, str(error), Reason.KILLED)
    except LeaseLost as error:
        context.log(f"given up: {error}")
        return Outcome(LOST, str(error), Reason.LEASE_LOST)
    except OSError as error:
        context.log(traceback.format_exc())
        return Outcome(FAILED, _sentence(error), reason_of(error))
    except BackofficeError as error:
        context.log(f"failed: {error}")
        return Outcome(FAILED, str(error), Reason.OTHER, retry=False)
    except Exception as error:  # a fault in a task module must not end the process
        outcome = _crashed(context, error)
        logs.flush()  # KILL may be the only end this process ever gets
        return outcome


def _crashed(context: AttemptContext, error: Exception) -> Outcome:
    context.log(traceback.format_exc())
    _log.exception(line("task.crashed", **context.assignment.ids))
    fault = context.redact(f"{type(error).__name__}: {error}")
    message = f"fault in task type {context.assignment.type}: {fault}"
    return Outcome(FAILED, message, Reason.FAULT)


def _clean_up_earlier_attempts(context: AttemptContext) -> None:
    """Remove the folders of earlier attempts, whose outputs were not accepted, and
    complete their logs, which a host that died could not."""
    assignment, paths = context.assignment, context.settings.paths
    for number in range(1, context.attempt):
        folder = job_folders.of_attempt(paths, assignment.claim.job_id, context.name, number)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            bounded_log.join(attempt_log.path_of(context.settings, assignment, number))


def _sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _cpu_seconds() -> float:
    """Of this process and the children it has waited for."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total
