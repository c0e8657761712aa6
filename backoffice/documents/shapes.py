"""Shapes: which parts of a record a document holds, and in which order.

What is not in these tables never leaves. ``FORMS`` has the documents that come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """How one kind of record is written. A key's value becomes …"""

    tag: str
    attributes: str = ""  # attributes; lists of words are joined by spaces
    texts: str = ""  # elements with a text
    # in this order: a shape, an element for each of a list; or a tag,
    # <tag name="key">value</tag> for each pair of a mapping
    parts: Mapping[str, Shape | str] = field(default_factory=dict)
    values: str = ""  # nested <entry name="key"> and <item>
    lines: Mapping[str, str] = field(
        default_factory=dict
    )  # <tag>text</tag>, one for each of a list
    commands: str = ""  # <command><argument>…, one for each list of a list

    def names(self) -> list[str]:
        """The keys of a record that are shown."""
        return [
            *f"{self.attributes} {self.texts}".split(),
            *self.parts,
            *self.values.split(),
            *self.lines,
            *self.commands.split(),
        ]


@dataclass(frozen=True)
class Form:
    """How a document that comes in is written as JSON. A key's value becomes …"""

    tag: str
    attributes: str = ""
    texts: str = ""  # elements with a text
    pairs: Mapping[str, str] = field(default_factory=dict)  # <tag name="key">value</tag>
    parts: Mapping[str, Form] = field(default_factory=dict)  # one, or each of a list


FORMS = {
    "submission": Form(
        "job",
        "workflow priority key delay",
        texts="title",
        pairs={"parameters": "parameter", "metadata": "metadata"},
        parts={"inputs": Form("input", "role href")},
    ),
    "registration": Form("file", "href", pairs={"metadata": "metadata"}),
    "action": Form(
        "action",
        "name value preview",
        parts={
            "filter": Form("filter", "state workflow submitter q submitted-after submitted-before"),
            "jobs": Form("job", "id"),
        },
    ),
}
TASK = Shape(
    "task",
    "id job name type state reason queue tags priority attempt attempts progress speed eta worker"
    " host run_at started finished needs",
    texts="title message",
    values="report",
)
PUBLICATION = Shape(
    "publication",
    "id job task file target path href state sha256 size published retracted",
)
JOB = Shape(
    "job",
    "id state workflow version priority progress submitted started finished cancel_requested"
    " submitter key",
    texts="title message",
    parts={
        "inputs": Shape("input", "role file href"),
        "outputs": Shape("output", "role file href task media_type size sha256"),
        "parameters": "parameter",
        "metadata": "metadata",
        "tasks": TASK,
        "publications": PUBLICATION,
    },
)
ATTEMPT = Shape(
    "attempt",
    "id task number state reason worker host started finished ffmpeg exit_status cpu_seconds"
    " peak_memory wall_seconds log log_size",
    texts="message",
    commands="argv",
)
FILE = Shape(
    "file",
    "id name role href size sha256 media_type state job made_by created",
    parts={"metadata": "metadata"},
    values="facts",
)
WORKER = Shape(
    "worker",
    "id name host pid state slots queues tags started heartbeat running version",
)
NODE = Shape("node", "name role state lag reads writes share", texts="message")
QUEUE = Shape("queue", "name paused limit ready running oldest")
EVENT = Shape("event", "id at actor action job task subject reason host", values="detail")
TOKEN = Shape("token", "id name role state created created_by expires revoked last_used secret")
WHY = Shape("why", "subject", lines={"reasons": "reason"})
SCHEDULE = Shape("schedule", "name cron next_run last_run last_job", texts="message")
WORKFLOW = Shape(
    "workflow",
    "name version",
    texts="title description",
    parts={
        "inputs": Shape("input", "role optional many"),
        "parameters": Shape(
            "parameter",
            "name type default required",
            texts="title description",
            lines={"choices": "choice"},
        ),
        "tasks": Shape("task", "name type queue tags needs", texts="title"),
    },
)
PROFILE = Shape("profile", "name format", texts="title description")
PLAN = Shape(
    "plan",
    "workflow version",
    parts={
        "tasks": Shape(
            "task",
            "name type",
            texts="skipped fails",
            lines={"outputs": "output", "notes": "note"},
            commands="argv",
        )
    },
)
DIFFERENCE = Shape("difference", "kind subject path size", texts="message")
SERVICE = Shape("service", "version", parts={"links": Shape("link", "rel href", texts="title")})
RESULT = Shape(
    "result",
    "action preview matched possible done more",
    parts={"refusals": Shape("refusal", "job", texts="message")},
)
SHAPES = {
    shape.tag: shape
    for shape in (
        JOB,
        TASK,
        ATTEMPT,
        FILE,
        WORKER,
        NODE,
        QUEUE,
        EVENT,
        PUBLICATION,
        WHY,
        SCHEDULE,
        WORKFLOW,
        PROFILE,
        SERVICE,
        RESULT,
        TOKEN,
        PLAN,
        DIFFERENCE,
    )
}
PLURALS = {f"{tag}s": s for tag, s in SHAPES.items() if s not in (WHY, SERVICE, RESULT, PLAN)}
