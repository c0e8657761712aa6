"""Prometheus metrics: /metrics.

Of the whole: what the database holds, and what all processes have counted
(``counter_store``); every web server of one database tells the same of it. Of this
process: its requests, and the servers of a replicated database as it sees them.
Of this host: its disks. Owns the names; what is counted has its names in
``counters``.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from storm.locals import Store

from backoffice import __version__, tasks
from backoffice.data import counter_store, counters, migrations
from backoffice.data.cluster import DOWN, Status
from backoffice.data.counters import Key
from backoffice.reports import gauges, queue_statistics, records
from backoffice.reports.records import Record
from backoffice.states import ATTEMPT_STATES, RUNNING, WORKER_STATES
from backoffice.system import disk_space
from backoffice.system.disk_space import Disk
from backoffice.web import responses
from backoffice.web.context import RequestContext
from backoffice.web.handlers import Handlers
from middleware.metrics import exposition

PREFIX = "backoffice_"
_OUTCOMES = tuple(state for state in ATTEMPT_STATES if state != RUNNING)

Counts = Mapping[Key, float]


class Metrics(Handlers):
    def show(self) -> bytes:
        registry = CollectorRegistry()
        registry.register(_Figures(self.context))
        media_type, text = exposition(registry, self.context.environ)
        return responses.send(text, media_type)


class _Figures:
    """A collector for one scrape."""

    def __init__(self, context: RequestContext) -> None:
        self.context = context

    def collect(self) -> Iterator[Metric]:
        site, store = self.context.site, self.context.store
        kept = counter_store.read(store)
        yield from site.metrics.collect()
        yield from _versions(store)
        yield _gauge("jobs", "Jobs by state", "state", gauges.jobs(store, kept))
        yield from _queues(gauges.queues(store, kept))
        yield from _workers(store)
        yield _tick(kept)
        yield from _counted(kept, tuple(site.settings.targets))
        yield from of_nodes(site.database.nodes())
        yield from _disks(disk_space.of(site.settings).each())
        yield from _watches(store, sorted(site.settings.watches))


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(PREFIX + name, text, labels=[label])
    for one, value in values.items():
        gauge.add_metric([one], value)
    return gauge


def _versions(store: Store) -> Iterator[Metric]:
    build = {"version": __version__, "python": platform.python_version()}
    yield InfoMetricFamily(f"{PREFIX}build", "What this process runs", build)
    version = migrations.version(store)
    yield GaugeMetricFamily(f"{PREFIX}schema_version", "The last migration applied", version)


def _queues(queues: Iterable[Record]) -> Iterator[Metric]:
    by_name = {queue["name"]: queue for queue in queues}
    for name, key, text in (
        (gauges.READY_TASKS, "ready", "Tasks that wait for a worker"),
        ("queue_running_tasks", "running", "Tasks that run"),
        ("queue_paused", "paused", "1 if the queue is paused, 0 if not"),
        ("queue_oldest_ready_seconds", "oldest", "For how long the first task has been ready"),
    ):
        yield _gauge(name, text, "queue", {one: by_name[one][key] or 0 for one in by_name})
    limits = {one: queue["limit"] for one, queue in by_name.items() if queue["limit"] is not None}
    yield _gauge("queue_running_limit", "Tasks that may run at once, if limited", "queue", limits)


def _workers(store: Store) -> Iterator[Metric]:
    counts = records.worker_counts(store)
    values = {state: counts.get(state, 0) for state in WORKER_STATES}
    yield _gauge("workers", "Workers by state", "state", values)
    slots = queue_statistics.worker_slots(store)
    text = "Tasks that all active workers may run at once"
    yield GaugeMetricFamily(f"{PREFIX}worker_slots", text, slots)


def _watches(store: Store, names: Sequence[str]) -> Iterator[Metric]:
    found = {name: queue_statistics.untaken_count(store, name) for name in names}
    text = "Files that are refused, or that have stalled before they were complete"
    files = {name: float(count) for name, (count, _) in found.items()}
    yield _gauge("watch_untaken_files", text, "watch", files)
    text = "1 if the watch folder can be read, 0 if not"
    readable = {name: float(answers) for name, (_, answers) in found.items()}
    yield _gauge("watch_folder_readable", text, "watch", readable)


def _tick(kept: Counts) -> Metric:
    text = f"When a scheduler was last heard of, to {counter_store.EVERY:g} seconds; 0: never"
    return GaugeMetricFamily(PREFIX + counter_store.TICK[0], text, kept.get(counter_store.TICK, 0))


# What processes have counted ------------------------------------------------


def _counted(kept: Counts, targets: tuple[str, ...]) -> Iterator[Metric]:
    for counter in counters.COUNTERS:
        family = CounterMetricFamily(PREFIX + counter.name, counter.text, labels=counter.labels)
        there = {values for name, values in kept if name == counter.name}
        # From nothing to one is no increase to Prometheus, but from zero it is.
        for values in sorted({*there, *_possible(counter, targets)}):
            family.add_metric(values, kept.get((counter.name, values), 0))
        yield family
    yield _histogram(counters.ATTEMPT_SECONDS, kept)


def _possible(counter: counters.Counter, targets: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    choices: dict[str, tuple[tuple[str, ...], ...]] = {
        counters.ATTEMPTS.name: (tuple(tasks.names()), _OUTCOMES),
        counters.PUBLISHES.name: (targets, _OUTCOMES),
        counters.RETRACTIONS.name: (targets, _OUTCOMES),
        counters.DATABASE_RETRIES.name: (counters.RETRY_KINDS,),
        counters.DATABASE_ERRORS.name: (counters.ERROR_KINDS,),
        counters.NOTIFICATIONS.name: (
            counters.NOTIFICATION_KINDS,
            (counters.SENT, counters.UNSENT),
        ),
    }
    return product(*choices.get(counter.name, ()))


def _histogram(histogram: counters.Histogram, kept: Counts) -> Metric:
    family = HistogramMetricFamily(PREFIX + histogram.name, histogram.text, labels=histogram.labels)
    sums = sorted(values for name, values in kept if name == histogram.sum()[0])
    for values in sums:
        buckets, total = [], 0.0
        for bound in (*histogram.bounds, math.inf):
            total += kept.get(histogram.bucket(bound, *values), 0)
            buckets.append(("+Inf" if math.isinf(bound) else str(float(bound)), total))
        family.add_metric(values, buckets, kept[histogram.sum(*values)])
    return family


# The servers of a replicated database ---------------------------------------


def of_nodes(found: Sequence[Status]) -> Iterator[Metric]:
    """As this process sees them; reads and writes are its transactions."""
    labels = ["node", "role"]
    up = GaugeMetricFamily(f"{PREFIX}database_node_up", "1 if it answers, 0 if not", labels=labels)
    text = "How late it is, in seconds, if that is known"
    lag = GaugeMetricFamily(f"{PREFIX}database_node_lag_seconds", text, labels=labels)
    text = "Transactions of this process that it served, which only read"
    reads = CounterMetricFamily(f"{PREFIX}database_node_reads", text, labels=labels)
    text = "Transactions of this process that it served, which may write"
    writes = CounterMetricFamily(f"{PREFIX}database_node_writes", text, labels=labels)
    for one in found:
        where = [one.name, one.role]
        up.add_metric(where, float(one.state != DOWN))
        reads.add_metric(where, one.reads)
        writes.add_metric(where, one.writes)
        if one.lag is not None:
            lag.add_metric(where, one.lag)
    if found:
        yield from (up, lag, reads, writes)


# Of this host ---------------------------------------------------------------


def _disks(found: Sequence[Disk]) -> Iterator[Metric]:
    """Of one that does not answer, as it was when it last did."""
    answers = {disk.names[0]: float(not disk.away) for disk in found}
    yield _gauge("disk_answers", "1 if the folder can be looked at, 0 if not", "folder", answers)
    rooms = {disk.names[0]: disk.room for disk in found}
    for name, text, key in (
        ("disk_free_bytes", "Room for us on the folder's disk", "free"),
        ("disk_size_bytes", "Size of the folder's disk", "total"),
    ):
        known = {one: float(getattr(room, key)) for one, room in rooms.items() if room}
        yield _gauge(name, text, "folder", known)
