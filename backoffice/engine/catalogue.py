"""Catalogue: every workflow and profile of this installation, loaded and checked together.

Workflows name task types, profiles, targets and commands. They are checked against
each other here, so that a broken recipe is refused before any job begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from backoffice import tasks
from backoffice.config.redaction import shown_xml
from backoffice.config.settings import Settings
from backoffice.engine import submission, workflows
from backoffice.engine.submission import JobRequest, PreparedJob
from backoffice.engine.workflows import Workflow
from backoffice.media import profiles
from backoffice.media.profiles import Profile


@dataclass(frozen=True)
class Catalogue:
    """By name."""

    workflows: Mapping[str, Workflow]
    profiles: Mapping[str, Profile]

    def prepare(self, request: JobRequest, settings: Settings) -> PreparedJob:
        """Like ``submission.prepare``, and the ``check`` of each task type agrees: it raises
        Invalid for what could only fail."""
        prepared = submission.prepare(request, self.workflows, settings.paths.roots)
        for task in prepared.plan:
            if check := getattr(tasks.load(task.type), "check", None):
                for parameters in task.parameter_sets:
                    check(parameters, settings)
        return prepared


def load(settings: Settings) -> Catalogue:
    """Read the folders of the settings; raises DefinitionError for the first fault."""
    known = profiles.load(settings.paths.profiles)
    recipes = workflows.load(
        settings.paths.workflows,
        task_types={name: tasks.load(name) for name in tasks.names()},
        profiles=known,
        targets=settings.targets,
        commands=settings.commands,
    )
    return Catalogue(recipes, known)


def visible(source: str) -> bytes:
    """The document of a workflow or profile as viewers may see it: an admin may have
    written a webhook's URL into it."""
    content = Path(source).read_bytes()
    encoding = etree.fromstring(content).getroottree().docinfo.encoding or "utf-8"
    return shown_xml(content.decode(encoding)).encode(encoding, "xmlcharrefreplace")
