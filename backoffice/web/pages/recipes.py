"""Workflows and profiles as pages: what they do, and the XML they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genshi.core import Markup

from backoffice.config.redaction import shown
from backoffice.engine import catalogue
from backoffice.engine import workflows as recipes
from backoffice.engine.workflows import InputSpec, ParameterSpec, TaskSpec, Variant
from backoffice.media.profiles import Audio, Profile, Video
from backoffice.reports.records import Record
from backoffice.web.context import RequestContext
from backoffice.web.pages import pictures, render
from backoffice.web.pages.pictures import Node
from backoffice.web.pages.render import NONE, join, link, row, span

# Workflows ------------------------------------------------------------------


def workflows(context: RequestContext, found: Sequence[Record]) -> bytes:
    rows = [
        row(
            '<tr><th scope="row">%s</th><td class="long">%s<div class="tiny">%s</div></td>'
            '<td class="number">%s</td><td class="number">%s</td><td>%s</td></tr>',
            link(context, f"/workflows/{one['name']}", one["name"]),
            one["title"],
            one["description"],
            one["version"],
            len(one["tasks"]),
            ", ".join(given["role"] for given in one["inputs"]) or NONE,
        )
        for one in found
    ]
    return render.page(context, "recipes/workflows.html", title="Workflows", rows=join(rows))


def workflow(context: RequestContext, record: Record) -> bytes:
    found = context.site.catalogue.workflows[record["name"]]
    nodes = [
        Node(task.name, task.title or task.name, task.needs, note=task.type) for task in found.tasks
    ]
    return render.page(
        context,
        "recipes/workflow.html",
        title=f"Workflow {found.name}",
        workflow=found,
        picture=pictures.dag(nodes, f"The tasks of {found.name}"),
        inputs=join([_input(one) for one in found.inputs]),
        parameters=join([_parameter(one) for one in found.parameters]),
        tasks=join([_task(context, one) for one in found.tasks]),
        xml=_source(found.source),
    )


def _input(one: InputSpec) -> Markup:
    least, most = one.minimum, one.maximum
    number = str(most) if least == most else f"{least} to {most}"
    return row(
        "<li><strong>%s</strong>: %s %s</li>", one.role, number, "file" if most == 1 else "files"
    )


def _parameter(one: ParameterSpec) -> Markup:
    allowed = ", ".join(one.choices) or one.type
    default = shown(one.default or "") or ("must be given" if one.required else NONE)
    return row(
        '<tr><th scope="row">%s</th><td class="long">%s<div class="tiny">%s</div></td>'
        "<td>%s</td><td>%s</td></tr>",
        one.name,
        one.title,
        one.description,
        allowed,
        default,
    )


def _task(context: RequestContext, one: TaskSpec) -> Markup:
    conditions = " and ".join(recipes.describe(condition) for condition in one.when)
    return row(
        '<tr><th scope="row">%s</th><td class="nowrap">%s</td><td class="long">%s</td><td>%s</td>'
        '<td>%s</td><td>%s</td><td class="number">%s</td><td class="number">%s</td></tr>',
        one.title or one.name,
        one.type,
        ", ".join(one.needs) or NONE,
        conditions or NONE,
        row("%s %s", link(context, f"/queues/{one.queue}", one.queue), " ".join(sorted(one.tags))),
        _choices(context, one),
        one.attempts,
        span(one.timeout),
    )


def _choices(context: RequestContext, task: TaskSpec) -> Markup:
    """What the recipe itself settles of a task."""
    told = [
        row(
            "<div>%s %s</div>",
            name,
            _profile(context, value) if name == "profile" else shown(value),
        )
        for name, value in task.parameters.items()
    ]
    told += [_variant(context, one) for one in task.variants]
    return join(told) if told else NONE


def _profile(context: RequestContext, name: str) -> Markup:
    return link(context, f"/profiles/{name}", name)


def _variant(context: RequestContext, one: Variant) -> Markup:
    """A result of several: its profile, and what it depends on."""
    conditions = " and ".join(recipes.describe(condition) for condition in one.when)
    name = one.parameters.get("profile", "")
    return row(
        "<div>%s: %s%s</div>",
        *(one.name, _profile(context, name) if name else NONE),
        f", if {conditions}" if conditions else "",
    )


def _source(path: str) -> str:
    return catalogue.visible(path).decode("utf-8", "replace")


# Profiles -------------------------------------------------------------------


def profiles(context: RequestContext, found: Sequence[Record]) -> bytes:
    known = context.site.catalogue.profiles
    rows = [
        row(
            '<tr><th scope="row">%s</th><td class="long">%s<div class="tiny">%s</div></td>'
            "<td>%s</td><td>%s</td></tr>",
            link(context, f"/profiles/{one['name']}", one["name"]),
            one["title"],
            one["description"],
            one["format"],
            _in_short(known[one["name"]]),
        )
        for one in found
    ]
    return render.page(context, "recipes/profiles.html", title="Profiles", rows=join(rows))


def _in_short(profile: Profile) -> str:
    if profile.copy:
        return "copied as it is"
    heights = [f"{one.height}p" if one.height else "as tall as the source" for one in profile.video]
    sound = [f"{profile.audio.codec} sound"] if profile.audio else []
    return ", ".join([*heights, *sound])


def profile(context: RequestContext, record: Record) -> bytes:
    found = context.site.catalogue.profiles[record["name"]]
    return render.page(
        context,
        "recipes/profile.html",
        title=f"Profile {found.name}",
        profile=found,
        facts=_facts(found),
        rungs=join([_rung(one) for one in found.video]),
        sound=_sound(found.audio) if found.audio else {},
        users=[
            link(context, f"/workflows/{one.name}", one.name)
            for one in context.site.catalogue.workflows.values()
            if any(_uses(task, found.name) for task in one.tasks)
        ],
        xml=_source(found.source),
    )


def _uses(task: TaskSpec, profile: str) -> bool:
    return any(parameters.get("profile") == profile for parameters in task.parameter_sets)


def _facts(one: Profile) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if one.container:
        facts["Container"] = f"{one.container.format} (.{one.container.extension})"
    if one.package:
        facts["Package"] = f"{one.package.format}, segments of {span(one.package.segment)}"
    if one.copy:
        facts["Streams"] = "copied, not encoded"
    if one.maximum:
        facts["At most"] = span(one.maximum)
    return facts | {"Encoders": ", ".join(sorted(one.encoders)) or "none"}


def _rung(one: Video) -> Markup:
    return row(
        '<tr><th scope="row">%s</th><td>%s</td><td>%s</td><td class="number">%s</td>'
        '<td class="number">%s</td><td class="number">%s</td><td>%s</td><td>%s</td>'
        '<td class="number">%s</td></tr>',
        one.name or (f"{one.height}p" if one.height else "picture"),
        " ".join([one.codec, one.profile]),
        f"{one.height} lines" if one.height else "as the source",
        _rate(one.rate),
        _rate(one.maximum),
        NONE if one.quality is None else one.quality,
        one.preset or NONE,
        one.pixel_format + (", keeps HDR" if one.dynamic_range == "keep" else ""),
        span(one.keyframes) if one.keyframes else NONE,
    )


def _rate(kilobits: int) -> Markup | str:
    return f"{kilobits:,} kb/s" if kilobits else NONE


_STREAMS = {
    "main": "the main one of the source",
    "languages": "one a language and role of the source",
    "all": "all of the source, each as it is",
}


def _sound(one: Audio) -> dict[str, Any]:
    sound: dict[str, Any] = {
        "Codec": one.codec,
        "Rate": _rate(one.rate),
        "Channels": one.channels or "as the source",
        "Sample rate": f"{one.sample_rate:,} Hz",
        "Streams": _STREAMS[one.streams],
    }
    if one.languages:
        sound["Languages first"] = ", ".join(one.languages)
    if one.loudness:
        told = (f"{one.loudness.integrated:g} LUFS", f"{one.loudness.peak:g} dBTP at most")
        sound["Loudness"] = ", ".join(told)
    return sound
