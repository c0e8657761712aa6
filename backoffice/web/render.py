"""Pages out of Genshi templates: the loader, the frame, and small pieces of HTML.

Owns how things look that every page shows: states, times, sizes, links. Long
tables are made of ``row``, which escapes what it is given and is ten times as
fast as a template's loop. It knows no page.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from genshi.core import Markup
from genshi.template import TemplateLoader
from webob import Response

from backoffice import __version__
from backoffice.config.resources import share
from backoffice.data.cluster import DOWN, UP
from backoffice.states import CANCELLED, FAILED, PAUSED, RUNNING, SUCCEEDED
from backoffice.web.call import Call

NAVIGATION = (  # path, name, and the key that leads there after "g"
    ("/", "Overview", "o"),
    ("/jobs", "Jobs", "j"),
    ("/files", "Files", "f"),
    ("/publications", "Publications", "p"),
    ("/queues", "Queues", "q"),
    ("/workers", "Workers", "w"),
    ("/nodes", "Database", "d"),
    ("/workflows", "Workflows", "r"),
    ("/profiles", "Profiles", "e"),
    ("/schedules", "Schedules", "s"),
    ("/events", "History", "h"),
)
# Shapes beside the colours: nobody must tell states apart by colour alone.
SIGNS = {RUNNING: "▶", SUCCEEDED: "✓", FAILED: "✗", CANCELLED: "⊘", PAUSED: "❚❚"}
SIGNS |= {UP: "✓", DOWN: "✗"}
NONE = Markup('<span class="none">–</span>')  # where there is no value
_loader: TemplateLoader | None = None
_loading = threading.Lock()


def page(
    call: Call,
    template: str,
    *,
    title: str,
    status: int = 200,
    headers: Sequence[tuple[str, str]] = (),
    **data: Any,
) -> Response:
    """The template with the frame around it; ``data`` are its variables."""
    identity = call.environ.get("middleware.identity")
    html = _template(template).generate(
        **{"call": call, "title": title, "version": __version__, "navigation": NAVIGATION},
        **{"here": call.environ.get("PATH_INFO", "/"), "url": call.url},
        **{"static": call.environ["middleware.static"], "token": _token(call)},
        **{"may": call.may if identity else _nobody},
        **{"state": state, "moment": moment, "size": size, "span": span},
        **{"writable": call.site.database.takes_writes},
        **{"user": identity and identity.name, "role": identity and identity.role},
        **data,
    )
    text = html.render("html", doctype="html5", strip_whitespace=False, encoding="utf-8")
    response = call.respond(text, "text/html", status=status, headers=headers)
    response.charset = "utf-8"
    return response


def part(call: Call, template: str, **data: Any) -> Markup:
    """A template without the frame; it knows nobody, so that many may share it."""
    html = _template(template).generate(url=call.url, **data)
    return Markup(html.render("html", strip_whitespace=False, encoding=None))


def _nobody(role: str) -> bool:
    return False


def _template(name: str) -> Any:
    global _loader
    with _loading:
        if _loader is None:
            _loader = TemplateLoader(str(share("templates")), auto_reload=False)
        return _loader.load(name)


def _token(call: Call) -> str:
    """What a form that changes something must carry."""
    return str(call.environ.get("middleware.csrf_token", ""))


# Pieces ---------------------------------------------------------------------


def row(text: str, *values: object) -> Markup:
    """``text`` is ours; each ``%s`` in it takes a value, escaped unless it is Markup."""
    plain = (one if isinstance(one, Markup) else str(one) for one in values)
    made: Markup = Markup(text) % tuple(plain)
    return made


def join(parts: Sequence[Markup]) -> Markup:
    return Markup("".join(parts))


def link(call: Call, path: str, text: object) -> Markup:
    return row('<a href="%s">%s</a>', call.url(quote(path)), text)


def following(headers: Sequence[tuple[str, str]]) -> str:
    """The address of the next page, out of the Link header; empty if there is none."""
    for name, value in headers:
        if name == "Link" and value.endswith('rel="next"'):
            return value[1 : value.index(">")]
    return ""


def state(name: str) -> Markup:
    return row(
        '<span class="state %s"><i aria-hidden="true">%s</i> %s</span>',
        name,
        SIGNS.get(name, "○"),
        name,
    )


def moment(when: datetime | None) -> Markup:
    """The script turns it into "3 min ago", in the viewer's zone on hover."""
    if when is None:
        return NONE
    utc = when if when.tzinfo is None else when.astimezone(UTC).replace(tzinfo=None)
    text = utc.isoformat(sep=" ", timespec="seconds")
    return row('<time datetime="%sZ">%s UTC</time>', text.replace(" ", "T"), text)


def size(number: float | None) -> str:
    """Bytes as people say them."""
    if number is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def span(seconds: float | None) -> str:
    """A length of time as people say it."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def pairs(values: Mapping[str, object]) -> Markup:
    """A definition list, or what stands for none."""
    if not values:
        return Markup('<p class="empty">None.</p>')
    rows = (row("<dt>%s</dt><dd>%s</dd>", name, value) for name, value in values.items())
    return Markup("<dl>") + Markup("".join(rows)) + Markup("</dl>")
