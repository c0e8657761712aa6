"""Files, publications and the history as pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from genshi.core import Markup

from backoffice.data import model
from backoffice.data.model import File
from backoffice.media import colour
from backoffice.reports import lineage, records
from backoffice.states import PRESENT, PUBLICATION_STATES, PUBLISHED
from backoffice.web import queries
from backoffice.web.context import RequestContext
from backoffice.web.pages import render
from backoffice.web.pages.render import link, moment, row, state

Record = dict[str, Any]

_HLS = "application/vnd.apple.mpegurl"
_GONE = Markup('<span class="none">–</span>')


# Files ----------------------------------------------------------------------


def files(context: RequestContext, found: Sequence[Record]) -> bytes:
    rows = [
        row(
            '<tr><td class="long"><a href="%s" dir="auto">%s</a></td><td>%s</td><td>%s</td>'
            '<td class="number">%s</td><td class="number">%s</td><td>%s</td><td>%s</td></tr>',
            context.url(f"/files/{one['id']}"),
            one["name"],
            one["role"] or "source",
            picture(one["facts"]),
            render.span(one["facts"].get("duration")),
            render.size(one["size"]),
            link(context, f"/jobs/{one['job']}", f"job {one['job']}") if one["job"] else _GONE,
            moment(one["created"]),
        )
        for one in found
    ]
    return render.page(
        context,
        "files/files.html",
        title="Files",
        rows=render.join(rows),
        **_paging(context, "q", "job"),
    )


def file(context: RequestContext, record: Record) -> bytes:
    number = record["id"]
    row = model.get(context.store, File, number, "file")
    here = record["state"] == PRESENT
    return render.page(
        context,
        "files/file.html",
        title=record["name"] or f"File {number}",
        file=record,
        path=path_of(record["href"]),
        streams=streams(record["facts"]),
        facts=_plain_facts(record["facts"]),
        player=_player(context, row) if here else None,
        still=here and bool(records.still_of(context.store, row)),
        present=here,
        jobs=_jobs_with(context, number),
        publications=_publication_rows(context, lineage.publications_of(context.store, number)),
    )


def path_of(href: str) -> str:
    """What a file URL names, as people write it."""
    url = urlsplit(href)
    return unquote(url.path) if url.scheme == "file" else href


def picture(facts: Mapping[str, Any]) -> str:
    """The best picture of a file, else its sound, in a few words."""
    pictures = [one for one in _streams(facts, "video") if one.get("width")]
    if pictures:
        best = max(pictures, key=lambda one: one["width"] * one["height"])
        return f"{best['width']}×{best['height']} {best.get('codec', '')}"
    return ", ".join(str(one.get("codec", "")) for one in _streams(facts, "audio"))


def streams(facts: Mapping[str, Any]) -> Markup:
    """A row for each stream; empty if there is none."""
    kinds = ("video", "audio", "subtitle")
    found = [(kind, one) for kind in kinds for one in _streams(facts, kind)]
    return render.join(
        [
            row(
                '<tr><td class="number">%s</td><td>%s</td><td>%s</td><td>%s</td>'
                '<td class="number">%s</td></tr>',
                one.get("index", "–"),
                kind,
                " ".join(str(one[key]) for key in ("codec", "profile") if one.get(key)),
                _details(one),
                _rate(one.get("bit_rate")),
            )
            for kind, one in sorted(found, key=lambda pair: pair[1].get("index") or 0)
        ]
    )


def _streams(facts: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [one for one in facts.get(kind) or () if isinstance(one, dict)]


_HDR = {colour.PQ: "HDR (PQ)", colour.HLG: "HDR (HLG)"}


def _details(stream: Mapping[str, Any]) -> str:
    """What tells one stream from another."""
    parts = [
        "{width}×{height}" if stream.get("width") else "",
        "{frame_rate:g} frames/s" if stream.get("frame_rate") else "",
        "{pixel_format}" if stream.get("pixel_format") else "",
        "{scan}" if stream.get("scan") not in (None, "progressive") else "",
        "{first_field} field first" if stream.get("first_field") else "",
        _HDR.get(stream.get("colour", {}).get("transfer"), ""),
        "rotated by {rotation}°" if stream.get("rotation") else "",
        "{channels} channels" if (stream.get("channels") or 0) > 1 else "",
        "1 channel" if stream.get("channels") == 1 else "",
        "{sample_rate} Hz" if stream.get("sample_rate") else "",
        "{language}" if stream.get("language") not in (None, "", "und") else "",
    ]
    return ", ".join(part.format_map(stream) for part in parts if part)


def _rate(bits: float | None) -> str:
    return "–" if not bits else f"{bits / 1000:,.0f} kbit/s"


def _plain_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    shown = {"Format": str(facts["format"])} if facts.get("format") else {}
    if facts.get("duration") is not None:
        shown["Length"] = render.span(facts["duration"])
    if facts.get("bit_rate") and facts.get("format") != "hls":  # that of the playlist alone
        shown["Rate"] = _rate(facts["bit_rate"])
    return shown


def _player(context: RequestContext, file: File) -> Record | None:
    """How a browser plays it; None if it cannot."""
    content = context.url(f"/files/{file.id}/content")
    if file.media_type == _HLS and file.tree:
        name = quote(PurePosixPath(urlsplit(file.href).path).name, safe="%")
        return {"hls": f"{content}/{name}", "tag": "video"}
    kind = file.media_type.partition("/")[0]
    if kind in ("video", "audio"):
        return {"src": content, "tag": kind}
    return {"src": content, "tag": "img"} if file.media_type == "image/jpeg" else None


def _jobs_with(context: RequestContext, file: int) -> Markup:
    rows = [
        row(
            "<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>",
            _job_link(context, one),
            state(one["state"]),
            link(context, f"/workflows/{one['workflow']}", one["workflow"]),
            _made(context, one["made"]),
        )
        for one in lineage.jobs_with(context.store, file)
    ]
    return render.join(rows)


def _job_link(context: RequestContext, job: Mapping[str, Any]) -> Markup:
    where = context.url(f"/jobs/{job['id']}")
    return row('<a href="%s">%s <bdi>%s</bdi></a>', where, job["id"], job["title"])


def _made(context: RequestContext, made: Sequence[Mapping[str, Any]]) -> Markup:
    if not made:
        return _GONE
    links = [
        row('<a href="%s"><bdi>%s</bdi></a>', context.url(f"/files/{one['id']}"), one["name"])
        for one in made
    ]
    return Markup(", ").join(links)


# Publications ---------------------------------------------------------------


def publications(context: RequestContext, found: Sequence[Record]) -> bytes:
    return render.page(
        context,
        "files/publications.html",
        title="Publications",
        states=PUBLICATION_STATES,
        rows=_publication_rows(context, found),
        **_paging(context, "state", "job"),
    )


def publication(context: RequestContext, record: Record) -> bytes:
    return render.page(
        context,
        "files/publication.html",
        title=f"Publication {record['id']}",
        publication=record,
        web=_is_web(record["href"]),
        retractable=record["state"] == PUBLISHED,
    )


def _publication_rows(context: RequestContext, found: Sequence[Record]) -> Markup:
    return render.join([_publication_row(context, one) for one in found])


def _publication_row(context: RequestContext, one: Record) -> Markup:
    path: Markup | str = one["path"]
    if _is_web(one["href"]) and one["state"] == PUBLISHED:
        path = row('<a href="%s" rel="noreferrer">%s</a>', one["href"], one["path"])
    return row(
        '<tr><td>%s</td><td>%s</td><td>%s</td><td class="long" dir="auto">%s</td>'
        '<td class="number">%s</td><td>%s</td><td>%s</td><td>%s</td></tr>',
        link(context, f"/publications/{one['id']}", one["id"]),
        state(one["state"]),
        one["target"],
        path,
        render.size(one["size"]),
        row(
            "%s, %s",
            link(context, f"/files/{one['file']}", f"file {one['file']}"),
            link(context, f"/jobs/{one['job']}", f"job {one['job']}"),
        ),
        moment(one["published"]),
        moment(one["retracted"]),
    )


def _is_web(href: str) -> bool:
    return href.startswith(("https://", "http://"))


# The history ----------------------------------------------------------------


def events(context: RequestContext, found: Sequence[Record]) -> bytes:
    """Newest first; the interface gives them oldest first."""
    limit = context.query.get("limit", queries.DEFAULT_LIMIT)
    rows = [
        row(
            '<tr id="event-%s"><td>%s</td><td dir="auto">%s</td><td>%s</td><td>%s</td>'
            '<td class="long" dir="auto">%s</td></tr>',
            one["id"],
            moment(one["at"]),
            one["actor"],
            one["action"],
            _subject(context, one),
            one["detail"],
        )
        for one in reversed(found)
    ]
    full, after, before = (
        len(found) >= limit,
        context.query.get("after"),
        context.query.get("before"),
    )
    filters = _given(context, "actor", "action", "subject", "job")
    return render.page(
        context,
        "system/events.html",
        title="History",
        rows=render.join(rows),
        filters=filters,
        older=_here(context, filters, before=found[0]["id"]) if found and (full or after) else "",
        newer=_here(context, filters, after=found[-1]["id"]) if found and (before or after) else "",
        newest=_here(context, filters) if before or after else "",
    )


def _subject(context: RequestContext, event: Mapping[str, Any]) -> Markup | str:
    """A link, where the subject has a page."""
    kind, _, name = event["subject"].partition(" ")
    page = {"job": "/jobs", "task": "/tasks", "file": "/files", "worker": "/workers"}.get(kind)
    if kind == "queue":
        return link(context, f"/queues/{name}", event["subject"])
    if page and name.isdecimal():
        return link(context, f"{page}/{name}", event["subject"])
    return str(event["subject"])


# Filters and pages ----------------------------------------------------------


def _given(context: RequestContext, *names: str) -> dict[str, str]:
    return {name: str(context.query.get(name) or "") for name in names}


def _here(context: RequestContext, filters: Mapping[str, str], **more: object) -> str:
    """The address of this list with these filters."""
    kept = {"limit": context.query["limit"]} if "limit" in context.query else {}
    asked = {**{name: value for name, value in filters.items() if value}, **kept, **more}
    query = f"?{urlencode(asked)}" if asked else ""
    return context.url(context.path) + query


def _paging(context: RequestContext, *names: str) -> dict[str, Any]:
    filters = _given(context, *names)
    return {
        "filters": filters,
        "older": context.older,
        "newest": _here(context, filters) if context.query.get("after") else "",
    }
