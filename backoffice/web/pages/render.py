"""Genshi rendering: the template loader, the frame, and small pieces of HTML.

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

from backoffice import __version__, units
from backoffice.config.resources import share
from backoffice.data.cluster import DOWN, UP
from backoffice.states import CANCELLED, FAILED, PAUSED, RUNNING, SUCCEEDED
from backoffice.web import responses
from backoffice.web.context import RequestContext

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
_loaders: dict[str, TemplateLoader] = {}  # by the folder that comes first
_loading = threading.Lock()


def page(
    context: RequestContext,
    template: str,
    *,
    title: str,
    status: int = 200,
    folder: str = "",
    **data: Any,
) -> bytes:
    """The template in the frame, as the response; ``data`` are its variables."""
    body = html(context, template, title=title, folder=folder, **data)
    return responses.send(body, "text/html; charset=utf-8", status=status)


def html(
    context: RequestContext, template: str, *, title: str, folder: str = "", **data: Any
) -> bytes:
    """The template with the frame around it. ``folder`` holds the templates of another
    application, which may include those of the frame."""
    environ = context.environ
    identity = environ.get("middleware.identity")
    stream = _template(template, folder).generate(
        title=title,
        version=__version__,
        navigation=NAVIGATION,
        here=context.path,
        url=context.url,
        static=environ["middleware.static"],
        token=_token(context),
        may=context.may if identity else _nobody,
        state=state,
        moment=moment,
        size=size,
        span=span,
        writable=context.site.database.takes_writes,
        user=identity and identity.name,
        role=identity and identity.role,
        **data,
    )
    text: bytes = stream.render("html", doctype="html5", strip_whitespace=False, encoding="utf-8")
    return text


def part(context: RequestContext, template: str, **data: Any) -> Markup:
    """A template without the frame; it knows nobody, so that many may share it."""
    stream = _template(template).generate(url=context.url, **data)
    return Markup(stream.render("html", strip_whitespace=False, encoding=None))


def _nobody(role: str) -> bool:
    return False


def _template(name: str, folder: str = "") -> Any:
    with _loading:
        if folder not in _loaders:
            folders = [folder, str(share("templates"))] if folder else [str(share("templates"))]
            _loaders[folder] = TemplateLoader(folders, auto_reload=False)
        return _loaders[folder].load(name)


def _token(context: RequestContext) -> str:
    """What a form that changes something must carry."""
    return str(context.environ.get("middleware.csrf_token", ""))


# Pieces ---------------------------------------------------------------------


def row(text: str, *values: object) -> Markup:
    """``text`` is ours; each ``%s`` in it takes a value, escaped unless it is Markup."""
    plain = (one if isinstance(one, Markup) else str(one) for one in values)
    made: Markup = Markup(text) % tuple(plain)
    return made


def join(parts: Sequence[Markup]) -> Markup:
    return Markup("".join(parts))


def link(context: RequestContext, path: str, text: object) -> Markup:
    return row('<a href="%s">%s</a>', context.url(quote(path)), text)


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
    return "–" if number is None else units.size(number)


def span(seconds: float | None) -> str:
    return "–" if seconds is None else units.duration(seconds)


def pairs(values: Mapping[str, object]) -> Markup:
    """A definition list, or what stands for none."""
    if not values:
        return Markup('<p class="empty">None.</p>')
    rows = (row("<dt>%s</dt><dd>%s</dd>", name, value) for name, value in values.items())
    return Markup("<dl>") + Markup("".join(rows)) + Markup("</dl>")
