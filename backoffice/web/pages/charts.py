"""Charts of ended jobs: data for ``static/charts.js``, and tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from genshi.core import Markup

from backoffice.reports import throughput
from backoffice.reports.throughput import Interval
from backoffice.states import FAILED, SUCCEEDED
from backoffice.web.context import RequestContext
from backoffice.web.pages.render import NONE, join, moment, row


@dataclass(frozen=True)
class Chart:
    """``minutes`` is of a slot; so many slots are one row of the table."""

    name: str
    title: str
    minutes: int
    slots: int
    together: int


CHARTS = (
    Chart("ended-hour", "Last hour", 1, 60, 5),
    Chart("ended-day", "Last day", 30, 48, 4),
    Chart("ended-week", "Last week", 120, 84, 12),
)


def charts(context: RequestContext) -> list[dict[str, Any]]:
    """What a template needs of each, the shortest time first."""
    seen = throughput.of(context.site.database)
    seen.look(context.store)
    return [_chart(one, seen.intervals(one.minutes, one.slots)) for one in CHARTS]


def _chart(chart: Chart, slots: Sequence[Interval]) -> dict[str, Any]:
    data = {
        "start": slots[0].start,
        "step": chart.minutes * 60,
        SUCCEEDED: [_of(slot, SUCCEEDED) for slot in slots],
        FAILED: [_of(slot, FAILED) for slot in slots],
    }
    rows = [slots[n : n + chart.together] for n in range(0, len(slots), chart.together)]
    return {
        "name": chart.name,
        "title": chart.title,
        "sums": f"{_sum(slots, SUCCEEDED)} succeeded, {_sum(slots, FAILED)} failed",
        "counting": any(slot.ended is None for slot in slots),
        "data": json.dumps(data, separators=(",", ":")),
        "rows": join([_slots(some) for some in rows]),
    }


def _of(slot: Interval, state: str) -> int | None:
    return None if slot.ended is None else slot.ended[state]


def _sum(slots: Iterable[Interval], state: str) -> str:
    return f"{sum(_of(slot, state) or 0 for slot in slots):,}"


def _slots(slots: Sequence[Interval]) -> Markup:
    begins = datetime.fromtimestamp(slots[0].start, UTC)
    known = all(slot.ended is not None for slot in slots)
    counts = [_sum(slots, one) if known else NONE for one in (SUCCEEDED, FAILED)]
    return row(
        '<tr><th scope="row">%s</th><td class="number">%s</td><td class="number">%s</td></tr>',
        moment(begins),
        *counts,
    )
